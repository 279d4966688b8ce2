"""Message types of bags, read and written without ROS: Jazzy's own and this package's, from its `msg/` files."""

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sega_ros.errors import StorageError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_PACKAGE = 'sega_ros'
_MESSAGES = ('AvatarInfo', 'AvatarList', 'FlameExpression')


@lru_cache(maxsize=1)
def bag_types() -> 'Typestore':
    """Return a rosbags typestore of ROS 2 Jazzy that also knows `sega_ros/msg/*`.

    Raises:
        StorageError: this package's message files are not found or not readable.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store, folder = get_typestore(Stores.ROS2_JAZZY), message_folder()
    for name in _MESSAGES:
        store.register(get_types_from_msg(_read(folder / f'{name}.msg'), f'{_PACKAGE}/msg/{name}'))
    return store


def message_folder() -> Path:
    """Return the folder of this package's message files: the checkout's, else the installed one.

    Raises:
        StorageError: there is none.
    """
    tried = list(dict.fromkeys(_candidates()))
    for folder in tried:
        if all((folder / f'{name}.msg').is_file() for name in _MESSAGES):
            return folder
    places = ', '.join(map(str, tried))
    raise StorageError(f'the message files {", ".join(_MESSAGES)} (.msg) of {_PACKAGE} are in none of {places}; '
                       'run from the checkout, or install the package again')


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, ValueError) as e:
        raise StorageError(f'{path}: cannot be read ({e}); install the package again') from e


def _candidates() -> Iterator[Path]:
    """Yield the places to look at, nearest first: a stale installation must not win over the checkout."""
    share = Path('share') / _PACKAGE / 'msg'
    for parent in Path(__file__).resolve().parents[2:]:
        if (parent / 'package.xml').is_file():
            yield parent / 'msg'
        if (parent / share).is_dir():
            yield parent / share
    prefixes = [sys.prefix, *filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep))]
    yield from (Path(prefix) / share for prefix in prefixes)

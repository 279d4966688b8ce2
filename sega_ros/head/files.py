"""Where the head part keeps what it built, and how it writes it."""

import os
import tempfile
from pathlib import Path

from sega_ros.errors import StorageError


def cache_folder() -> Path:
    """`$SEGA_CACHE_DIR`, else `$XDG_CACHE_HOME/sega_ros`, else `~/.cache/sega_ros`."""
    if os.environ.get('SEGA_CACHE_DIR'):
        return Path(os.environ['SEGA_CACHE_DIR'])
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path.home() / '.cache') / 'sega_ros'


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one.

    Raises:
        StorageError: the folder can't be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(f'{path} could not be written: {error}; free space or set SEGA_CACHE_DIR') from error

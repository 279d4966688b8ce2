"""Reading .npz files that anybody may have made: no pickles, and no more memory than the limit."""

import zipfile
from pathlib import Path

import numpy as np

from sega_ros.errors import HeadModelError

MAX_BYTES = 1 << 30  # of all arrays together; FLAME's have 25 MB
_MAX_ARRAYS = 256
_REMEDY = 'build it anew, or convert FLAME again'


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz by name.

    Raises:
        HeadModelError: no such file, damaged, not an .npz, with pickles in it, or with more than MAX_BYTES of arrays.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise HeadModelError(f'head model file {path} does not exist; check the path' if not path.exists() else
                                 f'head model file {path} is not a regular file; give the path of an .npz')
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except HeadModelError:
        raise
    except Exception as error:  # readers of zip, deflate and array headers raise whatever damaged bytes provoke
        found = str(error) or type(error).__name__
        raise HeadModelError(
            f'head model file {path} is damaged or not an .npz without pickles ({found}); {_REMEDY}') from error


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Check what the members hold when unpacked, and that no array claims more than its member holds."""
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > _MAX_ARRAYS or total > MAX_BYTES:
        raise HeadModelError(f'head model file {path}: found {len(members)} arrays of {total} bytes, accepted are at most '
                             f'{_MAX_ARRAYS} of {MAX_BYTES} in all')
    for member in members:
        with archive.open(member) as file:
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[np.lib.format.read_magic(file)](file)
        count = 1
        for length in shape:
            count *= length
        if not 0 <= count * max(dtype.itemsize, 1) <= member.file_size:
            raise HeadModelError(f'head model file {path}: array {member.filename[:40]!r} claims {count} values, its part of the '
                                 f'file has {member.file_size} bytes; {_REMEDY}')

"""Named arrays and JSON metadata in one safetensors file: nothing in it can run code, and damage is noticed."""

import hashlib
import json
from pathlib import Path

import numpy as np

from sega_ros.errors import AvatarDamagedError, RequestError, StorageError
from sega_ros.io.files import atomic_write, read_file

MAX_HEADER = 1024 * 1024  # bytes; ours has a few thousand
_DTYPES = {
    'F64': 8, 'F32': 4, 'F16': 2, 'BOOL': 1,
    'I64': 8, 'I32': 4, 'I16': 2, 'I8': 1, 'U64': 8, 'U32': 4, 'U16': 2, 'U8': 1,
}


def tensors_to_bytes(tensors: dict[str, np.ndarray], metadata: dict) -> bytes:
    """Serialise named arrays and JSON-able metadata; equal input gives equal bytes."""
    from safetensors.numpy import save

    # Not ascontiguousarray: it gives scalars an axis.
    arrays = {name: np.asarray(array, order='C') for name, array in tensors.items()}
    try:
        text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise RequestError(f'metadata: wanted values that JSON can hold, found {e}') from e
    # One key only: safetensors writes several in no fixed order.
    return save(arrays, {'sega_ros': json.dumps({'metadata': text, 'sha256': _digest(arrays, text)}, sort_keys=True)})


def save_tensors(
    path: Path | str, tensors: dict[str, np.ndarray], metadata: dict, *, replace: bool = True, mode: int | None = None,
) -> None:
    """Write named arrays and JSON-able metadata to `path`, atomically (see `atomic_write` for the errors)."""
    atomic_write(path, tensors_to_bytes(tensors, metadata), replace=replace, mode=mode)


def load_tensors(path: Path | str, limit: int) -> tuple[dict[str, np.ndarray], dict]:
    """Read what `save_tensors` wrote: arrays by name, and the metadata.

    Raises:
        FileNotFoundError: there is no such file.
        AvatarDamagedError: longer than `limit` bytes, a link, truncated, changed, or no such file format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = _read(path, limit)
    text, digest = _check_header(path, data, len(data))
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as e:
        raise _damaged(path, f'its tensors cannot be read ({e})') from e
    if _digest(tensors, text) != digest:
        raise _damaged(path, 'its checksum does not match its content')
    return tensors, _parse(path, text)


def load_metadata(path: Path | str, limit: int) -> dict:
    """Read the metadata alone and check that the file has the length its header states; errors as `load_tensors`."""
    try:
        with Path(path).open('rb') as file:
            size = file.seek(0, 2)
            file.seek(0)
            data = file.read(min(size, 8 + MAX_HEADER))
    except FileNotFoundError:
        raise
    except OSError as e:
        raise _damaged(path, (e.strerror or str(e)).lower()) from e
    if size > limit:
        raise _damaged(path, f'it has {size} bytes, at most {limit} are accepted')
    return _parse(path, _check_header(path, data, size)[0])


def _read(path: Path | str, limit: int) -> bytes:
    try:
        return read_file(path, limit=limit)
    except StorageError as e:
        raise AvatarDamagedError(str(e)) from e


def _check_header(path: Path | str, data: bytes, size: int) -> tuple[str, str]:
    """Check the safetensors header against the file's `size`: returns the metadata text and the digest."""
    length = int.from_bytes(data[:8], 'little')
    if size < 8 or not 2 <= length <= MAX_HEADER:
        raise _damaged(path, f'it does not start with a safetensors header ({size} bytes in all)')
    if 8 + length > size:
        raise _damaged(path, f'truncated: it has {size} bytes, its header alone wants {8 + length}')
    header = _parse(path, data[8 : 8 + length])
    try:
        envelope = json.loads(header.pop('__metadata__')['sega_ros'])
        text, digest = str(envelope['metadata']), str(envelope['sha256'])
    except (KeyError, TypeError, ValueError, RecursionError) as e:
        raise _damaged(path, 'it was not written by this program') from e
    end = 0
    for name, entry in header.items():
        end = max(end, _check_entry(path, name, entry))
    if 8 + length + end != size:
        found = 'truncated' if 8 + length + end > size else 'too long'
        raise _damaged(path, f'{found}: it has {size} bytes, its header wants {8 + length + end}')
    return text, digest


def _check_entry(path: Path | str, name: str, entry) -> int:
    """Check one tensor's header entry; returns where its bytes end."""
    try:
        dtype, shape, (begin, end) = entry['dtype'], entry['shape'], entry['data_offsets']
        if dtype not in _DTYPES:
            raise _damaged(path, f'tensor {name[:40]!r} has the unknown type {str(dtype)[:20]!r}')
        numbers = [*shape, begin, end]
        if len(shape) > 8 or any(type(n) is not int or not 0 <= n < 2**40 for n in numbers):
            raise ValueError('a number out of range')
        count = 1
        for n in shape:
            count *= n
        if end - begin != count * _DTYPES[dtype]:
            raise ValueError('offsets and shape do not agree')
    except (KeyError, TypeError, ValueError) as e:
        raise _damaged(path, f'the header entry of tensor {name[:40]!r} is malformed') from e
    return end


def _parse(path: Path | str, text: str | bytes) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise _damaged(path, 'its header is not valid JSON') from e
    if not isinstance(value, dict):
        raise _damaged(path, 'its header is not a JSON object')
    return value


def _digest(tensors: dict[str, np.ndarray], text: str) -> str:
    """Digest of names, types, shapes, bytes and metadata."""
    digest = hashlib.sha256(text.encode('utf-8', 'surrogatepass'))  # JSON can hold halves of characters
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f'{name}\0{array.dtype.str}\0{array.shape}\0'.encode())
        digest.update(np.ascontiguousarray(array).data.cast('B') if array.size else b'')
    return digest.hexdigest()


def _damaged(path: Path | str, found: str) -> AvatarDamagedError:
    return AvatarDamagedError(f'{path}: damaged or not ours: {found}; create or copy it again')

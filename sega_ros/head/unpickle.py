"""Reads the pickles FLAME comes in without running what is in them.

A pickle may name any function of any module and call it. This reader knows a short list of names and refuses the
rest: NumPy arrays are restored by NumPy, scipy's sparse matrices and chumpy's arrays become plain records of their
contents (neither library is used to restore them).
"""

import io
import pickle
from pathlib import Path

import numpy as np

from sega_ros.errors import HeadModelError

_MAX_BYTES = 1 << 30


class Record:
    """Stands in for a class whose objects hold data: keeps the state, runs nothing."""

    state: dict

    def __init__(self, *arguments):
        self.arguments = arguments
        self.state = {}

    def __setstate__(self, state):
        self.state = state if isinstance(state, dict) else {'state': state}


class ChumpyRecord(Record):
    """An array of chumpy."""


class SparseRecord(Record):
    """A sparse matrix of scipy, column- or row-wise by `layout`."""

    layout = ''


class _Csc(SparseRecord):
    layout = 'csc'


class _Csr(SparseRecord):
    layout = 'csr'


class _Coo(SparseRecord):
    layout = 'coo'


class _Object:
    """Stands in for Python 2's `object` as the base of a class."""


def _reconstructor(cls, base, state):
    """`copyreg._reconstructor` for records alone."""
    if not (isinstance(cls, type) and issubclass(cls, Record)) or base is not _Object or state is not None:
        raise HeadModelError(f'the pickle restores an object of {cls!r}; only arrays are allowed')
    return cls()


def _array(cls, shape, typecode):
    """`numpy._core.multiarray._reconstruct` for plain arrays alone."""
    if cls is not np.ndarray:
        raise HeadModelError(f'the pickle restores an array of {cls!r}; only numpy.ndarray is allowed')
    return np.ndarray.__new__(np.ndarray, shape, 'b')


def _scalar(dtype, data=b''):
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes | str):
        raise HeadModelError('the pickle holds a NumPy scalar that is not a plain number')
    return np.frombuffer(data.encode('latin1') if isinstance(data, str) else data, dtype)[0]


def _dtype(name, *flags):
    if not isinstance(name, str | bytes):
        raise HeadModelError('the pickle holds a NumPy type that is not given by its name')
    return np.dtype(name, *flags)


def _encode(text, encoding):
    """`_codecs.encode`, by which Python 3 writes bytes into old pickles."""
    if encoding != 'latin1' or not isinstance(text, str):
        raise HeadModelError(f'the pickle encodes with {encoding!r}; only latin1 is allowed')
    return text.encode('latin1')


_ALLOWED = {
    ('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): _dtype,
    ('_codecs', 'encode'): _encode,
    ('copy_reg', '_reconstructor'): _reconstructor, ('copyreg', '_reconstructor'): _reconstructor,
    ('__builtin__', 'object'): _Object, ('builtins', 'object'): _Object,
    ('chumpy.ch', 'Ch'): ChumpyRecord,
    **{(f'{core}.multiarray', name): stand_in for core in ('numpy.core', 'numpy._core')
       for name, stand_in in (('_reconstruct', _array), ('scalar', _scalar))},
    **{(f'scipy.sparse.{prefix}{kind}', f'{kind}_matrix'): record for prefix in ('', '_')
       for kind, record in (('csc', _Csc), ('csr', _Csr), ('coo', _Coo))},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise HeadModelError(
                f'the pickle asks for {module}.{name}, which is not on the list of NumPy, scipy and chumpy arrays; '
                'it may be malicious and was not loaded') from None

    def persistent_load(self, identity):
        raise HeadModelError('the pickle refers to objects outside of itself and was not loaded')


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read a pickled dictionary of arrays; entries that are not numeric arrays are left out.

    Raises:
        HeadModelError: no such file, not a pickle of a dictionary, or one that asks for anything but arrays.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise HeadModelError(f'{path} has over {_MAX_BYTES >> 20} MiB; FLAME files are smaller')
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding='latin1').load()
    except HeadModelError as error:
        raise HeadModelError(f'{path}: {error}') from error
    except OSError as error:
        raise HeadModelError(f'{path} could not be read: {error}') from error
    except Exception as error:  # a damaged pickle raises anything: UnpicklingError, TypeError, IndexError, ...
        raise HeadModelError(f'{path} is not a readable pickle: {error}') from error
    if not isinstance(content, dict):
        raise HeadModelError(f'{path}: wanted a dictionary of arrays, found {type(content).__name__}')
    arrays = {str(key): _to_array(path, key, value) for key, value in content.items()}
    return {key: value for key, value in arrays.items() if value is not None}


def _to_array(path: Path, key, value) -> np.ndarray | None:
    if isinstance(value, ChumpyRecord):
        value = value.state.get('x')
    if isinstance(value, SparseRecord):
        value = _sparse_to_array(path, key, value)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'fiub':
        return value
    return None


def _sparse_to_array(path: Path, key, record: SparseRecord) -> np.ndarray:
    import scipy.sparse as sp

    state = record.state
    try:
        shape = tuple(int(n) for n in state.get('_shape', state.get('shape')))
        if len(shape) != 2 or np.prod(shape, dtype=float) * 8 > _MAX_BYTES:
            raise ValueError(f'shape {shape}')
        if record.layout == 'coo':
            matrix = sp.coo_matrix((state['data'], (state['row'], state['col'])), shape=shape)
        else:
            matrix = {'csc': sp.csc_matrix, 'csr': sp.csr_matrix}[record.layout](
                (state['data'], state['indices'], state['indptr']), shape=shape)
            matrix.check_format(full_check=True)
        return matrix.toarray()
    except (KeyError, TypeError, ValueError) as error:
        raise HeadModelError(f'{path}: sparse matrix {key!r} is damaged: {error}') from error

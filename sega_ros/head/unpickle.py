"""Reads the pickles FLAME comes in without running what is in them.

A pickle may name any function of any module and call it. This reader knows a short list of names and refuses the
rest. What it knows becomes plain records of contents: no class of NumPy, scipy or chumpy takes part (NumPy's own
restoring trusts the pickle's flags, which can crash it); arrays are built from the records after checks.
"""

import io
import pickle
import re
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


class _NdarrayName:
    """Stands in for the name `numpy.ndarray`; only `_array` takes it."""

    def __init__(self, *_):
        raise HeadModelError('the pickle calls numpy.ndarray, which could allocate any amount of memory')


class _Dtype(Record):
    """A NumPy type: its name as argument, the byte order in its state."""

    def build(self) -> np.dtype:
        name, order = self.arguments[0], self.state.get('state', (3, '=', None, None, None))
        if not re.fullmatch(r'[fiub][1248]', str(name)) or any(part is not None for part in order[2:5]):
            raise HeadModelError(f'the pickle holds an array of type {name!r}; only plain numbers are allowed')
        return np.dtype(str(name)).newbyteorder({'<': '<', '>': '>'}.get(order[1], '='))


class _Array(Record):
    """A NumPy array: (version, shape, type, Fortran order, bytes) in its state."""

    def build(self) -> np.ndarray:
        _, shape, dtype, fortran, raw = self.state['state']
        return _from_bytes(raw, dtype, shape, 'F' if fortran else 'C')


def _from_bytes(raw, dtype, shape, order) -> np.ndarray:
    data = raw.encode('latin1') if isinstance(raw, str) else raw
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise HeadModelError('the pickle holds an array whose contents are not plain numbers')
    return np.frombuffer(bytes(data), dtype.build()).reshape(tuple(int(n) for n in shape), order=order)


def _array(cls, shape, typecode):
    """`numpy._core.multiarray._reconstruct` for plain arrays alone."""
    if cls is not _NdarrayName:
        raise HeadModelError(f'the pickle restores an array of {cls!r}; only numpy.ndarray is allowed')
    return _Array()


def _frombuffer(raw, dtype, shape, order):
    """`numpy._core.numeric._frombuffer`, by which pickles of protocol 5 hold arrays."""
    array = _Array()
    array.state = {'state': (1, shape, dtype, order == 'F', raw)}
    return array


def _scalar(dtype, data=b''):
    return _frombuffer(data, dtype, (), 'C')


def _encode(text, encoding):
    """`_codecs.encode`, by which Python 3 writes bytes into old pickles."""
    if encoding != 'latin1' or not isinstance(text, str):
        raise HeadModelError(f'the pickle encodes with {encoding!r}; only latin1 is allowed')
    return text.encode('latin1')


_ALLOWED = {
    ('numpy', 'ndarray'): _NdarrayName, ('numpy', 'dtype'): _Dtype,
    ('_codecs', 'encode'): _encode,
    ('copy_reg', '_reconstructor'): _reconstructor, ('copyreg', '_reconstructor'): _reconstructor,
    ('__builtin__', 'object'): _Object, ('builtins', 'object'): _Object,
    ('chumpy.ch', 'Ch'): ChumpyRecord,
    **{(f'{core}.multiarray', name): stand_in for core in ('numpy.core', 'numpy._core')
       for name, stand_in in (('_reconstruct', _array), ('scalar', _scalar))},
    **{(f'{core}.numeric', '_frombuffer'): _frombuffer for core in ('numpy.core', 'numpy._core')},
    **{(f'scipy.sparse.{prefix}{kind}', f'{kind}_matrix'): record for prefix in ('', '_')
       for kind, record in (('csc', _Csc), ('csr', _Csr), ('coo', _Coo))},
}


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C makes room for any memo number a damaged file asks for."""

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
    try:
        arrays = {str(key): _to_array(value) for key, value in content.items()}
    except HeadModelError as error:
        raise HeadModelError(f'{path}: {error}') from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise HeadModelError(f'{path} holds a damaged array: {error}') from error
    return {key: value for key, value in arrays.items() if value is not None}


def _to_array(value) -> np.ndarray | None:
    """Return the array in a record; None for anything that is not an array of numbers."""
    if isinstance(value, ChumpyRecord):
        value = value.state.get('x')
    if isinstance(value, SparseRecord):
        return _sparse_to_array(value)
    if not isinstance(value, _Array) or (value.state and isinstance(value.state['state'][4], list)):
        return None  # text, settings and arrays of Python objects
    return value.build()


def _sparse_to_array(record: SparseRecord) -> np.ndarray:
    import scipy.sparse as sp

    state = {k: _to_array(v) if isinstance(v, Record) else v for k, v in record.state.items()}
    shape = tuple(int(n) for n in state.get('_shape', state.get('shape')))
    if len(shape) != 2 or np.prod(shape, dtype=float) * 8 > _MAX_BYTES:
        raise ValueError(f'sparse matrix of shape {shape}')
    if record.layout == 'coo':
        coords = [_to_array(c) for c in state['coords']] if 'coords' in state else [state['row'], state['col']]
        return sp.coo_matrix((state['data'], tuple(coords)), shape=shape).toarray()
    matrix = {'csc': sp.csc_matrix, 'csr': sp.csr_matrix}[record.layout](
        (state['data'], state['indices'], state['indptr']), shape=shape)
    matrix.check_format(full_check=True)
    return matrix.toarray()

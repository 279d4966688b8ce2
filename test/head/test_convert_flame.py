"""The pickle reader: what it reads and, above all, what it refuses."""

import os
import pickle
import pickletools
import sys
import types

import numpy as np
import pytest
import scipy.sparse as sp

from sega_ros.errors import HeadModelError
from sega_ros.head import load_head
from sega_ros.head.flame import convert_flame, export_flame
from sega_ros.head.unpickle import load_arrays


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def test_official_layout_converts_and_loads(head, tmp_path, monkeypatch):
    # The layout takes seconds and is tested in test_flame.
    monkeypatch.setattr('sega_ros.head.flame_parts.layout_charts', lambda charts: (head.uvs, head.uv_faces))
    source = export_flame(head, tmp_path)
    converted = convert_flame(source, tmp_path / 'head.npz', name='flame2020')
    loaded = load_head(tmp_path / 'head.npz')
    assert loaded.fingerprint == converted.fingerprint and loaded.name == 'flame2020'
    np.testing.assert_array_equal(loaded.v_template, head.v_template)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('kind', [sp.csc_matrix, sp.csr_matrix, sp.coo_matrix])
def test_arrays_and_sparse_matrices_are_read(tmp_path, protocol, kind):
    dense = np.arange(12.0).reshape(3, 4)
    content = {'f': np.arange(6, dtype=np.uint32), 'J_regressor': kind(dense), 'g': np.asfortranarray(dense),
               'n': np.float64(3.5), 'text': 'ignored', 'bs_type': None}
    arrays = load_arrays(write(tmp_path / 'a.pkl', content, protocol))
    np.testing.assert_array_equal(arrays['J_regressor'], dense)
    np.testing.assert_array_equal(arrays['g'], dense)
    np.testing.assert_array_equal(arrays['f'], np.arange(6))
    assert 'text' not in arrays and 'bs_type' not in arrays


def test_chumpy_arrays_are_read_without_chumpy(tmp_path, monkeypatch):
    """A class of chumpy's name stands in while the file is written, as FLAME's authors wrote theirs."""
    module = types.ModuleType('chumpy.ch')

    class Ch:
        pass

    Ch.__module__, Ch.__qualname__ = 'chumpy.ch', 'Ch'
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, 'chumpy', types.ModuleType('chumpy'))
    monkeypatch.setitem(sys.modules, 'chumpy.ch', module)
    array = Ch()
    array.__dict__.update(x=np.arange(6.0).reshape(2, 3), _dirty_vars=set() or None, _itr=None)
    for protocol in (0, 2):
        path = write(tmp_path / f'{protocol}.pkl', {'v_template': array}, protocol)
    monkeypatch.undo()
    for protocol in (0, 2):
        read = load_arrays(tmp_path / f'{protocol}.pkl')['v_template']
        np.testing.assert_array_equal(read, np.arange(6.0).reshape(2, 3))
    assert 'chumpy' not in sys.modules and path.exists()


def calling(function, *arguments):
    class Attack:
        def __reduce__(self):
            return function, arguments
    return Attack()


@pytest.mark.parametrize('attack', [
    calling(os.system, 'touch pwned'),
    calling(eval, "open('pwned', 'w')"),
    calling(exec, "open('pwned', 'w')"),
    calling(__import__, 'os'),
    calling(getattr, 'text', 'upper'),
    calling(np.load, 'pwned', None, True),
    calling(np.fromfile, 'pwned'),
    calling(np.save, 'pwned', 1),
    calling(np.memmap, 'pwned', 'uint8', 'w+', 0, (3,)),
    calling(open, 'pwned', 'w'),
    calling(np.ndarray, (1 << 40,)),
], ids=['system', 'eval', 'exec', 'import', 'getattr', 'load', 'fromfile', 'save', 'memmap', 'open', 'huge'])
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_attacks_are_refused_and_do_nothing(tmp_path, monkeypatch, attack, protocol):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / 'evil.pkl', {'v_template': attack}, protocol)
    with pytest.raises(HeadModelError, match='evil.pkl'):
        load_arrays(path)
    assert [p.name for p in tmp_path.iterdir()] == ['evil.pkl']


def test_the_refusal_names_the_function(tmp_path):
    with pytest.raises(HeadModelError, match=r'asks for posix\.system, which is not on the list'):
        load_arrays(write(tmp_path / 'evil.pkl', calling(os.system, 'true')))


def test_restoring_other_classes_by_allowed_functions_is_refused(tmp_path):
    path = tmp_path / 'evil.pkl'
    path.write_bytes(b'ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.')
    with pytest.raises(HeadModelError, match='only arrays are allowed'):
        load_arrays(path)
    path.write_bytes(b"cnumpy.core.multiarray\n_reconstruct\n(cchumpy.ch\nCh\n(I0\ntS'b'\ntR.")
    with pytest.raises(HeadModelError, match=r'only numpy\.ndarray is allowed'):
        load_arrays(path)
    path.write_bytes(b'c_codecs\nencode\n(Vabc\nVrot13\ntR.')
    with pytest.raises(HeadModelError, match='only latin1 is allowed'):
        load_arrays(path)


def test_numpy_types_are_not_trusted(tmp_path):
    """Flags of a restored dtype reach NumPy's internals: a float64 that claims to hold objects crashes it."""
    evil = pickle.dumps({'x': np.arange(3.0)}, protocol=2)
    assert b'J\xff\xff\xff\xffK\x00' in evil  # ..., alignment, flags
    path = tmp_path / 'evil.pkl'
    path.write_bytes(evil.replace(b'J\xff\xff\xff\xffK\x00', b'J\xff\xff\xff\xffK\x3f'))
    np.testing.assert_array_equal(load_arrays(path)['x'], np.arange(3.0))
    for content in ({'x': np.zeros(2, [('a', 'f4')])}, {'x': np.array(['text'])}, {'x': np.zeros(2, 'M8[s]')}):
        with pytest.raises(HeadModelError, match='only plain numbers are allowed'):
            load_arrays(write(path, content))


def test_references_to_the_outside_are_refused(tmp_path):
    path = tmp_path / 'evil.pkl'
    path.write_bytes(b'Pelsewhere\n.')
    with pytest.raises(HeadModelError, match='outside of itself'):
        load_arrays(path)


def test_object_arrays_are_left_out(tmp_path):
    assert load_arrays(write(tmp_path / 'a.pkl', {'x': np.array([1, 'a', None], object)})) == {}


@pytest.mark.parametrize(('content', 'message'), [
    (b'', 'not a readable pickle'), (b'\x80\x02garbage', 'not a readable pickle'),
    (pickle.dumps([1, 2]), 'wanted a dictionary of arrays, found list'),
])
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / 'a.pkl'
    path.write_bytes(content)
    with pytest.raises(HeadModelError, match=message):
        load_arrays(path)
    with pytest.raises(HeadModelError, match='could not be read'):
        load_arrays(tmp_path / 'missing.pkl')


def test_damaged_sparse_matrices_are_refused(tmp_path):
    matrix = sp.csc_matrix(np.eye(3))
    matrix.indices[0] = 77
    with pytest.raises(HeadModelError, match='holds a damaged array'):
        load_arrays(write(tmp_path / 'a.pkl', {'J_regressor': matrix}))


def test_random_bytes_never_do_more_than_raise(tmp_path):
    """Mutations of a good file: each is read or refused, nothing else escapes."""
    good = pickle.dumps({'v_template': np.arange(9.0), 'J': sp.csc_matrix(np.eye(2))}, protocol=2)
    assert list(pickletools.genops(good))
    rng = np.random.default_rng(0)
    path = tmp_path / 'a.pkl'
    for _ in range(300):
        data = bytearray(good)
        for position in rng.integers(0, len(data), 3):
            data[position] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            load_arrays(path)
        except HeadModelError:
            pass

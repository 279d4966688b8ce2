"""Avatar files of which anything may be wrong: refused with a sentence, or drawn; never a crash, a hang or a file elsewhere."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from fuzz_support import FUZZ, SLOW
from hostile import VALUES, check_error, edits, only_writes_in, places, refused, replaced
from hypothesis import given
from hypothesis import strategies as st

from sega_ros.avatar.avatar import avatar_to_tensors
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.idle import neutral_expression
from sega_ros.avatar.receive import IncomingAvatar
from sega_ros.avatar.store import MAX_AVATAR_BYTES, AvatarStore
from sega_ros.errors import AvatarDamagedError, SegaError
from sega_ros.io.tensors import _digest
from sega_ros.nodes.records import records_to_message
from sega_ros.nodes.sega_core import stored_records

EXTREMES = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-30, 65504.0, -65504.0, 3e38, 1e300, 255, -128, 2**31, 2**62]
TYPES = ['f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', '?']


def sealed(tensors, metadata):
    """A file as this program writes it, checksum and all, whatever is in it."""
    from safetensors.numpy import save

    arrays = {k: np.asarray(v, order='C') for k, v in tensors.items()}
    text = json.dumps(metadata)
    return save(arrays, {'sega_ros': json.dumps({'metadata': text, 'sha256': _digest(arrays, text)})})


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz_files')


@pytest.fixture(scope='module', params=['whole', 'distilled'])
def file(request, whole_avatar, distilled_avatar):
    """Tensors, metadata and bytes of a valid file."""
    tensors, metadata = avatar_to_tensors({'whole': whole_avatar, 'distilled': distilled_avatar}[request.param])
    return tensors, metadata, sealed(tensors, metadata)


def try_out(place, head, data):
    """Do with a file what nodes do: list, read, load, draw; then a good one is still there."""
    store = AvatarStore(place / 'avatars')
    store.directory.mkdir(exist_ok=True)
    with only_writes_in(place):
        store.path('bad').write_bytes(data)
        for record in records_to_message(stored_records(store), Time()).avatars:
            assert record.id in ('bad', 'good')
        for entry in store.damaged():
            check_error(AvatarDamagedError(entry.reason))
        avatar, _ = refused(store.load, 'bad')
        if avatar is not None:
            driver, _ = refused(AvatarDriver, avatar, head)
            if driver is not None:
                expression = neutral_expression(head.n_expression, head.name, head.version)
                picture, _ = refused(driver.render, expression, View(size=(24, 32)))
                assert picture is None or picture.shape == (24, 32, 3)
        assert 'good' in [r.avatar_id for r in stored_records(store)]
    return avatar


@pytest.fixture(scope='module', autouse=True)
def good(place, plain_avatar):
    AvatarStore(place / 'avatars').save('good', plain_avatar)


def test_the_valid_file_is_drawn(place, head, file):
    assert try_out(place, head, file[2]) is not None


@FUZZ
@given(damage=edits(), header=st.booleans())
def test_damaged_bytes(place, head, file, damage, header):
    length = int.from_bytes(file[2][:8], 'little')
    data = damage(file[2][:8 + length]) + file[2][8 + length:] if header else damage(file[2])
    assert data == file[2] or try_out(place, head, data) is None


@FUZZ
@given(data=st.data())
def test_hostile_headers(place, head, file, data):
    """The JSON before the tensors: shapes, offsets, types, metadata, duplicates; not sealed anew."""
    length = int.from_bytes(file[2][:8], 'little')
    header, body = json.loads(file[2][8:8 + length]), file[2][8 + length:]
    path = data.draw(st.sampled_from(list(places(header))))
    text = json.dumps(replaced(header, path, data.draw(VALUES)))
    if data.draw(st.booleans()):
        text = text[:-1] + ', ' + json.dumps(dict(list(header.items())[:2]))[1:] if text.endswith('}') else text * 2
    raw = text.encode('utf-8', 'surrogatepass')
    try_out(place, head, len(raw).to_bytes(8, 'little') + raw + body)


@FUZZ
@given(data=st.data())
def test_hostile_metadata(place, head, file, data):
    """Well-formed files with a valid checksum whose metadata says anything."""
    tensors, metadata, _ = file
    for _ in range(data.draw(st.integers(1, 3))):
        metadata = replaced(metadata, data.draw(st.sampled_from([p for p in places(metadata) if p])), data.draw(VALUES))
    try_out(place, head, sealed(tensors, metadata))


@SLOW
@given(data=st.data())
def test_hostile_tensors(place, head, file, data):
    """Well-formed files with a valid checksum whose tensors hold other values, types, shapes, or are missing."""
    tensors, metadata, _ = file
    tensors = dict(tensors)
    for name in data.draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=3, unique=True)):
        tensors[name] = _changed(data, tensors[name])
        if tensors[name] is None:
            del tensors[name]
    try_out(place, head, sealed(tensors, metadata))


def _changed(data, array):
    kind = data.draw(st.sampled_from(['value', 'all', 'largest', 'type', 'shape', 'longer', 'empty', 'missing']))
    array, extreme = np.array(array), data.draw(st.sampled_from(EXTREMES))
    with np.errstate(all='ignore'):
        if kind == 'value' and array.size:
            array.flat[data.draw(st.integers(0, array.size - 1))] = _as(extreme, array.dtype)
        elif kind == 'all':
            array[...] = _as(extreme, array.dtype)
        elif kind == 'largest':  # what the checks let pass should be drawn all the same
            array = np.sign(array) * np.asarray(data.draw(st.sampled_from([1, 10, 50, 80]))).astype(array.dtype)
        elif kind == 'type':
            array = array.astype(data.draw(st.sampled_from(TYPES)))
        elif kind == 'shape':
            array = array.reshape(data.draw(st.sampled_from([(-1,), (1, *array.shape), (*array.shape, 1), array.shape[::-1]])))
        elif kind == 'longer':
            array = np.concatenate([np.atleast_1d(array)] * 2)
        elif kind == 'empty':
            array = array[:0]
    return None if kind == 'missing' else array


def _as(value, dtype):
    if dtype.kind == 'f':
        return np.array(value).astype(dtype)
    return np.array(0 if np.isnan(value) else np.clip(value, -2**62, 2**62)).astype(dtype)


@pytest.mark.parametrize('disguise', ['empty', 'zip', 'pickle', 'elf', 'oversize', 'nested', 'long number', 'half a character',
                                      'huge header'])
def test_other_files_in_disguise(place, head, file, disguise):
    path = place / 'other'
    if disguise == 'zip':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('../../evil', b'x')
    data = {
        'empty': lambda: b'', 'zip': lambda: path.read_bytes(), 'pickle': lambda: pickle.dumps({'a': np.zeros(3)}),
        'elf': lambda: b'\x7fELF' + bytes(500), 'oversize': lambda: file[2] + bytes(MAX_AVATAR_BYTES),
        'nested': lambda: _with_header(b'{"__metadata__":' + b'[' * 200_000 + b']' * 200_000 + b'}'),
        'long number': lambda: _with_header(b'{"__metadata__":' + b'9' * 100_000 + b'}'),
        'half a character': lambda: _with_header(json.dumps(
            {'__metadata__': {'sega_ros': '{"metadata": "\\ud800", "sha256": "x"}'}}).encode()),
        'huge header': lambda: (2**63).to_bytes(8, 'little') + file[2][8:],
    }[disguise]()
    assert try_out(place, head, data) is None


def _with_header(raw):
    return len(raw).to_bytes(8, 'little') + raw


@FUZZ
@given(avatar_id=VALUES, size=VALUES, sha256=st.one_of(VALUES, st.just('0' * 64)), part=st.binary(max_size=50))
def test_ids_and_sizes_of_incoming_files(place, avatar_id, size, sha256, part):
    store = AvatarStore(place / 'incoming')
    with only_writes_in(store.directory):
        try:
            incoming, _ = refused(IncomingAvatar, store, avatar_id, size=size, sha256=sha256)
        except TypeError:  # no message can carry another type
            assert not isinstance(avatar_id, str) or type(size) not in (int, float, bool) or not isinstance(sha256, str)
            return
        if incoming is not None:
            refused(incoming.add, part)
            with pytest.raises(SegaError):
                incoming.finish()


def test_a_list_survives_a_file_that_states_nonsense(place, whole_avatar):
    """A file that another machine sent once must not keep this one from starting."""
    tensors, metadata = avatar_to_tensors(whole_avatar)
    store = AvatarStore(place / 'nonsense')
    store.save('good', whole_avatar)
    for key, value in (('created_ns', 'x'), ('created_ns', -1), ('created_ns', 2**70), ('splats', -1), ('splats', 2**40),
                       ('photo_psnr', 1e300), ('head_model', '\ud800'), ('consent', 'a\0b'), ('quality', ['x'])):
        store.path('bad').write_bytes(sealed(tensors, metadata | {key: value}))
        assert [r.avatar_id for r in stored_records(store)] == ['good'], key
        assert key in store.damaged()[0].reason
        with pytest.raises(AvatarDamagedError, match=key):
            store.load('bad')

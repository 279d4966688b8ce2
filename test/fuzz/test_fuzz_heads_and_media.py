"""Head files, photos and clips of which anything may be wrong."""

import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
from fuzz_support import FUZZ, examples
from hostile import TEXTS, edits, only_writes_in, refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sega_ros.errors import HeadModelError, ImageError, SegaError
from sega_ros.head import arrays as arrays_module
from sega_ros.head import load_head
from sega_ros.head.model import FORMAT, HeadModel, _to_arrays
from sega_ros.head.skinning import Poser
from sega_ros.io import VideoReader, VideoWriter, decode_photo, read_photo
from sega_ros.types import FlameParams

FORMATS = ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'PPM', 'GIF']
EXTREMES = [np.nan, np.inf, -1, 2**31 - 1, 1e30, 255, -128]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz_media')


@pytest.fixture(scope='module')
def small_head(head):
    """Arrays of a head of 60 vertices with every field of a real one."""
    v, f, e, rng = 60, 80, 4, np.random.default_rng(0)
    real = _to_arrays(head)
    arrays = {k: a for k, a in real.items() if k in ('name', 'version', 'parents')}
    weights = rng.random((v, 5)).astype(np.float32)
    floats = {'v_template': (v, 3), 'shapedirs': (v, 3, 3), 'exprdirs': (v, 3, e), 'posedirs': (v, 3, 36), 'J_regressor': (5, v),
              'eyelid_dirs': (2, v, 3), 'eyelid_arc': (2, v, 3), 'uvs': (70, 2), 'eyelid_column_weights': (2, 3, 4),
              'eyelid_spread': (2, 6, 3), 'expression_bounds': (e, 2)}
    arrays |= {k: rng.random(s).astype(np.float32) for k, s in floats.items()}
    arrays |= {'weights': weights / weights.sum(1, keepdims=True), 'expression_names': np.array(['a', 'b', 'c', 'd']),
               'faces': rng.integers(0, v, (f, 3)).astype(np.int32), 'uv_faces': rng.integers(0, 70, (f, 3)).astype(np.int32),
               'face_region': np.ones(f, np.uint8), 'eyelid_vertices': np.arange(6, dtype=np.int32),
               'eyelid_columns': np.zeros((2, 3, 4), np.int32), 'mirror_vertex': np.arange(v, dtype=np.int32)}
    return {'format': np.int32(FORMAT), **arrays}


def packed(arrays, compressed=False):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def pose(path):
    """Load a head and pose it, as a driver does."""
    head = load_head(path)
    params = FlameParams(np.ones(head.n_shape, np.float32), np.ones(head.n_expression, np.float32), *[np.ones(3, np.float32)] * 4,
                         np.float32([0.5, 0.5]))
    return Poser(head, params.shape).pose(params)


def test_the_valid_head_is_posed(place, small_head):
    (place / 'head.npz').write_bytes(packed(small_head))
    assert np.isfinite(pose(place / 'head.npz')).all()


@FUZZ
@given(damage=edits(), compressed=st.booleans())
def test_damaged_heads(place, small_head, damage, compressed):
    path = place / 'damaged.npz'
    path.write_bytes(damage(packed(small_head, compressed)))
    with only_writes_in(place):
        refused(pose, path)


@FUZZ
@given(data=st.data())
def test_hostile_heads(place, small_head, data):
    """Whole files in which arrays hold other values, types and shapes, point nowhere, or are missing."""
    arrays, path = dict(small_head), place / 'hostile.npz'
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2, unique=True)):
        array, kind = np.array(arrays[name]), data.draw(st.sampled_from(['value', 'type', 'shape', 'longer', 'empty', 'missing']))
        with np.errstate(all='ignore'):
            if kind == 'value' and array.dtype.kind in 'fiu' and array.size:
                index = data.draw(st.integers(0, array.size - 1))
                array = np.atleast_1d(array)
                array.flat[index] = np.array(data.draw(st.sampled_from(EXTREMES))).astype(array.dtype)
            elif kind == 'type':
                other = data.draw(st.sampled_from(['f8', 'i8', 'U9', 'S9']))
                array = np.zeros(3) if array.dtype.kind == 'U' else array.astype(other)
            elif kind == 'shape':
                array = array.reshape(data.draw(st.sampled_from([(-1,), (1, *array.shape), array.shape[::-1]])))
            elif kind == 'longer':
                array = np.concatenate([np.atleast_1d(array)] * 2)
            elif kind == 'empty':
                array = np.atleast_1d(array)[:0]
        arrays[name] = array
        if kind == 'missing':
            del arrays[name]
    path.write_bytes(packed(arrays))
    refused(pose, path)


def array_header(dtype, shape):
    """The header of an array in an .npz, without the array."""
    raw = io.BytesIO()
    np.lib.format.write_array_header_1_0(raw, {'descr': dtype, 'fortran_order': False, 'shape': shape})
    return raw.getvalue()


HEADERS = {'claims': array_header('<f8', (10**6, 10**6)), 'names': array_header('<i4', ()) + bytes(4), 'nothing': b'',
           'texts': array_header('<U0', (10**12,)), 'negative': array_header('<f8', (-1, -8)) + bytes(64),
           'bomb': array_header('<f8', (1_000_000,)) + bytes(8_000_000), 'objects': array_header('|O', (1,)) + bytes(8)}


@pytest.mark.parametrize('disguise', ['npy', 'pickle', 'encrypted', 'folder', 'none', *HEADERS])
def test_other_heads_in_disguise(place, small_head, disguise, monkeypatch):
    monkeypatch.setattr(arrays_module, 'MAX_BYTES', 4_000_000)
    path = place / f'{disguise}.npz'
    if disguise == 'npy':
        with path.open('wb') as file:
            np.save(file, np.zeros(5))
    elif disguise == 'pickle':
        path.write_bytes(pickle.dumps(small_head))
    elif disguise == 'folder':
        path.mkdir()
    elif disguise == 'encrypted':  # one bit in each of the two headers says so
        data = packed({'format': np.int32(1)})
        path.write_bytes(re.sub(rb'(PK\x03\x04..|PK\x01\x02....)\x00', lambda m: m[1] + b'\x01', data, flags=re.DOTALL))
    elif disguise in HEADERS:
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('../../evil.npy' if disguise == 'names' else 'format.npy', HEADERS[disguise])
    with only_writes_in(place):
        _, error = refused(load_head, path)
    assert isinstance(error, HeadModelError)


def test_a_loaded_head_is_what_was_saved(place, small_head, head):
    """What the checks let pass is complete."""
    path = place / 'again.npz'
    head.save(path)
    again = HeadModel.load(path)
    assert again.fingerprint == head.fingerprint


# --- pictures ---------------------------------------------------------------------------------------------------------


def picture(kind, mode='RGB', size=(40, 30)):
    buffer, rng = io.BytesIO(), np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112], exif[0x010e] = 6, 'described'
    image.save(buffer, kind, **({'exif': exif} if kind in ('JPEG', 'PNG', 'WEBP', 'TIFF') else {}))
    return buffer.getvalue()


@examples(60)
@given(kind=st.sampled_from(FORMATS), damage=edits(), mode=st.sampled_from(['RGB', 'L', 'P']))
def test_damaged_pictures(kind, damage, mode):
    if kind in ('WEBP', 'JPEG', 'PPM') and mode == 'P':
        mode = 'RGB'
    photo, _ = refused(decode_photo, damage(picture(kind, mode)), max_pixels=1_000_000)
    assert photo is None or (photo.image.dtype == np.uint8 and photo.image.ndim == 3 and photo.image.size <= 3_000_000)


@FUZZ
@given(name=TEXTS)
def test_paths_of_photos(place, name):
    with only_writes_in(place):
        _, error = refused(read_photo, place / 'none' / name if not name.startswith('/') else name)
    assert isinstance(error, ImageError)


@pytest.mark.timeout(60)
@pytest.mark.parametrize('path', ['/dev/zero', '/dev/stdin', '/proc/self/mem', '/proc/self/environ', '/dev/tty'])
def test_what_never_ends_is_not_read(path):
    with pytest.raises(ImageError, match='cannot be read|no picture|empty'):
        read_photo(path)


@pytest.mark.timeout(60)
def test_a_pipe_is_not_waited_for(place):
    os.mkfifo(place / 'pipe.jpg')
    with pytest.raises(ImageError, match='not a regular file'):
        read_photo(place / 'pipe.jpg')


def test_a_photo_may_be_a_link(place):
    (place / 'real.jpg').write_bytes(picture('JPEG'))
    (place / 'link.jpg').symlink_to(place / 'real.jpg')
    assert read_photo(place / 'link.jpg').image.shape == (40, 30, 3)  # turned, as EXIF says


def test_a_jpeg_of_endless_scans_is_refused():
    """Each scan of a progressive JPEG is a pass over all pixels: of eighty million that takes seconds, in thirty bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, 'JPEG', progressive=True)
    data = buffer.getvalue()
    scans = data.count(b'\xff\xda')
    assert 5 < scans < 20 and decode_photo(data).image.shape == (64, 64, 3)
    last = data.rindex(b'\xff\xda')
    endless = data[:-2] + data[last:-2] * 100 + data[-2:]
    with pytest.raises(ImageError, match=f'a JPEG of {scans + 100} scans, at most 100'):
        decode_photo(endless)


# --- clips ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def clip(place):
    path, rng = place / 'clip.mp4', np.random.default_rng(0)
    with VideoWriter(path, size=(32, 48), fps=10) as writer:
        for _ in range(6):
            writer.write(rng.integers(0, 255, (32, 48, 3), np.uint8))
    return path.read_bytes()


def frames(path):
    with VideoReader(path) as reader:
        return sum(1 for image in reader if image.dtype == np.uint8 and image.ndim == 3)


@examples(8)
@given(damage=edits())
def test_damaged_clips(place, clip, damage):
    path = place / 'damaged.mp4'
    path.write_bytes(damage(clip))
    with only_writes_in(place):
        count, _ = refused(frames, path)
    assert count is None or count <= 1000


@pytest.mark.parametrize('text', [
    '#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n', "ffconcat version 1.0\nfile '/etc/passwd'\n", '<svg/>',
    'RIFF\xff\xff\xff\xffAVI LIST', '#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n'])
def test_lists_of_other_files_are_no_clips(place, text):
    path = place / 'list.mp4'
    path.write_bytes(text.encode('latin1'))
    with pytest.raises(SegaError, match='cannot be opened|not one frame|px'):
        frames(path)

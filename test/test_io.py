"""Pictures, clips, tensors and atomic files: what goes in comes out, and what is bad is refused in a clear sentence."""

import errno
import io
import json
import os
import struct
import zlib
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from sega_ros.errors import (
    AvatarDamagedError,
    AvatarExistsError,
    CameraError,
    ImageError,
    RequestError,
    StorageError,
)
from sega_ros.io import (
    VideoReader,
    VideoWriter,
    atomic_write,
    check_image_size,
    decode_image,
    decode_photo,
    load_metadata,
    load_tensors,
    read_file,
    read_image,
    save_tensors,
    tensors_to_bytes,
    write_png,
)

LIMIT = 1_000_000


def picture(height=48, width=64, seed=0):
    """A smooth colour picture; H != W."""
    y, x = np.mgrid[:height, :width] / (height + width)
    base = np.stack([x, y, 1 - x], -1) * 200 + 20 + np.random.default_rng(seed).uniform(0, 20)
    return base.astype(np.uint8)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


# Pictures


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF', 'PPM'])
def test_lossless_pictures_come_back_exactly(kind):
    assert np.array_equal(decode_image(encode(picture(), kind)), picture())


@pytest.mark.parametrize('kind', ['JPEG', 'WEBP'])
def test_lossy_pictures_come_back_closely(kind):
    got = decode_image(encode(picture(), kind, quality=95))
    assert got.shape == (48, 64, 3) and got.dtype == np.uint8
    assert np.abs(got.astype(int) - picture()).mean() < 3


def test_png_file_round_trip(tmp_path):
    write_png(tmp_path / 'new' / 'a.png', picture())
    assert np.array_equal(read_image(tmp_path / 'new' / 'a.png'), picture())


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'LA', 'CMYK', '1', 'I;16'])
def test_every_mode_becomes_rgb(mode):
    grey = picture()[..., 0]
    if mode == 'I;16':
        source = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == 'P':
        source = Image.fromarray(grey).convert('RGB').quantize(256)
    else:
        source = Image.fromarray(grey).convert('RGB').convert(mode)
    buffer = io.BytesIO()
    source.save(buffer, 'TIFF')
    got = decode_image(buffer.getvalue())
    assert got.shape == (48, 64, 3)
    if mode != '1':
        assert np.abs(got.astype(int) - grey[..., None]).max() <= 2


def test_transparency_is_laid_over_white():
    layer = np.zeros((4, 6, 4), np.uint8)
    layer[:, 3:] = (255, 0, 0, 255)
    got = decode_image(encode(layer, 'PNG'))
    assert (got[:, :3] == 255).all() and (got[:, 3:] == (255, 0, 0)).all()


def exif(orientation=1, focal_length=None):
    data = Image.Exif()
    data[0x0112] = orientation
    if focal_length is not None:
        data.get_ifd(0x8769)[0xA405] = focal_length
    return data


@pytest.mark.parametrize(('orientation', 'turn'), [(3, 2), (6, -1), (8, 1)])
def test_exif_orientation_is_applied(orientation, turn):
    got = decode_image(encode(picture(), 'PNG', exif=exif(orientation)))
    assert np.array_equal(got, np.rot90(picture(), turn))


def test_exif_focal_length_is_over_the_upright_width():
    flat = decode_photo(encode(picture(), 'JPEG', exif=exif(1, 50)))
    upright = decode_photo(encode(picture(), 'JPEG', exif=exif(6, 50)))
    diagonal = np.hypot(48, 64)
    assert flat.focal_length == pytest.approx(50 / 43.267 * diagonal / 64)
    assert upright.focal_length == pytest.approx(50 / 43.267 * diagonal / 48)
    assert decode_photo(encode(picture(), 'JPEG')).focal_length is None
    assert decode_photo(encode(picture(), 'JPEG', exif=exif(1, 0))).focal_length is None


def test_full_frame_50_mm_is_the_textbook_value():
    photo = decode_photo(encode(np.zeros((240, 360, 3), np.uint8), 'JPEG', exif=exif(1, 50)))
    assert photo.focal_length == pytest.approx(50 / 36, rel=1e-3)


def png_header(width, height):
    """A PNG whose header claims a size; almost no data follow."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    start = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return start + chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b'')


@pytest.mark.parametrize(('width', 'height'), [(20_000, 20_000), (17_000, 10), (10, 17_000), (9_500, 9_500)])
def test_huge_headers_are_refused_before_decoding(width, height, monkeypatch):
    def decoded(*_):
        raise AssertionError('a pixel was decoded')

    monkeypatch.setattr(Image.Image, 'load', decoded)
    monkeypatch.setattr('PIL.ImageFile.ImageFile.load', decoded)
    with pytest.raises(ImageError, match='scale it down'):
        decode_image(png_header(width, height))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'])
@pytest.mark.parametrize('kept', [0.5, 0.9])
def test_truncated_pictures_are_refused(kind, kept):
    noise = np.random.default_rng(1).integers(0, 255, (64, 80, 3), np.uint8)
    data = encode(noise, kind)
    with pytest.raises(ImageError, match='save it again|save or send it again'):
        decode_image(data[: int(len(data) * kept)])


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM'])
def test_corrupt_bytes_give_a_picture_or_an_image_error(kind):
    """Random damage: some bytes don't matter, the others must not raise anything else."""
    rng, data = np.random.default_rng(2), encode(picture(), kind)
    refused = 0
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 8):
            broken[place] = rng.integers(0, 256)
        try:
            assert decode_image(bytes(broken)).ndim == 3
        except ImageError:
            refused += 1
    assert refused > 0 or kind in ('BMP', 'PPM')


@pytest.mark.parametrize(('data', 'match'), [
    (b'', 'empty, found 0 bytes'), (b'<html>not found</html>', 'no picture.*wanted a JPEG'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'no picture'), (b'\xff\xd8\xff', 'no picture|damaged'),
])
def test_other_bytes_are_refused(data, match):
    with pytest.raises(ImageError, match=match):
        decode_image(data)


def test_bad_paths(tmp_path):
    with pytest.raises(ImageError, match='cannot be read .no such file.*check the path'):
        read_image(tmp_path / 'none.png')
    with pytest.raises(ImageError, match='is a directory'):
        read_image(tmp_path)


@pytest.mark.parametrize(('height', 'width'), [(0, 0), (0, 10), (10, 0), (-1, 5)])
def test_empty_images_are_refused(height, width):
    with pytest.raises(ImageError, match='empty'):
        check_image_size(height, width)


@pytest.mark.parametrize('image', [
    np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_write_png_refuses_other_arrays(tmp_path, image):
    with pytest.raises(ImageError):
        write_png(tmp_path / 'a.png', image)
    assert not list(tmp_path.iterdir())


# Clips


def clip(n, size):
    return [np.roll(picture(*size), 3 * i, 1) for i in range(n)]


@pytest.mark.parametrize(('size', 'fps', 'n'), [
    ((48, 64), 25, 7), ((51, 77), 30000 / 1001, 11), ((64, 65), 12.5, 1), ((49, 64), 29.97, 5),
    ((64, 48), 24000 / 1001, 40),
])
def test_clip_keeps_count_rate_and_size(tmp_path, size, fps, n):
    path, frames = tmp_path / 'clip.mp4', clip(n, size)
    with VideoWriter(path, size=size, fps=fps) as writer:
        for frame in frames:
            writer.write(frame)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == n
    assert capture.get(cv2.CAP_PROP_FPS) == float(writer.fps) == pytest.approx(fps, abs=1e-9)
    with VideoReader(path) as reader:
        assert (reader.size, reader.frame_count, reader.fps) == (size, n, float(writer.fps))
        got = list(reader)
    assert len(got) == n and all(g.shape == (*size, 3) for g in got)
    assert max(np.abs(g.astype(int) - f).mean() for g, f in zip(got, frames, strict=True)) < 6
    assert [p.name for p in tmp_path.iterdir()] == ['clip.mp4']


def test_rates_are_ratios_of_small_numbers(tmp_path):
    writer = VideoWriter(tmp_path / 'a.mp4', size=(16, 16), fps=29.97002997002997)
    assert writer.fps == Fraction(30000, 1001)
    writer.abort()
    assert not list(tmp_path.iterdir())


def test_a_failed_block_leaves_the_old_clip(tmp_path):
    path = tmp_path / 'a.mp4'
    path.write_bytes(b'old')
    with pytest.raises(ZeroDivisionError), VideoWriter(path, size=(16, 16), fps=25) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8))
        raise ZeroDivisionError
    assert path.read_bytes() == b'old' and len(list(tmp_path.iterdir())) == 1


def test_writer_refuses(tmp_path):
    with pytest.raises(RequestError, match='ending in .mp4'):
        VideoWriter(tmp_path / 'a.txt', size=(16, 16), fps=25)
    with pytest.raises(RequestError, match='fps'):
        VideoWriter(tmp_path / 'a.mp4', size=(16, 16), fps=0)
    with pytest.raises(ImageError, match='empty'):
        VideoWriter(tmp_path / 'a.mp4', size=(0, 16), fps=25)
    with pytest.raises(RequestError, match='no frame'), VideoWriter(tmp_path / 'a.mp4', size=(16, 16), fps=25):
        pass
    with pytest.raises(ImageError, match=r'wanted uint8 frames \[16, 18, 3\], found uint8 \[18, 16, 3\]'), \
            VideoWriter(tmp_path / 'a.mp4', size=(16, 18), fps=25) as writer:
        writer.write(np.zeros((18, 16, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_encoder_death_is_reported(tmp_path):
    with pytest.raises(StorageError, match='the encoder stopped'), \
            VideoWriter(tmp_path / 'a.mp4', size=(256, 256), fps=25) as writer:
        writer._process.kill()
        for _ in range(50):
            writer.write(np.zeros((256, 256, 3), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('content', 'match'), [
    (None, 'no such file'), (b'', 'cannot be opened'), (b'text', 'cannot be opened')])
def test_reader_refuses_bad_clips(tmp_path, content, match):
    path = tmp_path / 'a.mp4'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CameraError, match=match):
        VideoReader(path)


def test_reader_refuses_a_camera_that_is_not_there():
    with pytest.raises(CameraError, match='camera 97: no such camera; present: .*; connect one'):
        VideoReader(97)


# Atomic files


def test_atomic_write_replaces_or_refuses(tmp_path):
    path = tmp_path / 'sub' / 'a'
    atomic_write(path, b'one')
    atomic_write(path, b'two')
    with pytest.raises(AvatarExistsError, match='exists already'):
        atomic_write(path, b'three', replace=False)
    assert path.read_bytes() == b'two' and len(list(path.parent.iterdir())) == 1


def test_without_hard_links_a_taken_name_is_still_refused(tmp_path, monkeypatch):
    def link(*_, **__):
        raise OSError(errno.EPERM, 'no hard links here')

    monkeypatch.setattr(os, 'link', link)
    atomic_write(tmp_path / 'a', b'one', replace=False)
    with pytest.raises(AvatarExistsError):
        atomic_write(tmp_path / 'a', b'two', replace=False)
    assert (tmp_path / 'a').read_bytes() == b'one'


def test_read_file_refuses_links_pipes_and_long_files(tmp_path):
    (tmp_path / 'a').write_bytes(b'12345')
    assert read_file(tmp_path / 'a', limit=5) == b'12345'
    with pytest.raises(StorageError, match='at most 4'):
        read_file(tmp_path / 'a', limit=4)
    (tmp_path / 'link').symlink_to(tmp_path / 'a')
    with pytest.raises(StorageError, match='symbolic link'):
        read_file(tmp_path / 'link', limit=9)
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(StorageError, match='not a regular file'):
        read_file(tmp_path / 'pipe', limit=9)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / 'none', limit=9)


# Tensors

TENSORS = {'x': np.arange(6, dtype=np.float32).reshape(2, 3), 'flag': np.array([True]), 'scalar': np.array(2.5),
           'none': np.zeros((0, 3), np.uint8)}


def test_tensors_round_trip(tmp_path):
    save_tensors(tmp_path / 'a', TENSORS, {'name': 'Ännchen', 'n': [1, 2.5, None]})
    tensors, metadata = load_tensors(tmp_path / 'a', LIMIT)
    assert metadata == {'name': 'Ännchen', 'n': [1, 2.5, None]} == load_metadata(tmp_path / 'a', LIMIT)
    assert set(tensors) == set(TENSORS)
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype and tensors[name].shape == array.shape and np.array_equal(tensors[name], array)


def test_equal_tensors_give_equal_bytes():
    turned = np.asfortranarray(TENSORS['x'])
    again = dict(reversed({**TENSORS, 'x': turned}.items()))
    assert tensors_to_bytes(TENSORS, {'a': 1, 'b': 2}) == tensors_to_bytes(again, {'b': 2, 'a': 1})


def test_metadata_must_be_json():
    with pytest.raises(RequestError, match='JSON'):
        tensors_to_bytes(TENSORS, {'a': object()})
    with pytest.raises(RequestError, match='JSON'):
        tensors_to_bytes(TENSORS, {'a': float('nan')})


def raw(header, data=b''):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(header).to_bytes(8, 'little') + header + data


OURS = {'__metadata__': {'sega_ros': json.dumps({'metadata': '{}', 'sha256': ''})}}


@pytest.mark.parametrize(('data', 'match'), [
    (b'', 'header'), (b'\0' * 8, 'header'), ((2**63).to_bytes(8, 'little'), 'header'), (raw(b'{x'), 'JSON'),
    (raw(b'[' * 100_000), 'JSON'), (raw(b'[]'), 'object'), (raw({}), 'not written by this program'),
    (raw({'__metadata__': {'sega_ros': '[]'}}), 'not written by this program'),
    (raw({**OURS, 'x': {'dtype': 'F8_E4M3', 'shape': [4], 'data_offsets': [0, 4]}}, b'1234'), 'unknown type'),
    (raw({**OURS, 'x': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 4]}}, b'1234'), 'malformed'),
    (raw({**OURS, 'x': {'dtype': 'F32', 'shape': [-1], 'data_offsets': [0, -4]}}), 'malformed'),
    (raw({**OURS, 'x': {'dtype': 'U8', 'shape': [2**50], 'data_offsets': [0, 2**50]}}), 'malformed'),
    (raw({**OURS, 'x': [1, 2]}), 'malformed'),
    (raw({**OURS, 'x': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}}, b'12'), 'truncated'),
    (raw({**OURS, 'x': {'dtype': 'U8', 'shape': [2], 'data_offsets': [0, 2]},
          'y': {'dtype': 'U8', 'shape': [2], 'data_offsets': [1, 3]}}, b'123'), 'cannot be read'),
    (raw({**OURS, 'x': {'dtype': 'U8', 'shape': [2], 'data_offsets': [0, 2]}}, b'12'), 'checksum'),
])
def test_hostile_tensor_files_are_refused(tmp_path, data, match):
    (tmp_path / 'a').write_bytes(data)
    with pytest.raises(AvatarDamagedError, match=match):
        load_tensors(tmp_path / 'a', LIMIT)


def test_tensor_files_over_the_limit_are_refused(tmp_path):
    save_tensors(tmp_path / 'a', {'x': np.zeros(1000)}, {})
    for load in (load_tensors, load_metadata):
        with pytest.raises(AvatarDamagedError, match='at most 4000'):
            load(tmp_path / 'a', 4000)


def test_random_damage_is_always_noticed(tmp_path):
    data, rng = tensors_to_bytes(TENSORS, {'a': 1}), np.random.default_rng(3)
    for _ in range(300):
        broken = bytearray(data)
        place = rng.integers(0, len(data))
        broken[place] ^= 1 << rng.integers(0, 8)
        (tmp_path / 'a').write_bytes(broken)
        try:
            tensors, metadata = load_tensors(tmp_path / 'a', LIMIT)
        except AvatarDamagedError:
            continue
        # Only padding may change unnoticed.
        assert metadata == {'a': 1} and all(np.array_equal(tensors[k], TENSORS[k]) for k in TENSORS), place

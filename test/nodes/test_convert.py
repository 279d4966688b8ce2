"""Image messages to arrays: every encoding, every check."""

import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from sega_ros.camera import FRONTAL, pose_camera
from sega_ros.errors import ImageError
from sega_ros.nodes import convert

STAMP = Time(sec=3, nanosec=4)
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)


def message(pixels, encoding, padding=0):
    """Return an Image of `pixels` [H, W, C] with `padding` bytes at the end of each row."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    rows = np.concatenate([rows, np.full((height, padding), 99, np.uint8)], 1)
    result = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    result.data.frombytes(rows.tobytes())
    return result


ALPHA = RNG.integers(0, 256, (6, 8, 1), np.uint8)
GRAY = RNG.integers(0, 256, (6, 8, 1), np.uint8)
CASES = {
    'rgb8': (RGB, RGB),
    'bgr8': (RGB[..., ::-1], RGB),
    '8UC3': (RGB[..., ::-1], RGB),
    'rgba8': (np.concatenate([RGB, ALPHA], -1), RGB),
    'bgra8': (np.concatenate([RGB[..., ::-1], ALPHA], -1), RGB),
    'mono8': (GRAY, np.repeat(GRAY, 3, -1)),
    '8UC1': (GRAY, np.repeat(GRAY, 3, -1)),
}


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', CASES)
def test_encodings(encoding, padding):
    pixels, wanted = CASES[encoding]
    found = convert.image_message_to_rgb(message(pixels, encoding, padding))
    assert found.dtype == np.uint8 and found.shape == (6, 8, 3)
    np.testing.assert_array_equal(found, wanted)


def yuv(luma, u, v, order):
    """Return [H, W, 2] bytes of constant chroma in the order of `order` ('uyvy' or 'yuyv')."""
    pairs = np.empty((*luma.shape, 2), np.uint8)
    chroma = np.where(np.arange(luma.shape[1]) % 2 == 0, u, v)
    pairs[..., order.index('y')] = luma
    pairs[..., 1 - order.index('y')] = chroma
    return pairs


@pytest.mark.parametrize(('encoding', 'order'), [('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv'),
                                                 ('yuyv', 'yuyv')])
def test_yuv422_against_the_formula(encoding, order):
    luma, u, v = RNG.integers(60, 180, (4, 6)), 110, 150
    found = convert.image_message_to_rgb(message(yuv(luma, u, v, order), encoding)).astype(float)
    y = 1.164 * (luma - 16.0)  # ITU-R BT.601, limited range
    wanted = np.stack([y + 1.596 * (v - 128), y - 0.813 * (v - 128) - 0.391 * (u - 128), y + 2.018 * (u - 128)], -1)
    np.testing.assert_allclose(found, wanted.clip(0, 255), atol=1.5)  # OpenCV rounds in fixed point


def test_rgb8_is_not_copied():
    source = message(RGB, 'rgb8')
    assert np.shares_memory(convert.image_message_to_rgb(source), np.frombuffer(source.data, np.uint8))


@pytest.mark.parametrize(('change', 'match'), [
    ({'encoding': 'bayer_rggb8'}, "image encoding: found 'bayer_rggb8', wanted one of rgb8"),
    ({'encoding': ''}, 'image encoding'),
    ({'width': 0}, 'empty'), ({'height': 0}, 'empty'),
    ({'step': 23}, 'step: found 23 bytes, wanted at least 24'),
    ({'step': 25}, 'data: found 144 bytes, wanted step x height = 25 x 6 = 150'),
    ({'height': 7}, 'data: found 144 bytes'),
    ({'width': 20000, 'height': 20000, 'step': 60000}, '20000 x 20000'),
    ({'width': 2**31, 'height': 2**31, 'step': 2**32 - 1}, 'accepted'),
    ({'encoding': 'yuv422', 'width': 7, 'step': 14}, 'even width, found 7'),
])
def test_messages_that_do_not_fit(change, match):
    bad = message(RGB, 'rgb8')
    for name, value in change.items():
        setattr(bad, name, value)
    with pytest.raises(ImageError, match=match):
        convert.image_message_to_rgb(bad)


def test_round_trip_keeps_stamp_and_frame():
    sent = convert.rgb_to_image_message(RGB[:, ::2], stamp=STAMP, frame_id='cam')
    assert (sent.height, sent.width, sent.step, sent.header.frame_id, sent.header.stamp) == (6, 4, 12, 'cam', STAMP)
    np.testing.assert_array_equal(convert.image_message_to_rgb(sent), RGB[:, ::2])


def test_jpeg_round_trip():
    smooth = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_CUBIC)
    sent = convert.rgb_to_jpeg_message(smooth, stamp=STAMP, frame_id='cam', quality=95)
    assert 'jpeg' in sent.format
    assert np.abs(convert.compressed_message_to_rgb(sent).astype(int) - smooth).mean() < 4


def test_png_is_exact():
    _, data = cv2.imencode('.png', RGB[..., ::-1])
    np.testing.assert_array_equal(convert.compressed_message_to_rgb(CompressedImage(data=data.tobytes())), RGB)


def huge_png(width, height):
    """Return a small PNG whose header claims an enormous size."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b'IDAT', zlib.compress(b'\0' * 99))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + pixels + chunk(b'IEND', b'')


@pytest.mark.parametrize(('data', 'match'), [
    (b'', 'empty'), (b'\xff\xd8nonsense', 'compressed image'), (b'plain text', 'no picture'),
    (huge_png(20000, 20000), '400000000 pixels'), (huge_png(16385, 10), '16385 x 10'),
])
def test_bad_compressed_images(data, match):
    with pytest.raises(ImageError, match=match):
        convert.compressed_message_to_rgb(CompressedImage(data=data))


def test_truncated_jpeg():
    whole = convert.rgb_to_jpeg_message(np.repeat(np.repeat(RGB, 20, 0), 20, 1), stamp=STAMP, frame_id='')
    with pytest.raises(ImageError, match='truncated'):
        convert.compressed_message_to_rgb(CompressedImage(data=bytes(whole.data)[:-200]))


def test_checks_come_before_cv_bridge():
    bridge = SimpleNamespace(imgmsg_to_cv2=lambda *_: pytest.fail('called with an unchecked message'))
    bad = message(RGB, 'rgb8')
    bad.step = 1
    with pytest.raises(ImageError):
        convert.image_message_to_rgb(bad, bridge=bridge)


@pytest.mark.parametrize('encoding', [*CASES, 'yuv422', 'yuv422_yuy2'])
def test_cv_bridge_gives_the_same(encoding):
    bridge = pytest.importorskip('cv_bridge').CvBridge()
    pixels = CASES[encoding][0] if encoding in CASES else RNG.integers(0, 256, (6, 8, 2), np.uint8)
    source = message(pixels, encoding)
    own = convert.CONVERTER
    try:
        convert.CONVERTER = None
        wanted = convert.image_message_to_rgb(source)
    finally:
        convert.CONVERTER = own
    np.testing.assert_array_equal(convert.image_message_to_rgb(source, bridge=bridge), wanted)


def test_camera_info():
    camera = pose_camera(FRONTAL, np.array([0, 0, 1.0]), 1.5, (240, 320))
    info = convert.camera_to_message(camera, stamp=STAMP, frame_id='avatar')
    assert (info.height, info.width) == (240, 320)
    np.testing.assert_allclose(np.reshape(info.k, (3, 3)), camera.K)
    np.testing.assert_allclose(np.reshape(info.p, (3, 4))[:, :3], camera.K)


def test_stamps():
    assert convert.ns_to_stamp(convert.stamp_to_ns(STAMP)) == STAMP
    assert convert.stamp_to_ns(STAMP) == 3_000_000_004

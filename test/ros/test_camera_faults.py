"""What cameras do wrong: they freeze, change size and encoding, send garbage, run too fast or too slow."""

import array
import threading
import time

import cv2
import numpy as np
import pytest
from driver_rig import LEVEL, Rig, jaw
from fake_core import record
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from sega_ros.nodes import health
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message


@pytest.fixture
def rig(world):
    return Rig(world, record('ann')).ready()


def reason(rig, words, level):
    """Wait for diagnostics with these words, and check the level."""
    found = rig.world.wait(lambda: (r := rig.world.reason(rig.node)) and words in r[1] and r, words)
    assert found[0] == LEVEL[level]


def noisy(value, rng):
    """A message of a picture with a camera's noise; its first pixel is `value`."""
    image = rng.integers(0, 255, (48, 64, 3), np.uint8)
    image[0, 0] = value
    return rgb_to_image_message(image, stamp=ns_to_stamp(0), frame_id='camera')


def test_a_frozen_camera_is_told(world, rig, monkeypatch):
    monkeypatch.setattr(health, 'STILL_AFTER', 0.5)
    rng = np.random.default_rng(0)
    world.wait(lambda: (rig.frame(message=noisy(9, rng)), rig.said == 'driving')[1], 'driving')
    world.wait(lambda: (rig.frame(9), 'camera frozen' in rig.said)[1], 'the frozen camera')
    assert world.reason(rig.node)[0] == LEVEL['WARN']
    world.wait(lambda: (rig.frame(message=noisy(9, rng)), rig.said == 'driving')[1], 'driving again')


def test_nobody_before_the_camera_is_told(world, rig, monkeypatch):
    monkeypatch.setattr(health, 'FACELESS_AFTER', 0.5)
    rng = np.random.default_rng(0)
    world.wait(lambda: (rig.frame(message=noisy(0, rng)), 'no face on /image' in rig.said)[1], 'no face')
    world.wait(lambda: (rig.frame(message=noisy(9, rng)), rig.said == 'driving')[1], 'the face')


def test_an_overload_is_told(world, rig):
    """Drawing takes a tenth of a second, and thirty images a second come."""
    rng, puppet = np.random.default_rng(0), rig.node.puppet
    draw, due, pause = puppet.draw, 0.0, threading.Event()
    puppet.draw = lambda bound: (pause.wait(0.1), draw(bound))[1]

    def overloaded():
        nonlocal due
        if time.monotonic() > due:
            rig.camera.send(message=noisy(9, rng))
            due = time.monotonic() + 1 / 30
        return rig.said.startswith('overloaded') and world.reason(rig.node)

    level, words, values = world.wait(overloaded, 'the overload', 60)
    assert level == LEVEL['WARN'] and 'set frame_time or detail' in words and float(values['rate (Hz)']) < 15


def test_sizes_change_from_frame_to_frame(rig):
    rig.node.set_parameters([Parameter('view', value='input')])
    for k, size in enumerate([(48, 64), (480, 640), (1, 2), (64, 48), (1080, 1920), (3, 2)], 1):
        rig.camera.size = size
        message = rig.frame(k)
        assert (message.height, message.width) == size and jaw(message) == k
    rig.node.set_parameters([Parameter('view', value='frontal')])
    message = rig.frame(99)
    assert (message.height, message.width, jaw(message)) == (32, 64, 99)


def encoded(encoding, gray):
    """A message of grey pixels in an encoding."""
    pixels = np.full((8, 8, 3), gray, np.uint8)
    data = {'rgb8': pixels, 'bgr8': pixels, 'rgba8': np.dstack([pixels, pixels[..., :1]]),
            'bgra8': np.dstack([pixels, pixels[..., :1]]), 'mono8': pixels[..., 0],
            'yuv422': cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_UYVY), 'yuv422_yuy2': cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_YUY2)}
    content = data[encoding].tobytes()
    return Image(height=8, width=8, encoding=encoding, step=len(content) // 8, data=array.array('B', content))


def test_encodings_change_from_frame_to_frame(rig):
    for _ in range(2):
        for encoding in ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'yuv422', 'yuv422_yuy2'):
            assert abs(jaw(rig.frame(message=encoded(encoding, 120))) - 120) <= 2, encoding


GARBAGE = {
    'encoding': ['', 'x' * 10_000, 'RGB8', 'rgb16', 'bayer_rggb8'],
    'height': [0, 1, 47, 49, 2**32 - 1], 'width': [0, 65, 2**32 - 1], 'step': [0, 1, 191, 193, 2**32 - 1],
    'data': [[], [1], [1] * (48 * 192 - 1), [1] * (48 * 192 + 1)],
}


@pytest.mark.parametrize('field', GARBAGE)
def test_garbage_in_any_field_is_refused_and_the_stream_goes_on(rig, field):
    for value in GARBAGE[field]:
        message = rgb_to_image_message(np.full((48, 64, 3), 9, np.uint8), stamp=ns_to_stamp(0), frame_id='camera')
        setattr(message, field, value)
        before = rig.node.statistics.report().refused
        rig.camera.send(message=message)
        rig.world.wait(lambda before=before: rig.node.statistics.report().refused == before + 1, f'refusal of {value!r:.40}')
    reason(rig, 'image', 'ERROR')
    assert jaw(rig.frame(8)) == 8
    rig.node._diagnostics.publish()
    reason(rig, f'{len(GARBAGE[field])} of the last', 'WARN')


@pytest.mark.parametrize('stamp', [(0, 2**32 - 1), (2**31 - 1, 999_999_999), (2**31 - 1, 2**32 - 1), (-2**31, 0)])
def test_stamps_at_the_ends_of_their_range(rig, stamp):
    message = rgb_to_image_message(np.full((48, 64, 3), 9, np.uint8), stamp=ns_to_stamp(0), frame_id='camera')
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    report = rig.node.statistics.report
    rig.camera.publisher.publish(message)
    rig.world.wait(lambda: report().refused + report().published == 1, 'an end of it')
    assert jaw(rig.frame(8)) == 8


def test_a_fast_camera_fills_no_queue(world, rig):
    """120 images a second for two seconds, while drawing stands still for a while: then the newest is drawn."""
    rig.core.gate.clear()
    start, report = time.monotonic(), rig.node.statistics.report
    for k in range(240):
        world.wait(lambda k=k: time.monotonic() >= start + k / 120, 'its time')
        rig.camera.send(1 + k % 250)
        if k == 120:
            rig.core.gate.set()
    last = rig.frame(251)
    assert jaw(last) == 251
    world.wait(lambda: (r := report()).received == r.published + r.dropped, 'the end of the last')
    found = report()
    assert found.published > 2 and found.dropped > 0
    assert found.latency_p95 < 2.0, 'nothing old is drawn'


def test_a_slow_camera_is_no_silent_one(world, rig):
    """One image a second: each is drawn, and nobody is told of a camera that stopped."""
    start, rng = time.monotonic(), np.random.default_rng(0)
    for k in range(5):
        world.wait(lambda k=k: time.monotonic() >= start + k, 'its time')
        assert jaw(rig.frame(message=noisy(10 + k, rng))) == 10 + k
        if k == 1:
            del world.diagnostics[:]
    found = [s.message for d in world.diagnostics for s in d.status if s.name.endswith('avatar_driver')]
    assert found and not any('nothing on' in m for m in found)

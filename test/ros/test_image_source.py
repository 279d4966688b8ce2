"""image_source plays a clip at its own rate."""

import threading

import numpy as np
import pytest
from sensor_msgs.msg import Image

from sega_ros.errors import CameraError, ConfigError
from sega_ros.io import VideoReader, VideoWriter
from sega_ros.nodes import image_source
from sega_ros.nodes.convert import image_message_to_rgb, stamp_to_ns
from sega_ros.nodes.image_source import ImageSource

RATE, FRAMES = 50.0, 10


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp('clip') / 'clip.mp4'
    with VideoWriter(path, size=(48, 64), fps=RATE) as writer:
        for k in range(FRAMES):
            writer.write(np.full((48, 64, 3), 20 * k, np.uint8))
    return str(path)


def test_plays_once_at_the_rate_of_the_clip(world, clip):
    images = world.collect(Image, 'image', 20)
    world.add(ImageSource, {'source': clip, 'loop': False, 'frame_id': 'cam'})
    world.wait(lambda: images and images[-1].data[0] > 20 * (FRAMES - 1) - 5, 'the last frame')
    assert (images[0].height, images[0].width, images[0].header.frame_id) == (48, 64, 'cam')
    values = [int(image_message_to_rgb(m)[0, 0, 0]) for m in images]
    assert values == sorted(values)
    if len(images) > 2:  # discovery may cost the first frames
        seconds = (stamp_to_ns(images[-1].header.stamp) - stamp_to_ns(images[0].header.stamp)) / 1e9
        first = round(values[0] / 20)
        assert seconds >= (FRAMES - 1 - first) / RATE * 0.9, 'faster than the clip'


def test_loops(world, clip):
    images = world.collect(Image, 'image', 20)
    node = world.add(ImageSource, {'source': clip, 'rate': 200.0})
    world.wait(lambda: node.published > 3 * FRAMES and len(images) > FRAMES, 'three rounds')
    world.wait(lambda: (r := world.reason(node)) and r[1] == 'playing', 'health')


def test_no_such_clip(world, tmp_path):
    with pytest.raises(CameraError, match='no such file'):
        world.add(ImageSource, {'source': str(tmp_path / 'none.mp4')})


def test_no_such_camera_is_tried_again_and_told(world):
    node = world.add(ImageSource, {'source': '97', 'retry': 0.1})
    level, reason, _ = world.wait(lambda: (r := world.reason(node)) and 'camera 97' in r[1] and r, 'health')
    assert level == 2 and 'connect' in reason


def test_a_camera_that_hangs_is_told_and_opened_again(world, clip, monkeypatch):
    """Its driver neither delivers nor fails; when it fails at last, the next attempt finds the camera in order."""
    held, opened = threading.Event(), []

    class Hanging(VideoReader):
        def __iter__(self):
            opened.append(self)
            yield self.read()
            if len(opened) == 1:
                held.wait(30)
            else:
                yield from super().__iter__()

    monkeypatch.setattr(image_source, 'VideoReader', Hanging)
    monkeypatch.setattr(image_source, 'SILENT_AFTER', 0.5)
    node = world.add(ImageSource, {'source': clip, 'retry': 0.1})
    level, reason, _ = world.wait(lambda: (r := world.reason(node)) and 'nothing from' in r[1] and r, 'health')
    assert level == 2 and 'check its cable' in reason
    held.set()
    world.wait(lambda: world.reason(node)[1] == 'playing' and node.published > 2, 'images again')


@pytest.mark.parametrize(('parameters', 'match'), [
    ({'frame_id': 'x' * 33}, 'at most 32'), ({'lop': True}, 'unknown parameters: lop'), ({'rate': -1.0}, 'rate')])
def test_bad_parameters(world, clip, parameters, match):
    with pytest.raises(ConfigError, match=match):
        world.add(ImageSource, {'source': clip, **parameters})

"""Nothing personal in what nodes say: not in logs, not on /rosout, not in diagnostics, at the finest level."""

import base64
import logging
import re

import numpy as np
import pytest
import rclpy.logging
from PIL import Image
from rcl_interfaces.msg import Log
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from ros_support import Camera

from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import ErrorCode
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message, rgb_to_jpeg_message
from sega_ros.nodes.image_source import ImageSource
from sega_ros.srv import CreateAvatar, ListAvatars

CONSENT, FOLDER, NAME, EXIF = 'agreed-7431-to-it', 'folder-5521', 'photo-9912.jpg', 'camera-owner-6604'
MARKERS = re.compile('|'.join([CONSENT, FOLDER, NAME, EXIF]))
# Pixels, landmarks and coefficients are rows of numbers; figures of health come one at a time.
ROW_OF_NUMBERS = re.compile(r'(?:-?\d+(?:\.\d*)?(?:e-?\d+)?[\s,;\[\]()]+){6,}')


class Heard:
    """All that nodes say: the console, /rosout, /diagnostics, and Python's own loggers."""

    def __init__(self, world, capfd, caplog):
        self.world, self._capfd, self._caplog, self._console = world, capfd, caplog, ''
        self.rosout = world.collect(Log, '/rosout', 1000)

    def text(self):
        out, err = self._capfd.readouterr()
        self._console += out + err
        health = [f'{s.message} {[(v.key, v.value) for v in s.values]}' for a in self.world.diagnostics for s in a.status]
        return '\n'.join([self._console, *(m.msg for m in self.rosout), *health,
                          *(f'{r.name}: {r.getMessage()}' for r in self._caplog.records)])

    def check(self, *more):
        """Fail on a marker, a row of numbers, or `more` texts; return what was said."""
        text = self.text()
        assert not (found := MARKERS.search(text)), text[max(0, found.start() - 300):found.end() + 100]
        rows = [line for line in text.splitlines() if ROW_OF_NUMBERS.search(line)]
        assert not rows, rows[:3]
        assert not [m for m in more if m in text]
        return text


@pytest.fixture
def heard(world, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, 'numba')  # hundreds of thousands of lines about its own compilation
    before = rclpy.logging.get_logger_effective_level('')
    rclpy.logging.set_logger_level('', LoggingSeverity.DEBUG)
    yield Heard(world, capfd, caplog)
    rclpy.logging.set_logger_level('', before)


@pytest.fixture
def photo(tmp_path, astronaut):
    """A photograph in a folder, both with telling names, with its owner in the EXIF data."""
    path = tmp_path / FOLDER / NAME
    path.parent.mkdir()
    exif = Image.Exif()
    exif[0x013b] = exif[0x010e] = EXIF
    Image.fromarray(astronaut).save(path, quality=95, exif=exif)
    return path


def active(world, kind, parameters, **kwargs):
    node = world.add(kind, parameters, **kwargs)
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


def test_the_markers_would_be_found(world, heard):
    """What this file looks for, it sees: in logs of every level, in Python's loggers and in rows of numbers."""
    world.helper.get_logger().debug(f'stored with {CONSENT}')
    world.wait(lambda: any(CONSENT in m.msg for m in heard.rosout) or CONSENT in heard.text(), 'the debug message')
    with pytest.raises(AssertionError, match=CONSENT):
        heard.check()
    assert ROW_OF_NUMBERS.search(str(np.arange(8.0) / 7)) and ROW_OF_NUMBERS.search(str([1, 2, 3, 4, 5, 6, 7]))


def test_creation_driving_and_fetching(world, heard, tmp_path, photo, astronaut):
    folder = tmp_path / 'avatars'
    builder = active(world, AvatarBuilder, {'avatar_dir': str(folder), 'photo': str(photo), 'avatar_id': 'ann',
                                            'consent': CONSENT, 'quality': 'preview'})
    world.wait(lambda: builder._job.running == '' and AvatarStore(folder).list(), 'the avatar of the parameter', 120)
    jpeg = rgb_to_jpeg_message(astronaut, stamp=builder.get_clock().now().to_msg(), frame_id='')
    answer = world.call(CreateAvatar, 'create_avatar', CreateAvatar.Request(
        compressed_image=jpeg, avatar_id='ann', consent=CONSENT, replace=True), 120)
    assert answer.success and answer.avatar.consent == CONSENT, answer.message
    robot = active(world, AvatarDriver, {'avatar_dir': str(tmp_path / 'robot'), 'avatar_id': 'ann', 'view': 'input'})
    world.wait(lambda: robot.puppet, 'the fetched avatar', 120)
    expressions = world.collect(FlameExpression, 'expression', qos.expression())
    camera = Camera(world)
    world.wait(lambda: camera.send(message=rgb_to_image_message(astronaut, stamp=ns_to_stamp(0), frame_id='cam')) and [
        e for e in expressions if e.face_present], 'a tracked face', 60)
    world.wait(lambda: world.reason(robot) and world.reason(builder), 'diagnostics')
    data = bytes(jpeg.data)
    text = heard.check(data[600:612].hex(), base64.b64encode(data[600:621]).decode(), astronaut[200, 200:204].tobytes().hex())
    assert "driving avatar 'ann'" in text and 'fetching avatar' in text, 'ids may be said'


def test_refusals(world, heard, tmp_path, photo, astronaut, plain_avatar):
    builder = active(world, AvatarBuilder, {'avatar_dir': str(tmp_path / 'avatars'), 'photo': f'{photo}x', 'consent': CONSENT})
    world.wait(lambda: 'no avatar of the photo' in heard.text(), 'the missing photo')
    jpeg = rgb_to_jpeg_message(astronaut, stamp=builder.get_clock().now().to_msg(), frame_id='')
    for count in (700, 5):  # truncated, and no picture at all
        jpeg.data = jpeg.data[:count]
        asked = CreateAvatar.Request(compressed_image=jpeg, avatar_id='ann', consent=CONSENT)
        assert world.call(CreateAvatar, 'create_avatar', asked).error_code == ErrorCode.BAD_IMAGE
    asked.consent = CONSENT * 20
    assert world.call(CreateAvatar, 'create_avatar', asked).error_code == ErrorCode.BAD_REQUEST
    (tmp_path / FOLDER / 'clip.mp4').write_bytes(b'no clip')
    with pytest.raises(Exception, match='the clip of parameter source'):
        world.add(ImageSource, {'source': str(tmp_path / FOLDER / 'clip.mp4')})
    driver = active(world, AvatarDriver, {'source': 'expression', 'avatar_dir': str(tmp_path / 'robot')})
    publisher = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
    world.wait(publisher.get_subscription_count, 'the connection')
    bad = FlameExpression(focal_length=1.5, expression=[0.1234 * k for k in range(50)], eyelids=[float('nan'), 0.0])
    world.wait(lambda: publisher.publish(bad) or driver._frame_problem, 'the refusal of the expression')
    assert world.call(ListAvatars, 'list_avatars', ListAvatars.Request()).success
    heard.check()

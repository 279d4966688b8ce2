"""The mirror for ROS4HRI: on classes that stand in for hri_msgs, and on the real ones where they are installed."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from fake_core import FakeDriver, record
from rclpy.lifecycle import TransitionCallbackReturn
from ros_support import Camera
from std_msgs.msg import Header

from sega_ros.errors import ConfigError
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_driver import AvatarDriver, DriverConfig, check_config
from sega_ros.nodes.core import FaceObservation
from sega_ros.nodes.hri import HriMirror
from sega_ros.tracking.action_units import ActionUnits
from sega_ros.tracking.face_points import FacePoints

INSTALLED = importlib.util.find_spec('hri_msgs') is not None
# Fields of hri_msgs 2.0 as far as they are used.
STAND_IN = {'IdsList': ('header', 'ids'), 'NormalizedRegionOfInterest2D': ('header', 'xmin', 'ymin', 'xmax', 'ymax', 'c'),
            'NormalizedPointOfInterest2D': ('x', 'y', 'c'), 'FacialLandmarks': ('header', 'landmarks', 'height', 'width'),
            'FacialActionUnits': ('header', 'intensity', 'confidence')}
HEADER = Header(frame_id='camera')


def observation():
    points = np.linspace(0, 1, 140).reshape(70, 2)
    units = ActionUnits(np.linspace(0, 1, 99, dtype=np.float32), np.arange(99) % 2 == 1)
    return FaceObservation(FacePoints(points, np.arange(70) > 0, np.array([0.1, 0.2, 0.3, 0.4])), units)


def stand_in(name, fields):
    def __init__(self, **values):
        assert values.keys() <= set(fields), f'{name}: {values.keys() - set(fields)}'
        self.__dict__.update(values)

    return type(name, (), {'__init__': __init__})


class Ear:
    """A publisher that keeps what it is given."""

    def __init__(self):
        self.heard, self.subscribers = [], 1
        self.publish = self.heard.append

    def get_subscription_count(self):
        return self.subscribers


@pytest.fixture
def ears(monkeypatch):
    """A mirror on stand-ins, and its publishers by topic."""
    module = ModuleType('hri_msgs.msg')
    vars(module).update({name: stand_in(name, fields) for name, fields in STAND_IN.items()})
    monkeypatch.setitem(sys.modules, 'hri_msgs', ModuleType('hri_msgs'))
    monkeypatch.setitem(sys.modules, 'hri_msgs.msg', module)
    found = {}
    node = SimpleNamespace(create_lifecycle_publisher=lambda kind, topic, profile: found.setdefault(topic, Ear()))
    return HriMirror(node), found


FACE = '/humans/faces/operator'


def test_a_face_is_mirrored(ears):
    mirror, found = ears
    assert found.keys() == {'/humans/faces/tracked', f'{FACE}/roi', f'{FACE}/landmarks', f'{FACE}/facs'}
    assert mirror.publish(HEADER, 0.5, (30, 40), observation)
    tracked, roi, landmarks, facs = (ear.heard[0] for ear in found.values())
    assert tracked.ids == ['operator'] and (roi.xmin, roi.ymin, roi.xmax, roi.ymax, roi.c) == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert (landmarks.height, landmarks.width, len(landmarks.landmarks)) == (30, 40, 70)
    assert [p.c for p in landmarks.landmarks] == [0.0] + 69 * [0.5]
    assert landmarks.landmarks[3].x == pytest.approx(6 / 139) and landmarks.landmarks[3].y == pytest.approx(7 / 139)
    assert facs.intensity[98] == 1 and list(facs.confidence[:4]) == [0, 0.5, 0, 0.5]
    assert all(ear.heard[0].header is HEADER for ear in found.values())


def test_a_lost_face_is_taken_off_the_list(ears):
    mirror, found = ears
    assert mirror.publish(HEADER, 0.0, (30, 40), None)
    assert [len(ear.heard) for ear in found.values()] == [1, 0, 0, 0] and found['/humans/faces/tracked'].heard[0].ids == []


def test_without_a_shape_there_are_units_only(ears):
    mirror, found = ears
    mirror.publish(HEADER, 0.5, (30, 40), lambda: FaceObservation(None, observation().units))
    assert [len(ear.heard) for ear in found.values()] == [1, 0, 0, 1]


def test_nothing_is_made_for_nobody(ears):
    mirror, found = ears
    for ear in found.values():
        ear.subscribers = 0
    assert not mirror.wanted and not mirror.publish(HEADER, 0.5, (30, 40), lambda: pytest.fail('nobody asked'))
    found['/humans/faces/tracked'].subscribers = 1
    assert mirror.wanted and mirror.publish(HEADER, 0.5, (30, 40), lambda: pytest.fail('nobody asked'))


def test_without_hri_msgs_the_node_says_what_to_install(world, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, 'hri_msgs.msg', None)
    node = world.add(AvatarDriver, {'hri': True}, core=lambda _: FakeDriver())
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    world.wait(lambda: 'install ros-jazzy-hri-msgs' in ''.join(capfd.readouterr()), 'the sentence in the log')


def test_it_is_the_machine_with_the_camera_that_mirrors():
    with pytest.raises(ConfigError, match='source: camera'):
        check_config(DriverConfig(source='expression', hri=True))


@pytest.mark.skipif(not INSTALLED, reason='hri_msgs is not installed')
def test_real_messages_from_the_real_node(world):
    from hri_msgs.msg import FacialActionUnits, FacialLandmarks, IdsList, NormalizedRegionOfInterest2D

    core = FakeDriver(record('ann'))
    core.tracker.observe = lambda expression, size: observation()
    node = world.add(AvatarDriver, {'hri': True, 'render': False}, core=lambda _: core)
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    heard = [world.collect(kind, topic, qos.newest()) for kind, topic in (
        (IdsList, '/humans/faces/tracked'), (NormalizedRegionOfInterest2D, f'{FACE}/roi'), (FacialLandmarks, f'{FACE}/landmarks'),
        (FacialActionUnits, f'{FACE}/facs'))]
    camera = Camera(world)
    world.wait(lambda: camera.publisher.get_subscription_count() and all(
        p.get_subscription_count() for p in node._hri._publishers), 'discovery')
    stamp = camera.send(9)
    world.wait(lambda: all(heard), 'one of each')
    ids, _, landmarks, units = (messages[0] for messages in heard)
    assert ids.ids == ['operator'] and ids.header.stamp.sec * 10**9 + ids.header.stamp.nanosec == stamp
    assert (landmarks.height, landmarks.width) == (48, 64) and len(landmarks.landmarks) == 70 and len(units.intensity) == 99
    camera.send(0)
    world.wait(lambda: heard[0][-1].ids == [], 'the lost face')

"""Clocks that are set, stand still or are simulated: pictures, idling, statistics and lists go on."""

from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from driver_rig import LEVEL, Rig, jaw
from fake_core import FakeBuilder, record
from rclpy.lifecycle import TransitionCallbackReturn
from rosgraph_msgs.msg import Clock

from sega_ros.avatar.idle import FaceHold, IdleConfig, neutral_expression
from sega_ros.errors import ErrorCode
from sega_ros.msg import AvatarList
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.convert import stamp_to_ns
from sega_ros.srv import Calibrate

HOUR, FRAME = 3600 * 10**9, 33_000_000  # nanoseconds


@pytest.fixture
def rig(world):
    return Rig(world, record('ann'), parameters={'idle.hold': 0.1, 'idle.ease': 0.1}).ready()


def test_stamps_that_jump_are_driven(rig):
    now = rig.frame(1).header.stamp.sec * 10**9
    for k, stamp in enumerate([now - HOUR, now - HOUR + FRAME, now + HOUR, now, now - 1, FRAME, 0], 10):
        message = rig.frame(k, stamp_ns=stamp)
        assert jaw(message) == k and stamp_to_ns(message.header.stamp) == stamp


def test_stamps_of_another_clock_are_told(world, rig):
    now = rig.frame(1).header.stamp.sec * 10**9
    frames = iter(range(10**6))

    def told():
        rig.frame(1 + next(frames) % 200, stamp_ns=now - HOUR + FRAME * next(frames))
        return (r := world.reason(rig.node)) and 'behind this node' in r[1] and r

    level, words, _ = world.wait(told, 'the other clock')
    assert level == LEVEL['WARN'] and 'synchronise the clocks' in words


@pytest.mark.parametrize('jump', [-HOUR, HOUR])
def test_a_lost_face_eases_to_neutral_although_the_clock_is_set(world, rig, jump):
    rig.frame(200, stamp_ns=5 * HOUR)
    stamps = iter(range(5 * HOUR + jump, 6 * HOUR + jump, FRAME))
    assert jaw(rig.frame(0, stamp_ns=next(stamps))) == 200, 'held'
    assert jaw(rig.frame(0, stamp_ns=next(stamps))) > 0
    for _ in range(8):
        last = rig.frame(0, stamp_ns=next(stamps))
    assert jaw(last) == 0


@pytest.mark.parametrize('jump', [-HOUR, HOUR])
def test_how_long_a_face_is_lost_does_not_depend_on_the_clock(jump):
    """The same frames with and without a jump look the same, blinks included."""
    seen = replace(neutral_expression(3, 'open', '1', stamp_ns=HOUR * 9), face_present=True)
    seen = replace(seen, params=replace(seen.params, jaw_pose=np.float32([0.3, 0, 0])))
    plain, jumping = FaceHold(IdleConfig()), FaceHold(IdleConfig())
    plain.update(seen)
    jumping.update(seen)
    missing = replace(seen, face_present=False)
    for k in range(1, 400):
        stamp = seen.stamp_ns + k * FRAME
        a = plain.update(replace(missing, stamp_ns=stamp))
        b = jumping.update(replace(missing, stamp_ns=stamp + (jump if k > 5 else 0)))
        if k != 6:  # how much time passed in the jump itself, nobody knows
            np.testing.assert_allclose(a.params.jaw_pose, b.params.jaw_pose, atol=0.03)
    assert b.params.jaw_pose[0] == 0


def test_calibration_does_not_wait_for_stamps(world, rig):
    answer = world.call_async(Calibrate, '/avatar_driver/calibrate', Calibrate.Request(duration=0.5))
    world.wait(lambda: rig.node._input._calibration, 'start')
    stamps = iter(range(9 * HOUR, 0, -FRAME))  # a clock that runs backwards
    world.wait(lambda: (rig.frame(40, stamp_ns=next(stamps)), rig.node._input._calibration is None)[1], 'end')
    found = answer()
    assert found.success and found.error_code == ErrorCode.OK and found.frames > 1


def clock(world, publisher, seconds, *nodes):
    """Set the simulated time of all nodes."""
    world.wait(lambda: (publisher.publish(Clock(clock=Time(sec=seconds))), all(
        n.get_clock().now().nanoseconds == seconds * 10**9 for n in nodes))[1], 'the simulated time')


def test_simulated_time_that_stands_still_and_goes_back(world):
    rig = Rig(world, record('ann'), parameters={'use_sim_time': True})
    publisher = world.helper.create_publisher(Clock, '/clock', 10)
    rig.matched()
    rig.loaded()
    for seconds in (5000, 1000):
        clock(world, publisher, seconds, rig.node)
        for k in range(20):
            rig.frame(10 + k, stamp_ns=seconds * 10**9 + k)
        rig.node._diagnostics.publish()
        published = str(rig.node.statistics.report().published)
        _, _, values = world.wait(lambda n=published: (r := world.reason(rig.node)) and r[2]['published'] == n and r, 'figures')
        assert float(values['rate (Hz)']) > 1 and abs(float(values['latency p50 (ms)'])) < 1
    level, _, _ = world.wait(lambda: (r := world.reason(rig.node)) and 'nothing on' in r[1] and r, 'silence')
    assert level == LEVEL['ERROR']


def test_the_list_is_kept_while_simulated_time_stands_still(world):
    core = FakeBuilder()
    node = world.add(AvatarBuilder, {'use_sim_time': True}, core=lambda _: core)
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    lists = world.collect(AvatarList, 'avatars', qos.latched())
    core.records['eve'] = record('eve')
    world.wait(lambda: lists and [a.id for a in lists[-1].avatars] == ['eve'], 'the list')

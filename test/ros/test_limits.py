"""Limits that an operator sets: each holds, says so, and a request within it works."""

from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from fake_core import FakeBuilder, FakeDriver, record
from rclpy.lifecycle import TransitionCallbackReturn
from ros_support import Camera

from sega_ros.avatar.receive import IncomingAvatar
from sega_ros.avatar.store import AvatarStore, StoreLimit
from sega_ros.errors import CancelledError, ErrorCode, StorageError
from sega_ros.msg import FlameExpression
from sega_ros.nodes import limits, qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.convert import rgb_to_image_message, rgb_to_jpeg_message
from sega_ros.nodes.limits import BuilderLimits, DriverLimits, RateLimit, store_limit, within
from sega_ros.srv import CreateAvatar


def active(world, kind, parameters, core):
    node = world.add(kind, parameters, core=lambda _: core)
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


@pytest.mark.parametrize('limit', [StoreLimit(avatars=2), StoreLimit(size=10_000_000)])
def test_a_full_store_takes_no_more(tmp_path, plain_avatar, limit):
    size = AvatarStore(tmp_path / 'measure').save('ann', plain_avatar).size
    if limit.size is not None:
        limit = replace(limit, size=2 * size + 100)
    store = AvatarStore(tmp_path / 'store', limit)
    store.save('ann', plain_avatar)
    store.save('bob', plain_avatar)
    for refused in (lambda: store.save('eve', plain_avatar), lambda: IncomingAvatar(store, 'eve', size=size, sha256='0' * 64)):
        with pytest.raises(StorageError, match=r'holds 2 avatars of \d+ bytes; with eve .*delete some, or raise the limit'):
            refused()
    store.save('bob', plain_avatar, replace=True)
    assert IncomingAvatar(store, 'bob', size=size, sha256='0' * 64).received == 0
    store.delete('ann')
    store.save('eve', plain_avatar)


def test_the_store_is_checked_before_the_work(tmp_path, plain_avatar):
    store = AvatarStore(tmp_path, StoreLimit(avatars=1))
    store.save('ann', plain_avatar)
    store.check_free('ann', replace=True)
    with pytest.raises(StorageError, match='raise the limit'):
        store.check_free('bob')


def test_limits_reach_the_store():
    assert store_limit(BuilderLimits(avatars=3, store=20)) == StoreLimit(3, 20_000_000)
    assert store_limit(DriverLimits(avatars=4)) == StoreLimit(4, 4_000_000_000)


@pytest.mark.parametrize('compressed', [False, True])
def test_photos_over_the_limit_are_refused(world, compressed):
    core = FakeBuilder()
    node = active(world, AvatarBuilder, {'limits.photo_pixels': 4096}, core)
    for size, wanted in (((64, 65), ErrorCode.BAD_IMAGE), ((64, 64), ErrorCode.OK)):
        make = rgb_to_jpeg_message if compressed else rgb_to_image_message
        photo = make(np.full((*size, 3), 7, np.uint8), stamp=Time(), frame_id='')
        asked = CreateAvatar.Request(avatar_id='ann', **{'compressed_image' if compressed else 'image': photo})
        answer = world.call(CreateAvatar, 'create_avatar', asked)
        assert answer.error_code == wanted, answer.message
        assert wanted == ErrorCode.OK or '0.004096 million px' in answer.message
    assert core.calls == 1 and node.active


def test_a_creation_that_takes_too_long_is_given_up(world, monkeypatch):
    core = FakeBuilder()
    active(world, AvatarBuilder, {'limits.creation_time': 1.0}, core)
    photo = rgb_to_image_message(np.full((8, 8, 3), 7, np.uint8), stamp=Time(), frame_id='')
    core.gate.clear()
    answer = world.call(CreateAvatar, 'create_avatar', CreateAvatar.Request(avatar_id='ann', image=photo))
    assert answer.error_code == ErrorCode.CANCELLED and 'limits.creation_time' in answer.message
    core.gate.set()
    assert world.call(CreateAvatar, 'create_avatar', CreateAvatar.Request(avatar_id='ann', image=photo)).success


def test_time_is_counted_from_the_start(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(limits.time, 'monotonic', lambda: now[0])
    check = within(5.0, lambda: False)
    now[0] = 105.0
    assert check() is False and within(5.0, lambda: True)() is True
    now[0] = 105.1
    with pytest.raises(CancelledError, match='took longer than limits.creation_time, 5 s'):
        check()


def test_a_rate_lets_bursts_pass_but_no_flood(monkeypatch):
    now, rate = [0.0], RateLimit()
    monkeypatch.setattr(limits.time, 'monotonic', lambda: now[0])
    passed = []
    for k in range(10_000):  # ten seconds at 1000 Hz, of which 100 Hz are wanted
        now[0] = k / 1000
        passed.append(rate.passes(100.0))
    assert 1000 <= sum(passed) <= 1050 + 1
    now[0] += 10
    assert sum(rate.passes(100.0) for _ in range(100)) == 50, 'half a second of messages at once'
    steady = RateLimit()
    for k in range(500):
        now[0] += 0.01
        assert steady.passes(100.001), 'a stream at its rate loses nothing'


def test_a_flood_is_dropped_and_the_next_message_is_drawn(world):
    core = FakeDriver(record('ann'))
    node = active(world, AvatarDriver, {'source': 'expression', 'limits.rate': 1.0}, core)
    publisher = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
    world.wait(publisher.get_subscription_count, 'the connection')
    report = lambda: node.statistics.report()  # noqa: E731
    message = FlameExpression(head_model='fake', head_model_version='1', expression=[0.0] * 5, focal_length=1.5)
    world.wait(lambda: publisher.publish(message) or report().dropped > 20, 'dropped messages')
    assert report().refused == 0
    before = report().unwanted  # nobody subscribes: what is looked at counts as such
    world.wait(lambda: publisher.publish(message) or report().unwanted > before, 'one that is looked at')


def test_camera_images_over_the_limit_are_refused(world):
    core = FakeDriver(record('ann'))
    node = active(world, AvatarDriver, {'limits.image_pixels': 4096}, core)
    expressions = world.collect(FlameExpression, 'expression', qos.expression())
    large, small = Camera(world, size=(65, 64)), Camera(world, size=(64, 64))
    world.wait(lambda: node._outputs.expressions_wanted, 'the connection')
    world.wait(lambda: large.send(9) and '0.004096 million px' in node._frame_problem, 'the refusal')
    assert not expressions
    world.wait(lambda: small.send(9) and expressions, 'a smaller one')

"""Creations with the real core are cancelled at any stage within a second, and only one runs at a time."""

import random
import threading
import time

import pytest
from action_msgs.msg import GoalStatus
from rclpy.lifecycle import TransitionCallbackReturn
from ros_support import World

from sega_ros.action import CreateAvatar as CreateAvatarAction
from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import ErrorCode
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message
from sega_ros.srv import CreateAvatar

STANDARD = 1
LIMIT = 3 * 1.0  # seconds from the cancellation to the result: one, and others may compute on the machine that tests
STAGES = ('detect', 'fit', 'unwrap', 'personalise', 'bake')


@pytest.fixture(scope='module')
def builder(tmp_path_factory):
    """A world with an active builder, and where it stores."""
    directory = tmp_path_factory.mktemp('avatars')
    with World() as world:
        node = world.add(AvatarBuilder, {'avatar_dir': str(directory)})
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        yield world, directory


@pytest.fixture(autouse=True)
def nothing_left(builder):
    """What one test stores is not in the way of the next."""
    yield
    for path in stored(builder[1]):
        path.unlink()


@pytest.fixture
def portrait(astronaut):
    return rgb_to_image_message(astronaut, stamp=ns_to_stamp(0), frame_id='')


def start(world, portrait, avatar_id='ann'):
    stages = []
    handle = world.send_goal(CreateAvatarAction, 'create_avatar', CreateAvatarAction.Goal(
        image=portrait, avatar_id=avatar_id, quality=STANDARD), lambda m: stages.append(m.feedback.stage))
    return handle, handle.get_result_async(), stages


def stored(directory):
    """Avatars and what interrupted saves left."""
    return [*directory.glob('*.safetensors'), *directory.glob('.tmp-*')]


def cancelled(world, directory, handle, result, *, may_be_late=False):
    """Cancel, and return how many seconds the result took."""
    before = time.monotonic()
    handle.cancel_goal_async()
    world.wait(result.done, 'the result')
    took = time.monotonic() - before
    if may_be_late and result.result().status == GoalStatus.STATUS_SUCCEEDED:
        assert [p.name for p in stored(directory)] == ['ann.safetensors'] and AvatarStore(directory).load('ann')
        return took
    assert result.result().status == GoalStatus.STATUS_CANCELED
    assert result.result().result.error_code == ErrorCode.CANCELLED
    assert not stored(directory), 'something was stored'
    return took


@pytest.mark.parametrize('stage', ['', *STAGES])
def test_cancelled_at_any_stage(builder, portrait, stage):
    """At a random moment of each stage; without one, before the process that creates is ready."""
    world, directory = builder
    handle, result, stages = start(world, portrait)
    if stage:
        world.wait(lambda: stage in stages, f'stage {stage}', 120)
        threading.Event().wait(random.Random(stage).uniform(0, 0.5 if stage != STAGES[-1] else 0.02))  # the random moment itself
    # The last stage lasts some hundredths of a second: the blow may come too late, and then finds a whole avatar.
    assert cancelled(world, directory, handle, result, may_be_late=stage == STAGES[-1]) < LIMIT


def test_deactivation_cancels(builder, portrait):
    world, directory = builder
    node = world._nodes[-1]
    _, result, stages = start(world, portrait)
    world.wait(lambda: 'fit' in stages, 'stage fit', 120)
    before = time.monotonic()
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert time.monotonic() - before < LIMIT
    world.wait(result.done, 'the result')
    assert result.result().result.error_code == ErrorCode.CANCELLED and not stored(directory)
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS


def test_a_second_request_is_refused(builder, portrait):
    world, directory = builder
    handle, result, stages = start(world, portrait)
    world.wait(lambda: 'detect' in stages, 'the first one', 120)
    _, second, _ = start(world, portrait, 'bob')
    world.wait(second.done, 'the refusal')
    assert second.result().status == GoalStatus.STATUS_ABORTED
    assert second.result().result.error_code == ErrorCode.BUSY and "'ann'" in second.result().result.message
    answer = world.call(CreateAvatar, 'create_avatar', CreateAvatar.Request(image=portrait, avatar_id='bob'))
    assert answer.error_code == ErrorCode.BUSY
    assert cancelled(world, directory, handle, result) < LIMIT
    handle, result, stages = start(world, portrait)  # the way is free at once
    world.wait(lambda: 'detect' in stages or result.done(), 'the next one', 120)
    assert not result.done()
    assert cancelled(world, directory, handle, result) < LIMIT


def test_a_process_that_dies_is_told_and_replaced(builder, portrait):
    world, directory = builder
    workshop = world._nodes[-1]._core._workshop
    _, result, stages = start(world, portrait)
    world.wait(lambda: 'detect' in stages, 'the creation', 120)
    workshop.current.kill()
    world.wait(result.done, 'the result')
    found = result.result().result
    assert found.error_code == ErrorCode.INTERNAL and 'SIGKILL (out of memory?)' in found.message
    handle, result, stages = start(world, portrait)
    world.wait(lambda: 'detect' in stages, 'the next one', 120)
    assert cancelled(world, directory, handle, result) < LIMIT


def test_one_process_waits_and_none_is_left(builder):
    world, _ = builder
    node = world._nodes[-1]
    workshop = node._core._workshop
    waiting = workshop._spare.process
    assert waiting.poll() is None
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert workshop._spare is None
    world.wait(lambda: waiting.poll() is not None, 'its end')
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS

"""avatar_builder on a small core: services, action, list, states."""

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Time
from fake_core import FakeBuilder, record
from rclpy.lifecycle import TransitionCallbackReturn

from sega_ros.action import CreateAvatar as CreateAvatarAction
from sega_ros.errors import ErrorCode, NoFaceError, StorageError
from sega_ros.msg import AvatarList
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.convert import rgb_to_image_message, rgb_to_jpeg_message
from sega_ros.srv import CreateAvatar, DeleteAvatar, GetAvatar, ListAvatars

STAMP = Time()


def photo(value=7):
    return rgb_to_image_message(np.full((8, 10, 3), value, np.uint8), stamp=STAMP, frame_id='')


def request(avatar_id='ann', value=7, **fields):
    return CreateAvatar.Request(image=photo(value), avatar_id=avatar_id, **fields)


@pytest.fixture
def core():
    return FakeBuilder()


@pytest.fixture
def node(world, core):
    made = world.add(AvatarBuilder, core=lambda _: core)
    assert made.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert made.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return made


def test_create_answers_when_stored(world, core, node):
    answer = world.call(CreateAvatar, 'create_avatar', request(consent='my photo', quality=2))
    assert answer.success and answer.error_code == ErrorCode.OK
    assert (answer.avatar.id, answer.avatar.quality, answer.avatar.consent) == ('ann', 'high', 'my photo')
    assert answer.warnings == ['2 faces found: the largest is used']
    assert 'ann' in core.records


def test_create_from_a_compressed_image(world, node):
    jpeg = rgb_to_jpeg_message(np.full((8, 10, 3), 200, np.uint8), stamp=STAMP, frame_id='')
    asked = CreateAvatar.Request(compressed_image=jpeg, avatar_id='ann')
    answer = world.call(CreateAvatar, 'create_avatar', asked)
    assert answer.success, answer.message
    assert answer.avatar.consent == 'not stated'


@pytest.mark.parametrize(('asked', 'code', 'match'), [
    (request(value=0), ErrorCode.NO_FACE, 'no face'),
    (request('a/b'), ErrorCode.BAD_AVATAR_ID, 'a/b'),
    (request('..'), ErrorCode.BAD_AVATAR_ID, 'letters'),
    (request('x' * 65), ErrorCode.BAD_AVATAR_ID, '65'),
    (request(''), ErrorCode.BAD_AVATAR_ID, '0'),
    (request(quality=3), ErrorCode.BAD_REQUEST, 'quality: found 3'),
    (request(consent='x' * 300), ErrorCode.BAD_REQUEST, 'consent: found 300'),
    (CreateAvatar.Request(avatar_id='ann'), ErrorCode.BAD_IMAGE, 'empty'),
    (CreateAvatar.Request(avatar_id='ann', image=photo(), compressed_image=rgb_to_jpeg_message(
        np.zeros((4, 4, 3), np.uint8), stamp=STAMP, frame_id='')), ErrorCode.BAD_IMAGE, 'exactly one'),
])
def test_refusals(world, node, asked, code, match):
    answer = world.call(CreateAvatar, 'create_avatar', asked)
    assert not answer.success
    assert answer.error_code == code
    assert match in answer.message


def test_taken_id(world, node):
    assert world.call(CreateAvatar, 'create_avatar', request()).success
    assert world.call(CreateAvatar, 'create_avatar', request()).error_code == ErrorCode.AVATAR_EXISTS
    assert world.call(CreateAvatar, 'create_avatar', request(replace=True)).success


def test_an_unexpected_error_is_answered(world, core, node):
    core.fail = ZeroDivisionError('oops')
    answer = world.call(CreateAvatar, 'create_avatar', request())
    assert answer.error_code == ErrorCode.INTERNAL and 'ZeroDivisionError: oops' in answer.message
    core.fail = None
    assert world.call(CreateAvatar, 'create_avatar', request()).success


def test_disk_full(world, core, node):
    core.fail = StorageError('no space left on device')
    assert world.call(CreateAvatar, 'create_avatar', request()).error_code == ErrorCode.STORAGE
    assert world.call(ListAvatars, 'list_avatars', ListAvatars.Request()).error_code == ErrorCode.STORAGE


def test_one_job_at_a_time(world, core, node):
    core.gate.clear()
    first = world.call_async(CreateAvatar, 'create_avatar', request('ann'))
    world.wait(core.started.is_set, 'the first job')
    second = world.call(CreateAvatar, 'create_avatar', request('bob'))
    assert second.error_code == ErrorCode.BUSY and 'ann' in second.message
    core.gate.set()
    assert first().success
    assert sorted(core.records) == ['ann']


def test_action_reports_progress(world, node):
    feedback = []
    handle = world.send_goal(CreateAvatarAction, 'create_avatar', CreateAvatarAction.Goal(
        image=photo(), avatar_id='ann'), lambda message: feedback.append(message.feedback))
    future = handle.get_result_async()
    world.wait(future.done, 'result')
    assert future.result().status == GoalStatus.STATUS_SUCCEEDED
    assert future.result().result.avatar.id == 'ann'
    world.wait(lambda: len(feedback) == 3, 'feedback')
    assert [f.stage for f in feedback] == ['fit', 'optimise', 'store']
    assert feedback[1].progress == pytest.approx(0.6)
    assert bytes(feedback[0].preview.data[:2]) == b'\xff\xd8' and len(feedback[2].preview.data) == 0


def test_action_cancel(world, core, node):
    core.gate.clear()
    handle = world.send_goal(CreateAvatarAction, 'create_avatar', CreateAvatarAction.Goal(
        image=photo(), avatar_id='ann'))
    world.wait(core.started.is_set, 'the job')
    future = handle.get_result_async()
    handle.cancel_goal_async()
    world.wait(future.done, 'result')
    assert future.result().status == GoalStatus.STATUS_CANCELED
    assert future.result().result.error_code == ErrorCode.CANCELLED
    assert not core.records
    core.gate.set()
    assert world.call(CreateAvatar, 'create_avatar', request()).success


def test_deactivation_cancels_and_services_say_so(world, core, node):
    core.gate.clear()
    running = world.call_async(CreateAvatar, 'create_avatar', request())
    world.wait(core.started.is_set, 'the job')
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert running().error_code == ErrorCode.CANCELLED
    for kind, name in ((CreateAvatar, 'create_avatar'), (ListAvatars, 'list_avatars'), (DeleteAvatar, 'delete_avatar'),
                       (GetAvatar, 'get_avatar')):
        answer = world.call(kind, name, kind.Request())
        assert answer.error_code == ErrorCode.NOT_ACTIVE and 'activate' in answer.message
    assert world.reason(node) is None or world.wait(lambda: world.reason(node)[1] == 'not active', 'diagnostics')


def test_states_can_be_repeated(world, node):
    for _ in range(2):
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert world.call(CreateAvatar, 'create_avatar', request()).success


def test_list_is_latched_and_follows_changes(world, core, node):
    assert world.call(CreateAvatar, 'create_avatar', request('bob')).success
    lists = world.collect(AvatarList, 'avatars', qos.latched())
    world.wait(lambda: lists and [a.id for a in lists[-1].avatars] == ['bob'], 'the list for a late subscriber')
    assert world.call(CreateAvatar, 'create_avatar', request('ann')).success
    world.wait(lambda: [a.id for a in lists[-1].avatars] == ['ann', 'bob'], 'the list after a creation')
    assert world.call(DeleteAvatar, 'delete_avatar', DeleteAvatar.Request(avatar_id='bob')).success
    world.wait(lambda: [a.id for a in lists[-1].avatars] == ['ann'], 'the list after a deletion')
    core.records['eve'] = record('eve')  # another program stores one
    world.wait(lambda: [a.id for a in lists[-1].avatars] == ['ann', 'eve'], 'the list after a change on disk')
    answer = world.call(ListAvatars, 'list_avatars', ListAvatars.Request())
    assert [a.id for a in answer.avatars] == ['ann', 'eve']


def test_delete_of_a_missing_avatar(world, node):
    answer = world.call(DeleteAvatar, 'delete_avatar', DeleteAvatar.Request(avatar_id='ann'))
    assert answer.error_code == ErrorCode.AVATAR_NOT_FOUND


def test_get_avatar_in_parts(world, node):
    assert world.call(CreateAvatar, 'create_avatar', request()).success
    data = b''
    while True:
        part = world.call(GetAvatar, 'get_avatar', GetAvatar.Request(avatar_id='ann', offset=len(data), length=300))
        assert part.success
        data += bytes(part.data)
        if len(data) == part.total_size:
            break
    assert data == bytes(range(250)) * 4


def test_damaged_files_are_told(world, core, node):
    core.bad = ['eve: truncated']
    world.wait(lambda: (found := world.reason(node)) and 'eve: truncated' in found[1], 'diagnostics')


def test_photo_parameter_creates_on_activation(world, core):
    node = world.add(AvatarBuilder, {'photo': 'me.jpg', 'avatar_id': 'me', 'consent': 'mine'}, core=lambda _: core)
    node.trigger_configure()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: 'me' in core.records, 'the avatar')
    assert core.records['me'].consent == 'mine'
    node.trigger_deactivate()
    node.trigger_activate()
    assert world.call(CreateAvatar, 'create_avatar', request('other')).success
    assert core.calls == 2, 'a stored avatar is kept'


def test_a_photo_parameter_that_is_no_good_is_told(world, core):
    core.fail = NoFaceError('no face found')
    node = world.add(AvatarBuilder, {'photo': 'me.jpg'}, core=lambda _: core)
    node.trigger_configure()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    found = world.wait(lambda: (r := world.reason(node)) and 'no avatar of the photo: no face found' in r[1] and r, 'diagnostics')
    assert found[0] == 2
    core.fail = None
    assert world.call(CreateAvatar, 'create_avatar', request()).success
    world.wait(lambda: world.reason(node)[1] == 'ready', 'better health')


def test_a_goal_beside_a_running_job_is_refused(world, core, node):
    core.gate.clear()
    first = world.call_async(CreateAvatar, 'create_avatar', request('ann'))
    world.wait(core.started.is_set, 'the first job')
    handle = world.send_goal(CreateAvatarAction, 'create_avatar', CreateAvatarAction.Goal(image=photo(), avatar_id='bob'))
    future = handle.get_result_async()
    world.wait(future.done, 'result')
    assert future.result().status == GoalStatus.STATUS_ABORTED
    assert future.result().result.error_code == ErrorCode.BUSY and 'cancel it' in future.result().result.message
    core.gate.set()
    assert first().success


def test_configure_fails_with_a_reason(world):
    def broken(_):
        raise StorageError('no such directory')
    node = world.add(AvatarBuilder, core=broken)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node._state_machine.current_state[1] == 'unconfigured'


def test_unknown_parameter_is_refused(world, core):
    node = world.add(AvatarBuilder, {'qualty': 'high'}, core=lambda _: core)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE

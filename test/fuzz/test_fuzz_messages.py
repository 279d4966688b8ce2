"""Every field of every message and request that the nodes take in, filled with anything."""

import array

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from fuzz_support import FUZZ, SLOW, examples
from hostile import NUMBERS, TEXTS, check_error, edits, only_writes_in
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message

from sega_ros.action import CreateAvatar as CreateAction
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.idle import IdleConfig, idle_expression
from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import ErrorCode, HeadModelMismatchError, RequestError, SegaError
from sega_ros.io.expression_fields import message_to_expression
from sega_ros.msg import AvatarInfo, AvatarList, FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_driver import AvatarDriver as DriverNode
from sega_ros.nodes.avatar_driver import make_core
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message, rgb_to_jpeg_message, stamp_to_ns
from sega_ros.nodes.expressions import expression_to_message
from sega_ros.nodes.sega_core import SegaBuilder, stored_record
from sega_ros.srv import Calibrate, CreateAvatar, DeleteAvatar, GetAvatar, ListAvatars, SelectAvatar

STAMPS = st.builds(Time, sec=st.sampled_from([-2**31, -1, 0, 1, 1_700_000_000, 2**31 - 1]),
                   nanosec=st.sampled_from([0, 1, 999_999_999, 10**9, 2**32 - 1]))
FLOATS = NUMBERS.map(float).map(np.float32).map(float)


def bounded(text, most):
    """A text as a message carries it: UTF-8 without zero bytes, cut."""
    return text.encode('utf-8', 'replace').replace(b'\0', b'?')[:most].decode('utf-8', 'ignore')


IDS = TEXTS.map(lambda t: bounded(t, 255))


@st.composite
def images(draw):
    """A valid image message of which some fields are changed."""
    from sensor_msgs.msg import Image

    message = rgb_to_image_message(np.full((6, 8, 3), 9, np.uint8), stamp=draw(STAMPS), frame_id=bounded(draw(TEXTS), 300))
    for name in draw(st.lists(st.sampled_from(['height', 'width', 'step', 'encoding', 'data', 'is_bigendian']), max_size=3)):
        value = {'encoding': st.sampled_from(['rgb8', 'bgr8', 'mono8', 'yuv422', 'rgba8', '16UC1', '', 'x' * 300, 'RGB8\n']),
                 'data': st.sampled_from([0, 1, 143, 145, 10_000]).map(lambda n: array.array('B', bytes(n))),
                 'is_bigendian': st.integers(0, 255)}.get(name, st.sampled_from([0, 1, 5, 8, 24, 16384, 65535, 2**31, 2**32 - 1]))
        setattr(message, name, draw(value))
    assert isinstance(message, Image)
    return message


@st.composite
def expressions(draw):
    """A valid expression message of which some fields are changed."""
    message = FlameExpression(head_model='open', focal_length=1.5, expression=[0.1] * 39)
    message.head_pose.orientation.x, message.head_pose.position.z = 1.0, 0.7
    message.head_pose.orientation.w = 0.0
    changes = {
        'stamp': lambda: setattr(message.header, 'stamp', draw(STAMPS)),
        'frame_id': lambda: setattr(message.header, 'frame_id', bounded(draw(TEXTS), 300)),
        'head_model': lambda: setattr(message, 'head_model', bounded(draw(TEXTS), 32)),
        'head_model_version': lambda: setattr(message, 'head_model_version', bounded(draw(TEXTS), 16)),
        'confidence': lambda: setattr(message, 'confidence', draw(FLOATS)),
        'focal_length': lambda: setattr(message, 'focal_length', draw(FLOATS)),
        'expression': lambda: setattr(message, 'expression', [draw(FLOATS)] * draw(st.integers(0, 100))),
        'joints': lambda: setattr(message, draw(st.sampled_from(['neck_pose', 'jaw_pose', 'left_eye_pose', 'right_eye_pose'])), [
            draw(FLOATS), 0.0, draw(FLOATS)]),
        'eyelids': lambda: setattr(message, 'eyelids', [draw(FLOATS), draw(FLOATS)]),
        'position': lambda: setattr(message.head_pose.position, 'x', draw(NUMBERS.map(float))),
        'turn': lambda: setattr(message.head_pose.orientation, 'y', draw(NUMBERS.map(float)))}
    for name in draw(st.lists(st.sampled_from(sorted(changes)), min_size=1, max_size=3, unique=True)):
        changes[name]()
    return message


class PaintingBuilder(SegaBuilder):
    """The real core, but every picture becomes the same avatar: creation itself is tested elsewhere."""

    def __init__(self, directory, avatar):
        self.store, self.avatar = AvatarStore(directory), avatar

    def open(self):
        """Nothing is created in another process."""

    close = open

    def create(self, image, avatar_id, *, quality, consent, replace, progress, cancelled, **options):
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        progress('fit', 0.5, image)
        return stored_record(self.store, self.store.save(avatar_id, self.avatar, replace=replace)), ('a warning',)


@pytest.fixture(scope='module')
def world():
    from ros_support import World

    with World() as made:
        yield made


@pytest.fixture(scope='module')
def builder(world, tmp_path_factory, plain_avatar):
    folder = tmp_path_factory.mktemp('fuzz_builder')
    core = PaintingBuilder(folder / 'avatars', plain_avatar)
    node = world.add(AvatarBuilder, {'avatar_dir': str(folder / 'avatars')}, core=lambda _: core)
    node.trigger_configure(), node.trigger_activate()
    node.folder = folder
    return node


def ask(node, callback, kind, **fields):
    """Answer a request as the executor does, and check the answer: bounded, serialisable, with a code and a remedy."""
    request = deserialize_message(serialize_message(kind.Request(**fields)), kind.Request)
    with only_writes_in(node.folder):
        answer = callback(request, kind.Response())
    answer = deserialize_message(serialize_message(answer), kind.Response)
    assert answer.success == (answer.error_code == ErrorCode.OK)
    if not answer.success:
        error = SegaError(answer.message)
        error.code = ErrorCode(answer.error_code)
        check_error(error)
    return answer


def still_works(node):
    photo = rgb_to_image_message(np.full((6, 8, 3), 9, np.uint8), stamp=Time(), frame_id='')
    assert ask(node, node.on_create, CreateAvatar, image=photo, avatar_id='good', replace=True).success
    assert 'good' in [a.id for a in ask(node, node.on_list, ListAvatars).avatars]


@FUZZ
@given(image=images(), compressed=st.one_of(st.none(), edits()), avatar_id=IDS, quality=st.integers(0, 255),
       consent=TEXTS.map(lambda t: bounded(t, 1024)), replace=st.booleans())
def test_requests_to_create(builder, image, compressed, avatar_id, quality, consent, replace):
    fields = {'avatar_id': avatar_id, 'quality': quality, 'consent': consent, 'replace': replace, 'image': image}
    if compressed is not None:
        jpeg = rgb_to_jpeg_message(np.full((6, 8, 3), 9, np.uint8), stamp=Time(), frame_id='')
        jpeg.data = array.array('B', compressed(bytes(jpeg.data)))
        fields['compressed_image'] = jpeg
        del fields['image']
    ask(builder, builder.on_create, CreateAvatar, **fields)
    still_works(builder)


@FUZZ
@given(avatar_id=IDS, offset=st.sampled_from([0, 1, 1000, 2**31, 2**63, 2**64 - 1]),
       length=st.sampled_from([0, 1, 262_144, 262_145, 2**32 - 1]))
def test_requests_to_read_and_delete(builder, avatar_id, offset, length):
    for name in (avatar_id, 'good'):
        ask(builder, builder.on_get, GetAvatar, avatar_id=name, offset=offset, length=length)
    if avatar_id != 'good':
        ask(builder, builder.on_delete, DeleteAvatar, avatar_id=avatar_id)
    still_works(builder)


@examples(5)
@given(image=images(), avatar_id=IDS)
def test_goals_of_the_action(world, builder, image, avatar_id):
    handle = world.send_goal(CreateAction, 'create_avatar', CreateAction.Goal(image=image, avatar_id=avatar_id, replace=True))
    future = handle.get_result_async()
    world.wait(future.done, 'result')
    result = future.result().result
    assert result.success == (result.error_code == ErrorCode.OK) and result.error_code != ErrorCode.INTERNAL, result.message
    still_works(builder)


# --- expressions ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def drawn(head, whole_avatar):
    return AvatarDriver(whole_avatar, head)


@FUZZ
@given(message=expressions(), kind=st.sampled_from(['frontal', 'follow', 'input', 'free']),
       later=st.sampled_from([0, 10**8, 10**12, 2**62]))
def test_expressions_are_drawn_or_refused(head, drawn, message, kind, later):
    message.head_model_version = message.head_model_version or head.version
    received = deserialize_message(serialize_message(message), FlameExpression)
    try:
        expression = message_to_expression(received)
        idle = idle_expression(expression, expression.stamp_ns + later, IdleConfig())
        for value in (expression, message_to_expression(expression_to_message(idle))):
            picture = drawn.render(value, View(kind, size=(24, 32)))
            assert picture.shape == (24, 32, 3)
    except SegaError as error:
        check_error(error)
    picture = drawn.render(drawn.neutral(), View(size=(24, 32)))
    assert np.ptp(picture) > 20


@pytest.mark.parametrize(('field', 'value'), [
    ('expression', [1e20] * 51), ('jaw_pose', [1e30, 0.0, 0.0]), ('eyelids', [3e38, 0.0]), ('focal_length', 0.0),
    ('focal_length', -1.0)])
def test_what_no_face_does_is_refused(field, value):
    message = FlameExpression(head_model='open', focal_length=1.5)
    setattr(message, field, value)
    with pytest.raises(RequestError, match='expression message: .*wanted'):
        message_to_expression(message)


@FUZZ
@given(stamp=STAMPS)
def test_stamps_stay_what_a_message_can_hold(stamp):
    again = ns_to_stamp(stamp_to_ns(stamp) + 10**15)
    assert -2**31 <= again.sec < 2**31 and again.nanosec < 10**9


# --- the driver's node --------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def robot(world, tmp_path_factory, plain_avatar):
    """A driver that draws, with the real core."""
    folder = tmp_path_factory.mktemp('fuzz_driver')
    AvatarStore(folder / 'avatars').save('good', plain_avatar)
    node = world.add(DriverNode, {'source': 'expression', 'avatar_dir': str(folder / 'avatars'), 'avatar_id': 'good', 'width': 32,
                                  'height': 24}, core=make_core)
    node.trigger_configure(), node.trigger_activate()
    world.wait(lambda: node.puppet, 'the avatar', 60)
    node.folder = folder
    return node


@FUZZ
@given(avatar_id=IDS, duration=FLOATS)
def test_requests_to_the_driver(robot, avatar_id, duration):
    ask(robot, robot.on_select, SelectAvatar, avatar_id=avatar_id)
    ask(robot, robot.on_calibrate, Calibrate, duration=duration)
    assert ask(robot, robot.on_select, SelectAvatar, avatar_id='good').success


@SLOW
@given(damage=edits(), which=st.sampled_from(['expression', 'avatars']))
def test_malformed_messages(world, robot, senders, damage, which):
    """Serialised messages with damaged bytes, as no ROS program sends them: the node goes on with the next good one."""
    publisher, good = senders[which]
    publisher.publish(damage(good, start=4))
    assert all(t.is_alive() for t in world._threads)


@SLOW
@given(infos=st.lists(st.builds(
    AvatarInfo, id=IDS.map(lambda t: bounded(t, 64)), created=STAMPS, head_model=st.sampled_from(['open', 'flame', '\n']),
    size_bytes=st.sampled_from([0, 1, 16_000_001, 2**64 - 1]), sha256=st.sampled_from(['', '0' * 64, '../' * 21, 'G' * 64]),
    photo_psnr=FLOATS, splats=st.just(2**32 - 1)), max_size=4))
def test_lists_of_nonsense(world, robot, senders, infos):
    with only_writes_in(robot.folder):
        robot._avatars.on_avatars(AvatarList(avatars=infos))
    assert robot.puppet.record.avatar_id == 'good' and all(t.is_alive() for t in world._threads)


@pytest.fixture(scope='module')
def senders(world, robot):
    message = FlameExpression(head_model='open', focal_length=1.5, expression=[0.1] * 39)
    expression = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
    avatars = world.helper.create_publisher(AvatarList, 'avatars', qos.latched())
    world.wait(lambda: expression.get_subscription_count() and avatars.get_subscription_count(), 'connections')
    listed = AvatarList(avatars=[AvatarInfo(id='ann', head_model='open', sha256='0' * 64, size_bytes=5)])
    return {'expression': (expression, serialize_message(message)), 'avatars': (avatars, serialize_message(listed))}


def test_a_good_expression_is_drawn_after_all_that(world, robot, senders, head, drawn):
    from sensor_msgs.msg import Image

    pictures = world.collect(Image, 'avatar/image', qos.newest())
    world.wait(lambda: robot._outputs.images_wanted, 'the connection')
    message = expression_to_message(drawn.neutral())
    before = len(pictures)
    world.wait(lambda: senders['expression'][0].publish(message) or len(pictures) > before, 'a picture', 60)


def test_an_expression_that_came_before_the_avatar_is_forgotten(world, tmp_path):
    """It can't be drawn with the avatar that came later, and must not be tried thirty times a second."""
    from fake_core import FakeDriver, record

    core, failures = FakeDriver(), []
    node = world.add(DriverNode, {'source': 'expression'}, core=lambda _: core, cli_args=['--ros-args', '-r', '__node:=late',
                                                                                       '-r', '__ns:=/late'])
    node.trigger_configure(), node.trigger_activate()
    node._input._failed = failures.append
    message = FlameExpression(head_model='other', focal_length=1.5, expression=[0.0] * 3)
    node._input._on_expression(message)
    core.records['ann'] = record('ann')
    node._avatars.select('ann')
    world.wait(lambda: failures, 'the refusal')
    assert isinstance(failures[0], HeadModelMismatchError)
    assert node._input._last is None

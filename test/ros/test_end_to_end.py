"""The real core behind the real nodes: bad input, a small avatar, driving by camera and by messages, sudden death."""

import os
import resource
import signal
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.serialization import deserialize_message, serialize_message
from ros_support import Camera
from sensor_msgs.msg import CompressedImage, Image

from sega_ros.action import CreateAvatar as CreateAvatarAction
from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import ErrorCode
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder, BuilderConfig, make_core
from sega_ros.nodes.avatar_driver import AvatarDriver, DriverConfig
from sega_ros.nodes.avatar_driver import make_core as make_driver_core
from sega_ros.nodes.convert import image_message_to_rgb, ns_to_stamp, rgb_to_image_message, stamp_to_ns
from sega_ros.srv import CreateAvatar, DeleteAvatar, GetAvatar, ListAvatars, SelectAvatar

ROOT = Path(__file__).resolve().parent.parent.parent
STAMP = ns_to_stamp(0)
CREATION = 200.0  # seconds; generous, a preview takes a few


def portrait():
    """Return the bundled public-domain portrait, uint8 RGB [512, 512, 3]."""
    from skimage import data

    return data.astronaut()


def as_message(image):
    return rgb_to_image_message(image, stamp=STAMP, frame_id='')


def png(image):
    return CompressedImage(data=cv2.imencode('.png', image[..., ::-1])[1].tobytes())


def huge_png():
    """Return a PNG of 100 bytes whose header claims 20,000 x 20,000 px."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    header = struct.pack('>IIBBBBB', 20000, 20000, 8, 2, 0, 0, 0)
    return CompressedImage(data=b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'\0')))


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp('avatars')


@pytest.fixture(scope='module')
def builder_core(directory):
    return make_core(BuilderConfig(avatar_dir=str(directory)))


@pytest.fixture(scope='module')
def driver_core(directory):
    return make_driver_core(DriverConfig(avatar_dir=str(directory)))


def start(node):
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


@pytest.fixture
def builder(world, builder_core):
    return start(world.add(AvatarBuilder, core=lambda _: builder_core))


@pytest.fixture
def avatar(world, builder, directory):
    """Id of an avatar of the portrait, created by the service once."""
    if not (directory / 'ann.safetensors').is_file():
        request = CreateAvatar.Request(avatar_id='ann', image=as_message(portrait()), consent='public domain')
        answer = world.call(CreateAvatar, 'create_avatar', request, CREATION)
        assert answer.success, answer.message
    return 'ann'


# --- creation -------------------------------------------------------------------------------------------------------

def request(image=None, compressed=None, avatar_id='bad', **fields):
    made = CreateAvatar.Request(avatar_id=avatar_id, **fields)
    if image is not None:
        made.image = image if isinstance(image, Image) else as_message(image)
    if compressed is not None:
        made.compressed_image = compressed
    return made


def wrong(**fields):
    message = as_message(portrait())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


BAD = {
    'no face': (lambda: request(np.full((300, 400, 3), 90, np.uint8)), ErrorCode.NO_FACE),
    'small face': (lambda: request(cv2.resize(portrait(), (256, 256), interpolation=cv2.INTER_AREA)),
                   ErrorCode.FACE_TOO_SMALL),
    'blurred': (lambda: request(cv2.GaussianBlur(portrait(), (0, 0), 4)), ErrorCode.IMAGE_BLURRED),
    'corrupt bytes': (lambda: request(compressed=CompressedImage(data=b'\xff\xd8\xff' + bytes(500))),
                      ErrorCode.BAD_IMAGE),
    'truncated': (lambda: request(compressed=CompressedImage(data=bytes(png(portrait()).data)[:20000])),
                  ErrorCode.BAD_IMAGE),
    'encoding': (lambda: request(wrong(encoding='bayer_rggb8')), ErrorCode.BAD_IMAGE),
    'step': (lambda: request(wrong(step=100)), ErrorCode.BAD_IMAGE),
    'length': (lambda: request(wrong(height=600)), ErrorCode.BAD_IMAGE),
    'huge header': (lambda: request(compressed=huge_png()), ErrorCode.BAD_IMAGE),
    'huge message': (lambda: request(wrong(width=20000, height=20000, step=60000)), ErrorCode.BAD_IMAGE),
    'empty': (lambda: request(), ErrorCode.BAD_IMAGE),
    'slash': (lambda: request(portrait(), avatar_id='a/b'), ErrorCode.BAD_AVATAR_ID),
    'dots': (lambda: request(portrait(), avatar_id='..'), ErrorCode.BAD_AVATAR_ID),
    '65 characters': (lambda: request(portrait(), avatar_id='x' * 65), ErrorCode.BAD_AVATAR_ID),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_answered(world, builder, directory, name):
    make, code = BAD[name]
    before = sorted(directory.parent.rglob('*'))
    answer = world.call(CreateAvatar, 'create_avatar', make())
    assert not answer.success
    assert answer.error_code == code, answer.message
    assert len(answer.message) > 20
    assert sorted(directory.parent.rglob('*')) == before, 'something was written'


def test_taken_id_and_what_is_stored(world, builder, avatar, directory):
    taken = world.call(CreateAvatar, 'create_avatar', request(portrait(), avatar_id=avatar))
    assert taken.error_code == ErrorCode.AVATAR_EXISTS
    info, = world.call(ListAvatars, 'list_avatars', ListAvatars.Request()).avatars
    assert (info.id, info.head_model, info.quality, info.consent) == (avatar, 'open', 'preview', 'public domain')
    assert info.head_model_version and info.splats > 1000 and info.photo_psnr > 20
    data = b''
    while len(data) < info.size_bytes:
        part = world.call(GetAvatar, 'get_avatar', GetAvatar.Request(avatar_id=avatar, offset=len(data), length=262144))
        assert part.success and part.sha256 == info.sha256
        data += bytes(part.data)
    assert data == (directory / f'{avatar}.safetensors').read_bytes()
    assert len(data) == info.size_bytes <= 16_000_000


def test_several_faces_warn_and_cancel_leaves_nothing(world, builder, directory):
    """The job is cancelled as soon as it reports progress: the photo was accepted, the warning is in the log."""
    two = np.concatenate([portrait(), cv2.resize(portrait(), (400, 512))], 1)
    stages = []
    handle = world.send_goal(CreateAvatarAction, 'create_avatar', CreateAvatarAction.Goal(
        image=as_message(two), avatar_id='two'), lambda m: stages.append(m.feedback.stage))
    world.wait(lambda: stages, 'progress', CREATION)
    handle.cancel_goal_async()
    future = handle.get_result_async()
    world.wait(future.done, 'result', CREATION)
    result = future.result().result
    assert result.error_code == ErrorCode.CANCELLED
    assert not (directory / 'two.safetensors').exists()
    names = [a.id for a in world.call(ListAvatars, 'list_avatars', ListAvatars.Request()).avatars]
    assert 'two' not in names


# --- driving --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def driving_frames(head):
    from sega_ros.synthetic.performer import Performer

    performer = Performer(head, seed=3)
    return [performer.frame(t)[0] for t in (0.0, 1.0, 2.0, 3.0)]


def drive(world, camera, node, images, frames, deadline=60.0):
    """Send frames one after the other; return the avatar images by stamp."""
    found = []
    for image in frames:
        stamp = camera.send(message=as_message(image))
        found.append(world.wait(lambda stamp=stamp: next(
            (m for m in images if stamp_to_ns(m.header.stamp) == stamp), None), 'the avatar image', deadline))
    return found


def test_messages_render_the_same_bytes(world, avatar, driver_core, driving_frames):
    """A second driver that hears only the expressions shows what the tracking driver shows, byte for byte."""
    camera_driver = world.add(AvatarDriver, {'avatar_id': avatar}, core=lambda _: driver_core)
    images, expressions = world.collect(Image, 'avatar/image', 20), world.collect(FlameExpression, 'expression', 20)
    start(camera_driver)
    camera = Camera(world)
    world.wait(lambda: camera_driver.puppet and camera.publisher.get_subscription_count(), 'the driver', 60.0)
    world.wait(lambda: camera_driver._outputs.images_wanted and camera_driver._outputs.expressions_wanted, 'listeners')
    shown = drive(world, camera, camera_driver, images, driving_frames)
    world.wait(lambda: len(expressions) == len(shown), 'expressions')
    assert all(m.face_present for m in expressions)
    assert max(len(serialize_message(m)) for m in expressions) <= 640

    robot = world.add(AvatarDriver, {'avatar_id': avatar, 'source': 'expression'}, core=lambda _: driver_core,
                      namespace='robot')
    robot_images = world.collect(Image, 'robot/avatar/image', 20)
    start(robot)
    publisher = world.helper.create_publisher(FlameExpression, 'robot/expression', qos.expression())
    world.wait(lambda: robot.puppet and publisher.get_subscription_count() and robot._outputs.images_wanted, 'robot',
               60.0)
    for sent, local in zip(expressions, shown, strict=True):
        publisher.publish(deserialize_message(serialize_message(sent), FlameExpression))
        remote = world.wait(lambda sent=sent: next(
            (m for m in robot_images if m.header.stamp == sent.header.stamp), None), 'the robot image', 60.0)
        assert bytes(remote.data) == bytes(local.data)
    first, second = (image_message_to_rgb(m).astype(int) for m in shown[:2])
    assert np.abs(first - second).max() > 20, 'the avatar does not move'


def test_view_input_has_the_size_of_the_camera(world, avatar, driver_core, driving_frames):
    node = start(world.add(AvatarDriver, {'avatar_id': avatar, 'view': 'input'}, core=lambda _: driver_core))
    images = world.collect(Image, 'avatar/image', 20)
    camera = Camera(world)
    world.wait(lambda: node.puppet and camera.publisher.get_subscription_count() and node._outputs.images_wanted,
               'the driver', 60.0)
    found, = drive(world, camera, node, images, [driving_frames[0][60:420, 40:480]])
    assert (found.height, found.width) == (360, 440)


def test_damaged_and_missing_avatars(world, builder, avatar, driver_core, directory):
    node = start(world.add(AvatarDriver, core=lambda _: driver_core))
    world.wait(lambda: node.puppet, 'the driver', 60.0)
    whole = (directory / f'{avatar}.safetensors').read_bytes()
    try:
        (directory / 'half.safetensors').write_bytes(whole[:len(whole) // 2])
        (directory / 'junk.safetensors').write_bytes(b'junk')
        store = AvatarStore(directory)
        store.save('foreign', replace(store.load(avatar), head_model='flame2020'))
        for avatar_id, code in (('half', ErrorCode.AVATAR_DAMAGED), ('junk', ErrorCode.AVATAR_DAMAGED),
                                ('foreign', ErrorCode.HEAD_MODEL_MISMATCH), ('none', ErrorCode.AVATAR_NOT_FOUND)):
            answer = world.call(SelectAvatar, '/avatar_driver/select_avatar', SelectAvatar.Request(avatar_id=avatar_id))
            assert answer.error_code == code, answer.message
        names = [a.id for a in world.call(ListAvatars, 'list_avatars', ListAvatars.Request()).avatars]
        assert names == [avatar, 'foreign']
    finally:
        for name in ('half', 'junk', 'foreign'):
            (directory / f'{name}.safetensors').unlink()
    assert node.puppet.record.avatar_id == avatar


# --- sudden death and a full disk -----------------------------------------------------------------------------------

class Process:
    """A builder as a process of its own, in the namespace `box`."""

    def __init__(self, world, directory, limit=None):
        def prepare():
            if limit is not None:  # writing beyond it fails like a full disk
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / 'scripts/avatar_builder'), '--ros-args', '-r', '__ns:=/box', '-p',
             f'avatar_dir:={directory}'],
            preexec_fn=prepare, env={**os.environ, 'ROS_DOMAIN_ID': str(world.domain)})
        self.world = world
        for transition in (1, 3):
            self.transition(transition)

    def transition(self, transition_id):
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        answer = self.world.call(ChangeState, 'box/avatar_builder/change_state',
                                 ChangeState.Request(transition=Transition(id=transition_id)), 90.0)
        assert answer.success

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def test_a_killed_builder_leaves_no_half_avatar(world, tmp_path):
    with Process(world, tmp_path) as running:
        stages = []
        world.send_goal(CreateAvatarAction, 'box/create_avatar', CreateAvatarAction.Goal(
            image=as_message(portrait()), avatar_id='ann', quality=1), lambda m: stages.append(m.feedback.stage))
        world.wait(lambda: stages, 'progress', CREATION)
        running.process.kill()
        running.process.wait()
    store = AvatarStore(tmp_path)
    assert not store.list() and not store.damaged()


def test_disk_full_keeps_the_old_avatar(world, avatar, directory, tmp_path):
    old = (directory / f'{avatar}.safetensors').read_bytes()
    (tmp_path / 'ann.safetensors').write_bytes(old)
    with Process(world, tmp_path, limit=len(old) // 2):
        asked = request(portrait(), avatar_id='ann', replace=True)
        answer = world.call(CreateAvatar, 'box/create_avatar', asked, CREATION)
        assert answer.error_code == ErrorCode.STORAGE, answer.message
        assert (tmp_path / 'ann.safetensors').read_bytes() == old
        info, = world.call(ListAvatars, 'box/list_avatars', ListAvatars.Request()).avatars
        assert info.id == 'ann'
        assert world.call(DeleteAvatar, 'box/delete_avatar', DeleteAvatar.Request(avatar_id='ann')).success
    assert [p.name for p in tmp_path.iterdir()] == ['.store-id'], 'deletion removes all of the person'

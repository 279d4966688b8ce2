"""The robot's side: it learns of an avatar, fetches it part by part, and drives it with messages alone."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image

from sega_ros.avatar.idle import neutral_expression
from sega_ros.avatar.store import AvatarStore
from sega_ros.head import load_head
from sega_ros.msg import AvatarInfo, AvatarList, FlameExpression
from sega_ros.nodes import fetch, qos
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.convert import image_message_to_rgb, ns_to_stamp
from sega_ros.nodes.expressions import expression_to_message
from sega_ros.srv import GetAvatar


class Sender:
    """The other machine: lists the avatars of a store and hands out their files."""

    def __init__(self, world, store):
        self.world, self.store, self.asked = world, store, []
        self.publisher = world.helper.create_publisher(AvatarList, 'avatars', qos.latched())
        self.service = None

    def serve(self):
        self.service = self.world.helper.create_service(GetAvatar, 'get_avatar', self.answer)

    def stop(self):
        # In the executor's own thread: it may be answering.
        task = self.world.helper.executor.create_task(self.world.helper.destroy_service, self.service)
        self.world.wait(task.done, 'the end of the service')

    def answer(self, request, response):
        self.asked.append(request.offset)
        chunk = self.store.read_bytes(request.avatar_id, request.offset, request.length)
        response.data.frombytes(chunk.data)
        response.success, response.total_size, response.sha256 = True, chunk.total_size, chunk.sha256
        return response

    def list(self, avatar_id='ann', **changes):
        head = load_head()
        info = {'id': avatar_id, 'created': ns_to_stamp(5), 'head_model': head.name, 'head_model_version': head.version,
                'size_bytes': self.store.info(avatar_id).size, 'sha256': self.store.sha256(avatar_id)}
        self.publisher.publish(AvatarList(avatars=[AvatarInfo(**{**info, **changes})]))


@pytest.fixture
def sender(world, tmp_path, plain_avatar):
    store = AvatarStore(tmp_path / 'operator')
    store.save('ann', plain_avatar)
    return Sender(world, store)


@pytest.fixture
def robot(world, tmp_path):
    node = world.add(AvatarDriver, {'source': 'expression', 'avatar_dir': str(tmp_path / 'robot'), 'width': 64, 'height': 48})
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


def driven(world, robot):
    return world.wait(lambda: (p := robot.puppet) and p.record.avatar_id == 'ann' and p, 'the avatar', 60)


def test_an_avatar_is_fetched_and_driven(world, tmp_path, sender, robot):
    sender.serve()
    sender.list()
    driven(world, robot)
    assert AvatarStore(tmp_path / 'robot').sha256('ann') == sender.store.sha256('ann')
    assert sender.asked == list(range(0, sender.store.info('ann').size, fetch.PART))
    images = world.collect(Image, 'avatar/image', qos.newest())
    publisher = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
    world.wait(lambda: publisher.get_subscription_count() and robot._outputs.images_wanted, 'connections')
    head = load_head()
    message = neutral_expression(head.n_expression, head.name, head.version, stamp_ns=77)
    publisher.publish(expression_to_message(replace(message, face_present=True)))
    picture = image_message_to_rgb(world.wait(lambda: images, 'a picture')[0])
    assert picture.shape == (48, 64, 3) and np.ptp(picture) > 20
    sender.list()  # what is here is not fetched again
    world.wait(lambda: robot._avatars.fetching == '', 'rest')
    assert len(sender.asked) == -(-sender.store.info('ann').size // fetch.PART)


def test_it_goes_on_after_the_other_machine_was_away(world, sender, robot, monkeypatch):
    monkeypatch.setattr(fetch, 'PART', 4096)
    sender.serve()
    enough = threading.Event()
    answer = sender.answer

    def slow(request, response):
        if len(sender.asked) == 3:
            enough.set()
        return answer(request, response)

    sender.answer = slow
    sender.stop()
    sender.serve()
    sender.list()
    world.wait(enough.is_set, 'some parts', 20)
    sender.stop()
    world.wait(lambda: 'fetching' in robot._avatars.fetching, 'a fetch that waits')
    assert robot.puppet is None
    sender.serve()
    driven(world, robot)
    assert sender.asked == sorted(sender.asked) and sender.asked[0] == 0


def test_a_newer_version_takes_its_place(world, tmp_path, sender, robot, plain_avatar):
    sender.serve()
    sender.list()
    first = driven(world, robot)
    sender.store.save('ann', replace(plain_avatar, background=np.array([0, 0, 1], np.float32)), replace=True)
    sender.list()
    world.wait(lambda: robot.puppet is not first, 'the new version', 60)
    assert robot.puppet.record.sha256 == sender.store.sha256('ann')


def test_a_restarted_robot_shows_what_it_has_while_it_fetches(world, tmp_path, sender, robot, plain_avatar):
    sender.serve()
    sender.list()
    old = driven(world, robot).record.sha256
    sender.stop()  # from now on the other machine lists, but does not answer
    robot.trigger_deactivate()
    robot.trigger_cleanup()
    sender.store.save('ann', replace(plain_avatar, background=np.array([0, 0, 1], np.float32)), replace=True)
    sender.list()
    assert robot.trigger_configure() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: robot._avatars.has_list, 'the list')
    assert robot.trigger_activate() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: 'fetching' in robot._avatars.fetching, 'a fetch that waits', 20)
    assert robot.puppet.record.sha256 == old
    sender.serve()
    world.wait(lambda: robot.puppet.record.sha256 == sender.store.sha256('ann'), 'the new version', 60)


@pytest.mark.parametrize(('changes', 'words'), [
    ({'head_model': 'flame2023'}, 'flame2023'), ({'size_bytes': 20_000_000}, 'found 20000000'), ({'sha256': 'x'}, 'SHA-256'),
    ({'id': '../ann'}, 'avatar id')])
def test_lists_that_make_no_sense_change_nothing(world, tmp_path, sender, robot, changes, words):
    sender.serve()
    sender.list(**changes)
    world.wait(lambda: (r := world.reason(robot)) and words in r[1], 'diagnostics', 20)
    assert sender.asked == [] and robot.puppet is None and not (tmp_path / 'ann.safetensors').exists()


def test_a_list_that_came_before_the_node_was_active_is_followed(world, sender, robot, plain_avatar):
    """The newest is wanted: until it is here, the newest that is stored is driven."""
    sender.serve()
    sender.list()
    driven(world, robot)
    sender.stop()
    robot.trigger_deactivate()
    robot.trigger_cleanup()
    sender.store.save('bob', replace(plain_avatar, background=np.array([0, 1, 0], np.float32)))
    sender.list('bob', created=ns_to_stamp(2**62))
    assert robot.trigger_configure() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: robot._avatars.has_list, 'the list')
    assert robot.trigger_activate() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: 'fetching' in robot._avatars.fetching, 'a fetch that waits', 20)
    assert robot.puppet.record.avatar_id == 'ann'
    sender.serve()
    world.wait(lambda: robot.puppet.record.avatar_id == 'bob', 'the newest', 60)


def test_nothing_is_fetched_when_that_is_not_wanted(world, sender, tmp_path):
    node = world.add(AvatarDriver, {'source': 'expression', 'avatar_dir': str(tmp_path / 'robot'), 'fetch': False})
    node.trigger_configure()
    node.trigger_activate()
    sender.serve()
    sender.list()
    world.wait(lambda: node._avatars.problem, 'the refusal')
    assert sender.asked == [] and "no avatar 'ann'" in node._avatars.problem

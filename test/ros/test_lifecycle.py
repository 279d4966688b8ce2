"""Nodes go through their states again and again for days: threads, files, ROS entities and memory are what they were.

Late rounds are compared with early ones: the first ones fill caches.
"""

import ctypes
import gc
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from fake_core import FakeBuilder, FakeDriver, record, seen
from rclpy.lifecycle import TransitionCallbackReturn
from ros_support import Camera
from sensor_msgs.msg import Image

from sega_ros.avatar.store import AvatarStore
from sega_ros.io import VideoWriter
from sega_ros.io.memory import process_memory
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_display import AvatarDisplay
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.avatar_web import AvatarWeb
from sega_ros.nodes.convert import rgb_to_image_message
from sega_ros.nodes.expressions import expression_to_message
from sega_ros.nodes.image_source import ImageSource
from sega_ros.srv import CreateAvatar

ROUNDS, EARLY = 50, 10
# MB over the late rounds. An image of 512 x 512 that is left behind in each makes 31; rclpy itself keeps 4 of 40 plain nodes.
GROWTH = 12.0
POOL = 6  # threads of executors that start when there is work for one more; one lost in each late round would make 40
KINDS = ('publishers', 'subscriptions', 'services', 'clients', 'timers', 'guards', 'waitables')


def entities(node):
    """Number of ROS entities of each kind that a node holds."""
    found = {kind: len(list(getattr(node, kind))) for kind in KINDS}
    return found | {'managed': len(getattr(node, '_managed_entities', ())), 'events': len(node.context._callbacks)}


def graph(world, name):
    """What others see of a node: its topics and services."""
    helper = world.helper
    return [sorted(names(name, '/')) for names in (
        helper.get_publisher_names_and_types_by_node, helper.get_subscriber_names_and_types_by_node,
        helper.get_service_names_and_types_by_node, helper.get_client_names_and_types_by_node)]


def process():
    """Threads and open files of this process, and its memory in MB: what is in use, without what the C library keeps."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    tasks, files = (len(list(Path('/proc/self', kind).iterdir())) for kind in ('task', 'fd'))
    return tasks, files, process_memory(os.getpid())


def repeat(world, once, held=lambda: None, rounds=ROUNDS, growth=GROWTH):
    """Call `once` many times; what the process holds, and what `held` returns, must not grow after the early rounds."""
    early = late = None
    for k in range(rounds):
        once()
        if k + 1 == EARLY:
            early = process(), held()
    tasks, files, memory = early[0]
    world.wait(lambda: process()[0] <= tasks + POOL, f'the {tasks} threads of an early round')
    world.wait(lambda: process()[1] <= files, f'the {files} files of an early round')
    late = process(), held()
    assert late[1] == early[1]
    print(f'memory after {EARLY} rounds {memory:.1f} MB, after {rounds} rounds {late[0][2]:.1f} MB')
    assert late[0][2] - memory < growth


def steps(node, *names):
    for name in names:
        assert getattr(node, f'trigger_{name}')() == TransitionCallbackReturn.SUCCESS, name


def cycled(world, node, work, **kwargs):
    """Take a lifecycle node through all its states many times, with `work` while it is active."""
    active = []

    def once():
        steps(node, 'configure', 'activate')
        work()
        active.append((entities(node), graph(world, node.get_name())))
        steps(node, 'deactivate', 'cleanup')

    repeat(world, once, lambda: (entities(node), active[-1]), **kwargs)


def test_builder(world):
    core = FakeBuilder()
    node = world.add(AvatarBuilder, core=lambda _: core)
    photo = rgb_to_image_message(np.full((512, 512, 3), 7, np.uint8), stamp=Time(), frame_id='')

    def work():
        assert core.opened
        asked = CreateAvatar.Request(image=photo, avatar_id='ann', replace=True)
        assert world.call(CreateAvatar, 'create_avatar', asked).success

    cycled(world, node, work)
    assert not core.opened, 'what waits for a creation is given back'


@pytest.fixture
def pictures(world):
    return world.collect(Image, 'avatar/image', qos.newest())


def until_a_picture(world, pictures, send, timeout=20):
    """Send ten times a second until a picture comes."""
    due = 0.0

    def came():
        nonlocal due
        if time.monotonic() > due:
            send()
            due = time.monotonic() + 0.1
        return pictures

    pictures.clear()
    world.wait(came, 'a picture', timeout)


def test_driver(world, pictures):
    core, trackers = FakeDriver(record('ann')), []
    node = world.add(AvatarDriver, core=lambda _: core)
    camera = Camera(world, size=(512, 512))

    def work():
        trackers.append(core.tracker)
        until_a_picture(world, pictures, lambda: camera.send(9))

    cycled(world, node, work)
    assert len(set(trackers)) == ROUNDS and all(t.closed for t in trackers), 'networks are released'


def test_driver_of_messages(world, pictures):
    node = world.add(AvatarDriver, {'source': 'expression'}, core=lambda _: FakeDriver(record('ann')))
    publisher = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
    message = expression_to_message(seen(0.4))
    cycled(world, node, lambda: until_a_picture(world, pictures, lambda: publisher.publish(message)))


def test_tracker(world):
    """The operator's machine: images in, expressions out, nothing drawn."""
    node = world.add(AvatarDriver, {'render': False}, core=lambda _: FakeDriver(record('ann')))
    camera, expressions = Camera(world, size=(512, 512)), world.collect(FlameExpression, 'expression', qos.expression())
    cycled(world, node, lambda: until_a_picture(world, expressions, lambda: camera.send(9)))


def test_driver_with_the_real_core(tmp_path, plain_avatar, head):
    """In a process of its own: in one that hundreds of tests have used, memory moves by more than a leak would."""
    AvatarStore(tmp_path).save('ann', plain_avatar)
    done = subprocess.run([sys.executable, str(Path(__file__).with_name('lifecycle_alone.py')), str(tmp_path)],
                          capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def started(world, kind, parameters, work):
    """Make, use and destroy a node without states many times."""
    name = []

    def once():
        node = world.add(kind, parameters)
        work(node)
        name[:] = [node.get_name()]
        world.end(node)

    repeat(world, once, lambda: len(world.context._callbacks))
    world.wait(lambda: name[0] not in world.helper.get_node_names(), 'the end of the node')


def test_image_source(world, tmp_path):
    with VideoWriter(tmp_path / 'clip.mp4', size=(240, 320), fps=50) as writer:
        for k in range(5):
            writer.write(np.full((240, 320, 3), 20 * k, np.uint8))
    started(world, ImageSource, {'source': str(tmp_path / 'clip.mp4')},
            lambda node: world.wait(lambda: node.published > 1, 'images'))


def test_display(world, monkeypatch):
    monkeypatch.setenv('SDL_VIDEODRIVER', 'dummy')
    images = world.helper.create_publisher(Image, 'avatar/image', qos.newest())
    message = rgb_to_image_message(np.full((512, 512, 3), 7, np.uint8), stamp=Time(), frame_id='')

    def work(node):
        world.wait(images.get_subscription_count, 'the display')
        world.wait(lambda: (images.publish(message), node._picture is not None)[1], 'a picture')
        node.window.show(node._picture, ('NO FACE',))

    # With vsync, pygame keeps a picture of each window: the process has but one.
    started(world, AvatarDisplay, {'fullscreen': False, 'width': 200, 'height': 200, 'vsync': False}, work)


def test_web(world):
    started(world, AvatarWeb, {'port': 0}, lambda node: urllib.request.urlopen(node.server.address, timeout=20).read())

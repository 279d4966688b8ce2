"""Disks that are full or read-only, and directories that vanish, under the real stores."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from ros_support import Camera
from sensor_msgs.msg import Image
from test_fetch import Sender

from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import ErrorCode
from sega_ros.msg import AvatarList
from sega_ros.nodes import avatar_choice, qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message
from sega_ros.srv import CreateAvatar, DeleteAvatar, ListAvatars

PICTURE = rgb_to_image_message(np.full((64, 64, 3), 9, np.uint8), stamp=ns_to_stamp(0), frame_id='')


def active(node):
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


@pytest.fixture
def disk(tmp_path):
    """A disk of its own; `mount(options)` mounts it again with others."""
    folder = tmp_path / 'disk'
    folder.mkdir()

    def mount(options, *flags):
        done = subprocess.run(['mount', *flags, '-t', 'tmpfs', '-o', options, 'tmpfs', folder], check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f'no right to mount: {done.stderr.decode().strip()}')

    mount('size=64k')
    yield folder, lambda options: mount(f'remount,{options}')
    subprocess.run(['umount', '-l', folder], check=True)


def test_a_robot_fetches_when_its_full_disk_has_space_again(world, tmp_path, plain_avatar, disk, monkeypatch):
    monkeypatch.setattr(avatar_choice, 'RETRY', 0.3)
    folder, remount = disk
    store = AvatarStore(tmp_path / 'operator')
    store.save('ann', plain_avatar)
    assert store.info('ann').size > 2 * 65536
    node = active(world.add(AvatarDriver, {'source': 'expression', 'avatar_dir': str(folder), 'width': 64, 'height': 48}))
    sender = Sender(world, store)
    sender.serve()
    sender.list()
    level, words, _ = world.wait(lambda: (r := world.reason(node)) and 'disk is full' in r[1] and r, 'the full disk')
    assert level == 2 and 'free some space' in words
    remount('size=32m')
    world.wait(lambda: node.puppet is not None, 'the avatar', 60)
    assert AvatarStore(folder).sha256('ann') == store.sha256('ann')
    world.wait(lambda: 'disk' not in world.reason(node)[1], 'better health')


def test_a_read_only_directory_is_served_and_not_written(world, plain_avatar, disk):
    folder, remount = disk
    remount('size=32m')
    AvatarStore(folder).save('ann', plain_avatar)
    remount('ro')
    active(world.add(AvatarBuilder, {'avatar_dir': str(folder)}))
    answer = world.call(CreateAvatar, 'create_avatar', CreateAvatar.Request(avatar_id='bob', image=PICTURE))
    assert answer.error_code == ErrorCode.STORAGE and 'choose another directory' in answer.message
    answer = world.call(DeleteAvatar, 'delete_avatar', DeleteAvatar.Request(avatar_id='ann'))
    assert answer.error_code == ErrorCode.STORAGE and 'read-only' in answer.message
    assert [a.id for a in world.call(ListAvatars, 'list_avatars', ListAvatars.Request()).avatars] == ['ann']


def test_a_directory_that_is_deleted_and_made_again(world, tmp_path, plain_avatar):
    """The builder's list follows; the driver draws on what it has, and takes what comes."""
    folder = tmp_path / 'avatars'
    AvatarStore(folder).save('ann', plain_avatar)
    builder = active(world.add(AvatarBuilder, {'avatar_dir': str(folder)}))
    driver = active(world.add(AvatarDriver, {'avatar_dir': str(folder), 'width': 64, 'height': 48}))
    images, camera = world.collect(Image, 'avatar/image', qos.newest()), Camera(world, size=(120, 160))
    lists = world.collect(AvatarList, 'avatars', qos.latched())
    world.wait(lambda: driver.puppet is not None, 'the avatar', 60)

    def drawn():
        images.clear()
        world.wait(lambda: (camera.send(90), images)[1], 'a picture')

    drawn()
    shutil.rmtree(folder)
    world.wait(lambda: lists and not lists[-1].avatars, 'the empty list')
    assert world.reason(builder)[0] == 0
    drawn()
    AvatarStore(folder).save('bob', replace(plain_avatar, background=np.float32([0, 1, 0])))
    world.wait(lambda: driver.puppet.record.avatar_id == 'bob', 'the new avatar', 60)
    drawn()

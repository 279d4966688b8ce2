"""Deletion reaches robots: a fetched copy goes when the very builder it came from says that the avatar is gone, else never."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn

from sega_ros.avatar.copies import Copies, store_id
from sega_ros.avatar.store import AvatarStore
from sega_ros.msg import AvatarInfo, AvatarList
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.sega_core import SegaBuilder
from sega_ros.srv import DeleteAvatar, GetAvatar


class StoreOnly(SegaBuilder):
    """The real core without what creation needs."""

    def __init__(self, directory):
        self.store = AvatarStore(directory)

    def open(self):
        """Nothing is created in another process."""

    close = open


def active(world, kind, parameters, **kwargs):
    node = world.add(kind, parameters, **kwargs)
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


@pytest.fixture
def operator(world, tmp_path, plain_avatar):
    """A builder with the avatars ann and bob."""
    directory = tmp_path / 'operator'
    for number, name in enumerate(('ann', 'bob')):
        AvatarStore(directory).save(name, replace(plain_avatar, background=np.full(3, number, np.float32)))
    return active(world, AvatarBuilder, {'avatar_dir': str(directory)}, core=lambda _: StoreOnly(directory))


def robot(world, tmp_path, **parameters):
    return active(world, AvatarDriver, {'source': 'expression', 'avatar_dir': str(tmp_path / 'robot'), 'avatar_id': 'ann',
                                        'width': 64, 'height': 48, **parameters})


def fetched(world, node, avatar_id='ann'):
    world.wait(lambda: (p := node.puppet) and p.record.avatar_id == avatar_id, 'the copy', 60)


def files(tmp_path):
    return sorted(p.name for p in (tmp_path / 'robot').iterdir())


def delete(world, avatar_id):
    assert world.call(DeleteAvatar, 'delete_avatar', DeleteAvatar.Request(avatar_id=avatar_id)).success


def test_a_copy_goes_with_its_original(world, tmp_path, operator):
    node = robot(world, tmp_path)
    fetched(world, node)
    origin, = Copies(AvatarStore(tmp_path / 'robot')).list()
    assert origin.avatar_id == 'ann' and origin.service == '/get_avatar'
    assert origin.store == store_id(AvatarStore(tmp_path / 'operator'))
    loaded = AvatarStore(tmp_path / 'robot').load('ann')
    assert loaded.metadata['consent'] == 'none needed', 'consent travels in the file'
    delete(world, 'ann')
    world.wait(lambda: files(tmp_path) == [], 'the deletion of the copy with all that belongs to it', 30)
    world.wait(lambda: node.puppet is None, 'the end of driving')
    assert node.active


def test_a_copy_goes_that_was_deleted_while_the_robot_was_off(world, tmp_path, operator):
    node = robot(world, tmp_path)
    fetched(world, node)
    assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    delete(world, 'ann')
    assert files(tmp_path) != []
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: files(tmp_path) == [], 'the deletion of the copy', 30)


def test_copies_are_kept_on_request(world, tmp_path, operator):
    node = robot(world, tmp_path, keep_fetched=True)
    fetched(world, node)
    delete(world, 'ann')
    world.wait(lambda: node._avatars.has_list and [a.id for a in node._avatars.listed] == ['bob'], 'the list')
    assert 'ann.safetensors' in files(tmp_path) and node._avatars.deletions is not None and not node._avatars.deletions.waiting


@pytest.mark.parametrize('case', ['made here', 'late list', 'another store', 'changed here', 'unknown origin'])
def test_what_is_never_removed(world, tmp_path, operator, plain_avatar, case):
    """Each time a list without ann arrives, and the follower runs to its end."""
    node = robot(world, tmp_path)
    fetched(world, node)
    store = AvatarStore(tmp_path / 'robot')
    if case == 'made here':
        store.save('ann', plain_avatar, replace=True)
    elif case == 'changed here':  # another file was put there by hand
        store.path('ann').write_bytes((tmp_path / 'operator' / 'bob.safetensors').read_bytes())
    elif case in ('another store', 'unknown origin'):
        origin, = Copies(store).list()
        Copies(store).note(replace(origin, store='' if case == 'unknown origin' else 'a' * 32))
    if case != 'late list':
        (tmp_path / 'operator' / 'ann.safetensors').unlink()
    node._avatars.follower([AvatarInfo(id='bob')], lambda: not node.active)
    assert 'ann.safetensors' in files(tmp_path)


def test_no_list_of_two_builders_removes_anything(world, tmp_path, operator):
    """With two machines that answer, nobody knows whose answer it is."""
    node = robot(world, tmp_path)
    fetched(world, node)

    def refuse(_, response):
        response.error_code = GetAvatar.Response.ERROR_AVATAR_NOT_FOUND
        return response

    world.helper.create_service(GetAvatar, 'get_avatar', refuse)
    world.wait(lambda: node.count_services('get_avatar') == 2, 'the second machine')
    (tmp_path / 'operator' / 'ann.safetensors').unlink()
    node._avatars.follower([], lambda: not node.active)
    assert 'ann.safetensors' in files(tmp_path)


def test_an_empty_list_of_a_machine_that_answers_nothing_removes_nothing(world, tmp_path, operator):
    node = robot(world, tmp_path)
    fetched(world, node)
    assert operator.trigger_deactivate() == operator.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    publisher = world.helper.create_publisher(AvatarList, 'avatars', qos.latched())
    publisher.publish(AvatarList())
    world.wait(lambda: node._avatars.listed == [], 'the empty list')
    world.wait(lambda: not node._avatars.deletions.waiting, 'a look at the copies')
    assert 'ann.safetensors' in files(tmp_path)


def test_an_avatar_made_here_is_not_replaced_by_another_machines(world, tmp_path, operator, plain_avatar):
    AvatarStore(tmp_path / 'robot').save('ann', replace(plain_avatar, background=np.full(3, 0.5, np.float32)))
    mine = AvatarStore(tmp_path / 'robot').sha256('ann')
    node = robot(world, tmp_path)
    world.wait(lambda: 'was made here' in node._avatars.problem, 'the refusal', 30)
    assert AvatarStore(tmp_path / 'robot').sha256('ann') == mine


@pytest.mark.parametrize('former', [False, True])
def test_a_crash_between_note_and_file_leaves_a_copy(world, tmp_path, operator, plain_avatar, former):
    """The robot takes the new version when it is there again; what it has does not count as made there."""
    node = robot(world, tmp_path, avatar_id='bob')
    fetched(world, node, 'bob')
    assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    store, changed = AvatarStore(tmp_path / 'robot'), AvatarStore(tmp_path / 'operator')
    origin, = Copies(store).list()
    if former:  # a note as earlier versions wrote it
        path = tmp_path / 'robot' / 'bob.origin.json'
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != 'replaces'}))
    changed.save('bob', replace(plain_avatar, background=np.full(3, 0.5, np.float32)), replace=True)
    Copies(store).note(replace(origin, sha256=changed.sha256('bob')))  # and no more
    assert [o.avatar_id for o in Copies(store).list()] == ['bob']
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: (p := node.puppet) and p.record.sha256 == changed.sha256('bob'), 'the new version', 60)
    assert [o.sha256 for o in Copies(store).list()] == [changed.sha256('bob')]


def test_parts_of_deleted_avatars_go(tmp_path, plain_avatar):
    store = AvatarStore(tmp_path)
    store.save('ann', plain_avatar)
    for name in ('.tmp-eve.safetensors-0123456789abcdef', '.tmp-ann.safetensors-0123456789abcdef',
                 '.tmp-eve.safetensors-77-01234567'):
        (tmp_path / name).write_bytes(b'part')
    Copies(store).drop_parts({'ann'})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        '.tmp-ann.safetensors-0123456789abcdef', '.tmp-eve.safetensors-77-01234567', 'ann.safetensors']


@pytest.mark.parametrize('text', ['', '{', '[]', '{"avatar_id": "ann"}', '"x"', '[' * 4000, 'x' * 5000])
def test_a_damaged_note_makes_no_copy(tmp_path, plain_avatar, text):
    store = AvatarStore(tmp_path)
    store.save('ann', plain_avatar)
    (tmp_path / 'ann.origin.json').write_text(text)
    assert Copies(store).list() == [] and [e.avatar_id for e in store.list()] == ['ann']


def test_a_store_keeps_its_id(tmp_path):
    store = AvatarStore(tmp_path)
    first = store_id(store)
    assert store_id(AvatarStore(tmp_path)) == first and len(first) == 32
    assert (tmp_path / '.store-id').stat().st_mode & 0o777 == 0o600
    assert store_id(AvatarStore(tmp_path / 'other')) != first

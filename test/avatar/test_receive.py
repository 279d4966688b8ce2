"""An avatar's file in parts: resumed, checked, and never in the place of a good one before it is whole."""

import hashlib

import pytest

from sega_ros.avatar.receive import IncomingAvatar
from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import AvatarDamagedError, AvatarIdError, RequestError, StorageError


@pytest.fixture
def sent(tmp_path, plain_avatar):
    """Bytes and SHA-256 of a stored avatar."""
    store = AvatarStore(tmp_path / 'there')
    store.save('ann', plain_avatar)
    data = store.path('ann').read_bytes()
    return data, store.sha256('ann')


@pytest.fixture
def store(tmp_path):
    return AvatarStore(tmp_path / 'here')


def test_parts_make_the_file(store, sent):
    data, digest = sent
    incoming = IncomingAvatar(store, 'ann', size=len(data), sha256=digest)
    for at in range(0, len(data), 1000):
        assert incoming.received == at and store.list() == []
        incoming.add(data[at:at + 1000])
    assert incoming.finish().avatar_id == 'ann'
    assert store.path('ann').read_bytes() == data and store.sha256('ann') == digest
    assert [p.name for p in store.directory.iterdir()] == ['ann.safetensors']
    assert store.path('ann').stat().st_mode & 0o777 == 0o600


def test_it_goes_on_where_it_stopped(store, sent):
    data, digest = sent
    IncomingAvatar(store, 'ann', size=len(data), sha256=digest).add(data[:5000])
    again = IncomingAvatar(store, 'ann', size=len(data), sha256=digest)
    assert again.received == 5000
    assert IncomingAvatar(store, 'ann', size=len(data), sha256='0' * 64).received == 0, 'another version'
    again.add(data[5000:])
    again.finish()
    assert store.sha256('ann') == digest


@pytest.mark.parametrize('damage', ['flipped', 'no avatar'])
def test_what_is_no_good_leaves_the_old_one(store, sent, plain_avatar, damage):
    data, digest = sent
    store.save('ann', plain_avatar)
    before = store.path('ann').read_bytes()
    bad = bytearray(data)
    bad[-1] ^= 1
    if damage == 'no avatar':
        bad = bytearray(b'x' * 3000)
        digest = hashlib.sha256(bad).hexdigest()
    incoming = IncomingAvatar(store, 'ann', size=len(bad), sha256=digest)
    incoming.add(bytes(bad))
    with pytest.raises(AvatarDamagedError):
        incoming.finish()
    assert store.path('ann').read_bytes() == before and len(list(store.directory.iterdir())) == 1
    assert IncomingAvatar(store, 'ann', size=len(bad), sha256=digest).received == 0


def test_deleting_removes_the_parts(store, sent, plain_avatar):
    data, digest = sent
    store.save('ann', plain_avatar)
    IncomingAvatar(store, 'ann', size=len(data), sha256=digest).add(data[:100])
    store.delete('ann')
    assert list(store.directory.iterdir()) == []


def test_what_is_refused(store, sent):
    _, digest = sent
    with pytest.raises(AvatarIdError):
        IncomingAvatar(store, '../ann', size=10, sha256=digest)
    for size in (0, 16_000_001, -1):
        with pytest.raises(RequestError, match='size of 1 to 16000000'):
            IncomingAvatar(store, 'ann', size=size, sha256=digest)
    for wrong in ('', 'z' * 64, digest.upper() + 'A', '../' + digest[:61]):
        with pytest.raises(RequestError, match='SHA-256 of 64'):
            IncomingAvatar(store, 'ann', size=10, sha256=wrong)
    incoming = IncomingAvatar(store, 'ann', size=10, sha256=digest)
    for part in (b'', b'x' * 11):
        with pytest.raises(RequestError, match='at most 10 more bytes'):
            incoming.add(part)
    with pytest.raises(StorageError, match='is gone'):
        incoming.finish()


def test_a_link_in_place_of_the_part_is_not_followed(store, sent, tmp_path):
    data, digest = sent
    secret = tmp_path / 'secret'
    secret.write_bytes(b'keep')
    incoming = IncomingAvatar(store, 'ann', size=len(data), sha256=digest)
    incoming._path.symlink_to(secret)
    assert IncomingAvatar(store, 'ann', size=len(data), sha256=digest).received == 0
    incoming._path.symlink_to(secret)
    with pytest.raises(StorageError):
        incoming.add(b'evil')
    assert secret.read_bytes() == b'keep'

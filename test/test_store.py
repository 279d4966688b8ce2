"""The avatar store: ids, atomic saves, listings, damage, pieces, deletion. No avatar is ever half there."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from sega_ros.avatar.avatar import FORMAT
from sega_ros.avatar.store import MAX_AVATAR_BYTES, MAX_CHUNK, AvatarStore, default_directory
from sega_ros.errors import (
    AvatarDamagedError,
    AvatarExistsError,
    AvatarIdError,
    AvatarNotFoundError,
    RequestError,
    StorageError,
)

STAND_IN = """
import sys, types
import numpy as np
module = types.ModuleType('sega_ros.avatar.avatar')
module.avatar_to_tensors = lambda avatar: avatar
module.tensors_to_avatar = lambda tensors, metadata: (tensors, metadata)
sys.modules['sega_ros.avatar.avatar'] = module
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store whose avatars are (tensors, metadata) pairs: the file handling is what is tested here."""
    import types

    module = types.ModuleType('sega_ros.avatar.avatar')
    module.avatar_to_tensors = lambda avatar: avatar
    module.tensors_to_avatar = lambda tensors, metadata: (tensors, metadata)
    monkeypatch.setitem(sys.modules, 'sega_ros.avatar.avatar', module)
    return AvatarStore(tmp_path / 'avatars')


def avatar(value=1.0, count=1000):
    tensors = {'a': np.full((count, 3), value, np.float32), 'b': np.arange(7, dtype=np.int32)}
    return tensors, {'consent': 'yes', 'v': value}


def test_round_trip(store):
    entry = store.save('ann', avatar())
    tensors, metadata = store.load('ann')
    assert np.array_equal(tensors['a'], avatar()[0]['a']) and tensors['b'].dtype == np.int32
    assert metadata == {'consent': 'yes', 'v': 1.0}
    path = store.path('ann')
    assert entry.size == path.stat().st_size and entry.metadata == metadata
    assert path.stat().st_mode & 0o077 == 0, 'a face is readable by its owner only'
    assert [e.avatar_id for e in store.list()] == ['ann'] and not store.damaged()


@pytest.mark.parametrize(
    'avatar_id', ['', 'a/b', '..', '../x', 'a.b', 'a' * 65, 'ä', 'a b', 'a\n', 'a\0', '.', None, 7])
def test_bad_ids_are_refused(store, avatar_id):
    for call in (lambda: store.save(avatar_id, avatar()), lambda: store.load(avatar_id),
                 lambda: store.delete(avatar_id), lambda: store.read_bytes(avatar_id, 0, 1)):
        with pytest.raises(AvatarIdError, match='wanted 1 to 64 letters'):
            call()
    assert not store.directory.exists()


@pytest.mark.parametrize('avatar_id', ['a', 'A-z_09', 'a' * 64])
def test_good_ids(store, avatar_id):
    store.save(avatar_id, avatar())
    assert store.list()[0].avatar_id == avatar_id


def test_taken_id_keeps_the_old_avatar_unless_replaced(store):
    store.save('ann', avatar(1.0))
    with pytest.raises(AvatarExistsError, match="'ann' exists already.*ask to replace"):
        store.save('ann', avatar(2.0))
    with pytest.raises(AvatarExistsError, match='exists already'):
        store.check_free('ann')
    assert store.load('ann')[1]['v'] == 1.0
    store.check_free('ann', replace=True)
    store.save('ann', avatar(2.0), replace=True)
    assert store.load('ann')[1]['v'] == 2.0


def test_missing_names_those_present(store):
    store.save('bob', avatar())
    for call in (lambda: store.load('ann'), lambda: store.delete('ann'), lambda: store.info('ann'),
                 lambda: store.read_bytes('ann', 0, 1)):
        with pytest.raises(AvatarNotFoundError, match="'ann' in .*stored there: bob"):
            call()


def test_empty_directory_lists_nothing(store):
    assert list(store.list()) == [] and list(store.damaged()) == []


@pytest.mark.parametrize('damage', [
    lambda d: d[:-1], lambda d: d[: len(d) // 2], lambda d: d[:5], lambda d: b'', lambda d: d + b'\0',
    lambda d: b'\xff' * 8 + d[8:], lambda d: b'not an avatar at all, just some text in a file',
])
def test_damaged_files_are_reported_apart(store, damage):
    store.save('good', avatar())
    store.save('bad', avatar())
    path = store.path('bad')
    path.write_bytes(damage(path.read_bytes()))
    assert [e.avatar_id for e in store.list()] == ['good']
    assert [d.avatar_id for d in store.damaged()] == ['bad']
    with pytest.raises(AvatarDamagedError, match='create or copy it again'):
        store.load('bad')


def test_a_flipped_bit_is_noticed(store):
    store.save('ann', avatar())
    data = bytearray(store.path('ann').read_bytes())
    data[-100] ^= 1
    store.path('ann').write_bytes(data)
    with pytest.raises(AvatarDamagedError, match='checksum'):
        store.load('ann')


def test_symbolic_links_are_not_followed(store, tmp_path):
    store.save('ann', avatar())
    outside = tmp_path / 'outside.safetensors'
    store.path('ann').rename(outside)
    store.path('ann').symlink_to(outside)
    for call in (lambda: store.load('ann'), lambda: store.read_bytes('ann', 0, 1)):
        with pytest.raises(AvatarDamagedError, match='symbolic link'):
            call()
    assert not store.list() and len(store.damaged()) == 1
    before = outside.read_bytes()
    store.save('ann', avatar(2.0), replace=True)  # takes the link's place, leaves its target alone
    assert outside.read_bytes() == before and not store.path('ann').is_symlink()
    store.path('ann').unlink()
    store.path('ann').symlink_to(outside)
    store.delete('ann')
    assert outside.exists() and not os.path.lexists(store.path('ann'))


def test_pieces_make_the_file(store):
    store.save('ann', avatar(count=50_000))
    pieces, offset = b'', 0
    while True:
        chunk = store.read_bytes('ann', offset, MAX_CHUNK)
        pieces, offset = pieces + chunk.data, offset + len(chunk.data)
        if offset == chunk.total_size:
            break
    assert len(pieces) > 2 * MAX_CHUNK
    assert hashlib.sha256(pieces).hexdigest() == chunk.sha256 == store.sha256('ann')
    assert store.read_bytes('ann', offset, 10).data == b''
    store.save('ann', avatar(2.0), replace=True)
    assert store.read_bytes('ann', 0, 1).sha256 != chunk.sha256


@pytest.mark.parametrize(('offset', 'length'), [(-1, 10), (10**9, 10), (0, 0), (0, -1), (0, MAX_CHUNK + 1)])
def test_pieces_out_of_range(store, offset, length):
    store.save('ann', avatar())
    with pytest.raises(RequestError, match='wanted'):
        store.read_bytes('ann', offset, length)


def test_delete_removes_everything(store):
    store.save('ann', avatar())
    store.save('bob', avatar())
    (store.directory / '.tmp-ann.safetensors-77-00').write_bytes(b'half')
    store.delete('ann')
    assert [p.name for p in store.directory.iterdir()] == ['bob.safetensors']


def test_disk_full_keeps_the_old_file(store, monkeypatch):
    store.save('ann', avatar(1.0))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(StorageError, match='disk is full; free some space'):
        store.save('ann', avatar(2.0), replace=True)
    with pytest.raises(StorageError, match='disk is full'):
        store.save('bob', avatar(2.0))
    monkeypatch.undo()
    assert [p.name for p in store.directory.iterdir()] == ['ann.safetensors']
    assert store.directory.joinpath('ann.safetensors').stat().st_size > 0


@pytest.mark.skipif(os.geteuid() != 0 or not Path('/dev/shm').is_dir(), reason='mounting a file system needs root')
def test_really_full_disk(tmp_path, store):
    """The same on a file system of 64 KiB."""
    small = tmp_path / 'small'
    small.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small], capture_output=True).returncode:
        pytest.skip('this container may not mount')
    try:
        full = AvatarStore(small)
        full.save('ann', avatar(1.0))
        with pytest.raises(StorageError, match='disk is full'):
            full.save('ann', avatar(2.0, count=50_000), replace=True)
        assert full.load('ann')[1]['v'] == 1.0
        assert [p.name for p in small.iterdir()] == ['ann.safetensors']
    finally:
        subprocess.run(['umount', small], check=True)


def test_too_large_is_refused(store):
    with pytest.raises(StorageError, match='at most 16000000'):
        store.save('ann', avatar(count=MAX_AVATAR_BYTES // 12 + 1))
    assert not store.list()


def test_unwritable_directory(store, tmp_path):
    store.directory.write_bytes(b'a file is in the way')
    with pytest.raises(StorageError, match='cannot make'):
        store.save('ann', avatar())
    with pytest.raises(StorageError, match='cannot list'):
        store.list()


@pytest.mark.parametrize('moment', ['written', 'synced'])
def test_killed_in_the_middle_leaves_the_old_or_nothing(store, moment):
    """A real process, killed with SIGKILL between the first byte and the rename."""
    store.save('ann', avatar(1.0))
    script = STAND_IN + textwrap.dedent(f"""
        import os, time
        from sega_ros.avatar.store import AvatarStore
        real = os.fsync
        def stop(descriptor):
            if {moment!r} == 'synced':
                real(descriptor)
            print('here', flush=True)
            time.sleep(60)
        os.fsync = stop
        avatar = {{'a': np.zeros((100_000, 3), np.float32)}}, {{'v': 2.0}}
        AvatarStore(sys.argv[1]).save(sys.argv[2], avatar, replace=True)
    """)
    for avatar_id in ('ann', 'bob'):
        command = [sys.executable, '-c', script, store.directory, avatar_id]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b'here\n'
            leftover, = store.directory.glob('.tmp-*')
            store.sweep()
            assert leftover.exists(), 'its writer lives'
            process.send_signal(signal.SIGKILL)
        assert leftover.exists(), 'the test must stop it while the file is half there'
        assert [e.avatar_id for e in store.list()] == ['ann'] and not store.damaged()
        assert store.load('ann')[1]['v'] == 1.0
        store.sweep()
        assert not leftover.exists(), 'what a killed save left is cleared'


def test_a_part_that_was_fetched_stays_for_a_while(store):
    store.save('ann', avatar())
    part = store.directory / f'.tmp-bob.safetensors-{"0" * 16}'
    part.write_bytes(b'half')
    store.sweep()
    assert part.exists(), 'the rest can still come'
    os.utime(part, (time.time() - 7200,) * 2)
    store.save('cat', avatar())
    assert not part.exists()


def test_real_avatar_round_trip(tmp_path):
    """The real serialisation: every field comes back, maps to half precision."""
    import torch

    from sega_ros.avatar.avatar import Avatar, Shell
    from sega_ros.tracking.fit import Identity
    from sega_ros.types import Camera, GaussianMap, Splats

    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.rand(shape, generator=generator)

    def maps(size):
        return GaussianMap(noise(size, size, 3), noise(size, size, 4), noise(size, size, 3), noise(size, size),
                           noise(size, size, 3))

    splats = Splats(noise(5, 3), noise(5, 4), noise(5, 3), noise(5), noise(5, 3))
    saved = Avatar(
        head_model='open', head_model_version='1', identity=Identity(np.arange(4, dtype=np.float32), focal_length=1.75),
        atlas_size=8, static=maps(8), dynamic=maps(8), branch=None, closed_lids=noise(8, 8, 3).numpy(),
        shell=Shell(splats, np.ones((5, 3), np.float32), np.tile(np.float32([-1, 0]), (5, 1)), np.zeros(5, np.float32)),
        photo_camera=Camera(64, 48, 90.0, 91.0, 32.0, 24.0), window=np.array([4, 5, 30], np.float32),
        background=np.array([0.1, 0.2, 0.3], np.float32), metadata={'consent': 'yes'}, warnings=('a warning',))
    store = AvatarStore(tmp_path)
    entry = store.save('ann', saved)
    loaded = store.load('ann')
    assert entry.metadata['consent'] == 'yes' and entry.metadata['head_model'] == 'open'
    assert (loaded.head_model, loaded.atlas_size, loaded.warnings) == ('open', 8, ('a warning',))
    assert torch.allclose(loaded.static.color, saved.static.color, atol=1e-3)
    assert torch.equal(loaded.shell.splats.means, splats.means)
    assert np.array_equal(loaded.identity.shape, saved.identity.shape)
    assert loaded.identity.focal_length == 1.75 and loaded.identity.v_offset is None
    assert np.allclose(loaded.window, [4, 5, 30])
    assert loaded.photo_camera.fy == pytest.approx(91.0) and loaded.photo_camera.height == 48
    again = store.save('bob', loaded)
    assert again.size == entry.size and store.sha256('ann') == store.sha256('bob')


def test_another_format_version_is_refused(tmp_path):
    from sega_ros.io import save_tensors

    save_tensors(tmp_path / 'ann.safetensors', {'static_map': np.zeros((2, 2, 14), np.float16)}, {'format': 99})
    with pytest.raises(AvatarDamagedError, match='format 99 is unknown'):
        AvatarStore(tmp_path).load('ann')
    save_tensors(tmp_path / 'bob.safetensors', {'static_map': np.zeros((2, 2, 14), np.float16)}, {'format': FORMAT})
    with pytest.raises(AvatarDamagedError, match='create it'):
        AvatarStore(tmp_path).load('bob')


def test_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv('SEGA_AVATAR_DIR', str(tmp_path / 'x'))
    assert default_directory() == tmp_path / 'x'
    monkeypatch.delenv('SEGA_AVATAR_DIR')
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path / 'data'))
    assert default_directory() == tmp_path / 'data' / 'sega_ros' / 'avatars'
    monkeypatch.delenv('XDG_DATA_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert default_directory() == tmp_path / '.local' / 'share' / 'sega_ros' / 'avatars'

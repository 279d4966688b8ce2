"""An avatar as tensors: what comes back, and what is refused when a file is damaged or made for another head."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from sega_ros.avatar.avatar import FORMAT, avatar_to_tensors, check_head, tensors_to_avatar
from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import AvatarDamagedError, HeadModelMismatchError
from sega_ros.io.tensors import tensors_to_bytes
from sega_ros.tracking.fit import Identity
from sega_ros.types import GaussianMap, Splats


@pytest.fixture
def file(real_avatar):
    """Tensors and metadata of the real avatar, free to be damaged."""
    tensors, metadata = avatar_to_tensors(real_avatar)
    return {k: np.array(v) for k, v in tensors.items()}, dict(metadata)


def test_every_field_comes_back(real_avatar):
    loaded = tensors_to_avatar(*avatar_to_tensors(real_avatar))
    for which in ('static', 'dynamic'):
        for name in GaussianMap.__dataclass_fields__:
            a, b = getattr(getattr(real_avatar, which), name), getattr(getattr(loaded, which), name)
            assert b.dtype == torch.float32 and b.shape == a.shape
            # Half precision: eleven bits.
            torch.testing.assert_close(b, a, rtol=6e-4, atol=1e-6, msg=f'{which}.{name}')
    for name in Splats.__dataclass_fields__:
        a, b = getattr(real_avatar.shell.splats, name), getattr(loaded.shell.splats, name)
        assert b.dtype == torch.float32
        torch.testing.assert_close(b, a, rtol=0 if name == 'means' else 6e-4, atol=0 if name == 'means' else 1e-6, msg=name)
    for f in fields(Identity):
        a, b = getattr(real_avatar.identity, f.name), getattr(loaded.identity, f.name)
        np.testing.assert_allclose(b, np.asarray(a, np.float32), err_msg=f.name)
    for name in ('normals', 'fade', 'torso'):
        a, b = getattr(real_avatar.shell, name), getattr(loaded.shell, name)
        np.testing.assert_allclose(b, a, rtol=6e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(loaded.closed_lids, real_avatar.closed_lids, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(loaded.background, real_avatar.background)
    np.testing.assert_allclose(loaded.window, real_avatar.window)
    for f in fields(real_avatar.photo_camera):
        np.testing.assert_allclose(getattr(loaded.photo_camera, f.name), getattr(real_avatar.photo_camera, f.name),
                                   rtol=1e-6, err_msg=f.name)
    assert (loaded.head_model, loaded.head_model_version) == (
        real_avatar.head_model, real_avatar.head_model_version)
    assert loaded.warnings == real_avatar.warnings and loaded.warnings
    assert loaded.metadata.items() >= real_avatar.metadata.items()


def test_what_is_missing_stays_missing(real_avatar):
    plain = replace(real_avatar, identity=Identity(real_avatar.identity.shape), warnings=())
    loaded = tensors_to_avatar(*avatar_to_tensors(plain))
    assert all(getattr(loaded.identity, f.name) is None for f in fields(Identity) if f.name != 'shape')
    assert loaded.warnings == ()


def test_a_second_round_trip_changes_nothing(file):
    again = avatar_to_tensors(tensors_to_avatar(*file))
    assert tensors_to_bytes(*again) == tensors_to_bytes(*file)


def test_file_size_and_metadata(real_avatar, tmp_path):
    entry = AvatarStore(tmp_path).save('ann', real_avatar)
    assert entry.size < 16_000_000
    assert entry.metadata['consent'] == 'public domain' and entry.metadata['synthetic'] is True
    assert entry.metadata['provenance'] == 'made by sega_ros from one photo of 512x512 px'
    assert entry.metadata['format'] == FORMAT and entry.metadata['quality'] == 'standard'
    loaded = AvatarStore(tmp_path).load('ann')
    assert loaded.metadata['photo_psnr'] == real_avatar.metadata['photo_psnr']


@pytest.mark.parametrize('key', [
    'static_map', 'static_map.texels', 'dynamic_map', 'dynamic_map.texels', 'closed_lids',
    'shell.means', 'shell.quats', 'shell.scales', 'shell.opacities',
    'shell.colors', 'shell.normals', 'shell.fade', 'shell.torso', 'photo.viewmat', 'photo.intrinsics', 'window', 'background',
    'identity.shape',
])
def test_damaged_tensors_are_refused(file, key):
    tensors, metadata = file
    without = {k: v for k, v in tensors.items() if k != key}
    with pytest.raises(AvatarDamagedError, match=f'damaged avatar: .*{key}.*create it anew'):
        tensors_to_avatar(without, metadata)
    for shape in ((*tensors[key].shape, 1), ()):
        with pytest.raises(AvatarDamagedError, match='damaged avatar'):
            tensors_to_avatar(tensors | {key: np.zeros(shape, tensors[key].dtype)}, metadata)
    if key != 'identity.shape':  # its length is the head's business
        with pytest.raises(AvatarDamagedError, match='wanted shape'):
            tensors_to_avatar(tensors | {key: tensors[key][:-1]}, metadata)
    for value in (np.nan, np.inf):
        broken = tensors[key].astype(np.float32)
        broken.flat[-1] = value
        with pytest.raises(AvatarDamagedError, match=f'{key} holds values that are not finite'):
            tensors_to_avatar(tensors | {key: broken}, metadata)


@pytest.mark.parametrize('key', ['identity.v_offset', 'identity.landmark_offset', 'identity.eyelids'])
def test_damaged_optional_tensors_are_refused(file, key):
    tensors, metadata = file
    if key not in tensors:
        pytest.skip('the avatar has none')
    broken = tensors[key].copy()
    broken.flat[0] = np.nan
    with pytest.raises(AvatarDamagedError, match=f'{key} holds values that are not finite'):
        tensors_to_avatar(tensors | {key: broken}, metadata)
    with pytest.raises(AvatarDamagedError, match=f'{key}: wanted shape'):
        tensors_to_avatar(tensors | {key: tensors[key][..., None]}, metadata)


def test_an_empty_focal_length_is_refused(file):
    tensors, metadata = file
    with pytest.raises(AvatarDamagedError, match=r'identity.focal_length: wanted shape \[1\]'):
        tensors_to_avatar(tensors | {'identity.focal_length': np.zeros(0, np.float32)}, metadata)


@pytest.mark.parametrize(('key', 'value'), [('window', 0), ('window', -5), ('photo.intrinsics', 0)])
def test_sizes_that_no_camera_has_are_refused(file, key, value):
    tensors, metadata = file
    broken = tensors[key].copy()
    broken[2] = value  # the window's side, the camera's focal length
    with pytest.raises(AvatarDamagedError, match=f'{key}.*positive'):
        tensors_to_avatar(tensors | {key: broken}, metadata)


@pytest.mark.parametrize('changes', [
    {'atlas_size': 'x'}, {'atlas_size': None}, {'atlas_size': 64}, {'atlas_size': -1}, {'warnings': 3},
    {'atlas_size': float('inf')},
])
def test_damaged_metadata_is_refused(file, changes):
    tensors, metadata = file
    with pytest.raises(AvatarDamagedError, match='damaged avatar.*create it anew'):
        tensors_to_avatar(tensors, metadata | changes)


@pytest.mark.parametrize('key', ['atlas_size', 'head_model', 'head_model_version'])
def test_missing_metadata_is_refused(file, key):
    tensors, metadata = file
    del metadata[key]
    with pytest.raises(AvatarDamagedError, match=key):
        tensors_to_avatar(tensors, metadata)


@pytest.mark.parametrize('version', [FORMAT + 1, 0, None, '1'])
def test_another_format_is_refused(file, version):
    tensors, metadata = file
    with pytest.raises(AvatarDamagedError, match=f'avatar format {version!r} is unknown, wanted {FORMAT}: create it anew'):
        tensors_to_avatar(tensors, metadata | {'format': version})


@pytest.mark.parametrize('changes', [{'head_model': 'flame2023'}, {'head_model_version': '0'}])
def test_another_head_model_is_refused(real_avatar, head, changes):
    other = replace(real_avatar, **changes)
    name, version = other.head_model, other.head_model_version
    with pytest.raises(HeadModelMismatchError,
                       match=re.escape(f'made for head model {name} {version}, loaded is {head.name} ')):
        check_head(other, head)
    check_head(real_avatar, head)

"""The networks in an avatar: what is baked is what they said, the driver decodes as training does, the photo is followed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sega_ros.avatar.avatar import avatar_to_tensors, tensors_to_avatar
from sega_ros.avatar.create import personal_avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.expressions import other_expressions
from sega_ros.avatar.personalise import PersonaliseConfig
from sega_ros.errors import AvatarDamagedError, ModelError
from sega_ros.models.binding import camera_centre
from sega_ros.models.closing import closed
from sega_ros.models.layers import fast_dtype
from sega_ros.models.sega import Sega, SegaConfig
from sega_ros.models.weights import load_prior, load_weights, save_weights
from sega_ros.render import rasterize_arrays
from sega_ros.types import GaussianMap, Region, Splats

NO_STEPS = PersonaliseConfig(decoder_steps=0, steps=0)


@pytest.fixture(scope='module')
def model():
    """Networks that change everything a little, at random."""
    torch.manual_seed(3)
    model = Sega(SegaConfig())
    torch.nn.init.normal_(model.dynamic.basis, std=0.2)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def make(layout, creation, model):
    def call(config=NO_STEPS, **options):
        parts = creation.parts
        return personal_avatar(layout, parts.identity, parts.fit.params, parts.photo, creation.avatar.photo_camera,
                               **{'model': model, 'config': config, **options})

    return call


@pytest.fixture(scope='module')
def fed_forward(make):
    return make()


def shown(avatar, head, params):
    """Picture of the driven avatar in the photo's own view."""
    driver = AvatarDriver(avatar, head)
    message = replace(driver.neutral(), params=replace(params, shape=np.zeros(0, np.float32)))
    return rasterize_arrays(*driver.splats(message, View('free'), avatar.photo_camera), avatar.photo_camera,
                            background=avatar.background)


def test_the_driven_avatar_is_what_the_networks_said(fed_forward, creation, head):
    picture = shown(fed_forward.avatar, head, creation.parts.fit.params)
    error = picture.astype(int) - fed_forward.picture
    exact = fast_dtype(torch.device('cpu')) == torch.float32
    assert np.abs(error).max() <= (2 if exact else 12)
    assert 20 * np.log10(255 / np.sqrt((error**2).mean())) > 55


def test_so_is_it_after_fine_tuning_and_from_a_file(make, creation, head):
    person = make(PersonaliseConfig(decoder_steps=2, steps=3))
    loaded = tensors_to_avatar(*avatar_to_tensors(person.avatar))
    picture = shown(loaded, head, creation.parts.fit.params)
    error = (picture.astype(float) - person.picture) / 255
    assert -10 * np.log10((error**2).mean()) > 45, 'half precision'


def test_the_networks_act_with_the_expression(fed_forward, head):
    """The same pose of the mesh, decoded and not: the dynamic regions differ, the hair does not."""
    avatar = fed_forward.avatar
    still = replace(avatar, branch=None)
    for params in other_expressions(head)[1:3]:
        params = replace(params, eyelids=np.zeros(2, np.float32))
        with_branch, without = (shown(a, head, params).astype(int) for a in (avatar, still))
        assert np.abs(with_branch - without)[200:400, 150:350].mean() > 0.5
        assert np.abs(with_branch - without)[:60].max() == 0


def test_fine_tuning_follows_the_photo_and_leaves_the_given_networks_alone(make, model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    plain = make().avatar.metadata['photo_psnr']
    tuned = make(PersonaliseConfig(decoder_steps=6, steps=0)).avatar.metadata['photo_psnr']
    both = make(PersonaliseConfig(decoder_steps=6, steps=12)).avatar.metadata['photo_psnr']
    assert plain < tuned < both
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_fine_tuned_decoders_change_the_face_alone(make, fed_forward):
    """What they make of hair, ears and neck after a look at the photo does not hold from the side."""
    tuned = make(PersonaliseConfig(decoder_steps=6, steps=0)).avatar
    before, after = fed_forward.avatar, tuned
    for name in Splats.__dataclass_fields__:
        assert torch.equal(getattr(after.shell.splats, name), getattr(before.shell.splats, name))
    for name in GaussianMap.__dataclass_fields__:
        assert torch.equal(getattr(after.static, name), getattr(before.static, name))
        assert not torch.equal(getattr(after.dynamic, name), getattr(before.dynamic, name))
    assert not torch.equal(after.branch.features, before.branch.features)


def test_the_residual_fades_with_the_angle_to_the_photo(make, head):
    """Near the photo's view it shows in full, far from it not at all, whatever was drawn before; on the face it goes last."""
    avatar = make(PersonaliseConfig(decoder_steps=0, steps=6)).avatar
    with_it, without = AvatarDriver(avatar, head), AvatarDriver(replace(avatar, residual=None), head)
    message = with_it.neutral()

    def error(degrees):
        view = View('free', (128, 128), yaw=np.radians(degrees))
        return np.abs(with_it.render(message, view).astype(int) - without.render(message, view)).mean()

    angles = (0, 12, 26, 60, -26, -70, 12, 0)
    errors = np.array([error(a) for a in angles])
    assert errors[0] > errors[2] > 0 and errors[3] == errors[5] == 0
    assert errors[0] == errors[-1] and errors[1] == errors[-2], 'no memory of other views'
    whole, message = with_it._whole, with_it.neutral()
    shares = [whole.residual_shares(camera_centre(with_it.camera(message, View('free', yaw=np.radians(a))).viewmat))
              for a in angles[:4]]
    assert [face > rest for face, rest in shares] == [False, True, True, False] and shares[2][1] == 0
    assert np.isin(whole.local.share, (0, 1)).all() and (whole.local.share[whole.side >= 0] == 0).all(), 'lids are face'


def test_texels_that_are_moved_apart_get_wider(layout):
    """Those at the gap, and only so far; charts that end are no gap, and a size that grew already counts."""
    table, count = layout.table, len(layout.table)
    low = (table.rows > np.median(table.rows)) & (layout.region == Region.FACE)
    near_gap = (np.abs(table.rows - np.median(table.rows)) < 2) & (layout.region == Region.FACE)

    def wider(gap, growth=0.0):
        offset = np.zeros((count, 3), np.float32)
        offset[low, 1] = -gap  # the bitangent points up the map
        change = GaussianMap(torch.from_numpy(offset), torch.zeros(count, 4), torch.full((count, 3), growth),
                             torch.zeros(count), torch.zeros(count, 3))
        return closed(change, np.zeros((count, 3), np.float32), layout).log_scale.numpy() - growth

    assert (wider(0.0) == 0).all()
    more = wider(0.001)
    assert more[near_gap, 1].max() > 0.3 and np.median(more[near_gap, 1]) > 0.05 and (more[:, 2] == 0).all()
    assert (more[layout.region == Region.SCALP] != 0).mean() < 0.05  # where it meets the face
    grown = wider(0.001, growth=0.2)
    assert (grown <= more).all() and grown[near_gap, 1].max() > 0 and (grown > 0).sum() < (more > 0).sum()
    assert wider(0.1).max() == 0.5


def test_the_residual_is_in_the_file(make):
    avatar = make(PersonaliseConfig(decoder_steps=0, steps=6)).avatar
    tensors, metadata = avatar_to_tensors(avatar)
    loaded = tensors_to_avatar(tensors, metadata).residual
    for name in ('color', 'opacity', 'log_scale', 'offset'):
        value = getattr(avatar.residual.maps, name)
        assert value.abs().max() > 0, name
        step = value.abs().amax((0, 1)) / 64
        assert ((getattr(loaded.maps, name) - value).abs() <= 0.501 * step + 1e-9).all(), name
    np.testing.assert_allclose(loaded.shell_colors, avatar.residual.shell_colors, atol=1e-3)
    del tensors['residual.shell_opacities']
    with pytest.raises(AvatarDamagedError, match='residual.shell_opacities'):
        tensors_to_avatar(tensors, metadata)
    assert make().avatar.residual is None


def test_without_networks_photo_and_mesh_remain(make, head, creation):
    person = make(model=None)
    assert person.avatar.branch is None
    picture = shown(person.avatar, head, creation.parts.fit.params)
    assert np.abs(picture.astype(int) - person.picture).max() <= 2


def test_no_bust(make):
    avatar = make(bust=False).avatar
    assert len(avatar.shell.torso) > 500 and avatar.shell.torso.max() < 0.05


def test_the_file_stays_small(fed_forward):
    tensors, _ = avatar_to_tensors(fed_forward.avatar)
    assert sum(t.nbytes for t in tensors.values()) < 16e6


@pytest.mark.parametrize(('key', 'change', 'match'), [
    ('branch.dynamic.enter.weight', lambda v: v[:3], 'dynamic.enter.weight'),
    ('branch.features', lambda v: v[:, :7], 'features'),
    ('branch.deformation.encoder.0.bias', None, 'deformation.encoder.0.bias is missing'),
])
def test_a_damaged_branch_is_refused(fed_forward, refused, key, change, match):
    refused(fed_forward.avatar, key, change, match)


@pytest.mark.parametrize('sizes', [{'width': 10**9}, {'latent': 0}, {'colour': 3}, {'width': 'many'}])
def test_senseless_sizes_of_a_branch_are_refused(fed_forward, sizes):
    tensors, metadata = avatar_to_tensors(fed_forward.avatar)
    metadata = metadata | {'branch': metadata['branch'] | {'deformation': metadata['branch']['deformation'] | sizes}}
    with pytest.raises(AvatarDamagedError):
        tensors_to_avatar(tensors, metadata)


def test_weights_belong_to_a_head_model(tmp_path, model, head):
    path = tmp_path / 'weights.safetensors'
    save_weights(path, model, {'steps': 1}, head=head)
    loaded = load_prior(head, path)
    for (name, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6, msg=name)
    assert load_prior(replace(head, version='another'), path) is None
    assert load_prior(head, tmp_path / 'none') is None


def test_weights_of_another_version_are_refused(tmp_path, model, head):
    from sega_ros.io.tensors import load_tensors, save_tensors

    path = tmp_path / 'weights.safetensors'
    save_weights(path, model, {}, head=head)
    tensors, metadata = load_tensors(path, 1 << 30)
    for k, (changed, text) in enumerate({
            'wanted 1': (metadata | {'format': 99}, 'format 99'),
            'sizes': (metadata | {'config': {'identity': {}}}, 'sizes are not understood')}.values()):
        other = tmp_path / f'{k}.safetensors'
        save_tensors(other, tensors, changed)
        with pytest.raises(ModelError, match=text):
            load_weights(other)
    tensors.pop('static.place')
    save_tensors(tmp_path / 'x.safetensors', tensors, metadata)
    with pytest.raises(ModelError, match='static.place is missing'):
        load_weights(tmp_path / 'x.safetensors')


def test_relighting_reports_before_and_after(make):
    reports = []
    photo = make()
    neutral = make(lighting='neutral', report=lambda stage, share, picture: reports.append((stage, picture)))
    figure = dict(reports)['relight']
    side = photo.picture.shape[1]
    assert figure.shape == (photo.picture.shape[0], 2 * side, 3)
    top = slice(0, photo.picture.shape[0] // 2)  # the balls are in the lower corners
    np.testing.assert_array_equal(figure[top, :side], photo.picture[top])
    np.testing.assert_array_equal(figure[top, side:], neutral.picture[top])
    assert not np.array_equal(photo.picture, neutral.picture)
    likeness = [m.avatar.metadata['photo_psnr'] for m in (photo, neutral)]
    assert likeness[0] == likeness[1], 'likeness is measured under the light of the photo'

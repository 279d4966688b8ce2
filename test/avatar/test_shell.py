"""Hair and bust: the relief's shape, and that the head is closed from the sides."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from sega_ros.avatar import relief
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.relief import head_centre, picture_heights, region_of
from sega_ros.avatar.shell import NECK_CUT, build_shell, covered_ears, fallen_hair, hair_mask, mesh_mask
from sega_ros.avatar.texture import mesh_buffer
from sega_ros.camera import orbit_camera, project
from sega_ros.geometry import unitquat_to_rotmat
from sega_ros.head.skinning import Poser
from sega_ros.render import rasterize
from sega_ros.types import Region, Splats

SIZE = (300, 320)


def disc(side, radius):
    rows, cols = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(rows, cols) < radius, np.hypot(rows, cols)


def poisson(inside, *, fixed=None, value=None, source=4.0, soft=None, weight=None, hanging=None):
    zeros = np.zeros(inside.shape)
    return relief._poisson(
        inside, zeros > 0 if fixed is None else fixed, zeros if value is None else value,
        np.full(inside.shape, source), zeros if soft is None else soft, zeros if weight is None else weight,
        zeros > 0 if hanging is None else hanging)


# --- the relief's equation --------------------------------------------------------------------------------------------

def test_a_disc_becomes_a_sphere():
    """The depth is sqrt(q): on a disc of radius R that is sqrt(R^2 - r^2)."""
    inside, r = disc(85, 40)
    depth = np.sqrt(poisson(inside))
    assert not depth[~inside].any()
    well_in = r < 38
    np.testing.assert_allclose(depth[well_in], np.sqrt(40.4**2 - r[well_in] ** 2), atol=0.9)
    assert depth.max() == pytest.approx(40, rel=0.02)


def test_an_ellipse_becomes_an_ellipsoid():
    rows, cols = np.mgrid[:61, :101] - np.array([30, 50])[:, None, None]
    a, b = 45.0, 25.0
    scaled = (cols / a) ** 2 + (rows / b) ** 2
    q = poisson(scaled < 1)
    # lap q = -4 has q = 4 / (2 / a^2 + 2 / b^2) * (1 - x^2 / a^2 - y^2 / b^2).
    wanted = 2 / (1 / a**2 + 1 / b**2) * np.clip(1 - scaled, 0, None)
    assert np.abs(q - wanted)[scaled < 0.9].max() < 0.08 * wanted.max()


def test_fixed_cells_keep_their_values_and_the_rest_joins_them():
    inside, r = disc(85, 40)
    fixed = r < 15
    value = np.full(inside.shape, 900.0)
    q = poisson(inside, fixed=fixed, value=value)
    assert (q[fixed] == 900).all()
    ring = inside & ~fixed & (r < 17)
    assert np.abs(q[ring] - 900).max() < 130, 'no step where the mesh ends'


def test_the_border_of_the_picture_is_no_silhouette():
    """A person that the picture cuts off goes on behind its edge: the depth is the whole disc's there."""
    inside, _ = disc(85, 40)
    whole, half = poisson(inside), poisson(inside[:, :43])
    np.testing.assert_allclose(half[:, :42], whole[:, :42], atol=25)
    assert half[42, 42] > 1500


def test_soft_values_only_pull():
    inside, _ = disc(41, 18)
    free = poisson(inside)
    pulled = poisson(inside, soft=np.full(inside.shape, 2000.0), weight=np.full(inside.shape, 0.05))
    assert (pulled >= free - 1e-6).all() and free.max() < pulled.max() < 2000


def test_hanging_cells_do_not_feel_the_mesh_beside_them():
    """Hair beside a jaw: its depth goes on from above, whatever depth the jaw has."""
    inside, _ = disc(41, 18)
    fixed = np.zeros_like(inside)
    fixed[22:30, 16:25] = True
    low = np.arange(41)[:, None] > np.full(41, 20)
    near, far = (poisson(inside, fixed=fixed, value=np.full(inside.shape, v), hanging=inside & low) for v in (10.0, 900.0))
    hair = inside & ~fixed
    np.testing.assert_allclose(near[hair], far[hair])
    felt = poisson(inside, fixed=fixed, value=np.full(inside.shape, 900.0))
    assert (felt - far)[26, 13] > 100


@pytest.mark.parametrize('side', [1, 9])
def test_nobody_gives_no_relief(side):
    assert not poisson(np.zeros((side, side), bool)).any()


# --- splats -----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def scene(head, creation):
    """Mesh at the photo's pose, photo, camera, z-buffer."""
    identity, camera = creation.avatar.identity, creation.avatar.photo_camera
    vertices = Poser(head, identity.shape, v_offset=identity.v_offset).pose(creation.parts.fit.params)
    return head, vertices, creation.parts.photo, camera, mesh_buffer(head, vertices, camera)


@pytest.fixture(scope='module')
def shell(scene):
    return build_shell(*scene)


def test_splats_are_sane(shell):
    n = len(shell.splats)
    assert 3000 < n < 40_000 and shell.normals.shape == (n, 3) and shell.torso.shape == (n,)
    assert shell.fade.shape == (n, 2) and (shell.fade[:, 0] < shell.fade[:, 1]).all()
    for name in Splats.__dataclass_fields__:
        assert torch.isfinite(getattr(shell.splats, name)).all(), name
    np.testing.assert_allclose(np.linalg.norm(shell.normals, axis=1), 1, atol=1e-3)
    assert shell.torso.min() >= 0 and shell.torso.max() <= 1
    assert shell.splats.scales.min() > 0 and shell.splats.scales.max() < 0.05
    assert shell.splats.colors.min() >= 0 and shell.splats.colors.max() <= 1
    assert 0 < shell.splats.opacities.min() and shell.splats.opacities.max() < 1


def test_normals_are_the_splats_thin_axes(shell):
    thin = unitquat_to_rotmat(shell.splats.quats)[..., 2].numpy()
    assert np.abs((thin * shell.normals).sum(-1)).min() > 0.99


def test_hair_has_a_volume_in_front_and_behind(shell, head):
    """The head's part is as deep as a head and encloses the skull's centre."""
    own = shell.torso < 0.02
    means = shell.splats.means.numpy()[own]
    depth = np.quantile(means[:, 2], 0.98) - np.quantile(means[:, 2], 0.02)
    assert 0.12 < depth < 0.32, 'metres from the fringe to the back of the head'
    offset = means - head_centre(head)
    assert ((offset * shell.normals[own]).sum(-1) > 0).mean() > 0.85, 'normals point outwards'


def test_the_shell_stays_inside_the_matte(shell, scene):
    """From the photo's camera no solid splat lies beside the person."""
    from scipy.ndimage import binary_dilation

    _, _, photo, camera, _ = scene
    solid = shell.splats.opacities.numpy() > 0.5
    xy, _ = project(shell.splats.means.numpy()[solid], camera)
    cols, rows = np.clip(np.floor(xy), 0, 511).astype(int).T
    person = binary_dilation(photo.alpha > 0.3, iterations=3)
    assert person[rows, cols].mean() > 0.995


def test_colours_are_the_person_s(shell, scene):
    """Each solid splat has a colour that occurs in the solid part of the person."""
    from scipy.spatial import cKDTree

    photo = scene[2]
    palette = cKDTree(photo.color[photo.alpha > 0.98][::5])
    away, _ = palette.query(shell.splats.colors.numpy()[shell.splats.opacities.numpy() > 0.8])
    assert np.quantile(away, 0.99) < 0.08


def test_mesh_mask_leaves_scalp_and_neck_s_end_to_the_shell(scene):
    head, _, _, _, buffer = scene
    mask = mesh_mask(head, buffer)
    region = np.where(buffer.face >= 0, head.face_region[np.maximum(buffer.face, 0)], 0)
    assert mask[region == Region.FACE].all() and not mask[region == Region.SCALP].any()
    assert not mask[buffer.face < 0].any()
    height = buffer.interpolate(head.v_template, head.faces)[..., 1]
    neck = region == Region.NECK
    np.testing.assert_array_equal(mask[neck], height[neck] >= NECK_CUT)


def painted_over(scene, shown):
    """The photo with ears in the hair's colour (`shown` False), or in the skin's."""
    head, _, photo, camera, buffer = scene
    mesh, region = mesh_mask(head, buffer), region_of(head, buffer)
    crown = hair_mask(photo, mesh, *picture_heights(head, camera)) & (picture_heights(head, camera)[0] > 0.06)
    own = np.median(photo.color[(region == Region.FACE) if shown else crown], 0)
    ears = region == Region.EARS
    color = np.where(ears[..., None], own, photo.color).astype(np.float32)
    return replace(photo, color=color, alpha=np.maximum(photo.alpha, ears)), crown, ears


@pytest.mark.parametrize('shown', [False, True])
def test_ears_are_covered_where_the_photo_shows_hair_in_their_place(scene, shown):
    head, _, _, _, buffer = scene
    photo, crown, ears = painted_over(scene, shown)
    covered = covered_ears(head, photo, buffer, crown)
    np.testing.assert_array_equal(covered, np.zeros_like(ears) if shown else ears)


def test_hair_over_an_ear_lies_in_front_of_it(scene):
    head, vertices, _, camera, buffer = scene
    photo, _, ears = painted_over(scene, False)
    shell = build_shell(head, vertices, photo, camera, buffer)
    xy, z = project(shell.splats.means.numpy(), camera)
    col, row = np.clip(np.floor(xy).astype(int), 0, np.array(ears.shape[::-1]) - 1).T
    over = ears[row, col] & (shell.torso < 0.5)
    gap = np.where(np.isfinite(buffer.depth), buffer.depth, np.inf)[row, col] - z
    assert over.sum() > 20 and np.median(gap[over].clip(-0.1, 0.1)) > 0.002


def test_the_bust_goes_on_below_the_picture(shell, scene):
    """So that its end does not come into the display when the head is seen from above."""
    _, _, photo, camera, _ = scene
    edge = np.flatnonzero(photo.inside.any(1))[-1] + 1
    xy, _ = project(shell.splats.means.numpy(), camera)
    below = xy[:, 1] > edge + 1
    assert 100 < below.sum() and (shell.torso[below] > 0.5).all() and xy[:, 1].max() < edge + 50
    # Seen by the photo's camera a mirrored splat looks as its twin does, upside down.
    above = (xy[:, 1] < edge) & (xy[:, 1] > edge - 48) & (shell.torso > 0.5)
    assert below.sum() <= above.sum() * 1.05
    np.testing.assert_allclose(shell.splats.colors[below].mean(0), shell.splats.colors[above].mean(0), atol=0.05)


def long_haired(scene, clothes):
    """The photo with bands of hair's colour beside the neck and down over the shoulders, on clothes of a colour."""
    head, _, photo, camera, buffer = scene
    mesh = mesh_mask(head, buffer)
    height, torso = picture_heights(head, camera)
    crown = hair_mask(photo, mesh, height, torso) & (height > 0.06)
    own = np.median(photo.color[crown], 0)
    cols = np.arange(photo.alpha.shape[1])
    centre = float(cols[mesh.any(0)].mean())
    band = (np.abs(np.abs(cols - centre) - 145) < 18)[None] & (height < 0.06) & ~mesh
    color = np.where((torso > 0.5)[..., None], np.float32(clothes), photo.color)
    color = np.where(band[..., None], own, color).astype(np.float32)
    photo = replace(photo, color=color, alpha=np.where(band, 1, photo.alpha).astype(np.float32))
    return photo, mesh, hair_mask(photo, mesh, height, torso), torso > 0.5, band, own


def test_hair_before_the_shoulders_is_found_unless_clothes_look_like_it(scene):
    photo, mesh, hair, torso, band, own = long_haired(scene, [0.1, 0.2, 0.8])
    found = fallen_hair(photo, mesh, hair, torso)
    wanted = band & torso & ~mesh
    assert (found & wanted).sum() > 0.9 * wanted.sum() and (found & ~wanted).sum() < 0.1 * wanted.sum()
    photo, mesh, hair, torso, *_ = long_haired(scene, own)
    assert not fallen_hair(photo, mesh, hair, torso).any()


def test_long_hair_hangs_ahead_of_short_hair(scene):
    """It covers temples and ears; the chest between its sides has no step."""
    _, _, _, camera, _ = scene
    *_, hair, _, _, _ = long_haired(scene, [0.1, 0.2, 0.8])
    height, _ = picture_heights(scene[0], camera)
    ahead = relief.hang_ahead(hair, height)
    side, middle = ahead[:, 60], ahead[:, ahead.shape[1] // 2]
    assert side.max() == pytest.approx(relief.HANG_AHEAD) and side.min() > 0.02 and middle.max() < 1e-3
    assert np.abs(np.diff(ahead, axis=1)).max() < 0.002
    assert not relief.hang_ahead(hair & (height > 0), height).any()


def test_voluminous_hair_stands_off_the_hairline(scene):
    head, _, _, camera, buffer = scene
    height, _ = picture_heights(head, camera)
    near = ndimage.binary_dilation(buffer.face >= 0, iterations=3) & ~(buffer.face >= 0)
    far = ndimage.binary_dilation(buffer.face >= 0, iterations=60) & ~(buffer.face >= 0)
    flat, wide = (relief._stands_off(hair & (height > 0), buffer, height) for hair in (near, far))
    assert flat.max() == 0 and 0.015 < wide.max() <= 0.05 and not wide[height < 0.04].any()


@pytest.mark.parametrize('alpha', [0.0, 1.0])
def test_a_matte_without_an_edge(scene, alpha):
    """Nobody, or a picture full of person: no crash, and nothing invented beside it."""
    head, vertices, photo, camera, buffer = scene
    empty = replace(photo, alpha=np.full_like(photo.alpha, alpha))
    made = build_shell(head, vertices, empty, camera, buffer)
    if alpha == 0:
        assert not len(made.splats)
    else:
        assert torch.isfinite(made.splats.means).all() and len(made.splats) > 1000


# --- closed from the sides --------------------------------------------------------------------------------------------

def alpha_at(avatar, head, yaw):
    driver = AvatarDriver(avatar, head)
    message, view = driver.neutral(), View('free', SIZE, yaw=np.radians(yaw))
    camera = driver.camera(message, view)
    splats = Splats(*(torch.from_numpy(a.copy()) for a in driver.splats(message, view, camera)))
    return rasterize(splats, camera).alpha.numpy(), camera


@pytest.mark.parametrize('yaw', [-30, -15, 0, 15, 30])
def test_no_background_shows_through_the_head(real_avatar, head, yaw):
    """Inside of the head's silhouette every pixel is covered: hair, ears and face leave no hole."""
    alpha, camera = alpha_at(real_avatar, head, yaw)
    filled = ndimage.binary_fill_holes(alpha > 0.5)
    # Down to the chin; the bust below has a collar with gaps of its own.
    chin = project(np.array([0.0, -0.075, 0.05]), camera)[0][1]
    rows = np.mgrid[:SIZE[0], :SIZE[1]][0]
    inside = ndimage.binary_erosion(filled, iterations=5) & (rows < chin)
    assert inside.sum() > 0.08 * alpha.size
    holes = inside & (alpha < 0.5)
    assert holes.sum() == 0
    assert (alpha[inside] < 0.9).mean() < 0.012 and (alpha[inside] < 0.75).mean() < 0.004
    assert alpha[inside].mean() > 0.99


@pytest.mark.parametrize('yaw', [-30, 30])
def test_from_the_side_it_is_a_head_not_a_mask(real_avatar, head, yaw):
    """The silhouette is about as wide as from the front: behind the face there is a head."""
    def width(a, camera):
        rows = [int(project(np.array([0.0, y, 0.0]), camera)[0][1]) for y in (0.03, 0.06)]
        return np.median((a[min(rows):max(rows)] > 0.5).sum(1))

    ratio = width(*alpha_at(real_avatar, head, yaw)) / width(*alpha_at(real_avatar, head, 0))
    assert 0.85 < ratio < 1.35


def test_head_centre_lies_in_the_skull(head):
    x, y, z = head_centre(head)
    assert x == 0 and 0.0 < y < 0.12 and -0.12 < z < 0.05
    sides = project(np.array([[x, y, z]]), orbit_camera(distance=1.0, size=(100, 100)))[0]
    assert sides[0, 0] == pytest.approx(50)

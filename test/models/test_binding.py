"""Binding of Gaussian maps to the mesh: frames, motion, stretch, culling, and the fast path against the torch one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sega_ros.geometry import rotvec_to_rotmat, unitquat_to_rotmat
from sega_ros.head.atlas import build_atlas
from sega_ros.head.skinning import Poser
from sega_ros.models import binding
from sega_ros.models.bind_kernel import activate, bind_into
from sega_ros.models.binding import bind, camera_centre, facing_fade, fuse, surface_frames, texel_table, vertex_normals
from sega_ros.types import FlameParams, GaussianMap, Splats

SIZE = 64
EYE = np.array([0.2, 0.1, 0.8])
FAR = 1e3  # metres


@pytest.fixture(scope='module')
def poser(head):
    return Poser(head, np.zeros(head.n_shape, np.float32))


@pytest.fixture(scope='module')
def table(head, poser):
    return texel_table(head, build_atlas(head, SIZE), poser.rest)


@pytest.fixture(scope='module')
def posed(head, poser):
    """Everything moves: expression, jaw, gaze, lids."""
    rng = np.random.default_rng(0)
    return poser.pose(FlameParams(
        np.zeros(0, np.float32), rng.uniform(0, 0.6, head.n_expression).astype(np.float32),
        jaw_pose=np.float32([0.2, 0, 0]), left_eye_pose=np.float32([0.1, 0.2, 0]),
        right_eye_pose=np.float32([-0.1, 0.2, 0]), eyelids=np.float32([1, 0.3])))


def random_map(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(scale, *shape):
        return scale * torch.randn(SIZE, SIZE, *shape, generator=generator)

    return GaussianMap(normal(0.002, 3), normal(1, 4), normal(0.4, 3) - 6, normal(3), 0.5 + normal(0.4, 3))


def moved(vertices, rotation, translation):
    return (vertices @ rotation.T + translation).astype(np.float32)


def buffers(n):
    return tuple(np.full((n, *shape), np.nan, np.float32) for shape in ((3,), (4,), (3,), (), (3,)))


def test_table_lies_on_the_surface(head, poser, table):
    atlas = build_atlas(head, SIZE)
    assert len(table) == atlas.valid.sum() > 1000
    np.testing.assert_allclose(
        surface_frames(table, poser.rest).positions, atlas.points(poser.rest, head.faces)[table.rows, table.cols],
        atol=1e-6)
    places = set(zip(table.rows.tolist(), table.cols.tolist(), strict=True))
    assert len(places) == len(table), 'each texel once'
    steps = np.abs(np.diff(table.rows)) + np.abs(np.diff(table.cols))
    assert np.median(steps) == 1, 'neighbours in the table are neighbours on the surface'


def test_gradients_are_those_of_the_surface(head, poser, table):
    """dP/du, dP/dv move a point by a texel: a triangle's corners are reached from its texel by them."""
    t = np.arange(0, len(table), 7)
    corners = table.corners[t]
    uv_of = {}
    for face, uv_face in zip(head.faces, head.uv_faces, strict=True):
        uv_of.setdefault(tuple(face), head.uvs[uv_face] * SIZE)
    uv = np.array([uv_of[tuple(c)] for c in corners])  # [K, 3, 2] texels
    at = np.stack([table.cols[t], table.rows[t]], -1) + 0.5
    points = poser.rest[corners].astype(np.float64)
    here = np.einsum('kc,kcx->kx', table.bary[t], points)
    du, dv = (np.einsum('kc,kcx->kx', g[t], points) for g in (table.grad_u, table.grad_v))
    area = np.abs(np.cross(uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]))
    good = area > 0.05  # of a texel: thinner triangles have no usable tangent
    assert good.mean() > 0.9
    for k in range(3):
        step = uv[:, k] - at
        reached = here + step[:, :1] * du + step[:, 1:] * dv
        np.testing.assert_allclose(reached[good], points[good, k], atol=2e-5)


def test_frames_are_rotations(table, posed):
    frames = surface_frames(table, posed)
    eye = np.eye(3)
    product = frames.rotmats.transpose(0, 2, 1) @ frames.rotmats
    np.testing.assert_allclose(product, np.broadcast_to(eye, product.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(frames.rotmats), 1, atol=1e-5)


def test_collapsed_triangles_still_have_frames(table):
    """All vertices in one point: no normal, no tangent, but rotations and numbers."""
    frames = surface_frames(table, np.zeros((table.faces.max() + 1, 3), np.float32))
    assert np.isfinite(frames.rotmats).all() and np.isfinite(frames.stretch).all()
    np.testing.assert_allclose(np.linalg.det(frames.rotmats), 1, atol=1e-5)
    frames = surface_frames(table, np.float32([1, 0, 0]) * np.arange(table.faces.max() + 1, dtype=np.float32)[:, None])
    np.testing.assert_allclose(np.linalg.det(frames.rotmats), 1, atol=1e-5)


def test_normals_point_out_of_a_tetrahedron():
    vertices = np.float32([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [9, 9, 9]])
    faces = np.int32([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    normals = vertex_normals(vertices, faces)
    np.testing.assert_allclose(normals[:4], vertices[:4] / np.sqrt(3), atol=1e-6)
    np.testing.assert_array_equal(normals[4], [0, 0, 1], 'no triangle uses it')


def test_the_rest_mesh_is_not_stretched(table, poser):
    frames = surface_frames(table, poser.rest)
    used = (table.rest_stretch > 1e-7).all(1)
    np.testing.assert_allclose(frames.stretch[used], 1, atol=1e-4)


def test_rigid_motion_moves_the_splats_rigidly(table, posed):
    rotation = rotvec_to_rotmat(np.array([0.3, -0.5, 0.2]))
    translation = np.array([0.1, -0.2, 0.3])
    maps = random_map()
    still = bind(maps, table, surface_frames(table, posed))
    turned = bind(maps, table, surface_frames(table, moved(posed, rotation, translation)))
    np.testing.assert_allclose(turned.means, still.means.double().numpy() @ rotation.T + translation, atol=2e-6)
    orientation = torch.from_numpy(rotation) @ unitquat_to_rotmat(still.quats).double()
    # A tangent of a nearly collapsed triangle turns with the rounding of its corners: those few are left out.
    error = (unitquat_to_rotmat(turned.quats).double() - orientation).abs().amax((1, 2))
    assert (error < 2e-3).float().mean() > 0.995
    np.testing.assert_allclose(turned.opacities, still.opacities, atol=1e-6)
    np.testing.assert_allclose(turned.colors, still.colors, atol=1e-6)
    change = (turned.scales / still.scales - 1).abs().amax(1)
    assert (change < 1e-3).float().mean() > 0.995


@pytest.mark.parametrize(('factor', 'wanted'), [(1.5, 1.5), (0.5, 0.5), (9.0, 3.0), (0.1, 0.3)])
def test_splats_grow_with_the_mesh_within_bounds(table, poser, factor, wanted):
    maps = random_map()
    plain = bind(maps, table, surface_frames(table, poser.rest))
    scaled = bind(maps, table, surface_frames(table, factor * poser.rest))
    used = (table.rest_stretch > 1e-7).all(1)
    ratio = (scaled.scales / plain.scales)[torch.from_numpy(used)]
    np.testing.assert_allclose(ratio, wanted, rtol=1e-3)


def test_stretch_along_one_axis_only(table, poser):
    """A mesh that widens along x makes splats wider where their axes lie along x, and leaves the others."""
    frames, wide = surface_frames(table, poser.rest), surface_frames(table, poser.rest * np.float32([1.4, 1, 1]))
    facing = frames.rotmats[:, 2, 2] > 0.98  # normals towards the camera: the surface spans x and y
    along = np.abs(frames.rotmats[facing, 0, 0])  # share of x in the tangent
    stretch = wide.stretch[facing, 0]
    assert facing.sum() > 20
    assert stretch[along > 0.97] == pytest.approx(1.4, abs=0.05)
    assert stretch[along < 0.15] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize('which', ['rest', 'posed'])
def test_fast_path_equals_torch(table, poser, posed, which):
    vertices = poser.rest if which == 'rest' else posed
    maps = random_map(1)
    frames = surface_frames(table, vertices)
    fade = facing_fade(frames, EYE)
    slow = bind(maps, table, frames, fade)
    out = buffers(len(table))
    n = bind_into(table, activate(maps, table), vertices, EYE, out)
    keep = slow.opacities >= 1 / 255
    near = (slow.opacities - 1 / 255).abs() < 1e-6  # either way is right there
    assert not near.any(), 'choose another seed'
    assert n == keep.sum() and 0.2 * len(table) < n < 0.9 * len(table)
    for name, array in zip(Splats.__dataclass_fields__, out, strict=True):
        wanted = getattr(slow, name)[keep].numpy()
        found = array[:n]
        if name == 'quats':  # q and -q are one rotation
            found = found * np.sign((found * wanted).sum(-1, keepdims=True))
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=name)
        assert np.isnan(array[n:]).all(), 'rows behind the last splat are not touched'


def test_fast_path_of_a_collapsed_mesh_equals_torch(table):
    """All vertices in one point: no tangent, no normal, yet the same frames."""
    vertices = np.zeros((table.faces.max() + 1, 3), np.float32)
    maps = random_map(2)
    frames = surface_frames(table, vertices)
    slow = bind(maps, table, frames, facing_fade(frames, EYE))
    keep, out = slow.opacities >= 1 / 255, buffers(len(table))
    n = bind_into(table, activate(maps, table), vertices, EYE, out)
    assert n == keep.sum() > 0
    for name, found in zip(Splats.__dataclass_fields__, out, strict=True):
        np.testing.assert_allclose(found[:n], getattr(slow, name)[keep], atol=1e-5, err_msg=name)


def test_normals_and_parameters_may_come_in_any_buffer(table, posed):
    maps = random_map(3)
    local = activate(maps, table)
    first, second = buffers(len(table)), buffers(len(table))
    normals = np.full_like(posed, 7)
    bind_into(table, local, posed, EYE, first)
    bind_into(table, np.ascontiguousarray(local), posed, EYE, second, normals=normals)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(normals, vertex_normals(posed, table.faces))


def test_what_faces_away_is_culled(table, posed):
    frames = surface_frames(table, posed)
    fade = facing_fade(frames, EYE)
    to_eye = (EYE - frames.positions) / np.linalg.norm(EYE - frames.positions, axis=-1, keepdims=True)
    cosine = (to_eye * frames.rotmats[..., 2]).sum(-1)
    assert (fade[cosine < binding.FADE[0]] == 0).all() and (fade[cosine > binding.FADE[1]] == 1).all()
    order = np.argsort(cosine)
    assert (np.diff(fade[order]) >= -1e-5).all(), 'it fades in one direction'
    maps = replace(random_map(), opacity=torch.full((SIZE, SIZE), 8.0))
    out = buffers(len(table))
    counts = [bind_into(table, activate(maps, table), posed, side * EYE * FAR, out) for side in (1, -1)]
    assert sum(counts) < 1.4 * len(table), 'front and back share only the rim'


def test_gradients_reach_every_field(table, posed):
    maps = GaussianMap(*(v.clone().requires_grad_() for v in vars(random_map()).values()))
    splats = bind(maps, table, surface_frames(table, posed))
    weights = [torch.randn(getattr(splats, k).shape, generator=torch.Generator().manual_seed(2))
               for k in Splats.__dataclass_fields__]
    sum((w * getattr(splats, k)).sum() for w, k in zip(weights, Splats.__dataclass_fields__, strict=True)).backward()
    used = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    used[table.index] = True
    for name, field in vars(maps).items():
        per_texel = field.grad.abs().reshape(SIZE, SIZE, -1).sum(-1)
        assert (per_texel[~used] == 0).all(), f'{name}: texels without surface play no part'
        inside = per_texel[used] > 0
        # Colours beyond [0, 1] are clamped and have no gradient; all else has one everywhere.
        assert inside.float().mean() > (0.7 if name == 'color' else 0.999), name


def test_offset_gradient_is_the_frame(table, posed):
    """Offsets enter through the frames alone: d(sum of x)/d(offset) is the frame's first row."""
    maps = random_map()
    maps = replace(maps, offset=maps.offset.requires_grad_())
    frames = surface_frames(table, posed)
    bind(maps, table, frames).means[:, 0].sum().backward()
    np.testing.assert_allclose(maps.offset.grad[table.index], frames.rotmats[:, 0], atol=1e-6)


def test_a_mask_leaves_texels_out(head, poser):
    atlas = build_atlas(head, SIZE)
    mask = np.zeros(atlas.size, bool)
    mask[: SIZE // 2] = True
    part = texel_table(head, atlas, poser.rest, mask)
    assert len(part) == (atlas.valid & mask).sum()
    assert part.rows.max() < SIZE // 2


def test_an_empty_mask_gives_no_splats(head, poser, posed):
    nothing = texel_table(head, build_atlas(head, SIZE), poser.rest, np.zeros((SIZE, SIZE), bool))
    frames = surface_frames(nothing, posed)
    splats = bind(random_map(), nothing, frames, facing_fade(frames, EYE))
    assert len(nothing) == 0 and len(splats) == 0
    assert bind_into(nothing, activate(random_map(), nothing), posed, EYE, buffers(4)) == 0


def test_fuse_picks_by_mask():
    static, dynamic = random_map(1), random_map(2)
    mask = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0)) > 0.5
    fused = fuse(static, dynamic, mask)
    for name in GaussianMap.__dataclass_fields__:
        assert torch.equal(getattr(fused, name)[mask], getattr(dynamic, name)[mask]), name
        assert torch.equal(getattr(fused, name)[~mask], getattr(static, name)[~mask]), name


def test_camera_centre():
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotvec_to_rotmat(np.array([0.1, 2.0, -0.4]))
    viewmat[:3, 3] = [0.3, -0.1, 0.7]
    centre = camera_centre(viewmat)
    np.testing.assert_allclose(viewmat[:3, :3] @ centre + viewmat[:3, 3], 0, atol=1e-12)

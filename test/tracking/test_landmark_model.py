"""Landmarks of the skinned head against the head's own skinning, and derivatives against finite differences."""

import numpy as np
import pytest

from sega_ros.errors import RequestError
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.skinning import pose_mesh
from sega_ros.tracking.landmark_model import Articulation, LandmarkModel, right_jacobian, rotation_matrix

N = 30


@pytest.fixture
def place(tiny_head):
    rng = np.random.default_rng(1)
    return {
        'faces': rng.integers(0, len(tiny_head.faces), N), 'barys': rng.dirichlet([1, 1, 1], N),
        'v_offset': (0.01 * rng.standard_normal(tiny_head.v_template.shape)).astype(np.float32),
        'landmark_offset': 0.01 * rng.standard_normal((N, 3)),
    }


def articulation(x):
    return Articulation(x[:6], x[6:8], x[8:11], x[11:14], x[14:17])


@pytest.fixture
def pose():
    rng = np.random.default_rng(2)
    return np.concatenate([rng.standard_normal(6), [0.3, 0.6], 0.4 * rng.standard_normal(9)])


def test_equals_the_skinned_mesh(tiny_head, place, pose):
    shape = np.random.default_rng(3).standard_normal(tiny_head.n_shape)
    place['landmark_offset'] = None
    moved = articulation(pose)
    vertices = pose_mesh(tiny_head, moved.to_params(shape), v_offset=place['v_offset'])
    want = np.einsum('pk,pkc->pc', place['barys'], vertices[tiny_head.faces[place['faces']]])
    assert LandmarkModel(tiny_head, **place).points(moved, shape) == pytest.approx(want, abs=1e-6)
    assert LandmarkModel(tiny_head, **place, shape=shape).points(moved) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize('still', [False, True])
def test_derivatives(tiny_head, place, pose, still):
    """Central differences, also at rest, where the rotation's closed form divides by the angle."""
    model = LandmarkModel(tiny_head, **place)
    shape = np.random.default_rng(3).standard_normal(tiny_head.n_shape)
    pose = np.zeros(17) if still else pose
    points, jacobian = model.derivatives(articulation(pose), shape)
    assert points == pytest.approx(model.points(articulation(pose), shape))
    step = 1e-6
    for k in range(17):
        d = np.zeros(17)
        d[k] = step
        want = (model.points(articulation(pose + d), shape) - model.points(articulation(pose - d), shape)) / (2 * step)
        assert jacobian[..., k] == pytest.approx(want, abs=1e-8)
    for k in range(tiny_head.n_shape):
        d = np.zeros(tiny_head.n_shape)
        d[k] = step
        want = (model.points(articulation(pose), shape + d) - model.points(articulation(pose), shape - d)) / (2 * step)
        assert jacobian[..., 17 + k] == pytest.approx(want, abs=1e-8)


def test_blends_move_small_displacements(tiny_head, place, pose):
    """What a landmark offset does to the posed landmark, pose correctives aside."""
    moved, extra = articulation(pose), 1e-4 * np.random.default_rng(4).standard_normal((N, 3))
    base = LandmarkModel(tiny_head, **place)
    shifted = LandmarkModel(tiny_head, **place | {'landmark_offset': place['landmark_offset'] + extra})
    want = np.einsum('pij,pj->pi', base.blends(moved), extra)
    assert shifted.points(moved) - base.points(moved) == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize('scale', [0.0, 1e-9, 1e-5, 1.0, 3.1])
def test_rotations(scale):
    rotvec = scale * np.array([0.6, -0.48, 0.64])
    assert rotation_matrix(rotvec) == pytest.approx(rotvec_to_rotmat(rotvec), abs=1e-12)
    small = 1e-6 * np.array([1.0, 2.0, -3.0])
    want = rotation_matrix(rotvec) @ rotation_matrix(right_jacobian(rotvec) @ small)
    assert rotation_matrix(rotvec + small) == pytest.approx(want, abs=1e-10)


def test_wrong_shapes_are_named(tiny_head, place):
    with pytest.raises(RequestError, match=r'v_offset: wanted shape \[60, 3\]'):
        LandmarkModel(tiny_head, **place | {'v_offset': np.zeros((3, 3))})
    with pytest.raises(RequestError, match=r'barys: wanted shape \[30, 3\]'):
        LandmarkModel(tiny_head, **place | {'barys': np.zeros((4, 3))})

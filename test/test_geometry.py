"""Rotations against SciPy, between NumPy and torch, and at the singular points."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sega_ros.geometry import rotmat_to_rotvec, rotmat_to_unitquat, rotvec_to_rotmat, unitquat_mul, unitquat_to_rotmat


def vectors(angle, count=7):
    v = np.random.default_rng(0).normal(size=(count, 3))
    return v * angle / np.linalg.norm(v, axis=1, keepdims=True)


@pytest.mark.parametrize('angle', [0, 1e-9, 1e-6, 1e-3, 0.5, 2, 2.99, 3.01, 3.1415])
def test_axis_angle_round_trip(angle):
    v = vectors(angle)
    matrices = rotvec_to_rotmat(v)
    np.testing.assert_allclose(matrices, Rotation.from_rotvec(v).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(matrices, rotvec_to_rotmat(torch.from_numpy(v)).numpy(), atol=1e-12)
    np.testing.assert_allclose(rotmat_to_rotvec(matrices), v, atol=1e-6)
    for matrix, wanted in zip(matrices, v, strict=True):  # one rotation takes the quick way
        np.testing.assert_allclose(rotmat_to_rotvec(matrix), wanted, atol=1e-6)


def test_float32_stays_float32():
    v = vectors(1.0).astype(np.float32)
    assert rotvec_to_rotmat(v).dtype == np.float32
    assert rotmat_to_rotvec(rotvec_to_rotmat(v)[0]).dtype == np.float32


def test_gradient_at_zero_is_finite():
    v = torch.zeros(3, requires_grad=True)
    rotvec_to_rotmat(v)[0, 1].backward()
    np.testing.assert_allclose(v.grad, [0, 0, -1])


@pytest.mark.parametrize('angle', [0, 1e-4, 1, 3, 3.14159])
def test_quaternions(angle):
    matrices = torch.from_numpy(Rotation.from_rotvec(vectors(angle)).as_matrix())
    quats = rotmat_to_unitquat(matrices)
    torch.testing.assert_close(unitquat_to_rotmat(quats), matrices, atol=1e-7, rtol=0)
    twice = unitquat_to_rotmat(unitquat_mul(quats, quats))
    torch.testing.assert_close(twice, matrices @ matrices, atol=1e-7, rtol=0)


@pytest.mark.parametrize('rotvec', [(0, 0, 0), (1e-8, 0, 2e-8), (0.3, -0.2, 0.5), (0, 0, 3.1), (np.pi, 0, 0), (0, -2.5, 0.1),
                                    (1.5, 1.5, -1.5), (-2.0, 2.0, 0.5)])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_one_rotation_equals_a_batch_of_one(rotvec, dtype):
    """A single NumPy rotation takes a way of its own, in Python's numbers."""
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    rotvec = np.array(rotvec, dtype)
    rotmat = rotvec_to_rotmat(rotvec)
    np.testing.assert_allclose(rotmat, rotvec_to_rotmat(rotvec[None])[0], atol=tolerance)
    quat = rotmat_to_unitquat(rotmat)
    np.testing.assert_allclose(quat, rotmat_to_unitquat(torch.from_numpy(rotmat[None]))[0], atol=tolerance)
    np.testing.assert_array_equal(rotmat_to_unitquat(rotmat[None]), rotmat_to_unitquat(torch.from_numpy(rotmat[None])).numpy())
    back = rotvec_to_rotmat(rotmat_to_rotvec(rotmat))
    np.testing.assert_allclose(back, rotmat, atol=10 * tolerance)  # two roundings, and near pi an angle's square root
    assert rotmat.dtype == quat.dtype == rotmat_to_rotvec(rotmat).dtype == dtype

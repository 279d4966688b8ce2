"""Hair and bust of a frame against the same written with matrices in float64."""

import numpy as np
import pytest
import torch

from sega_ros.geometry import rotmat_to_unitquat, rotvec_to_rotmat, unitquat_mul
from sega_ros.models.shell_kernel import place_shell

EYE, PIVOT = np.array([0.1, 0.2, 0.8]), np.array([0.0, -0.05, -0.02])


def random_shell(n, seed=0):
    rng = np.random.default_rng(seed)
    quats, normals = rng.normal(size=(n, 4)), rng.normal(size=(n, 3))
    shell = (rng.normal(size=(n, 3)) * 0.1, quats / np.linalg.norm(quats, axis=1, keepdims=True),
             rng.uniform(0.001, 0.01, (n, 3)), rng.uniform(0, 1, n), rng.uniform(0, 1, (n, 3)))
    low = rng.uniform(-0.4, 0.4, n)
    extra = (normals / np.linalg.norm(normals, axis=1, keepdims=True), np.stack([low, low + rng.uniform(0.1, 0.4, n)], 1),
             np.where(rng.uniform(size=n) < 0.5, rng.uniform(0, 1, n), rng.integers(0, 2, n)))
    return tuple(a.astype(np.float32) for a in shell), tuple(a.astype(np.float32) for a in extra)


def placed(shell, extra, turn):
    """Return what `place_shell` writes, computed otherwise: fields of Splats, culled."""
    means, quats, scales, opacities, colors = (a.astype(np.float64) for a in shell)
    normals, fade, torso = (a.astype(np.float64) for a in extra)
    share = np.eye(3) + torso[:, None, None] * (turn - np.eye(3))
    means = PIVOT + np.einsum('nij,nj->ni', share, means - PIVOT)
    to_eye = EYE - means
    cosine = (to_eye * np.einsum('nij,nj->ni', share, normals)).sum(1) / np.linalg.norm(to_eye, axis=1)
    opacities = opacities * np.clip((cosine - fade[:, 0]) / (fade[:, 1] - fade[:, 0]), 0, 1)
    turned = unitquat_mul(rotmat_to_unitquat(torch.from_numpy(turn)).expand(len(quats), 4), torch.from_numpy(quats)).numpy()
    quats = np.where(torso[:, None] > 0.5, turned, quats)
    assert (np.abs(opacities - 1 / 255) > 1e-6).all(), 'either way is right there: choose another seed'
    return [a[opacities >= 1 / 255] for a in (means, quats, scales, opacities, colors)]


@pytest.mark.parametrize('n', [0, 1, 128, 700])
@pytest.mark.parametrize('rotvec', [(0, 0, 0), (0.1, 0.4, -0.2)])
def test_equals_float64(n, rotvec):
    shell, extra = random_shell(n, seed=n)
    turn = rotvec_to_rotmat(np.array(rotvec, np.float64))
    quat = rotmat_to_unitquat(torch.from_numpy(turn)).numpy()
    out = tuple(np.full((n + 5, *a.shape[1:]), np.nan, np.float32) for a in shell)
    wanted = placed(shell, extra, turn)
    end = place_shell(shell, *extra, turn, quat, PIVOT, EYE, 3, out)
    assert end == 3 + len(wanted[0])
    for found, value in zip(out, wanted, strict=True):
        np.testing.assert_allclose(found[3:end], value, atol=1e-5)
        assert np.isnan(found[:3]).all() and np.isnan(found[end:]).all(), 'rows around are not touched'

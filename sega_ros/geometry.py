"""Rotations: axis-angle, matrices and unit quaternions (wxyz). Any leading batch shape; NumPy in, NumPy out, torch likewise."""

import math

import numpy as np
import torch
from torch import Tensor

# Below this angle the closed forms lose digits; their Taylor series is exact to float64 there.
_SMALL = 1e-6


def rotvec_to_rotmat(rotvec):
    """Rotation matrices [..., 3, 3] of axis-angle vectors [..., 3] in radians (Rodrigues).

    The gradient is finite at zero: the angle is taken from a clamped square before any division.
    """
    if not isinstance(rotvec, Tensor):
        return _rotvec_to_rotmat(np.asarray(rotvec))
    square = (rotvec * rotvec).sum(-1)
    safe = square.clamp_min(_SMALL**2)
    angle = safe.sqrt()
    small = square < _SMALL**2
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return eye + a[..., None, None] * skew + b[..., None, None] * (skew @ skew)


def _rotvec_to_rotmat(rotvec: np.ndarray) -> np.ndarray:
    """Do the same in NumPy, which costs a tenth of torch's calls for the few joints of a frame."""
    if rotvec.shape == (3,):
        return _one_rotmat(rotvec)
    v = rotvec.astype(np.float64)
    square = (v * v).sum(-1)
    safe = np.maximum(square, _SMALL**2)
    angle = np.sqrt(safe)
    small = square < _SMALL**2
    a = np.where(small, 1 - square / 6, np.sin(angle) / angle)[..., None, None]
    b = np.where(small, 0.5 - square / 24, (1 - np.cos(angle)) / safe)[..., None, None]
    skew = np.zeros((*v.shape, 3))
    skew[..., 0, 1], skew[..., 0, 2], skew[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    skew -= np.swapaxes(skew, -1, -2)
    return (np.eye(3) + a * skew + b * (skew @ skew)).astype(rotvec.dtype)


def _one_rotmat(rotvec: np.ndarray) -> np.ndarray:
    """Do the same for one vector in Python's numbers: a tenth of what as many NumPy calls cost."""
    x, y, z = rotvec.tolist()
    square = x * x + y * y + z * z
    a, b = 1 - square / 6, 0.5 - square / 24
    if square >= _SMALL**2:
        angle = math.sqrt(square)
        a, b = math.sin(angle) / angle, (1 - math.cos(angle)) / square
    return np.array([
        [1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y],
        [b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x],
        [b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)],
    ], rotvec.dtype)


def rotmat_to_rotvec(rotmat: np.ndarray) -> np.ndarray:
    """Axis-angle vectors [..., 3] of rotation matrices [..., 3, 3]; angles in [0, pi]."""
    rotmat = np.asarray(rotmat)
    if rotmat.shape == (3, 3):  # SciPy's checks cost more than one rotation is worth, and so do NumPy's calls
        (a, b, c), (d, e, f), (g, h, i) = rotmat.tolist()
        x, y, z = (h - f) / 2, (c - g) / 2, (d - b) / 2
        sine = math.sqrt(x * x + y * y + z * z)
        angle = math.atan2(sine, (a + e + i - 1) / 2)
        if angle < 3.0:  # near pi the axis can't be read off the antisymmetric part
            rate = angle / sine if sine > _SMALL else 1.0
            return np.array([x * rate, y * rate, z * rate], rotmat.dtype)
    from scipy.spatial.transform import Rotation

    flat = Rotation.from_matrix(rotmat.reshape(-1, 3, 3)).as_rotvec()
    return flat.reshape(*rotmat.shape[:-2], 3).astype(rotmat.dtype)


def rotmat_to_unitquat(rotmat):
    """Return unit quaternions wxyz [..., 4] of rotation matrices [..., 3, 3].

    Of the four classic formulas the one with the largest divisor is taken for each matrix, so none divides by almost zero.
    """
    if not isinstance(rotmat, Tensor):
        rotmat = np.asarray(rotmat)
        return _one_unitquat(rotmat) if rotmat.shape == (3, 3) else rotmat_to_unitquat(torch.from_numpy(rotmat)).numpy()
    m = rotmat
    t = torch.stack([
        1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2], 1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2],
        1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2], 1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2],
    ], -1)  # [..., 4] four times the squared components
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = torch.stack([
        torch.stack([t[..., 0], wx, wy, wz], -1), torch.stack([wx, t[..., 1], xy, xz], -1),
        torch.stack([wy, xy, t[..., 2], yz], -1), torch.stack([wz, xz, yz, t[..., 3]], -1),
    ], -2)  # [..., 4, 4] each row is the quaternion up to its length
    best = t.argmax(-1)[..., None, None].expand(*t.shape[:-1], 1, 4)
    return torch.nn.functional.normalize(rows.gather(-2, best).squeeze(-2), dim=-1)


def _one_unitquat(rotmat: np.ndarray) -> np.ndarray:
    (a, b, c), (d, e, f), (g, h, i) = rotmat.tolist()
    rows = (
        (1 + a + e + i, h - f, c - g, d - b), (h - f, 1 + a - e - i, d + b, c + g),
        (c - g, d + b, 1 - a + e - i, h + f), (d - b, c + g, h + f, 1 - a - e + i),
    )
    best = max(range(4), key=lambda k: rows[k][k])
    length = math.hypot(*rows[best])
    return np.array([v / length for v in rows[best]], rotmat.dtype)


def unitquat_to_rotmat(quat: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of unit quaternions wxyz [..., 4]."""
    w, x, y, z = quat.unbind(-1)
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ], -1).unflatten(-1, (3, 3))


def unitquat_mul(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions wxyz [..., 4]: rotate by `b`, then by `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack([
        aw * bw - ax * bx - ay * by - az * bz, aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx, aw * bz + ax * by - ay * bx + az * bw,
    ], -1)


def morton_order(points: np.ndarray) -> np.ndarray:
    """Order [N] of `points` [N, 3] along a Morton curve, so that near points come near each other (ten bits an axis)."""
    if not len(points):
        return np.zeros(0, np.int64)
    cells = ((points - points.min(0)) / max(np.ptp(points, 0).max(), 1e-12) * 1023).astype(np.int64)
    for shift, mask in ((16, 0x30000FF), (8, 0x300F00F), (4, 0x30C30C3), (2, 0x9249249)):
        cells = (cells | cells << shift) & mask
    return np.argsort(cells[:, 0] | cells[:, 1] << 1 | cells[:, 2] << 2, kind='stable')

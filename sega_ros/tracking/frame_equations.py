"""Landmark residuals and their derivatives, compiled: `LandmarkSolver.linearise` for a held identity and focal length.

The reference is the NumPy version in `solver.py`; a test compares the two. Left out here: MediaPipe's depth (without
effect on a warm start).
"""

import numba
import numpy as np

from sega_ros.tracking.landmark_model import (
    MOVING,
    LandmarkModel,
    lid_coefficients,
    right_jacobian,
    rotation_derivatives,
    rotation_matrix,
)

_FAST = {'contract', 'nsz', 'arcp', 'nnan', 'ninf', 'reassoc'}


class FrameEquations:
    """Compiled counterpart of `LandmarkSolver.linearise` over the landmarks in use (mask [P])."""

    def __init__(self, model: LandmarkModel, used: np.ndarray) -> None:
        if model.n_shape:
            raise ValueError('FrameEquations: hold the identity first (LandmarkModel(shape=...))')
        still, n_e = model.still, model.n_expression
        self._used = np.flatnonzero(used)
        place = np.full(model.n, -1)
        place[self._used] = np.arange(len(self._used))
        keep = [place[part.rows] >= 0 for part in model.moving]
        arms = [(part, k) for part, k in zip(model.moving, keep, strict=True)]

        def f32(array: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(array, np.float32)

        self._still = still.point[self._used], f32(still.expression[self._used]), f32(still.eyelids[self._used])
        self._arm_rows = np.concatenate([place[part.rows[k]] for part, k in arms])
        self._arm_joint = np.concatenate([np.full(k.sum(), j) for j, (_, k) in enumerate(arms)])
        self._arms = (np.concatenate([part.point[k] for part, k in arms]),
                      f32(np.concatenate([part.expression[k] for part, k in arms])),
                      f32(np.concatenate([part.eyelids[k] for part, k in arms])))
        self._correctives = []  # per joint that has any: its number and its [3p, 9] of the still and the moved points
        if model.has_correctives:
            both = still.correctives[self._used], np.concatenate([part.correctives[k] for part, k in arms])
            for j in range(len(MOVING)):
                own = [np.ascontiguousarray(c[..., 9 * j:9 * j + 9]).reshape(-1, 9) for c in both]
                if any(np.abs(c).max(initial=0) > 0 for c in own):
                    self._correctives.append((j, own))
        self._bends = np.zeros((len(self._used), 3, 9)), np.zeros((len(self._arm_rows), 3, 9))
        self._size = n_e + 17
        self._rows = np.zeros((len(self._used), 2, self._size), np.float32)
        self._residual = np.zeros((len(self._used), 2))
        # Callers index by landmark: those without a weight stay zero.
        self._all_rows = self._rows if len(self._used) == model.n else np.zeros((model.n, 2, self._size), np.float32)
        self._all_residual = self._residual if len(self._used) == model.n else np.zeros((model.n, 2))

    def __call__(self, state, seen) -> tuple[np.ndarray, np.ndarray]:
        """Return derivatives [P, 2, n] and residuals [P, 2], valid until the next call."""
        pose = state.pose
        rotations = np.stack([rotation_matrix(r) for r in pose.joints()])
        jacobians = np.stack([right_jacobian(r) for r in pose.joints()])
        points = [self._still[0], self._arms[0]]
        for j, own in self._correctives:
            turn = rotation_derivatives(pose.joints()[j], rotations[j])
            feature = (rotations[j] - np.eye(3)).ravel()
            points = [p + (c @ feature).reshape(-1, 3) for p, c in zip(points, own, strict=True)]
            for bend, c in zip(self._bends, own, strict=True):
                bend[..., 3 * j:3 * j + 3] = (c @ turn).reshape(-1, 3, 3)
        _assemble(
            points[0], *self._still[1:], self._bends[0], self._arm_rows, self._arm_joint, points[1], *self._arms[1:],
            self._bends[1],
            np.ascontiguousarray(pose.expression, np.float64), lid_coefficients(np.asarray(pose.eyelids, np.float64)),
            4 - 8 * np.asarray(pose.eyelids, np.float64), rotations, jacobians,
            np.ascontiguousarray(state.rotation, np.float64), np.ascontiguousarray(state.translation, np.float64),
            state.focal * seen.width * seen.unit, seen.points[self._used, :2] * seen.unit, self._rows, self._residual)
        if self._all_rows is not self._rows:
            self._all_rows[self._used], self._all_residual[self._used] = self._rows, self._residual
        return self._all_rows, self._all_residual


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _assemble(  # noqa: PLR0912 (one pass over the landmarks; split, Numba would copy its arrays)
    still, still_dirs, still_lids, still_bend, arm_rows, arm_joint, arm, arm_dirs, arm_lids, arm_bend,
    expression, lid_amounts, lid_slopes, rotations, jacobians, rotation, translation, focal, seen, rows, residual,
):
    n, n_e = still.shape[0], expression.shape[0]
    points = np.empty((n, 3))
    bent = np.empty((arm.shape[0], 3))
    for i in range(n):
        for c in range(3):
            x = still[i, c]
            for e in range(n_e):
                x += still_dirs[i, c, e] * expression[e]
            for e in range(4):
                x += still_lids[i, c, e] * lid_amounts[e]
            points[i, c] = x
    for q in range(arm.shape[0]):
        turn = rotations[arm_joint[q]]
        for c in range(3):
            x = arm[q, c]
            for e in range(n_e):
                x += arm_dirs[q, c, e] * expression[e]
            for e in range(4):
                x += arm_lids[q, c, e] * lid_amounts[e]
            bent[q, c] = x
        for c in range(3):
            points[arm_rows[q], c] += turn[c, 0] * bent[q, 0] + turn[c, 1] * bent[q, 1] + turn[c, 2] * bent[q, 2]

    near = np.empty((n, 2, 3))  # d pixel / d head point
    at = n_e + 11
    for i in range(n):
        x = rotation[0, 0] * points[i, 0] + rotation[0, 1] * points[i, 1] + rotation[0, 2] * points[i, 2]
        y = rotation[1, 0] * points[i, 0] + rotation[1, 1] * points[i, 1] + rotation[1, 2] * points[i, 2]
        z = rotation[2, 0] * points[i, 0] + rotation[2, 1] * points[i, 1] + rotation[2, 2] * points[i, 2]
        inverse = 1 / (z + translation[2])
        u, v = focal * (x + translation[0]) * inverse, focal * (y + translation[1]) * inverse
        residual[i, 0], residual[i, 1] = u - seen[i, 0], v - seen[i, 1]
        for k in range(2):
            across, along = focal * inverse, -(u if k == 0 else v) * inverse
            a0, a1 = (across, 0.0) if k == 0 else (0.0, across)
            for c in range(3):
                near[i, k, c] = across * rotation[k, c] + along * rotation[2, c]
            # -[a, b, along] skew(turned point), then the translation itself
            rows[i, k, at] = along * y - a1 * z
            rows[i, k, at + 1] = a0 * z - along * x
            rows[i, k, at + 2] = a1 * x - a0 * y
            rows[i, k, at + 3], rows[i, k, at + 4], rows[i, k, at + 5] = a0, a1, along
            g0, g1, g2 = np.float32(near[i, k, 0]), np.float32(near[i, k, 1]), np.float32(near[i, k, 2])
            for e in range(n_e):
                rows[i, k, e] = g0 * still_dirs[i, 0, e] + g1 * still_dirs[i, 1, e] + g2 * still_dirs[i, 2, e]
            for e in range(2):
                s = 0.0
                for c in range(3):
                    s += near[i, k, c] * (still_lids[i, c, e] + lid_slopes[e] * still_lids[i, c, e + 2])
                rows[i, k, n_e + e] = s
            for e in range(9):
                rows[i, k, n_e + 2 + e] = (
                    near[i, k, 0] * still_bend[i, 0, e] + near[i, k, 1] * still_bend[i, 1, e]
                    + near[i, k, 2] * still_bend[i, 2, e])
    for q in range(arm.shape[0]):
        i, j = arm_rows[q], arm_joint[q]
        turn, jac = rotations[j], jacobians[j]
        for k in range(2):
            h0 = near[i, k, 0] * turn[0, 0] + near[i, k, 1] * turn[1, 0] + near[i, k, 2] * turn[2, 0]
            h1 = near[i, k, 0] * turn[0, 1] + near[i, k, 1] * turn[1, 1] + near[i, k, 2] * turn[2, 1]
            h2 = near[i, k, 0] * turn[0, 2] + near[i, k, 1] * turn[1, 2] + near[i, k, 2] * turn[2, 2]
            g0, g1, g2 = np.float32(h0), np.float32(h1), np.float32(h2)
            for e in range(n_e):
                rows[i, k, e] += g0 * arm_dirs[q, 0, e] + g1 * arm_dirs[q, 1, e] + g2 * arm_dirs[q, 2, e]
            for e in range(2):
                s = h0 * (arm_lids[q, 0, e] + lid_slopes[e] * arm_lids[q, 0, e + 2])
                s += h1 * (arm_lids[q, 1, e] + lid_slopes[e] * arm_lids[q, 1, e + 2])
                s += h2 * (arm_lids[q, 2, e] + lid_slopes[e] * arm_lids[q, 2, e + 2])
                rows[i, k, n_e + e] += s
            for e in range(9):
                rows[i, k, n_e + 2 + e] += h0 * arm_bend[q, 0, e] + h1 * arm_bend[q, 1, e] + h2 * arm_bend[q, 2, e]
            # -h skew(arm) = arm x h ... as a row: (b x h) with b the arm
            b0, b1, b2 = bent[q, 0], bent[q, 1], bent[q, 2]
            c0, c1, c2 = b1 * h2 - b2 * h1, b2 * h0 - b0 * h2, b0 * h1 - b1 * h0
            for e in range(3):
                rows[i, k, n_e + 2 + 3 * j + e] += c0 * jac[0, e] + c1 * jac[1, e] + c2 * jac[2, e]

"""The per-frame fit, compiled: `LandmarkSolver`'s normal equations and steps for a held identity and focal length.

The reference is the NumPy version in `solver.py`; tests compare the two. The calls hold no interpreter lock, so the renderer's
thread goes on meanwhile. Left out here: MediaPipe's depth (without effect on a warm start). Arrays are copied element by
element: an assignment between them has Numba compile the words of its error messages, two seconds at a first start.
"""

from types import SimpleNamespace
from typing import NamedTuple

import numba
import numpy as np

from sega_ros.tracking.landmark_model import MOVING, LandmarkModel, Part

_FAST = {'contract', 'nsz', 'arcp', 'nnan', 'ninf', 'reassoc'}
_compiled = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model='numpy')


class Points(NamedTuple):
    """Unposed points that no joint turns, or that one does; linear in the coefficients."""

    rows: np.ndarray  # [p] places among the landmarks in use
    joint: np.ndarray  # [p] place in `MOVING`
    base: np.ndarray  # [p, 3]
    expression: np.ndarray  # [p, 3, E] float32
    eyelids: np.ndarray  # [p, 3, 4] float32
    correctives: np.ndarray  # [p, 3, 9 C], of the joints that have any


class Terms(NamedTuple):
    """What else makes up the cost."""

    root_weight: np.ndarray  # [P] square roots of the landmarks' weights
    patterns: np.ndarray  # [2P, K] orthonormal patterns of the structured noise, float32
    shrink: np.ndarray  # [2P, K] the same times how much of each the noise takes away, float32
    gap_of: np.ndarray  # [M] gap that an entry of the next two belongs to
    gap_row: np.ndarray  # [M] landmark in use
    gap_share: np.ndarray  # [M] its share of the opening, over its root weight and the opening's sigma
    precision: np.ndarray  # [n] of the priors
    low: np.ndarray  # [n] walls
    high: np.ndarray  # [n]
    low_wall: np.ndarray  # [n] precisions beyond them
    high_wall: np.ndarray  # [n]
    vergence: np.ndarray  # [3]
    corrected: np.ndarray  # [C] joints that have correctives


class Sight(NamedTuple):
    """What one picture shows."""

    points: np.ndarray  # [P, 2] px of a 256 px face, from the picture's centre
    focal: float  # in the same unit
    axes: np.ndarray  # [3, 2] across the gaps
    excess: np.ndarray  # [3] over the gaps' sigma


class Buffers(NamedTuple):
    """Memory of one solver."""

    points: np.ndarray  # [P, 3] landmarks in the head frame
    bent: np.ndarray  # [p, 3] the moving points before their rotation
    rows: np.ndarray  # [2P + 3, n + 1] whitened derivatives and, last, residuals, float32
    gram: np.ndarray  # [n + 1, n + 1] float32
    seen: np.ndarray  # [K, n + 1] float32


def _points_of(parts: list[Part], used: np.ndarray, joints: list[int]) -> Points:
    place = np.full(int(max(used.max(), *(p.rows.max() for p in parts))) + 1, -1)
    place[used] = np.arange(len(used))
    keep = [place[part.rows] >= 0 for part in parts]

    def gather(values: list[np.ndarray], kind: type = np.float32) -> np.ndarray:
        return np.ascontiguousarray(np.concatenate([v[k] for v, k in zip(values, keep, strict=True)]), kind)

    columns = np.concatenate([np.arange(9 * j, 9 * j + 9) for j in joints]) if joints else np.zeros(0, int)
    return Points(
        place[gather([p.rows for p in parts], np.int64)],
        gather([np.full(len(p.rows), j) for j, p in enumerate(parts)], np.int64), gather([p.point for p in parts], np.float64),
        gather([p.expression for p in parts]), gather([p.eyelids for p in parts]),
        gather([p.correctives[..., columns] if joints else np.zeros((len(p.rows), 3, 0)) for p in parts], np.float64))


def _corrected(model: LandmarkModel) -> list[int]:
    """Joints whose rotations bend the surface."""
    if not model.has_correctives:
        return []
    return [j for j in range(len(MOVING)) if any(
        np.abs(part.correctives[..., 9 * j:9 * j + 9]).max(initial=0) > 0 for part in (model.still, *model.moving))]


class FrameEquations:
    """Compiled counterpart of a `LandmarkSolver` over the landmarks that have a weight.

    Args:
        model: the landmarks of a held identity.
        weights: [P] precision of each landmark.
        modes: [K, P, 2] patterns of the structured noise, axes along and down the face.
        gaps: [3, P] shares of the landmarks in the openings, and `gap_sigma`.
        priors: precision, low, high, low wall, high wall [n] and vergence [3] as in `LandmarkSolver`.
    """

    def __init__(
        self, model: LandmarkModel, weights: np.ndarray, modes: np.ndarray, gaps: np.ndarray, gap_sigma: float,
        priors: tuple[np.ndarray, ...],
    ) -> None:
        if model.n_shape:
            raise ValueError('FrameEquations: hold the identity first (LandmarkModel(shape=...))')
        self._used = np.flatnonzero(weights > 0)
        root, corrected = np.sqrt(weights[self._used]), _corrected(model)
        self._still = _points_of([model.still], self._used, corrected)
        self._arms = _points_of(model.moving, self._used, corrected)
        patterns, taken = _patterns(modes[:, self._used] * root[:, None])
        gap_of, gap_row = np.nonzero(gaps[:, self._used])
        share = gaps[:, self._used][gap_of, gap_row] / root[gap_row] / gap_sigma
        self._terms = Terms(root, patterns, patterns * taken, gap_of, gap_row, share, *priors, np.array(corrected, np.int64))
        n, p = model.n_expression + 17, len(self._used)
        self._gap_sigma, self._n_free = gap_sigma, model.n_expression + 11
        self._buffers = Buffers(
            np.zeros((p, 3)), np.zeros((len(self._arms.rows), 3)), np.zeros((2 * p + len(gaps), n + 1), np.float32),
            np.zeros((n + 1, n + 1), np.float32), np.zeros((patterns.shape[1], n + 1), np.float32))
        self._hessian, self._gradient = np.zeros((n, n)), np.zeros(n)

    def normal_equations(self, x: np.ndarray, state, seen) -> tuple[np.ndarray, np.ndarray, float]:
        """Hessian [n, n], gradient [n] and cost; `x` [n] are the unknowns, the rigid pose is the state's."""
        cost = _equations(self._still, self._arms, self._terms, self._sight(state, seen), self._buffers, x[:self._n_free],
                          *_rigid(state), self._hessian, self._gradient)
        return self._hessian.copy(), self._gradient.copy(), cost

    def follow(
        self, x: np.ndarray, state, seen, *, iterations: int, damping: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take `LandmarkSolver.follow`'s steps; returns the unknowns [E + 11], rotation [3, 3] and translation [3]."""
        x, (rotation, translation), n_free = x[:self._n_free].copy(), _rigid(state), self._n_free
        parts = self._still, self._arms, self._terms, self._sight(state, seen), self._buffers
        for _ in range(iterations):
            cost = _equations(*parts, x, rotation, translation, self._hessian, self._gradient)
            self._hessian[np.diag_indices(len(self._gradient))] *= 1 + damping
            step = np.linalg.solve(self._hessian, self._gradient)
            x -= step[:n_free]
            _turned(-step[n_free:n_free + 3], rotation)
            translation -= step[n_free + 3:n_free + 6]
            if self._gradient @ step < 0.02 * cost:  # the next would gain little
                break
        return x, rotation, translation

    def rms(self, x: np.ndarray, state, seen) -> float:
        """Root of the mean square distance between projected and seen landmarks, px of a 256 px face."""
        return _rms(self._still, self._arms, self._terms, self._sight(state, seen), self._buffers, x[:self._n_free],
                    *_rigid(state))

    def _sight(self, state, seen) -> Sight:
        points, focal = seen.points[self._used, :2] * seen.unit, float(state.focal * seen.width * seen.unit)
        return Sight(np.ascontiguousarray(points), focal, np.ascontiguousarray(seen.axes), seen.gap_excess / self._gap_sigma)


def _rigid(state) -> tuple[np.ndarray, np.ndarray]:
    return np.array(state.rotation, np.float64), np.array(state.translation, np.float64)


def _patterns(modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal patterns V [2P, K] of noise with covariance 1 + modes' modes, and how much of each [K] it takes away.

    The precision's root, 1 - V diag(taken) V', whitens: rows multiplied by it meet plain least squares. (Subtracting from
    the Hessian instead, by Woodbury, leaves two digits less in float32.)
    """
    left, singular, _ = np.linalg.svd(modes.reshape(len(modes), -1).T, full_matrices=False)
    taken = 1 - 1 / np.sqrt(1 + singular**2)
    return np.ascontiguousarray(left, np.float32), taken.astype(np.float32)


@_compiled
def _rotation(rotvec, out):
    """Rodrigues' matrix (`landmark_model.rotation_matrix`)."""
    x, y, z = rotvec[0], rotvec[1], rotvec[2]
    square = x * x + y * y + z * z
    angle = np.sqrt(square)
    a, b = 1 - square / 6, 0.5 - square / 24
    if angle > 1e-4:
        a, b = np.sin(angle) / angle, (1 - np.cos(angle)) / square
    out[0, 0], out[0, 1], out[0, 2] = 1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y
    out[1, 0], out[1, 1], out[1, 2] = b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x
    out[2, 0], out[2, 1], out[2, 2] = b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)


@_compiled
def _turned(rotvec, rotation):
    """Turn `rotation` by `rotvec`, in place."""
    turn, before = np.empty((3, 3)), rotation.copy()
    _rotation(rotvec, turn)
    for r in range(3):
        for c in range(3):
            rotation[r, c] = turn[r, 0] * before[0, c] + turn[r, 1] * before[1, c] + turn[r, 2] * before[2, c]


@_compiled
def _right_jacobian(rotvec, out):
    """Matrix with exp(r + d) = exp(r) exp(Jr d) to first order (`landmark_model.right_jacobian`)."""
    x, y, z = rotvec[0], rotvec[1], rotvec[2]
    square = x * x + y * y + z * z
    angle = np.sqrt(square)
    a, b = 0.5 - square / 24, 1 / 6 - square / 120
    if angle > 1e-3:
        a, b = (1 - np.cos(angle)) / square, (angle - np.sin(angle)) / (square * angle)
    out[0, 0], out[0, 1], out[0, 2] = 1 - b * (y * y + z * z), b * x * y + a * z, b * x * z - a * y
    out[1, 0], out[1, 1], out[1, 2] = b * x * y - a * z, 1 - b * (x * x + z * z), b * y * z + a * x
    out[2, 0], out[2, 1], out[2, 2] = b * x * z + a * y, b * y * z - a * x, 1 - b * (x * x + y * y)


@_compiled
def _unposed(part, x, lids, feature, out):
    """Points before any rotation."""
    n_e = part.expression.shape[2]
    for i in range(len(part.base)):
        for c in range(3):
            value = part.base[i, c]
            for e in range(n_e):
                value += part.expression[i, c, e] * x[e]
            for e in range(4):
                value += part.eyelids[i, c, e] * lids[e]
            for e in range(len(feature)):
                value += part.correctives[i, c, e] * feature[e]
            out[i, c] = value


@_compiled
def _place(still, arms, corrected, x, buffers):
    """Fill in the landmarks in the head frame; returns the joints' rotations [3, 3, 3]."""
    n_e = still.expression.shape[2]
    rotations = np.empty((3, 3, 3))
    for j in range(3):
        _rotation(x[n_e + 2 + 3 * j:n_e + 5 + 3 * j], rotations[j])
    feature = np.empty(9 * len(corrected))
    for k in range(len(corrected)):
        for r in range(3):
            for c in range(3):
                feature[9 * k + 3 * r + c] = rotations[corrected[k], r, c] - (1.0 if r == c else 0.0)
    left, right = x[n_e], x[n_e + 1]
    lids = np.array([left, right, 4 * left * (1 - left), 4 * right * (1 - right)])
    points, bent = buffers.points, buffers.bent
    _unposed(still, x, lids, feature, points)
    _unposed(arms, x, lids, feature, bent)
    for q in range(len(bent)):
        turn = rotations[arms.joint[q]]
        for c in range(3):
            points[arms.rows[q], c] += turn[c, 0] * bent[q, 0] + turn[c, 1] * bent[q, 1] + turn[c, 2] * bent[q, 2]
    return rotations


@_compiled
def _add_rows(part, near, x, turns, corrected, rows):
    """Add what a part's expression, lids and correctives do; `near` [p, 2, 3] is d residual / d unposed point."""
    n_e = part.expression.shape[2]
    bend = np.zeros((3, 3))
    for q in range(len(near)):
        i = 2 * part.rows[q]
        for k in range(2):
            g0, g1, g2 = np.float32(near[q, k, 0]), np.float32(near[q, k, 1]), np.float32(near[q, k, 2])
            for e in range(n_e):
                rows[i + k, e] += g0 * part.expression[q, 0, e] + g1 * part.expression[q, 1, e] + g2 * part.expression[q, 2, e]
            for side in range(2):
                slope, value = 4 - 8 * x[n_e + side], 0.0
                for c in range(3):
                    value += near[q, k, c] * (part.eyelids[q, c, side] + slope * part.eyelids[q, c, side + 2])
                rows[i + k, n_e + side] += value
        for j in range(len(corrected)):
            for c in range(3):
                for e in range(3):
                    value = 0.0
                    for m in range(9):
                        value += part.correctives[q, c, 9 * j + m] * turns[j, m, e]
                    bend[c, e] = value
            at = n_e + 2 + 3 * corrected[j]
            for k in range(2):
                for e in range(3):
                    rows[i + k, at + e] += near[q, k, 0] * bend[0, e] + near[q, k, 1] * bend[1, e] + near[q, k, 2] * bend[2, e]


@_compiled
def _look(points, terms, sight, rotation, translation, at, rows, near):
    """Residuals and their derivatives by the rigid pose (columns `at` on), axes along and down the face; fills `near`."""
    down_x, down_y = sight.axes[2, 0], sight.axes[2, 1]
    for i in range(len(points)):
        x = rotation[0, 0] * points[i, 0] + rotation[0, 1] * points[i, 1] + rotation[0, 2] * points[i, 2]
        y = rotation[1, 0] * points[i, 0] + rotation[1, 1] * points[i, 1] + rotation[1, 2] * points[i, 2]
        z = rotation[2, 0] * points[i, 0] + rotation[2, 1] * points[i, 1] + rotation[2, 2] * points[i, 2]
        inverse = 1 / (z + translation[2])
        u, v = sight.focal * (x + translation[0]) * inverse, sight.focal * (y + translation[1]) * inverse
        for k in range(2):
            p, q = (down_y, -down_x) if k == 0 else (down_x, down_y)
            p, q = p * terms.root_weight[i], q * terms.root_weight[i]
            a, b, c = p * sight.focal * inverse, q * sight.focal * inverse, -(p * u + q * v) * inverse
            row = rows[2 * i + k]
            for e in range(3):
                near[i, k, e] = a * rotation[0, e] + b * rotation[1, e] + c * rotation[2, e]
            # -[a, b, c] skew(turned point), then the translation itself
            row[at], row[at + 1], row[at + 2] = c * y - b * z, a * z - c * x, b * x - a * y
            row[at + 3], row[at + 4], row[at + 5] = a, b, c
            row[at + 6] = p * (u - sight.points[i, 0]) + q * (v - sight.points[i, 1])


@_compiled
def _add_joints(arms, near, bent, rotations, jacobians, at, rows):
    """Turn `near` [p, 2, 3] of the moving points into their joints' frames (in place); add what the rotations do."""
    for q in range(len(bent)):
        turn, jacobian = rotations[arms.joint[q]], jacobians[arms.joint[q]]
        b0, b1, b2 = bent[q, 0], bent[q, 1], bent[q, 2]
        for k in range(2):
            n0, n1, n2 = near[q, k, 0], near[q, k, 1], near[q, k, 2]
            h0 = n0 * turn[0, 0] + n1 * turn[1, 0] + n2 * turn[2, 0]
            h1 = n0 * turn[0, 1] + n1 * turn[1, 1] + n2 * turn[2, 1]
            h2 = n0 * turn[0, 2] + n1 * turn[1, 2] + n2 * turn[2, 2]
            near[q, k, 0], near[q, k, 1], near[q, k, 2] = h0, h1, h2
            c0, c1, c2 = b1 * h2 - b2 * h1, b2 * h0 - b0 * h2, b0 * h1 - b1 * h0  # -h skew(b)
            row = rows[2 * arms.rows[q] + k]
            for e in range(3):
                row[at + 3 * arms.joint[q] + e] += c0 * jacobian[0, e] + c1 * jacobian[1, e] + c2 * jacobian[2, e]


@_compiled
def _linearise(still, arms, terms, sight, buffers, x, rotation, translation):
    """Rows [2P, n + 1] of derivatives and residuals, times the root weights; returns nothing."""
    n_e = still.expression.shape[2]
    rotations = _place(still, arms, terms.corrected, x, buffers)
    jacobians, turns = np.empty((3, 3, 3)), np.empty((len(terms.corrected), 9, 3))
    for j in range(3):
        _right_jacobian(x[n_e + 2 + 3 * j:n_e + 5 + 3 * j], jacobians[j])
    for k in range(len(terms.corrected)):
        _turn(rotations[terms.corrected[k]], jacobians[terms.corrected[k]], turns[k])
    rows = buffers.rows
    rows.fill(0)
    near, arm_near = np.empty((len(buffers.points), 2, 3)), np.empty((len(buffers.bent), 2, 3))
    _look(buffers.points, terms, sight, rotation, translation, n_e + 11, rows, near)
    for q in range(len(arm_near)):
        for k in range(2):
            for e in range(3):
                arm_near[q, k, e] = near[arms.rows[q], k, e]
    _add_joints(arms, arm_near, buffers.bent, rotations, jacobians, n_e + 2, rows)
    _add_rows(still, near, x, turns, terms.corrected, rows)
    _add_rows(arms, arm_near, x, turns, terms.corrected, rows)


@_compiled
def _turn(rotation, jacobian, out):
    """Derivatives [9, 3] of a rotation matrix by its axis-angle vector (`landmark_model.rotation_derivatives`)."""
    for e in range(3):
        a, b, c = jacobian[0, e], jacobian[1, e], jacobian[2, e]
        for r in range(3):
            out[3 * r, e] = rotation[r, 1] * c - rotation[r, 2] * b
            out[3 * r + 1, e] = rotation[r, 2] * a - rotation[r, 0] * c
            out[3 * r + 2, e] = rotation[r, 0] * b - rotation[r, 1] * a


@_compiled
def _add_gaps(terms, sight, rows):
    """Write the mean openings of lids and lips, measurements of their own, into the last three rows."""
    first = len(rows) - len(sight.axes)
    down_x, down_y = sight.axes[2, 0], sight.axes[2, 1]
    for m in range(len(terms.gap_of)):
        axis, i = sight.axes[terms.gap_of[m]], 2 * terms.gap_row[m]
        along = np.float32(terms.gap_share[m] * (axis[0] * down_y - axis[1] * down_x))
        down = np.float32(terms.gap_share[m] * (axis[0] * down_x + axis[1] * down_y))
        row = rows[first + terms.gap_of[m]]
        for e in range(rows.shape[1]):
            row[e] += along * rows[i, e] + down * rows[i + 1, e]
    for g in range(len(sight.axes)):
        rows[first + g, -1] += sight.excess[g]


@_compiled
def _equations(still, arms, terms, sight, buffers, x, rotation, translation, hessian, gradient):
    """Fill in Hessian and gradient; return the cost."""
    _linearise(still, arms, terms, sight, buffers, x, rotation, translation)
    rows, n = buffers.rows, len(gradient)
    measured = rows[:2 * len(buffers.points)]
    _add_gaps(terms, sight, rows)
    np.dot(terms.patterns.T, measured, buffers.seen)
    taken = np.dot(terms.shrink, buffers.seen)
    for i in range(len(measured)):
        for e in range(n + 1):
            measured[i, e] -= taken[i, e]
    np.dot(rows.T, rows, buffers.gram)
    for i in range(n):
        gradient[i] = buffers.gram[i, n]
        for e in range(n):
            hessian[i, e] = buffers.gram[i, e]
    return buffers.gram[n, n] + _add_priors(terms, x, hessian, gradient)


@_compiled
def _add_priors(terms, x, hessian, gradient):
    """Add priors, walls and the pull of one eye on the other; returns their cost."""
    cost = 0.0
    for k in range(len(x)):
        under, over = min(x[k] - terms.low[k], 0.0), max(x[k] - terms.high[k], 0.0)
        below = terms.low_wall[k] if under < 0 else 0.0
        above = terms.high_wall[k] if over > 0 else 0.0
        hessian[k, k] += terms.precision[k] + below + above
        gradient[k] += terms.precision[k] * x[k] + below * under + above * over
        cost += terms.precision[k] * x[k] ** 2 + below * under**2 + above * over**2
    left, right = len(x) - 6, len(x) - 3
    for e in range(3):
        gap, pull = x[left + e] - x[right + e], terms.vergence[e]
        hessian[left + e, left + e] += pull
        hessian[right + e, right + e] += pull
        hessian[left + e, right + e] -= pull
        hessian[right + e, left + e] -= pull
        gradient[left + e] += pull * gap
        gradient[right + e] -= pull * gap
        cost += pull * gap * gap
    return cost


@_compiled
def _rms(still, arms, terms, sight, buffers, x, rotation, translation):
    _place(still, arms, terms.corrected, x, buffers)
    total, points = 0.0, buffers.points
    for i in range(len(points)):
        a = rotation[0, 0] * points[i, 0] + rotation[0, 1] * points[i, 1] + rotation[0, 2] * points[i, 2] + translation[0]
        b = rotation[1, 0] * points[i, 0] + rotation[1, 1] * points[i, 1] + rotation[1, 2] * points[i, 2] + translation[1]
        c = rotation[2, 0] * points[i, 0] + rotation[2, 1] * points[i, 1] + rotation[2, 2] * points[i, 2] + translation[2]
        across, down = sight.focal * a / c - sight.points[i, 0], sight.focal * b / c - sight.points[i, 1]
        total += across * across + down * down
    return np.sqrt(total / len(points))


KERNELS = _equations, _turned, _rms  # what is called from here


def load_kernels() -> None:
    """Compile the kernels, or load them from the cache, so that no frame waits for it; no head is needed."""
    point = Part(np.zeros(1, int), np.ones(1), np.zeros((1, 3)), np.zeros((1, 3, 1)), np.zeros((1, 3, 4)), np.zeros((1, 3, 0)),
                 np.zeros((1, 3, 0)))
    model = SimpleNamespace(n_shape=0, n_expression=1, has_correctives=False, still=point, moving=[point] * len(MOVING))
    priors = (*[np.zeros(18)] * 5, np.zeros(3))
    equations = FrameEquations(model, np.ones(1), np.ones((1, 1, 2)), np.ones((3, 1), np.float32), 1.0, priors)
    state = SimpleNamespace(rotation=np.eye(3), translation=np.array([0.0, 0.0, 1.0]), focal=1.0)
    seen = SimpleNamespace(points=np.zeros((1, 3)), unit=1.0, width=1, axes=np.eye(3, 2), gap_excess=np.zeros(3))
    equations.normal_equations(np.zeros(18), state, seen)
    _turned(np.zeros(3), np.eye(3))
    equations.rms(np.zeros(18), state, seen)

"""Regularised Gauss-Newton on landmark residuals: one problem for the photo and for every frame.

Unknowns: articulation (expression, lids, jaw, eyes), rigid pose, and where they are free identity shape and log focal
length. Residuals are in units of a face 256 px wide, so weights hold for any picture size.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from sega_ros.errors import HeadModelError
from sega_ros.head.model import HeadModel
from sega_ros.tracking.landmark_model import Articulation, LandmarkModel, rotation_matrix, skew
from sega_ros.tracking.noise import StructuredWeights, load_noise
from sega_ros.tracking.topology import GAPS, eye_widths, gap_axes, gap_shares, gap_widths, landmark_weights

FACE_UNIT = 256.0  # px: residuals are scaled to a face of this size


@dataclass(frozen=True)
class FitConfig:
    """Noise and priors; standard deviations in the unit of the quantity."""

    landmark_sigma: float = 1.0  # px of a 256 px face, independent part; the structured part is `LandmarkNoise`
    correlation: float = 4.0  # so many landmarks carry one independent measurement
    structure: float = 0.5  # scale of the structured noise; 0 trusts every landmark alike
    gap_sigma: float = 0.5  # px of a 256 px face: mean opening of lids and lips, what people look at
    closed_eye: float = 0.1  # share of the photo's eye opening that MediaPipe still sees in a closed eye
    depth_weight: float = 0.02  # of MediaPipe's z, over that of x and y
    expression_sigma: float = 0.35
    negative_sigma: float = 0.08  # of what lies under the lower bound 0: units act one way
    excess_sigma: float = 0.15  # of what lies over the upper bound
    upper_bound: float = 1.0
    shape_sigma: float = 1.0
    eyelid_sigma: float = 0.6
    jaw_sigma: tuple[float, float, float] = (0.35, 0.03, 0.06)  # open, roll about z is free-er than turn about y
    jaw_close_sigma: float = 0.01  # of opening below zero
    eye_sigma: tuple[float, float, float] = (0.35, 0.45, 0.001)  # down, left, torsion
    vergence_sigma: tuple[float, float, float] = (0.02, 0.08, 0.001)  # difference of the two eyes
    focal_mean: float = 2.0  # over the image width
    focal_sigma: float = 0.25  # of its logarithm
    focal_min: float = 1.2


@dataclass(frozen=True)
class State:
    """A point in the space of unknowns."""

    pose: Articulation
    rotation: np.ndarray  # [3, 3] head to camera
    translation: np.ndarray  # [3] metres
    focal: float  # over the image width
    shape: np.ndarray = field(default_factory=lambda: np.zeros(0))  # [S] or empty


@dataclass(frozen=True)
class Observation:
    """Landmarks of one picture, ready for the solver."""

    points: np.ndarray  # [P, 3] px x, y, z, relative to the picture's centre
    width: int
    unit: float  # px -> px of a 256 px face
    axes: np.ndarray  # [3, 2] across the gaps of lids and lips
    gap_excess: np.ndarray  # [3] px of a 256 px face: what the seen gaps show more than is there

    @classmethod
    def of_landmarks(
        cls, points: np.ndarray, size: tuple[int, int], *, openness: np.ndarray | None = None, closed: float = 0.0,
    ) -> 'Observation':
        """Prepare points [478, 3] of a picture of `size` (H, W).

        With the person's eye-aspect ratio at the photo (`openness` [2]) the seen lid gap is stretched so that `closed`,
        the share of it that MediaPipe reports of a shut eye, means zero.
        """
        height, width = size
        box = points[:468, :2].T.copy()  # along rows, or each minimum takes five times as long
        side = float((box.max(1) - box.min(1)).max())
        centred = points.astype(np.float64) - np.array([width / 2, height / 2, 0.0])
        unit = FACE_UNIT / max(side, 1e-6)
        axes, excess = gap_axes(centred), np.zeros(3)
        if openness is not None and closed > 0:
            seen = gap_widths(centred, axes)[:2]
            share = seen / eye_widths(centred) / np.maximum(openness, 1e-3)
            wanted = np.where(share < 1, np.maximum((share - closed) / (1 - closed), 0), share)
            excess[:2] = unit * (seen - wanted * seen / np.where(np.abs(share) < 1e-3, 1e-3, share))
        return cls(centred, width, unit, axes, excess)


class LandmarkSolver:
    """Normal equations and steps for one `LandmarkModel`."""

    def __init__(
        self, head: HeadModel, model: LandmarkModel, valid: np.ndarray, config: FitConfig, *,
        fit_shape: bool = False, fit_focal: bool = False, weights: np.ndarray | None = None,
        compiled: bool = False,
    ) -> None:
        self.model, self.config = model, config
        self.n_e, self.n_s = head.n_expression, model.n_shape if fit_shape else 0
        self.fit_focal = fit_focal
        noise = load_noise()
        base = landmark_weights() if weights is None else weights
        variance = (config.landmark_sigma**2 + noise.variance) * config.correlation
        self.weights = np.where(valid, base, 0.0) / variance
        self._weigh = StructuredWeights(noise.modes * config.structure, self.weights)
        self.size = self.n_e + 11 + self.n_s + 6 + int(fit_focal)
        self._gaps = gap_shares().astype(np.float32)
        if not valid[(self._gaps != 0).any(0)].all():
            raise HeadModelError(f'head {head.name}: lids or inner lips have no landmarks on it; wanted all of them')
        self._prior, self._centre = self._priors()
        self._vergence = 1 / np.square(config.vergence_sigma)
        self._coupling = np.kron(np.array([[1, -1], [-1, 1]]), np.diag(self._vergence))  # [6, 6]
        self._low, self._high, self._low_wall, self._high_wall = self._walls()
        self._fast = None
        if compiled:
            from sega_ros.tracking.frame_equations import FrameEquations

            self._fast = FrameEquations(
                model, self.weights, noise.modes * config.structure, self._gaps, config.gap_sigma,
                (self._prior, self._low, self._high, self._low_wall, self._high_wall, self._vergence))

    # Columns: expression, lids 2, jaw 3, left eye 3, right eye 3, shape S, rotation 3, translation 3, log focal.
    def _priors(self) -> tuple[np.ndarray, np.ndarray]:
        """Diagonal precisions [n] and what the unknowns are pulled to [n]."""
        c, n = self.config, self.n_e
        precision, centre = np.zeros(self.size), np.zeros(self.size)
        precision[:n] = 1 / c.expression_sigma**2
        precision[n:n + 2] = 1 / c.eyelid_sigma**2
        precision[n + 2:n + 5] = 1 / np.square(c.jaw_sigma)
        precision[n + 5:n + 8] = precision[n + 8:n + 11] = 1 / np.square(c.eye_sigma)
        precision[n + 11:n + 11 + self.n_s] = 1 / c.shape_sigma**2
        if self.fit_focal:
            precision[-1], centre[-1] = 1 / c.focal_sigma**2, np.log(c.focal_mean)
        return precision, centre

    def values(self, state: State) -> np.ndarray:
        """Vector of the unknowns that have priors [n]; the rigid pose counts from where it is."""
        pose = state.pose
        x = np.concatenate([pose.expression, pose.eyelids, pose.jaw, pose.left_eye, pose.right_eye,
                            state.shape[:self.n_s], np.zeros(6)])
        return np.append(x, np.log(state.focal)) if self.fit_focal else x

    def residuals(self, state: State, seen: Observation) -> np.ndarray:
        """Projected minus seen [P, 2] in px of a 256 px face."""
        points = self.model.points(state.pose, state.shape if self.n_s else None)
        camera = points @ state.rotation.T + state.translation
        pixels = state.focal * seen.width * camera[:, :2] / camera[:, 2:]
        return (pixels - seen.points[:, :2]) * seen.unit

    def rms(self, state: State, seen: Observation) -> float:
        """Root mean square of `residuals` over the landmarks that have a weight."""
        if self._fast:
            return self._fast.rms(self.values(state), state, seen)
        return float(np.sqrt(np.square(self.residuals(state, seen)[self.weights > 0]).sum(1).mean()))

    def shared_columns(self) -> np.ndarray:
        """Unknowns that several pictures of one person and camera have in common: shape and focal length."""
        shape = np.arange(self.n_e + 11, self.n_e + 11 + self.n_s)
        return np.append(shape, self.size - 1) if self.fit_focal else shape

    def normal_equations(
        self, state: State, seen: Observation, *, prior_share: float = 1.0,
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Hessian [n, n], gradient [n] and cost at `state`; `prior_share` scales the priors of the shared unknowns."""
        if self._fast:
            return self._fast.normal_equations(self.values(state), state, seen)
        rows, residual = self.linearise(state, seen)
        hessian, gradient, cost = self._weigh(rows[:, :2], residual[:, :2], seen.axes[2])
        if self.config.depth_weight > 0:
            depth_rows, weight = rows[:, 2], self.config.depth_weight * self.weights
            weighted = depth_rows * weight[:, None]
            hessian += weighted.T @ depth_rows
            gradient += weighted.T @ residual[:, 2]
            cost += float(weight @ residual[:, 2]**2)
        cost += self._add_gaps(seen, rows, residual, hessian, gradient)
        return self._with_priors(state, hessian, gradient, cost, prior_share)

    def _add_gaps(self, seen, rows, residual, hessian, gradient) -> float:
        """Add the mean openings of lids and lips as measurements of their own (in place); returns their cost."""
        flat = (self._gaps @ rows.reshape(len(rows), -1)).reshape(len(GAPS), rows.shape[1], self.size)[:, :2]
        row = np.einsum('gk,gkn->gn', seen.axes, flat).astype(np.float64)
        off = ((self._gaps @ residual[:, :2]) * seen.axes).sum(1) + seen.gap_excess
        weight = 1 / self.config.gap_sigma**2
        hessian += weight * row.T @ row
        gradient += weight * off @ row
        return float(weight * off @ off)

    def linearise(self, state: State, seen: Observation) -> tuple[np.ndarray, np.ndarray]:
        """Return derivatives [P, 3, n] and residuals [P, 3] of the landmarks: x, y and depth, px of a 256 px face."""
        points, jacobian = self.model.derivatives(state.pose, state.shape if self.n_s else None)
        n_art = self.n_e + 11 + self.n_s
        turned = points @ state.rotation.T
        camera = turned + state.translation
        focal_px = state.focal * seen.width * seen.unit
        inverse = 1 / camera[:, 2]
        pixels = focal_px * camera[:, :2] * inverse[:, None]
        # d pixels / d camera point; the third row is depth, weak-perspective like MediaPipe's z.
        near = np.zeros((len(points), 3, 3))
        near[:, 0, 0] = near[:, 1, 1] = focal_px * inverse
        near[:, :2, 2] = -pixels * inverse[:, None]
        depth_scale = focal_px / camera[:, 2].mean()
        near[:, 2, 2] = depth_scale
        rows = np.empty((len(points), 3, self.size))
        rows[..., :n_art] = (near @ state.rotation) @ jacobian[..., :n_art]
        rows[..., n_art:n_art + 3] = -near @ skew(turned)
        rows[..., n_art + 3:n_art + 6] = near
        if self.fit_focal:
            rows[:, :2, -1] = pixels
            rows[:, 2, -1] = 0.0  # its scale is not a measurement
        residual = np.empty((len(points), 3))
        residual[:, :2] = pixels - seen.points[:, :2] * seen.unit
        w = self.weights
        depth = depth_scale * camera[:, 2] - seen.points[:, 2] * seen.unit
        # Only depth relative to the head's mean is seen.
        total = w.sum()
        rows[:, 2] -= (w @ rows[:, 2]) / total
        residual[:, 2] = depth - w @ depth / total
        return rows, residual

    def _with_priors(self, state, hessian, gradient, cost, prior_share):
        """Add priors and walls to the normal equations (in place) and to the cost."""
        x = self.values(state)
        under, over = np.minimum(x - self._low, 0), np.maximum(x - self._high, 0)
        below, above = self._low_wall * (under < 0), self._high_wall * (over > 0)
        precision = self._prior
        if prior_share != 1.0:
            precision = precision.copy()
            precision[self.shared_columns()] *= prior_share
        off = x - self._centre
        pull, push, press = precision * off, below * under, above * over
        hessian.reshape(-1)[::self.size + 1] += precision + below + above
        gradient += pull + push + press
        cost += float(pull @ off + push @ under + press @ over)
        n = self.n_e
        gap = x[n + 5:n + 8] - x[n + 8:n + 11]
        hessian[n + 5:n + 11, n + 5:n + 11] += self._coupling
        gradient[n + 5:n + 8] += self._vergence * gap
        gradient[n + 8:n + 11] -= self._vergence * gap
        return hessian, gradient, cost + float(self._vergence @ gap**2)

    def _walls(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Bounds [n] and the precisions [n] beyond them: units and lids act one way, the jaw only opens."""
        c, n = self.config, self.n_e
        low, high = np.full(self.size, -1e9), np.full(self.size, 1e9)
        low[:n + 3], high[:n], high[n:n + 2] = 0.0, c.upper_bound, 1.0
        low_wall, high_wall = np.zeros(self.size), np.zeros(self.size)
        low_wall[:n + 2], low_wall[n + 2] = 1 / c.negative_sigma**2, 1 / c.jaw_close_sigma**2
        high_wall[:n + 2] = 1 / c.excess_sigma**2
        return low, high, low_wall, high_wall

    def moved(self, state: State, step: np.ndarray) -> State:
        """`state` after a step [n]."""
        n, s = self.n_e, self.n_s
        p = state.pose
        pose = Articulation(p.expression + step[:n], p.eyelids + step[n:n + 2], p.jaw + step[n + 2:n + 5],
                            p.left_eye + step[n + 5:n + 8], p.right_eye + step[n + 8:n + 11])
        at = n + 11 + s
        focal = max(state.focal * float(np.exp(step[-1])), self.config.focal_min) if self.fit_focal else state.focal
        return replace(
            state, pose=pose, rotation=rotation_matrix(step[at:at + 3]) @ state.rotation,
            translation=state.translation + step[at + 3:at + 6], focal=focal,
            shape=state.shape + step[n + 11:at] if s else state.shape)

    def solve(self, state: State, seen: Observation, *, iterations: int, damping: float = 1e-3) -> tuple[State, float]:
        """Levenberg-Marquardt from `state`; returns the best state and its cost."""
        hessian, gradient, cost = self.normal_equations(state, seen)
        index = np.arange(self.size)
        for _ in range(iterations):
            damped = hessian.copy()
            damped[index, index] *= 1 + damping
            damped[index, index] += 1e-9
            step = -np.linalg.solve(damped, gradient)
            trial = self.moved(state, step)
            trial_equations = self.normal_equations(trial, seen)
            if trial_equations[2] < cost:
                gain = cost - trial_equations[2]
                state, (hessian, gradient, cost) = trial, trial_equations
                damping = max(damping / 5, 1e-6)
                if gain < 1e-4 * cost:
                    break
            else:
                damping = min(damping * 10, 1e6)
        return state, cost

    def follow(self, state: State, seen: Observation, *, iterations: int, damping: float = 1e-3) -> State:
        """Take plain damped Gauss-Newton steps from a state that is near already: no trials, a fixed cost per frame."""
        if self._fast:
            x, rotation, translation = self._fast.follow(self.values(state), state, seen, iterations=iterations, damping=damping)
            n = self.n_e
            pose = Articulation(x[:n], x[n:n + 2], x[n + 2:n + 5], x[n + 5:n + 8], x[n + 8:n + 11])
            return replace(state, pose=pose, rotation=rotation, translation=translation)
        for _ in range(iterations):
            hessian, gradient, cost = self.normal_equations(state, seen)
            hessian.reshape(-1)[::self.size + 1] *= 1 + damping
            step = -np.linalg.solve(hessian, gradient)
            state = self.moved(state, step)
            if -gradient @ step < 0.02 * cost:  # the next step would gain still less: most frames need one
                break
        return state


def rigid_start(
    points: np.ndarray, seen: Observation, focal: float, valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and translation [3] by aligning model landmarks [P, 3] to MediaPipe's own 3D points.

    Umeyama's closed form, weak perspective; good to some degrees, which is where the iteration starts.
    """
    use = np.flatnonzero(valid)
    a, b = points[use], seen.points[use]
    ca, cb = a.mean(0), b.mean(0)
    u, d, vt = np.linalg.svd((b - cb).T @ (a - ca) / len(use))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = float((d * sign).sum() / np.square(a - ca).sum(1).mean())
    depth = focal * seen.width / scale
    centre = np.array([cb[0] / scale, cb[1] / scale, depth])
    return rotation, centre - rotation @ ca

"""Identity from a photo, and what follows from it for that person."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from sega_ros.errors import NoFaceError, RequestError
from sega_ros.head.model import HeadModel
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.landmark_model import Articulation, LandmarkModel
from sega_ros.tracking.offset import solve_offset_field
from sega_ros.tracking.solver import FitConfig, LandmarkSolver, Observation, State, rigid_start
from sega_ros.tracking.topology import eye_openness
from sega_ros.types import FlameParams, Landmarks, check_shape

_SETTLED = 1e-5  # share of the cost under which another step is not worth its time
_STAGES = ((25.0, 8), (1.0, 30))  # (stiffness of expression and shape, iterations): pose settles first


@dataclass(frozen=True)
class Identity:
    """What is held of a person while their expressions are tracked."""

    shape: np.ndarray  # [S]
    v_offset: np.ndarray | None = None  # [V, 3] metres, added to the template
    landmark_offset: np.ndarray | None = None  # [478, 3] metres, what the mesh still misses
    focal_length: float | None = None  # of the tracked camera, over its image width; None: estimated
    eye_openness: np.ndarray | None = None  # [2] eye-aspect ratio at the photo, left, right
    eyelids: np.ndarray | None = None  # [2] closure that the fit gave the photo
    gaze: np.ndarray | None = None  # [2, 3] eye poses at the photo, left, right


@dataclass(frozen=True)
class IdentityFit:
    """Result of `fit_identity`."""

    shape: np.ndarray  # [S]
    params: FlameParams  # of the first picture, shape included
    rotation: np.ndarray  # [3, 3] head to camera
    translation: np.ndarray  # [3] metres
    focal_length: float  # over the image width
    landmark_offset: np.ndarray  # [478, 3] metres in the unposed head frame; zeroes the picture's residual
    rms_px: float  # of the fitted landmarks without that offset, px of a face 256 px wide
    landmarks: Landmarks  # the first picture's, seen
    state: State

    def identity(self, v_offset: np.ndarray | None = None, landmark_offset: np.ndarray | None = None) -> Identity:
        """Return what tracking needs; with `v_offset` give also the landmark offset that remains."""
        if v_offset is None:
            landmark_offset = self.landmark_offset
        pose = self.state.pose
        return Identity(
            self.shape, v_offset, landmark_offset, self.focal_length, eye_openness(self.landmarks.points),
            pose.eyelids.astype(np.float32), np.stack([pose.left_eye, pose.right_eye]).astype(np.float32))


def start_state(
    model: LandmarkModel, seen: Observation, valid: np.ndarray, focal: float, *, n_expression: int, n_shape: int = 0,
) -> State:
    """Neutral face where MediaPipe's own 3D points put it."""
    pose = Articulation(np.zeros(n_expression))
    points = model.points(pose)
    rotation, translation = rigid_start(points, seen, focal, valid)
    return State(pose, rotation, translation, focal, np.zeros(n_shape))


def fit_identity(
    head: HeadModel, embedding: LandmarkEmbedding, landmarks: Landmarks | Sequence[Landmarks], *,
    focal_length: float | None = None, config: FitConfig | None = None, breathe: Callable[[], None] = lambda: None,
) -> IdentityFit:
    """Fit shape, expression, pose and focal length to one or several pictures of a person.

    Args:
        head, embedding: the head model and its landmarks.
        landmarks: what was detected; several pictures of one camera share shape and focal length.
        focal_length: over the image width, where it is known (EXIF); else it is fitted under a prior.
        config: noise and priors.
        breathe: called after each picture's equations; a thread beside a live stream sleeps here and leaves it the interpreter.

    Raises:
        NoFaceError: no landmarks were given.
        RequestError: a focal length that no camera has.
    """
    pictures = [landmarks] if isinstance(landmarks, Landmarks) else list(landmarks)
    if not pictures:
        raise NoFaceError('fit_identity: wanted the landmarks of at least one picture, found none')
    if focal_length is not None and not 0.2 <= focal_length <= 50:
        raise RequestError(f'focal_length: wanted 0.2 to 50 times the image width, found {focal_length}')
    config = config or FitConfig()
    model = LandmarkModel(head, embedding.faces, embedding.barys)
    seen = [Observation.of_landmarks(p.points, (p.height, p.width)) for p in pictures]
    focal = focal_length or config.focal_mean
    states = [start_state(model, s, embedding.valid, focal, n_expression=head.n_expression, n_shape=head.n_shape)
              for s in seen]
    for stiffness, iterations in _STAGES:
        stiff = replace(config, expression_sigma=config.expression_sigma / stiffness**0.5,
                        shape_sigma=config.shape_sigma / stiffness**0.5)
        solver = LandmarkSolver(head, model, embedding.valid, stiff, fit_shape=True, fit_focal=focal_length is None)
        states = _solve_shared(solver, states, seen, iterations, breathe)
    residual = solver.residuals(states[0], seen[0])
    rms = float(np.sqrt(np.square(residual[embedding.valid]).sum(1).mean()))
    state = states[0]
    offset = residual_offsets(
        LandmarkModel(head, embedding.faces, embedding.barys, shape=state.shape), state, seen[0], embedding.valid)
    return IdentityFit(
        state.shape.astype(np.float32), state.pose.to_params(state.shape), state.rotation.astype(np.float32),
        state.translation.astype(np.float32), state.focal, offset, rms, pictures[0], state)


def _solve_shared(
    solver: LandmarkSolver, states: list[State], seen: list[Observation], iterations: int, breathe: Callable[[], None],
) -> list[State]:
    """Levenberg-Marquardt on all pictures; identity and focal length are one for all."""
    if len(states) == 1:
        return [solver.solve(states[0], seen[0], iterations=iterations)[0]]
    shared = solver.shared_columns()
    own = np.setdiff1d(np.arange(solver.size), shared)
    n, m = len(states), len(own)
    columns = [np.concatenate([np.arange(i * m, (i + 1) * m), n * m + np.arange(len(shared))]) for i in range(n)]
    order = np.concatenate([own, shared])

    def assemble(at: list[State]) -> tuple[np.ndarray, np.ndarray, float]:
        hessian = np.zeros((n * m + len(shared),) * 2)
        gradient, total = np.zeros(len(hessian)), 0.0
        for state, observation, c in zip(at, seen, columns, strict=True):
            h, g, cost = solver.normal_equations(state, observation, prior_share=1 / n)
            hessian[np.ix_(c, c)] += h[np.ix_(order, order)]
            gradient[c] += g[order]
            total += cost
            breathe()
        return hessian, gradient, total

    hessian, gradient, cost = assemble(states)
    damping, diagonal = 1e-3, np.arange(len(hessian))
    for _ in range(iterations):
        damped = hessian.copy()
        damped[diagonal, diagonal] *= 1 + damping
        full = -scipy.linalg.solve(damped, gradient, assume_a='pos')
        step = np.zeros((n, solver.size))
        for i, c in enumerate(columns):
            step[i, order] = full[c]
        trial = [solver.moved(s, d) for s, d in zip(states, step, strict=True)]
        equations = assemble(trial)
        if equations[2] < cost:
            settled = cost - equations[2] < _SETTLED * cost
            states, (hessian, gradient, cost), damping = trial, equations, max(damping / 5, 1e-6)
            if settled:
                break
        else:
            damping = min(damping * 10, 1e6)
    return states


def residual_offsets(model: LandmarkModel, state: State, seen: Observation, valid: np.ndarray) -> np.ndarray:
    """Displacements [478, 3] of the unposed landmarks that bring them onto the seen ones, parallel to the picture.

    `model` holds the shape.
    """
    points = model.points(state.pose)
    camera = points @ state.rotation.T + state.translation
    wanted = seen.points[:, :2] / (state.focal * seen.width) * camera[:, 2:]
    shift = np.concatenate([wanted - camera[:, :2], np.zeros((len(points), 1))], 1) @ state.rotation
    shift = np.linalg.solve(model.blends(state.pose), shift[..., None])[..., 0]
    return np.where(valid[:, None], shift, 0.0).astype(np.float32)


def solve_personal_offset(
    head: HeadModel, embedding: LandmarkEmbedding, fit: IdentityFit, *, tension: float = 1.0,
) -> Identity:
    """Personal geometry: a smooth displacement of the template that puts the landmarks where the photo has them.

    Returns the identity with `v_offset` [V, 3] and the small landmark offsets that the smooth field leaves.
    `tension` > 1 trusts the landmarks less.
    """
    v_offset = solve_offset_field(head, embedding, fit.landmark_offset, tension=tension)
    model = LandmarkModel(head, embedding.faces, embedding.barys, shape=fit.state.shape, v_offset=v_offset)
    seen = Observation.of_landmarks(fit.landmarks.points, (fit.landmarks.height, fit.landmarks.width))
    rest = residual_offsets(model, fit.state, seen, embedding.valid)
    return fit.identity(v_offset, rest)


def reprojection(
    head: HeadModel, embedding: LandmarkEmbedding, identity: Identity, params: FlameParams, rotation: np.ndarray,
    translation: np.ndarray, focal_length: float, size: tuple[int, int],
) -> np.ndarray:
    """Pixels [478, 2] of the fitted landmarks in a picture of `size` (H, W)."""
    check_shape('rotation', rotation, (3, 3))
    model = LandmarkModel(head, embedding.faces, embedding.barys, shape=identity.shape, v_offset=identity.v_offset,
                          landmark_offset=identity.landmark_offset)
    points = model.points(Articulation.of_params(params))
    camera = points @ rotation.T + translation
    height, width = size
    return focal_length * width * camera[:, :2] / camera[:, 2:] + np.array([width / 2, height / 2])

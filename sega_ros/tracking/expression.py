"""One frame to one expression: the per-frame fit with identity, personal geometry and focal length held."""

from dataclasses import dataclass

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.fit import Identity, start_state
from sega_ros.tracking.landmark_model import LandmarkModel
from sega_ros.tracking.solver import FitConfig, LandmarkSolver, Observation, State
from sega_ros.types import FlameParams, Landmarks


@dataclass(frozen=True)
class FrameFit:
    """Fit of one frame."""

    params: FlameParams  # shape is empty: identity is held
    rotation: np.ndarray  # [3, 3] head to camera
    translation: np.ndarray  # [3] metres
    focal_length: float  # over the image width
    rms_px: float  # of the landmarks, px of a face 256 px wide
    state: State  # warm start of the next frame


class ExpressionFitter:
    """Expression, jaw, gaze, lids and head pose of one person, frame by frame."""

    def __init__(
        self, head: HeadModel, embedding: LandmarkEmbedding, identity: Identity, *, config: FitConfig | None = None,
    ) -> None:
        self.config = config or FitConfig()
        self.identity, self._n_expression = identity, head.n_expression
        self._valid = embedding.valid
        self.focal = identity.focal_length or self.config.focal_mean
        self.model = LandmarkModel(
            head, embedding.faces, embedding.barys, shape=identity.shape, v_offset=identity.v_offset,
            landmark_offset=identity.landmark_offset)
        self._solver = LandmarkSolver(head, self.model, embedding.valid, self.config, compiled=True)

    def fit(self, landmarks: Landmarks, previous: State | None = None, *, iterations: int = 2) -> FrameFit:
        """Fit one frame; without `previous` from a cold start, which takes ten times as long."""
        seen = Observation.of_landmarks(
            landmarks.points, (landmarks.height, landmarks.width), openness=self.identity.eye_openness,
            closed=self.config.closed_eye)
        if previous is None:
            state = start_state(self.model, seen, self._valid, self.focal, n_expression=self._n_expression)
            state, _ = self._solver.solve(state, seen, iterations=20)
        else:
            state = self._solver.follow(previous, seen, iterations=iterations)
        return FrameFit(
            state.pose.to_params(np.zeros(0)), state.rotation.astype(np.float32), state.translation.astype(np.float32),
            state.focal, self._solver.rms(state, seen), state)

"""Camera frames in, FLAME expressions out."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.tracking.calibration import Calibration
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.expression import ExpressionFitter, FrameFit
from sega_ros.tracking.face_points import FacePoints, face_points
from sega_ros.tracking.fit import Identity, fit_identity
from sega_ros.tracking.landmarks import open_detector
from sega_ros.tracking.smoothing import OneEuroConfig, OneEuroFilter, RotationFilter
from sega_ros.tracking.solver import FitConfig
from sega_ros.types import FlameExpression, FlameParams, Landmarks

# Seconds that the fit beside a live stream sleeps after each 10 ms of work.
_BREATH = 0.03


@cache
def background_pool() -> ThreadPoolExecutor:
    """Return the one thread for fits that a live stream does not wait for: two at once would starve it of the interpreter."""
    return ThreadPoolExecutor(1, 'identity')


@dataclass(frozen=True)
class TrackerConfig:
    """Behaviour of the tracker."""

    smooth: bool = True
    task_path: str = ''  # a face_landmarker.task; empty: the bundled models
    identity_frames: int = 4  # good frames that an unknown person's shape is fitted on
    identity_max_yaw: float = 0.35  # radians; frames further from frontal do not count for it
    learn_in_background: bool = False  # a live stream goes on meanwhile; offline, frames must not depend on timing
    focal_length: float = 0.0  # of the camera, over the image width; 0: the identity's, else estimated
    restart_rms: float = 7.0  # px of a 256 px face: a worse fit starts anew
    fit: FitConfig = field(default_factory=FitConfig)
    expression_filter: OneEuroConfig = field(default_factory=lambda: OneEuroConfig(min_cutoff=2.0, beta=8.0))
    eyelid_filter: OneEuroConfig = field(default_factory=lambda: OneEuroConfig(min_cutoff=3.0, beta=12.0))
    joint_filter: OneEuroConfig = field(default_factory=lambda: OneEuroConfig(min_cutoff=2.0, beta=25.0))
    rotation_filter: OneEuroConfig = field(default_factory=lambda: OneEuroConfig(min_cutoff=2.0, beta=40.0))
    translation_filter: OneEuroConfig = field(default_factory=lambda: OneEuroConfig(min_cutoff=2.0, beta=200.0))


class _Smoother:
    """One-Euro filters of everything that a frame carries."""

    def __init__(self, config: TrackerConfig) -> None:
        self._kinds = config.expression_filter, config.eyelid_filter, config.joint_filter, config.translation_filter
        self._values: OneEuroFilter | None = None  # one for all of them: as four, they take twice as long
        self._rotation = RotationFilter(config.rotation_filter)
        self.strength = 1.0

    def reset(self) -> None:
        self._values = None
        self._rotation.reset()

    def __call__(self, fit: FrameFit, stamp_ns: int) -> tuple[FlameParams, np.ndarray, np.ndarray]:
        """Params, rotation [3, 3] and translation [3]."""
        p = fit.params
        parts = p.expression, p.eyelids, p.jaw_pose, p.left_eye_pose, p.right_eye_pose, fit.translation
        if self._values is None:
            self._values = self._filter([len(p.expression), 2, 9, 3])
        self._values.strength = self._rotation.strength = self.strength
        values = self._values(np.concatenate(parts), stamp_ns).astype(np.float32)
        expression, lids, jaw, left, right, translation = np.split(values, np.cumsum([len(a) for a in parts[:-1]]))
        params = replace(p, expression=expression, eyelids=np.clip(lids, 0, 1), jaw_pose=jaw, left_eye_pose=left,
                         right_eye_pose=right)
        return params, self._rotation(fit.rotation, stamp_ns).astype(np.float32), translation

    def _filter(self, sizes: list[int]) -> OneEuroFilter:
        """Filter of a vector whose parts have `sizes` and a configuration each."""
        names = 'min_cutoff', 'beta', 'derivative_cutoff'
        return OneEuroFilter(OneEuroConfig(*(np.repeat([getattr(k, n) for k in self._kinds], sizes) for n in names)))


class FaceTracker:
    """Follows one face through a stream of frames; a context manager.

    With an `identity` that person's shape is held from the first frame. Without, it is fitted to the first good frames
    (some tenths of a second, once) and then held until `reset`.
    """

    def __init__(
        self, head: HeadModel, embedding: LandmarkEmbedding, *, identity: Identity | None = None,
        config: TrackerConfig | None = None, detector=None,
    ) -> None:
        self.head, self.embedding = head, embedding
        self.config = config or TrackerConfig()
        self.calibration: Calibration | None = None
        self._given = identity
        self._detector = detector or open_detector(self.config.task_path or None)
        self._smoother = _Smoother(self.config)
        self._fitter: ExpressionFitter | None = None
        self._good: list[Landmarks] = []
        self._learner: Future | None = None
        self._own = False  # the shape in use was learnt
        self._pool = background_pool() if self.config.learn_in_background else None
        self._last: FrameFit | None = None
        self.reset()

    def __enter__(self) -> 'FaceTracker':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Release the landmark detector."""
        self._detector.close()

    @property
    def identity(self) -> Identity | None:
        """The identity in use, None while it is unknown."""
        return self._fitter.identity if self._fitter else None

    @property
    def smoothing(self) -> float:
        """How strongly frames are smoothed: 0 not at all, 1 as configured, 2 with half the cut-offs; may change at any time."""
        return self._smoother.strength

    @smoothing.setter
    def smoothing(self, value: float) -> None:
        self._smoother.strength = value

    @property
    def learnt(self) -> bool:
        """Whether the identity in use is a person's own, not the mean face that a live stream starts with."""
        return self._given is not None or self._own

    def reset(self) -> None:
        """Forget the followed face and, unless it was given, its identity; the calibration stays."""
        self._detector.reset()
        self.assume(self._given)
        self._lose()

    def assume(self, identity: Identity | None) -> None:
        """Hold another face shape from now on, None: one learnt anew; the followed face and the calibration stay."""
        self._given = identity
        self._good.clear()
        self._learner = self._fitter = self._last = None
        self._own = False
        if identity is None and self._pool is not None:  # a live stream starts with the mean face
            identity = Identity(np.zeros(self.head.n_shape, np.float32))
        if identity is not None:
            self._fitter = self._fitter_of(identity)

    def calibrate(self, neutral: Sequence[FlameExpression] | None) -> Calibration | None:
        """Make the expressions relative to these frames of a neutral face; None takes the calibration back.

        The frames must come from this tracker while no calibration was set.

        Raises:
            RequestError: no frame shows a face.
        """
        self.calibration = None if neutral is None else Calibration.of_neutral(neutral)
        return self.calibration

    def track(self, image: np.ndarray, stamp_ns: int, frame_id: str = '') -> FlameExpression:
        """Track the face in a frame (uint8 RGB [H, W, 3]) taken at `stamp_ns`.

        Raises:
            ImageError: not such an image.
        """
        found = self._detector.detect(image)
        if not found:
            self._lose()
            return self._message(stamp_ns, frame_id, None, 0.0)
        landmarks = found[0]
        if self._pool is not None:
            self._learn_meanwhile(landmarks)
        elif self._fitter is None or self._good:
            self._learn(landmarks)
        fit = self._fit(landmarks)
        confidence = landmarks.confidence * float(np.clip(2 - fit.rms_px / self.config.restart_rms * 2, 0, 1))
        return self._message(stamp_ns, frame_id, fit, confidence)

    def points(self, expression: FlameExpression, size: tuple[int, int]) -> FacePoints | None:
        """Return where the face of `expression`, tracked in a picture of `size` (H, W), lies in it; None without a shape."""
        if self._fitter is None:
            return None
        if self.calibration is not None:
            expression = replace(expression, params=self.calibration.absolute(expression.params))
        return face_points(self._fitter.model, expression, size)

    def _fit(self, landmarks: Landmarks) -> FrameFit:
        """Warm fit; a cold one where that goes astray (cut, fast turn)."""
        fit = self._fitter.fit(landmarks, self._last.state if self._last else None)
        if self._last and fit.rms_px > self.config.restart_rms:
            cold = self._fitter.fit(landmarks)
            fit = cold if cold.rms_px < fit.rms_px else fit
        self._last = fit
        return fit

    def _learn(self, landmarks: Landmarks) -> None:
        """Fit the identity to the first face, and once more when enough good frames are there."""
        focal = self.config.focal_length or None
        if self._fitter is None:
            first = fit_identity(self.head, self.embedding, landmarks, focal_length=focal, config=self.config.fit)
            self._fitter = self._fitter_of(first.identity())
            self._good = [landmarks]
            return
        self._collect(landmarks)
        if len(self._good) > self.config.identity_frames:
            good, fit = self._good[1:], self.config.fit
            several = fit_identity(self.head, self.embedding, good, focal_length=focal, config=fit)
            self._fitter, self._own = self._fitter_of(several.identity()), True
            self._good.clear()
            self._last = None

    def _learn_meanwhile(self, landmarks: Landmarks) -> None:
        """Swap in the person's own face when a thread has fitted it to some good frames."""
        if self._given is not None:
            return
        if self._learner is None:
            self._collect(landmarks)
            if len(self._good) >= self.config.identity_frames:
                self._learner = self._pool.submit(self._learn_beside, list(self._good))
        elif self._good and self._learner.done():
            self._good.clear()
            self._fitter, self._own, self._last = self._learner.result(), True, None

    def _learn_beside(self, good: list[Landmarks]) -> ExpressionFitter:
        """Fit the identity in the background, and prepare what it is used with."""
        found = fit_identity(self.head, self.embedding, good, focal_length=self.config.focal_length or None,
                             config=self.config.fit, breathe=partial(time.sleep, _BREATH))
        return self._fitter_of(found.identity())

    def _collect(self, landmarks: Landmarks) -> None:
        """Keep a frame for the identity's fit if the face is seen well enough."""
        rotation = self._last.rotation if self._last else np.diag([1.0, -1.0, -1.0])
        frontal = abs(np.arctan2(rotation[0, 2], -rotation[2, 2])) < self.config.identity_max_yaw
        if frontal and landmarks.confidence > 0.5:
            self._good.append(landmarks)

    def _fitter_of(self, identity: Identity) -> ExpressionFitter:
        if self.config.focal_length:
            identity = replace(identity, focal_length=self.config.focal_length)
        return ExpressionFitter(self.head, self.embedding, identity, config=self.config.fit)

    def _lose(self) -> None:
        self._last = None
        self._smoother.reset()

    def _message(self, stamp_ns: int, frame_id: str, fit: FrameFit | None, confidence: float) -> FlameExpression:
        focal = self._fitter.focal if self._fitter else self.config.focal_length or self.config.fit.focal_mean
        if fit is None:
            params, rotation = FlameParams.neutral(0, self.head.n_expression), np.diag([1.0, -1.0, -1.0]).astype(np.float32)
            translation = np.float32([0, 0, 0.7])
        else:
            params, rotation, translation = (
                self._smoother(fit, stamp_ns) if self.config.smooth else (fit.params, fit.rotation, fit.translation))
            if self.calibration is not None:
                params = self.calibration.relative(params)
        return FlameExpression(
            stamp_ns, frame_id, self.head.name, self.head.version, fit is not None, confidence, params, rotation,
            translation, float(focal))

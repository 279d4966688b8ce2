"""From calibrated frames of one person to a `Capture`: identity, expressions and head poses in metres.

Each view's landmarks come from MediaPipe. The identity is fitted to the most frontal views of the most neutral frame, with the
calibrated focal length; expressions to each frame's most frontal view; head poses to landmarks triangulated over all views.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from sega_ros.camera import pose_to_viewmat, project
from sega_ros.errors import DatasetError
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.expression import ExpressionFitter, FrameFit
from sega_ros.tracking.fit import Identity, fit_identity, solve_personal_offset
from sega_ros.tracking.landmark_model import Articulation, LandmarkModel
from sega_ros.tracking.landmarks import face_box
from sega_ros.tracking.solver import FACE_UNIT
from sega_ros.training.data.shots import make_shot
from sega_ros.training.data.sighting import FOCAL, FaceGeometry, Sighting
from sega_ros.training.data.triangulate import rigid_motion, rigid_pose, triangulate
from sega_ros.training.data.views import Frame, View
from sega_ros.types import Capture, FlameParams, Landmarks

Detect = Callable[[np.ndarray], list[Landmarks]]


@dataclass(frozen=True)
class TrackConfig:
    """Choices of the tracking."""

    size: int = 256  # px, of the shots
    photo_size: int = 512  # px
    identity_views: int = 3  # most frontal views of the neutral frame that the identity is fitted to
    min_frontal: float = 0.6  # cosine: views turned farther give no landmarks
    min_points: int = 60  # triangulated landmarks that a pose needs
    scale_range: tuple[float, float] = (0.75, 1.35)  # of the head over the fitted one; beyond it the units are not metres


@dataclass(frozen=True)
class TrackReport:
    """What tracking found; counts and median errors."""

    frames: int
    frames_without_face: int
    frames_single_view: int  # pose from one view: too few landmarks could be triangulated
    views: int
    views_with_face: int
    views_without_person: int  # left out of the capture
    shots: int
    scale: float  # of the real head over the first fit's
    landmark_mm: float  # median distance of triangulated to fitted landmarks; nan without
    reprojection_px: float  # median over views with a face, px of a face 256 px wide


@dataclass(frozen=True)
class _Moment:
    """One frame with the faces found in it, most frontal first."""

    frame: Frame
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True)
class _Points:
    """Triangulated landmarks of a frame."""

    world: np.ndarray  # [P, 3]
    weights: np.ndarray  # [P]


@dataclass(frozen=True)
class _Pose:
    """A tracked frame."""

    moment: _Moment
    params: FlameParams
    head_to_world: np.ndarray  # [4, 4]
    single_view: bool
    distances: np.ndarray  # [n] metres, fitted to triangulated landmarks


class CaptureTracker:
    """Tracks people on one head model.

    Args:
        head, embedding: the head model and its landmarks.
        detect: landmarks of the faces in a picture, largest first (`LandmarkDetector(static_image_mode=True).detect`).
        config: sizes and thresholds.
    """

    def __init__(self, head: HeadModel, embedding: LandmarkEmbedding, detect: Detect, config: TrackConfig | None = None) -> None:
        self.head, self.embedding, self.detect = head, embedding, detect
        self.config = config or TrackConfig()
        self._geometry = FaceGeometry(head, embedding)

    def track(self, name: str, frames: Iterable[Frame]) -> tuple[Capture, TrackReport]:
        """Track the person `name`.

        Raises:
            DatasetError: no face in any view, a calibration that is not in metres, or nothing to show in the end.
        """
        moments = [self._look(frame) for frame in frames]
        faces = [m for m in moments if m.sightings]
        if not faces:
            views = sum(len(m.frame.views) for m in moments)
            raise DatasetError(f'{name}: no face found in {len(moments)} frames with {views} views; wanted an upright face in '
                               'some of them: check that the pictures are upright and show the person')
        points = [self._triangulated(m) for m in faces]
        neutral = self._most_neutral(faces)
        identity, scale = self._identity(name, faces, points, neutral)
        fitter = self._fitter(identity)
        model = self._model(identity)
        poses = [self._pose(m, p, fitter, model, identity) for m, p in zip(faces, points, strict=True)]
        return self._capture(name, identity, moments, poses, neutral, scale)

    def _look(self, frame: Frame) -> _Moment:
        """Find the faces of a frame."""
        found = []
        for view in frame.views:
            faces = self.detect(view.image)
            if faces:
                sighting = self._geometry.sighting(view, faces[0])
                if sighting.frontal >= self.config.min_frontal:
                    found.append(sighting)
        return _Moment(frame, tuple(sorted(found, key=lambda s: -s.frontal)))

    def _triangulated(self, moment: _Moment) -> _Points | None:
        """Landmarks in the world, or None from fewer than two views."""
        if len(moment.sightings) < 2:
            return None
        found = triangulate(
            np.stack([s.landmarks.points[:, :2] for s in moment.sightings]).astype(np.float64),
            np.stack([self._geometry.trust(s) for s in moment.sightings]), [s.view.camera for s in moment.sightings])
        if (found.weights > 0).sum() < self.config.min_points:
            return None
        return _Points(found.points, found.weights)

    def _most_neutral(self, faces: list[_Moment]) -> int:
        """Index of the frame whose face moves least, by a first identity."""
        best = max(range(len(faces)), key=lambda i: faces[i].sightings[0].frontal)
        first = fit_identity(self.head, self.embedding, faces[best].sightings[0].central, focal_length=FOCAL)
        fitter = self._fitter(first.identity())
        return int(np.argmin([_activity(fitter.fit(m.sightings[0].central).params) for m in faces]))

    def _identity(
        self, name: str, faces: list[_Moment], points: list[_Points | None], neutral: int,
    ) -> tuple[Identity, float]:
        """Identity whose size is the real one's, and by how much the first fit was off."""
        views = [s.central for s in faces[neutral].sightings[:self.config.identity_views]]
        fit = fit_identity(self.head, self.embedding, views, focal_length=FOCAL)
        identity = solve_personal_offset(self.head, self.embedding, fit)
        fitter, model = self._fitter(identity), self._model(identity)
        scales = []
        for moment, seen in zip(faces, points, strict=True):
            if seen is not None:
                state = fitter.fit(moment.sightings[0].central).state
                scales.append(rigid_motion(model.points(state.pose), seen.world, seen.weights)[2])
        if not scales:
            return identity, 1.0
        scale = float(np.median(scales))
        low, high = self.config.scale_range
        if not low <= scale <= high:
            raise DatasetError(f'{name}: the calibrated cameras see a head {scale:.3g} times as large as heads are; wanted '
                               f'{low} to {high}: give the calibration in metres, world to camera, OpenCV axes')
        # Size only: bending the surface to the triangulated landmarks as well, tried with four views, halved their distance and
        # moved it away from the truth (1.19 instead of 1.07 px), because MediaPipe errs alike in all of them.
        return self._scaled(identity, scale), scale

    def _scaled(self, identity: Identity, scale: float) -> Identity:
        """Identity of another size: what the coefficients can't say goes into the template's offset."""
        rest = Poser(self.head, identity.shape, v_offset=identity.v_offset).rest
        offset = np.zeros_like(rest) if identity.v_offset is None else identity.v_offset
        remains = None if identity.landmark_offset is None else identity.landmark_offset * np.float32(scale)
        return replace(identity, v_offset=(offset + (scale - 1) * rest).astype(np.float32), landmark_offset=remains)

    def _pose(
        self, moment: _Moment, seen: _Points | None, fitter: ExpressionFitter, model: LandmarkModel, identity: Identity,
    ) -> _Pose:
        """Expression from the most frontal view, pose from all."""
        front = moment.sightings[0]
        fit: FrameFit = fitter.fit(front.central)
        params = replace(fit.params, shape=identity.shape)
        if seen is None:
            in_camera = pose_to_viewmat(fit.rotation, fit.translation).astype(np.float64)
            to_world = np.linalg.inv(front.view.camera.viewmat.astype(np.float64))
            return _Pose(moment, params, to_world @ in_camera, True, np.zeros(0))
        points = model.points(fit.state.pose)
        pose = rigid_pose(points, seen.world, seen.weights)
        off = np.linalg.norm(points @ pose[:3, :3].T + pose[:3, 3] - seen.world, axis=1)[seen.weights > 0]
        return _Pose(moment, params, pose, False, off)

    def _capture(
        self, name: str, identity: Identity, moments: list[_Moment], poses: list[_Pose], neutral: int, scale: float,
    ) -> tuple[Capture, TrackReport]:
        poser = Poser(self.head, identity.shape, v_offset=identity.v_offset)
        front = poses[neutral].moment.sightings[0].view
        photo = self._shot(front, poses[neutral], poser, self.config.photo_size)
        if photo is None:
            raise DatasetError(f'{name}: frame {poses[neutral].moment.frame.name}, camera {front.name}: a face was found, but '
                               'the matte holds nobody there; check the mattes (white is the person)')
        pairs = [(view, pose) for pose in poses for view in pose.moment.frame.views]
        shots = [self._shot(view, pose, poser, self.config.size) for view, pose in pairs]
        kept = tuple(s for s in shots if s is not None)
        errors = [e for pose in poses for e in self._reprojection(identity, pose)]
        distances = np.concatenate([p.distances for p in poses])
        report = TrackReport(
            frames=len(moments), frames_without_face=len(moments) - len(poses),
            frames_single_view=sum(p.single_view for p in poses), views=sum(len(m.frame.views) for m in moments),
            views_with_face=sum(len(m.sightings) for m in moments), views_without_person=len(shots) - len(kept),
            shots=len(kept), scale=scale, landmark_mm=float(np.median(distances)) * 1e3 if len(distances) else float('nan'),
            reprojection_px=float(np.median(errors)))
        return Capture(name, identity.shape, identity.v_offset, photo, kept), report

    def _shot(self, view: View, pose: _Pose, poser: Poser, size: int):
        viewmat = view.camera.viewmat.astype(np.float64) @ pose.head_to_world
        return make_shot(view, self.head, poser, pose.params, viewmat, size=size)

    def _reprojection(self, identity: Identity, pose: _Pose) -> list[float]:
        """Median error of each view with a face, px of a face 256 px wide."""
        points = self._model(identity).points(Articulation.of_params(pose.params))
        errors = []
        for sighting in pose.moment.sightings:
            camera = sighting.view.camera
            seen = replace(camera, viewmat=camera.viewmat.astype(np.float64) @ pose.head_to_world)
            off = np.linalg.norm(project(points, seen)[0] - sighting.landmarks.points[:, :2], axis=1)
            use = self._geometry.trust(sighting) > 0
            errors.append(float(np.median(off[use])) * FACE_UNIT / face_box(sighting.landmarks.points)[1])
        return errors

    def _fitter(self, identity: Identity) -> ExpressionFitter:
        return ExpressionFitter(self.head, self.embedding, identity)

    def _model(self, identity: Identity) -> LandmarkModel:
        return LandmarkModel(self.head, self.embedding.faces, self.embedding.barys, shape=identity.shape,
                             v_offset=identity.v_offset, landmark_offset=identity.landmark_offset)


def _activity(params: FlameParams) -> float:
    """How far a face is from neutral."""
    parts = params.expression, params.jaw_pose, params.eyelids
    return float(sum(np.square(p).sum() for p in parts))

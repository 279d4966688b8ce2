"""A face seen by one calibrated camera, brought to one virtual camera so that all cameras look alike to the fit."""

from dataclasses import dataclass

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.raster import vertex_normals
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.fit import start_state
from sega_ros.tracking.landmark_model import LandmarkModel
from sega_ros.tracking.solver import Observation
from sega_ros.tracking.topology import OVAL
from sega_ros.training.data.views import View
from sega_ros.types import Landmarks

# The fit knows square pixels, a central principal point and one focal length: every view is mapped to this camera.
SIDE, FOCAL = 1000, 2.0  # px a side; focal length over the width
_EDGE_ON, _FACING = 0.15, 0.45  # cosines between which a landmark's trust grows from 0 to 1


@dataclass(frozen=True)
class Sighting:
    """A face in a view."""

    view: View
    landmarks: Landmarks  # px of the view
    central: Landmarks  # px of the virtual camera, which shares the view's place and axes
    rotation: np.ndarray  # [3, 3] head to camera, to some degrees: from MediaPipe's own depth

    @property
    def frontal(self) -> float:
        """Cosine of the angle between the camera's axis and the face's: 1 from the front, 0 in profile."""
        return float(-self.rotation[2, 2])


class FaceGeometry:
    """What turns landmarks into sightings: the mean head's landmarks and which way they face."""

    def __init__(self, head: HeadModel, embedding: LandmarkEmbedding) -> None:
        """Prepare for one head model."""
        self._model = LandmarkModel(head, embedding.faces, embedding.barys)
        self._n_expression, self._n_shape, self._valid = head.n_expression, head.n_shape, embedding.valid
        corners = vertex_normals(head.v_template, head.faces)[head.faces[embedding.faces]]  # [P, 3, 3]
        self._normals = np.einsum('pk,pkc->pc', embedding.barys, corners)
        # The contour slides along the head with the view: it is no point in space.
        self._fixed = embedding.valid.copy()
        self._fixed[list(OVAL)] = False

    def sighting(self, view: View, landmarks: Landmarks) -> Sighting:
        """Prepare what was detected in a view."""
        central = centralised(landmarks, view)
        seen = Observation.of_landmarks(central.points, (SIDE, SIDE))
        state = start_state(self._model, seen, self._valid, FOCAL, n_expression=self._n_expression, n_shape=self._n_shape)
        return Sighting(view, landmarks, central, state.rotation)

    def trust(self, sighting: Sighting) -> np.ndarray:
        """Trust [P] in each landmark as a point in space: 0 on the contour and where the face looks away."""
        facing = -(self._normals @ sighting.rotation[2])
        return np.where(self._fixed, np.clip((facing - _EDGE_ON) / (_FACING - _EDGE_ON), 0, 1), 0.0)


def centralised(landmarks: Landmarks, view: View) -> Landmarks:
    """Landmarks as the virtual camera sees them."""
    camera, focal = view.camera, FOCAL * SIDE
    x, y = focal / camera.fx, focal / camera.fy
    points = (landmarks.points - [camera.cx, camera.cy, 0]) * [x, y, x] + [SIDE / 2, SIDE / 2, 0]
    return Landmarks(points.astype(np.float32), landmarks.confidence, SIDE, SIDE)

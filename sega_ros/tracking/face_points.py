"""Where the points of a fitted face lie in the camera's picture, under the numbers of dlib and OpenPose.

Made of the expression and the tracked person's shape, not of what the detector saw: nothing else leaves the tracker.
"""

from dataclasses import dataclass

import numpy as np

from sega_ros.camera import pose_camera, project
from sega_ros.tracking.landmark_model import Articulation, LandmarkModel
from sega_ros.types import FlameExpression

_JAW_LINE = (127, 234, 93, 58, 172, 136, 149, 176, 152, 400, 378, 365, 397, 288, 323, 454, 356)  # from ear to ear
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_NOSE = (168, 197, 5, 4, 98, 97, 2, 326, 327)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_OUTER_LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)
_INNER_LIPS = (78, 81, 13, 311, 308, 402, 14, 178)
_PUPILS = (468, 473)
# MediaPipe's landmark for each of the 70 points; the subject's right comes first. Where the 68 points of dlib are spread evenly
# along a line (jaw, nose, lips), the landmarks that come nearest to that.
POINTS = _JAW_LINE + _BROWS + _NOSE + _EYES + _OUTER_LIPS + _INNER_LIPS + _PUPILS


@dataclass(frozen=True)
class FacePoints:
    """A face in a picture; x and y over the picture's width and height, cut to [0, 1], from the upper left corner."""

    points: np.ndarray  # [70, 2] x, y
    inside: np.ndarray  # [70] bool: in the picture before they were cut
    box: np.ndarray  # [4] xmin, ymin, xmax, ymax of all landmarks


def face_points(model: LandmarkModel, expression: FlameExpression, size: tuple[int, int]) -> FacePoints:
    """Return where `expression` puts the face of `model`'s person in a picture of `size` (H, W)."""
    camera = pose_camera(expression.rotation, expression.translation, expression.focal_length, size)
    pixels, _ = project(model.points(Articulation.of_params(expression.params)), camera)
    share = pixels / np.array(size[::-1])
    points = share[list(POINTS)]
    return FacePoints(np.clip(points, 0, 1), ((points >= 0) & (points <= 1)).all(1),
                      np.clip(np.concatenate([share.min(0), share.max(0)]), 0, 1))

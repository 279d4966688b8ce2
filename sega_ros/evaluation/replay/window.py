"""Where figures are measured: a square of 512 px around the face, of one scale through a recording, and masks in it."""

from dataclasses import dataclass

import cv2
import numpy as np

from sega_ros.camera import pose_camera, project
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.types import FlameExpression, Landmarks

SIZE = 512  # px: side of the resampled window; landmark distances are in its pixels
SCALE, UP = 2.0, 0.08  # side over the face's larger extent in the reference frame; its middle above the face's, over its side
_MESH_POINTS, _CHIN = 468, 152
_FREE = 0.2  # of the side: how far the face may move before its window does
MASKS = {
    'face': "convex hull of MediaPipe's 468 mesh landmarks of the true frame",
    'head': "MediaPipe's selfie segmentation of the true frame (over 0.5) above the chin's landmark, and the face",
    'full': 'the whole frame at its own size',
}


@dataclass(frozen=True)
class Window:
    """A square of a frame."""

    centre: np.ndarray  # [2] x, y, pixels of the frame
    side: float  # pixels of the frame

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return it as uint8 RGB [512, 512, 3]: averaged where it shrinks, else interpolated; the edge goes on outside."""
        image, corner, side = np.ascontiguousarray(image), self.centre - self.side / 2, self.side
        if side > SIZE:
            scale = SIZE / side
            image, corner, side = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), corner * scale, SIZE
        scale = SIZE / side
        matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
        return cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Take landmarks [P, 3] from the window's pixels to the frame's."""
        scale = self.side / SIZE
        return np.c_[points[:, :2] * scale + self.centre - self.side / 2, points[:, 2] * scale].astype(np.float32)


class WindowFinder:
    """Follows the face with a window of constant size.

    It stays where the first face was until the tracked head has moved by a fifth of its side, and is then centred anew: detectors
    see what they get from one crop to the next, and a face that leaves its first place is not lost.
    """

    def __init__(self, reference: Landmarks, expression: FlameExpression, embedding: LandmarkEmbedding, vertices: np.ndarray,
                 faces: np.ndarray):
        """Take the size from `reference`, landmarks of a frame in its pixels; `expression` is the tracker's of that frame.

        `vertices` [V, 3] are the neutral head's.
        """
        low, high = reference.points[:_MESH_POINTS, :2].min(0), reference.points[:_MESH_POINTS, :2].max(0)
        self._side = SCALE * float((high - low).max()) / reference.width
        self._middle = embedding.points(vertices, faces)[embedding.valid].mean(0)
        middle = (low + high) / 2 - [0, UP * SCALE * float((high - low).max())]
        size = reference.height, reference.width
        self._shift = (middle - self._project(expression, size)) / reference.width if expression.face_present else None
        self._centre = middle / reference.width

    def __call__(self, expression: FlameExpression, size: tuple[int, int]) -> Window:
        """Return the window in a frame of `size` (H, W)."""
        if expression.face_present and self._shift is not None:
            wanted = self._project(expression, size) / size[1] + self._shift
            if np.abs(wanted - self._centre).max() > _FREE * self._side:
                self._centre = wanted
        return Window(self._centre * size[1], self._side * size[1])

    def _project(self, expression: FlameExpression, size: tuple[int, int]) -> np.ndarray:
        camera = pose_camera(expression.rotation, expression.translation, expression.focal_length, size)
        return project(self._middle, camera)[0]


def face_hull(landmarks: np.ndarray) -> np.ndarray:
    """Mask [512, 512] bool of the convex hull of landmarks [>= 468, 2+] in the window's pixels."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(landmarks[:_MESH_POINTS, :2].astype(np.int32)), 1)
    return mask > 0


def head_mask(person: np.ndarray, landmarks: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Mask [512, 512] bool: `person` (probability) above the chin of `landmarks`, and `face`."""
    return (person > 0.5) & (np.arange(SIZE)[:, None] < landmarks[_CHIN, 1]) | face

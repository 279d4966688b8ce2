"""Where things are on a head: eyes, lids, mouth, brows, measured on the mean identity so that paint fits them all."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sega_ros.head.model import ByIdentity, HeadModel
from sega_ros.types import Region

# Outline of the lips over half the mouth's width: x, upper edge, lower edge, measured from the seam at the corners'
# height. Read off MakeHuman's own lip mask on the mean open head (CC0).
LIP_OUTLINE = np.array([
    [0.00, 0.379, -0.548], [0.08, 0.393, -0.543], [0.16, 0.402, -0.536], [0.25, 0.401, -0.526], [0.40, 0.380, -0.505],
    [0.50, 0.352, -0.473], [0.60, 0.314, -0.438], [0.70, 0.265, -0.394], [0.80, 0.210, -0.327], [0.90, 0.138, -0.229],
    [0.96, 0.088, -0.163], [1.00, 0.060, -0.073], [1.04, 0.000, 0.000],
])


@dataclass(frozen=True)
class Features:
    """Anchors on the mean identity, head frame, metres. Index 0 is the subject's left."""

    eyes: np.ndarray  # [2, 3] centres of the eyeballs
    eye_radius: float
    lid_margins: tuple[np.ndarray, np.ndarray]  # [n, 3] points along the opening of each eye
    mouth: np.ndarray  # [3] middle of the lips' seam, at the corners' height
    mouth_width: float  # half of it
    nose_tip: np.ndarray  # [3]
    chin: np.ndarray  # [3]
    lip_ring: np.ndarray  # [n, 3] points where lips meet the inner mouth


def find_features(head: HeadModel) -> Features:
    """Measure `head`'s mean identity; the latest few are kept."""
    return _find_features(ByIdentity(head))


@lru_cache(maxsize=4)
def _find_features(key: ByIdentity) -> Features:
    head = key.head
    v = head.v_template
    joints = head.J_regressor @ v
    eyes = joints[3:5].astype(np.float64)
    region_vertices = {r: np.unique(head.faces[head.face_region == r]) for r in Region}
    ball = v[region_vertices[Region.EYES]]
    radius = float(np.median(np.linalg.norm(ball[ball[:, 0] > 0] - eyes[0], axis=1)))
    border = _border(head.faces[head.face_region != Region.EYES])
    margins = border_points(v, border, eyes[0], radius), border_points(v, border, eyes[1], radius)
    ring = v[np.intersect1d(region_vertices[Region.MOUTH], region_vertices[Region.FACE])]
    width = float(np.abs(ring[:, 0]).max())
    corners = ring[np.abs(ring[:, 0]) > 0.93 * width]
    front = ring[np.abs(ring[:, 0]) < 0.2 * width]
    mouth = np.array([0.0, corners[:, 1].mean() + 0.0006, front[:, 2].max()])
    face = v[region_vertices[Region.FACE]]
    middle = face[np.abs(face[:, 0]) < 0.01]
    between = middle[(middle[:, 1] > mouth[1]) & (middle[:, 1] < eyes[0, 1])]
    below = middle[(middle[:, 1] < mouth[1] - 0.025) & (middle[:, 2] > mouth[2] - 0.03)]
    nose_tip, chin = between[between[:, 2].argmax()], below[below[:, 2].argmax()]
    return Features(eyes, radius, margins, mouth, width, nose_tip, chin, ring)


def _border(faces: np.ndarray) -> np.ndarray:
    """Edges [n, 2] that only one triangle has."""
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return unique[count == 1]


def border_points(vertices: np.ndarray, border: np.ndarray, eye: np.ndarray, radius: float) -> np.ndarray:
    """Points [n, 3] every half millimetre along the border edges around an eyeball."""
    near = (np.linalg.norm(vertices[border] - eye, axis=2) < 1.7 * radius).all(1)
    a, b = vertices[border[near, 0]], vertices[border[near, 1]]
    steps = max(2, int(np.ceil(np.linalg.norm(a - b, axis=1).max() / 0.0005)))
    share = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    return (a[:, None] * (1 - share) + b[:, None] * share).reshape(-1, 3)


def smoothstep(x, low: float, high: float):
    """0 below `low`, 1 above `high`, smooth between (also for low > high)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)

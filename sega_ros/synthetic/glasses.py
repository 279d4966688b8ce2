"""Glasses: rims, bridge and temples of thin tubes that sit on the nose and the ears of an identity, and curved lenses."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.raster import vertex_normals
from sega_ros.types import Region

_SIDES, _RIM = 6, 32  # corners of a tube's section; points around a lens
_CLEARANCE = 0.003  # metres before what lies behind a lens
_BEND = 1.6  # 1/metres: how much the front wraps around the face
# Half width, half height, exponent of the super-ellipse, how far its lower half sinks (metres but for the exponent).
_SHAPES = {
    'round': (0.0225, 0.0215, 2.0, 0.0), 'rectangular': (0.0255, 0.0165, 4.2, 0.0), 'aviator': (0.0265, 0.0190, 2.5, 0.006),
}


@dataclass(frozen=True)
class Glasses:
    """Frame and lenses, rigid with the head. G vertices, T triangles of the frame first, then of the lenses."""

    points: np.ndarray  # [G, 3] head frame, metres
    normals: np.ndarray  # [G, 3]
    frame: np.ndarray  # [T, 3]
    lenses: np.ndarray  # [T', 3]


def fit_glasses(head: HeadModel, rest: np.ndarray, kind: str, *, thickness: float) -> Glasses:
    """Fit glasses of a kind of `look.GLASSES` to the identity `rest` [V, 3]; `thickness` of the rims, metres."""
    eyes = (head.J_regressor @ rest)[3:5].astype(np.float64)
    face = rest[np.unique(head.faces[np.isin(head.face_region, (Region.FACE, Region.EYELIDS, Region.EYES))])].astype(np.float64)
    outlines = [_outline(kind, eye) for eye in eyes]
    front = max(_front(face, outline) for outline in outlines)
    outlines = [np.c_[o, front - _BEND * o[:, 0] ** 2] for o in outlines]
    tubes = [_tube(np.concatenate([o, o[:1]]), thickness / 2, closed=True) for o in outlines]
    tubes.append(_tube(_bridge(face, outlines), thickness / 2))
    tubes += [_tube(_temple(head, rest, o), thickness * 0.45) for o in outlines]
    points, faces = _joined(tubes)
    lens_points, lens_faces = _joined([_lens(o) for o in outlines])
    return Glasses(np.concatenate([points, lens_points]).astype(np.float32),
                   np.concatenate([vertex_normals(points, faces), _lens_normals(lens_points)]).astype(np.float32),
                   faces, lens_faces + len(points))


def _outline(kind: str, eye: np.ndarray) -> np.ndarray:
    """Points [_RIM, 2] (x, y) around the lens before `eye` [3], counter-clockwise from the front."""
    width, height, power, sink = _SHAPES[kind]
    turn = np.linspace(0, 2 * np.pi, _RIM, endpoint=False)
    c, s = np.cos(turn), np.sin(turn)
    x, y = np.sign(c) * np.abs(c) ** (2 / power) * width, np.sign(s) * np.abs(s) ** (2 / power) * height
    y = y - sink * np.clip(-s, 0, 1) * (0.6 + 0.4 * np.sign(eye[0]) * c)
    width = min(1.0, (abs(eye[0]) - 0.0075) / width)  # leaves room for the nose
    return np.stack([eye[0] * 1.02 + x * width, eye[1] - 0.002 + y], 1)


def _front(face: np.ndarray, outline: np.ndarray) -> float:
    """Z that the front needs at x = 0 to clear what lies behind a lens, the nose's flank aside."""
    low, high = outline.min(0) - 0.001, outline.max(0) + 0.001
    behind = face[((face[:, :2] > low) & (face[:, :2] < high)).all(1) & (np.abs(face[:, 0]) > 0.015)]
    return float((behind[:, 2] + _BEND * behind[:, 0] ** 2).max() + _CLEARANCE)


def _bridge(face: np.ndarray, outlines: list[np.ndarray]) -> np.ndarray:
    """Arc [n, 3] between the lenses over the nose."""
    upper = [o[o[:, 1] > o[:, 1].mean() + 0.35 * np.ptp(o[:, 1]) / 2] for o in outlines]
    a, b = (u[np.abs(u[:, 0]).argmin()] for u in upper)
    share = np.linspace(0, 1, 9)[:, None]
    arc = a + (b - a) * share + np.array([0, 0.002, 0.0]) * np.sin(np.pi * share)
    nose = face[(np.abs(face[:, 0]) < 0.01) & (np.abs(face[:, 1] - a[1]) < 0.006)]
    arc[:, 2] += max(nose[:, 2].max() + 0.002 - a[2], 0.001) * np.sin(np.pi * share[:, 0]) ** 0.5
    return arc


def _temple(head: HeadModel, rest: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Path [n, 3] from a lens's outer edge along the head over the ear and down behind it."""
    side = np.sign(outline[:, 0].mean())
    upper = outline[outline[:, 1] > outline[:, 1].mean()]
    hinge = upper[np.abs(upper[:, 0]).argmax()]
    ears = rest[np.unique(head.faces[head.face_region == Region.EARS])]
    ear = ears[ears[:, 0] * side > 0]
    top = ear[ear[:, 1].argmax()]
    share = np.linspace(0, 1, 14)
    path = np.stack([np.full(14, abs(hinge[0]) + 0.001), hinge[1] + (top[1] + 0.001 - hinge[1]) * share,
                     hinge[2] + (top[2] - hinge[2]) * share], 1)
    skin = rest[np.unique(head.faces[np.isin(head.face_region, (Region.FACE, Region.SCALP))])]
    skin = skin[skin[:, 0] * side > 0]
    for point in path[1:]:
        near = skin[np.linalg.norm(skin[:, 1:] - point[1:], axis=1) < 0.008]
        point[0] = max(point[0], np.abs(near[:, 0]).max(initial=0.0) + 0.0025)
    path[:, 0] = np.maximum(path[:, 0], np.interp(share, [0, 1], [path[0, 0], path[-1, 0]]))
    hook = path[-1] + np.array([[-0.001, -0.002, -0.010], [-0.004, -0.012, -0.018], [-0.007, -0.026, -0.021]])
    return np.concatenate([path, hook]) * [side, 1, 1]


def _tube(path: np.ndarray, radius: float, *, closed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [n * _SIDES, 3] and outward triangles of a tube along `path` [n, 3]."""
    along = np.gradient(path, axis=0)
    if closed:
        along[0] = along[-1] = path[1] - path[-2]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    help_axis = np.where(np.abs(along[:, 1:2]) > 0.9, [[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]])
    if closed:
        help_axis = np.array([[0.0, 0.0, 1.0]])
    first = np.cross(along, help_axis)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    turn = np.linspace(0, 2 * np.pi, _SIDES, endpoint=False)[None, :, None]
    points = path[:, None] + radius * (first[:, None] * np.cos(turn) + second[:, None] * np.sin(turn))
    index = np.arange(points.shape[0] * _SIDES).reshape(-1, _SIDES)
    faces = []
    for a, b in pairwise(index):
        faces += [np.stack([a, np.roll(a, -1), np.roll(b, -1)], 1), np.stack([a, np.roll(b, -1), b], 1)]
    return points.reshape(-1, 3), np.concatenate(faces)


def _lens(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [_RIM + 1, 3] and triangles that face forward, a fan about the middle."""
    rim = np.arange(_RIM)
    return np.concatenate([outline, outline.mean(0)[None]]), np.stack([rim, np.roll(rim, -1), np.full(_RIM, _RIM)], 1)


def _lens_normals(points: np.ndarray) -> np.ndarray:
    """Normals [n, 3] of spherical glass of 12 cm radius before each eye."""
    left = points[:, 0:1] > 0
    center = np.where(left, points[points[:, 0] > 0].mean(0), points[points[:, 0] < 0].mean(0)) - [0, 0, 0.12]
    normals = points - center
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _joined(meshes: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0] + [len(p) for p, _ in meshes[:-1]])
    return np.concatenate([p for p, _ in meshes]), np.concatenate([f + s for (_, f), s in zip(meshes, starts, strict=True)])

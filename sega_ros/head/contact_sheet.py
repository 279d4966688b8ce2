"""One picture that shows what a head model can do; look at it before training on the model."""

import numpy as np

from sega_ros.head.atlas import build_atlas
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.raster import shade
from sega_ros.types import FlameParams, Region

REGION_COLORS = {
    Region.NONE: (0.0, 0.0, 0.0), Region.FACE: (0.92, 0.77, 0.67), Region.MOUTH: (0.75, 0.25, 0.3),
    Region.TEETH: (0.98, 0.97, 0.88),
    Region.EYES: (0.6, 0.72, 0.95), Region.EYELIDS: (0.85, 0.55, 0.8), Region.SCALP: (0.45, 0.36, 0.3),
    Region.EARS: (0.5, 0.75, 0.45), Region.NECK: (0.7, 0.7, 0.72),
}
_TILE = (200, 168)  # (H, W) of one small picture
_COLUMNS = 10
_IRIS = 0.92  # cosine of the angle between the pupil and the iris's rim


def contact_sheet(head: HeadModel, landmarks=None, *, seed: int = 0) -> np.ndarray:
    """Picture of the mean head, random people, every expression unit, lids, jaw, gaze and the texture layout.

    Args:
        landmarks: a landmark embedding with `faces` [P], `barys` [P, 3] and `valid` [P] to be drawn, or None.
        seed: of the random people.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    tiles = [*_views(head), *_people(head, seed), *_joints(head), *_units(head)]
    if landmarks is not None:
        tiles.insert(4, _label(_landmarks(head, landmarks), 'landmarks'))
    while len(tiles) % _COLUMNS:
        tiles.append(np.ones((*_TILE, 3), np.float32))
    rows = [np.hstack(tiles[i:i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    sheet = np.vstack(rows)
    return (np.clip(np.vstack([sheet, _atlas(head, sheet.shape[1])]), 0, 1) * 255 + 0.5).astype(np.uint8)


def region_colors(head: HeadModel) -> np.ndarray:
    """Colour [F, 3] of every triangle by its region; irises are dark, so that gaze shows."""
    colors = np.array([REGION_COLORS[Region(r)] for r in range(len(Region))], np.float32)[head.face_region]
    eyes = head.J_regressor[3:] @ head.v_template
    arm = head.v_template[head.faces].mean(1)[:, None] - eyes  # [F, 2, 3]
    forward = (arm[..., 2] / np.linalg.norm(arm, axis=2)).max(1)
    iris = (head.face_region == Region.EYES) & (forward > _IRIS)
    colors[iris] = (0.25, 0.3, 0.45)
    return colors


def _render(head: HeadModel, vertices, *, yaw=0.0, pitch=0.0, close=False) -> np.ndarray:
    extent, center = (0.24, (0, -0.01, 0.0)) if close else (0.36, (0, -0.015, -0.03))
    return shade(vertices, head.faces, size=_TILE, yaw=yaw, pitch=pitch, center=np.array(center), extent=extent,
                 colors=region_colors(head))[0]


def _label(tile: np.ndarray, text: str) -> np.ndarray:
    import cv2

    tile = np.ascontiguousarray(tile, np.float32)
    cv2.putText(tile, text, (4, tile.shape[0] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return tile


def _pose(head: HeadModel, poser: Poser, **changes) -> np.ndarray:
    expression = np.zeros(head.n_expression, np.float32)
    for name, value in changes.pop('units', {}).items():
        expression[head.expression_index(name)] = value
    fields = {k: np.asarray(v, np.float32) for k, v in changes.items()}
    return poser.pose(FlameParams(np.zeros(0, np.float32), expression, **fields))


def _views(head: HeadModel) -> list[np.ndarray]:
    views = (('front', 0.0, 0.0), ('side', np.pi / 2, 0.0), ('three quarters', 0.7, 0.0), ('back', np.pi, 0.0))
    return [_label(_render(head, head.v_template, yaw=yaw, pitch=pitch), name) for name, yaw, pitch in views]


def _people(head: HeadModel, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = rng.normal(size=(13, head.n_shape)).astype(np.float32)
    people = [_render(head, Poser(head, s).rest, yaw=0.0 if k % 3 else 0.6) for k, s in enumerate(shapes)]
    return [_label(tile, f'person {k}') for k, tile in enumerate(people)]


def _joints(head: HeadModel) -> list[np.ndarray]:
    poser = Poser(head, np.zeros(0, np.float32))
    cases = {
        'lids 0.5': {'eyelids': (0.5, 0.5)}, 'lids 1': {'eyelids': (1, 1)}, 'left lid': {'eyelids': (1, 0)},
        'jaw 0.15': {'jaw_pose': (0.15, 0, 0)}, 'jaw 0.4': {'jaw_pose': (0.4, 0, 0)},
        'jaw left': {'jaw_pose': (0.05, 0.09, 0)},
        'gaze left': {'left_eye_pose': (0, 0.4, 0), 'right_eye_pose': (0, 0.4, 0)},
        'gaze up': {'left_eye_pose': (-0.35, 0, 0), 'right_eye_pose': (-0.35, 0, 0)},
        'neck': {'neck_pose': (0.1, 0.3, 0.1)},
    }
    tiles = {name: _render(head, _pose(head, poser, **case), close=name != 'neck') for name, case in cases.items()}
    return [_label(tile, name) for name, tile in tiles.items()]


def _units(head: HeadModel) -> list[np.ndarray]:
    poser = Poser(head, np.zeros(0, np.float32))
    shown = head.expression_names[:60]  # FLAME's hundred principal components say little one by one
    tiles = []
    for name in shown:
        jaw = ({'mouthClose': 0.42, 'tongueOut': 0.3}.get(name, 0.0), 0, 0)  # they need an open jaw
        tiles.append(_label(_render(head, _pose(head, poser, units={name: 1.0}, jaw_pose=jaw), close=True), name))
    return tiles


def _landmarks(head: HeadModel, landmarks) -> np.ndarray:
    import cv2

    tile = np.ascontiguousarray(_render(head, head.v_template, close=True))
    points = np.einsum('pk,pkc->pc', landmarks.barys, head.v_template[head.faces[landmarks.faces]])[landmarks.valid]
    scale = _TILE[0] / 0.24
    for x, y, _ in points - [0, -0.01, 0]:
        at = (int(16 * (_TILE[1] / 2 + scale * x)), int(16 * (_TILE[0] / 2 - scale * y)))
        cv2.circle(tile, at, 16, (0.1, 0.2, 0.8), -1, cv2.LINE_AA, 4)
    return tile


def _atlas(head: HeadModel, width: int) -> np.ndarray:
    """Draw the texture layout with its regions, and a checkerboard on the head that shows the stretch."""
    size = width // 2
    atlas = build_atlas(head, size)
    colors = np.array([REGION_COLORS[Region(r)] for r in range(len(Region))], np.float32)[atlas.region]
    rows, columns = np.indices(atlas.size) * 25 // size
    colors = colors * np.where((rows + columns) % 2, 1.0, 0.85)[..., None]
    picture, buffer = shade(
        head.v_template, head.faces, size=(size, width - size), center=np.array([0, -0.015, -0.03]), extent=0.36)
    uv = np.einsum('hwk,hwkc->hwc', buffer.bary, head.uvs[head.uv_faces[np.maximum(buffer.face, 0)]])
    cells = (np.floor(uv[..., 0] * 64) + np.floor(uv[..., 1] * 64)) % 2
    on_head = picture * np.where(buffer.face >= 0, 0.6 + 0.4 * cells, 1.0)[..., None]
    return np.hstack([colors, on_head])

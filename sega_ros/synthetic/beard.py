"""Beards: hair shells over the face that move with it."""

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.synthetic.features import LIP_OUTLINE, Features, smoothstep
from sega_ros.synthetic.hair import Hair, shell_heights
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.noise import value_noise
from sega_ros.types import Region


def beard_area(points: np.ndarray, features: Features) -> dict[str, np.ndarray]:
    """How much [N] of moustache, chin (up to the lip) and cheeks (with the throat) is at points of the mean identity."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    mouth, width, nose = features.mouth, features.mouth_width, features.nose_tip[1]
    upper = mouth[1] + width * np.interp(x / width, LIP_OUTLINE[:, 0], LIP_OUTLINE[:, 1])
    lower = mouth[1] + width * np.interp(x / width, LIP_OUTLINE[:, 0], LIP_OUTLINE[:, 2])
    moustache = smoothstep(y, nose - 0.004, nose - 0.011) * smoothstep(x, 1.32 * width, 1.08 * width)
    moustache *= smoothstep(y, upper + 0.0005, upper + 0.003)
    moustache *= (z > 0.02) * (y > mouth[1] - 0.004)
    below = smoothstep(lower - 0.003 - y, 0.0, 0.004) + smoothstep(x, 1.08 * width, 1.25 * width)
    beside = smoothstep(x, 1.0 * width, 1.2 * width) * smoothstep(x, 1.75 * width, 1.35 * width)
    beside *= smoothstep(y, mouth[1] + 0.012, mouth[1])
    chin = smoothstep(x, 0.034, 0.022) * below * smoothstep(y, mouth[1] - 0.006, mouth[1] - 0.014) * smoothstep(y, -0.100, -0.088)
    chin = np.maximum(chin, beside * smoothstep(y, -0.095, -0.085)) * smoothstep(z, 0.0, 0.012)
    edge = -0.020 - 0.75 * np.clip(x - 0.03, -0.03, 0.03) + 2.4 * np.clip(x - 0.060, 0, 0.02)
    cheeks = smoothstep(edge - y, 0.0, 0.009) * smoothstep(z, -0.034, -0.018) * smoothstep(y, -0.108, -0.092)
    cheeks *= np.clip(below + smoothstep(y, mouth[1] - 0.02, mouth[1] - 0.026), 0, 1)
    cheeks *= smoothstep(x + (mouth[1] - 0.012 - y), 0.020, 0.026)
    return {'moustache': np.clip(moustache, 0, 1), 'chin': np.clip(chin, 0, 1), 'cheeks': np.clip(cheeks, 0, 1)}


_PARTS = {'moustache': ('moustache',), 'goatee': ('moustache', 'chin'), 'short': ('moustache', 'chin', 'cheeks'),
          'full': ('moustache', 'chin', 'cheeks'), 'long': ('moustache', 'chin', 'cheeks')}


def beard_cover(points: np.ndarray, look: Look, features: Features, *, seed: int) -> np.ndarray:
    """How much beard [N] in [0, 1] a look has at points of the mean identity; the edge is uneven."""
    if not look.beard:
        return np.zeros(len(points))
    area = beard_area(points, features)
    cover = np.max([area[part] for part in _PARTS[look.beard]], axis=0)
    return np.clip(cover * (1 + 0.25 * value_noise(points, scale=0.006, seed=seed + 81)), 0, 1)


def grow_beard(head: HeadModel, look: Look, features: Features, *, seed: int) -> Hair:
    """Return the beard of a look as shells on `head`'s mean identity."""
    v = head.v_template.astype(np.float64)
    cover_all = beard_cover(v, look, features, seed=seed)
    kept = (cover_all[head.faces] > 0).any(1) & np.isin(head.face_region, (Region.FACE, Region.NECK, Region.SCALP))
    vertices, flat = np.unique(head.faces[kept], return_inverse=True)
    faces, points, cover = flat.reshape(-1, 3), v[vertices], cover_all[vertices]
    chin = np.exp(-(((points - features.chin) / [0.032, 0.026, 0.03]) ** 2).sum(1))
    longest = look.beard_length * (0.55 + 0.45 * chin if look.beard_length > 0.015 else 1.0)
    lip = beard_area(points, features)['moustache'] > 0.3
    thickness = np.where(lip, np.minimum(longest, 0.007), longest) * (0.3 + 0.7 * cover)
    down = np.array([0.0, -1.0, 0.12]) + np.stack([1.4 * np.sign(points[:, 0]) * lip, 0 * cover, 0 * cover], 1)
    flow = down / np.linalg.norm(down, axis=1, keepdims=True)
    turn = np.arctan2(points[:, 0], points[:, 2] + 0.03)
    uv = np.stack([turn * 0.45, -points[:, 1] * 3.0], 1)[faces]
    return Hair(vertices, faces, uv, np.minimum(cover, 0.92), thickness, flow, shell_heights(BEARD_SHELLS))


BEARD_SHELLS = 8

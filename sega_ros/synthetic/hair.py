"""Hair as shells: copies of the scalp at growing heights, each keeping only the strands that are that long."""

from dataclasses import dataclass

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.synthetic.features import Features, smoothstep
from sega_ros.synthetic.look import Look
from sega_ros.types import Region

SHELLS = 14
_WHORL = np.array([0.02, 0.85, -0.53]) / np.linalg.norm([0.02, 0.85, -0.53])  # where the hair turns, seen from inside
_CENTER = np.array([0.0, 0.045, -0.035])  # of the cranium
# Hairline on the mean identity: angle around the head from the front (degrees), height (metres).
_HAIRLINE = np.array([
    [0, 0.100], [18, 0.101], [32, 0.098], [42, 0.088], [52, 0.070], [62, 0.045], [70, 0.012], [80, 0.004], [92, 0.020],
    [104, 0.020], [116, -0.015], [135, -0.042], [160, -0.056], [180, -0.056]])


@dataclass(frozen=True)
class Hair:
    """Shells over `vertices` of the head; one set of triangles, repeated per shell. L vertices, G triangles."""

    vertices: np.ndarray  # [L] indices of head vertices
    faces: np.ndarray  # [G, 3] into `vertices`
    uv: np.ndarray  # [G, 3, 2] across and along the strands
    cover: np.ndarray  # [L] 0 bald to 1 full
    thickness: np.ndarray  # [L] metres from the scalp to the outermost shell
    flow: np.ndarray  # [L, 3] unit direction in which the strands lie, mean identity
    heights: np.ndarray  # [SHELLS] in (0, 1]


def grow_hair(head: HeadModel, look: Look, features: Features, *, seed: int) -> Hair:
    """Return the hair of a look on `head`'s mean identity."""
    v = head.v_template.astype(np.float64)
    cover_all, inside = hair_cover(v, seed=seed)
    bare = np.unique(head.faces[np.isin(head.face_region, (Region.EARS, Region.EYES, Region.MOUTH, Region.TEETH))])
    cover_all[bare] = 0
    kept = (cover_all[head.faces] > 0).any(1) & np.isin(head.face_region, (Region.SCALP, Region.FACE, Region.NECK))
    vertices, flat = np.unique(head.faces[kept], return_inverse=True)
    faces = flat.reshape(-1, 3)
    points, cover = v[vertices], cover_all[vertices]
    out = points - _CENTER
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    top = smoothstep(out[:, 1], 0.1, 0.75)
    sides = 0.45 + 0.55 * top + 0.15 * smoothstep(-out[:, 2], 0.3, 0.9)
    thickness = look.hair_length * sides * (0.25 + 0.75 * smoothstep(inside[vertices], 0.0, 0.022))
    return Hair(vertices, faces, _strand_uv(points, faces), cover, thickness, _flow(points, out),
                (np.arange(SHELLS) + 1.0) / SHELLS)


def hair_cover(points: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cover [N] in [0, 1] and metres above the hairline [N] of points on the mean identity."""
    from sega_ros.synthetic.noise import value_noise

    around = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - _CENTER[2]))
    line = np.interp(around, _HAIRLINE[:, 0], _HAIRLINE[:, 1])
    inside = points[:, 1] - line + 0.0025 * value_noise(points, scale=0.012, seed=seed + 40)
    return smoothstep(inside, -0.004, 0.007), inside


def _flow(points: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Away from the whorl, along the surface, and down at the sides."""
    away = out - (out @ _WHORL)[:, None] * _WHORL
    away /= np.maximum(np.linalg.norm(out - _WHORL, axis=1, keepdims=True), 0.05)
    direction = -_WHORL + (out @ _WHORL)[:, None] * out + np.array([0.0, -0.35, -0.1]) + 0.15 * away
    direction -= (direction * out).sum(1, keepdims=True) * out
    return direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)


def _strand_uv(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Polar coordinates about the whorl: u across the strands (2 tiles around the head), v along them."""
    across = np.cross(_WHORL, [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    beside = np.cross(across, _WHORL)
    d = points - _CENTER
    turn = np.arctan2(d @ beside, d @ across) / (2 * np.pi)
    tilt = np.arccos(np.clip(d @ _WHORL / np.linalg.norm(d, axis=1), -1, 1))
    u = turn[faces]
    u = np.where(u - u.max(1, keepdims=True) < -0.5, u + 1, u)  # triangles over the seam
    return np.stack([2.0 * u, tilt[faces] * 0.6], 2)


def strand_texture(*, seed: int, size: int = 512) -> np.ndarray:
    """Strand heights [size, size] float32 in [0, 1]: thin across u, long along v, in clumps; tiles."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([seed, 55])

    def streaks(along: float, across: float) -> np.ndarray:
        smooth = gaussian_filter(rng.standard_normal((size, size)), (along, across), mode='wrap')
        return (smooth - smooth.mean()) / smooth.std()

    fine = streaks(45, 0.7) + 0.6 * streaks(80, 3.0) + 0.5 * streaks(110, 9.0)
    ranks = np.empty(size * size, np.float32)
    ranks[np.argsort(fine, axis=None)] = np.linspace(0, 1, size * size)
    return np.ascontiguousarray((0.12 + 0.88 * ranks.reshape(size, size) ** 0.75).astype(np.float32))


def shell_points(hair: Hair, points: np.ndarray, normals: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Vertices [SHELLS * L, 3] of all shells over posed scalp `points`, `normals`, `flow` [L, 3]."""
    h = hair.heights[:, None, None]
    reach = hair.thickness[None, :, None]
    lean = flow[None] * reach * (0.9 * h + 1.4 * h**2)
    return (points[None] + normals[None] * reach * h + lean).reshape(-1, 3).astype(np.float32)

"""Hair as shells: copies of the scalp at growing heights, each keeping only the strands that are that long."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.raster import vertex_normals
from sega_ros.synthetic.features import Features, smoothstep
from sega_ros.synthetic.look import Look
from sega_ros.types import Region

SHELLS = 11
_WHORL = np.array([0.02, 0.85, -0.53]) / np.linalg.norm([0.02, 0.85, -0.53])  # where the hair turns, seen from inside
_CENTER = np.array([0.0, 0.045, -0.035])  # of the cranium
_RADIUS = 0.085  # of the cranium, metres
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
    cover_all, inside = hair_cover(v, seed=seed, receding=look.receding)
    bare = np.unique(head.faces[np.isin(head.face_region, (Region.EARS, Region.EYES, Region.MOUTH, Region.TEETH))])
    cover_all[bare] = 0
    kept = (cover_all[head.faces] > 0).any(1) & np.isin(head.face_region, (Region.SCALP, Region.FACE, Region.NECK))
    vertices, flat = np.unique(head.faces[kept], return_inverse=True)
    faces = flat.reshape(-1, 3)
    points, cover = v[vertices], cover_all[vertices]
    out = points - _CENTER
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    top = smoothstep(out[:, 1], 0.1, 0.75)
    sides = 0.28 + 0.72 * top + 0.15 * smoothstep(-out[:, 2], 0.3, 0.9)
    thickness = look.hair_length * sides * (0.25 + 0.75 * smoothstep(inside[vertices], 0.0, 0.022))
    return Hair(vertices, faces, _strand_uv(points, faces), cover, thickness, _flow(points, out),
                shell_heights(SHELLS))


def shell_heights(count: int) -> np.ndarray:
    """Heights [count] of shells over the thickness of the hair."""
    return np.linspace(0.28, 1.0, count)


def hair_cover(points: np.ndarray, *, seed: int, receding: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Cover [N] in [0, 1] and metres above the hairline [N] of points on the mean identity.

    `receding` (metres) moves the line up at the front, most at the temples; from 6 cm on the top is bald.
    """
    from sega_ros.synthetic.noise import value_noise

    around = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - _CENTER[2]))
    line = np.interp(around, _HAIRLINE[:, 0], _HAIRLINE[:, 1])
    if receding:
        temples = np.exp(-(((around - 38) / 22) ** 2))
        line = line + receding * (0.55 + 0.6 * temples) * smoothstep(around, 88, 62)
    inside = points[:, 1] - line + 0.0025 * value_noise(points, scale=0.012, seed=seed + 40)
    cover = smoothstep(inside, -0.004, 0.007)
    if receding > 0.04:  # the crown goes bald as well
        cover = cover * smoothstep(points[:, 1], 0.125 - 1.2 * (receding - 0.04), 0.100 - 1.2 * (receding - 0.04))
    return cover, inside


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


@lru_cache(maxsize=16)
def strand_texture(*, seed: int, size: int = 512) -> np.ndarray:
    """Strand heights [size, size] float32 in [0, 1]: thin across u, long along v, in clumps; tiles."""
    rng = np.random.default_rng([seed, 55])

    def streaks(along: float, across: float) -> np.ndarray:
        spectrum = np.outer(_blur_response(along, size), _blur_response(across, size)[: size // 2 + 1])
        smooth = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * spectrum, s=(size, size))
        return (smooth - smooth.mean()) / smooth.std()

    fine = streaks(45, 0.7) + 0.6 * streaks(80, 3.0) + 0.5 * streaks(110, 9.0)
    ranks = np.empty(size * size, np.float32)
    ranks[np.argsort(fine, axis=None)] = np.linspace(0, 1, size * size)
    return np.ascontiguousarray((0.12 + 0.88 * ranks.reshape(size, size) ** 0.5).astype(np.float32))


def _blur_response(sigma: float, size: int) -> np.ndarray:
    """Frequency response [size] of a Gaussian blur that is cut at four standard deviations and wraps around."""
    reach = int(4 * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel = np.bincount(steps % size, weight / weight.sum(), minlength=size)
    return np.fft.fft(kernel).real


def shell_points(hair: Hair, points: np.ndarray, normals: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Vertices [SHELLS * L, 3] of all shells over posed scalp `points`, `normals`, `flow` [L, 3]."""
    h = hair.heights[:, None, None]
    reach = hair.thickness[None, :, None]
    lean = reach * (0.6 * h + 1.1 * h**2)
    height = reach * h - lean**2 / (2 * _RADIUS)  # along a tangent alone, strands would leave the head
    height = np.maximum(height, 0.35 * reach * h)
    return (points[None] + normals[None] * height + flow[None] * lean).reshape(-1, 3).astype(np.float32)


@dataclass(frozen=True)
class Curtain:
    """Hair that hangs beside and behind the neck: layers of sheets, rigid with the head. C vertices, K triangles."""

    points: np.ndarray  # [C, 3] head frame, metres
    faces: np.ndarray  # [K, 3]
    attributes: np.ndarray  # [K, 3, 3] u across, v along the strands, cover
    level: np.ndarray  # [K] alpha test
    flow: np.ndarray  # [C, 3] direction of the strands
    normals: np.ndarray  # [C, 3]
    root: np.ndarray  # [K] 0 root to 1 tip
    occlusion: np.ndarray  # [C]
    casts: np.ndarray  # [K] bool


# Sheets of a curtain: alpha level, metres outwards.
_LAYERS = np.array([[0.95, 0.016], [0.8, 0.013], [0.62, 0.010], [0.45, 0.006], [0.3, 0.002], [0.18, -0.002]])
_AROUND, _DOWN = 49, 15


def hang_curtain(look: Look, width: float, *, seed: int) -> Curtain:
    """Return hair that reaches `look.hair_curtain` metres below the ears; `width`: half the head's, there, metres."""
    rng = np.random.default_rng([seed, 57])
    around = np.radians(np.linspace(60, 300, _AROUND))
    down = np.linspace(0, 1, _DOWN)
    ragged = np.interp(np.arange(_AROUND), np.arange(0, _AROUND, 6), rng.standard_normal(9))
    end = -0.02 - look.hair_curtain + 0.008 * ragged
    wave = 0.0035 * np.sin(7 * around + rng.uniform(0, 6))
    index = np.arange(_AROUND * _DOWN).reshape(_DOWN, _AROUND)
    a, b, c, d = (x.reshape(-1) for x in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    sheet = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    points, faces, attributes, level, flow = [], [], [], [], []
    for k, (height, off) in enumerate(_LAYERS):
        y = 0.078 + (end[None] - 0.078) * down[:, None]
        # Starts on the scalp, passes over the ears, falls in towards the neck.
        out = np.interp(down, [0, 0.25, 0.5, 1], [-0.014, -0.001, 0.003, -0.008]) + off * smoothstep(down, 0, 0.3)
        radius = out[:, None] + wave * down[:, None]
        x = (width + 0.001 + radius) * np.sin(around)
        z = -0.035 + (0.098 + radius) * np.cos(around)
        sheet_points = np.stack([x, np.broadcast_to(y, x.shape), z], -1)
        edge = np.minimum(np.arange(_AROUND), np.arange(_AROUND)[::-1]) / 3.0
        cover = (1 - 0.75 * smoothstep(down, 0.72, 1.0))[:, None] * (0.35 + 0.65 * np.clip(edge, 0, 1))[None]
        u = np.broadcast_to(around / np.pi * 2.2 + 0.37 * k, x.shape)
        v = np.broadcast_to(0.25 * down[:, None], x.shape)
        points.append(sheet_points.reshape(-1, 3))
        faces.append(sheet + k * index.size)
        attributes.append(np.stack([u, v, cover], -1).reshape(-1, 3)[sheet])
        level.append(np.full(len(sheet), height))
        flow.append(np.gradient(sheet_points, axis=0).reshape(-1, 3))
    flow = np.concatenate(flow)
    flow /= np.maximum(np.linalg.norm(flow, axis=1, keepdims=True), 1e-9)
    points, faces = np.concatenate(points).astype(np.float32), np.concatenate(faces)
    level = np.concatenate(level)
    return Curtain(points, faces, np.concatenate(attributes), level, flow.astype(np.float32), vertex_normals(points, faces),
                   0.35 + 0.6 * level, np.full(len(points), 0.85), level < 0.35)

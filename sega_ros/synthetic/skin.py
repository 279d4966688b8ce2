"""Paints the texture of head, eyes, teeth and mouth: sRGB layers over texels that know where on the head they are."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sega_ros.head.model import ByIdentity, HeadModel
from sega_ros.synthetic.beard import beard_cover
from sega_ros.synthetic.features import LIP_OUTLINE, Features, smoothstep
from sega_ros.synthetic.hair import hair_cover
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.noise import value_noise
from sega_ros.types import Region

IRIS_ANGLE = np.radians(23.5)  # seen from the eyeball's centre: 12 mm across
_PUPIL_SHARE = 0.36  # of the iris
LIP_DEPTH = 0.012  # metres that the lips' own colour reaches inwards


@dataclass(frozen=True)
class Texels:
    """Texels of the UV atlas that lie on the head; T of them."""

    rows: np.ndarray  # [T]
    columns: np.ndarray  # [T]
    points: np.ndarray  # [T, 3] on the mean identity, metres
    normals: np.ndarray  # [T, 3]
    region: np.ndarray  # [T] Region
    jaw: np.ndarray  # [T] skin weight of the jaw joint


def find_texels(head: HeadModel, size: int) -> Texels:
    """Return where the texels of a `size` x `size` atlas lie; the latest few are kept."""
    return _find_texels(ByIdentity(head), size)


@lru_cache(maxsize=4)
def _find_texels(key: ByIdentity, size: int) -> Texels:
    from sega_ros.head.atlas import build_atlas
    from sega_ros.raster import vertex_normals

    head = key.head
    atlas = build_atlas(head, size)
    rows, columns = np.nonzero(atlas.valid)
    face, bary = atlas.face[rows, columns], atlas.bary[rows, columns]
    corners = head.faces[face]
    normals = vertex_normals(head.v_template, head.faces)

    def at(values):
        return np.einsum('tk,tkc->tc', bary, values[corners])

    return Texels(rows, columns, at(head.v_template).astype(np.float64), at(normals).astype(np.float64),
                  head.face_region[face], at(head.weights[:, 2:3])[:, 0])


def paint(head: HeadModel, look: Look, features: Features, *, size: int, seed: int) -> np.ndarray:
    """Return the texture [size, size, 4] float32: linear RGB and gloss."""
    from sega_ros.synthetic.renderer import srgb_to_linear

    texels = find_texels(head, size)
    color = np.zeros((len(texels.rows), 3))
    gloss = np.zeros(len(texels.rows))
    inner = (texels.region == Region.MOUTH) & (texels.points[:, 2] < features.mouth[2] - LIP_DEPTH)
    skin = ~np.isin(texels.region, (Region.EYES, Region.TEETH)) & ~inner
    _select(texels, skin, color, gloss, _skin, look, features, seed)
    for index in range(2):
        side = (texels.region == Region.EYES) & ((texels.points[:, 0] > 0) == (index == 0))
        _select(texels, side, color, gloss, _eye, look, features, seed + index)
    _select(texels, texels.region == Region.TEETH, color, gloss, _teeth, look, features, seed)
    _select(texels, inner, color, gloss, _mouth, look, features, seed)
    texture = np.zeros((size, size, 4), np.float32)
    texture[texels.rows, texels.columns, :3] = srgb_to_linear(np.clip(color, 0, 1))
    texture[texels.rows, texels.columns, 3] = gloss
    return _bleed(texture, texels)


def _select(texels: Texels, mask: np.ndarray, color, gloss, painter, look, features, seed) -> None:
    part = Texels(*(getattr(texels, f)[mask] for f in Texels.__dataclass_fields__))
    color[mask], gloss[mask] = painter(part, look, features, seed)


def _bleed(texture: np.ndarray, texels: Texels) -> np.ndarray:
    """Carry colours over the charts' borders, so that no black enters by interpolation."""
    import cv2

    filled = np.zeros(texture.shape[:2], np.uint8)
    filled[texels.rows, texels.columns] = 1
    for _ in range(4):
        weight = cv2.boxFilter(filled.astype(np.float32), -1, (3, 3), normalize=False)
        total = cv2.boxFilter(texture * filled[..., None], -1, (3, 3), normalize=False)
        new = (filled == 0) & (weight > 0)
        texture[new] = total[new] / weight[new, None]
        filled[new] = 1
    return texture


def _mix(color: np.ndarray, other, amount: np.ndarray) -> np.ndarray:
    return color + (np.asarray(other) - color) * amount[:, None]


def _spot(points: np.ndarray, center, radius) -> np.ndarray:
    """1 at `center`, falling smoothly to 0 at about twice the `radius` (a number or one per axis)."""
    return np.exp(-(((points - np.asarray(center)) / np.asarray(radius)) ** 2).sum(1))


def _both(points: np.ndarray, center, radius) -> np.ndarray:
    """Spots at a point and its mirror image."""
    center = np.asarray(center, float)
    return _spot(points, center, radius) + _spot(points, center * [-1, 1, 1], radius)


def _skin(texels: Texels, look: Look, features: Features, seed: int) -> tuple[np.ndarray, np.ndarray]:
    p = texels.points
    color = np.tile(look.skin, (len(p), 1))
    color = _tint(color, p, look, features)
    broad = value_noise(p, scale=0.03, seed=seed, octaves=2)
    mottle = value_noise(p, scale=0.006, seed=seed + 1, octaves=3)
    pores = value_noise(p, scale=0.0011, seed=seed + 2, octaves=2)
    strength = 0.02 + 0.018 * look.age
    color *= 1 + (0.018 * broad + strength * mottle)[:, None] * [0.7, 1.0, 1.05] + (0.018 * pores)[:, None]
    color = _freckles(color, p, look, features, seed)
    color = _wrinkles(color, p, look, features)
    color = _make_up(color, p, look, features)
    color = _stubble(color, p, texels.normals, look, features, seed)
    color, lips = _lips(color, p, texels.region, look, features, seed)
    color = _lids(color, p, texels.normals, texels.region, look, features)
    color = _brows(color, p, look, features, seed)
    hairy = hair_cover(p, seed=seed, receding=look.receding)[0] * np.isin(texels.region, (Region.SCALP, Region.FACE))
    color = _mix(color, look.hair[0], look.scalp * hairy)
    if look.beard:
        color = _mix(color, look.beard_hair[0], 0.7 * beard_cover(p, look, features, seed=seed))
    oily = 0.55 + 0.5 * _spot(p, features.nose_tip, 0.014) + 0.25 * _spot(p, [0, 0.08, 0.05], 0.03)
    gloss = np.clip(oily + 0.25 * pores + 0.12 * mottle, 0.1, 1.5) * (1 - 0.4 * (texels.region == Region.NECK))
    return color, np.where(lips > 0.01, gloss + 1.1 * lips, gloss)


def _tint(color, p, look: Look, features: Features) -> np.ndarray:
    """Blood near the surface: nose, cheeks, ears, chin; thin skin under the eyes; a paler forehead."""
    left, nose = features.eyes[0], features.nose_tip
    red = 0.55 * _spot(p, nose, 0.016) + 0.5 * _both(p, left + np.array([0.006, -0.036, 0.01]), 0.024)
    red += 0.25 * _spot(p, features.chin, 0.02) + 0.8 * _both(p, [0.078, 0.01, -0.045], 0.025)
    red += 0.35 * _both(p, nose + np.array([0.016, -0.004, -0.016]), 0.007)
    color = color * (1 + look.redness * red[:, None] * np.array([0.03, -0.17, -0.15]))
    under = _both(p, left + np.array([0.001, -0.014, 0.008]), [0.013, 0.006, 0.02])
    color = color * (1 - under[:, None] * (0.07 + 0.08 * look.age) * np.array([0.8, 1.0, 0.75]))
    pale = _spot(p, [0, 0.085, 0.05], 0.04)
    return color * (1 + pale[:, None] * np.array([0.015, 0.02, 0.01]))


def _freckles(color, p, look: Look, features: Features, seed: int) -> np.ndarray:
    from scipy.spatial import cKDTree

    rng = np.random.default_rng([seed, 5])
    tree = cKDTree(p)
    front = np.flatnonzero((p[:, 2] > 0.02) & (p[:, 1] > -0.075))
    if not len(front):
        return color
    moles = front[rng.integers(len(front), size=rng.integers(1, 6))]
    spots = [(k, rng.uniform(0.0006, 0.0013), 0.75) for k in moles]
    likely = (_both(p[front], features.eyes[0] + np.array([0, -0.03, 0.02]), [0.03, 0.022, 0.04])
              + _spot(p[front], features.nose_tip + np.array([0, 0.015, 0]), 0.02) + 0.08)
    freckles = rng.choice(front, size=int(420 * look.freckles), p=likely / likely.sum())
    spots += [(k, rng.uniform(0.0004, 0.0010), rng.uniform(0.15, 0.42)) for k in freckles]
    brown = look.skin * [0.58, 0.42, 0.34]
    for k, radius, strength in spots:
        near = tree.query_ball_point(p[k], 2.5 * radius)
        color[near] = _mix(color[near], brown, strength * np.exp(-((p[near] - p[k]) ** 2).sum(1) / radius**2))
    return color


def _wrinkles(color, p, look: Look, features: Features) -> np.ndarray:
    """Soft lines: across the forehead, from nose to mouth, at the outer corners of the eyes."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    lines = np.zeros(len(p))
    for k, height in enumerate((0.068, 0.079, 0.090)):
        wave = height + 0.0012 * np.sin(60 * x + k) - 1.2 * x**2
        lines += 0.6 * np.exp(-(((y - wave) / 0.0008) ** 2)) * smoothstep(x, 0.045, 0.02) * (z > 0)
    t = np.clip((features.nose_tip[1] - y) / (features.nose_tip[1] - features.mouth[1]), 0, 1.2)
    fold = 0.0185 + 0.0125 * t**1.2
    lines += np.exp(-(((x - fold) / 0.0011) ** 2)) * smoothstep(t, 0.0, 0.3) * smoothstep(t, 1.2, 0.8) * (z > 0.01)
    corner = features.eyes[0] + np.array([0.0165, -0.002, 0])
    for slope in (-0.35, 0.0, 0.35):
        along = x - corner[0]
        off = y - corner[1] - slope * along
        reach = smoothstep(along, 0.0, 0.004) * smoothstep(along, 0.016, 0.006)
        lines += 0.6 * np.exp(-((off / 0.0006) ** 2)) * reach * (z > 0)
    return color * (1 - np.clip(lines, 0, 1.3)[:, None] * (0.02 + 0.16 * look.age) * np.array([0.8, 1.0, 1.0]))


def _make_up(color, p, look: Look, features: Features) -> np.ndarray:
    """Blush on the cheeks, shadow on the upper lids."""
    if look.blush:
        cheeks = _both(p, features.eyes[0] + np.array([0.014, -0.033, 0.0]), [0.02, 0.014, 0.04])
        color = _mix(color, look.skin * [1.0, 0.72, 0.74], 0.5 * look.blush * cheeks)
    if look.shadow:
        lids = _both(p, features.eyes[0] + np.array([0.002, 0.0085, 0.012]), [0.015, 0.0055, 0.02])
        color = _mix(color, look.shadow_color, 0.75 * look.shadow * np.clip(lids, 0, 1) * (p[:, 2] > 0))
    return color


def _stubble(color, p, normals, look: Look, features: Features, seed: int) -> np.ndarray:
    if look.stubble <= 0:
        return color
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    mouth, width = features.mouth, features.mouth_width
    upper = mouth[1] + 0.012 - 0.006 * (x / width) ** 2
    nose = features.nose_tip[1]
    moustache = smoothstep(y, nose - 0.003, nose - 0.011) * smoothstep(x, 1.6 * width, 1.1 * width)
    moustache *= y > upper - 0.004
    edge = -0.012 - 0.9 * np.clip(x - 0.03, -0.02, 0.03) + 1.9 * np.clip(x - 0.058, 0, 0.02)
    beard = smoothstep(y, edge - 0.004, edge - 0.02) * smoothstep(z, -0.035, -0.015) * smoothstep(y, -0.115, -0.085)
    area = np.clip(np.maximum(beard, moustache * (z > 0.02)), 0, 1)
    dots = smoothstep(value_noise(p, scale=0.0006, seed=seed + 9), 0.0, 0.8)
    hair = look.hair[0] * 0.8
    shade = _mix(color, look.skin * [0.80, 0.84, 0.90], 0.55 * look.stubble * area)
    return _mix(shade, hair, 0.5 * look.stubble * area * dots)


def _lips(color, p, region, look: Look, features: Features, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour within the lips' outline; returns also how much lip a texel is."""
    half = features.mouth_width
    x, y = np.abs(p[:, 0]) / half, (p[:, 1] - features.mouth[1]) / half
    upper = np.interp(x, LIP_OUTLINE[:, 0], LIP_OUTLINE[:, 1])
    lower = np.interp(x, LIP_OUTLINE[:, 0], LIP_OUTLINE[:, 2])
    soft = 0.035
    lips = smoothstep(upper - y, -soft, soft) * smoothstep(y - lower, -soft, 1.6 * soft) * smoothstep(x, 1.04, 0.94)
    lips *= (p[:, 2] > features.mouth[2] - 0.022) & np.isin(region, (Region.FACE, Region.MOUTH))
    lines = value_noise(p * [1, 0.16, 0.16], scale=0.0011, seed=seed + 4, octaves=2)
    tone = look.lips * (1 + 0.06 * lines[:, None])
    seam = np.exp(-((y / 0.07) ** 2)) * (x < 1.05)
    tone = tone * (1 - 0.30 * seam[:, None])
    tone = tone * (1 - 0.10 * smoothstep(y, -0.05, 0.15)[:, None])  # the upper lip faces down: darker
    color = _mix(color, tone, 0.92 * lips)
    rim = np.exp(-(((y - upper) / 0.05) ** 2)) * (x < 0.95) * (p[:, 2] > features.mouth[2] - 0.015)
    return color * (1 + 0.04 * rim[:, None]), lips


def _lids(color, p, normals, region, look: Look, features: Features) -> np.ndarray:
    from scipy.spatial import cKDTree

    for eye, margin in zip(features.eyes, features.lid_margins, strict=True):
        local = p - eye
        near = np.flatnonzero((np.linalg.norm(local, axis=1) < 2.2 * features.eye_radius) & (local[:, 2] > -0.002))
        if not len(near):
            continue
        distance = cKDTree(margin).query(p[near])[0]
        above = smoothstep(local[near, 1], -0.003, 0.004)
        lid = np.exp(-((distance / 0.006) ** 2))
        c = color[near] * (1 - (0.10 * lid * (0.4 + 0.6 * above))[:, None] * [0.7, 1.0, 0.9])
        # The mesh goes on behind the lids' edge; the edge is where the surface turns from the front to the eyeball.
        radial = local[near] / np.linalg.norm(local[near], axis=1, keepdims=True)
        facing = (normals[near] * radial).sum(1)
        rim = smoothstep(distance, 0.0075, 0.005) * (np.linalg.norm(local[near], axis=1) < 1.3 * features.eye_radius)
        c = _mix(c, np.clip(look.skin * [1.02, 0.72, 0.68], 0, 1), 0.75 * rim * smoothstep(facing, 0.25, -0.1))
        edge = (np.abs(facing - 0.2) < 0.2) & (rim > 0.3)
        if edge.any():
            away = cKDTree(p[near][edge]).query(p[near])[0]
            outer = smoothstep(np.abs(p[near, 0]) - abs(eye[0]), -0.014, 0.002)
            lashes = np.exp(-((away / 0.0014) ** 2)) * smoothstep(facing, -0.2, 0.1)
            lashes *= (0.3 + 0.7 * above) * (0.55 + 0.45 * outer)
            if look.liner:
                lashes = np.maximum(lashes, look.liner * np.exp(-((away / 0.0022) ** 2)) * (0.4 + 0.6 * above))
            c = _mix(c, look.hair[0] * 0.25, 0.95 * lashes)
        color[near] = c
    return color


def _brows(color, p, look: Look, features: Features, seed: int) -> np.ndarray:
    """Strokes drawn on a frontal canvas of each brow and looked up by the texels behind it."""
    from scipy.ndimage import map_coordinates

    for index, eye in enumerate(features.eyes):
        canvas, origin, pitch = brow_canvas(look, features, index, seed)
        off = p - eye
        near = np.flatnonzero((np.abs(off[:, 0]) < 0.04) & (off[:, 1] > 0.004) & (off[:, 1] < 0.045) & (p[:, 2] > 0.0)
                              & (p[:, 0] * eye[0] > 0))
        at = np.stack([origin[1] - p[near, 1], p[near, 0] - origin[0]]) / pitch
        cover = map_coordinates(canvas, at, order=1, mode='constant')
        hair = look.hair[0] * 0.75 + look.hair[1] * 0.1 if look.brow_color is None else look.brow_color
        color[near] = _mix(color[near], hair, np.clip(cover, 0, 0.92))
    return color


def brow_canvas(look: Look, features: Features, index: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a brow's cover [H, W] in [0, 1], the (x, y) of its corner in metres and the metres per pixel."""
    import cv2

    pitch, sign = 0.0001, (1.0, -1.0)[index]
    rng = np.random.default_rng([seed, 31, index])
    origin = np.array([min(0.0, sign * 0.07), features.eyes[index, 1] + 0.05])
    canvas = np.zeros((500, 700), np.float32)
    eye = np.abs(features.eyes[index])
    draws = np.array([(rng.beta(1.1, 1.2), rng.uniform(-1, 1), rng.uniform(0.0045, 0.0075), rng.uniform(0.4, 0.85))
                      for _ in range(int(420 * look.brows))])
    along, across, length, strength = draws.T
    thick = 0.0036 * look.brows * look.brow_height * (1 - 0.75 * along**2) * smoothstep(along, -0.1, 0.12)
    x = eye[0] - 0.0175 + 0.038 * along
    y = eye[1] + 0.0148 + 0.0080 * np.sin(np.pi * (0.12 + 0.62 * along)) - 0.0068 * along**2 + across * thick
    lean = np.radians(78 - 70 * along**0.6) - 0.5 * across * np.clip(along, 0.1, 1)
    step = (length * (1 - 0.3 * along) / 6)[:, None]
    bend = lean[:, None] - 0.45 * np.linspace(0, 1, 6)
    right, up = x[:, None] + np.cumsum(np.cos(bend), 1) * step, y[:, None] + np.cumsum(np.sin(bend), 1) * step
    pixels = np.stack([(sign * right - origin[0]) / pitch, (origin[1] - up) / pitch], 2)  # [strokes, 6, 2]
    for path, weight in zip(pixels, strength, strict=True):
        _stroke(canvas, path, weight)
    blur = 1.25 * cv2.GaussianBlur(canvas, (0, 0), 1.0)
    return np.clip(blur + 0.45 * cv2.GaussianBlur(canvas, (0, 0), 10), 0, 1), origin, pitch


def _stroke(canvas: np.ndarray, pixels: np.ndarray, strength: float) -> None:
    """Draw a line through `pixels` [n, 2] (x, y) where `canvas` is weaker; works on the line's surroundings only."""
    import cv2

    left, top = max(int(pixels[:, 0].min()) - 2, 0), max(int(pixels[:, 1].min()) - 2, 0)
    window = canvas[top : int(pixels[:, 1].max()) + 4, left : int(pixels[:, 0].max()) + 4]
    line = np.zeros(window.shape, np.float32)
    cv2.polylines(line, [np.round((pixels - [left, top]) * 16).astype(np.int32)], False, 1.0, 1, cv2.LINE_8, 4)
    np.maximum(window, line * strength, out=window)


def _eye(texels: Texels, look: Look, features: Features, seed: int) -> tuple[np.ndarray, np.ndarray]:
    index = int(texels.points[:, 0].mean() < 0)
    d = (texels.points - features.eyes[index]) / features.eye_radius
    polar = np.arccos(np.clip(d[:, 2], -1, 1)) / IRIS_ANGLE  # 1 at the edge of the iris
    turn = np.arctan2(d[:, 1], d[:, 0])
    ring = np.stack([np.cos(turn), np.sin(turn), 0.35 * polar], 1)
    fibres = value_noise(ring, scale=0.055, seed=seed + 3, octaves=2)
    blotch = value_noise(ring, scale=0.3, seed=seed + 6, octaves=2)
    veins = np.maximum(0, value_noise(d, scale=0.09, seed=seed + 7, octaves=3)) ** 2
    sclera = np.array([0.80, 0.785, 0.77]) - veins[:, None] * [0.03, 0.13, 0.12] * np.clip(polar - 1.2, 0, 2)[:, None]
    sclera = _mix(sclera, [0.78, 0.62, 0.58], smoothstep(np.abs(d[:, 0]), 0.5, 0.85) * 0.55)
    shine = look.iris * (1 + 0.30 * fibres + 0.12 * blotch)[:, None]
    shine = shine * (1 + 0.35 * np.exp(-(((polar - 0.52) / 0.12) ** 2)))[:, None]  # the collarette is lighter
    shine = shine * (1 - 0.62 * smoothstep(polar, 0.78, 1.0))[:, None]  # the limbus darker
    shine = _mix(shine, [0.012, 0.011, 0.012], smoothstep(polar, _PUPIL_SHARE + 0.05, _PUPIL_SHARE - 0.05))
    color = _mix(sclera, shine, smoothstep(polar, 1.06, 0.95))
    return color, np.ones(len(polar))


def _teeth(texels: Texels, look: Look, features: Features, seed: int) -> tuple[np.ndarray, np.ndarray]:
    p = texels.points
    color, gloss = np.zeros((len(p), 3)), np.ones(len(p))
    for jaw in (False, True):
        mine = (texels.jaw > 0.5) == jaw
        if not mine.any():
            continue
        q = p[mine]
        low, high = q[:, 1].min(), q[:, 1].max()
        down = (q[:, 1] - low) / (high - low) if jaw else (high - q[:, 1]) / (high - low)  # 0 gum, 1 edge
        center = q[:, 2].min() + 0.35 * (q[:, 2].max() - q[:, 2].min())
        turn = np.arctan2(q[:, 0], q[:, 2] - center)
        width = 0.145 if jaw else 0.20  # radians of one tooth
        phase = np.abs((turn / width) % 1.0 - 0.5) * 2  # 1 between two teeth
        gap = smoothstep(phase, 0.86, 1.0)
        enamel = np.array([0.95, 0.92, 0.85]) * (1 + 0.03 * value_noise(q, scale=0.004, seed=seed))[:, None]
        enamel = _mix(enamel, [0.86, 0.87, 0.88], 0.3 * smoothstep(down, 0.85, 1.0))
        enamel = _mix(enamel, [0.62, 0.50, 0.44], 0.6 * gap)
        gum = np.array([0.66, 0.33, 0.33]) * (1 + 0.05 * value_noise(q, scale=0.002, seed=seed + 1))[:, None]
        line = 0.34 + 0.07 * (1 - phase**2)
        color[mine] = _mix(gum, enamel, smoothstep(down, line - 0.03, line + 0.03))
    return color, gloss


def _mouth(texels: Texels, look: Look, features: Features, seed: int) -> tuple[np.ndarray, np.ndarray]:
    p = texels.points
    wet = np.array([0.60, 0.27, 0.26]) * (1 + 0.06 * value_noise(p, scale=0.002, seed=seed + 8, octaves=2))[:, None]
    # Inside the lips the colour comes from the lips; deep down hardly any light returns.
    wet = _mix(wet, look.lips * 0.93, smoothstep(p[:, 2], features.mouth[2] - 0.022, features.mouth[2] - LIP_DEPTH))
    depth = smoothstep(p[:, 2], features.mouth[2] - 0.012, features.mouth[2] - 0.055)
    return wet * (1 - 0.75 * depth)[:, None], 1 - 0.6 * depth

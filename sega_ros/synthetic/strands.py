"""Hair as ribbons: locks that grow from the scalp along a comb direction, fall, curl, and lie on head and shoulders."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter
from scipy.spatial import cKDTree

from sega_ros.head.model import HeadModel
from sega_ros.synthetic.features import smoothstep
from sega_ros.synthetic.hair import Curtain, hair_cover
from sega_ros.synthetic.look import STYLES, Look, Style
from sega_ros.synthetic.noise import value_noise
from sega_ros.types import Region

_AXIS_Z, _CROWN = -0.04, 0.045  # metres: the axis that distances are measured from; above the crown, from its end
_TURNS, _ROWS = 72, 64  # of the distance map
_LOW, _PER_RADIAN = -0.16, 0.10  # metres where the map starts; metres of its height that a radian of elevation takes
_TIE = np.array([0.0, 0.075, -0.150])  # where drawn-back hair meets
_FACE_EDGE = np.array([[-0.20, 0.045], [-0.09, 0.052], [0.00, 0.068], [0.06, 0.066], [0.088, 0.040], [0.11, 0.0]])  # y, |x|

_CHEEK = np.array([[-0.30, 0.07], [-0.13, 0.06], [-0.09, 0.02], [0.0, 0.018], [0.06, 0.028], [0.09, 0.06], [0.11, 0.15]])  # y, z


@dataclass(frozen=True)
class Bust:
    """What hair lies on: distances from an upright axis, and the shoulders' surface."""

    distance: np.ndarray  # [_ROWS, _TURNS] metres
    shoulders: cKDTree  # over (x, z)
    height: np.ndarray  # [n] metres
    slope: np.ndarray  # [n, 3] unit normals


def measure_bust(head: HeadModel, rest: np.ndarray, shirt: np.ndarray, shirt_normals: np.ndarray, *, ears: bool) -> Bust:
    """Measure the head's `rest` vertices [V, 3] and the shirt [V', 3]; hair lies over the ears or does not know them."""
    regions = [Region.FACE, Region.SCALP, Region.NECK] + [Region.EARS] * ears
    points = rest[np.unique(head.faces[np.isin(head.face_region, regions)])].astype(np.float64)
    (row, turn), _, length = _polar(points)
    distance = np.zeros((_ROWS, _TURNS))
    np.maximum.at(distance, (np.clip(row, 0, _ROWS - 1).round().astype(int), turn.round().astype(int) % _TURNS), length)
    filled = maximum_filter(distance, 3, mode=('nearest', 'wrap'))
    filled = np.where(filled > 0, filled, np.median(filled[filled > 0]))
    distance = gaussian_filter(filled, 0.8, mode=('nearest', 'wrap'))
    top = (shirt[:, 1] > -0.32) & (shirt_normals[:, 1] > 0.1)
    return Bust(distance, cKDTree(shirt[top][:, [0, 2]]), shirt[top, 1], shirt_normals[top])


def _polar(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column [2, N] in the distance map, unit directions [N, 3] from the axis, distances [N]."""
    foot = np.stack([np.zeros(len(points)), np.minimum(points[:, 1], _CROWN), np.full(len(points), _AXIS_Z)], 1)
    arm = points - foot
    length = np.maximum(np.linalg.norm(arm, axis=1), 1e-6)
    direction = arm / length[:, None]
    height = foot[:, 1] + _PER_RADIAN * np.arcsin(np.clip(direction[:, 1], 0, 1))
    span = _CROWN + _PER_RADIAN * np.pi / 2 - _LOW
    row = (height - _LOW) / span * (_ROWS - 1)
    turn = (np.arctan2(direction[:, 0], direction[:, 2]) / (2 * np.pi) % 1.0) * _TURNS
    return np.stack([row, turn]), direction, length


def _settle(bust: Bust, points: np.ndarray, off: np.ndarray, *, pull: float = 0.0) -> np.ndarray:
    """Move points [N, 3] that came closer than `off` [N] metres to the bust onto that distance.

    Above the mouth, `pull` of what they stick out beyond it is taken back.
    """
    at, direction, length = _polar(points)
    wanted = map_coordinates(bust.distance, at, order=1, mode='grid-wrap') + off
    gap = wanted - length
    pull = pull * smoothstep(points[:, 1], -0.03, 0.02)
    points = points + direction * np.where(gap > 0, gap, pull * gap)[:, None]
    away, near = bust.shoulders.query(points[:, [0, 2]])
    under = (away < 0.02) & (points[:, 1] < bust.height[near] + off)
    lift = np.where(under, bust.height[near] + off - points[:, 1], 0)
    return points + bust.slope[near] * np.clip(lift, 0, 0.03)[:, None]


def grow_locks(head: HeadModel, rest: np.ndarray, look: Look, bust: Bust, *, seed: int) -> Curtain:
    """Return the ribbons of a look with one of `STYLES` on the identity `rest` [V, 3]."""
    rng = np.random.default_rng([seed, 61])
    style = STYLES[look.style]
    roots, front = _roots(head, rest, look, style.locks, rng, seed)
    layer = rng.beta(1.1, 1.0, len(roots))
    off = 0.002 + look.hair_volume * layer
    lengths = _lengths(look, roots, rng)
    steps = style.steps
    share = np.linspace(0, 1, steps)
    path = np.empty((steps, len(roots), 3))
    path[0] = roots
    heading = _comb(look, roots, roots, 0.0)
    heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-6)
    sprawl = rng.normal(0, style.sprawl, heading.shape)
    clearance = rng.uniform(0.94, 1.06, len(roots))
    for k in range(1, steps):
        wanted = _comb(look, path[k - 1], roots, share[k])
        wanted = wanted / np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-6) + sprawl * (1 - 0.7 * share[k])
        heading = 0.4 * heading + 0.6 * wanted
        heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-6)
        moved = path[k - 1] + heading * (lengths / (steps - 1))[:, None]
        rise = smoothstep(share[k] * lengths, 0.0, 0.018)
        moved = _settle(bust, moved, off * rise + 0.001, pull=0.5 if style.comb in ('part', 'back', 'forward', 'tie') else 0.0)
        moved = _beside_face(moved, clearance * ~(front & style.fringe))
        if style.fringe:
            stop = (moved[:, 1] < look.fringe_height + 0.008 * (layer - 0.5)) & (moved[:, 2] > 0.0) & front
            moved = np.where(stop[:, None], path[k - 1], moved)
        path[k] = moved
    path = _curl(path, look, lengths, seed)
    out = _polar(path.reshape(-1, 3))[1].reshape(path.shape)
    if style.tail:
        tail, tail_out, tail_layer = _tail(look, style, bust, steps, rng)
        path, out = np.concatenate([path, tail], 1), np.concatenate([out, tail_out], 1)
        layer = np.concatenate([layer, tail_layer])
    return _ribbons(path, out, layer, look, rng)


def _roots(head: HeadModel, rest: np.ndarray, look: Look, count: int, rng, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] on the hairy scalp, denser along the hairline; which of them [N] grow at the front."""
    cover, inside = hair_cover(head.v_template.astype(np.float64), seed=seed, receding=look.receding)
    faces = head.faces[np.isin(head.face_region, (Region.SCALP, Region.FACE, Region.NECK))]
    faces = faces[(cover[faces] > 0.5).all(1)]
    a, b, c = (rest[faces[:, k]].astype(np.float64) for k in range(3))
    weight = np.linalg.norm(np.cross(b - a, c - a), axis=1) * (1 + 1.5 * smoothstep(inside[faces].mean(1), 0.03, 0.0))
    chosen = rng.choice(len(faces), count, p=weight / weight.sum())
    u, v = rng.random((2, count, 1))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    roots = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    return roots, (roots[:, 2] > 0.005) & (roots[:, 1] > 0.085)


def _lengths(look: Look, roots: np.ndarray, rng) -> np.ndarray:
    """Length [N] of each lock: shorter at the sides and the nape for short cuts, cut to a common line for long ones."""
    top = smoothstep(roots[:, 1], 0.03, 0.11)
    if STYLES[look.style].hangs:
        return np.maximum(roots[:, 1] - look.hair_end + 0.3 * np.abs(roots[:, 2] + 0.04) * top + 0.06 * top, 0.03) \
            * rng.uniform(0.86, 1.05, len(roots))
    return look.lock_length * (look.sides + (1 - look.sides) * top) * rng.uniform(0.75, 1.15, len(roots))


def _comb(look: Look, points: np.ndarray, roots: np.ndarray, share: float) -> np.ndarray:
    """Direction [N, 3] in which locks want to go at `points`; `share` of their length is behind them."""
    out = _polar(points)[1]
    side = np.tanh((roots[:, 0] - look.part) / 0.004)
    above = smoothstep(out[:, 1], 0.15, 0.75)  # on top of the head hair lies, elsewhere it falls
    top = smoothstep(roots[:, 1], 0.06, 0.12)
    zero = np.zeros(len(points))
    kind = STYLES[look.style].comb
    if kind == 'tie':
        return _tie(look) - points
    if kind == 'part':
        back = (0.9 * above + 0.5 * smoothstep(points[:, 2], 0.0, 0.04)) * smoothstep(roots[:, 2], -0.07, 0.03)
        wanted = np.stack([1.1 * side * above, -0.25 - 1.4 * (1 - above), -back], 1)
    elif kind == 'back':
        wanted = np.stack([0.3 * side * above, -0.2 - 0.7 * (1 - above), -0.5 - 0.6 * above], 1)
    elif kind == 'forward':
        ahead = smoothstep(roots[:, 2], -0.05, -0.01) * smoothstep(0.062 - np.abs(roots[:, 0]), 0.0, 0.02)
        z = 1.1 * ahead - 0.5 * (1 - ahead) * above
        wanted = np.stack([side * above * (0.8 - 0.5 * ahead), -0.2 - 1.3 * (1 - above), z], 1)
    elif kind == 'up':
        sweep = out * 0.55 + np.array([look.part * 18 + 0.15, 0.0, 0.5])
        return sweep * top[:, None] + np.stack([zero, -0.9 * (1 - top), -0.5 * (1 - top)], 1)
    else:  # 'out'
        return out + np.stack([zero, -look.droop * (0.3 + share) + zero, zero], 1)
    return wanted - out * ((wanted * out).sum(1) * above)[:, None]


def _tie(look: Look) -> np.ndarray:
    """Where drawn-back hair meets, [3]."""
    return _TIE + np.array([0.0, look.tie_height, 0.0])


def _beside_face(points: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Push what would hang before the face to its sides and behind the cheeks; `scale` [N] about 1, 0 leaves a lock alone."""
    edge = np.interp(points[:, 1], _FACE_EDGE[:, 0], _FACE_EDGE[:, 1]) * scale * smoothstep(points[:, 2], -0.01, 0.03)
    x = np.where(points[:, 0] < 0, -1.0, 1.0) * np.maximum(np.abs(points[:, 0]), edge)
    cheek = np.interp(points[:, 1], _CHEEK[:, 0], _CHEEK[:, 1]) + 0.25 * (scale - 1)
    z = np.where(scale > 0, np.minimum(points[:, 2], cheek), points[:, 2])
    return np.stack([x, points[:, 1], z], 1)


def _curl(path: np.ndarray, look: Look, lengths: np.ndarray, seed: int) -> np.ndarray:
    """Wind locks [K, N, 3] about themselves; neighbours wind alike."""
    if look.curl <= 0:
        return path
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=2, keepdims=True), 1e-9)
    out = _polar(path.reshape(-1, 3))[1].reshape(path.shape)
    beside = np.cross(along, out)
    phase = 9.0 * value_noise(path[0], scale=0.03, seed=seed + 71) + 1.5 * value_noise(path[0], scale=0.006, seed=seed + 72)
    arc = np.linspace(0, 1, len(path))[:, None] * lengths[None]
    turn = 2 * np.pi * arc / np.maximum(look.curl_length, 3.5 * lengths / len(path)) + phase[None]  # what the points can carry
    swing = (look.curl * smoothstep(arc, 0.0, 0.04 if look.curl_length > 0.04 else 0.012))[..., None]
    return path + swing * (beside * np.sin(turn)[..., None] + out * (0.6 * np.cos(turn) + 0.4)[..., None])


def _tail(look: Look, style: Style, bust: Bust, steps: int, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Locks [K, N, 3] of a bun or a ponytail at the tie, the directions [K, N, 3] that face outwards, layers [N]."""
    tie, layer = _tie(look), rng.random(220)
    middle = tie + np.array([0, 0.004, -0.014])
    if style.tail == 'bun':
        path = middle + _ball(len(layer), steps, rng) * (look.bun * (0.75 + 0.25 * layer))[:, None]
        out = path - middle
        return path, out / np.linalg.norm(out, axis=2, keepdims=True), layer
    path = _hanging(look, tie, layer, steps, rng)
    for k in range(1, steps):
        path[k] = _settle(bust, path[k], 0.004 + 0.012 * layer)
    path = _curl(path, look, np.full(len(layer), tie[1] - look.hair_end), 5)
    out = path - path.mean(1, keepdims=True) + [0, 0, -0.004]
    return path, out / np.linalg.norm(out, axis=2, keepdims=True), layer


def _ball(count: int, steps: int, rng) -> np.ndarray:
    """Arcs [K, N, 3] of great circles on the unit sphere, mostly around the z axis."""
    axis = rng.normal(0, 1, (count, 3)) * [0.55, 0.55, 1.0]
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    first = np.cross(axis, rng.normal(0, 1, (count, 3)))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    turn = np.linspace(0, 1, steps)[:, None, None] * rng.uniform(2.0, 3.5, (count, 1))
    return first * np.cos(turn) + np.cross(axis, first) * np.sin(turn)


def _hanging(look: Look, tie: np.ndarray, layer: np.ndarray, steps: int, rng) -> np.ndarray:
    """Locks [K, N, 3] of a tail that rises a little from the tie, then falls, widest in its middle."""
    share = np.linspace(0, 1, steps)[:, None]
    spread = rng.normal(0, 0.006, (len(layer), 3))
    wide = 1 + 2.2 * np.sin(np.pi * np.clip(share * 0.9, 0, 1))
    length = (tie[1] - look.hair_end) * rng.uniform(0.85, 1.05, len(layer))
    away = 0.035 * np.sin(np.pi * np.clip(share * 1.3, 0, 1)) + 0.012 * np.sqrt(share)
    return np.stack([tie[0] + spread[:, 0] * wide + 0.4 * look.part * share**2, tie[1] + spread[:, 1] - length * share**1.2,
                     tie[2] - away + spread[:, 2] * wide], 2)


def _ribbons(path: np.ndarray, out: np.ndarray, layer: np.ndarray, look: Look, rng) -> Curtain:
    """Lay a ribbon along each lock of `path` [K, N, 3].

    `out` [K, N, 3] is where its broad side faces, `layer` [N] in [0, 1] how far out it lies.
    """
    steps, count = path.shape[:2]
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=2, keepdims=True), 1e-9)
    beside = np.cross(along, out) + 0.3 * rng.normal(0, 1, (1, count, 3))
    beside /= np.maximum(np.linalg.norm(beside, axis=2, keepdims=True), 1e-6)
    share = np.linspace(0, 1, steps)[:, None]
    width = look.lock_width * rng.uniform(0.7, 1.3, count) * (0.75 + 0.25 * smoothstep(share, 0, 0.2)) * (1 - 0.65 * share**2)
    points = np.stack([path - 0.5 * width[..., None] * beside, path + 0.5 * width[..., None] * beside], 2)  # [K, N, 2, 3]
    u0 = rng.random(count)
    u = np.stack([np.broadcast_to(u0, width.shape), np.broadcast_to(u0 + look.lock_width / 0.15, width.shape)], 2)
    arc = np.cumsum(np.linalg.norm(np.diff(path, axis=0, prepend=path[:1]), axis=2), 0)
    v = np.broadcast_to((arc * 0.9 + rng.random(count))[..., None], u.shape)
    cover = np.broadcast_to((1.0 - 0.62 * smoothstep(share, 0.45, 1.0))[..., None], u.shape)
    attributes = np.stack([u, v, cover], -1).reshape(-1, 3)
    index = np.arange(steps * count * 2).reshape(steps, count, 2)
    a, b, c, d = (x.reshape(-1) for x in (index[:-1, :, 0], index[1:, :, 0], index[1:, :, 1], index[:-1, :, 1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    flow = np.repeat(along[:, :, None], 2, 2).reshape(-1, 3)
    level = np.tile(np.broadcast_to(rng.uniform(0.14, 0.42, count), (steps - 1, count)).reshape(-1), 2)
    tone = 0.15 + 0.45 * layer[None] * np.ones((steps - 1, 1)) + 0.4 * share[1:] * np.ones((1, count))
    lit = (0.40 + 0.55 * layer)[None, :, None] * np.ones((steps, 1, 2))
    normals = out + 0.25 * rng.normal(0, 1, (1, count, 3))
    normals = np.repeat((normals / np.linalg.norm(normals, axis=2, keepdims=True))[:, :, None], 2, 2).reshape(-1, 3)
    return Curtain(points.reshape(-1, 3).astype(np.float32), faces, attributes[faces], level, flow.astype(np.float32),
                   normals.astype(np.float32), np.tile(np.clip(tone, 0, 1).reshape(-1), 2), lit.reshape(-1),
                   np.tile(np.broadcast_to(rng.random(count) < 0.6, (steps - 1, count)).reshape(-1), 2))

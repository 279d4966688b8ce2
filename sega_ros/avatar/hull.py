"""Sides and back of the hair: a closed surface around the skull, coloured with the hair that the photo shows.

In polar coordinates about the skull's centre (the axis points to the camera): the mesh gives the skull's radius, the silhouette
of the hair its thickness at 90 degrees, which passes to the mean thickness at the back. Where the photo sees hair at a flat angle
or not at all, its picture is continued by reflection: texture stays texture, where stretching would give streaks.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from sega_ros.avatar.curtain import hanging_arcs
from sega_ros.avatar.relief import HANG_AHEAD, LOBE
from sega_ros.camera import project
from sega_ros.head.model import HeadModel
from sega_ros.types import Camera, Region

_SECTORS = 180  # of the silhouette, two degrees each
_START, _TURN = np.radians(42), np.radians(58)  # angle to the axis where the hull begins, and where colours turn back
_OWN = np.radians([55, 88])  # between these the hull leaves the relief
_SIDE, _BACK = np.radians(100), np.radians(165)  # between them the thickness passes from the silhouette's to the mean
_SHOWN = np.radians(12)  # width of a sector's hair that is enough to colour the rest of it
_STEP = 4.2  # crop pixels between splats
_INSET = 1.0  # crop pixels that the hull stays inside of the silhouette, behind the relief
_BEHIND = 0.002  # metres
_BARY = np.array([[a, b, 3 - a - b] for a in range(4) for b in range(4 - a)]) / 3  # corners, thirds of the edges, middle
_APART = 0.06  # radians to the nearest point of the scalp from which a direction misses the scalp
_NAPE = (-0.075, -0.03)  # heights (metres over the head's origin) between which short hair runs out
# Hair that stands this far off the mesh (metres) may fall over ears, jaw and neck too, behind the part that the photo shows.
_LONG, _FALLS = 0.012, np.radians(75)
_FALLS_FROM = 0.0  # height over the head's origin below which long hair falls behind, not along the neck, metres
_SHADE, _EVENING = 10.0, 0.7  # crop pixels over which hair is shaded, and how much of that the hull leaves out
_HAIRLINE = 0.4  # of the head's radius: as far as that from hair, what the photo shows as skin is haired at the sides


@dataclass(frozen=True)
class Hull:
    """Points of the hull, camera frame."""

    means: np.ndarray  # [N, 3] metres
    normals: np.ndarray  # [N, 3] outward
    spacing: np.ndarray  # [N] metres to the neighbours
    colors: np.ndarray  # [N, 3]
    front: np.ndarray  # [N] bool: under the hair that the photo shows

    def __len__(self) -> int:
        return len(self.means)


@dataclass(frozen=True)
class _Silhouette:
    """The hair's outline in polar coordinates about `centre`, per sector of azimuth (from +x towards +y)."""

    centre: np.ndarray  # [2] pixels
    outer: np.ndarray  # [K] pixels to the outermost hair; where there is none, what its neighbours suggest
    inner: np.ndarray  # [K] pixels to where that hair begins
    thickness: np.ndarray  # [K] pixels of hair beside the mesh
    found: np.ndarray  # [K] bool


def build_hull(
    head: HeadModel, vertices: np.ndarray, centre: np.ndarray, camera: Camera, hair: np.ndarray, color: np.ndarray,
    depth: np.ndarray, skin: np.ndarray | None = None, fallen: np.ndarray | None = None,
) -> Hull | None:
    """Wrap the skull in hair; None when the photo shows none.

    Args:
        head: head model.
        vertices: [V, 3] mesh at the photo's pose, head frame.
        centre: [3] centre of the skull, head frame.
        camera: the photo's.
        hair: [H, W] bool, pixels that show hair.
        color: [H, W, 3] foreground colours.
        depth: [H, W] camera z of the hair in front, metres.
        fallen: [H, W] bool, pixels that show hair over the shoulders.
        skin: [H, W] bool, pixels of `hair` that show it, as at a receding hairline: beside hair, its colour goes on instead.
    """
    skull = _Skull(head, vertices, centre, camera)
    silhouette = _silhouette(skull, hair)
    if silhouette is None:
        return None
    directions = _sphere(4 * np.pi * (skull.radius / skull.metre / _STEP) ** 2)
    alpha, phi = np.arccos(np.clip(-directions[:, 2], -1, 1)), np.arctan2(directions[:, 1], directions[:, 0])
    keep = alpha > _START
    directions, alpha, phi = directions[keep], alpha[keep], phi[keep]
    bare, scalp = skull(directions)
    thickness = _thickness(silhouette, alpha, phi) * skull.metre
    height = skull.heights(skull.middle + bare[:, None] * directions)
    short = np.clip((height - _NAPE[0]) / (_NAPE[1] - _NAPE[0]), 0, 1)
    shown = _lookup(gaussian_filter1d(silhouette.found.astype(float), 6, mode='wrap'), phi)  # no shelf where hair ends
    long = (thickness > _LONG) & (shown > 0.5)
    thickness = shown * np.where(long, thickness, thickness * short) + (1 - shown) * np.minimum(thickness, _LONG) * short
    means = skull.middle + (bare + thickness)[:, None] * directions
    means, over_hair = _join_relief(means, alpha, phi, silhouette, camera, hair, depth)
    falls = long & (skull.heights(means) > _lowest(skull, hair))
    covered = over_hair | (alpha > _FALLS) & (falls | scalp & ~skull.beside_ears(means))
    if covered.sum() < 50:
        return None
    means, alpha, phi = means[covered], alpha[covered], phi[covered]
    normals, spacing = _surface(means, skull.middle)
    colors = _colors(alpha, phi, silhouette, hair, _evened(color, hair), skin)
    hull = Hull(means, normals, spacing, colors, over_hair[covered])
    return _hung(hull, alpha > _FALLS, skull, camera, hair if fallen is None else hair | fallen, color)


def _hung(hull: Hull, behind: np.ndarray, skull: '_Skull', camera: Camera, hair: np.ndarray, color: np.ndarray) -> Hull:
    """Let hair below the ears hang: there, arcs of `hanging_arcs` take the place of the hull's points `behind` [N]."""
    height = skull.heights(hull.means)
    at_ears = np.abs(height - _FALLS_FROM) < 0.02
    if not at_ears.any():
        return hull
    depth = float(np.quantile(hull.means[at_ears, 2] - skull.middle[2], 0.98))
    rows = skull.heights(skull.middle + np.c_[0, 1, 0] * (np.arange(len(hair))[:, None] - skull.pixel[1]) * skull.metre)
    top, last = int(np.argmax(rows < _FALLS_FROM)), np.flatnonzero(hair.any(1))[-1] + 1
    if depth < 0.03 or np.argmax(rows < LOBE) >= last:
        return hull
    means, normals, colors = hanging_arcs(hair, color, camera, skull.middle, HANG_AHEAD, depth, top, last, _STEP)
    if not len(means):
        return hull
    sides = [s for s in (-1, 1) if (np.sign(means[:, 0] - skull.middle[0]) == s).any()]
    keep = ~(behind & (height < _FALLS_FROM) & np.isin(np.sign(hull.means[:, 0] - skull.middle[0]), sides))
    spacing, front = np.full(len(means), _STEP * skull.metre), np.zeros(len(means), bool)
    return Hull(*(np.concatenate([a[keep], b]) for a, b in (
        (hull.means, means), (hull.normals, normals), (hull.spacing, spacing), (hull.colors, colors), (hull.front, front))))


class _Skull:
    """The mesh as a radius over directions, in the camera's axes."""

    def __init__(self, head: HeadModel, vertices: np.ndarray, centre: np.ndarray, camera: Camera):
        self.rotation, self.translation = camera.viewmat[:3, :3].astype(np.float64), camera.viewmat[:3, 3].astype(np.float64)
        self.middle = self.rotation @ centre + self.translation
        self.pixel = project(centre[None], camera)[0][0]
        self.metre = float(self.middle[2] / camera.fx)
        self._parts = [self._part(head, vertices, kinds) for kinds in ((Region.SCALP,), (Region.FACE, Region.NECK))]
        self.radius = float(np.median(self._parts[0][1]))
        ears = vertices[np.unique(head.faces[head.face_region == Region.EARS])]
        self._ears = (float(ears[:, 1].max()), float(ears[:, 2].mean())) if len(ears) else (-1.0, 0.0)

    def _part(self, head: HeadModel, vertices: np.ndarray, kinds: tuple[int, ...]) -> tuple[cKDTree, np.ndarray]:
        corners = vertices[head.faces[np.isin(head.face_region, kinds)]]  # [F, 3, 3]
        points = np.einsum('kc,fcd->fkd', _BARY, corners).reshape(-1, 3)  # the scalp's triangles are large
        offset = points @ self.rotation.T + self.translation - self.middle
        radius = np.linalg.norm(offset, axis=1)
        return cKDTree(offset / radius[:, None]), radius

    def __call__(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Radius [N] of the mesh along unit `directions` [N, 3], and whether the scalp lies there [N].

        The scalp first: seen from its middle the jaw lies before the neck, and their mean would be neither.
        """
        radius, distance = _nearby(self._parts[0], directions)
        scalp = distance < _APART
        radius[~scalp] = _nearby(self._parts[1], directions[~scalp])[0]
        return radius, scalp

    def beside_ears(self, points: np.ndarray) -> np.ndarray:
        """Which points [N, 3] (camera frame) lie below the ears' top and before their middle: there a cheek begins."""
        own = self._to_head(points)
        return (own[:, 1] < self._ears[0]) & (own[:, 2] > self._ears[1])

    def heights(self, points: np.ndarray) -> np.ndarray:
        """Height [N] over the head's origin of points [N, 3] in the camera's frame, metres."""
        return self._to_head(points)[:, 1]

    def _to_head(self, points: np.ndarray) -> np.ndarray:
        return (points - self.translation) @ self.rotation


def _nearby(part: tuple[cKDTree, np.ndarray], directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean radius [N] of the points of `part` nearest to unit `directions` [N, 3], and the distance [N] to the first of them."""
    tree, radius = part
    distance, index = tree.query(directions, 6)
    weight = 1 / (distance + 1e-3) ** 2
    return (radius[index] * weight).sum(1) / weight.sum(1), distance[:, 0]


def _silhouette(skull: _Skull, hair: np.ndarray) -> _Silhouette | None:
    height, width = hair.shape
    azimuth = (np.arange(_SECTORS) + 0.5) * 2 * np.pi / _SECTORS - np.pi
    ring = np.stack([np.cos(azimuth), np.sin(azimuth)], -1)
    reach = np.arange(int(np.hypot(height, width)))
    at = (skull.pixel + reach[None, :, None] * ring[:, None]).astype(int)  # [K, R, 2]
    on_picture = ((at >= 0) & (at < [width, height])).all(-1)
    at = np.clip(at, 0, [width - 1, height - 1])
    shown = hair[at[..., 1], at[..., 0]] & on_picture
    bare = np.max([skull(np.c_[np.sin(a) * ring, np.full(_SECTORS, -np.cos(a))])[0] * np.sin(a)
                   for a in np.radians([70, 80, 90, 100, 110])], 0) / skull.metre
    found, outer, inner = np.zeros(_SECTORS, bool), np.zeros(_SECTORS), np.zeros(_SECTORS)
    for k, row in enumerate(shown):
        runs = np.flatnonzero(row)
        if not len(runs) or runs[-1] < 0.85 * bare[k]:
            continue
        start = np.flatnonzero(np.diff(runs) > 4)
        first = runs[start[-1] + 1] if len(start) else runs[0]
        found[k], outer[k], inner[k] = runs[-1] - first > 2, runs[-1], first
    if found.sum() < _SECTORS // 12:
        return None
    thickness = _spread(outer - bare, found)
    thickness = np.clip(gaussian_filter1d(thickness, 1.5, mode='wrap'), 0.0, None)
    return _Silhouette(skull.pixel, np.where(found, outer, bare + thickness), _spread(inner, found), thickness, found)


def _spread(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Interpolate `values` [K] around the circle from where they were found."""
    at = np.flatnonzero(found)
    return np.interp(np.arange(len(values)), at, values[at], period=len(values))


def _lookup(values: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Per-sector `values` [K] at azimuths `phi` [N], linear."""
    at = (phi + np.pi) * len(values) / (2 * np.pi) - 0.5
    return np.interp(at, np.arange(len(values)), values, period=len(values))


def _thickness(silhouette: _Silhouette, alpha: np.ndarray, phi: np.ndarray) -> np.ndarray:
    share = np.clip((alpha - _SIDE) / (_BACK - _SIDE), 0, 1)
    share = share * share * (3 - 2 * share)
    upper = silhouette.found & (np.arange(_SECTORS) < _SECTORS // 2)  # image y points down: what hangs beside the face is no part
    mean = np.median(silhouette.thickness[upper if upper.any() else silhouette.found])
    return (1 - share) * _lookup(silhouette.thickness, phi) + share * mean


def _join_relief(
    means: np.ndarray, alpha: np.ndarray, phi: np.ndarray, silhouette: _Silhouette, camera: Camera, hair: np.ndarray,
    depth: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Let points [N, 3] (camera frame) start under the hair in front and stay inside of the outline; say which lie under it [N].

    `hair` and `depth` [H, W] are the relief's.
    """
    focal, middle, size = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy]), hair.shape[::-1]
    # Where the hull begins it follows the relief, however thick that is; towards the side it finds its own way.
    share = np.clip((_OWN[1] - alpha) / (_OWN[1] - _OWN[0]), 0, 1)
    outer = _lookup(silhouette.outer, phi) - _INSET
    pixels = silhouette.centre + (outer * np.sin(np.minimum(alpha, np.pi / 2)))[:, None] * np.c_[np.cos(phi), np.sin(phi)]
    own = means[:, :2] * focal / means[:, 2:] + middle - silhouette.centre
    limit = _lookup(silhouette.outer, np.arctan2(own[:, 1], own[:, 0])) - _INSET
    own = silhouette.centre + own * np.minimum(1, limit / (np.linalg.norm(own, axis=1) + 1e-9))[:, None]
    pixels = share[:, None] * pixels + (1 - share[:, None]) * own
    col, row = np.clip(pixels.astype(int), 0, np.array(size) - 1).T
    front = hair[row, col] & ((pixels >= 0) & (pixels < size)).all(1)
    pixels = np.where(front[:, None], pixels, own)
    under = depth[row, col] + _BEHIND
    z = np.where(front, np.maximum(share * under + (1 - share) * means[:, 2], under), means[:, 2])
    return np.c_[(pixels - middle) / focal * z[:, None], z], front


def _lowest(skull: _Skull, hair: np.ndarray) -> float:
    """Height to which long hair falls, metres."""
    rows = np.flatnonzero(hair.any(1))
    return float(skull.heights(skull.middle + np.array([[0, (rows[-1] - skull.pixel[1]) * skull.metre, 0]]))[0])


def _colors(
    alpha, phi, silhouette: _Silhouette, hair: np.ndarray, color: np.ndarray, skin: np.ndarray | None,
) -> np.ndarray:
    """Colours [N, 3]: the photo's at a reflected place that it shows at a good angle."""
    sine = np.clip(silhouette.inner / silhouette.outer, 0, 0.98)
    edge = np.arcsin(sine)  # where a sector's hair begins, as an angle to the axis
    wide = silhouette.found & (_TURN - edge > _SHOWN)
    if not wide.any():
        wide = silhouette.found & (edge <= np.median(edge[silhouette.found]))
    sector = ((phi + np.pi) * _SECTORS / (2 * np.pi)).astype(int) % _SECTORS
    sector = _reflect_sectors(wide)[sector]
    low, high = edge[sector] + np.radians(2), np.maximum(_TURN, edge[sector] + _SHOWN)
    turned = high - np.abs((alpha - low) % (2 * (high - low)) - (high - low))
    rho = silhouette.outer[sector] * np.sin(np.minimum(turned, np.pi / 2))
    azimuth = (sector + np.random.default_rng(0).random(len(sector))) * 2 * np.pi / _SECTORS - np.pi
    x, y = (silhouette.centre + rho[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth)], -1)).T
    # A place beside the hair (its outline is not star-shaped) takes the nearest hair.
    out = _nearest_color(hair, color, x, y)[0]
    if skin is not None and (hair & ~skin).any():
        hairy, distance = _nearest_color(hair & ~skin, color, x, y)
        near = distance < _HAIRLINE * silhouette.outer[sector]
        out[near] = hairy[near]
    return out


def _evened(color: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Colours [H, W, 3] whose shades over many pixels are weaker where `hair` [H, W] is: reflected, they would be stains."""
    import cv2

    weight = hair.astype(np.float32)
    blurred = [cv2.GaussianBlur(np.float32(a), (0, 0), _SHADE) for a in (weight[..., None] * color, weight)]
    shade = blurred[0] / np.maximum(blurred[1], 1e-3)[..., None]
    even = np.clip(color + _EVENING * (np.median(shade[hair], 0) - shade), 0, 1)
    return np.where(hair[..., None], even, color).astype(color.dtype)


def _nearest_color(mask: np.ndarray, color: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours [N, 3] of the pixels of `mask` [H, W] nearest to points [N], and how far off these are."""
    rows, cols = np.nonzero(mask)
    distance, nearest = cKDTree(np.c_[cols, rows]).query(np.c_[x, y])
    return color[rows[nearest], cols[nearest]], distance


def _reflect_sectors(wide: np.ndarray) -> np.ndarray:
    """Sector [K] whose colours each sector takes: its own where `wide`, else its mirror image at the nearest wide one."""
    count = len(wide)
    at = np.flatnonzero(wide)
    out = np.arange(count)
    for k in np.flatnonzero(~wide):
        away = (at - k + count // 2) % count - count // 2
        step = away[np.abs(away).argmin()]
        mirrored = (k + 2 * step) % count
        out[k] = mirrored if wide[mirrored] else (k + step) % count
    return out


def _surface(means: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outward normals [N, 3] and spacing [N] of a cloud of surface points."""
    distance, index = cKDTree(means).query(means, 9)
    near = means[index] - means[index].mean(1, keepdims=True)
    normals = np.linalg.svd(near, full_matrices=False)[2][:, 2]
    outward = means - middle
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    normals *= np.sign((normals * outward).sum(1, keepdims=True) + 1e-12)
    flat = (normals * outward).sum(1) < 0.3  # a corner of the cloud: the direction serves better
    normals[flat] = outward[flat]
    spacing = np.median(distance[:, 1:7], axis=1)
    return normals, np.minimum(spacing, 2 * np.median(spacing))


def _sphere(count: float) -> np.ndarray:
    """About `count` unit vectors [N, 3], evenly spread (golden spiral)."""
    k = np.arange(int(count)) + 0.5
    z, turn = 1 - 2 * k / int(count), k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], -1)

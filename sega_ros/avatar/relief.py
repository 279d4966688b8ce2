"""Depth of the person in the photo beside the head mesh: a relief of the matte.

Its depth is z = ring - sqrt(q), where q solves a Poisson equation that is zero on the silhouette and meets the mesh where it
ends. For a circle this is exactly a sphere, so hair gets a round volume without a model of it.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy import ndimage
from scipy.sparse.linalg import spsolve

from sega_ros.avatar.photo import Photo
from sega_ros.camera import unproject
from sega_ros.head.model import HeadModel
from sega_ros.raster import TriangleBuffer
from sega_ros.types import Camera, Region

_CELL = 4  # crop pixels per cell of the grid the depth is solved on
_ROUND_HEAD, _ROUND_TORSO, _ROUND_HANGING = 1.0, 0.2, 0.2  # depth of the relief: 1 is a sphere, a torso is flatter
_HAIR_THICKNESS = 0.008  # metres over the scalp, where nothing else is known
_OVER_SCALP, _OVER_EARS = 0.05, 0.5  # weights of it
# Hair's outline lies before the skull's centre, as it covers the temples; where long hair hangs further, fully under the second
# of the heights.
_AHEAD, HANG_AHEAD, _HANG_FROM, _HANG_FULL = 0.03, 0.05, 0.08, 0.02  # metres
_HANGING_PIXELS = 0.008  # share of the crop that a side's hanging hair covers at least
_ASIDE = 0.02, 0.06  # metres from the middle between which it comes to bear: a chest has no step there
# Metres of hair at the outline from which it stands off the hairline; the share of the rest by which; its limit.
_FLAT, _VOLUME, _MAX_VOLUME = 0.012, 1.0, 0.05
_STANDS = 0.05, 0.10  # heights (metres over the head's origin) between which it comes to do so
_FALLEN_BLUR = 1.0  # cells over which a fallen strand passes to the torso
LOBE = -0.03  # height of the ears' lower end, metres
# Height over the head's origin (metres, FLAME's frame) between which the shell passes from the head's to the torso's motion.
TORSO_BLEND = (-0.13, -0.07)


@dataclass(frozen=True)
class Relief:
    """The person beside the mesh, pixel by pixel of the crop."""

    depth: np.ndarray  # [H, W] camera z, metres
    torso: np.ndarray  # [H, W] share of the torso
    person: np.ndarray  # [H, W] bool
    height: np.ndarray  # [H, W] over the head's origin at the ring's depth, metres


def solve_relief(
    head: HeadModel, photo: Photo, camera: Camera, buffer: TriangleBuffer, mesh: np.ndarray, hair: np.ndarray, fallen: np.ndarray,
) -> Relief:
    """Solve for the relief of `photo` around the pixels `mesh` [H, W] that show the head mesh (`buffer`).

    Pixels `hair` [H, W] below the ears hang from those above, whatever the depth of jaw and neck beside them; likewise
    `fallen` [H, W] before the shoulders.
    """
    import cv2

    size = photo.alpha.shape[0] // _CELL
    def shrink(a):
        return cv2.resize(a.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)

    person = shrink(photo.alpha) > 0.4
    person_full = photo.alpha > 0.03
    ring_head = _ring(head, camera)
    joint = (head.J_regressor @ head.v_template)[1] + [0, -0.06, -0.01]
    ring_neck = float((camera.viewmat[:3, :3] @ joint + camera.viewmat[:3, 3])[2])
    height, torso = picture_heights(head, camera)
    torso_small = shrink(torso)
    ahead = shrink(hang_ahead(hair, height))
    behind = torso_small * (1 - cv2.GaussianBlur(shrink(fallen), (0, 0), _FALLEN_BLUR))
    ring = ring_head + (ring_neck - ring_head) * behind - np.maximum(ahead, _AHEAD * np.clip(shrink(height) / -LOBE + 1, 0, 1))
    # The mesh gives the depth where it is seen; scalp only softly, as the hair's thickness over it is unknown.
    depth = cv2.resize(np.where(np.isfinite(buffer.depth), buffer.depth, ring_head), (size, size),
                       interpolation=cv2.INTER_NEAREST)
    on_mesh = (shrink(mesh & (photo.alpha > 0.5)) > 0.5) & person
    scalp = (shrink((buffer.face >= 0) & ~mesh) > 0.5) & person & (torso_small < 0.5)
    cell = ring_head / camera.fx * _CELL  # metres
    flat = np.maximum(torso_small, np.clip((ahead - _AHEAD) / (HANG_AHEAD - _AHEAD), 0, 1))
    roundness = _ROUND_HEAD + (np.where(ahead > _AHEAD, _ROUND_HANGING, _ROUND_TORSO) - _ROUND_HEAD) * flat
    source = 4 * roundness * cell**2
    stands = shrink(_stands_off(hair, buffer, height))
    fixed = np.maximum(ring - depth - 0.002 + stands, 0) ** 2
    soft = np.maximum(ring - depth + _HAIR_THICKNESS + stands, 0) ** 2
    ears = shrink((region_of(head, buffer) == Region.EARS) & hair) > 0.5
    weight = np.where(ears, _OVER_EARS, np.where(scalp, _OVER_SCALP, 0.0))
    hanging = (shrink(hair) > 0.5) & (shrink(height) < LOBE)
    q = _poisson(person, on_mesh, fixed, source, soft, weight, hanging)
    def grow(a):
        return cv2.resize(a.astype(np.float32), photo.alpha.shape[::-1], interpolation=cv2.INTER_LINEAR)

    ring_full = grow(ring)
    # Inside of the silhouette's last cell the linear interpolation of q keeps the square root's round edge.
    return Relief(ring_full - np.sqrt(np.maximum(grow(q), 0)), torso, person_full, height)


def head_centre(head: HeadModel) -> np.ndarray:
    """Centre of the skull [3], head frame: half of the crown's height, the middle of the scalp's depth."""
    scalp = head.v_template[np.unique(head.faces[head.face_region == Region.SCALP])]
    return np.array([0.0, scalp[:, 1].max() / 2, (scalp[:, 2].min() + scalp[:, 2].max()) / 2])


def hang_ahead(hair: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Metres [H, W] by which the outline lies before the skull's centre where hair falls beside the ears, each side by itself."""
    out = np.zeros(hair.shape, np.float32)
    hanging = hair & (height < LOBE)
    middle = hair.shape[1] // 2
    aside = np.abs(np.arange(hair.shape[1]) + 0.5 - middle) * _metre(height)
    share = np.clip((aside - _ASIDE[0]) / (_ASIDE[1] - _ASIDE[0]), 0, 1)
    falls = _AHEAD + (HANG_AHEAD - _AHEAD) * _rise(height, _HANG_FROM, _HANG_FULL)
    for side in (np.s_[:, :middle], np.s_[:, middle:]):
        if hanging[side].sum() > _HANGING_PIXELS * hair.size:
            out[side] = (share * falls)[side]
    return out


def _stands_off(hair: np.ndarray, buffer: TriangleBuffer, height: np.ndarray) -> np.ndarray:
    """Metres [H, W] by which voluminous hair stands off the skin where it begins: as it does at the outline over the ears."""
    above, mesh = height > _STANDS[1], buffer.face >= 0
    edge = mesh & above & ~ndimage.binary_erosion(mesh)
    thickness = _metre(height) * (hair & above & ~mesh).sum() / max(1, edge.sum())
    return (np.clip(_VOLUME * (thickness - _FLAT), 0, _MAX_VOLUME) * _rise(height, *_STANDS)).astype(np.float32)


def _metre(height: np.ndarray) -> float:
    """Metres of one pixel of a picture of heights [H, W]."""
    return abs(float(height[1].mean() - height[0].mean()))


def _rise(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Smooth step from 0 at `start` to 1 at `end`."""
    x = np.clip((x - start) / (end - start), 0, 1)
    return x * x * (3 - 2 * x)


def _ring(head: HeadModel, camera: Camera) -> float:
    """Depth in `camera` of the skull's centre, metres."""
    return float((camera.viewmat[:3, :3] @ head_centre(head) + camera.viewmat[:3, 3])[2])


def picture_heights(head: HeadModel, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Height [H, W] over the head's origin of each pixel of `camera` at the skull's depth (metres); its share of the torso."""
    height = _heights((camera.height, camera.width), camera, _ring(head, camera))
    return height, _rise(height, TORSO_BLEND[1], TORSO_BLEND[0]).astype(np.float32)


def region_of(head: HeadModel, buffer: TriangleBuffer) -> np.ndarray:
    """Region [H, W] of the mesh at each pixel; 0 where there is none."""
    return np.where(buffer.face >= 0, head.face_region[np.maximum(buffer.face, 0)], 0)


def _heights(shape, camera: Camera, depth: float) -> np.ndarray:
    """Height [H, W] over the head's origin of each pixel of a picture [H, W] at a camera depth, metres."""
    rows, cols = np.mgrid[:shape[0], :shape[1]] + 0.5
    return unproject(np.stack([cols, rows], -1), np.full(shape, depth), camera)[..., 1]


def _poisson(inside, fixed, value, source, soft, weight, hanging) -> np.ndarray:
    """Solve lap q = -source on `inside` [H, W]: q = value where fixed, 0 outside, free at the picture's border.

    Towards `soft` it is pulled by `weight`; cells `hanging` do not feel those that are fixed.
    """
    height, width = inside.shape
    free = inside & ~fixed
    number = np.full(inside.shape, -1)
    number[free] = np.arange(free.sum())
    rows, cols = np.nonzero(free)
    diagonal, rhs = weight[free].astype(np.float64), (source + weight * soft)[free].astype(np.float64)
    i, j = [], []
    for dr, dc in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        r, c = rows + dr, cols + dc
        ok = (r >= 0) & (r < height) & (c >= 0) & (c < width)  # beyond the picture: no flux
        ok[ok] &= ~(hanging[rows[ok], cols[ok]] & fixed[r[ok], c[ok]] & inside[r[ok], c[ok]])
        diagonal += ok
        r, c = r[ok], c[ok]
        own = number[rows[ok], cols[ok]]
        neighbour = number[r, c]
        rhs += np.bincount(own, np.where(fixed[r, c] & inside[r, c], value[r, c], 0.0), len(rhs))
        linked = neighbour >= 0
        i.append(own[linked])
        j.append(neighbour[linked])
    q = np.zeros(inside.shape)
    if len(rows):
        i, j = np.concatenate(i), np.concatenate(j)
        matrix = sp.diags(diagonal + 1e-9) - sp.csr_matrix((np.ones(len(i)), (i, j)), shape=(len(rows),) * 2)
        q[free] = spsolve(matrix.tocsc(), rhs)
    q[fixed & inside] = value[fixed & inside]
    return q

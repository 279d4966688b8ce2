"""Hair and bust: what the photo shows of a person beside the head mesh, as splats with a plausible depth.

The front is a relief: the pixels of the matte, at a depth z = ring - sqrt(q), where q solves a Poisson equation that is zero on
the silhouette and meets the mesh where it ends. For a circle this is exactly a sphere, so hair gets a round volume without a
model of it. The back of the head is the same construction turned around, coloured as the hair in front of it.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import spsolve

from sega_ros.avatar.avatar import Shell
from sega_ros.avatar.photo import Photo
from sega_ros.camera import unproject
from sega_ros.geometry import rotmat_to_unitquat
from sega_ros.head.model import HeadModel
from sega_ros.raster import TriangleBuffer
from sega_ros.types import Camera, Region, Splats

_CELL = 4  # crop pixels per cell of the grid the depth is solved on
_ROUND_HEAD, _ROUND_TORSO = 1.0, 0.2  # depth of the relief: 1 is a sphere, a torso is flatter
_HAIR_STEP, _BACK_STEP, _BUST_STEP = 3.0, 6.0, 4.2  # crop pixels between splats
_INSET, _RIM_STEPS = 8.0, 7  # crop pixels from the silhouette that the rim closes, and splats across it
_OVERLAP = 2  # crop pixels the shell reaches under the edge of the mesh
_MESH_REGIONS = (Region.FACE, Region.MOUTH, Region.TEETH, Region.EYES, Region.EYELIDS, Region.EARS, Region.NECK)
FADE = (-0.35, -0.05)  # cosines between which a splat that turns away vanishes; hair is softer than skin
_HAIR_THICKNESS = 0.008  # metres over the scalp, where nothing else is known
# Height over the head's origin (metres, FLAME's frame) between which the shell passes from the head's to the torso's motion.
TORSO_BLEND = (-0.13, -0.07)
_EARS = 0.0  # height above which hair is looked for: what lies lower beside the face may be ear or neck
NECK_CUT = -0.135  # mesh below it is left to the bust


@dataclass(frozen=True)
class _Relief:
    depth: np.ndarray  # [H, W] camera z, metres
    back: np.ndarray  # [H, W] camera z of the far side
    torso: np.ndarray  # [H, W] share of the torso
    person: np.ndarray  # [H, W] bool
    height: np.ndarray  # [H, W] over the head's origin at the ring's depth, metres


def mesh_mask(head: HeadModel, buffer: TriangleBuffer) -> np.ndarray:
    """Pixels [H, W] that the mesh itself paints: skin, eyes and mouth, but neither scalp nor the cut end of the neck."""
    region = np.where(buffer.face >= 0, head.face_region[np.maximum(buffer.face, 0)], 0)
    height = buffer.interpolate(head.v_template, head.faces)[..., 1]
    return np.isin(region, _MESH_REGIONS) & ~((region == Region.NECK) & (height < NECK_CUT))


def build_shell(head: HeadModel, vertices: np.ndarray, photo: Photo, camera: Camera, buffer: TriangleBuffer) -> Shell:
    """Make the shell of a photo.

    Args:
        head: head model.
        vertices: [V, 3] mesh at the photo's pose.
        photo: crop with matte.
        camera: its camera.
        buffer: z-buffer of the mesh.
    """
    import cv2

    mesh = mesh_mask(head, buffer)
    relief = _solve_relief(head, vertices, photo, camera, buffer, mesh)
    solid = mesh & (photo.alpha > 0.9)
    torso = relief.torso > 0.5
    # Under the edge of the face the hair goes on; the bust does not: it moves, and skin would come out from under the neck.
    inside = cv2.erode(solid.astype(np.uint8), np.ones((2 * _OVERLAP + 1,) * 2, np.uint8)) > 0
    front = relief.person & ~np.where(torso, solid, inside)
    parts = [
        _sheet(front & ~torso, _HAIR_STEP, relief.depth, relief, photo.color, photo.alpha, camera, outward=-1),
        _sheet(front & torso, _BUST_STEP, relief.depth, relief, photo.color, photo.alpha, camera, outward=-1),
    ]
    back = (photo.alpha > 0.6) & (relief.torso < 0.02) & relief.person
    hair = photo.color
    if back.any():
        hair = _hair_colors(photo, mesh, back, relief.height > _EARS)
        parts.append(_sheet(back, _BACK_STEP, relief.back, relief, hair, np.ones_like(photo.alpha), camera, outward=1))
    if (photo.alpha > 0.5).any():
        parts.append(_rim(photo, relief, hair, camera))
    return _join(parts)


def _hair_colors(photo: Photo, mesh: np.ndarray, back: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Colour picture [H, W, 3] for the back of the head: the nearest hair pixel's, looked for `above` the ears."""
    import cv2

    solid = back & (photo.alpha > 0.95)
    hair = solid & ~mesh & above
    if hair.sum() < 200:  # bald, or cropped tightly: the skin serves
        hair = solid
    _, label = cv2.distanceTransformWithLabels((~hair).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    lookup = np.zeros((label.max() + 1, 3), np.float32)
    lookup[label[hair]] = photo.color[hair]
    return cv2.GaussianBlur(lookup[label], (0, 0), 1.5)


def _solve_relief(head, vertices, photo, camera, buffer, mesh) -> _Relief:
    import cv2

    size = photo.alpha.shape[0] // _CELL
    def shrink(a):
        return cv2.resize(a.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)

    person = shrink(photo.alpha) > 0.4
    person_full = photo.alpha > 0.03
    center = head_centre(head)
    ring_head = float((camera.viewmat[:3, :3] @ center + camera.viewmat[:3, 3])[2])
    joint = (head.J_regressor @ head.v_template)[1] + [0, -0.06, -0.01]
    ring_neck = float((camera.viewmat[:3, :3] @ joint + camera.viewmat[:3, 3])[2])
    height = _heights(photo.alpha.shape, camera, ring_head)
    x = np.clip((height - TORSO_BLEND[1]) / (TORSO_BLEND[0] - TORSO_BLEND[1]), 0, 1)
    torso = (x * x * (3 - 2 * x)).astype(np.float32)
    torso_small = shrink(torso)
    ring = ring_head + (ring_neck - ring_head) * torso_small
    # The mesh gives the depth where it is seen; scalp only softly, as the hair's thickness over it is unknown.
    depth = cv2.resize(np.where(np.isfinite(buffer.depth), buffer.depth, ring_head), (size, size),
                       interpolation=cv2.INTER_NEAREST)
    on_mesh = (shrink(mesh & (photo.alpha > 0.5)) > 0.5) & person
    scalp = (shrink((buffer.face >= 0) & ~mesh) > 0.5) & person & (torso_small < 0.5)
    cell = ring_head / camera.fx * _CELL  # metres
    roundness = _ROUND_HEAD + (_ROUND_TORSO - _ROUND_HEAD) * torso_small
    source = 4 * roundness * cell**2
    fixed = np.maximum(ring - depth - 0.002, 0) ** 2
    soft = np.maximum(ring - depth + _HAIR_THICKNESS, 0) ** 2
    q = _poisson(person, on_mesh, fixed, source, soft, np.where(scalp, 0.05, 0.0))
    q_back = _poisson(person & (torso_small < 0.5), np.zeros_like(person), fixed, 1.15 * source, soft, np.zeros_like(soft))
    def grow(a):
        return cv2.resize(a.astype(np.float32), photo.alpha.shape[::-1], interpolation=cv2.INTER_LINEAR)

    ring_full = grow(ring)
    # Inside of the silhouette's last cell the linear interpolation of q keeps the square root's round edge.
    return _Relief(ring_full - np.sqrt(np.maximum(grow(q), 0)), ring_full + np.sqrt(np.maximum(grow(q_back), 0)),
                   torso, person_full, height)


def head_centre(head: HeadModel) -> np.ndarray:
    """Centre of the skull [3], head frame: the middle of the scalp's box."""
    scalp = head.v_template[np.unique(head.faces[head.face_region == Region.SCALP])]
    return np.array([0.0, (scalp[:, 1].max() + 0.0) / 2, (scalp[:, 2].min() + scalp[:, 2].max()) / 2])


def _heights(shape, camera: Camera, depth: float) -> np.ndarray:
    """Height [H, W] over the head's origin of each pixel of a picture [H, W] at a camera depth, metres."""
    rows, cols = np.mgrid[:shape[0], :shape[1]] + 0.5
    return unproject(np.stack([cols, rows], -1), np.full(shape, depth), camera)[..., 1]


def _poisson(inside, fixed, value, source, soft, weight) -> np.ndarray:
    """Solve lap q = -source on `inside` [H, W]: q = value where fixed, 0 outside, free at the picture's border."""
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


def _sheet(mask, step, depth, relief, color, alpha, camera, *, outward: int) -> Shell:
    """Splats on a relief, one per `step` pixels of `mask` [H, W]; `outward` is the sign of the normal's camera z."""
    rows, cols = _grid(mask, step)
    pixels = np.stack([cols + 0.5, rows + 0.5], -1).astype(np.float64)
    z = depth[rows, cols].astype(np.float64)
    means = unproject(pixels, z, camera)
    metre = z / camera.fx  # of one pixel there
    slope = [np.gradient(_smooth(depth), axis=a)[rows, cols] / metre for a in (1, 0)]
    tilt = np.clip(np.hypot(*slope), 0, 2.0)
    direction = np.stack([*slope, np.zeros_like(tilt)], -1)
    direction = np.where(tilt[:, None] > 1e-3, direction / (np.hypot(*slope)[:, None] + 1e-12), [1.0, 0, 0])
    steep = np.stack([direction[:, 0], direction[:, 1], tilt], -1) / np.sqrt(1 + tilt**2)[:, None]  # along the slope
    level = np.stack([-direction[:, 1], direction[:, 0], np.zeros_like(tilt)], -1)
    normal = np.cross(steep, level)
    normal *= np.sign(normal[:, 2:]) * outward
    level = np.cross(normal, steep)
    frame = np.stack([steep, level, normal], -1)  # [N, 3, 3] camera frame
    spacing = 0.62 * step * metre
    scales = np.stack([spacing * np.sqrt(1 + tilt**2), spacing, 0.35 * spacing], -1)
    return _to_shell(means, frame, scales, np.clip(alpha[rows, cols], 0.02, 0.97), color[rows, cols],
                     relief.torso[rows, cols], camera)


def _rim(photo: Photo, relief: _Relief, back_color: np.ndarray, camera: Camera) -> Shell:
    """Splats around the silhouette, where front and back meet edge-on and no pixel grid samples them.

    Along the contour the surface is a circle of the relief's own radius: R = (d^2 + i^2) / 2i for depth d at inset i.
    """
    import cv2

    solid = (photo.alpha > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=len)[:, 0][::3].astype(np.float64) + 0.5  # [K, 2] x, y
    height, width = solid.shape
    inner = ((outline > 4) & (outline < [width - 4, height - 4])).all(-1)
    # Colours from well inside: the outermost pixels hold some background.
    core = cv2.erode((photo.alpha > 0.97).astype(np.uint8), np.ones((7, 7), np.uint8))
    _, label = cv2.distanceTransformWithLabels(1 - core, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    lookup = np.zeros((label.max() + 1, 3), np.float32)
    lookup[label[core > 0]] = photo.color[core > 0]
    front_color = lookup[label]
    soft = cv2.GaussianBlur(solid.astype(np.float32), (0, 0), 5)
    slope = np.stack([np.gradient(soft, axis=1), np.gradient(soft, axis=0)], -1)
    outline = outline[inner]
    cols, rows = outline.astype(int).T
    inward = slope[rows, cols]
    inward /= np.linalg.norm(inward, axis=-1, keepdims=True) + 1e-9
    at = np.clip((outline + _INSET * inward).astype(int), 0, [width - 1, height - 1])
    ring = (relief.depth[at[:, 1], at[:, 0]] + relief.back[at[:, 1], at[:, 0]]) / 2
    metre = ring / camera.fx
    reach = np.clip((ring - relief.depth[at[:, 1], at[:, 0]]) / metre, 2, 90)
    radius = (reach**2 + _INSET**2) / (2 * _INSET)
    limit = np.arcsin(np.clip(reach / radius, 0, 1))
    parts = []
    for turn in np.linspace(-1, 1, _RIM_STEPS):
        phi = turn * limit
        pixels = outline + (radius * (1 - np.cos(phi)) + 1.0)[:, None] * inward
        z = ring + radius * np.sin(phi) * metre
        outward = np.concatenate([-inward * np.cos(phi)[:, None], np.sin(phi)[:, None]], -1)
        along = np.stack([-inward[:, 1], inward[:, 0], np.zeros(len(inward))], -1)
        frame = np.stack([np.cross(along, outward), along, outward], -1)
        step = 2 * radius * limit / (_RIM_STEPS - 1) * metre
        scales = np.stack([0.7 * step, 2.1 * metre, 0.5 * metre], -1)
        sample = np.clip(outline + 4.0 * inward, 0, [width - 1, height - 1]).astype(int)
        picture = front_color if turn <= 0 else back_color
        parts.append(_to_shell(unproject(pixels, z, camera), frame, scales, np.full(len(z), 0.9),
                               picture[sample[:, 1], sample[:, 0]], relief.torso[rows, cols], camera))
    return _join(parts)


def _join(parts: list[Shell]) -> Shell:
    arrays = (np.concatenate([getattr(p, k) for p in parts]) for k in ('normals', 'fade', 'torso'))
    return Shell(Splats.cat([p.splats for p in parts]), *arrays)


def _to_shell(means, frame, scales, opacities, colors, torso, camera: Camera) -> Shell:
    """Shell of splats whose frames [N, 3, 3] (columns: two tangents, outward normal) are in the camera's axes."""
    frame = camera.viewmat[:3, :3].T.astype(np.float64) @ frame

    def tensor(a):
        return torch.as_tensor(np.asarray(a), dtype=torch.float32)

    quats = rotmat_to_unitquat(torch.from_numpy(frame)).float()
    splats = Splats(tensor(means), quats, tensor(scales), tensor(opacities), tensor(colors))
    fade = np.tile(np.float32(FADE), (len(means), 1))
    return Shell(splats, frame[..., 2].astype(np.float32), fade, np.asarray(torso, np.float32))


def _smooth(depth: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(depth.astype(np.float32), (0, 0), 2.0)


def _grid(mask: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a hexagonal grid inside `mask` [H, W]."""
    height, width = mask.shape
    rows = np.arange(step / 2, height, step * 0.93)
    cols = np.arange(step / 2, width, step * 1.07)
    grid_rows = np.repeat(rows, len(cols)).astype(int)
    shift = np.repeat((np.arange(len(rows)) % 2) * step / 2, len(cols))
    grid_cols = np.minimum(np.tile(cols, len(rows)) + shift, width - 1).astype(int)
    keep = mask[grid_rows, grid_cols]
    return grid_rows[keep], grid_cols[keep]

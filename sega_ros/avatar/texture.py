"""Unwrapping the photo onto the texels, and plausible colours for all it does not show."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sega_ros.avatar.photo import Photo
from sega_ros.avatar.surface_fill import SurfaceFill, fill_by_symmetry, mirror_index
from sega_ros.camera import project
from sega_ros.head.model import HeadModel
from sega_ros.models.binding import SurfaceFrames, TexelTable, camera_centre
from sega_ros.raster import TriangleBuffer, rasterize_triangles
from sega_ros.types import Camera, Landmarks, Region

_DEPTH_SLACK = 0.004  # metres: a texel this far behind the z-buffer still is the visible surface
_MIN_COSINE = 0.25  # flatter views smear one pixel over many texels
_OPEN_MOUTH = 0.035  # gap between the lips over the face's width from which the photo shows the inside
_LASHES = 0.0008  # width of the lash line, metres
_SOCKET = 0.006  # metres around the lids whose shade belongs to the open eye
_LIMBUS = 0.0058  # radius of the iris, metres (anatomy: 11.7 mm across)
# Inside of the mouth in the light that shows skin like _SKIN; the photo's own light scales it.
_SKIN = np.float32([0.72, 0.55, 0.47])
_TEETH, _GUMS = np.float32([0.80, 0.76, 0.70]), np.float32([0.50, 0.25, 0.24])


@dataclass(frozen=True)
class Unwrapped:
    """Colours of the texels."""

    color: np.ndarray  # [T, 3] RGB in [0, 1]
    seen: np.ndarray  # [T] bool: taken from the photo
    closed_lids: np.ndarray  # [T, 3] colours for shut lids; 0 where they play no part


def tuck_in(
    head: HeadModel, table: TexelTable, region: np.ndarray, frames: SurfaceFrames, photo: Photo, camera: Camera,
) -> np.ndarray:
    """Distance [T] in metres that each texel moves inwards along its normal so that skin ends where the matte ends."""
    import cv2

    outside = cv2.distanceTransform((photo.alpha < 0.6).astype(np.uint8), cv2.DIST_L2, 5)
    xy, z = project(frames.positions, camera)
    column, row = (np.clip(np.floor(xy[:, k]).astype(int), 0, photo.alpha.shape[1 - k] - 1) for k in (0, 1))
    to_eye = camera_centre(camera.viewmat) - frames.positions
    cosine = (to_eye * frames.rotmats[..., 2]).sum(-1) / np.linalg.norm(to_eye, axis=-1)
    skin = np.isin(region, [Region.FACE, Region.EYELIDS, Region.EARS, Region.NECK])
    judged = skin & photo.inside[row, column] & (cosine > -0.5)
    excess = outside[row, column]
    out = np.zeros(len(table), np.float32)
    if not (judged & (excess > 0)).any():
        return out
    needed = np.where(excess > 0, (excess + 1.5) * z / camera.fx / np.sqrt(np.clip(1 - cosine**2, 0.2, 1)), 0)
    kinds = np.isin(head.face_region, [Region.FACE, Region.EYELIDS, Region.EARS, Region.NECK])
    fill = SurfaceFill(head, kinds, table.corners[skin], table.bary[skin])
    smooth = fill(np.minimum(needed, 0.012)[skin, None].astype(np.float32), judged[skin])[:, 0]
    out[skin] = np.maximum(smooth, 0)
    return out


def mesh_buffer(head: HeadModel, vertices: np.ndarray, camera: Camera) -> TriangleBuffer:
    """Z-buffer of the posed mesh [V, 3] in `camera`."""
    xy, z = project(vertices, camera)
    return rasterize_triangles(np.c_[xy, z].astype(np.float32), head.faces, camera.height, camera.width, perspective=True)


def visible_texels(frames: SurfaceFrames, camera: Camera, buffer: TriangleBuffer) -> tuple[np.ndarray, np.ndarray]:
    """Which texels [T] the camera sees at an angle that is good for colour, and where: pixels [T, 2]."""
    xy, z = project(frames.positions, camera)
    column, row = (np.clip(np.floor(xy[:, k]).astype(int), 0, n - 1) for k, n in ((0, camera.width), (1, camera.height)))
    to_eye = camera_centre(camera.viewmat) - frames.positions
    cosine = (to_eye * frames.rotmats[..., 2]).sum(-1) / np.linalg.norm(to_eye, axis=-1)
    on_picture = ((xy >= 0) & (xy < [camera.width, camera.height])).all(-1)
    near = z < buffer.depth[row, column] + _DEPTH_SLACK
    return on_picture & near & (cosine > _MIN_COSINE), xy


def mouth_gap(landmarks: Landmarks) -> float:
    """Gap between the inner lips over the face's width."""
    p = landmarks.points[:, :2]
    return float(np.linalg.norm(p[13] - p[14]) / np.ptp(p[:468, 0]))


def unwrap(
    head: HeadModel, table: TexelTable, region: np.ndarray, frames: SurfaceFrames, photo: Photo, camera: Camera,
    buffer: TriangleBuffer,
) -> Unwrapped:
    """Colour every texel: from the photo where it shows it, else by symmetry and smooth fill within its own region.

    Args:
        head: head model.
        table: texels in use [T].
        region: their regions [T].
        frames: their frames at the photo's pose.
        photo: crop with matte.
        camera: its camera.
        buffer: z-buffer of the mesh at the photo's pose.
    """
    import cv2

    visible, xy = visible_texels(frames, camera, buffer)
    solid = cv2.erode((photo.alpha > 0.95).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    column, row = (np.clip(np.floor(xy[:, k]).astype(int), 0, photo.alpha.shape[1 - k] - 1) for k in (0, 1))
    seen = visible & solid[row, column]
    inner = np.isin(region, [Region.MOUTH, Region.TEETH])
    if mouth_gap(photo.landmarks) < _OPEN_MOUTH:
        seen &= ~inner
    sampled = cv2.remap(photo.color, (xy[:, 0] - 0.5).astype(np.float32)[None], (xy[:, 1] - 0.5).astype(np.float32)[None],
                        cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    color = np.clip(sampled, 0, 1).astype(np.float32)
    mean_points = (head.v_template[table.corners] * table.bary[..., None]).sum(1)
    skin = np.isin(region, [Region.FACE, Region.EYELIDS, Region.EARS, Region.NECK])
    for part in (skin, region == Region.SCALP):
        _fill_part(head, table, region, part, mean_points, color, seen)
    shut = _fill_lids(head, table, region, mean_points, color, seen)
    _fill_eyes(head, region == Region.EYES, mean_points, color, seen)
    light = np.median(color[skin & seen], 0) / _SKIN if (skin & seen).any() else np.ones(3, np.float32)
    _fill_mouth(region, mean_points, color, seen, light)
    return Unwrapped(color, seen, shut)


def _fill_part(head, table, region, part, points, color, seen) -> None:
    """Fill the texels of `part` [T] in place from its own seen texels."""
    kinds = np.unique(region[part])
    fill = SurfaceFill(head, np.isin(head.face_region, kinds), table.corners[part], table.bary[part])
    color[part] = fill_by_symmetry(color[part], seen[part], mirror_index(points[part]), fill)


def _fill_lids(
    head: HeadModel, table: TexelTable, region: np.ndarray, points: np.ndarray, color: np.ndarray, seen: np.ndarray,
) -> np.ndarray:
    """Colour what an open eye folds away, in place; return the colours for shut lids [T, 3], 0 where lids play no part.

    Shut lids are as bright as the skin around the eye. The crease and the shade under it, which darken an open lid in the photo,
    would else cover the shut eye; the lashes along the lid's edge stay as dark as they are.
    """
    lids, face = region == Region.EYELIDS, region == Region.FACE
    shut = np.zeros_like(color)
    if not lids.any():
        return shut
    to_lid, _ = cKDTree(points[lids]).query(points)
    part = lids | face
    around = face & seen & (to_lid > 0.5 * _SOCKET) & (to_lid < 3 * _SOCKET)
    luma = color.mean(1)
    around &= luma > 0.85 * np.median(luma[around]) if around.any() else around  # neither brow nor lashes
    fill = SurfaceFill(head, np.isin(head.face_region, [Region.EYELIDS, Region.FACE]), table.corners[part], table.bary[part])
    skin = color.copy()
    skin[part] = fill(color[part], around[part])
    color[lids & ~seen] = skin[lids & ~seen]
    share = np.where(face, np.clip(1 - to_lid / _SOCKET, 0, 1), np.where(lids, 1.0, 0.0))
    if head.eyelid_columns.size:
        edge, _ = cKDTree(head.v_template[np.unique(head.eyelid_columns)]).query(points)
        share *= np.clip((edge - _LASHES) / _LASHES, 0, 1)
    used = (share > 0) | lids
    shut[used] = ((1 - share[:, None]) * color + share[:, None] * skin)[used]
    return shut


def _fill_eyes(head: HeadModel, eyes: np.ndarray, points: np.ndarray, color: np.ndarray, seen: np.ndarray) -> None:
    """Complete each eyeball in place: the iris by rings around its axis, the white by the seen white's colour."""
    joints = (head.J_regressor @ head.v_template)[3:5]
    for side in (1, -1):
        own = np.flatnonzero(eyes & (points[:, 0] * side > 0))
        if not len(own):
            continue
        offset = points[own] - joints[0 if side > 0 else 1]
        radius = np.hypot(offset[:, 0], offset[:, 1]) + np.where(offset[:, 2] > 0, 0, 1.0)  # the back is no iris
        known = seen[own]
        iris = radius < _LIMBUS * 1.15
        white = known & ~iris
        sclera = np.median(color[own][white], 0) if white.sum() > 8 else np.float32([0.75, 0.72, 0.70])
        result = np.where(known[:, None], color[own], sclera)
        rings = (radius / _LIMBUS * 8).astype(int)
        fallback = color[own][known & iris].mean(0) if (known & iris).any() else np.float32([0.25, 0.18, 0.12])
        for ring in range(rings[iris].max(initial=-1) + 1):
            at = iris & (rings == ring)
            value = np.median(color[own][at & known], 0) if (at & known).sum() >= 3 else fallback
            result[at & ~known] = value
        color[own] = result


def _fill_mouth(region: np.ndarray, points: np.ndarray, color: np.ndarray, seen: np.ndarray, light: np.ndarray) -> None:
    """Teeth, gums and tongue in place: seen ones stay, others get their usual colours, darker the deeper they lie."""
    for kind, base in ((Region.TEETH, _TEETH), (Region.MOUTH, _GUMS)):
        part = region == kind
        if not part.any():
            continue
        front = points[np.isin(region, [Region.TEETH, Region.MOUTH]), 2].max()
        depth = np.clip((front - points[:, 2]) / 0.035, 0, 1)
        plain = base * light * (1 - 0.8 * depth**0.8)[:, None]
        known = part & seen
        if kind == Region.TEETH and known.sum() > 20:  # the person's own tooth colour
            plain = plain * np.clip(np.median(color[known], 0) / np.median(plain[known], 0), 0.6, 1.6)
        unknown = part & ~seen
        color[unknown] = np.clip(plain[unknown], 0, 1)

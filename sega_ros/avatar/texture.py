"""Unwrapping the photo onto the texels, and plausible colours for all it does not show."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sega_ros.avatar.photo import Photo
from sega_ros.avatar.surface_fill import SurfaceFill, fill_by_symmetry, mirror_index
from sega_ros.camera import project
from sega_ros.head.mesh import loose_parts
from sega_ros.head.model import HeadModel
from sega_ros.models.binding import SurfaceFrames, TexelTable, camera_centre, facing
from sega_ros.raster import TriangleBuffer, rasterize_triangles
from sega_ros.types import Camera, Landmarks, Region

_DEPTH_SLACK = 0.004  # metres: a texel this far behind the z-buffer still is the visible surface
_MIN_COSINE, _FLAT_COSINE = 0.12, 0.3  # flatter views smear one pixel over many texels
_MAX_ROW = 30_000  # pixels: OpenCV's remap takes no more than 32766 in a row
_OPEN_MOUTH = 0.035  # gap between the lips over the face's width from which the photo shows the inside
_LASHES = 0.0008  # width of the lash line, metres
_SOCKET = 0.006  # metres around the lids whose shade belongs to the open eye
_LEFT_IRIS, _RIGHT_IRIS = 473, 468  # MediaPipe: the iris' centre, then four points of its ring
# MediaPipe: the edges of the lids, around the right and the left eye.
_EYE_RINGS = ((33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
              (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249))
_LID_EDGE = 0.4  # pixels of the crop: landmarks place the edges of the lids no better
_IN_EYE = 1.2  # likewise: further in the picture shows the eye alone
_WHITE = 0.9  # how bright the white of an eye is at least, over the skin
_GLINT = 1.3  # how much brighter than in the picture a reflection is painted
_PUPIL = 0.3  # radius of a pupil over its iris', indoors
# Inside of the mouth in the light that gives skin this mean; the photo's own light scales it.
_SKIN = 0.60
_TEETH, _GUMS, _TONGUE = np.float32([0.80, 0.73, 0.63]), np.float32([0.36, 0.16, 0.15]), np.float32([0.66, 0.36, 0.34])
_GAP = np.float32([0.28, 0.34, 0.37])  # of a tooth's colour that is missing between two


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
    cosine = _cosines(frames, camera)
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


def _cosines(frames: SurfaceFrames, camera: Camera) -> np.ndarray:
    """Cosines [T] of the angles at which the camera sees the texels; negative from behind."""
    return facing(frames.positions, frames.rotmats[..., 2], camera_centre(camera.viewmat))


def visible_texels(frames: SurfaceFrames, camera: Camera, buffer: TriangleBuffer) -> tuple[np.ndarray, np.ndarray]:
    """Which texels [T] the camera sees at an angle that is good for colour, and where: pixels [T, 2]."""
    xy, z = project(frames.positions, camera)
    column, row = (np.clip(np.floor(xy[:, k]).astype(int), 0, n - 1) for k, n in ((0, camera.width), (1, camera.height)))
    cosine = _cosines(frames, camera)
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
    column, row = (np.clip(np.floor(xy[:, k]).astype(int), 0, photo.alpha.shape[1 - k] - 1) for k in (0, 1))
    # Pixels to the matte's edge, whose colour is mixed; one of them covers many texels that are seen flat.
    inside = cv2.distanceTransform((photo.alpha > 0.95).astype(np.uint8), cv2.DIST_L2, 5)[row, column]
    seen = visible & (inside > np.where(_cosines(frames, camera) > _FLAT_COSINE, 2.5, 8.0))
    # Gums and tongue show for moments only, between lips and teeth that the fit does not place that well.
    seen &= region != Region.MOUTH
    if mouth_gap(photo.landmarks) < _OPEN_MOUTH:
        seen &= region != Region.TEETH
    # Where the fit has a lid and the photo the eye, an iris would stay on the lid while the eyeball turns away.
    edges = (region == Region.EYELIDS) & seen & _in_eye_openings(photo, xy, _LID_EDGE)
    seen &= ~edges
    color = np.clip(_sampled(photo.color, xy), 0, 1).astype(np.float32)
    mean_points = (head.v_template[table.corners] * table.bary[..., None]).sum(1)
    skin = np.isin(region, [Region.FACE, Region.EYELIDS, Region.EARS, Region.NECK])
    teeth = region == Region.TEETH
    seen[teeth] &= _less_red(color[teeth], color[skin & seen])  # what lies over a tooth in the fit may be a lip in the photo
    for part in (skin, region == Region.SCALP):
        _fill_part(head, table, region, part, mean_points, color, seen)
    shut = _fill_lids(head, table, region, mean_points, color, seen, edges)
    light = float(np.clip(np.median(color[skin & seen].mean(1)) / _SKIN, 0.3, 1.2)) if (skin & seen).any() else 1.0
    _paint_eyes(head, region == Region.EYES, frames, mean_points, photo, camera, color, light * _SKIN)
    body, _ = loose_parts(head.faces, len(head.v_template))
    tongue = (region == Region.MOUTH) & ~body[table.corners[:, 0]]
    _fill_mouth(region, tongue, mean_points, color, seen, light)
    return Unwrapped(color, seen, shut)


def _in_eye_openings(photo: Photo, xy: np.ndarray, depth: float) -> np.ndarray:
    """Which pixels xy [T, 2] of the crop lie between the edges of the lids, by `depth` pixels at least."""
    import cv2

    landmarks = ((photo.landmarks.points[:, :2] - photo.origin) * photo.scale).astype(np.float32)
    out = np.zeros(len(xy), bool)
    for ring in _EYE_RINGS:
        contour = landmarks[list(ring)]
        near = np.flatnonzero(((xy > contour.min(0)) & (xy < contour.max(0))).all(1))
        inside = [cv2.pointPolygonTest(contour[:, None], (float(x), float(y)), True) > depth for x, y in xy[near]]
        out[near] |= np.array(inside, bool)
    return out


def _sampled(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Colours [T, 3] of `image` at pixels xy [T, 2]; beyond the edge those of the edge."""
    import cv2

    at = (xy - 0.5).astype(np.float32)
    parts = np.array_split(at, len(at) // _MAX_ROW + 1)
    return np.concatenate([cv2.remap(image, np.ascontiguousarray(part[None, :, 0]), np.ascontiguousarray(part[None, :, 1]),
                                     cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0] for part in parts])


def _less_red(color: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Which colours [K, 3] are less red than the skin [N, 3], as teeth are and lips and gums are not."""
    if not len(skin):
        return np.ones(len(color), bool)
    red, green, _ = np.median(skin, 0) + 1e-3
    return color[:, 0] * green < color[:, 1] * red


def _fill_part(head, table, region, part, points, color, seen) -> None:
    """Fill the texels of `part` [T] in place from its own seen texels."""
    kinds = np.unique(region[part])
    fill = SurfaceFill(head, np.isin(head.face_region, kinds), table.corners[part], table.bary[part])
    color[part] = fill_by_symmetry(color[part], seen[part], mirror_index(points[part]), fill)


def _fill_lids(
    head: HeadModel, table: TexelTable, region: np.ndarray, points: np.ndarray, color: np.ndarray, seen: np.ndarray,
    edges: np.ndarray,
) -> np.ndarray:
    """Colour what an open eye folds away, in place; return the colours for shut lids [T, 3], 0 where lids play no part.

    Shut lids are as bright as the skin around the eye. The crease and the shade under it, which darken an open lid in the photo,
    would else cover the shut eye; the lashes along the lid's edge stay as dark as they are. `edges` [T] are texels of
    the lids' edges that the photo does not show.
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
    if edges.any() and (lids & seen).any():
        lashes = color[lids & seen][cKDTree(points[lids & seen]).query(points[edges])[1]]
        color[edges] += 0.25 * (lashes - color[edges])
    share = np.where(face, np.clip(1 - to_lid / _SOCKET, 0, 1), np.where(lids, 1.0, 0.0))
    if head.eyelid_columns.size:
        to_edge, _ = cKDTree(head.v_template[np.unique(head.eyelid_columns)]).query(points)
        share *= np.clip((to_edge - _LASHES) / _LASHES, 0, 1)
    used = (share > 0) | lids
    shut[used] = ((1 - share[:, None]) * color + share[:, None] * skin)[used]
    return shut


def _paint_eyes(
    head: HeadModel, eyes: np.ndarray, frames: SurfaceFrames, points: np.ndarray, photo: Photo, camera: Camera, color: np.ndarray,
    skin: float,
) -> None:
    """Paint each eyeball in place: an iris of rings around where the photo shows it, on a plain white.

    What else an open eye shows on the ball (lashes, the lids' shade) would turn with the gaze, so it is not copied.
    """
    joints, cosines = (head.J_regressor @ head.v_template)[3:5], _cosines(frames, camera)
    for side, centre_point in ((1, _LEFT_IRIS), (-1, _RIGHT_IRIS)):
        own = np.flatnonzero(eyes & (points[:, 0] * side > 0))
        if not len(own):
            continue
        iris = (photo.landmarks.points[centre_point:centre_point + 5, :2] - photo.origin) * photo.scale
        xy, z = project(frames.positions[own], camera)
        ball = points[own] - joints[0 if side > 0 else 1]
        front = ball[:, 2] > 0
        near = np.argsort(np.where(front, np.linalg.norm(xy - iris[0], axis=1), np.inf))[:3]
        axis = ball[near].mean(0)
        axis /= np.linalg.norm(axis)
        limbus = np.clip(np.linalg.norm(iris[1:] - iris[0], axis=1).mean() * z[near].mean() / camera.fx, 0.0048, 0.0072)
        along = ball @ axis
        ring = np.where(along > 0, np.linalg.norm(ball - along[:, None] * axis, axis=1), 1.0) / limbus
        # What the photo shows there, whether or not the fit has a lid before it.
        shown = front & (cosines[own] > _FLAT_COSINE) & _in_eye_openings(photo, xy, _IN_EYE)
        color[own] = _eyeball_colors(color[own], shown, ring, skin)


def _eyeball_colors(color: np.ndarray, shown: np.ndarray, ring: np.ndarray, skin: float) -> np.ndarray:
    """Colours [K, 3] of an eyeball's texels by their distance `ring` [K] from the iris' centre over its radius.

    `color` [K, 3] is the photo's, which counts where that has `shown` [K] the eye; `skin` is how bright the face is.
    """
    luma = color.mean(1)
    ring = ring / _limbus(luma[shown], ring[shown])
    white = shown & (ring > 1.05)
    if white.sum() > 8:
        white &= luma >= np.quantile(luma[white], 0.7)
        sclera = color[white].mean(0)
        sclera = 0.6 * sclera + 0.4 * sclera.mean()  # the lids' red and the crop's blur tint what little is seen
    else:
        sclera = np.float32([0.72, 0.70, 0.68])
    # In a narrow eye all of it lies in the lids' shade.
    sclera = np.clip(sclera * max(1.0, _WHITE * skin / sclera.mean()), 0.35, 0.92)
    shade = 1 - 0.22 * np.clip((ring - 1) / 2, 0, 1) ** 2
    out = sclera * shade[:, None]
    inside = shown & (ring < 0.85)
    typical = np.median(color[inside], 0) if inside.sum() > 4 else np.float32([0.25, 0.18, 0.12])
    edges = np.linspace(0, 1, 9)
    middle = (edges[1:] + edges[:-1]) / 2
    profile = np.array([
        np.median(color[inside & (abs(ring - m) < 0.1)], 0) if (inside & (abs(ring - m) < 0.1)).sum() > 2 else typical
        for m in middle])
    iris = np.stack([np.interp(ring, middle, profile[:, k]) for k in range(3)], -1)
    over = np.where(inside, luma - iris.mean(1), 0)
    pupil = np.clip((_PUPIL + 0.06 - ring) / 0.12, 0, 1)[:, None]  # the photo may not show it: a light on it, a small picture
    iris = (1 - pupil) * iris + pupil * np.minimum(iris, 0.35 * typical)
    # The light's reflection makes an eye alive. It is small: of its blurred picture only the middle is taken, and more of that.
    glint = over > max(0.1, 0.5 * over.max(initial=0))
    iris[glint] += _GLINT * (color - iris)[glint]
    cover = np.clip((1.06 - ring) / 0.16, 0, 1)[:, None]  # the limbus is soft
    return np.clip(cover * iris + (1 - cover) * out, 0, 1).astype(np.float32)


def _limbus(luma: np.ndarray, ring: np.ndarray) -> float:
    """Radius of the iris in the unit of `ring` [K], from its contrast to the white; `luma` [K] are the photo's."""
    radii, contrasts = np.linspace(0.8, 1.1, 13), np.zeros(13)
    for k, radius in enumerate(radii):
        near = ring / radius
        inner, outer = luma[(near > 0.8) & (near < 0.97)], luma[(near > 1.03) & (near < 1.2)]
        if min(len(inner), len(outer)) > 8:
            contrasts[k] = np.median(outer) - np.median(inner)
    if contrasts.max() < 0.1:
        return 0.93  # landmarks lie outside of the edge as a rule
    return float(np.median(radii[contrasts > 0.95 * contrasts.max()]))


def _fill_mouth(
    region: np.ndarray, tongue: np.ndarray, points: np.ndarray, color: np.ndarray, seen: np.ndarray, light: float,
) -> None:
    """Teeth, gums and tongue in place: seen ones stay, others get their usual colours, darker the deeper they lie."""
    inside = np.isin(region, [Region.TEETH, Region.MOUTH])
    if not inside.any():
        return
    depth = np.clip((points[inside, 2].max() - points[:, 2]) / 0.035, 0, 1)
    shade = light * (1 - 0.8 * depth**0.8)
    shade = np.where(tongue, light * (1 - 0.8 * depth**1.2), shade)  # it rises to the light behind the lower teeth
    for part, base in ((region == Region.TEETH, _TEETH), ((region == Region.MOUTH) & ~tongue, _GUMS), (tongue, _TONGUE)):
        plain = base * shade[:, None]
        if base is _TEETH:
            plain[part] *= 1 - _between_teeth(points[part])[:, None] * _GAP
            known = part & seen
            if known.sum() > 20:  # the person's own tooth colour
                plain = plain * np.clip(np.median(color[known], 0) / np.median(plain[known], 0), 0.6, 1.6)
        unknown = part & ~seen
        color[unknown] = np.clip(plain[unknown], 0, 1)


def _between_teeth(points: np.ndarray) -> np.ndarray:
    """How much points [T, 3] of the teeth lie in the gaps between them, 0 to 1, by usual widths from the middle outwards."""
    # Arc length from the middle along the front of the dental arch, about a circle of 22 mm.
    arc = 0.022 * np.arctan2(np.abs(points[:, 0]), np.maximum(points[:, 2] - points[:, 2].max() + 0.022, 1e-4))
    gaps = np.cumsum([0.0, 0.0080, 0.0065, 0.0075, 0.0070, 0.0070])
    nearest = np.abs(arc[:, None] - gaps).min(1)
    return np.exp(-0.5 * (nearest / 0.0009) ** 2)

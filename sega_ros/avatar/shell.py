"""Hair and bust: what the photo shows of a person beside the head mesh, as splats with a plausible depth.

The front is a relief of the matte; hair goes on around the skull as a hull. Where the relief turns away from the photo's camera
its pixels are drawn flat and only for views near the photo's: from the side they would be streaks, and the hull takes over.
"""

import numpy as np
import torch

from sega_ros.avatar.hull import Hull, build_hull
from sega_ros.avatar.photo import Photo
from sega_ros.avatar.relief import LOBE, TORSO_BLEND, Relief, head_centre, picture_heights, region_of, solve_relief
from sega_ros.camera import project, unproject
from sega_ros.geometry import rotmat_to_unitquat, unitquat_to_rotmat
from sega_ros.head.model import HeadModel
from sega_ros.raster import TriangleBuffer
from sega_ros.types import Camera, Region, Shell, Splats

_HAIR_STEP, _BUST_STEP = 3.0, 4.2  # crop pixels between splats
_BELOW = 48.0  # crop pixels that the bust goes on below the photo
_OVERLAP = 2  # crop pixels the shell reaches under the edge of the mesh
_MESH_REGIONS = (Region.FACE, Region.MOUTH, Region.TEETH, Region.EYES, Region.EYELIDS, Region.EARS, Region.NECK)
FADE = (-0.35, -0.05)  # cosines between which a splat that turns away vanishes; hair is softer than skin
# Likewise of what is drawn near the photo's own view only: 20 and 10 degrees off; skin beside the mesh 10 and 4, as it would
# swing out from behind jaw and ears.
_WISP_FADE, _SKIN_FADE = (0.94, 0.985), (0.985, 0.9976)
# Hair below this height (metres over the head's origin) stands off the skin, and so does what lies under the photo's hair,
# which the decoders may lift: one sees its inside too, so it never fades.
_HANGING, _ALWAYS = 0.05, (-3.0, -2.0)
_STEEP = 1.6  # slope of the relief from which its pixels are drawn flat
_MAX_STRETCH = 1.2  # slope beyond which a splat grows no longer: it would smear from the side
_CROWN = 0.06  # height over the head's origin above which all that is not face counts as hair, metres
_UNLIKE = 25.0  # distance in Lab between colours of skin and of hair that tells them apart
_MASS = 11  # crop pixels across which hair counts as a mass with a volume
_SIGMA = 0.68  # of a splat over its distance to the next
LAYERS = 2 * np.pi * _SIGMA**2  # splats over one place
_END = 12  # crop pixels of hair above the shoulders that tell its colour there
_COVERED = 0.5  # share of an ear's pixels that show hair from which it is covered
NECK_CUT = -0.135  # mesh below it is left to the bust


def mesh_mask(head: HeadModel, buffer: TriangleBuffer) -> np.ndarray:
    """Pixels [H, W] that the mesh itself paints: skin, eyes and mouth, but neither scalp nor the cut end of the neck."""
    region = region_of(head, buffer)
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
    height, torso_share = picture_heights(head, camera)
    hair = hair_mask(photo, mesh, height, torso_share)
    covered = covered_ears(head, photo, buffer, hair & (height > _CROWN))
    mesh, hair = mesh & ~covered, hair | covered
    fallen = fallen_hair(photo, mesh, hair, torso_share > 0.5)
    relief = solve_relief(head, photo, camera, buffer, mesh, hair, fallen)
    solid = mesh & (photo.alpha > 0.9)
    torso = relief.torso > 0.5
    # Under the edge of the face the hair goes on; the bust does not: it moves, and skin would come out from under the neck.
    inside = cv2.erode(solid.astype(np.uint8), np.ones((2 * _OVERLAP + 1,) * 2, np.uint8)) > 0
    front = relief.person & ~np.where(torso, solid, inside)
    # Further down the relief is steep where the head's depth passes to the torso's.
    flat = (relief.height > TORSO_BLEND[1]) & (_tilt(relief.depth, camera) > _STEEP) | ~hair & (relief.height > LOBE)
    parts = [
        _sheet(front & ~torso & ~flat, _HAIR_STEP, relief, photo, camera),
        _wisps(front & flat & hair, _HAIR_STEP, _WISP_FADE, relief, photo, camera),
        _wisps(front & flat & ~hair, _HAIR_STEP, _SKIN_FADE, relief, photo, camera),
        _below_picture(_sheet(front & torso, _BUST_STEP, relief, photo, camera), photo, camera),
    ]
    # A line of dark pixels along the cheek is a shadow or a lone strand: no hull grows from it.
    mass = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_MASS,) * 2)) > 0
    hull = build_hull(head, vertices, head_centre(head), camera, mass, cv2.GaussianBlur(photo.color, (0, 0), 1.2), relief.depth,
                      mass & skin_mask(photo, mesh, hair & (relief.height > _CROWN)), fallen)
    if hull is not None:
        parts.append(_wrap(hull, camera))
    return join_shells(parts)


def hair_mask(photo: Photo, mesh: np.ndarray, height: np.ndarray, torso: np.ndarray) -> np.ndarray:
    """Pixels [H, W] that show hair: beside the mesh; below the crown, nearer to the crown's colour than to the face's."""
    import cv2

    solid = photo.alpha > 0.5
    beside = solid & ~mesh & (torso < 0.5)
    crown = beside & (height > _CROWN)
    face = mesh & (photo.alpha > 0.95)
    if crown.sum() < 100 or face.sum() < 100:
        return beside
    nearer = _nearer(photo, crown, face)
    smooth = cv2.medianBlur((nearer & beside).astype(np.uint8), 5) > 0
    return _connected(beside & (smooth | (height > _CROWN)), crown)


def fallen_hair(photo: Photo, mesh: np.ndarray, hair: np.ndarray, torso: np.ndarray) -> np.ndarray:
    """Pixels [H, W] of the torso where `hair` [H, W] above it goes on; none where clothes have its colour."""
    import cv2

    below = torso & ~mesh & (photo.alpha > 0.5)
    rows = np.flatnonzero(below.any(1))
    none = np.zeros_like(hair)
    if not len(rows):
        return none
    last = np.s_[max(0, rows[0] - _END):rows[0]]  # rows before the shoulders
    ends = hair[last]
    middle = below.copy()
    width = hair.shape[1]
    middle[:, :int(0.4 * width)] = middle[:, int(0.6 * width):] = False
    if ends.sum() < 50 or middle.sum() < 50:
        return none
    lab = _lab(cv2.GaussianBlur(photo.color, (0, 0), 2.0))
    own, clothes = np.median(lab[last][ends], 0), np.median(lab[middle], 0)
    if np.linalg.norm(own - clothes) < _UNLIKE:
        return none
    like = np.linalg.norm(lab - own, axis=-1) < 0.8 * np.linalg.norm(lab - clothes, axis=-1)
    return _connected(below & like | hair, hair) & below


def _lab(color: np.ndarray) -> np.ndarray:
    """RGB colours [H, W, 3] in CIE Lab."""
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(color, np.float32), cv2.COLOR_RGB2LAB)


def _nearer(photo: Photo, hair: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Pixels [H, W] whose colour is nearer to the median one of `hair` than of `skin` [H, W]."""
    lab = _lab(photo.color)
    to_hair, to_skin = (np.linalg.norm(lab - np.median(lab[m], 0), axis=-1) for m in (hair, skin))
    return to_hair < to_skin


def covered_ears(head: HeadModel, photo: Photo, buffer: TriangleBuffer, crown: np.ndarray) -> np.ndarray:
    """Pixels [H, W] of ears that hair covers, hair having the colour of `crown` [H, W]; of each side all or none."""
    region = region_of(head, buffer)
    out = np.zeros_like(crown)
    face = (region == Region.FACE) & (photo.alpha > 0.95)
    if crown.sum() < 100 or face.sum() < 100:
        return out
    haired = _nearer(photo, crown, face)
    side = buffer.interpolate(head.v_template, head.faces)[..., 0] > 0
    for ear in ((region == Region.EARS) & (photo.alpha > 0.5) & (side == left) for left in (False, True)):
        if ear.any() and haired[ear].mean() > _COVERED:
            out |= ear
    return out


def skin_mask(photo: Photo, mesh: np.ndarray, crown: np.ndarray) -> np.ndarray:
    """Pixels [H, W] that have the face's colour rather than that of hair on the crown; none where these are alike."""
    import cv2

    lab = _lab(cv2.GaussianBlur(photo.color, (0, 0), 2.0))
    face = mesh & (photo.alpha > 0.95)
    none = np.zeros_like(crown)
    if not face.any():
        return none
    from_skin = np.linalg.norm(lab - np.median(lab[face], 0), axis=-1)
    haired = crown & (from_skin > _UNLIKE)
    if haired.sum() < max(100, 0.1 * crown.sum()):
        return none
    skin = (from_skin < 0.7 * np.linalg.norm(lab - np.median(lab[haired], 0), axis=-1)) & (from_skin < _UNLIKE)
    return cv2.dilate(skin.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # not the mixed colours of the hairline either


def _connected(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Part of `mask` [H, W] that hangs together with `seed` by more than a thread: a dark collar is no hair."""
    import cv2

    _, label = cv2.connectedComponents(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)), connectivity=4)
    core = np.isin(label, np.unique(label[seed])) & (label > 0)
    return mask & (cv2.dilate(core.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)


def _tilt(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Slope [H, W] of a depth picture: 0 where it faces the camera."""
    smooth = _smooth(depth)
    return np.hypot(*np.gradient(smooth)) / (smooth / camera.fx)


def _sheet(mask: np.ndarray, step: float, relief: Relief, photo: Photo, camera: Camera) -> Shell:
    """Splats on the relief, one per `step` pixels of `mask` [H, W]."""
    rows, cols = hexagonal_grid(mask, step)
    z = relief.depth[rows, cols].astype(np.float64)
    metre = z / camera.fx  # of one pixel there
    slope = [np.gradient(_smooth(relief.depth), axis=a)[rows, cols] / metre for a in (1, 0)]
    tilt = np.clip(np.hypot(*slope), 0, _MAX_STRETCH)
    direction = np.stack([*slope, np.zeros_like(tilt)], -1)
    direction = np.where(tilt[:, None] > 1e-3, direction / (np.hypot(*slope)[:, None] + 1e-12), [1.0, 0, 0])
    steep = np.stack([direction[:, 0], direction[:, 1], tilt], -1) / np.sqrt(1 + tilt**2)[:, None]  # along the slope
    level = np.stack([-direction[:, 1], direction[:, 0], np.zeros_like(tilt)], -1)
    normal = np.cross(steep, level)
    normal *= -np.sign(normal[:, 2:])
    level = np.cross(normal, steep)
    spacing = _SIGMA * step * metre
    scales = np.stack([spacing * np.sqrt(1 + tilt**2), spacing, 0.35 * spacing], -1)
    return _on_pixels(rows, cols, np.stack([steep, level, normal], -1), scales, FADE, relief, photo, camera)


def _below_picture(bust: Shell, photo: Photo, camera: Camera) -> Shell:
    """Let a bust go on below the photo's lower edge, by reflection: seen from above or below, it would end in the display."""
    edge = float(np.flatnonzero(photo.inside.any(1))[-1] + 1)
    pixels, depth = project(bust.splats.means.numpy().astype(np.float64), camera)
    near = pixels[:, 1] > edge - _BELOW
    if not near.any():
        return bust
    at = np.stack([pixels[near, 0], 2 * edge - pixels[near, 1]], -1)
    down = camera.viewmat[1, :3].astype(np.float64)
    mirror = np.eye(3) - 2 * np.outer(down, down)
    frame = mirror @ unitquat_to_rotmat(bust.splats.quats[near]).double().numpy() @ np.diag([1.0, -1.0, 1.0])
    splats = Splats(torch.as_tensor(unproject(at, depth[near], camera), dtype=torch.float32),
                    rotmat_to_unitquat(torch.from_numpy(frame)).float(),
                    *(getattr(bust.splats, k)[near] for k in ('scales', 'opacities', 'colors')))
    normals = (bust.normals[near] @ mirror).astype(np.float32)
    return join_shells([bust, Shell(splats, normals, bust.fade[near], bust.torso[near])])


def _wisps(mask: np.ndarray, step: float, fade: tuple[float, float], relief: Relief, photo: Photo, camera: Camera) -> Shell:
    """Flat splats that face the photo's camera, and are drawn near its view only."""
    rows, cols = hexagonal_grid(mask, step)
    spacing = _SIGMA * step * relief.depth[rows, cols].astype(np.float64) / camera.fx
    scales = np.stack([spacing, spacing, 0.35 * spacing], -1)
    facing = np.broadcast_to(np.diag([1.0, -1.0, -1.0]), (len(rows), 3, 3))
    return _on_pixels(rows, cols, facing, scales, fade, relief, photo, camera)


def _on_pixels(rows, cols, frame, scales, fade, relief: Relief, photo: Photo, camera: Camera) -> Shell:
    pixels = np.stack([cols + 0.5, rows + 0.5], -1).astype(np.float64)
    means = unproject(pixels, relief.depth[rows, cols].astype(np.float64), camera)
    return frames_to_shell(means, frame, scales, np.clip(photo.alpha[rows, cols], 0.02, 0.97), photo.color[rows, cols],
                     relief.torso[rows, cols], fade, camera)


def _wrap(hull: Hull, camera: Camera) -> Shell:
    rotation, translation = camera.viewmat[:3, :3].astype(np.float64), camera.viewmat[:3, 3].astype(np.float64)
    normal = hull.normals
    side = np.cross(normal, np.where(np.abs(normal[:, 1:2]) < 0.9, [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    frame = np.stack([side, np.cross(normal, side), normal], -1)
    sigma = _SIGMA * hull.spacing[:, None]
    scales = np.concatenate([sigma, sigma, 0.35 * sigma], 1)
    means = (hull.means - translation) @ rotation
    fade = np.where((means[:, 1:2] < _HANGING) | hull.front[:, None], _ALWAYS, FADE)
    return frames_to_shell(means, frame, scales, np.full(len(hull), 0.95), hull.colors, np.zeros(len(hull)), fade, camera)


def join_shells(parts: list[Shell]) -> Shell:
    """One shell of several."""
    arrays = (np.concatenate([getattr(p, k) for p in parts]) for k in ('normals', 'fade', 'torso'))
    return Shell(Splats.cat([p.splats for p in parts]), *arrays)


def frames_to_shell(means, frame, scales, opacities, colors, torso, fade, camera: Camera) -> Shell:
    """Shell of splats whose frames [N, 3, 3] (columns: two tangents, outward normal) are in the camera's axes."""
    frame = camera.viewmat[:3, :3].T.astype(np.float64) @ frame

    def tensor(a):
        return torch.as_tensor(np.asarray(a), dtype=torch.float32)

    quats = rotmat_to_unitquat(torch.from_numpy(frame)).float()
    splats = Splats(tensor(means), quats, tensor(scales), tensor(opacities), tensor(colors))
    fade = np.broadcast_to(np.float32(fade), (len(means), 2)).copy()
    return Shell(splats, frame[..., 2].astype(np.float32), fade, np.asarray(torso, np.float32))


def layered(cover: np.ndarray) -> np.ndarray:
    """Opacities of splats that overlap with their neighbours so that together they cover `cover` [N] of a pixel."""
    return 1 - (1 - np.asarray(cover)) ** (1 / LAYERS)


def _smooth(depth: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(depth.astype(np.float32), (0, 0), 2.0)


def hexagonal_grid(mask: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a hexagonal grid inside `mask` [H, W]."""
    height, width = mask.shape
    rows = np.arange(step / 2, height, step * 0.93)
    cols = np.arange(step / 2, width, step * 1.07)
    grid_rows = np.repeat(rows, len(cols)).astype(int)
    shift = np.repeat((np.arange(len(rows)) % 2) * step / 2, len(cols))
    grid_cols = np.minimum(np.tile(cols, len(rows)) + shift, width - 1).astype(int)
    keep = mask[grid_rows, grid_cols]
    return grid_rows[keep], grid_cols[keep]

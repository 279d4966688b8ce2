"""From the fitted photo to the base that the networks correct: unwrapped colours, sizes, hair and bust."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from sega_ros.avatar.glasses import Glasses, find_glasses, remove_glasses
from sega_ros.avatar.glasses_shell import glasses_shell
from sega_ros.avatar.photo import Photo
from sega_ros.avatar.shell import build_shell, join_shells
from sega_ros.avatar.texture import mesh_buffer, tuck_in, unwrap
from sega_ros.camera import project
from sega_ros.geometry import morton_order
from sega_ros.head.skinning import Poser
from sega_ros.models.base import Base
from sega_ros.models.binding import SurfaceFrames, TexelTable, camera_centre, facing, surface_frames
from sega_ros.models.crop import identity_crop, identity_square, to_window
from sega_ros.models.uv import UvLayout
from sega_ros.raster import TriangleBuffer
from sega_ros.tracking.fit import Identity
from sega_ros.tracking.landmark_model import JAW
from sega_ros.types import Camera, FlameParams, Region, Shell

# A texel's Gaussian: standard deviation over the texel's spacing along and across the surface, and thickness over it.
_SIGMA, _THICKNESS = 0.62, 0.2
# Where few texels share much surface, their Gaussians are larger; of the scalp's texels only every fourth is in use.
_MAX_SIGMA = 0.008  # metres; the neck's lowest texels are ten times longer
_LARGER = {Region.SCALP: 2.0, Region.EARS: 1.2, Region.NECK: 1.25}
_SCALP_SINK = 0.004  # metres: the scalp lies under the hair of the shell
_OPAQUE = 3.0  # logit
# Regions that keep their first colours: eyeballs and gums move in ways that the photo does not show, ears are seen edge-on.
_PAINTED = (Region.EYES, Region.MOUTH, Region.EARS)


@dataclass(frozen=True)
class Start:
    """A person laid over their photo."""

    base: Base
    table: TexelTable
    frames: SurfaceFrames  # at the photo's pose
    buffer: TriangleBuffer  # of the mesh in the photo's view
    painted: np.ndarray  # [T] bool: texels that the photo has no say in
    bare: Photo  # the photo without glasses
    glasses: Glasses | None  # splats of their own at the end of the base's shell


def photo_start(layout: UvLayout, identity: Identity, params: FlameParams, photo: Photo, camera: Camera) -> Start:
    """Lay the mesh of `identity` at `params` over the photo's crop, seen by `camera`, and colour it.

    Glasses on the photo become geometry; the skin under them is coloured from beside them.
    """
    head, region = layout.head, layout.region
    poser = Poser(head, identity.shape, v_offset=identity.v_offset)
    vertices = poser.pose(params)
    table = layout.for_identity(poser.rest)
    frames = surface_frames(table, vertices)
    buffer = mesh_buffer(head, vertices, camera)
    glasses = find_glasses(photo)
    bare = remove_glasses(photo, glasses) if glasses else photo
    unwrapped = unwrap(head, table, region, frames, bare, camera, buffer)
    offset = np.zeros((len(table), 3), np.float32)
    offset[region == Region.SCALP, 2] = -_SCALP_SINK
    offset[:, 2] -= tuck_in(head, table, region, frames, photo, camera)
    # Where the fit's lip gap is wider than the photo's, the lower teeth would take the lip's colour.
    lower = head.weights[table.corners[:, 0], JAW] > 0.5
    painted = np.isin(region, _PAINTED) | (region == Region.TEETH) & lower & ~unwrapped.seen
    shell = build_shell(head, vertices, bare, camera, buffer)
    if glasses:
        shell = join_shells([shell, glasses_shell(glasses, photo, vertices, camera, head)])
    shell = _in_order(shell)
    window = identity_square(_in_crop(photo))
    eye = camera_centre(camera.viewmat)
    means = shell.splats.means.numpy()
    base = Base(
        poser.rest, unwrapped.color, unwrapped.closed_lids, unwrapped.seen,
        facing(frames.positions, frames.rotmats[..., 2], eye).astype(np.float32), offset, _sizes(table, region),
        np.full(len(table), _OPAQUE, np.float32), np.asarray(params.eyelids, np.float32),
        eye.astype(np.float32), layout.offsets(vertices, poser.rest), _places(layout, vertices, camera, window),
        identity_crop((np.clip(bare.color, 0, 1) * 255 + 0.5).astype(np.uint8), photo.alpha, _in_crop(photo)),
        shell, cKDTree(frames.positions).query(means)[1].astype(np.int64), to_window(project(means, camera)[0], *window),
        facing(means, shell.normals, eye).astype(np.float32))
    return Start(base, table, frames, buffer, painted, bare, glasses)


def _in_order(shell: Shell) -> Shell:
    """The same along a Morton curve: what lies together is read together, and levels of detail thin it evenly."""
    order = morton_order(shell.splats.means.numpy())
    return Shell(shell.splats[torch.from_numpy(order)], *(getattr(shell, k)[order] for k in ('normals', 'fade', 'torso')))


def _in_crop(photo: Photo) -> np.ndarray:
    """The photo's landmarks [478, 2] in pixels of its crop."""
    return (photo.landmarks.points[:, :2] - photo.origin) * photo.scale


def _places(layout: UvLayout, vertices: np.ndarray, camera: Camera, window: tuple[np.ndarray, float]) -> np.ndarray:
    """Where on the identity crop the coarse texels are: [2, 48, 48]; far outside where there is no surface."""
    points = layout.coarse.points(vertices, layout.head.faces)
    at = to_window(project(points, camera)[0], *window)
    at[~layout.coarse.valid] = -2
    return np.ascontiguousarray(at.clip(-2, 2).transpose(2, 0, 1))


def _sizes(table: TexelTable, region: np.ndarray) -> np.ndarray:
    """Log standard deviations [T, 3] that close the surface."""
    spacing = np.maximum(table.rest_stretch, 2e-5)
    sigma = np.c_[spacing, _THICKNESS * np.sqrt(spacing.prod(-1))] * _SIGMA
    for kind, factor in _LARGER.items():
        sigma[region == kind, :2] *= factor
    return np.log(np.minimum(sigma, _MAX_SIGMA)).astype(np.float32)

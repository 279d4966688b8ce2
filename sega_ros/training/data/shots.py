"""From a calibrated picture of a tracked head to a `Shot`: window, matte, masks."""

from dataclasses import replace

import numpy as np

from sega_ros.camera import project
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.models.crop import cut_window, window_camera
from sega_ros.raster import rasterize_triangles
from sega_ros.tracking.matting import matte
from sega_ros.training.data.views import View
from sega_ros.types import DYNAMIC_REGIONS, Camera, FlameParams, Region, Shot

# What synthetic captures show: some shoulders below, hair above.
TARGET = np.array([0.0, 0.012, -0.02])  # head frame, metres: middle of the window
EXTENT = 0.435  # metres that fill it, where the picture holds as much
BACKGROUND = np.full(3, 0.5, np.float32)
_NEAR = 0.15  # metres: nearer cameras see no head
_HAIR = 0.035  # metres that short hair stands off the scalp
_SKIN = 0.008  # metres by which the tracked face may miss the real one
_MIN_COVER = 0.03  # share of the window that must be person


def make_shot(
    view: View, head: HeadModel, poser: Poser, params: FlameParams, viewmat: np.ndarray, *, size: int,
) -> Shot | None:
    """Shot of `size` px square, or None where the view shows too little of the person.

    Args:
        view: picture, matte if there is one, camera.
        head, poser, params: the tracked person in this moment.
        viewmat: [4, 4] head to this camera.
        size: of the shot, pixels.
    """
    camera = replace(view.camera, viewmat=viewmat.astype(np.float32))
    centre, depth = project(TARGET, camera)
    if depth < _NEAR or not (0 <= centre[0] < camera.width and 0 <= centre[1] < camera.height):
        return None
    centre, side = _window(camera, centre, float(np.sqrt(camera.fx * camera.fy)) * EXTENT / float(depth))
    window = window_camera(camera, centre, side, size)
    image, alpha = _cut_out(view, centre, side, size)
    if (alpha > 127).mean() < _MIN_COVER:
        return None
    person = alpha > 127
    pixels, z = project(poser.pose(params), window)
    buffer = rasterize_triangles(np.c_[pixels, z], head.faces, size, size, perspective=True)
    region = np.where(buffer.face < 0, 0, head.face_region[np.maximum(buffer.face, 0)])
    return Shot(image, alpha, person & _near_head(region, window, size), person & np.isin(region, DYNAMIC_REGIONS),
                BACKGROUND, window, params)


def _window(camera: Camera, centre: np.ndarray, side: float) -> tuple[np.ndarray, float]:
    """Centre and side, px, of the window nearest to the wanted one that lies inside of the picture.

    Beyond the picture's edge nobody knows what is person and what is background.
    """
    side = min(side, camera.width, camera.height)
    return np.clip(centre, side / 2, np.array([camera.width, camera.height]) - side / 2), side


def _cut_out(view: View, centre: np.ndarray, side: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Person over the plain background, uint8 RGB [size, size, 3], and the matte [size, size] uint8."""
    image = cut_window(view.image, centre, side, size)
    if view.alpha is None:
        found = matte(image)
        alpha, color = found.alpha, found.color
    else:
        from pymatting import estimate_foreground_ml

        alpha = cut_window(view.alpha, centre, side, size).astype(np.float32) / 255
        color = np.clip(estimate_foreground_ml(image.astype(np.float64) / 255, alpha.astype(np.float64)), 0, 1)
    laid = alpha[..., None] * color + (1 - alpha[..., None]) * BACKGROUND
    return np.round(laid * 255).astype(np.uint8), np.round(alpha * 255).astype(np.uint8)


def _near_head(region: np.ndarray, camera: Camera, size: int) -> np.ndarray:
    """Where a pixel of the person is taken for skin or hair [size, size] bool.

    No network here tells hair from clothes: above the ears everything is head, below what lies near the scalp, or very near the
    face. Hair on the shoulders and the neck's lower part count as clothes.
    """
    pixels_per_metre = camera.fx / float(camera.viewmat[2, 3])
    scalp = _grown(region == Region.SCALP, _HAIR * pixels_per_metre)
    skin = _grown((region != Region.NONE) & (region != Region.NECK), _SKIN * pixels_per_metre)
    origin, _ = project(np.zeros(3), camera)
    down = -camera.viewmat[:2, 1]  # the head's -y in the picture
    y, x = np.mgrid[:size, :size] + 0.5
    above = (x - origin[0]) * down[0] + (y - origin[1]) * down[1] < 0
    return scalp | skin | above


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """Mask [H, W] bool grown by `radius` px."""
    import cv2

    radius = max(1, round(radius))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return cv2.dilate(mask.astype(np.uint8), disk) > 0

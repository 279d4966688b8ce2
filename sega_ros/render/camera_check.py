"""What every backend wants of a camera."""

import math

import numpy as np

from sega_ros.errors import RequestError
from sega_ros.types import Camera, check_shape

MAX_SIDE = 16384  # px; a larger picture is a mistake, and would be allocated before anyone notices


def check_camera(camera: Camera) -> None:
    """Raise RequestError unless the camera has a size up to MAX_SIDE, positive focal lengths and finite numbers."""
    check_shape('camera.viewmat', np.asarray(camera.viewmat), (4, 4))
    sides = 1 <= camera.width <= MAX_SIDE and 1 <= camera.height <= MAX_SIDE
    focal = camera.fx > 0 and camera.fy > 0
    numbers = [camera.fx, camera.fy, camera.cx, camera.cy, float(np.sum(camera.viewmat, dtype=np.float64))]
    if not (sides and focal and all(math.isfinite(v) for v in numbers)):
        raise RequestError(
            f'camera: wanted width and height in [1, {MAX_SIDE}], fx and fy above 0 and finite numbers, found {camera}'
        )

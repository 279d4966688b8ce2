"""Square windows of pictures; the portrait that the identity encoder sees, one convention for photos and training."""

from dataclasses import replace

import numpy as np

from sega_ros.errors import ImageError, RequestError
from sega_ros.types import Camera

GREY = 128  # behind the person
_SCALE = 1.9  # side of the crop over the larger extent of the face
_UP = 0.08  # of the side: hair is in
_MESH_POINTS = 468  # MediaPipe's without the irises


def identity_crop(image: np.ndarray, alpha: np.ndarray, landmarks: np.ndarray, *, size: int = 256) -> np.ndarray:
    """Portrait uint8 RGB [size, size, 3] over mid grey, as the identity encoder wants it.

    A square around MediaPipe's first 468 points, 1.9 times their larger extent wide, its centre moved up by 8 % of that.
    What lies outside of the picture is grey.

    Args:
        image: [H, W, 3] uint8 RGB.
        alpha: [H, W] matte, uint8 or float in [0, 1].
        landmarks: [>= 468, 2+] pixels.
        size: side of the result, pixels.

    Raises:
        ImageError: picture and matte do not fit together.
        RequestError: too few landmarks, or without extent.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or alpha.shape != image.shape[:2]:
        raise ImageError(f'identity_crop: wanted uint8 RGB [H, W, 3] and a matte [H, W], found {image.dtype} '
                         f'{list(image.shape)} and {list(alpha.shape)}')
    centre, side = identity_square(landmarks)
    share = alpha.astype(np.float32) / (255 if alpha.dtype == np.uint8 else 1)
    cover = cut_window(np.ascontiguousarray(share), centre, side, size)[..., None].clip(0, 1)
    # Coverage is filtered together with the colour: else the old background bleeds in where the crop shrinks.
    person = cut_window(image.astype(np.float32) * share[..., None], centre, side, size)
    return np.round(person + (1 - cover) * GREY).clip(0, 255).astype(np.uint8)


def identity_square(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [2] and side of `identity_crop`'s square, pixels.

    Raises:
        RequestError: too few landmarks, or without extent.
    """
    if landmarks.ndim != 2 or len(landmarks) < _MESH_POINTS or landmarks.shape[1] < 2:
        raise RequestError(f'landmarks: wanted shape [at least {_MESH_POINTS}, 2 or more], found {list(landmarks.shape)}')
    low, high = landmarks[:_MESH_POINTS, :2].min(0), landmarks[:_MESH_POINTS, :2].max(0)
    side = _SCALE * float((high - low).max())
    if not np.isfinite(side) or side < 1:
        raise RequestError(f'landmarks: wanted a face of at least a pixel, found an extent of {side / _SCALE:.3g}')
    return (low + high) / 2 - [0, _UP * side], side


def cut_window(image: np.ndarray, centre: np.ndarray, side: float, size: int) -> np.ndarray:
    """Square of `side` px around `centre`, resampled to [size, size(, C)]; zero outside of the picture.

    Averages over areas when it shrinks; pixel centres lie at half integers.
    """
    import cv2

    scale, origin = size / side, np.asarray(centre, np.float64) - side / 2
    if scale < 1:
        # Whole pixels first (INTER_AREA wants them), the remaining fraction of one by interpolation.
        low = np.floor(origin).astype(int) - 1
        span = int(np.ceil(side)) + 3
        image = _padded(image, low, span)
        reduced = max(1, round(span * scale))
        image = cv2.resize(image, (reduced, reduced), interpolation=cv2.INTER_AREA)
        origin, scale = (origin - low) * (reduced / span), size / (side * reduced / span)
    shift = scale * (0.5 - origin) - 0.5
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def window_camera(camera: Camera, centre: np.ndarray, side: float, size: int) -> Camera:
    """Camera of the window that `cut_window` cuts."""
    scale = size / side
    cx, cy = (np.array([camera.cx, camera.cy]) - centre + side / 2) * scale
    return replace(camera, width=size, height=size, fx=camera.fx * scale, fy=camera.fy * scale, cx=float(cx), cy=float(cy))


def _padded(image: np.ndarray, low: np.ndarray, span: int) -> np.ndarray:
    """Square [span, span(, C)] from `low` (x, y), zero where the picture has nothing."""
    out = np.zeros((span, span, *image.shape[2:]), image.dtype)
    height, width = image.shape[:2]
    x0, y0 = np.maximum(low, 0)
    x1, y1 = min(low[0] + span, width), min(low[1] + span, height)
    if x1 > x0 and y1 > y0:
        out[y0 - low[1]:y1 - low[1], x0 - low[0]:x1 - low[0]] = image[y0:y1, x0:x1]
    return out


def to_window(pixels: np.ndarray, centre: np.ndarray, side: float) -> np.ndarray:
    """Pixels [..., 2] as places in a window: -1 to 1 over its edges."""
    return (2 * (pixels - centre) / side).astype(np.float32)

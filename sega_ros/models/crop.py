"""The cut-out that the identity encoder sees: one convention for photos, clips and synthetic people."""

import numpy as np

from sega_ros.models.identity_encoder import CROP

_SIDE, _UP = 1.9, 0.08  # side over the face's larger extent; how far the window lies above the face's middle, over its side
_GREY = 128


def crop_window(points: np.ndarray) -> np.ndarray:
    """Window (x, y of its corner, side; pixels) around landmarks [468 or more, 2 or 3]."""
    low, high = points[:468, :2].min(0), points[:468, :2].max(0)
    side = _SIDE * float((high - low).max())
    x, y = (low + high) / 2 - side / 2
    return np.array([x, y - _UP * side, side])


def identity_crop(image: np.ndarray, alpha: np.ndarray, points: np.ndarray, *, size: int = CROP) -> np.ndarray:
    """Person over mid grey, uint8 RGB [size, size, 3].

    Args:
        image: uint8 RGB [H, W, 3].
        alpha: matte [H, W] in [0, 1].
        points: MediaPipe's landmarks [478, 2 or 3], pixels.
        size: pixels.
    """
    import cv2

    x, y, side = crop_window(points)
    person = image * alpha[..., None] + _GREY * (1 - alpha[..., None])
    scale = size / side
    if scale < 1:  # warpAffine does not average: shrink first
        person = cv2.resize(person, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = np.array([[1, 0, -x * scale], [0, 1, -y * scale]])
    else:  # pixel centres at half integers
        matrix = np.array([[scale, 0, scale * (0.5 - x) - 0.5], [0, scale, scale * (0.5 - y) - 0.5]])
    crop = cv2.warpAffine(np.asarray(person, np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_CONSTANT, borderValue=(_GREY,) * 3)
    return np.clip(crop + 0.5, 0, 255).astype(np.uint8)


def to_window(pixels: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Pixels [..., 2] as places on the crop: -1 to 1 over its edges."""
    return (2 * (pixels - window[:2]) / window[2] - 1).astype(np.float32)

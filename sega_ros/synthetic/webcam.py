"""What a webcam makes of the light that reaches it: motion blur, a Bayer sensor with its noise, exposure."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sega_ros.synthetic.renderer import tone_curve

_BLUR = 0.45  # px, of the lens: a Bayer sensor behind a perfect one would show false colours
_CHROMA_BLUR = 1.6  # px at a signal of _DARK electrons; the camera's own noise reduction works on colour first
_DARK = 300.0
_STEPS = 65535 / 4  # of linear light 1 in the 16-bit mosaic, which holds [0, 4)


@dataclass(frozen=True)
class Webcam:
    """A camera in some light."""

    electrons: float = 12_000.0  # that a white surface frees in a pixel
    read_noise: float = 4.0  # electrons
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)  # brightness of the picture over the scene's, RGB


def exposed(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Mean linear light [H, W, 3] float32 of uint8 pictures of one exposure, as the synthetic renderer writes them."""
    lights = [_linear()[picture] for picture in pictures]
    return np.mean(lights, axis=0, dtype=np.float32)


def photograph(light: np.ndarray, webcam: Webcam, rng: np.random.Generator) -> np.ndarray:
    """Take a picture, uint8 RGB [H, W, 3], of linear light [H, W, 3] float32; H and W are even."""
    import cv2

    light = cv2.GaussianBlur(light, (0, 0), _BLUR)
    signal = _mosaic(light) * np.float32(webcam.electrons)
    # The Gaussian of a photon count: exact enough above a dozen electrons, and far faster than a Poisson draw.
    noise = np.sqrt(signal + np.float32(webcam.read_noise**2)) * rng.standard_normal(signal.shape, np.float32)
    raw = np.clip((signal + noise) / np.float32(webcam.electrons) * _STEPS, 0, 65535).astype(np.uint16)
    color = cv2.demosaicing(raw, cv2.COLOR_BayerRGGB2RGB).astype(np.float32) / np.float32(_STEPS)
    color = _calmed(color, _CHROMA_BLUR * min(1.0, _DARK / webcam.electrons) ** 0.5)
    return tone_curve()[(np.clip(color * np.array(webcam.gain, np.float32), 0, 3.999) * 1024).astype(np.int32)]


def _mosaic(light: np.ndarray) -> np.ndarray:
    """What a Bayer sensor [H, W] sees: red at even rows and columns, blue at odd ones, green elsewhere."""
    raw = light[..., 1].copy()
    raw[::2, ::2] = light[::2, ::2, 0]
    raw[1::2, 1::2] = light[1::2, 1::2, 2]
    return raw


def _calmed(color: np.ndarray, sigma: float) -> np.ndarray:
    """Blur the colour of a picture by `sigma` px and leave its brightness."""
    import cv2

    if sigma < 0.3:
        return color
    luma = color @ np.array([0.25, 0.5, 0.25], np.float32)
    return luma[..., None] + cv2.GaussianBlur(color - luma[..., None], (0, 0), sigma)


@lru_cache(maxsize=1)
def _linear() -> np.ndarray:
    """Linear light [256] float32 in the middle of what the tone curve turns to each byte."""
    curve = tone_curve()
    starts = np.searchsorted(curve, np.arange(256))
    ends = np.searchsorted(curve, np.arange(256), 'right')
    return ((starts + ends) / 2048).astype(np.float32)

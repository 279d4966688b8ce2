"""The room behind somebody before a webcam: a wall with a window, a shelf of books and a picture, nearly in focus."""

import numpy as np

from sega_ros.synthetic.renderer import srgb_to_linear

_BLUR = 0.0035  # of the picture's width
_SCALE = 2  # drawn this much larger: edges need not fall on pixels
_WOOD = ((0.46, 0.33, 0.22), (0.30, 0.21, 0.15), (0.78, 0.76, 0.72), (0.16, 0.15, 0.15))


def draw_room(color: np.ndarray, size: tuple[int, int], *, seed: int) -> np.ndarray:
    """Return a room [H, W, 3] float32, linear RGB, whose wall has about the sRGB `color` [3]."""
    import cv2

    height, width = size
    rng = np.random.default_rng([seed, 1069])
    y, x = np.mgrid[: height * _SCALE, : width * _SCALE] / (width * _SCALE)
    bright = rng.choice([-1.0, 1.0])  # the side that the light comes from
    wall = np.clip(np.asarray(color) * rng.uniform(1.1, 1.5), 0, 0.82)
    image = (wall * (1.0 + 0.22 * bright * (x - 0.5) - 0.18 * y)[..., None]).astype(np.float32)
    sides = [0.0, 0.62] if bright < 0 else [0.62, 0.0]
    if rng.random() < 0.7:
        _window(image, sides[0] + rng.uniform(0.0, 0.08), rng)
    else:
        _picture(image, sides[0] + rng.uniform(0.06, 0.14), rng)
    if rng.random() < 0.8:
        _shelf(image, sides[1] - 0.04, rng)
    else:
        _picture(image, sides[1] + rng.uniform(0.06, 0.14), rng)
    image = cv2.GaussianBlur(image, (0, 0), _BLUR * width * _SCALE)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return srgb_to_linear(np.clip(image, 0, 1)).astype(np.float32)


def _fill(image: np.ndarray, left: float, top: float, wide: float, tall: float, color) -> None:
    """Paint a rectangle; all in picture widths from the top left."""
    width = image.shape[1]
    a, b, c, d = (max(0, round(v * width)) for v in (top, top + tall, left, left + wide))
    image[a:b, c:d] = np.clip(color, 0, 1)


def _window(image: np.ndarray, left: float, rng: np.random.Generator) -> None:
    """Bright panes in a white frame; a curtain to one side."""
    wide, tall, top = rng.uniform(0.24, 0.30), rng.uniform(0.34, 0.46), rng.uniform(0.0, 0.05)
    _fill(image, left, top, wide, tall, (0.80, 0.80, 0.79))
    panes = 2
    for k in range(panes):
        sky = np.array([0.84, 0.89, 0.94]) * rng.uniform(0.97, 1.03)
        rows = 60
        for row in range(rows):  # from sky to what stands outside
            share = np.clip((row / rows - 0.35) / 0.5, 0, 1)
            _fill(image, left + 0.012 + k * wide / panes, top + 0.012 + row * (tall - 0.024) / rows, wide / panes - 0.02,
                  1.5 * (tall - 0.024) / rows, sky * (1 - share) + np.array([0.62, 0.70, 0.60]) * share)
    curtain = rng.uniform(0.4, 0.75, 3)
    for k in range(7):
        _fill(image, left - 0.02 + 0.011 * k, 0.0, 0.011, 0.56, curtain * (0.86 + 0.16 * (k % 2)))


def _picture(image: np.ndarray, left: float, rng: np.random.Generator) -> None:
    wide, tall, top = rng.uniform(0.12, 0.2), rng.uniform(0.13, 0.2), rng.uniform(0.06, 0.16)
    _fill(image, left, top, wide, tall, _WOOD[rng.integers(len(_WOOD))])
    _fill(image, left + 0.008, top + 0.008, wide - 0.016, tall - 0.016, (0.86, 0.85, 0.82))
    for _ in range(5):
        _fill(image, left + 0.02 + rng.uniform(0, wide - 0.08), top + 0.02 + rng.uniform(0, tall - 0.08), rng.uniform(0.02, 0.05),
              rng.uniform(0.02, 0.05), rng.uniform(0.2, 0.8, 3))


def _shelf(image: np.ndarray, left: float, rng: np.random.Generator) -> None:
    """Boards with books of several heights and colours."""
    wood, wide, step = np.array(_WOOD[rng.integers(len(_WOOD))]), 0.42, rng.uniform(0.16, 0.2)
    _fill(image, left, 0.0, wide, 0.8, wood * 0.45)
    for row in range(5):
        floor = 0.02 + (row + 1) * step
        x = left + 0.014
        while x < left + wide - 0.03:
            thick, tall = rng.uniform(0.008, 0.022), rng.uniform(0.55, 0.85) * step
            if rng.random() < 0.86:
                grey = rng.uniform(0.15, 0.7)
                _fill(image, x, floor - tall, thick, tall, grey + rng.normal(0, 0.07, 3))
            x += thick + 0.0015
        _fill(image, left, floor, wide, 0.012, wood)
    for side in (left, left + wide - 0.012):
        _fill(image, side, 0.0, 0.012, 0.8, wood * 0.9)

"""What surrounds the head in a picture: a shirt that stays while the head turns, and a blurred room."""

from itertools import pairwise

import numpy as np

# Rings of the shirt below its collar, metres: half width, half depth, height in front and behind, middle z.
_RINGS = np.array([
    [0.115, 0.086, -0.166, -0.118, -0.064], [0.160, 0.098, -0.186, -0.150, -0.068],
    [0.205, 0.108, -0.222, -0.192, -0.070],
    [0.225, 0.118, -0.290, -0.270, -0.070], [0.230, 0.125, -0.600, -0.600, -0.070]])
# The collar around the neck: metres off the skin, metres above the collar's plane.
_COLLAR = np.array([
    [-0.052, -0.035], [-0.015, -0.028], [0.000, -0.012], [0.004, 0.000], [0.0065, 0.0025], [0.009, 0.000],
    [0.011, -0.010]])
# What makes other collars of it, by name: metres added to the height of its rim in front, behind, to its width in front, behind,
# and to the width of its outer side.
COLLARS = {
    '': (0.0, 0.0, 0.0, 0.0, 0.0), 'crew': (0.005, 0.005, 0.0, 0.0, 0.001), 'wide': (0.002, 0.004, 0.007, 0.004, 0.008),
    'high': (0.028, 0.026, 0.002, 0.002, 0.004), 'shirt': (0.004, 0.024, 0.006, 0.003, 0.014),
    'hood': (0.008, 0.030, 0.008, 0.022, 0.030),
}
_SPOKES = 64
_MIDDLE = -0.055  # z of the neck's axis


def collar_height(z):
    """Height of the collar's plane at depth `z` (metres): lower in front."""
    return -0.088 - 0.052 * np.clip((z + 0.125) / 0.135, 0, 1)


def shirt(neck: np.ndarray, *, collar: str = '') -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shirt around the `neck`'s vertices [N, 3] (metres, at rest): vertices [V, 3], triangles [F, 3], uv [F, 3, 2].

    `collar` is one of `COLLARS`.
    """
    turn = np.linspace(0, 2 * np.pi, _SPOKES, endpoint=False)
    radius = _neck_radius(neck, turn)
    rings = []
    front = np.exp(-((np.angle(np.exp(1j * turn)) / (0.5 if collar == 'shirt' else 1.3)) ** 2))
    low, high, narrow, wide, outer = COLLARS[collar]
    for k, (off, above) in enumerate(_COLLAR):
        rim = (0, 0, 0.5, 1, 1, 1, 0.35)[k]
        around = radius + off + rim * (narrow * front + wide * (1 - front)) + (outer if k > 4 else 0)
        z = _MIDDLE + around * np.cos(turn)
        lift = rim * (low * front + high * (1 - front))
        rings.append(np.stack([around * np.sin(turn), collar_height(z) + above + lift, z], 1))
    rings += [_ring(turn, *ring) for ring in _RINGS]
    points = [rings[0]]
    for k, (a, b) in enumerate(pairwise(rings)):
        steps = 1 if k < len(_COLLAR) - 1 else 5
        points += [a + (b - a) * (i / steps) for i in range(1, steps + 1)]
    index = np.arange(len(points) * _SPOKES).reshape(len(points), _SPOKES)
    after = np.roll(index, -1, 1)
    a, b, c, d = (x.reshape(-1) for x in (index[:-1], index[1:], after[1:], after[:-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices = np.concatenate(points)
    return vertices.astype(np.float32), faces, vertices[faces][:, :, :2].astype(np.float32)


def _ring(turn, width: float, depth: float, front: float, back: float, middle: float) -> np.ndarray:
    """Points [n, 3] of an ellipse, squarer for the wide ones: shoulders have corners."""
    square = np.clip((width - 0.09) / 0.1, 0, 1) * 0.35
    x = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (1 - square)
    droop = np.clip((np.abs(x) * width - 0.1) / 0.13, 0, 1) ** 2 * 0.035
    y = back + (front - back) * (0.5 + 0.5 * np.cos(turn)) - droop
    return np.stack([width * x, y, middle + depth * np.cos(turn)], 1)


def _neck_radius(neck: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Distance [n] of the skin from the neck's axis along the collar's plane, smoothed around."""
    near = neck[np.abs(neck[:, 1] - collar_height(neck[:, 2])) < 0.012]
    around = np.arctan2(near[:, 0], near[:, 2] - _MIDDLE)
    distance = np.hypot(near[:, 0], near[:, 2] - _MIDDLE)
    gap = np.angle(np.exp(1j * (turn[:, None] - around[None])))
    weight = np.exp(-((gap / 0.12) ** 2)) * (distance / distance.mean()) ** 4 + 1e-9
    return np.minimum((weight * distance).sum(1) / weight.sum(1), 0.085)


def neck_cover(points: np.ndarray, neck: np.ndarray, *, below: float = 0.006, slack: float = 0.0) -> np.ndarray:
    """Metres from the cut [N], positive where the shirt leaves skin at `points` [N, 3] visible; `neck`: see `shirt`.

    `below`: metres that skin goes on under the collar's plane, for collars that stand off; `slack`: metres that it may stand out.
    """
    turn = np.linspace(-np.pi, np.pi, _SPOKES)
    radius = np.interp(np.arctan2(points[:, 0], points[:, 2] - _MIDDLE), turn, _neck_radius(neck, turn))
    outside = np.hypot(points[:, 0], points[:, 2] - _MIDDLE) - radius + 0.0005 - slack
    above = points[:, 1] - collar_height(points[:, 2])
    return np.minimum(above + below, 2 * np.maximum(above - 0.004, 0) - outside)


def backdrop(color: np.ndarray, size: tuple[int, int], *, seed: int) -> np.ndarray:
    """Return a blurred room [H, W, 3] float32, linear RGB, around an sRGB `color`."""
    import cv2

    from sega_ros.synthetic.renderer import srgb_to_linear

    height, width = size
    rng = np.random.default_rng([seed, 91])
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.asarray(color) * (1.08 - 0.35 * y + 0.12 * x)[..., None]
    for _ in range(9):
        left, top = rng.uniform(-0.1, 1, 2)
        wide, tall = rng.uniform(0.05, 0.25), rng.uniform(0.1, 0.5)
        box = (x > left) & (x < left + wide) & (y > top) & (y < top + tall)
        image[box] = 0.55 * image[box] + 0.45 * np.clip(color * rng.uniform(0.55, 1.3) + rng.normal(0, 0.06, 3), 0, 1)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.035 * width)
    image += rng.normal(0, 0.004, image.shape)
    return srgb_to_linear(np.clip(image, 0, 1)).astype(np.float32)

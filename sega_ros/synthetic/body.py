"""What surrounds the head in a picture: a shirt that stays while the head turns, and a blurred room."""

import numpy as np

# Rings of the shirt from the collar down: half width, half depth, height in front, height behind, middle z (metres).
_RINGS = np.array([
    [0.062, 0.064, -0.150, -0.098, -0.058], [0.066, 0.068, -0.144, -0.092, -0.058], [0.070, 0.072, -0.146, -0.095, -0.058],
    [0.082, 0.078, -0.156, -0.106, -0.060], [0.115, 0.086, -0.172, -0.128, -0.064], [0.165, 0.098, -0.192, -0.158, -0.068],
    [0.205, 0.108, -0.225, -0.195, -0.070], [0.225, 0.118, -0.290, -0.270, -0.070], [0.230, 0.125, -0.600, -0.600, -0.070]])
_SPOKES = 64
COLLAR = -0.155  # metres: skin of the neck below it (in front) hides under the shirt


def shirt() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 3] (metres, head frame at rest), triangles [F, 3] and texture coordinates [F, 3, 2]."""
    turn = np.linspace(0, 2 * np.pi, _SPOKES, endpoint=False)
    fine = np.concatenate([np.linspace(a, b, 4, endpoint=False) for a, b in zip(_RINGS[:-1], _RINGS[1:], strict=True)])
    points = []
    for width, depth, front, back, z in fine:
        share = 0.5 + 0.5 * np.cos(turn)
        # The shoulders' corners: a circle at the collar, squarer below.
        square = np.clip((width - 0.09) / 0.1, 0, 1) * 0.35
        x = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (1 - square)
        droop = np.clip((np.abs(x) * width - 0.1) / 0.13, 0, 1) ** 2 * 0.035
        points.append(np.stack([width * x, back + (front - back) * share - droop, z + depth * np.cos(turn)], 1))
    index = np.arange(len(fine) * _SPOKES).reshape(len(fine), _SPOKES)
    after = np.roll(index, -1, 1)
    a, b, c, d = (x.reshape(-1) for x in (index[:-1], index[1:], after[1:], after[:-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices = np.concatenate(points)
    return vertices.astype(np.float32), faces, vertices[faces][:, :, :2].astype(np.float32)


def hidden_neck(points: np.ndarray) -> np.ndarray:
    """Which points [N, 3] of the mean identity the shirt hides; bool [N]."""
    forward = np.clip((points[:, 2] + 0.12) / 0.14, 0, 1)
    return points[:, 1] < -0.118 + (COLLAR + 0.118) * forward


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

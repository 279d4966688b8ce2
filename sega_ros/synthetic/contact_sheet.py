"""One picture of many synthetic people; look at it before training on them."""

from collections.abc import Iterable

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.synthetic.capture import camera_ring, make_capture, open_studio, take_shot
from sega_ros.types import FlameParams

_COLUMNS = 4  # people side by side; the last rows show the ring's 16 cameras


def capture_sheet(head: HeadModel, seeds: Iterable[int], *, tile: int = 160) -> np.ndarray:
    """Draw each person's photo and two views with expressions, then the first person before all 16 cameras.

    Args:
        head: the open head.
        seeds: whom to draw; at least one.
        tile: pixels of one small picture; the photo is shown at the same size.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    shown = [(seed, np.hstack(_pictures(head, seed, tile))) for seed in seeds]
    people = [pictures for _, pictures in shown]
    people += [np.full_like(people[0], 255)] * (-len(people) % _COLUMNS)
    rows = [np.hstack(people[i : i + _COLUMNS]) for i in range(0, len(people), _COLUMNS)]
    return np.vstack([*rows, _ring(head, shown[0][0], rows[0].shape[1])])


def _pictures(head: HeadModel, seed: int, tile: int) -> list[np.ndarray]:
    capture = make_capture(head, seed, shots=2, size=tile, photo_size=tile)
    return [shot.image for shot in (capture.photo, *capture.shots)]


def _ring(head: HeadModel, seed: int, width: int) -> np.ndarray:
    """Two rows of eight views of a neutral face, `width` pixels wide."""
    size, rng = width // 8, np.random.default_rng(seed)
    studio, neutral = open_studio(head, seed), FlameParams.neutral(head.n_shape, head.n_expression)
    views = [take_shot(studio, neutral, camera, rng).image for camera in camera_ring(size=size)]
    ring = np.vstack([np.hstack(views[:8]), np.hstack(views[8:])])
    return np.pad(ring, ((0, 0), (0, width - ring.shape[1]), (0, 0)), constant_values=255)

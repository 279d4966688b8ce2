"""Chosen frames of a clip without decoding all the others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sega_ros.errors import DatasetError
from sega_ros.io import VideoReader

_WALK = 24  # frames: a nearer one is reached by decoding what lies between


def read_frames(path: Path | str, indices: Sequence[int]) -> list[np.ndarray]:
    """Frames `indices` (ascending) of a clip, uint8 RGB [H, W, 3].

    Full NeRSemble clips take 45 ms a frame: far frames are sought, which the decoder does from the key frame before. Where it
    does not end up at the right frame the clip is decoded from the start.

    Raises:
        CameraError, ImageError: the clip can't be opened.
        DatasetError: it holds fewer frames.
    """
    if not indices:
        return []
    found = _sought(path, indices) if indices[-1] >= _WALK else None
    if found is not None:
        return found
    wanted, frames, count = set(indices), [], 0
    with VideoReader(path) as clip:
        for image in clip:
            if count in wanted:
                frames.append(image)
            count += 1
            if len(frames) == len(wanted):
                return frames
    raise DatasetError(f'{path}: holds {count} frames, wanted frame {indices[-1]}')


def _sought(path: Path | str, indices: Sequence[int]) -> list[np.ndarray] | None:
    """Frames found by seeking; None where the decoder does not get there."""
    import cv2

    with VideoReader(path):  # says what is wrong with the clip, if anything is
        capture = cv2.VideoCapture(str(path))
    frames, at = [], 0
    try:
        for index in indices:
            if index - at >= _WALK:
                capture.set(cv2.CAP_PROP_POS_FRAMES, index)
                at = index if capture.get(cv2.CAP_PROP_POS_FRAMES) == index else -1
            while 0 <= at < index:
                at = at + 1 if capture.grab() else -1
            ok, image = capture.read() if at == index else (False, None)
            if not ok:
                return None
            frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            at += 1
    finally:
        capture.release()
    return frames

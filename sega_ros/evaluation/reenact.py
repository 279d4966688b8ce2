"""Reenactment strips: frames of a clip above what avatars make of them, with figures where a driver's own avatar is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.errors import NoFaceError, RequestError
from sega_ros.evaluation.metrics import detected, landmark_distance, masked_psnr
from sega_ros.head.model import HeadModel
from sega_ros.io import VideoReader
from sega_ros.models.crop import cut_window
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.fit import Identity
from sega_ros.tracking.landmarks import LandmarkDetector, face_box
from sega_ros.tracking.tracker import FaceTracker
from sega_ros.training.data.clips import read_frames
from sega_ros.types import FlameExpression

_SCALE, _UP = 2.0, 0.08  # side of the shown square over the face's; how far its middle lies above the face's, over its side
_SCORE = 512  # px: landmark distances are given for a square of this side around the face
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class StripConfig:
    """What a strip shows."""

    frames: int = 8
    cell: int = 256  # px, square
    self_view: str = 'input'  # of the driver's own avatar
    other_view: str = 'follow'  # of the others'


@dataclass(frozen=True)
class SelfScores:
    """How close the own avatar comes to the shown frames, the first of the clip left out."""

    face_psnr: float  # dB, inside the hull of the true landmarks
    akd: float  # px of a 512 px square twice as large as the face
    frames: int
    lost: int  # frames in which the rendering shows no face


@dataclass(frozen=True)
class Strip:
    """A strip and its figures."""

    image: np.ndarray  # [(1 + avatars) cell, frames cell, 3] uint8
    indices: tuple[int, ...]  # of the shown frames in the clip
    own: SelfScores | None  # where the driver is the first avatar's own person


def make_strip(
    avatars: Sequence[Avatar], clip: Path | str, head: HeadModel, embedding: LandmarkEmbedding, *, own: bool,
    config: StripConfig | None = None, progress: Progress = lambda stage, share: None,
) -> Strip:
    """Let the face in `clip` drive `avatars` and show some frames.

    Args:
        avatars: one row each.
        clip: path of a clip.
        head, embedding: the head model the avatars were made for, and its landmarks.
        own: the driver is the first avatar's own person: it is seen by the tracked camera, and scored.
        config: what is shown.
        progress: called with what is done and the share of the whole.

    Raises:
        RequestError: no avatar, or fewer than one frame wanted.
        NoFaceError: no frame of the clip shows a face.
    """
    config = config or StripConfig()
    if not avatars or config.frames < 1:
        raise RequestError(f'strip: wanted at least one avatar and one frame, found {len(avatars)} and {config.frames}')
    drivers = [AvatarDriver(a, head) for a in avatars]
    identities = [avatars[0].identity if own else None] + [None] * (len(avatars) - 1)
    messages = track_clip(clip, head, embedding, identities, lambda share: progress('tracking', 0.9 * share))
    indices = choose_frames([m.face_present for m in messages[0]], config.frames, skip_first=own)
    if not indices:
        raise NoFaceError(f'{clip}: no frame shows a face; wanted a clip with one')
    frames = read_frames(clip, indices)
    square = _face_square(frames)
    rows, drawn = [[_cell(f, square, config.cell) for f in frames]], []
    for k, driver in enumerate(drivers):
        progress('drawing', 0.9 + 0.1 * k / len(drivers))
        kind = config.self_view if own and k == 0 else config.other_view
        size = frames[0].shape[:2] if kind == 'input' else (config.cell, config.cell)
        drawn = [driver.render(messages[k][i], View(kind, size=size)) for i in indices]
        rows.append([_cell(f, square, config.cell) if kind == 'input' else f for f in drawn])
        if own and k == 0:
            scores = score_frames(drawn, frames)
    return Strip(np.concatenate([np.concatenate(row, 1) for row in rows]), tuple(indices), scores if own else None)


def track_clip(
    clip: Path | str, head: HeadModel, embedding: LandmarkEmbedding, identities: Sequence[Identity | None],
    progress: Callable[[float], None] = lambda share: None,
) -> list[list[FlameExpression]]:
    """Messages of all frames of `clip`, once per entry of `identities`: the driver's known identity, or None to fit it."""
    found: dict[int, list[FlameExpression]] = {}
    distinct = {id(i): i for i in identities}
    trackers = {key: FaceTracker(head, embedding, identity=identity) for key, identity in distinct.items()}
    try:
        with VideoReader(clip) as reader:
            total = reader.frame_count
            for k, image in enumerate(reader):
                for key, tracker in trackers.items():
                    found.setdefault(key, []).append(tracker.track(image, round(k * 1e9 / reader.fps)))
                progress(min(1.0, (k + 1) / total) if total else 0.5)
    finally:
        for tracker in trackers.values():
            tracker.close()
    return [found[id(i)] for i in identities]


def choose_frames(present: Sequence[bool], count: int, *, skip_first: bool = False) -> list[int]:
    """Up to `count` indices of frames with a face, evenly over the clip; frame 0, the photo of one's own avatar, is skipped."""
    usable = np.flatnonzero(present)
    if skip_first and len(usable) > 1:
        usable = usable[usable > 0]
    if not len(usable):
        return []
    places = np.linspace(0, len(usable) - 1, min(count, len(usable)))
    return [int(usable[round(p)]) for p in places]


def score_frames(drawn: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> SelfScores:
    """Score renderings that lie over true frames (uint8 RGB [H, W, 3] each)."""
    psnr, distances, lost = [], [], 0
    with LandmarkDetector(static_image_mode=True) as detector:
        for image, frame in zip(drawn, truth, strict=True):
            real = detected(detector, frame)
            if real is None:
                continue
            psnr.append(masked_psnr(image, frame, face_hull(real, frame.shape[:2])))
            found = detected(detector, image)
            lost += found is None
            if found is not None:
                distances.append(landmark_distance(found, real) * _SCORE / (_SCALE * face_box(real)[1]))
    return SelfScores(_mean(psnr), _mean(distances), len(psnr), lost)


def _mean(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float('nan')


def face_hull(landmarks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask [H, W] bool of the convex hull of landmarks [>= 468, 2+] (px) in a picture of `size` (H, W)."""
    import cv2

    mask = np.zeros(size, np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(landmarks[:468, :2]).astype(np.int32)), 1)
    return mask > 0


def _face_square(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Centre [2] and side (px) of a square around the face, inside of the picture; its middle where no face is found."""
    with LandmarkDetector(static_image_mode=True) as detector:
        found = [p for p in (detected(detector, f) for f in frames) if p is not None]
    height, width = frames[0].shape[:2]
    if not found:
        return np.array([width, height]) / 2, float(min(height, width))
    boxes = [face_box(p) for p in found]
    side = min(_SCALE * float(np.median([b[1] for b in boxes])), 0.98 * min(height, width))
    centre = np.median([b[0] for b in boxes], 0) - [0, _UP * side]
    return np.clip(centre, side / 2, np.array([width, height]) - side / 2), side


def _cell(image: np.ndarray, square: tuple[np.ndarray, float], size: int) -> np.ndarray:
    return cut_window(image, *square, size)

"""Single frames out of a long clip, and a smaller clip of some of its passages, a frame in memory at a time."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sega_ros.errors import CameraError
from sega_ros.io import VideoReader, VideoWriter

_FAR = 250  # frames: the encoder's longest distance between key frames; nearer ones are reached faster by decoding
_HEADS = 15  # frames before the wanted one, at which a seek aims
# A clip that fits is taken as it is; of others, side (px) of each of the two pictures and crf (quality), finest first.
_RUNGS = ((320, 26), (256, 29), (192, 33))
_WHOLE, _FIRST = 5400, 3600  # frames: of a longer clip that does not fit so many are taken, and passages
_AROUND = 1.5  # s before and after a moment


class ClipFrames:
    """Frames of a clip by their index, as a context manager; ask for them in rising order."""

    def __init__(self, path: Path):
        """Open the clip.

        Raises:
            CameraError: there is none, or it can't be decoded.
        """
        with VideoReader(path) as reader:  # its checks and messages
            self.count, self.fps, self.size = reader.frame_count or 0, reader.fps, reader.size
        self._path, self._capture, self._next = path, cv2.VideoCapture(str(path)), 0

    def __enter__(self) -> 'ClipFrames':
        return self

    def __exit__(self, *_) -> None:
        self._capture.release()

    def at(self, index: int) -> np.ndarray:
        """Return frame `index`, uint8 RGB [H, W, 3].

        Raises:
            CameraError: the clip ends before it.
        """
        if not 0 <= index - self._next <= _FAR:
            self._seek(max(0, index - _HEADS))
        while self._next < index and self._capture.grab():
            self._next += 1
        frame = self._capture.read()[1] if self._next == index else None
        if frame is None:
            raise CameraError(f'{self._path}: ends before frame {index}; is the file whole?')
        self._next += 1
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _seek(self, index: int) -> None:
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        self._next = round(self._capture.get(cv2.CAP_PROP_POS_FRAMES))
        if self._next > index:  # the container has no index to seek by
            self._capture.release()
            self._capture, self._next = cv2.VideoCapture(str(self._path)), 0

    def passages(self, passages: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Yield the frames of passages [first, end)."""
        for first, end in passages:
            for index in range(first, end):
                yield self.at(index)


@dataclass(frozen=True)
class SmallClip:
    """A clip that can stand in a page."""

    data: bytes  # MP4, H.264
    passages: tuple[tuple[int, int], ...]  # [first, end) rows of the run, one after the other in the clip
    fps: float
    side: int  # px of each of the two pictures
    original: bool  # the file itself


def small_clip(path: Path, rows: Sequence[int], *, limit: int) -> SmallClip | None:
    """Return `path` as a clip of at most `limit` bytes, with the passages around `rows` in any case; None where that can't be.

    Raises:
        CameraError: the clip is damaged.
    """
    with ClipFrames(path) as frames:
        if path.stat().st_size <= limit:
            return SmallClip(path.read_bytes(), ((0, frames.count),), frames.fps, frames.size[0], original=True)
        passages = choose_passages(frames.count, frames.fps, rows)
        for side, crf in ((min(side, frames.size[0]), crf) for side, crf in _RUNGS):
            data = _encode(frames, passages, side, crf)
            if len(data) <= limit:
                return SmallClip(data, passages, frames.fps, side, original=False)
    return None


def choose_passages(count: int, fps: float, rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """All of a clip of `count` frames; of a long one its first minutes and what is around `rows`. Rising, apart, [first, end)."""
    if count <= _WHOLE:
        return ((0, count),)
    around = round(_AROUND * fps)
    wanted = [(0, _FIRST), *((max(0, r - around), min(count, r + around + 1)) for r in sorted(rows))]
    merged = [wanted[0]]
    for first, end in wanted[1:]:
        if first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)


def _encode(frames: ClipFrames, passages: Sequence[tuple[int, int]], side: int, crf: int) -> bytes:
    height, width = side, 2 * (round(side * frames.size[1] / frames.size[0]) // 2)
    with tempfile.TemporaryDirectory(prefix='sega-report-') as folder:
        path = Path(folder) / 'small.mp4'
        with VideoWriter(path, size=(height, width), fps=frames.fps, crf=crf) as writer:
            for image in frames.passages(passages):
                writer.write(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        return path.read_bytes()

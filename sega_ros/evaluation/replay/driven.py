"""Driving an avatar through a recording: every frame tracked, bound and drawn, one after the other or at the recorded pace."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from threading import Condition, Thread

import numpy as np

from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.errors import RecordingError, SegaError
from sega_ros.io.bags import StampedImage
from sega_ros.tracking.tracker import FaceTracker
from sega_ros.types import FlameExpression

_PENDING = 256  # pictures of the one stream that may wait for their stamp in the other


@dataclass(frozen=True)
class Times:
    """What a frame cost."""

    track_ms: float
    bind_ms: float
    draw_ms: float
    latency_ms: float  # the sum; at the recorded pace from when the frame was due


@dataclass(frozen=True)
class Driven:
    """One frame of a recording and what the avatar made of it."""

    index: int  # in the recording
    stamp_ns: int
    expression: FlameExpression
    truth: np.ndarray | None  # [H, W, 3] uint8 RGB: the driving frame
    drawn: np.ndarray | None  # [H, W, 3] uint8 RGB; None: no picture with this stamp was recorded
    times: Times


class Stage:
    """Tracker and driver of one run."""

    def __init__(self, tracker: FaceTracker | None, driver: AvatarDriver | None, view: View):
        """Take what drives; without a `driver` nothing is drawn, without a `tracker` expressions come from elsewhere."""
        self._tracker, self._driver, self._view = tracker, driver, view

    def track(self, frame: StampedImage) -> tuple[FlameExpression, float]:
        """Return what the frame says about the face, and the milliseconds that took."""
        start = time.perf_counter()
        expression = self._tracker.track(frame.image, frame.stamp_ns, frame.frame_id)
        return expression, 1e3 * (time.perf_counter() - start)

    def draw(self, expression: FlameExpression, size: tuple[int, int]) -> tuple[np.ndarray | None, float, float]:
        """Return the picture, `size` (H, W) in view `input`, and the milliseconds that binding and drawing took."""
        if self._driver is None:
            return None, 0.0, 0.0
        view = replace(self._view, size=size) if self._view.kind == 'input' else self._view
        start = time.perf_counter()
        bound = self._driver.bind(expression, view)
        between = time.perf_counter()
        image = self._driver.draw(bound)
        return image, 1e3 * (between - start), 1e3 * (time.perf_counter() - between)


def drive(frames: Iterable[StampedImage], stage: Stage) -> Iterator[Driven]:
    """Yield every frame, driven."""
    for index, frame in enumerate(frames):
        yield _driven(index, frame, stage, None)


def drive_realtime(frames: Iterable[StampedImage], stage: Stage) -> Iterator[Driven]:
    """Yield the frames that a driver gets at the recorded pace: the newest one wins, the others are dropped."""
    with _Pace(frames) as pace:
        for index, frame, due in pace:
            yield _driven(index, frame, stage, due)


def drive_expressions(expressions: Iterable[FlameExpression], truth: Iterable[StampedImage] | None, stage: Stage, *,
                      size: tuple[int, int]) -> Iterator[Driven]:
    """Yield every recorded expression, drawn; over the picture of `truth` with its stamp, where there is one."""
    pictures = _ByStamp(truth) if truth is not None else None
    for index, expression in enumerate(expressions):
        frame = pictures.at(expression.stamp_ns) if pictures else None
        drawn, bind, draw = stage.draw(expression, frame.shape[:2] if frame is not None else size)
        yield Driven(index, expression.stamp_ns, expression, frame, drawn, Times(0.0, bind, draw, bind + draw))


def pair(frames: Iterable[StampedImage], drawn: Iterable[StampedImage], stage: Stage) -> Iterator[Driven]:
    """Yield every frame with the recorded picture of the same stamp, tracked for the window's sake; nothing is drawn."""
    pictures = _ByStamp(drawn)
    for index, frame in enumerate(frames):
        expression, _ = stage.track(frame)
        image = pictures.at(frame.stamp_ns)
        if image is not None and image.shape != frame.image.shape:
            raise RecordingError(f'frame {index}: the recorded picture has {image.shape[1]} x {image.shape[0]} px, the camera '
                                 f'{frame.image.shape[1]} x {frame.image.shape[0]}: only pictures of view "input" lie over the '
                                 'frames that drive')
        yield Driven(index, frame.stamp_ns, expression, frame.image, image, Times(0.0, 0.0, 0.0, 0.0))


def _driven(index: int, frame: StampedImage, stage: Stage, due: float | None) -> Driven:
    expression, track = stage.track(frame)
    image, bind, draw = stage.draw(expression, frame.image.shape[:2])
    latency = track + bind + draw if due is None else 1e3 * (time.perf_counter() - due)
    return Driven(index, frame.stamp_ns, expression, frame.image, image, Times(track, bind, draw, latency))


class _ByStamp:
    """Pictures of a stream, found by their stamp; both streams rise with time."""

    def __init__(self, pictures: Iterable[StampedImage]):
        self._stream, self._waiting = iter(pictures), {}

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """The picture taken at `stamp_ns`, or None."""
        for old in [s for s in self._waiting if s < stamp_ns]:
            del self._waiting[old]
        while stamp_ns not in self._waiting and len(self._waiting) < _PENDING:
            picture = next(self._stream, None)
            if picture is None:
                break
            if picture.stamp_ns >= stamp_ns:
                self._waiting[picture.stamp_ns] = picture.image
            if picture.stamp_ns > stamp_ns:
                break
        return self._waiting.pop(stamp_ns, None)


class _Pace:
    """Plays frames at their stamps' pace into a slot of one: a context manager that yields (index, frame, when it was due)."""

    def __init__(self, frames: Iterable[StampedImage]):
        self._frames, self._slot, self._over = frames, None, False
        self._error: SegaError | None = None
        self._changed = Condition()
        self._thread = Thread(target=self._play, name='replay', daemon=True)

    def __enter__(self) -> '_Pace':
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[tuple[int, StampedImage, float]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot is not None or self._over)
                item, self._slot = self._slot, None
            if item is None:
                if self._error is not None:
                    raise self._error
                return
            yield item

    def _play(self) -> None:
        start = first = None
        try:
            for index, frame in enumerate(self._frames):
                now = time.perf_counter()
                if start is None:
                    start, first = now, frame.stamp_ns
                due = max(start + (frame.stamp_ns - first) / 1e9, start)
                with self._changed:
                    if self._changed.wait_for(lambda: self._over, timeout=max(0.0, due - now)):
                        return
                    self._slot = (index, frame, due)
                    self._changed.notify_all()
        except SegaError as e:
            self._error = e
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

"""Driven frames to rows of figures, and to pictures of the windows side by side."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from sega_ros.evaluation.metrics import detected
from sega_ros.evaluation.replay.driven import Driven
from sega_ros.evaluation.replay.figures import FrameJudge, Seen, expressive, jitter
from sega_ros.evaluation.replay.rows import FrameFigures
from sega_ros.evaluation.replay.window import SIZE, Window, WindowFinder
from sega_ros.head.model import HeadModel
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.types import FlameExpression, Landmarks

GREY = 96  # where there is no picture


@dataclass(frozen=True)
class Rules:
    """What is compared with what."""

    overlays: bool  # pictures lie over the frames that drive (view `input`)
    same_person: bool  # and show the same person: they can be compared with the frames
    identity_frame: int | None = None  # the avatar's photo: not measured
    every: int = 1  # frames


class Measurer:
    """Measures frames in their order; a context manager."""

    def __init__(self, judge: FrameJudge, head: HeadModel, embedding: LandmarkEmbedding, rules: Rules, *, done: int = 0):
        """Of the first `done` frames, whose rows are known, only windows are made, and what the next frame's jitter needs."""
        self._judge, self._head, self._embedding, self._rules, self._done = judge, head, embedding, rules, done
        self._finder = LandmarkDetector(static_image_mode=True)
        self._driver_window: WindowFinder | None = None
        self._avatar_window: WindowFinder | None = None
        self._steady: deque[tuple[np.ndarray | None, np.ndarray | None]] = deque(maxlen=3)
        self._waiting: FrameFigures | None = None
        self.side: float | None = None  # of the window in the driving frames, px

    def __enter__(self) -> 'Measurer':
        self._judge.__enter__()
        return self

    def __exit__(self, *_) -> None:
        self._judge.__exit__()
        self._finder.close()

    def measure(self, driven: Driven) -> tuple[list[FrameFigures], np.ndarray]:
        """Return the rows that this frame completes, and its windows side by side, uint8 RGB [512, 1024, 3]."""
        place, place_drawn = self._places(driven)
        windows = [_shown(driven.truth, place), _shown(driven.drawn, place_drawn)]
        row, seen, found = self._row(driven, place, place_drawn, windows)
        self._steady.append((seen.steady if seen else None, found.steady if found else None))
        return self._complete(row), np.concatenate(windows, 1)

    def finish(self) -> list[FrameFigures]:
        """Return the last row."""
        last, self._waiting = self._waiting, None
        return [last] if last is not None else []

    def _complete(self, row: FrameFigures) -> list[FrameFigures]:
        """The row before, its jitter now known."""
        before, self._waiting = self._waiting, row
        if before is None:
            return []
        if len(self._steady) == 3 and self._rules.every == 1:
            driver, avatar = ([s[k] for s in self._steady] for k in (0, 1))
            before = replace(before, jitter=jitter(avatar), jitter_driver=jitter(driver))
        return [before]

    def _places(self, driven: Driven) -> tuple[Window | None, Window | None]:
        """Windows in the driving frame and in the avatar's picture."""
        if self._driver_window is None and driven.truth is not None:
            self._driver_window = self._start(driven.truth, driven.expression)
        place = _place(self._driver_window, driven.truth, driven.expression)
        if place is not None:
            self.side = self.side or place.side
        if self._rules.overlays and driven.truth is not None:
            return place, place
        still = replace(driven.expression, face_present=False)  # the avatar's picture has a camera of its own: hold the window
        if self._avatar_window is None and driven.drawn is not None:
            self._avatar_window = self._start(driven.drawn, still)
        return place, _place(self._avatar_window, driven.drawn, still)

    def _start(self, image: np.ndarray, expression: FlameExpression) -> WindowFinder | None:
        points = self._judge.mesh(image)
        if points is None:  # small faces are found in parts of the picture only
            points = detected(self._finder, image)
        if points is None:
            return None
        reference = Landmarks(points, 1.0, image.shape[1], image.shape[0])
        return WindowFinder(reference, expression, self._embedding, self._head.v_template, self._head.faces)

    def _row(self, driven: Driven, place: Window | None, place_drawn: Window | None, windows: list[np.ndarray],
             ) -> tuple[FrameFigures, Seen | None, Seen | None]:
        says, rules = driven.expression, self._rules
        row = FrameFigures(driven.index, driven.stamp_ns, bool(says.face_present), float(says.confidence), False, False)
        if driven.index < self._done - 2 or driven.index == rules.identity_frame or driven.index % rules.every:
            return row, None, None
        seen, found = (None if place_ is None or image is None else self._judge.look(window, place_, image.shape[:2])
                       for place_, image, window in zip((place, place_drawn), (driven.truth, driven.drawn), windows, strict=True))
        scored = driven.drawn is not None and (seen is not None or (driven.truth is None and bool(says.face_present)))
        figures = expressive(seen, suffix='_driver') | expressive(found, suffix='')
        if scored and seen and rules.same_person and rules.overlays:
            figures |= self._judge.compare(driven.truth, driven.drawn, place, seen, found)
        elif scored and seen and found:
            figures |= self._judge.compare_motion(seen, found, pose=rules.overlays)
        return replace(row, scored=scored, lost=scored and found is None, **figures), seen, found


def _place(finder: WindowFinder | None, image: np.ndarray | None, expression: FlameExpression) -> Window | None:
    return None if finder is None or image is None else finder(expression, image.shape[:2])


def _shown(image: np.ndarray | None, place: Window | None) -> np.ndarray:
    if image is None or place is None:
        return np.full((SIZE, SIZE, 3), GREY, np.uint8)
    return place.cut(image)

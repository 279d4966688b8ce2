"""Collecting an operator's neutral face."""

import threading
import time
from collections.abc import Callable, Sequence

from sega_ros.errors import CameraError, CancelledError, NoFaceError, RequestError
from sega_ros.types import FlameExpression

DEFAULT_DURATION = 2.0  # seconds
SHORTEST, LONGEST = 0.5, 10.0
# Waiting longer than the duration for the first frames means that none come.
GRACE = 2.0


def calibration_duration(requested: float) -> float:
    """Return the duration to collect for, in seconds; 0 means the default.

    Raises:
        RequestError: out of range.
    """
    if requested == 0:
        return DEFAULT_DURATION
    if not SHORTEST <= requested <= LONGEST:
        raise RequestError(f'duration: found {requested:g} s, wanted {SHORTEST:g} to {LONGEST:g} (0 means '
                           f'{DEFAULT_DURATION:g})')
    return requested


class Calibration:
    """Expressions of a span of time; filled by the tracking thread, awaited by the service.

    The span is one of the monotonic clock: stamps may jump.
    """

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self._done = threading.Event()
        self._expressions: list[FlameExpression] = []
        self._first: float | None = None
        self._cancelled = False

    def add(self, expression: FlameExpression, take: Callable[[Sequence[FlameExpression]], object]) -> bool:
        """Add a tracked frame; when the span is complete, pass the ones with a face to `take` and return True."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        if expression.face_present:
            self._expressions.append(expression)
        if now - self._first < self.duration:
            return False
        if self._expressions:
            take(self._expressions)
        self._done.set()
        return True

    def cancel(self) -> None:
        """Give up; the waiting service answers that it was cancelled."""
        self._cancelled = True
        self._done.set()

    def wait(self) -> int:
        """Wait for the span to be complete and return the number of frames with a face.

        Raises:
            CameraError: no frames, or they stopped.
            NoFaceError: no face in any of them.
            CancelledError: the node stopped.
        """
        finished = self._done.wait(self.duration + GRACE)
        if self._cancelled:
            raise CancelledError('calibration was cancelled: the node is no longer active')
        if not finished:
            count = 'no' if self._first is None else 'too few'
            raise CameraError(f'{count} camera images within {self.duration + GRACE:g} s; check the camera')
        if not self._expressions:
            raise NoFaceError(f'no face was seen during {self.duration:g} s; look into the camera and try again')
        return len(self._expressions)

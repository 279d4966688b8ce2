"""Received expressions played evenly: the thread around `avatar.playout`."""

import threading
import time
from collections.abc import Callable

from sega_ros.avatar.idle import NANOSECONDS
from sega_ros.avatar.playout import Playout
from sega_ros.types import FlameExpression


class JitterBuffer:
    """Calls `play` with each expression when it is due, in a thread of its own.

    `settings` returns delay (seconds) and rate (a second; 0: the sender's) as they are wanted now; `late` is called for every
    message that can't be shown any more, `failed` with an exception of `play`, which doesn't stop the thread.
    """

    def __init__(self, settings: Callable[[], tuple[float, float]], *, play: Callable[[FlameExpression], None],
                 late: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self._settings, self._play, self._late, self._failed = settings, play, late, failed
        self._playout, self._changed, self._open = Playout(), threading.Condition(), True
        self._thread = threading.Thread(target=self._run, name='playout', daemon=True)
        self._thread.start()

    def put(self, expression: FlameExpression) -> None:
        """Take a message that came now."""
        with self._changed:
            if not self._playout.add(expression, time.monotonic_ns(), self._delay):
                self._late()
            self._changed.notify()

    def close(self) -> None:
        """Play nothing any more."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    @property
    def _delay(self) -> int:
        return round(self._settings()[0] * NANOSECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._wait()
                if not self._open:
                    return
                expression = self._playout.take(time.monotonic_ns(), self._delay, self._settings()[1])
            if expression is None:
                continue
            try:
                self._play(expression)
            except Exception as error:  # one bad frame must not end the playing
                self._failed(error)

    def _wait(self) -> None:
        """Wait until something is due, or has come, which may be due earlier."""
        due = self._playout.due(self._delay, self._settings()[1])
        if self._open:
            self._changed.wait(None if due is None else max(0.0, (due - time.monotonic_ns()) / NANOSECONDS))

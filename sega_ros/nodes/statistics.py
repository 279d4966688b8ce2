"""Rates, latencies and drops of a stream of frames, for the diagnostics."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_KEPT = 4096  # events of a kind that are remembered
_PAUSE = 5.0  # seconds: more is no stream's interval, but a cut
_KINDS = ('received', 'published', 'dropped', 'refused', 'unwanted', 'late')


@dataclass(frozen=True)
class FrameReport:
    """What happened in the last window, and totals since the start."""

    rate: float  # frames out per second
    input_rate: float  # frames in per second
    latency_p50: float  # seconds, NaN without frames
    latency_p95: float
    received: int
    published: int
    dropped: int  # replaced by a newer frame before it was handled
    refused: int  # could not be used (bad image, wrong head model, failure)
    unwanted: int  # nobody subscribed
    late: int  # came too late for the jitter buffer
    recently: dict[str, int]  # the six counts of the last window alone
    seconds_since_input: float  # NaN before the first
    interval: float  # seconds between frames that come in, smoothed; 0 before the second


class FrameStatistics:
    """Counters of one stream; thread-safe. Time is monotonic: neither a clock that is set nor a simulated one disturbs it."""

    def __init__(self, window: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Report rates and latency over the last `window` seconds of `clock`."""
        self._lock, self._window, self._clock = threading.Lock(), window, clock
        self._times: dict[str, deque[float]] = {kind: deque(maxlen=_KEPT) for kind in _KINDS}
        self._latencies: deque[float] = deque(maxlen=_KEPT)  # of the published ones
        self._counts = dict.fromkeys(_KINDS, 0)
        self._last_input: float | None = None
        self._interval = 0.0

    def received(self) -> None:
        """Count a frame that came in."""
        with self._lock:
            before, self._last_input = self._last_input, self._count('received')
            if before is not None and (passed := self._last_input - before) < _PAUSE:
                self._interval += (0.2 if self._interval else 1.0) * (passed - self._interval)

    def published(self, latency: float) -> None:
        """Count a frame that went out `latency` seconds after it was captured."""
        with self._lock:
            self._count('published')
            self._latencies.append(latency)

    def dropped(self) -> None:
        """Count a frame that a newer one replaced."""
        with self._lock:
            self._count('dropped')

    def refused(self) -> None:
        """Count a frame that could not be used."""
        with self._lock:
            self._count('refused')

    def unwanted(self) -> None:
        """Count a frame that nobody subscribed to."""
        with self._lock:
            self._count('unwanted')

    def late(self) -> None:
        """Count a frame that came when its time was over."""
        with self._lock:
            self._count('late')

    def _count(self, kind: str) -> float:
        now = self._clock()
        self._counts[kind] += 1
        self._times[kind].append(now)
        return now

    def report(self) -> FrameReport:
        """Return the figures of the last window and the totals."""
        with self._lock:
            now = self._clock()
            recent = {kind: [t for t in times if now - t <= self._window] for kind, times in self._times.items()}
            count = len(recent['published'])
            latencies = list(self._latencies)[len(self._latencies) - count:]
            since = now - self._last_input if self._last_input is not None else np.nan
            totals, interval = dict(self._counts), self._interval
        p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (np.nan, np.nan)
        return FrameReport(
            self._rate(recent['published']), self._rate(recent['received']), float(p50), float(p95), **totals,
            recently={kind: len(times) for kind, times in recent.items()}, seconds_since_input=float(since), interval=interval)

    def _rate(self, times: Sequence[float]) -> float:
        """Events per second at `times`: between the first and the last, where there are two."""
        if len(times) > 1 and times[-1] > times[0]:
            return (len(times) - 1) / (times[-1] - times[0])
        return len(times) / self._window


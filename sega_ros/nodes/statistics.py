"""Rates, latencies and drops of a stream of frames, for the diagnostics."""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

NANOSECONDS = 1e9


@dataclass(frozen=True)
class FrameReport:
    """What happened in the last window, and totals since the start."""

    rate: float  # frames out per second
    latency_p50: float  # seconds, NaN without frames
    latency_p95: float
    received: int
    published: int
    dropped: int  # replaced by a newer frame before it was handled
    refused: int  # could not be used (bad image, wrong head model, failure)
    unwanted: int  # nobody subscribed
    late: int  # came too late for the jitter buffer
    seconds_since_input: float  # NaN before the first


class FrameStatistics:
    """Counters of one stream; thread-safe. Times are nanoseconds of the caller's clock."""

    def __init__(self, window: float = 5.0) -> None:
        """Report rate and latency over the last `window` seconds."""
        self._lock = threading.Lock()
        self._window = window * NANOSECONDS
        self._out: deque[tuple[int, float]] = deque(maxlen=4096)
        self._counts = dict.fromkeys(('received', 'published', 'dropped', 'refused', 'unwanted', 'late'), 0)
        self._last_input: int | None = None

    def received(self, now_ns: int) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._counts['received'] += 1
            self._last_input = now_ns

    def published(self, now_ns: int, stamp_ns: int) -> None:
        """Count a frame that went out; `stamp_ns` is when it was captured."""
        with self._lock:
            self._counts['published'] += 1
            self._out.append((now_ns, (now_ns - stamp_ns) / NANOSECONDS))

    def dropped(self) -> None:
        """Count a frame that a newer one replaced."""
        self._count('dropped')

    def refused(self) -> None:
        """Count a frame that could not be used."""
        self._count('refused')

    def unwanted(self) -> None:
        """Count a frame that nobody subscribed to."""
        self._count('unwanted')

    def late(self) -> None:
        """Count a frame that came when its time was over."""
        self._count('late')

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def report(self, now_ns: int) -> FrameReport:
        """Return the figures of the last window and the totals."""
        with self._lock:
            recent = [(t, latency) for t, latency in self._out if now_ns - t <= self._window]
            latencies = [latency for _, latency in recent]
            p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (np.nan, np.nan)
            since = (now_ns - self._last_input) / NANOSECONDS if self._last_input is not None else np.nan
            rate = len(recent) / (self._window / NANOSECONDS)
            if len(recent) > 1 and recent[-1][0] > recent[0][0]:
                rate = (len(recent) - 1) * NANOSECONDS / (recent[-1][0] - recent[0][0])
            return FrameReport(float(rate), float(p50), float(p95), seconds_since_input=float(since), **self._counts)

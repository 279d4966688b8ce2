"""Even playing of expressions that come over a network: a delay evens out what their way took, interpolation fills what was lost.

Without ROS and without a clock of its own: times are nanoseconds, `now` on this machine's clock, stamps on the sender's, which
may differ by any amount, drift and jump.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np

from sega_ros.avatar.idle import NANOSECONDS, patience
from sega_ros.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from sega_ros.types import FlameExpression, FlameParams

# Of which the fastest message tells the clocks' difference; quartz drifts by half a millisecond meanwhile.
WINDOW = 10 * NANOSECONDS
SLEW = 0.05  # seconds a second by which the mapping moves: nobody sees a face 5 % faster
# What is this far from all others is a clock that was set, if it lasts; and so is a stream of which every message is late.
JUMP, LASTS, LASTS_MESSAGES = NANOSECONDS, NANOSECONDS // 2, 5
_USUAL_INTERVAL = NANOSECONDS / 30  # until two messages have come
_LEAST_INTERVAL = NANOSECONDS / 240  # no gap is filled with more
_MOST = 2048  # messages that are kept
_stamp = attrgetter('stamp_ns')


def interpolate(a: FlameExpression, b: FlameExpression, stamp_ns: int) -> FlameExpression:
    """Return the expression at `stamp_ns` between `a` and `b`, the earlier one: coefficients linearly, rotations by slerp.

    Outside of the two, the nearer one is held; and expressions of different head models or cameras are not mixed.
    """
    span = b.stamp_ns - a.stamp_ns
    w = min(max((stamp_ns - a.stamp_ns) / span, 0.0), 1.0) if span else 0.0
    nearer = b if w >= 0.5 else a
    if w in (0.0, 1.0) or not _alike(a, b):
        return replace(nearer, stamp_ns=stamp_ns)
    p, q = a.params, b.params
    joints = {name: _slerp_rotvec(getattr(p, name), getattr(q, name), w)
              for name in ('neck_pose', 'jaw_pose', 'left_eye_pose', 'right_eye_pose')}
    params = FlameParams(p.shape, _lerp(p.expression, q.expression, w), eyelids=_lerp(p.eyelids, q.eyelids, w), **joints)
    return replace(
        nearer, stamp_ns=stamp_ns, confidence=(1 - w) * a.confidence + w * b.confidence, params=params,
        rotation=_slerp(a.rotation, b.rotation, w).astype(np.float32), translation=_lerp(a.translation, b.translation, w),
        focal_length=(1 - w) * a.focal_length + w * b.focal_length)


def _alike(a: FlameExpression, b: FlameExpression) -> bool:
    said = [(e.frame_id, e.head_model, e.head_model_version, len(e.params.expression)) for e in (a, b)]
    return said[0] == said[1]


def _lerp(a: np.ndarray, b: np.ndarray, w: float) -> np.ndarray:
    return ((1 - w) * a + w * b).astype(np.float32)


def _slerp(a: np.ndarray, b: np.ndarray, w: float) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return a @ rotvec_to_rotmat(w * rotmat_to_rotvec(a.T @ b))


def _slerp_rotvec(a: np.ndarray, b: np.ndarray, w: float) -> np.ndarray:
    if np.array_equal(a, b):  # most joints of most frames
        return a
    turns = (rotvec_to_rotmat(np.asarray(v, np.float64)) for v in (a, b))
    return rotmat_to_rotvec(_slerp(*turns, w)).astype(np.float32)


class ClockMap:
    """What is to be added to a sender's stamp to get the time here at which its message comes when nothing holds it up.

    That is the difference of the clocks and the shortest delay together: the smallest of the last `WINDOW`. It is followed
    slowly, so that what is played neither jumps nor runs backwards.
    """

    def __init__(self, messages: Sequence[tuple[int, int]]) -> None:
        """Start with messages: stamp, and when it came."""
        stamp, now = messages[0]
        self._first = now - stamp
        self._least: deque[tuple[int, int]] = deque()  # when it came, offset - first; rising, so the first is the smallest
        for message in messages:
            self.add(*message)
        self._offset = float(self._least[0][1])  # from the first: a float keeps nanoseconds of days, not of decades
        self._at = now

    def error(self, stamp_ns: int, now_ns: int) -> int:
        """Return by how much a message is later than the fastest one; negative: it is earlier."""
        return now_ns - stamp_ns - self._first - self._least[0][1]

    def add(self, stamp_ns: int, now_ns: int) -> None:
        """Learn from a message."""
        offset = now_ns - stamp_ns - self._first
        while self._least and self._least[-1][1] >= offset:
            self._least.pop()
        self._least.append((now_ns, offset))
        while self._least[0][0] < now_ns - WINDOW:
            self._least.popleft()

    def advance(self, now_ns: int) -> None:
        """Let the mapping follow what was learnt."""
        most = SLEW * max(0, now_ns - self._at)
        self._at = max(self._at, now_ns)
        self._offset += min(max(self._least[0][1] - self._offset, -most), most)

    def to_here(self, stamp_ns: int) -> int:
        """Return the time here of a stamp."""
        return stamp_ns + self._first + round(self._offset)


class Playout:
    """A buffer of received expressions that gives out what is to be shown, and says when.

    Example::

        playout = Playout()
        playout.add(expression, now_ns, delay_ns)  # whenever one comes
        playout.due(delay_ns, rate)  # wait until then
        playout.take(now_ns, delay_ns, rate)  # show it
    """

    def __init__(self) -> None:
        self._clock: ClockMap | None = None
        self._buffer: list[FlameExpression] = []  # by stamp; the first was shown last, or is about to be
        self._shown: int | None = None  # stamp of what was given out last
        self._newest: int | None = None  # stamp
        self._intervals: deque[int] = deque(maxlen=15)
        self._unusable: deque[tuple[FlameExpression, int]] = deque(maxlen=_MOST)  # those in a row, and when they came

    @property
    def interval(self) -> float:
        """Nanoseconds from one message of the stream to the next. Losses make some longer, so one of the shortest."""
        known = sorted(self._intervals)
        return max(known[len(known) // 8], _LEAST_INTERVAL) if known else _USUAL_INTERVAL

    def add(self, expression: FlameExpression, now_ns: int, delay_ns: int) -> bool:
        """Put a message in that came now; return False when it comes too late to be shown, or its stamp is out of the way."""
        if self._clock is None:
            self._clock = ClockMap([(expression.stamp_ns, now_ns)])
        if self._usable(expression.stamp_ns, now_ns, delay_ns, self._clock):
            self._unusable.clear()
            self._keep(expression)
            return True
        self._unusable.append((expression, now_ns))
        if len(self._unusable) < LASTS_MESSAGES or now_ns - self._unusable[0][1] < LASTS:
            return False
        self._start_again(list(self._unusable))
        return True

    def due(self, delay_ns: int, rate: float) -> int | None:
        """Return the time here at which the next expression is to be shown; None: not known before another message comes.

        `rate` is how many are wanted a second; 0: as many as the sender sends.
        """
        stamp = self._next(rate)
        return None if stamp is None or self._clock is None else self._clock.to_here(stamp) + delay_ns

    def take(self, now_ns: int, delay_ns: int, rate: float) -> FlameExpression | None:
        """Return what is to be shown now, with a stamp of the sender's clock; None when nothing is due.

        Of several that are due the last is taken; messages pass unchanged where their time is the one that is wanted.
        """
        if self._clock is None:
            return None
        self._clock.advance(now_ns)
        before = self._shown
        while (due := self.due(delay_ns, rate)) is not None and due <= now_ns:
            self._shown = self._next(rate)
        return None if self._shown is None or self._shown == before else self._at(self._shown)

    def _usable(self, stamp: int, now_ns: int, delay_ns: int, clock: ClockMap) -> bool:
        if abs(clock.error(stamp, now_ns)) > JUMP + delay_ns:
            return False
        clock.add(stamp, now_ns)
        clock.advance(now_ns)
        if (self._shown is not None and stamp <= self._shown) or len(self._buffer) >= _MOST:
            return False
        return clock.to_here(stamp) + delay_ns >= now_ns - self.interval

    def _keep(self, expression: FlameExpression) -> None:
        stamp = expression.stamp_ns
        if self._newest is not None and stamp > self._newest:
            self._intervals.append(stamp - self._newest)
        self._newest = stamp if self._newest is None else max(stamp, self._newest)
        at = bisect_left(self._buffer, stamp, key=_stamp)
        if at == len(self._buffer) or self._buffer[at].stamp_ns != stamp:
            self._buffer.insert(at, expression)

    def _start_again(self, came: Sequence[tuple[FlameExpression, int]]) -> None:
        """Take these messages for the stream as it is from now on: a clock was set, or the way has become longer."""
        self._buffer, self._shown, self._newest = [], None, None
        self._intervals.clear()
        self._unusable.clear()
        self._clock = ClockMap([(expression.stamp_ns, at) for expression, at in came])
        for expression, _ in came:
            self._keep(expression)

    def _next(self, rate: float) -> int | None:
        """Return the stamp that is to be shown next."""
        k = 0 if self._shown is None else bisect_right(self._buffer, self._shown, key=_stamp)
        if k == len(self._buffer):
            return None
        after = self._buffer[k].stamp_ns
        most = NANOSECONDS * patience(self.interval / NANOSECONDS)
        if self._shown is None or k == 0 or after - self._buffer[k - 1].stamp_ns > most:
            return after  # nothing is made up where the link was cut
        step = NANOSECONDS / rate if rate else self.interval
        wanted = self._shown + round(step)
        if not rate:
            return after if after <= wanted + step / 2 else wanted
        return wanted if wanted <= self._buffer[-1].stamp_ns else None

    def _at(self, stamp: int) -> FlameExpression:
        k = bisect_right(self._buffer, stamp, key=_stamp) - 1
        del self._buffer[:k]
        first = self._buffer[0]
        return first if first.stamp_ns == stamp else interpolate(first, self._buffer[1], stamp)

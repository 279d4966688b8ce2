"""A scripted performance: what the synthetic person does at time t. Smooth, periodic, the truth of every frame.

Expression units carry ARKit's names; a head without them (FLAME) still moves jaw, eyes, lids and head.
"""

from dataclasses import dataclass

import numpy as np

PERIOD = 10.0  # seconds

# Mouth shapes of speech: units and, under 'jaw', the jaw's opening in radians.
VISEMES = {
    'rest': {},
    'aa': {'jaw': 0.24, 'mouthLowerDownLeft': 0.25, 'mouthLowerDownRight': 0.25, 'mouthUpperUpLeft': 0.15,
           'mouthUpperUpRight': 0.15},
    'ee': {'jaw': 0.09, 'mouthStretchLeft': 0.45, 'mouthStretchRight': 0.45, 'mouthSmileLeft': 0.25,
           'mouthSmileRight': 0.25, 'mouthLowerDownLeft': 0.35, 'mouthLowerDownRight': 0.35, 'mouthUpperUpLeft': 0.2,
           'mouthUpperUpRight': 0.2},
    'oo': {'jaw': 0.08, 'mouthPucker': 0.75, 'mouthFunnel': 0.2},
    'oh': {'jaw': 0.19, 'mouthFunnel': 0.6, 'mouthPucker': 0.2},
    'mm': {'mouthPressLeft': 0.5, 'mouthPressRight': 0.5, 'mouthRollLower': 0.25, 'mouthRollUpper': 0.25},
    'ff': {'jaw': 0.04, 'mouthRollLower': 0.6, 'mouthUpperUpLeft': 0.3, 'mouthUpperUpRight': 0.3},
    'ss': {'jaw': 0.04, 'mouthStretchLeft': 0.25, 'mouthStretchRight': 0.25, 'mouthLowerDownLeft': 0.4,
           'mouthLowerDownRight': 0.4, 'mouthUpperUpLeft': 0.3, 'mouthUpperUpRight': 0.3},
}
_SPEECH = (
    (0.4, 'mm aa ss ee mm oo rest aa ff ee oh ss aa mm ee rest oo aa ss ee'),
    (7.3, 'oh mm ee ss aa oo ff aa mm ee'),
)
_SYLLABLE = 0.19  # seconds between mouth shapes

# unit or pair -> bumps (start, end, height); a bump rises and falls smoothly.
_MOODS = {
    'mouthSmile': ((4.7, 7.0, 0.9),), 'cheekSquint': ((4.9, 6.9, 0.6),), 'mouthUpperUp': ((5.0, 6.7, 0.7),),
    'mouthLowerDown': ((5.0, 6.7, 0.3),), 'eyeSquint': ((4.9, 6.8, 0.25),),
    'browInnerUp': ((1.4, 2.4, 0.7), (6.4, 7.6, 0.5)), 'browOuterUp': ((1.4, 2.4, 0.8),),
    'browDown': ((7.9, 9.2, 0.7),),
    'noseSneer': ((8.2, 9.1, 0.25),), 'mouthFrown': ((9.0, 9.8, 0.35),),
}
_BLINKS = (0.85, 2.65, 4.45, 6.95, 8.75)  # seconds
_BLINK = 0.30  # seconds, closing and opening
_GAZE = (  # seconds; degrees to the subject's left and up: where the eyes jump to
    (0.0, 0, 0), (1.3, -12, 6), (2.7, 10, -3), (3.6, 0, 0), (4.4, 16, 0), (5.3, 0, 0), (7.0, -18, -6), (7.8, 0, 2),
    (9.1, 6, -12), (9.7, 0, 0),
)
_SACCADE = 0.07  # seconds


@dataclass(frozen=True)
class Moment:
    """What the person does at one instant; angles in radians, left is the subject's."""

    units: dict[str, float]  # expression units by name
    jaw: float  # opening
    gaze: tuple[float, float]  # yaw to the left, pitch up
    eyelids: tuple[float, float]  # left, right; 1 closed
    turn: tuple[float, float, float]  # head: yaw to the left, pitch up, roll to the left shoulder
    shift: tuple[float, float, float]  # head: metres, head axes


class Script:
    """The performance; `seed` varies how far and how fast things go, `seed=0` is the plain one."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        spread = 0.0 if seed == 0 else 1.0
        self._strength = 1 + spread * rng.uniform(-0.15, 0.1, 3)  # speech, moods, head
        self._phase = spread * rng.uniform(0, 2 * np.pi, 4)
        self._skew = spread * rng.uniform(-0.12, 0.12)  # lopsidedness: one side leads

    def at(self, t: float) -> Moment:
        """Return what happens at `t` seconds; repeats after `PERIOD`."""
        t = float(t) % PERIOD
        units, jaw = self._speech(t)
        for name, bumps in _MOODS.items():
            value = self._strength[1] * sum(height * _bump(t, start, end) for start, end, height in bumps)
            if value > 0:
                for key, part in self._sides(name, value):
                    units[key] = units.get(key, 0.0) + part
        smile = _bump(t, 4.7, 7.0)
        units = {key: min(value, 1.0) for key, value in units.items()}
        return Moment(units, jaw + 0.04 * smile, self._gaze(t), self._lids(t), self._turn(t), self._shift(t))

    def _sides(self, name: str, value: float) -> list[tuple[str, float]]:
        if name == 'browInnerUp':
            return [(name, value)]
        return [(f'{name}Left', value * (1 + self._skew)), (f'{name}Right', value * (1 - self._skew))]

    def _speech(self, t: float) -> tuple[dict[str, float], float]:
        units: dict[str, float] = {}
        jaw = 0.0
        for start, line in _SPEECH:
            for k, viseme in enumerate(line.split()):
                # Shapes overlap: each is reached from the one before (co-articulation).
                weight = _hat((t - start - (k + 1) * _SYLLABLE) / _SYLLABLE)
                if weight > 0:
                    for name, value in VISEMES[viseme].items():
                        if name == 'jaw':
                            jaw += self._strength[0] * weight * value
                        else:
                            units[name] = units.get(name, 0.0) + self._strength[0] * weight * value
        return units, jaw

    def _gaze(self, t: float) -> tuple[float, float]:
        yaw, pitch = 0.0, 0.0
        times = [g[0] for g in _GAZE]
        k = int(np.searchsorted(times, t, 'right')) - 1
        before, now = _GAZE[k - 1], _GAZE[k]
        share = smooth_step((t - now[0]) / _SACCADE)
        yaw, pitch = (np.radians(b + (n - b) * share) for b, n in zip(before[1:], now[1:], strict=True))
        # Eyes stay on what they look at while the head turns.
        turn = self._turn(t)
        return float(yaw - 0.35 * turn[0]), float(pitch - 0.35 * turn[1])

    def _lids(self, t: float) -> tuple[float, float]:
        closed = max(blink_at((t - start) / _BLINK) for start in _BLINKS)
        follow = -0.5 * self._gaze(t)[1]  # looking down lowers the upper lid
        value = float(np.clip(closed + max(follow, 0.0) * (1 - closed), 0, 1))
        return value, value

    def _turn(self, t: float) -> tuple[float, float, float]:
        w, p, s = 2 * np.pi / PERIOD, self._phase, self._strength[2]
        yaw = 14 * np.sin(w * t + p[0]) + 7 * np.sin(2 * w * t + 0.6 + p[1])
        pitch = 4 * np.sin(2 * w * t + 1.9 + p[2]) + 2.0 * np.sin(5 * w * t + p[0])
        roll = 3.5 * np.sin(w * t + 2.2 + p[3]) + 1.2 * np.sin(3 * w * t)
        yaw, pitch, roll = np.radians([yaw, pitch, roll]) * s
        return float(yaw), float(pitch), float(roll)

    def _shift(self, t: float) -> tuple[float, float, float]:
        w = 2 * np.pi / PERIOD
        side, near = np.sin(w * t + self._phase[1]), np.sin(2 * w * t + self._phase[3])
        return float(0.006 * side), float(0.003 * np.sin(3 * w * t)), float(0.008 * near)


def smooth_step(x: float) -> float:
    """0 to 1 over [0, 1] with continuous speed and acceleration."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (x * (6 * x - 15) + 10)


def _bump(t: float, start: float, end: float, *, edge: float = 0.35) -> float:
    """Rise over `edge` seconds from `start`, fall likewise before `end`."""
    return smooth_step((t - start) / edge) * smooth_step((end - t) / edge)


def _hat(x: float) -> float:
    """Return a raised cosine over [-1, 1]; neighbours one apart sum to 1."""
    return 0.5 + 0.5 * float(np.cos(np.pi * x)) if abs(x) < 1 else 0.0


def blink_at(x: float) -> float:
    """Return how closed the lids are at x in [0, 1] of a blink; closing is twice as fast as opening."""
    return smooth_step(x / 0.33) * smooth_step((1 - x) / 0.6) if 0 < x < 1 else 0.0

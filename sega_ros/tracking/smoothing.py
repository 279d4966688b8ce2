"""One-Euro filters (Casiez, Roussel and Vogel, CHI 2012): steady at rest, without lag in fast movement.

A first-order low-pass whose cut-off rises with the speed of the signal: jitter shows at rest, lag in movement, so each
is fought where it is seen.
"""

from dataclasses import dataclass

import numpy as np

from sega_ros.geometry import rotmat_to_rotvec, rotvec_to_rotmat

_NONE = 1e-9  # strength at which nothing is left to see of a filter


@dataclass(frozen=True)
class OneEuroConfig:
    """Cut-offs of one filter; `beta` is in Hz per (unit of the signal / second)."""

    min_cutoff: float | np.ndarray = 1.5  # Hz, at rest; of each component, or of all
    beta: float | np.ndarray = 5.0
    derivative_cutoff: float | np.ndarray = 4.0  # Hz


def _gain(cutoff: np.ndarray | float, dt: float) -> np.ndarray | float:
    """Weight of the new sample in an exponential average with this cut-off (eq. 3 and 4)."""
    return 1.0 / (1.0 + 1.0 / (2 * np.pi * cutoff * dt))


class OneEuroFilter:
    """Filter arrays of one shape, each component by its own speed.

    `__call__` takes the sample and its time stamp; a stamp that is not later than the last one, or later by more than
    `reset_after` seconds, restarts the filter. `strength` may change at any time: 0 smooths nothing, 1 is as configured, 2
    halves the cut-offs.
    """

    def __init__(self, config: OneEuroConfig | None = None, *, reset_after: float = 0.5) -> None:
        self.config, self.strength = config or OneEuroConfig(), 1.0
        self._reset_after = reset_after
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._stamp_ns: int | None = None
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, value: np.ndarray | float, stamp_ns: int) -> np.ndarray:
        """Return the filtered sample, same shape as `value` [...], float64."""
        value = np.asarray(value, np.float64)
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        self._stamp_ns = stamp_ns
        if not 0 < dt <= self._reset_after:
            self._value, self._speed = value, np.zeros_like(value)
            return value.copy()
        speed = (value - self._value) / dt
        self._speed = self._speed + _gain(self.config.derivative_cutoff, dt) * (speed - self._speed)
        cutoff = (self.config.min_cutoff + self.config.beta * np.abs(self._speed)) / max(self.strength, _NONE)
        self._value = self._value + _gain(cutoff, dt) * (value - self._value)
        return self._value.copy()


class RotationFilter:
    """One-Euro on rotation matrices: the step towards the sample is taken along the rotation between the two.

    `strength` as of `OneEuroFilter`.
    """

    def __init__(self, config: OneEuroConfig | None = None, *, reset_after: float = 0.5) -> None:
        self.config, self.strength = config or OneEuroConfig(min_cutoff=1.0, beta=6.0), 1.0
        self._reset_after = reset_after
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._stamp_ns: int | None = None
        self._rotation: np.ndarray | None = None
        self._speed = np.zeros(3)

    def __call__(self, rotation: np.ndarray, stamp_ns: int) -> np.ndarray:
        """Return the filtered rotation matrix [3, 3], float64."""
        sample = np.array(rotation, np.float64)
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        self._stamp_ns = stamp_ns
        if not 0 < dt <= self._reset_after:
            self._rotation, self._speed = sample, np.zeros(3)
            return sample.copy()
        step = rotmat_to_rotvec(sample @ self._rotation.T)
        self._speed = self._speed + _gain(self.config.derivative_cutoff, dt) * (step / dt - self._speed)
        cutoff = (self.config.min_cutoff + self.config.beta * np.linalg.norm(self._speed)) / max(self.strength, _NONE)
        self._rotation = rotvec_to_rotmat(_gain(cutoff, dt) * step) @ self._rotation
        return self._rotation.copy()

"""What the avatar does while no face is seen: hold, ease to neutral, blink now and then.

Pure functions of the last seen expression and the time since then, so that two machines show the same.
"""

from dataclasses import dataclass, replace

import numpy as np

from sega_ros.camera import FRONTAL
from sega_ros.config import option
from sega_ros.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from sega_ros.types import FlameExpression, FlameParams

NANOSECONDS = 1_000_000_000
BLINK_SECONDS = 0.24  # down and up again
BLINK_PERIOD = 4.0  # seconds between blinks, on average; people at rest blink every three to five
BLINK_JITTER = 1.2  # seconds, either way
# Seconds without a message after which a link counts as cut: six frames at 30 Hz; or so many times what usually lies between.
SILENCE, MISSED = 0.2, 3.0
# Where a head is placed that was never seen: 0.7 m in front of a camera of common focal length.
DEFAULT_DISTANCE, DEFAULT_FOCAL_LENGTH = 0.7, 1.5
LONGEST_STEP = 10 * NANOSECONDS  # between two frames; more is a clock that was set, as are stamps that go back


@dataclass(frozen=True)
class IdleConfig:
    """How the avatar behaves while no face is seen."""

    hold: float = option(0.3, 'Time the last expression is held after the face is lost', unit='s', bounds=(0.0, 10.0))
    ease: float = option(0.6, 'Time it then takes to become neutral', unit='s', bounds=(0.05, 10.0))
    blinks: bool = option(True, 'Blink now and then while neutral')


def patience(interval: float) -> float:
    """Return after how many seconds without a message a stream counts as cut; `interval`: seconds that usually lie between."""
    return max(SILENCE, MISSED * interval)


def blink(seconds: float) -> float:
    """Return how far the lids are closed, in [0, 1], `seconds` after the face became neutral.

    Each blink lies at its own fixed pseudo-random offset around a regular beat.
    """
    beat = round(seconds / BLINK_PERIOD)
    if beat < 1:
        return 0.0
    jitter = ((beat * 2654435761 % 2**32) / 2**31 - 1.0) * BLINK_JITTER  # Knuth's multiplicative hash
    phase = (seconds - (beat * BLINK_PERIOD + jitter)) / BLINK_SECONDS
    return float(np.sin(np.pi * phase) ** 2) if 0.0 < phase < 1.0 else 0.0


def smoothstep(x: float) -> float:
    """Return 0 below 0, 1 above 1 and a smooth rise between."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


def neutral_expression(n_expression: int, head_model: str, head_model_version: str, *, stamp_ns: int = 0,
                       frame_id: str = '') -> FlameExpression:
    """Return a neutral face in front of the camera that nobody has seen yet (`face_present` false)."""
    return FlameExpression(
        stamp_ns, frame_id, head_model, head_model_version, False, 0.0, FlameParams.neutral(0, n_expression), FRONTAL,
        np.array([0.0, 0.0, DEFAULT_DISTANCE], np.float32), DEFAULT_FOCAL_LENGTH)


def idle_expression(last: FlameExpression, stamp_ns: int, config: IdleConfig) -> FlameExpression:
    """Return the expression at `stamp_ns` when the face was last seen in `last` and not since.

    Held for `config.hold`, then eased to neutral (the head turns frontal and keeps its place), with idle blinks.
    `face_present` is false and the confidence 0.
    """
    since = (stamp_ns - last.stamp_ns) / NANOSECONDS
    keep = 1.0 - smoothstep((since - config.hold) / config.ease)
    p = last.params
    lids = keep * p.eyelids
    if config.blinks:
        lids = np.maximum(lids, blink(since - config.hold - config.ease))
    params = FlameParams(p.shape, keep * p.expression, keep * p.neck_pose, keep * p.jaw_pose, keep * p.left_eye_pose,
                         keep * p.right_eye_pose, lids.astype(np.float32))
    return replace(last, stamp_ns=stamp_ns, face_present=False, confidence=0.0, params=_float32(params),
                   rotation=_toward_frontal(last.rotation, keep))


def _float32(params: FlameParams) -> FlameParams:
    return FlameParams(**{name: np.asarray(value, np.float32) for name, value in vars(params).items()})


def _toward_frontal(rotation: np.ndarray, keep: float) -> np.ndarray:
    """Return the rotation that has `keep` of the turn from a frontal head to `rotation`."""
    if keep >= 1.0:
        return rotation
    turn = rotmat_to_rotvec(np.asarray(rotation, np.float64) @ FRONTAL.T.astype(np.float64))
    return (rotvec_to_rotmat(keep * turn) @ FRONTAL).astype(np.float32)


class FaceHold:
    """Feeds a stream of tracked expressions through `idle_expression` while the face is lost.

    Stamps that jump (a clock is set, a recording starts again) don't change how long it has been lost.
    """

    def __init__(self, config: IdleConfig) -> None:
        self.config = config
        self._last: FlameExpression | None = None
        self._stamp_ns = 0  # of the frame before

    def update(self, expression: FlameExpression) -> FlameExpression:
        """Return `expression` while a face is present, else the idle one of its stamp."""
        step, self._stamp_ns = expression.stamp_ns - self._stamp_ns, expression.stamp_ns
        if expression.face_present:
            self._last = expression
            return expression
        if self._last is None:  # nobody was seen yet: idle since the first frame
            self._last = neutral_expression(
                len(expression.params.expression), expression.head_model, expression.head_model_version,
                stamp_ns=expression.stamp_ns, frame_id=expression.frame_id)
        elif not 0 <= step <= LONGEST_STEP:
            self._last = replace(self._last, stamp_ns=self._last.stamp_ns + step)
        return idle_expression(replace(self._last, frame_id=expression.frame_id), expression.stamp_ns, self.config)

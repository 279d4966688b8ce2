"""Scenes for a benchmark: what somebody before a webcam does in each of them, second by second.

Every scene starts with half a second of a quiet, frontal face, of which the avatar can be made. All of them repeat, so that a
recording may have any length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sega_ros.synthetic.script import Moment, Script, blink_at, smooth_step
from sega_ros.synthetic.webcam import Webcam

_QUIET, _ONSET = 0.35, 0.5  # seconds of quiet; until everything is in full swing
_STILL = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Beat:
    """One instant of a scene; metres in the axes of the head at rest (x to the person's left, y up, z to the camera)."""

    moment: Moment
    body: tuple[float, float, float] = _STILL  # where head and shoulders have gone together
    hand: tuple[float, float, float, float] | None = None  # palm's middle x, y, z; radians that the arm leans to the left


@dataclass(frozen=True)
class SceneSpec:
    """A scene: who does what, under which light."""

    name: str
    title: str
    act: Callable[[Script, float], Beat]
    guest: Callable[[Script, float], Beat] | None = None  # a second person
    webcam: Webcam = field(default_factory=Webcam)
    shutter: float = 0.004  # seconds
    exposures: int = 1  # moments of one exposure that are drawn; odd: the middle one is the truth
    hand: bool = False


def quieted(moment: Moment, share: float, *, turn: float | None = None) -> Moment:
    """Take everything back to a neutral frontal face but for `share` of it (`turn`: of the head's motion)."""
    turn = share if turn is None else turn
    return Moment(
        {k: v * share for k, v in moment.units.items()}, moment.jaw * share, _times(moment.gaze, share),
        _times(moment.eyelids, share), _times(moment.turn, turn), _times(moment.shift, turn))


def _times(values: Sequence[float], factor: float) -> tuple:
    return tuple(v * factor for v in values)


def _onset(t: float) -> float:
    return smooth_step((t - _QUIET) / _ONSET)


def _keyed(keys: Sequence[tuple[float, ...]], t: float) -> np.ndarray:
    """Values at `t` of rows (seconds, values...), smooth in between; the last row's time is the period."""
    table = np.array(keys, float)
    t = t % table[-1, 0]
    k = int(np.searchsorted(table[:, 0], t, 'right'))
    start, end = table[k - 1], table[k]
    return start[1:] + (end[1:] - start[1:]) * smooth_step((t - start[0]) / (end[0] - start[0]))


def talking(script: Script, t: float) -> Beat:
    """Speech, smiles, brows, gaze and small turns of the head."""
    return Beat(quieted(script.at(t), _onset(t)))


# Seconds, length, closure of the left and the right lid: blinks, a double one, half ones, a long one, winks.
_LIDS = ((0.7, 0.22, 1, 1), (1.3, 0.25, 1, 1), (1.6, 0.25, 1, 1), (2.2, 0.3, 0.5, 0.5), (2.7, 0.45, 1, 0.12),
         (3.3, 0.9, 1, 1), (4.4, 0.45, 0.12, 1), (5.1, 0.2, 0.9, 0.9), (5.5, 0.28, 0.6, 0.6))


def blinking(script: Script, t: float) -> Beat:
    """Blinks of all kinds and winks, while the head hardly moves."""
    moment = quieted(script.at(t), 0.25 * _onset(t))
    lids = [max(blink_at((t % 6.0 - start) / length) * row[side] for start, length, *row in _LIDS) for side in (0, 1)]
    units = dict(moment.units)
    for name, own, other in (('Left', lids[0], lids[1]), ('Right', lids[1], lids[0])):
        wink = max(0.0, own - other)  # the cheek helps to close one eye alone
        units[f'cheekSquint{name}'] = units.get(f'cheekSquint{name}', 0.0) + 0.6 * wink
        units[f'mouthSmile{name}'] = units.get(f'mouthSmile{name}', 0.0) + 0.25 * wink
    return Beat(replace(moment, units=units, eyelids=(lids[0], lids[1]), jaw=0.3 * moment.jaw))


# Seconds; degrees of yaw to the left, pitch up, roll to the left shoulder.
_POSES = ((0.0, 0, 0, 0), (0.4, 0, 0, 0), (1.2, 58, 4, 4), (1.5, 58, 4, 4), (2.7, -58, -3, -4), (3.0, -58, -3, -4),
          (3.6, 0, 0, 0), (4.1, 6, 27, 0), (4.3, 6, 27, 0), (4.8, -6, -26, 3), (5.0, -6, -26, 3), (5.4, 0, 0, 20),
          (5.8, 0, 0, -20), (6.2, 0, 0, 0))


def large_pose(script: Script, t: float) -> Beat:
    """Far to both sides, up, down and to the shoulders, with a little speech."""
    moment = quieted(script.at(t), 0.6 * _onset(t), turn=0.0)
    turn = tuple(np.radians(_keyed(_POSES, t)))
    gaze = (moment.gaze[0] - 0.15 * turn[0], moment.gaze[1] - 0.3 * turn[1])
    return Beat(replace(moment, turn=turn, gaze=gaze))


def fast_motion(script: Script, t: float) -> Beat:
    """Shaking and nodding the head, swaying, at up to two metres a second in the picture's plane."""
    share, u = _onset(t), t - _QUIET
    moment = quieted(script.at(t), 0.7 * share, turn=0.0)
    shake, nod = _keyed(((0, 1, 0.15), (1.6, 1, 0.15), (2.2, 0.2, 1), (3.6, 0.2, 1), (4.2, 1, 0.8), (6.0, 1, 0.15)), t)
    w = 2 * np.pi
    yaw = shake * 24 * np.sin(1.5 * w * u)
    pitch = nod * 12 * np.sin(1.9 * w * u)
    turn = _times((np.radians(yaw), np.radians(pitch), np.radians(0.25 * yaw)), share)
    sway = (0.045 * shake * np.sin(1.5 * w * u - 0.5), 0.012 * nod * np.sin(1.9 * w * u), 0.02 * np.sin(0.4 * w * u))
    return Beat(replace(moment, turn=turn), body=_times(sway, share))


# Seconds; palm's middle x, y, z in metres, degrees that the arm leans to the left. Below -0.35 the hand is out of the picture.
_HAND = ((0.0, 0.16, -0.50, 0.17, 30), (0.7, 0.16, -0.50, 0.17, 30), (1.3, 0.05, -0.06, 0.155, 38),
         (1.7, 0.02, -0.03, 0.15, 42), (2.4, -0.06, -0.03, 0.155, 48), (3.0, 0.14, -0.50, 0.17, 40),
         (3.6, 0.14, -0.50, 0.17, 20), (4.2, 0.075, -0.01, 0.14, 14), (4.8, 0.04, 0.045, 0.15, 30),
         (5.3, 0.10, 0.02, 0.15, 22), (6.0, 0.16, -0.50, 0.17, 30))


def occlusion(script: Script, t: float) -> Beat:
    """A hand passes before the mouth, across the face, and before one eye, while the person talks."""
    x, y, z, lean = _keyed(_HAND, t)
    moment = quieted(script.at(t), 0.8 * _onset(t), turn=0.5 * _onset(t))
    hand = None if y <= -0.499 else (float(x), float(y), float(z), float(np.radians(lean)))
    return Beat(moment, hand=hand)


# Seconds; metres to the left, up, towards the camera.
_WALK = ((0.0, 0, 0, 0), (0.9, 0, 0, 0), (2.0, 0.58, -0.01, -0.02), (2.9, 0.58, -0.01, -0.02), (4.1, 0, 0, 0), (6.0, 0, 0, 0))


def leaving(script: Script, t: float) -> Beat:
    """Out of the picture to the side, and back."""
    x, y, z = _keyed(_WALK, t)
    speed = (_keyed(_WALK, t + 0.05)[0] - _keyed(_WALK, max(t - 0.05, 0))[0]) / 0.1
    moment = quieted(script.at(t), _onset(t), turn=0.6 * _onset(t))
    yaw, pitch, roll = moment.turn
    return Beat(replace(moment, turn=(yaw + 0.45 * float(speed), pitch, roll)), body=(float(x), float(y), float(z)))


# The guest: behind and to the picture's left, coming in from its edge.
_GUEST = ((0.0, -0.95, 0.0, -0.55), (1.0, -0.95, 0.0, -0.55), (2.3, -0.33, 0.0, -0.5), (4.6, -0.31, 0.01, -0.5),
          (5.8, -0.95, 0.0, -0.55), (6.5, -0.95, 0.0, -0.55))


def visiting(script: Script, t: float) -> Beat:
    """Come in behind somebody, look over their shoulder, talk, and go."""
    x, y, z = _keyed(_GUEST, t)
    moment = quieted(script.at(t + 1.7), 0.9)
    yaw, pitch, roll = moment.turn
    return Beat(replace(moment, turn=(yaw + 0.2, pitch, roll)), body=(float(x), float(y), float(z)))


SCENES = {s.name: s for s in (
    SceneSpec('talking', 'talking', talking),
    SceneSpec('blinking', 'blinking', blinking),
    SceneSpec('large_pose', 'large pose', large_pose),
    SceneSpec('fast_motion', 'fast motion', fast_motion, shutter=1 / 50, exposures=7),
    SceneSpec('low_light', 'low light', talking, webcam=Webcam(160.0, 3.0, (0.37, 0.32, 0.26)), shutter=1 / 30, exposures=3),
    SceneSpec('occlusion', 'a hand before the face', occlusion, hand=True),
    SceneSpec('leaving', 'leaving the picture', leaving, shutter=1 / 120),
    SceneSpec('two_people', 'two people', talking, guest=visiting),
)}

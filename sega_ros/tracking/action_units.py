"""Action units of the Facial Action Coding System as far as an expression tells them; docs/ros4hri.md explains the choice."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sega_ros.camera import FRONTAL
from sega_ros.types import FlameExpression

N_CODES = 99
# Code: the head model's ARKit-named units, both sides where there are two; the stronger one counts.
FROM_UNITS: dict[int, tuple[str, ...]] = {
    1: ('browInnerUp',),
    2: ('browOuterUpLeft', 'browOuterUpRight'),
    4: ('browDownLeft', 'browDownRight'),
    5: ('eyeWideLeft', 'eyeWideRight'),
    6: ('cheekSquintLeft', 'cheekSquintRight'),
    7: ('eyeSquintLeft', 'eyeSquintRight'),
    9: ('noseSneerLeft', 'noseSneerRight'),
    10: ('mouthUpperUpLeft', 'mouthUpperUpRight'),
    12: ('mouthSmileLeft', 'mouthSmileRight'),
    14: ('mouthDimpleLeft', 'mouthDimpleRight'),
    15: ('mouthFrownLeft', 'mouthFrownRight'),
    16: ('mouthLowerDownLeft', 'mouthLowerDownRight'),
    17: ('mouthShrugLower',),
    18: ('mouthPucker',),
    19: ('tongueOut',),
    20: ('mouthStretchLeft', 'mouthStretchRight'),
    22: ('mouthFunnel',),
    24: ('mouthPressLeft', 'mouthPressRight'),
    28: ('mouthRollLower', 'mouthRollUpper'),
    29: ('jawForward',),
    34: ('cheekPuff',),
}
LIPS_PART, JAW_DROP, EYES_CLOSED = 25, 26, 43
_CLOSES, _PARTS = 'mouthClose', ('mouthUpperUpLeft', 'mouthUpperUpRight', 'mouthLowerDownLeft', 'mouthLowerDownRight')
# Radians that count as intensity 1: a jaw as wide as it goes; as far as eyes and heads turn without effort.
JAW_FULL, GAZE_FULL, HEAD_FULL = 0.35, 0.5, 0.8


@dataclass(frozen=True)
class ActionUnits:
    """Intensities by code; not FACS's letters A to E, but linear in the head model's units."""

    intensity: np.ndarray  # [99] in [0, 1]
    told: np.ndarray  # [99] bool: whether the expression says anything about it


def action_units(expression: FlameExpression, names: tuple[str, ...]) -> ActionUnits:
    """Return what `expression` says; `names` are those of its coefficients.

    A head model without ARKit's names (FLAME) tells jaw, lids, gaze and head only.
    """
    units = {name: float(value) for name, value in zip(names, expression.params.expression, strict=True)}
    found = {code: max(units[name] for name in sources) for code, sources in FROM_UNITS.items() if units.keys() >= set(sources)}
    p = expression.params
    jaw = float(p.jaw_pose[0]) / JAW_FULL
    found |= {JAW_DROP: jaw, EYES_CLOSED: float(min(p.eyelids))}
    if units.keys() >= {_CLOSES, *_PARTS}:
        found[LIPS_PART] = max(jaw - units[_CLOSES], *(units[name] for name in _PARTS))
    found |= _turns(expression)
    intensity, told = np.zeros(N_CODES, np.float32), np.zeros(N_CODES, bool)
    for code, value in found.items():
        intensity[code], told[code] = np.clip(value, 0, 1), True
    return ActionUnits(intensity, told)


def _turns(expression: FlameExpression) -> dict[int, float]:
    """Turns of the head seen from the camera, and of the eyes in the head; left is the subject's."""
    head = Rotation.from_matrix(FRONTAL.T @ expression.rotation).as_euler('YXZ')  # left, down, to the right shoulder
    gaze = (expression.params.left_eye_pose + expression.params.right_eye_pose) / 2
    left, down, right_tilt = head / HEAD_FULL
    look_down, look_left = gaze[0] / GAZE_FULL, gaze[1] / GAZE_FULL
    return {51: left, 52: -left, 53: -down, 54: down, 55: -right_tilt, 56: right_tilt,
            61: look_left, 62: -look_left, 63: -look_down, 64: look_down}

"""A handful of expressions at which fine-tuning holds the decoders to what they said before."""

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.types import FlameParams

_UNITS = (
    {},
    {'mouthSmileLeft': 0.8, 'mouthSmileRight': 0.8, 'cheekSquintLeft': 0.5, 'cheekSquintRight': 0.5},
    {'mouthPucker': 0.8, 'mouthFunnel': 0.3},
    {'browInnerUp': 0.8, 'browOuterUpLeft': 0.8, 'browOuterUpRight': 0.8},
    {'browDownLeft': 0.8, 'browDownRight': 0.8, 'mouthFrownLeft': 0.5, 'mouthFrownRight': 0.5},
    {'mouthUpperUpLeft': 0.6, 'mouthUpperUpRight': 0.6, 'mouthLowerDownLeft': 0.6, 'mouthLowerDownRight': 0.6},
)
_JAW = (0.0, 0.05, 0.08, 0.2, 0.0, 0.33)  # radians
_LIDS = (1.0, 0.0, 0.5, 0.0, 0.2, 1.0)


def other_expressions(head: HeadModel) -> list[FlameParams]:
    """Return expressions that between them move every region; units that `head` lacks are left out."""
    out = []
    for units, jaw, lids in zip(_UNITS, _JAW, _LIDS, strict=True):
        expression = np.zeros(head.n_expression, np.float32)
        for name, value in units.items():
            if name in head.expression_names:
                expression[head.expression_index(name)] = value
        out.append(FlameParams(np.zeros(0, np.float32), expression, jaw_pose=np.array([jaw, 0, 0], np.float32),
                               eyelids=np.full(2, lids, np.float32)))
    return out

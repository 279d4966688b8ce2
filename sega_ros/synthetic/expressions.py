"""Random expressions: visemes, moods, single units, lids, gaze and jaw in plausible mixtures."""

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.synthetic.performer import rotvec_of
from sega_ros.synthetic.script import VISEMES
from sega_ros.types import FlameParams

WIDE_OPEN = 0.35  # radians of the jaw
_GAZE = np.radians([25.0, 15.0])  # yaw, pitch at most

# What faces do as a whole: unit or pair of units -> amplitude; 'jaw' in radians.
_MOODS = {
    'smile': {'mouthSmile': 0.9, 'cheekSquint': 0.6, 'eyeSquint': 0.25, 'mouthDimple': 0.2},
    'laugh': {'mouthSmile': 1.0, 'cheekSquint': 0.8, 'eyeSquint': 0.45, 'mouthUpperUp': 0.6, 'mouthLowerDown': 0.35, 'jaw': 0.16},
    'frown': {'browDown': 0.9, 'mouthFrown': 0.5, 'eyeSquint': 0.3, 'mouthShrugLower': 0.3},
    'surprise': {'browInnerUp': 0.9, 'browOuterUp': 0.9, 'eyeWide': 0.8, 'jaw': 0.2},
    'worry': {'browInnerUp': 0.9, 'browDown': 0.3, 'mouthFrown': 0.4, 'mouthStretch': 0.2},
    'disgust': {'noseSneer': 0.9, 'mouthUpperUp': 0.6, 'browDown': 0.6, 'eyeSquint': 0.4},
    'doubt': {'mouthShrugLower': 0.8, 'mouthShrugUpper': 0.5, 'mouthFrown': 0.5, 'browOuterUp': 0.5},
    'kiss': {'mouthPucker': 0.95, 'mouthFunnel': 0.15},
    'puff': {'cheekPuff': 0.9, 'mouthPress': 0.4},
    'shout': {'jaw': WIDE_OPEN, 'mouthLowerDown': 0.5, 'mouthUpperUp': 0.4, 'mouthStretch': 0.3, 'browDown': 0.4},
}


def draw_expression(head: HeadModel, shape: np.ndarray, rng: np.random.Generator) -> FlameParams:
    """Draw what a face does at some instant; `shape` [S] is carried over."""
    units: dict[str, float] = {}
    jaw = _add_viseme(units, rng) if rng.random() < 0.6 else 0.0
    if rng.random() < 0.6:
        jaw = max(jaw, _add_mood(units, rng))
    for name in rng.choice(head.expression_names, rng.integers(0, 4), replace=False):
        if name != 'tongueOut' or jaw > 0.1:
            units[name] = units.get(name, 0.0) + rng.uniform(0.15, 0.9)
    if rng.random() < 0.15:
        jaw = rng.uniform(0.15, WIDE_OPEN)
    if jaw > 0.15 and rng.random() < 0.15:
        units['tongueOut'] = rng.uniform(0.4, 1.0)
    side = rng.uniform(-0.06, 0.06) * (rng.random() < 0.15)
    return _params(head, shape, units, jaw, draw_gaze(rng), _draw_lids(rng), side=side)


def draw_portrait_expression(head: HeadModel, shape: np.ndarray, rng: np.random.Generator) -> FlameParams:
    """Draw what people do on the photograph they hand in: little; some smile, some part their lips."""
    units: dict[str, float] = {}
    jaw = rng.uniform(0.02, 0.08) if rng.random() < 0.2 else 0.0
    if rng.random() < 0.3:
        strength = rng.uniform(0.3, 1.0)
        _add_sides(units, {'mouthSmile': 0.9, 'cheekSquint': 0.5, 'mouthUpperUp': 0.3 * (rng.random() < 0.5)}, strength, rng)
    for name in rng.choice(head.expression_names, 3, replace=False):
        if name not in ('tongueOut', 'jawForward', 'mouthClose'):
            units[name] = units.get(name, 0.0) + rng.uniform(0.0, 0.12)
    lids = np.full(2, rng.uniform(0.0, 0.12))
    return _params(head, shape, units, jaw, rng.normal(0, np.radians(2.0), 2), lids)


def draw_gaze(rng: np.random.Generator) -> np.ndarray:
    """Yaw to the subject's left and pitch up, radians [2]; often near the middle."""
    return np.clip(rng.normal(0, 0.5, 2), -1, 1) * _GAZE


def _draw_lids(rng: np.random.Generator) -> np.ndarray:
    """Closure [2] of the left and the right lid."""
    if rng.random() < 0.75:
        return np.full(2, rng.uniform(0.0, 0.15))
    closure = 1.0 if rng.random() < 0.4 else rng.uniform(0.2, 1.0)
    lids = np.full(2, closure)
    if rng.random() < 0.2:  # a wink
        lids[rng.integers(2)] = rng.uniform(0.0, 0.2)
    return lids


def _add_viseme(units: dict[str, float], rng: np.random.Generator) -> float:
    """Blend two mouth shapes of speech into `units`; returns the jaw's opening."""
    jaw, share = 0.0, rng.random()
    for name, weight in zip(rng.choice(list(VISEMES), 2, replace=False), (share, 1 - share), strict=True):
        for unit, value in VISEMES[name].items():
            if unit == 'jaw':
                jaw += weight * value * rng.uniform(0.7, 1.3)
            else:
                units[unit] = units.get(unit, 0.0) + weight * value
    return jaw


def _add_mood(units: dict[str, float], rng: np.random.Generator) -> float:
    mood = _MOODS[rng.choice(list(_MOODS))]
    return _add_sides(units, mood, rng.uniform(0.3, 1.0), rng)


def _add_sides(units: dict[str, float], mood: dict[str, float], strength: float, rng: np.random.Generator) -> float:
    """Add a mood's units for both sides, one side a little (at times a lot) stronger; returns the jaw's opening."""
    skew = rng.normal(0, 0.6 if rng.random() < 0.15 else 0.08)
    for name, value in mood.items():
        for unit, side in ((name, 1.0), (f'{name}Left', 1 + skew), (f'{name}Right', 1 - skew)):
            units[unit] = units.get(unit, 0.0) + strength * value * float(np.clip(side, 0, 1.5))
    return strength * mood.get('jaw', 0.0)


def _params(
    head: HeadModel, shape: np.ndarray, units: dict[str, float], jaw: float, gaze, lids, *, side: float = 0.0,
) -> FlameParams:
    """Parameters of `units`; angles in radians, `side`: the jaw's to the left."""
    expression = np.zeros(head.n_expression, np.float32)
    for k, name in enumerate(head.expression_names):
        expression[k] = np.clip(units.get(name, 0.0), 0.0, 1.0)
    eye = rotvec_of(gaze[0], gaze[1], 0.0)
    lids = np.clip(lids + max(-0.5 * gaze[1], 0.0), 0, 1)  # looking down lowers the upper lid
    return FlameParams(
        shape, expression, jaw_pose=np.array([min(jaw, WIDE_OPEN), side, 0], np.float32), left_eye_pose=eye,
        right_eye_pose=eye, eyelids=lids.astype(np.float32))

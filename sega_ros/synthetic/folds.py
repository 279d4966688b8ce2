"""Folds that expressions press into the skin: lines that darken along the fold and lighten beside it, by unit."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sega_ros.head.model import ByIdentity, HeadModel
from sega_ros.synthetic.features import Features, find_features, smoothstep
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.noise import value_noise
from sega_ros.synthetic.skin import find_texels
from sega_ros.types import Region

_TINT = np.array([0.75, 1.0, 1.05])  # a fold is redder than the skin beside it
# Channel -> units and their share; '*' stands for the side.
_CAUSES = {
    'forehead': {'browInnerUp': 0.8, 'browOuterUp*': 0.9}, 'glabella': {'browDown*': 1.0},
    'crow': {'cheekSquint*': 0.7, 'eyeSquint*': 0.6, 'mouthSmile*': 0.35},
    'under eye': {'cheekSquint*': 0.7, 'eyeSquint*': 0.6, 'mouthSmile*': 0.25},
    'nasolabial': {'mouthSmile*': 0.9, 'mouthUpperUp*': 0.5, 'noseSneer*': 0.6},
    'nose': {'noseSneer*': 1.0}, 'chin': {'mouthShrugLower': 0.9, 'mouthFrown*': 0.5},
}
_VARIANTS = 4  # of where exactly lines run; they are kept
_CHANNELS = tuple((name, side) for name in _CAUSES for side in ('Left', 'Right'))


@dataclass(frozen=True)
class Folds:
    """Channels of folds over the texels they touch; C channels, U texels."""

    rows: np.ndarray  # [U]
    columns: np.ndarray  # [U]
    change: np.ndarray  # [C, U] relative change of brightness at full activation
    causes: np.ndarray  # [C, E] activation by expression unit


def find_folds(head: HeadModel, look: Look, *, size: int, seed: int) -> Folds:
    """Return the folds of a look on a skin of `size` x `size` texels; faint in the young."""
    rng = np.random.default_rng([seed, 87])
    texels = find_texels(head, size)
    change = _lines(ByIdentity(head), size, int(rng.integers(_VARIANTS))) * ((0.09 + 0.42 * look.age) * rng.uniform(0.8, 1.2))
    used = np.flatnonzero(np.abs(change).max(0) > 0.002)
    causes = np.zeros((len(_CHANNELS), head.n_expression), np.float32)
    for channel, (name, side) in enumerate(_CHANNELS):
        for unit, share in _CAUSES[name].items():
            causes[channel, head.expression_index(unit.replace('*', side))] = share
    return Folds(texels.rows[used], texels.columns[used], change[:, used].astype(np.float32), causes)


@lru_cache(maxsize=2 * _VARIANTS)
def _lines(key: ByIdentity, size: int, variant: int) -> np.ndarray:
    """Channels [C, T] float32 of folds over all texels, at full strength."""
    texels, features = find_texels(key.head, size), find_features(key.head)
    p, rng = texels.points, np.random.default_rng([variant, 89])
    lines = {'forehead': _forehead(p, rng), 'glabella': _glabella(p, features, rng), 'crow': _crow(p, features, rng),
             'under eye': _under_eye(p, features), 'nasolabial': _nasolabial(p, features), 'nose': _nose(p, features),
             'chin': _chin(p, features, variant)}
    allowed = np.isin(texels.region, (Region.FACE, Region.EYELIDS))
    sides = {'Left': smoothstep(p[:, 0], -0.012, 0.012), 'Right': smoothstep(p[:, 0], 0.012, -0.012)}
    return np.stack([np.clip(lines[name], -1, 1) * sides[side] * allowed for name, side in _CHANNELS]).astype(np.float32)


def folded(skin: np.ndarray, folds: Folds, expression: np.ndarray) -> np.ndarray:
    """Copy of the texture `skin` [S, S, 4] with the folds of `expression` [E] in it."""
    active = np.clip(folds.causes @ np.asarray(expression, np.float32), 0, 1.1)
    change = active @ folds.change
    skin = skin.copy()
    skin[folds.rows, folds.columns, :3] *= 1 + change[:, None] * _TINT.astype(np.float32)
    return skin


def _crease(off: np.ndarray, width: float) -> np.ndarray:
    """Darkness -1 where `off` (metres across the fold) is 0, light to its positive side."""
    return -np.exp(-((off / width) ** 2)) + 0.4 * np.exp(-(((off - 1.9 * width) / (1.3 * width)) ** 2))


def _forehead(p, rng) -> np.ndarray:
    x, y = np.abs(p[:, 0]), p[:, 1]
    total = np.zeros(len(p))
    for k, height in enumerate(np.arange(0.064, 0.098, 0.0088) + rng.normal(0, 0.0012)):
        wave = height + 0.0014 * np.sin(55 * p[:, 0] + 2 * k + rng.uniform(0, 6)) + 0.10 * x - 2.6 * x**2
        total += _crease(y - wave, 0.0011) * smoothstep(x, 0.050, 0.030) * rng.uniform(0.6, 1.0)
    return total * (p[:, 2] > 0.01)


def _glabella(p, features: Features, rng) -> np.ndarray:
    x, y = np.abs(p[:, 0]), p[:, 1] - features.eyes[0, 1]
    reach = smoothstep(y, 0.004, 0.012) * smoothstep(y, 0.034, 0.022)
    return _crease(x - 0.0068 - 0.12 * (y - 0.015) - rng.uniform(0, 0.001), 0.0011) * reach * (p[:, 2] > 0.02)


def _crow(p, features: Features, rng) -> np.ndarray:
    x, y = np.abs(p[:, 0]), p[:, 1]
    corner = features.eyes[0] + np.array([0.0165, -0.002, 0])
    total = np.zeros(len(p))
    for slope in (-0.62, -0.25, 0.1, 0.42):
        along = x - corner[0]
        off = y - corner[1] - slope * along - 12 * slope * along**2 * 0.5
        reach = smoothstep(along, -0.001, 0.004) * smoothstep(along, rng.uniform(0.016, 0.022), 0.007)
        total += _crease(off, 0.0008) * reach
    return total * (p[:, 2] > -0.01)


def _under_eye(p, features: Features) -> np.ndarray:
    off = p - np.where(p[:, :1] > 0, features.eyes[0], features.eyes[1])
    total = np.zeros(len(p))
    for drop, weight in ((0.0118, 1.0), (0.0165, 0.6)):
        curve = -drop + 14 * off[:, 0] ** 2 + 0.06 * np.abs(p[:, 0]) - 0.06 * features.eyes[0, 0]
        total += weight * _crease(off[:, 1] - curve, 0.0010) * smoothstep(np.abs(off[:, 0]), 0.017, 0.010)
    return total * (p[:, 2] > 0.01)


def _nasolabial(p, features: Features) -> np.ndarray:
    x = np.abs(p[:, 0])
    t = np.clip((features.nose_tip[1] - p[:, 1]) / (features.nose_tip[1] - features.mouth[1]), -0.3, 1.4)
    fold = 0.0195 + 0.0135 * np.clip(t, 0, 2) ** 1.2
    reach = smoothstep(t, -0.2, 0.15) * smoothstep(t, 1.3, 0.85)
    return 1.6 * _crease(x - fold, 0.0019) * reach * (p[:, 2] > 0.01)


def _nose(p, features: Features) -> np.ndarray:
    x, y = np.abs(p[:, 0]), p[:, 1] - features.eyes[0, 1]
    total = sum(_crease(y + drop + 0.6 * x, 0.0008) for drop in (0.0, 0.005, 0.010))
    return 0.8 * total * smoothstep(x, 0.016, 0.008) * smoothstep(x, 0.001, 0.005) * (p[:, 2] > 0.03)


def _chin(p, features: Features, seed: int) -> np.ndarray:
    x, y = np.abs(p[:, 0]), p[:, 1]
    middle = 0.5 * (features.mouth[1] + features.chin[1]) + 0.001
    crease = _crease(middle + 5 * x**2 * 2 - y, 0.0016) * smoothstep(x, 0.018, 0.008)
    dimples = np.minimum(0, value_noise(p, scale=0.0032, seed=seed + 88)) * 0.9
    ball = np.exp(-(((p - features.chin) / [0.014, 0.009, 0.02]) ** 2).sum(1))
    return (crease + dimples * ball) * (p[:, 2] > 0.02)

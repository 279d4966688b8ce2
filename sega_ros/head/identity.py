"""Identity basis of the open head: PCA of plausible random mixes of MakeHuman's targets.

Plausible means restrained: adults of mixed gender, age, origin and weight, and local targets at a fraction of the
range that MakeHuman's sliders allow. Their extremes make caricatures.
"""

import re

import numpy as np

from sega_ros.head.makehuman import BaseMesh, load_target, target_names

N_SAMPLES, N_COMPONENTS, SEED = 4000, 80, 20240521
_MACRO = 'mpfb2/targets/macrodetails'
_ORIGINS, _GENDERS, _AGES = ('african', 'asian', 'caucasian'), ('female', 'male'), ('child', 'young', 'old')
_LEVELS = ('min', 'average', 'max')
# Standard deviation of a local slider (its range is -1 to 1), by folder.
_LOCAL = {'head': 0.1, 'forehead': 0.13, 'eyebrows': 0.2, 'eyes': 0.17, 'nose': 0.2, 'mouth': 0.17, 'chin': 0.2,
          'cheek': 0.22, 'ears': 0.2, 'neck': 0.15}
_OPPOSITES = (('decr', 'incr'), ('in', 'out'), ('down', 'up'), ('backward', 'forward'), ('concave', 'convex'),
              ('compress', 'uncompress'), ('square', 'round'), ('pointed', 'triangle'))
# Whole-head shifts are rigid motions, and cartoon ears nobody has.
_LEFT_OUT = re.compile(r'head-trans-|neck-trans-|ear-shape-|ear-trans-|neck-(in|out)')
_ASYMMETRY = 0.25  # of a slider's standard deviation, between left and right


def macro_targets() -> list[str]:
    """Names of the targets that age, gender, origin, muscle and weight blend."""
    names = [f'{_MACRO}/{o}-{g}-{a}' for o in _ORIGINS for g in _GENDERS for a in _AGES]
    return names + [f'{_MACRO}/universal-{g}-{a}-{m}muscle-{w}weight'
                    for g in _GENDERS for a in _AGES for m in _LEVELS for w in _LEVELS]


def macro_weights(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random weights [n, targets] of `macro_targets`, multilinear as in MakeHuman."""
    origin = rng.dirichlet([0.5] * 3, n)
    male = np.clip(rng.integers(0, 2, n) + rng.normal(0, 0.18, n) * [1], 0, 1)
    male = np.where(male > 0.5, 1 - 0.5 * np.abs(1 - male), 0.5 * male)
    gender = np.stack([1 - male, male], 1)
    age = _between(np.clip(rng.normal(1.2, 0.3, n), 0.6, 1.8))
    muscle = _between(np.clip(rng.normal(1.0, 0.3, n), 0.2, 1.8))
    weight = _between(np.clip(rng.normal(1.0, 0.3, n), 0.2, 1.8))
    local = np.einsum('no,ng,na->noga', origin, gender, age).reshape(n, -1)
    universal = np.einsum('ng,na,nm,nw->ngamw', gender, age, muscle, weight).reshape(n, -1)
    return np.concatenate([local, universal], 1)


def _between(position: np.ndarray) -> np.ndarray:
    """Hat weights [n, 3] of positions in [0, 2] between three levels."""
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(3)))


def local_sliders(base: BaseMesh) -> list[tuple[str, str | None, float]]:
    """Sliders (target at +1, target at -1 or None, standard deviation) of the local targets."""
    sliders = []
    for folder, sigma in _LOCAL.items():
        names = [n for n in target_names(base, f'mpfb2/targets/{folder}') if not _LEFT_OUT.search(n)]
        left = set(names)
        for name in names:
            if name not in left:
                continue
            left.discard(name)
            other = next((o for o in _partners(name) if o in left), None)
            left.discard(other)
            sliders.append((name, other, sigma))
    return sliders


def _partners(name: str) -> list[str]:
    stem, _, end = name.rpartition('-')
    return [f'{stem}-{b if end == a else a}' for a, b in _OPPOSITES if end in (a, b)]


def local_weights(rng: np.random.Generator, sliders, n: int) -> np.ndarray:
    """Random slider positions [n, sliders]; the left and right one of a pair agree but for a little asymmetry."""
    sigma = np.array([s for _, _, s in sliders])
    value = rng.normal(size=(n, len(sliders)))
    index = {name: i for i, (name, _, _) in enumerate(sliders)}
    for name, i in index.items():
        folder, _, leaf = name.rpartition('/')
        twin = index.get(f'{folder}/r-{leaf[2:]}') if leaf.startswith('l-') else None
        if twin is not None:
            value[:, twin] = value[:, i] + _ASYMMETRY * value[:, twin]
    return np.clip(value, -2.2, 2.2) * sigma


class TargetMix:
    """Random heads as weights on a stack of target displacements."""

    def __init__(self, base: BaseMesh, project, *, progress=None):
        """`project` maps a base displacement [V0, 3] to the head's vertices [V, 3] in metres."""
        self._sliders = local_sliders(base)
        names = macro_targets() + [n for a, b, _ in self._sliders for n in (a, b) if n]
        self.displacements = np.stack([
            project(load_target(base, n)) for n in (progress(names) if progress else names)
        ]).astype(np.float32)  # [targets, V, 3]

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Weights [n, targets] of n random heads."""
        local = local_weights(rng, self._sliders, n)
        columns = [macro_weights(rng, n)]
        for k, (_, other, _) in enumerate(self._sliders):
            columns.append(np.maximum(local[:, k], 0)[:, None])
            if other:
                columns.append(np.maximum(-local[:, k], 0)[:, None])
        return np.concatenate(columns, 1)


def identity_basis(mix: TargetMix) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean displacement [V, 3], basis [V, 3, S] for one standard deviation, and the share of variance it holds.

    The heads are never formed: their covariance follows from that of the target weights.
    """
    weights = mix.sample(np.random.default_rng(SEED), N_SAMPLES)
    flat = mix.displacements.reshape(len(mix.displacements), -1)
    mean = weights.mean(0)
    spread, axes = np.linalg.eigh(np.cov(weights.T))
    factor = (axes * np.sqrt(np.maximum(spread, 0))) @ axes.T  # [targets, targets] square root of the covariance
    rows = factor @ flat.astype(np.float64)  # [targets, 3V]
    power, left = np.linalg.eigh(rows @ rows.T)
    order = np.argsort(power)[::-1][:N_COMPONENTS]
    basis = left[:, order].T @ rows  # [S, 3V] each row is one standard deviation
    # A component's sign is free. The largest entry would not settle it: left and right tie, rounding would decide.
    probe = np.random.default_rng(SEED).normal(size=basis.shape[1])
    basis *= np.where(basis @ probe < 0, -1, 1)[:, None]
    shape = mix.displacements.shape[1:]
    kept = float(power[order].sum() / power.sum())
    return (mean @ flat).reshape(shape), basis.T.reshape(*shape, -1).astype(np.float32), kept

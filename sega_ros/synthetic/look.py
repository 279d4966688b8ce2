"""What a synthetic person looks like: a few numbers drawn from a seed, in plausible combinations."""

from dataclasses import dataclass

import numpy as np

# sRGB. Skin from light to dark; the pairs of hair are (root, tip).
_SKIN = np.array([
    [0.93, 0.775, 0.70], [0.885, 0.70, 0.60], [0.80, 0.605, 0.495], [0.67, 0.475, 0.365], [0.49, 0.325, 0.235],
    [0.34, 0.225, 0.165]])
_HAIR = {
    'black': ((0.055, 0.045, 0.04), (0.12, 0.10, 0.09)), 'dark brown': ((0.13, 0.085, 0.06), (0.25, 0.17, 0.12)),
    'brown': ((0.22, 0.145, 0.095), (0.40, 0.28, 0.19)), 'auburn': ((0.30, 0.14, 0.075), (0.52, 0.27, 0.15)),
    'blond': ((0.42, 0.32, 0.20), (0.72, 0.58, 0.39)), 'grey': ((0.36, 0.355, 0.35), (0.62, 0.61, 0.60)),
}
_IRIS = {
    'brown': (0.30, 0.17, 0.09), 'dark brown': (0.17, 0.095, 0.055), 'hazel': (0.38, 0.28, 0.13),
    'green': (0.30, 0.38, 0.24), 'blue': (0.33, 0.47, 0.60), 'grey': (0.42, 0.47, 0.50),
}
_CLOTH = (
    (0.16, 0.20, 0.30), (0.32, 0.12, 0.14), (0.18, 0.28, 0.22), (0.24, 0.24, 0.26), (0.45, 0.42, 0.38),
    (0.20, 0.30, 0.42))
_BACKDROP = ((0.46, 0.50, 0.54), (0.55, 0.50, 0.44), (0.40, 0.47, 0.44), (0.50, 0.46, 0.52))


@dataclass(frozen=True)
class Look:
    """Appearance of one person; colours are sRGB in [0, 1]."""

    tone: float  # skin, 0 light to 1 dark
    skin: np.ndarray  # [3]
    redness: float  # [0, 1]
    freckles: float  # [0, 1]
    stubble: float  # [0, 1]
    age: float  # [0, 1]
    lips: np.ndarray  # [3]
    iris: np.ndarray  # [3]
    brows: float  # thickness, about 1
    hair: np.ndarray  # [2, 3] root and tip
    hair_length: float  # metres of the longest hair on top
    hair_curtain: float  # metres that hair hangs below the ears; 0: short hair
    cloth: np.ndarray  # [3]
    backdrop: np.ndarray  # [3]

    @classmethod
    def draw(cls, seed: int) -> 'Look':
        """Draw a look; equal seeds give equal people."""
        rng = np.random.default_rng([seed, 77])
        tone = float(rng.beta(1.2, 1.6))
        skin = skin_color(tone) * (1 + rng.normal(0, 0.012, 3))
        masculine = bool(rng.random() < 0.5)
        dark = rng.random() < tone * 1.6
        common = ['black', 'dark brown']
        hair = rng.choice(common) if dark else rng.choice(list(_HAIR), p=[0.1, 0.25, 0.3, 0.1, 0.15, 0.1])
        iris = rng.choice(['brown', 'dark brown'] if dark else list(_IRIS))
        length = rng.uniform(0.006, 0.022) if masculine else rng.uniform(0.012, 0.018)
        return cls(
            tone=tone, skin=np.clip(skin, 0, 1), redness=float(rng.uniform(0.3, 0.8)),
            freckles=float(max(0.0, rng.normal(-0.1, 0.4)) * (1 - tone)),
            stubble=float(rng.uniform(0, 0.9)) if masculine else 0.0,
            age=float(rng.uniform(0, 0.7)), lips=_lip_color(skin, rng, masculine), iris=np.array(_IRIS[iris]),
            brows=float(rng.uniform(0.95, 1.35) if masculine else rng.uniform(0.7, 1.0)), hair=np.array(_HAIR[hair]),
            hair_length=float(length),
            hair_curtain=0.0 if masculine else float(rng.choice([0.0, 0.05, 0.10], p=[0.25, 0.35, 0.4])),
            cloth=np.array(_CLOTH[rng.integers(len(_CLOTH))]),
            backdrop=np.array(_BACKDROP[rng.integers(len(_BACKDROP))]))

    @classmethod
    def vary(cls, seed: int) -> 'Look':
        """Draw a look from the whole variety of people; equal seeds give equal people."""
        return cls.draw(seed)


def skin_color(tone: float) -> np.ndarray:
    """Return the sRGB colour [3] of skin between light (0) and dark (1)."""
    at = np.linspace(0, 1, len(_SKIN))
    return np.array([np.interp(tone, at, _SKIN[:, k]) for k in range(3)])


def _lip_color(skin: np.ndarray, rng, masculine: bool) -> np.ndarray:
    rosy = skin * np.array([0.92, 0.66, 0.66]) if not masculine else skin * np.array([0.90, 0.74, 0.73])
    return np.clip(rosy * (1 + rng.normal(0, 0.03, 3)), 0, 1)

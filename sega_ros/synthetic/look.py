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
class Style:
    """How the locks of a way to wear hair grow."""

    comb: str  # 'part' sideways, 'back', 'forward', 'tie' to the back of the head, 'up', 'out'
    locks: int
    steps: int = 9  # points along a lock
    hangs: bool = False  # cut at a height rather than at a length; falls over the ears
    fringe: bool = False  # covers the forehead down to a height
    tail: str = ''  # 'bun' or 'tail' at the back of the head
    sprawl: float = 0.15  # how much neighbours differ in direction


BEARDS = ('moustache', 'goatee', 'short', 'full', 'long')
GLASSES = ('round', 'rectangular', 'aviator')

# By name; hair without locks ('bald', 'buzz') is a layer of shells alone.
STYLES = {
    'crop': Style('up', 760, 6, sprawl=0.25), 'forward': Style('forward', 620, 6, sprawl=0.3),
    'side part': Style('part', 620, 8, sprawl=0.12), 'slick back': Style('back', 620, 8, sprawl=0.08),
    'tousled': Style('up', 760, 8, sprawl=0.4),
    'fringe': Style('forward', 760, 13, hangs=True, fringe=True, sprawl=0.10),
    'medium': Style('part', 760, 13, hangs=True, sprawl=0.12), 'long': Style('part', 860, 16, hangs=True, sprawl=0.10),
    'curly': Style('out', 1000, 13, sprawl=0.3), 'afro': Style('out', 1300, 9, sprawl=0.25),
    'bun': Style('tie', 560, 10, tail='bun', sprawl=0.02), 'ponytail': Style('tie', 560, 12, tail='tail', sprawl=0.02),
}


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
    # What only varied people have; the values here leave it out.
    traits: tuple[float, ...] = ()  # amounts of `traits.NAMES` in the shape
    style: str = ''  # of STYLES, 'bald' or 'buzz'; '': the plain hair of `hair_length` and `hair_curtain`
    part: float = 0.0  # metres to the left of the middle where the hair parts
    receding: float = 0.0  # metres that the hairline has gone up
    scalp: float = 0.65  # [0, 1] of the hair's colour that the scalp under it has
    hair_volume: float = 0.012  # metres between scalp and the outermost locks
    hair_end: float = 0.0  # height where hanging hair ends, metres
    lock_length: float = 0.04  # metres, on top of short hair
    lock_width: float = 0.007  # metres
    sides: float = 0.5  # length at the sides over that on top
    curl: float = 0.0  # metres that locks swing
    curl_length: float = 0.05  # metres of one swing
    droop: float = 0.5  # how much curly hair falls
    tie_height: float = 0.0  # metres above the usual where drawn-back hair meets
    bun: float = 0.03  # metres, radius
    fringe_height: float = 0.055  # metres where a fringe ends
    strands: int = -1  # which strand texture; -1: the seed's own
    beard: str = ''  # of BEARDS
    beard_length: float = 0.0  # metres
    beard_hair: np.ndarray | None = None  # [2, 3] root and tip
    brow_color: np.ndarray | None = None  # [3]
    brow_height: float = 1.0  # thickness over the usual, at the same number of hairs
    shadow: float = 0.0  # [0, 1] make-up on the lids
    shadow_color: np.ndarray | None = None  # [3]
    blush: float = 0.0  # [0, 1]
    liner: float = 0.0  # [0, 1] lines around the eyes
    glasses: str = ''  # of GLASSES
    rim: float = 0.0018  # metres, thickness of their rims
    glasses_color: np.ndarray | None = None  # [3]
    collar: str = ''  # of body.COLLARS
    folds: bool = False  # skin folds with the expression

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
        from sega_ros.synthetic.variety import draw_varied

        return draw_varied(seed)


def skin_color(tone: float) -> np.ndarray:
    """Return the sRGB colour [3] of skin between light (0) and dark (1)."""
    at = np.linspace(0, 1, len(_SKIN))
    return np.array([np.interp(tone, at, _SKIN[:, k]) for k in range(3)])


def _lip_color(skin: np.ndarray, rng, masculine: bool) -> np.ndarray:
    rosy = skin * np.array([0.92, 0.66, 0.66]) if not masculine else skin * np.array([0.90, 0.74, 0.73])
    return np.clip(rosy * (1 + rng.normal(0, 0.03, 3)), 0, 1)

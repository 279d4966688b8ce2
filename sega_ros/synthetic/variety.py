"""The variety of people: looks drawn in plausible combinations of age, tone, hair, beard, make-up, glasses and clothes."""

from dataclasses import replace

import numpy as np

from sega_ros.synthetic.look import BEARDS, GLASSES, Look, skin_color

# sRGB, (root, tip) of hair; natural colours by how dark the skin is, then those of age and of the hairdresser.
_HAIR = {
    'black': ((0.050, 0.042, 0.040), (0.115, 0.100, 0.092)), 'soft black': ((0.085, 0.066, 0.055), (0.17, 0.135, 0.115)),
    'dark brown': ((0.13, 0.085, 0.06), (0.25, 0.17, 0.12)), 'brown': ((0.20, 0.135, 0.09), (0.38, 0.27, 0.185)),
    'light brown': ((0.29, 0.205, 0.135), (0.50, 0.375, 0.26)), 'dark blond': ((0.37, 0.28, 0.175), (0.60, 0.48, 0.32)),
    'blond': ((0.47, 0.36, 0.23), (0.76, 0.63, 0.43)), 'platinum': ((0.62, 0.55, 0.43), (0.88, 0.82, 0.70)),
    'auburn': ((0.27, 0.125, 0.07), (0.48, 0.245, 0.14)), 'red': ((0.42, 0.17, 0.07), (0.72, 0.35, 0.17)),
}
_DARK, _MIXED = ['black', 'soft black', 'dark brown'], ['dark brown', 'brown', 'light brown', 'soft black']
_LIGHT = ['brown', 'light brown', 'dark blond', 'blond', 'platinum', 'auburn', 'red', 'dark brown']
_DYED = [((0.18, 0.25, 0.50), (0.30, 0.42, 0.72)), ((0.52, 0.16, 0.34), (0.80, 0.38, 0.56)),
         ((0.12, 0.34, 0.31), (0.25, 0.58, 0.52)),
         ((0.33, 0.17, 0.44), (0.55, 0.34, 0.68)), ((0.45, 0.07, 0.09), (0.68, 0.14, 0.15))]
_IRIS = {
    'dark brown': (0.16, 0.09, 0.055), 'brown': (0.29, 0.165, 0.09), 'amber': (0.43, 0.27, 0.11), 'hazel': (0.37, 0.29, 0.15),
    'green': (0.31, 0.39, 0.25), 'blue': (0.32, 0.46, 0.60), 'pale blue': (0.50, 0.62, 0.72), 'grey': (0.42, 0.47, 0.50),
}
_CLOTH = (
    (0.16, 0.20, 0.30), (0.32, 0.12, 0.14), (0.18, 0.28, 0.22), (0.24, 0.24, 0.26), (0.55, 0.51, 0.45), (0.20, 0.30, 0.42),
    (0.85, 0.84, 0.82), (0.06, 0.06, 0.07), (0.62, 0.66, 0.72), (0.70, 0.55, 0.25), (0.55, 0.30, 0.20), (0.75, 0.60, 0.62),
    (0.35, 0.42, 0.30), (0.10, 0.25, 0.28), (0.70, 0.20, 0.17))
_FRAMES = (
    (0.04, 0.04, 0.045), (0.16, 0.09, 0.05), (0.55, 0.46, 0.28), (0.60, 0.60, 0.62), (0.10, 0.12, 0.25), (0.35, 0.08, 0.09))
# Chances of ways to wear hair; those of tightly curled hair stand apart.
_MEN = {'buzz': 2, 'crop': 3, 'forward': 2, 'side part': 4, 'slick back': 2, 'tousled': 2, 'curly': 1.5,
        'medium': 0.8, 'long': 0.7, 'bun': 0.3}
_WOMEN = {'crop': 0.5, 'side part': 0.6, 'tousled': 0.4, 'fringe': 2.2, 'medium': 3.5, 'long': 5, 'curly': 1.8,
          'bun': 2, 'ponytail': 2}
_TIGHT_MEN = {'buzz': 5, 'afro': 4, 'curly': 2, 'crop': 0.4}
_TIGHT_WOMEN = {'afro': 4, 'curly': 3, 'bun': 2, 'ponytail': 1, 'buzz': 0.5, 'long': 1, 'medium': 0.6}


def draw_varied(seed: int) -> Look:
    """Draw a look from the whole variety of people."""
    rng = np.random.default_rng([seed, 1021])
    plain = Look.draw(seed)  # clothes, backdrop and the fields that nothing here sets
    masculine, age = bool(rng.random() < 0.5), float(rng.beta(1.0, 1.25))
    tone = float(rng.choice([rng.uniform(0, 0.3), rng.uniform(0.25, 0.6), rng.uniform(0.55, 1.0)], p=[0.48, 0.27, 0.25]))
    skin = np.clip(skin_color(tone) * (1 + rng.normal(0, 0.018, 3)), 0, 1)
    natural = _natural_hair(tone, rng)
    look = replace(
        plain, tone=tone, skin=skin, redness=float(rng.uniform(0.2, 1.0)), age=age, folds=True,
        freckles=float(max(0.0, rng.normal(-0.25, 0.5)) * (1 - tone)), iris=np.array(_draw_iris(tone, rng)),
        cloth=np.array(_CLOTH[rng.integers(len(_CLOTH))]) * rng.uniform(0.85, 1.1), hair_curtain=0.0, stubble=0.0,
        strands=int(rng.integers(6)),
        collar=str(rng.choice(['crew', 'wide', 'high', 'shirt', 'hood'], p=[0.4, 0.2, 0.13, 0.17, 0.1])))
    look = _with_hair(look, natural, masculine, rng)
    look = _with_beard(look, masculine, rng)
    look = _with_brows(look, natural, masculine, rng)
    look = _with_make_up(look, masculine, rng)
    look = replace(look, traits=_draw_traits(tone, age, masculine, rng))
    if rng.random() < 0.10 + 0.14 * age:
        look = replace(look, glasses=str(rng.choice(GLASSES)), rim=float(rng.uniform(0.0012, 0.0034)),
                       glasses_color=np.array(_FRAMES[rng.integers(len(_FRAMES))]))
    return look


def _draw_traits(tone: float, age: float, masculine: bool, rng) -> tuple[float, ...]:
    """Amounts of `traits.NAMES`: what is likely with these, with much room for everybody else."""
    male = (0.42 if masculine else -0.42) * rng.uniform(0.3, 1.15)
    dark, light = max(0.0, tone - 0.5) * 2, max(0.0, 0.45 - tone) * 2.2
    origins = rng.dirichlet([0.25 + 2.5 * dark, 0.7 + 0.6 * (dark == 0), 0.25 + 2.0 * light]) * 1.1
    return tuple(float(x) for x in (male, 0.75 * (age - 0.3) * rng.uniform(0.5, 1.1), *(origins - 0.2), rng.normal(0, 0.35)))


def _natural_hair(tone: float, rng) -> np.ndarray:
    names = _DARK if tone > 0.55 or rng.random() < 0.25 else _MIXED if tone > 0.3 else _LIGHT
    return np.array(_HAIR[rng.choice(names)]) * rng.uniform(0.9, 1.12)


def _draw_iris(tone: float, rng) -> tuple[float, float, float]:
    if tone > 0.5 or rng.random() < 0.3 + tone:
        return _IRIS[rng.choice(['dark brown', 'brown', 'amber'], p=[0.6, 0.33, 0.07])]
    return _IRIS[rng.choice(list(_IRIS))]


def _greyed(hair: np.ndarray, share: float) -> np.ndarray:
    """Hair [2, 3] of which a share has gone grey, then white."""
    white = np.array([[0.60, 0.59, 0.575], [0.86, 0.855, 0.84]])
    return np.clip(hair + (white - hair) * min(share, 1.0), 0, 1)


def _grey_share(age: float, rng) -> float:
    return float(np.clip((age - 0.5) * rng.uniform(0.6, 3.2), 0, 1)) if rng.random() < 0.85 else 0.0


def _with_hair(look: Look, natural: np.ndarray, masculine: bool, rng) -> Look:
    tight = look.tone > 0.6 and rng.random() < 0.75
    chances = (_TIGHT_MEN if masculine else _TIGHT_WOMEN) if tight else (_MEN if masculine else _WOMEN)
    weights = np.array(list(chances.values()), float)
    style = str(rng.choice(list(chances), p=weights / weights.sum()))
    receding = 0.0
    if masculine and rng.random() < 0.15 + 0.5 * look.age:
        receding = float(rng.uniform(0.004, 0.018 + 0.06 * look.age))
        if receding > 0.03:
            style = str(rng.choice(['bald', 'buzz', 'crop'], p=[0.3, 0.5, 0.2]))
    hair = _greyed(natural, _grey_share(look.age, rng))
    if rng.random() < (0.0 if masculine else 0.05):
        hair = np.array(_DYED[rng.integers(len(_DYED))])
    parting = float(rng.choice([0.0, rng.normal(0, 0.006), rng.choice([-1, 1]) * rng.uniform(0.018, 0.042)], p=[0.2, 0.2, 0.6]))
    wavy = rng.random()
    look = replace(look, style=style, receding=receding, hair=hair, part=parting, hair_length=0.006, scalp=0.85,
                   hair_volume=float(rng.uniform(0.007, 0.02)), sides=float(rng.uniform(0.25, 0.8)),
                   fringe_height=float(rng.uniform(0.056, 0.072)),
                   tie_height=float(rng.choice([0.0, 0.03, -0.06]) + rng.normal(0, 0.008)))
    if wavy > 0.45:
        look = replace(look, curl=float(rng.uniform(0.002, 0.009)), curl_length=float(rng.uniform(0.045, 0.11)))
    return _styled(look, tight, rng)


def _styled(look: Look, tight: bool, rng) -> Look:
    """Fill in what belongs to the look's way to wear hair."""
    style = look.style
    if style in ('bald', 'buzz'):
        scalp = rng.uniform(0.15, 0.3) if style == 'bald' else rng.uniform(0.5, 0.75)
        return replace(look, hair_length=float(rng.uniform(0.0025, 0.006)), scalp=float(scalp))
    if style == 'afro':
        size = rng.uniform(0.02, 0.06)
        return replace(look, lock_length=float(size * 1.15), hair_volume=0.004, sides=float(rng.uniform(0.6, 0.95)), curl=0.005,
                       curl_length=0.022, droop=0.15, lock_width=0.014, hair_length=float(size * 0.75))
    if style == 'curly':
        return replace(look, lock_length=float(rng.uniform(0.05, 0.14)), hair_volume=float(rng.uniform(0.015, 0.035)),
                       sides=float(rng.uniform(0.5, 0.9)), curl=float(rng.uniform(0.006, 0.010)),
                       droop=float(rng.uniform(1.2, 3.0)), curl_length=float(rng.uniform(0.028, 0.045)),
                       lock_width=0.012, hair_length=0.014)
    if style in ('medium', 'fringe', 'long'):
        end, width = ((-0.30, -0.15), 0.014) if style == 'long' else ((-0.12, -0.03), 0.013)
        return replace(look, hair_end=float(rng.uniform(*end)), lock_width=width)
    if style in ('bun', 'ponytail'):
        curly = {'curl': 0.006, 'curl_length': 0.025} if tight else {}
        return replace(look, hair_volume=0.004, lock_length=0.20, sides=1.0, bun=float(rng.uniform(0.024, 0.042)),
                       hair_end=float(rng.uniform(-0.25, -0.08)), lock_width=0.010, **curly)
    length = {'crop': (0.015, 0.035), 'forward': (0.03, 0.05), 'side part': (0.05, 0.09), 'slick back': (0.07, 0.11),
              'tousled': (0.035, 0.065)}[style]
    return replace(look, lock_length=float(rng.uniform(*length)), hair_length=0.008)


def _with_beard(look: Look, masculine: bool, rng) -> Look:
    if not masculine or rng.random() < 0.3:
        return look
    if rng.random() < 0.42:
        return replace(look, stubble=float(rng.uniform(0.2, 1.0)))
    kind = str(rng.choice(BEARDS, p=[0.14, 0.2, 0.34, 0.22, 0.10]))
    length = {'moustache': (0.004, 0.009), 'goatee': (0.004, 0.012), 'short': (0.003, 0.006), 'full': (0.007, 0.014),
              'long': (0.02, 0.045)}[kind]
    hair = _greyed(look.hair * [1.0, 0.96, 0.9], 0.5 * _grey_share(look.age, rng)) if look.age > 0.4 else look.hair
    return replace(look, beard=kind, beard_length=float(rng.uniform(*length)),
                   beard_hair=np.clip(hair * rng.uniform(0.85, 1.1), 0, 1), stubble=float(rng.uniform(0.3, 0.8)))


def _with_brows(look: Look, natural: np.ndarray, masculine: bool, rng) -> Look:
    color = (natural[0] * 0.7 + natural[1] * 0.2) if rng.random() < 0.8 else look.hair.mean(0)
    if look.age > 0.7 and rng.random() < 0.6:
        color = _greyed(np.stack([color, color]), 0.6).mean(0)
    thick = rng.uniform(0.8, 1.6) if masculine else rng.uniform(0.5, 1.15)
    return replace(look, brows=float(thick), brow_height=float(rng.uniform(0.75, 1.3)), brow_color=np.clip(color, 0, 1))


def _with_make_up(look: Look, masculine: bool, rng) -> Look:
    rosy = look.skin * ([0.92, 0.66, 0.66] if not masculine else [0.90, 0.74, 0.73]) * (1 + rng.normal(0, 0.04, 3))
    look = replace(look, lips=np.clip(rosy, 0, 1))
    if masculine or rng.random() < 0.45:
        return look
    strength, stick = rng.random(), np.array([(0.62, 0.10, 0.14), (0.55, 0.20, 0.24), (0.72, 0.33, 0.36), (0.42, 0.08, 0.16),
                                              (0.66, 0.28, 0.20), (0.60, 0.36, 0.33)][rng.integers(6)])
    hues = [(0.30, 0.20, 0.18), (0.35, 0.25, 0.32), (0.22, 0.22, 0.25), (0.45, 0.30, 0.22), (0.25, 0.30, 0.40)]
    hue = np.array(hues[rng.integers(5)])
    lips = look.lips + (stick * (1.05 - 0.4 * look.tone) - look.lips) * (0.85 * strength if strength > 0.4 else 0.0)
    return replace(look, lips=np.clip(lips, 0, 1), shadow=float(max(0.0, rng.uniform(-0.4, 0.7))), shadow_color=hue,
                   blush=float(max(0.0, rng.uniform(-0.4, 0.8))), liner=float(max(0.0, rng.uniform(-0.3, 1.0))))

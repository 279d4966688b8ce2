#!/usr/bin/env python3
"""Write sega_ros/synthetic/traits.npz: what sex, age, origin and weight do to a head, from MakeHuman's macro targets (CC0)."""

import io

import numpy as np

from sega_ros.head import load_head
from sega_ros.head.identity import macro_targets
from sega_ros.head.open_head import head_targets
from sega_ros.io import atomic_write
from sega_ros.synthetic.traits import NAMES, TRAITS

FOLDER = 'mpfb2/targets/macrodetails'
ORIGINS = ('african', 'asian', 'caucasian')


def trait_fields() -> dict[str, np.ndarray]:
    """Displacements [V, 3] in metres of each trait's whole way."""
    target = dict(zip(macro_targets(), head_targets().displacements, strict=False))

    def origin(name: str, sex: str, age: str) -> np.ndarray:
        return target[f'{FOLDER}/{name}-{sex}-{age}']

    def body(sex: str, age: str, weight: str = 'average') -> np.ndarray:
        return target[f'{FOLDER}/universal-{sex}-{age}-averagemuscle-{weight}weight']

    def mean_head(sex: str, age: str) -> np.ndarray:
        return np.mean([origin(o, sex, age) + body(sex, age) for o in ORIGINS], 0)

    sexes = ('male', 'female')
    fields = {
        'male': mean_head('male', 'young') - mean_head('female', 'young'),
        'old': np.mean([mean_head(s, 'old') - mean_head(s, 'young') for s in sexes], 0),
        'heavy': np.mean([body(s, 'young', 'max') - body(s, 'young', 'min') for s in sexes], 0),
    }
    for name in ORIGINS:
        mean = np.mean([[origin(o, s, 'young') for s in sexes] for o in ORIGINS], (0, 1))
        fields[name] = np.mean([origin(name, s, 'young') for s in sexes], 0) - mean
    return fields


def main() -> None:
    """Write the file; the points at which displacements are kept stay those of the file as it is."""
    from scipy.spatial import cKDTree

    with np.load(TRAITS, allow_pickle=False) as file:
        points = file['points']
    vertices = cKDTree(load_head().v_template).query(points)[1]
    fields = trait_fields()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, names=np.array(NAMES), points=points,
                        displacements=np.stack([fields[name][vertices] for name in NAMES]).astype(np.float32))
    atomic_write(TRAITS, buffer.getvalue())


if __name__ == '__main__':
    main()

"""What sex, age, origin and weight do to a head's shape, as coefficients of its identity basis.

The displacements come from MakeHuman's macro targets (CC0), kept at some points of the open head (`scripts/write_traits.py`).
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from sega_ros.head.model import ByIdentity, HeadModel

NAMES = ('male', 'old', 'african', 'asian', 'caucasian', 'heavy')
TRAITS = Path(__file__).with_name('traits.npz')
_NOISE = 0.003  # metres: what the basis need not explain


def trait_shape(head: HeadModel, amounts: tuple[float, ...]) -> np.ndarray:
    """Coefficients [S] of a head with these amounts of `NAMES`: 1 is the whole way, say from a woman to a man."""
    return np.asarray(amounts, np.float32) @ _directions(ByIdentity(head))


@lru_cache(maxsize=4)
def _directions(key: ByIdentity) -> np.ndarray:
    """Coefficients [len(NAMES), S] of each trait: the likeliest under the basis's own spread."""
    from scipy.spatial import cKDTree

    head = key.head
    with np.load(TRAITS, allow_pickle=False) as data:
        points, wanted = data['points'], data['displacements']
    basis = head.shapedirs[cKDTree(head.v_template).query(points)[1]].reshape(-1, head.n_shape).astype(np.float64)
    normal = basis.T @ basis + _NOISE**2 * np.eye(head.n_shape)
    return np.linalg.solve(normal, basis.T @ wanted.reshape(len(NAMES), -1).T).T.astype(np.float32)

"""NeRSemble's colour correction: a polynomial in linear light.

The terms are those of Cheung et al. (2004) in the order of colour-science's `matrix_augmented_Cheung2004`; the data set's
own loader applies the matrix to sRGB decoded to linear light (nersemble_data/util/color_correction.py).
"""

import numpy as np

from sega_ros.errors import DatasetError

_LINEAR, _MIXED, _SQUARES = ('r', 'g', 'b'), ('rg', 'rb', 'gb'), ('rr', 'gg', 'bb')
_CUBES, _ONE = ('rrr', 'ggg', 'bbb'), ('',)
# Number of columns of the matrix -> the products they multiply.
TERMS: dict[int, tuple[str, ...]] = {
    3: _LINEAR,
    4: (*_LINEAR, *_ONE),
    5: (*_LINEAR, 'rgb', *_ONE),
    7: (*_LINEAR, *_MIXED, *_ONE),
    8: (*_LINEAR, *_MIXED, 'rgb', *_ONE),
    10: (*_LINEAR, *_MIXED, *_SQUARES, *_ONE),
    11: (*_LINEAR, *_MIXED, *_SQUARES, 'rgb', *_ONE),
    14: (*_LINEAR, *_MIXED, *_SQUARES, 'rgb', *_CUBES, *_ONE),
}


def check_color_matrix(matrix, *, name: str) -> np.ndarray:
    """Return `matrix` as float64 [3, terms].

    Raises:
        DatasetError: another shape, or numbers that are not finite.
    """
    try:
        matrix = np.array(matrix, np.float64)
    except (TypeError, ValueError) as e:
        raise DatasetError(f'{name}: wanted 3 rows of numbers, found {str(matrix)[:60]}') from e
    if matrix.ndim != 2 or matrix.shape[0] != 3 or matrix.shape[1] not in TERMS or not np.isfinite(matrix).all():
        raise DatasetError(f'{name}: wanted a finite matrix of 3 rows and {", ".join(map(str, TERMS))} columns, '
                           f'found shape {list(matrix.shape)}')
    return matrix


def correct_color(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Corrected picture [H, W, 3] uint8 sRGB of `image` (same) by `matrix` [3, terms]."""
    channels = dict(zip('rgb', np.moveaxis(_to_linear()[image], -1, 0), strict=True))
    out = np.zeros(image.shape, np.float32)
    for term, column in zip(TERMS[matrix.shape[1]], matrix.T.astype(np.float32), strict=True):
        product = np.ones(image.shape[:2], np.float32)
        for letter in term:
            product = product * channels[letter]
        out += product[..., None] * column
    out = np.clip(out, 0, 1)
    srgb = np.where(out <= 0.0031308, 12.92 * out, 1.055 * out ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    return np.round(srgb * 255).astype(np.uint8)


def _to_linear() -> np.ndarray:
    """Linear light [256] float32 of sRGB bytes."""
    x = np.arange(256) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)

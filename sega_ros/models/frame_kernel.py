"""From the dynamic decoder's raw maps to the Gaussians of the texels, where `bind_into` expects them: two Numba passes.

The maps lie pixel by pixel (channels last), as convolutions of few channels leave them: what a texel needs lies together.
"""

import math

import numba as nb
import numpy as np

from sega_ros.models.static_decoder import GEOMETRY
from sega_ros.render.cpu_math import EXACT, use_wide_vectors

f32 = np.float32
_FAR = f32(4.97)  # beyond it the approximation of tanh leaves its range; there it differs from 1 by 1e-4


@nb.njit(cache=True, nogil=True, fastmath=EXACT, error_model='numpy')
def finish_maps(maps, cells, basis, share, units):
    """Add the images of change, and give raw geometry its units, in place: bound * tanh(raw * unit / bound) (`base.in_units`).

    The tanh is a quotient of polynomials (its continued fraction, seven terms): right to 1e-4 of its range.

    Args:
        maps: [N, C] float32, the first 11 channels geometry.
        cells: [M] rows of `maps` that are needed.
        basis: [M, B, C] images of change at those.
        share: [B] how much of each.
        units: [3, 11] of `models.base.raw_units`.
    """
    use_wide_vectors()
    for k in range(cells.shape[0]):
        row = cells[k]
        for b in range(basis.shape[1]):
            for c in range(maps.shape[1]):
                maps[row, c] += share[b] * basis[k, b, c]
        for c in range(GEOMETRY):
            raw = maps[row, c]
            bound = units[1, c] if raw > f32(0) else units[2, c]
            x = min(max(raw * units[0, c] / bound, -_FAR), _FAR)
            q = x * x
            upper = x * (f32(135135) + q * (f32(17325) + q * (f32(378) + q)))
            lower = f32(135135) + q * (f32(62370) + q * (f32(3150) + q * f32(28)))
            maps[row, c] = bound * (upper / lower)


def needed_cells(xy: np.ndarray, side: int) -> np.ndarray:
    """Cells [M] (row * side + column) of a map that `write_texels` reads for texels at `xy` [K, 2], colours included."""
    cells = []
    for size in (side, 2 * side):
        at = np.clip((xy + 1) / 2 * size - 0.5, 0, size - 1)
        corner = np.minimum(at.astype(np.int64), size - 2) * side // size
        cells += [corner + np.array([dx, dy]) for dx in (0, 1) for dy in (0, 1)]
    col, row = np.clip(np.concatenate(cells), 0, side - 1).T
    return np.unique(row * side + col)


@nb.njit(inline='always')
def _corners(x, y, side):
    """Upper left texel and weights for a bilinear look-up at (x, y) in texels, clamped to the map."""
    x, y = min(max(x, f32(0)), f32(side - 1)), min(max(y, f32(0)), f32(side - 1))
    j, i = min(int(x), side - 2), min(int(y), side - 2)
    return i, j, x - f32(j), y - f32(i)


@nb.njit(inline='always')
def _blend(maps, c, i, j, fx, fy):
    upper = maps[c, i, j] + fx * (maps[c, i, j + 1] - maps[c, i, j])
    lower = maps[c, i + 1, j] + fx * (maps[c, i + 1, j + 1] - maps[c, i + 1, j])
    return upper + fy * (lower - upper)


@nb.njit(inline='always')
def _color(maps, c, i, j):
    """Colour `c` at (i, j) of the picture of twice the size, whose 2 x 2 pixels are channels of one (torch's pixel_shuffle)."""
    return maps[i >> 1, j >> 1, GEOMETRY + 4 * c + 2 * (i & 1) + (j & 1)]


@nb.njit(cache=True, nogil=True, fastmath={'contract', 'nsz', 'arcp'})
def write_texels(maps, displacement, color_unit, xy, reshaped, start, start_color, index, out):
    """Add changes to the texels' own parameters and activate them.

    Args:
        maps: [h, h, 23] offset, rotation, log scale, opacity of `finish_maps`; raw colours, 4 pixels of each.
        displacement: [3, d, d] metres.
        color_unit: what a raw colour is multiplied by.
        xy: [K, 2] places in UV, -1 to 1.
        reshaped: [K] bool; others only move.
        start: [11, K] the avatar's own parameters, before activation.
        start_color: [3, K] likewise, lids included.
        index: [K] columns of `out`.
        out: [14, T] offset, unit rotation, scales (metres), opacity, colour.
    """
    h, d = maps.shape[0], displacement.shape[1]
    s = 2 * h
    value = np.empty(GEOMETRY, np.float32)
    for k in range(index.shape[0]):
        u, v, t = (xy[k, 0] + f32(1)) * f32(0.5), (xy[k, 1] + f32(1)) * f32(0.5), index[k]
        i, j, fx, fy = _corners(u * f32(h) - f32(0.5), v * f32(h) - f32(0.5), h)
        for c in range(GEOMETRY):
            upper = maps[i, j, c] + fx * (maps[i, j + 1, c] - maps[i, j, c])
            lower = maps[i + 1, j, c] + fx * (maps[i + 1, j + 1, c] - maps[i + 1, j, c])
            value[c] = upper + fy * (lower - upper)
        share = f32(reshaped[k])
        for c in range(GEOMETRY):
            value[c] = start[c, k] + (value[c] if c < 3 else share * value[c])
        i, j, fx, fy = _corners(u * f32(d) - f32(0.5), v * f32(d) - f32(0.5), d)
        for c in range(3):
            out[c, t] = value[c] + _blend(displacement, c, i, j, fx, fy)
        length = f32(1) / math.sqrt(value[3] ** 2 + value[4] ** 2 + value[5] ** 2 + value[6] ** 2 + f32(1e-12))
        for c in range(3, 7):
            out[c, t] = value[c] * length
        for c in range(7, 10):
            out[c, t] = math.exp(value[c])
        out[10, t] = f32(1) / (f32(1) + math.exp(-value[10]))
        i, j, fx, fy = _corners(u * f32(s) - f32(0.5), v * f32(s) - f32(0.5), s)
        for c in range(3):
            upper = _color(maps, c, i, j) + fx * (_color(maps, c, i, j + 1) - _color(maps, c, i, j))
            lower = _color(maps, c, i + 1, j) + fx * (_color(maps, c, i + 1, j + 1) - _color(maps, c, i + 1, j))
            change = share * color_unit * (upper + fy * (lower - upper))
            out[11 + c, t] = min(max(start_color[c, k] + change, f32(0)), f32(1))

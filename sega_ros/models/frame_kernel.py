"""From the dynamic decoder's raw maps to the Gaussians of the texels, where `bind_into` expects them: two Numba passes.

The maps lie pixel by pixel (channels last), as convolutions of few channels leave them: what a texel needs lies together.
"""

import math
from dataclasses import dataclass

import numba as nb
import numpy as np

from sega_ros.models.static_decoder import GEOMETRY
from sega_ros.render.cpu_math import EXACT, use_wide_vectors

f32, uint = np.float32, np.uintp
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


@dataclass(frozen=True)
class LookUps:
    """Where texels find their values in the maps: the same in every frame."""

    cells: np.ndarray  # [K, 6] uint32 places in the flat arrays: geometry and displacement upper left, four pixels of colour
    shares: np.ndarray  # [K, 6] float32 how far right and down from the upper left: geometry, displacement, colour


def look_ups(xy: np.ndarray, side: int, displacement_side: int) -> LookUps:
    """Bilinear look-ups for texels at `xy` [K, 2], -1 to 1, in maps of `side` and displacements of `displacement_side` texels.

    Colours are twice as fine: the 2 x 2 pixels of a cell are channels of the maps (torch's pixel_shuffle).
    """
    channels = GEOMETRY + 12
    corners, shares = [], []
    for size in (side, displacement_side, 2 * side):
        at = np.clip((xy.astype(np.float32) + f32(1)) * f32(0.5) * f32(size) - f32(0.5), f32(0), f32(size - 1))
        corner = np.minimum(at.astype(np.int64), size - 2)
        corners.append(corner[:, ::-1])  # row, column
        shares.append(at - corner.astype(np.float32))
    (i, j), (k, m), (row, col) = (c.T for c in corners)
    fine = [(((row + y) >> 1) * side + ((col + x) >> 1)) * channels + GEOMETRY + 2 * ((row + y) & 1) + ((col + x) & 1)
            for y in (0, 1) for x in (0, 1)]
    cells = np.stack([(i * side + j) * channels, k * displacement_side + m, *fine], 1)
    return LookUps(np.ascontiguousarray(cells, np.uint32), np.ascontiguousarray(np.concatenate(shares, 1), np.float32))


@nb.njit(inline='always')
def _between(flat, at, right, down, fx, fy):
    """Bilinear value of a flat array around place `at`."""
    upper = flat[at] + fx * (flat[at + right] - flat[at])
    lower = flat[at + down] + fx * (flat[at + down + right] - flat[at + down])
    return upper + fy * (lower - upper)


@nb.njit(cache=True, nogil=True, fastmath={'contract', 'nsz', 'arcp'})
def write_texels(maps, displacement, color_unit, cells, shares, reshaped, start, start_color, index, out):
    """Add changes to the texels' own parameters and activate them.

    Args:
        maps: [h, h, 23] offset, rotation, log scale, opacity of `finish_maps`; raw colours, 4 pixels of each.
        displacement: [3, d, d] metres.
        color_unit: what a raw colour is multiplied by.
        cells: [K, 6] of `look_ups`.
        shares: [K, 6] likewise.
        reshaped: [K] bool; others only move.
        start: [11, K] the avatar's own parameters, before activation.
        start_color: [3, K] likewise, lids included.
        index: [K] columns of `out`.
        out: [14, T] offset, unit rotation, scales (metres), opacity, colour.
    """
    flat, moved = maps.reshape(-1), displacement.reshape(-1)
    right, down, plane = uint(maps.shape[2]), uint(maps.shape[1] * maps.shape[2]), uint(displacement.shape[1] ** 2)
    below = uint(displacement.shape[1])
    value = np.empty(GEOMETRY, np.float32)
    for i in range(index.shape[0]):
        k, t = uint(i), uint(index[i])  # unsigned indices need no check for negative ones
        share = f32(reshaped[k])
        at, fx, fy = uint(cells[k, 0]), shares[k, 0], shares[k, 1]
        for c in range(GEOMETRY):
            change = _between(flat, at + uint(c), right, down, fx, fy)
            value[c] = start[c, k] + (change if c < 3 else share * change)
        at, fx, fy = uint(cells[k, 1]), shares[k, 2], shares[k, 3]
        for c in range(3):
            out[c, t] = value[c] + _between(moved, at + uint(c) * plane, uint(1), below, fx, fy)
        length = f32(1) / math.sqrt(value[3] ** 2 + value[4] ** 2 + value[5] ** 2 + value[6] ** 2 + f32(1e-12))
        for c in range(3, 7):
            out[c, t] = value[c] * length
        for c in range(7, 10):
            out[c, t] = math.exp(value[c])
        out[10, t] = f32(1) / (f32(1) + math.exp(-value[10]))
        fx, fy = shares[k, 4], shares[k, 5]
        for c in range(3):
            a, b, d, e = (flat[uint(cells[k, 2]) + uint(4 * c)], flat[uint(cells[k, 3]) + uint(4 * c)],
                          flat[uint(cells[k, 4]) + uint(4 * c)], flat[uint(cells[k, 5]) + uint(4 * c)])
            upper, lower = a + fx * (b - a), d + fx * (e - d)
            change = share * color_unit * (upper + fy * (lower - upper))
            out[11 + c, t] = min(max(start_color[c, k] + change, f32(0)), f32(1))

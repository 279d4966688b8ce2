"""Reads the dynamic decoder's maps at the texels and writes their Gaussians where `bind_into` expects them: one Numba pass."""

import math

import numba as nb
import numpy as np

f32 = np.float32


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


@nb.njit(cache=True, nogil=True, fastmath={'contract', 'nsz', 'arcp'})
def write_texels(geometry, color, displacement, xy, start, start_color, index, out):
    """Add changes to the texels' own parameters and activate them.

    Args:
        geometry: [11, h, h] offset, rotation, log scale, opacity.
        color: [3, s, s].
        displacement: [3, d, d] metres.
        xy: [K, 2] places in UV, -1 to 1.
        start: [11, K] the avatar's own parameters, before activation.
        start_color: [3, K] likewise, lids included.
        index: [K] columns of `out`.
        out: [14, T] offset, unit rotation, scales (metres), opacity, colour.
    """
    h, s, d = geometry.shape[1], color.shape[1], displacement.shape[1]
    value = np.empty(11, np.float32)
    for k in range(index.shape[0]):
        u, v, t = (xy[k, 0] + f32(1)) * f32(0.5), (xy[k, 1] + f32(1)) * f32(0.5), index[k]
        i, j, fx, fy = _corners(u * f32(h) - f32(0.5), v * f32(h) - f32(0.5), h)
        for c in range(11):
            value[c] = start[c, k] + _blend(geometry, c, i, j, fx, fy)
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
            out[11 + c, t] = min(max(start_color[c, k] + _blend(color, c, i, j, fx, fy), f32(0)), f32(1))

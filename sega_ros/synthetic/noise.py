"""Seeded smooth noise over points in space."""

import math

import numba
import numpy as np


@numba.njit(inline='always')
def _hash(i, j, k, seed):
    """Pseudo-random number in [0, 1) of a lattice point."""
    h = np.uint32(i) * np.uint32(374761393) + np.uint32(j) * np.uint32(668265263)
    h = h + np.uint32(k) * np.uint32(2246822519) + np.uint32(seed) * np.uint32(3266489917)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = h ^ (h >> np.uint32(16))
    return np.float64(h & np.uint32(0xFFFFFF)) / 16777216.0


@numba.njit(cache=True, nogil=True)
def _value_noise(points, frequency, seed, out):
    for n in range(points.shape[0]):
        x, y, z = points[n, 0] * frequency, points[n, 1] * frequency, points[n, 2] * frequency
        i, j, k = math.floor(x), math.floor(y), math.floor(z)
        fx, fy, fz = x - i, y - j, z - k
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        total = 0.0
        for c in range(8):
            di, dj, dk = c & 1, (c >> 1) & 1, (c >> 2) & 1
            weight = (fx if di else 1 - fx) * (fy if dj else 1 - fy) * (fz if dk else 1 - fz)
            total += weight * _hash(i + di, j + dj, k + dk, seed)
        out[n] = 2 * total - 1


def value_noise(points: np.ndarray, *, scale: float, seed: int, octaves: int = 1) -> np.ndarray:
    """Noise [N] in about [-1, 1] at `points` [N, 3] (metres); features are `scale` metres, then halves of it."""
    points = np.ascontiguousarray(points, np.float64)
    total, out = np.zeros(len(points)), np.empty(len(points))
    for octave in range(octaves):
        _value_noise(points, 2.0**octave / scale, seed + 101 * octave, out)
        total += out * 0.5**octave
    return total

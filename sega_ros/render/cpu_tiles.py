"""CPU kernels: depth order of the visible splats, and the list of splats of each tile."""

import numpy as np
from numba import njit

from sega_ros.render.cpu_project import BANDS, ROWS, SPANS, STEP, high, low

u32 = np.uint32


@njit(cache=True, nogil=True)
def sort_by_key(keys, order, spare):
    """Write the stable ascending order of uint32 `keys` [M] into `order` [M] int32; `spare` [M] int32 is scratch.

    Least-significant-digit radix sort of keys - min(keys), exact: 24 bits (a head's depth range) take two passes.
    """
    n = keys.shape[0]
    for i in range(n):
        order[i] = i
    if n < 2:
        return
    low = high = keys[0]  # keys.min() would take three seconds to compile
    for i in range(n):
        low, high = min(low, keys[i]), max(high, keys[i])
    bits = 0
    while ((high - low) >> u32(bits)) != 0:
        bits += 1
        if bits == 32:
            break
    passes = max(1, (bits + 11) // 12)
    digit = u32((bits + passes - 1) // passes)
    mask = u32((1 << digit) - 1)
    counts = np.empty(1 << digit, np.int32)
    source, target = order, spare
    for p in range(passes):
        shift = u32(p) * digit
        for b in range(counts.shape[0]):
            counts[b] = 0
        for i in range(n):
            counts[((keys[i] - low) >> shift) & mask] += 1
        total = 0
        for b in range(counts.shape[0]):
            c = counts[b]
            counts[b] = total
            total += c
        for i in range(n):
            s = source[i]
            bucket = ((keys[s] - low) >> shift) & mask
            target[counts[bucket]] = s
            counts[bucket] += 1
        source, target = target, source
    if passes % 2 == 1:
        for i in range(n):
            order[i] = spare[i]


@njit(cache=True, nogil=True)
def offsets_of(starts, offsets):
    """Write where each tile's list starts into `offsets` [tiles + 1] int64; `starts` is from `project_splats`."""
    total, tile = 0, 0
    for row in range(starts.shape[0]):
        here = 0
        for column in range(starts.shape[1] - 1):
            here += starts[row, column]
            offsets[tile] = total
            total += here
            tile += 1
    offsets[tile] = total


@njit(cache=True, nogil=True)
def fill_tiles(tiles, order, tiles_x, row0, row1, ends, pairs):
    """Write the splats of the tiles in tile rows [row0, row1) into `pairs`, each tile's nearest first.

    `tiles` [M, TILES] is from `project_splats`. On entry `ends` [tiles] holds where each tile's list starts, on return
    where it ends.
    """
    width = np.uintp(tiles_x)
    for k in range(order.shape[0]):
        i = np.uintp(order[k])
        row, last, step = low(tiles[i, ROWS]), min(high(tiles[i, ROWS]), row1), tiles[i, STEP]
        for band in range(BANDS):
            x0, x1 = low(tiles[i, SPANS + band]), high(tiles[i, SPANS + band])
            for y in range(max(row, row0), min(row + step, last)):
                first = np.uintp(y) * width
                for tile in range(first + np.uintp(x0), first + np.uintp(x1)):
                    end = ends[tile]
                    pairs[np.uintp(end)] = np.int32(i)
                    ends[tile] = end + 1
            row += step

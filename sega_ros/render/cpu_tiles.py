"""CPU kernels: depth order of the visible splats, and the list of splats of each tile."""

import numpy as np
from numba import njit

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
def count_tiles(rects, tiles_x, counts):
    """Add each rectangle of `rects` [M, 4] to its tiles' `counts` [tiles]."""
    for i in range(rects.shape[0]):
        for ty in range(rects[i, 2], rects[i, 3]):
            for tx in range(rects[i, 0], rects[i, 1]):
                counts[ty * tiles_x + tx] += 1


@njit(cache=True, nogil=True)
def fill_tiles(rects, order, tiles_x, row0, row1, ends, pairs):
    """Write the splats of the tiles in tile rows [row0, row1) into `pairs`, each tile's nearest first.

    On entry `ends` [tiles] holds where each tile's list starts, on return where it ends.
    """
    for k in range(order.shape[0]):
        i = order[k]
        for ty in range(max(rects[i, 2], row0), min(rects[i, 3], row1)):
            for tx in range(rects[i, 0], rects[i, 1]):
                tile = ty * tiles_x + tx
                pairs[ends[tile]] = i
                ends[tile] += 1

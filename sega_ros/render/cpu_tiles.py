"""CPU kernels: depth order of the visible splats, and the list of splats of each tile."""

import numpy as np
from numba import njit

from sega_ros.render.cpu_project import ROWS, SPANS, STEP, high, low

u32 = np.uint32
WIDTH = 4


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
    """Write where each tile's list starts into `offsets` [tiles + 1] int64, one spare place behind each list.

    `starts` is from `project_splats`.
    """
    total, tile = 0, 0
    for row in range(starts.shape[0]):
        here = 0
        for column in range(starts.shape[1] - 1):
            here += starts[row, column]
            offsets[tile] = total
            total += here + 1
            tile += 1
    offsets[tile] = total


@njit(cache=True, nogil=True)
def fill_tiles(tiles, order, tiles_x, row0, row1, offsets, ends, pairs):
    """Write the splats of the tiles in tile rows [row0, row1) into `pairs`, each tile's nearest first.

    `tiles` [M, TILES] is from `project_splats`; `offsets` [tiles + 1] from `offsets_of`, less that of the first row's first
    tile; `ends` [tiles + WIDTH] int64 is scratch. Rows of up to WIDTH tiles are written without asking how many there are,
    which a processor can't guess: what is too much lands behind a list's end, in the place of its next splat or the spare.
    """
    first, stop = row0 * tiles_x, row1 * tiles_x
    for tile in range(first, stop):  # not slices: to assign to one takes three seconds to compile
        ends[tile] = offsets[tile]
    for tile in range(stop, stop + WIDTH):
        ends[tile] = offsets[stop] - 1
    for k in range(order.shape[0]):
        i = np.uintp(order[k])
        row, last, step = low(tiles[i, ROWS]), min(high(tiles[i, ROWS]), row1), tiles[i, STEP]
        start, band, left = max(row, row0), 0, step
        if row < row0:
            band, left = (row0 - row) // step, step - (row0 - row) % step
        for y in range(start, last):
            span = tiles[i, np.uintp(SPANS + band)]
            x0, count = low(span), high(span) - low(span)
            write_row(ends, pairs, np.uintp(y) * np.uintp(tiles_x) + np.uintp(x0), count, np.int32(i))
            left -= 1
            if left == 0:
                band, left = band + 1, step


@njit(cache=True, inline='always')
def write_row(ends, pairs, tile, count, i):
    """Append splat `i` to the lists of `count` tiles from `tile` on."""
    for k in range(WIDTH):
        end = ends[tile + np.uintp(k)]
        pairs[np.uintp(end)] = i
        ends[tile + np.uintp(k)] = end + (k < count)
    for k in range(WIDTH, count):
        end = ends[tile + np.uintp(k)]
        pairs[np.uintp(end)] = i
        ends[tile + np.uintp(k)] = end + 1

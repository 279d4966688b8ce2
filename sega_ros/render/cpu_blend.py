"""CPU kernels: blending of the tiles, forward and backward. Mirrors `reference._blend`.

A tile is 8 x 8 pixels, held as 64 lanes; each splat is evaluated over all of them in one flat loop without branches.
Lane state lies in rows of one scratch array. A transmittance is stored negative once its pixel is done.
"""

import numpy as np
from numba import njit

from sega_ros.render.constants import ALPHA_CUT, ALPHA_MAX, TRANSMITTANCE_MIN
from sega_ros.render.cpu_math import FINITE, exp2, use_wide_vectors
from sega_ros.render.cpu_project import BLUE, GREEN, LO, MX, MY, RED, A, B, D

f32 = np.float32
SHIFT = 3
TILE = 1 << SHIFT
LANES = TILE * TILE
_CHECK = 16  # splats between two looks whether the whole tile is done

_LOG2_CUT = f32(np.log2(ALPHA_CUT))
_ALPHA_MAX, _T_MIN = f32(ALPHA_MAX), f32(TRANSMITTANCE_MIN)
ZERO, ONE = f32(0), f32(1)

# Gradient of a record: sums of h = alpha dL/dalpha times 1, u, v, uu, uv, vv; then dL/drgb.
GRADIENT = 9


@njit(fastmath=FINITE, error_model='numpy', inline='always')
def _blend_splat(records, j, x0, y0, xs, ys, state):
    """Blend record j over the 64 lanes of the tile at (x0, y0); state rows: T, R, G, B."""
    a, b, d, lo = records[j, A], records[j, B], records[j, D], records[j, LO]
    red, green, blue = records[j, RED], records[j, GREEN], records[j, BLUE]
    u0, v0 = a * (x0 - records[j, MX]) + b * (y0 - records[j, MY]), d * (y0 - records[j, MY])
    for i in range(LANES):
        u = a * xs[i] + (b * ys[i] + u0)
        v = d * ys[i] + v0
        p = lo - u * u - v * v
        alpha = min(_ALPHA_MAX, exp2(p))
        alpha = alpha if p >= _LOG2_CUT else ZERO
        t = state[i]
        after = t - t * alpha
        keep = after > _T_MIN
        w = t - after if keep else ZERO
        state[i] = after if keep else -abs(t)
        state[LANES + i] += w * red
        state[2 * LANES + i] += w * green
        state[3 * LANES + i] += w * blue


@njit(fastmath=FINITE, error_model='numpy', inline='always')
def _tile_done(state):
    """Tell whether all 64 transmittances are negative."""
    high = f32(-1)
    for i in range(LANES):
        high = max(high, state[i])
    return high < ZERO


@njit(fastmath=FINITE, error_model='numpy', inline='always')
def _finish_tile(state, low, high, rate, shift):
    """Composite over the background (rows 4-6), clamp, scale; row 0 becomes alpha."""
    for i in range(LANES):
        t = abs(state[i])
        state[i] = ONE - t
        for c in range(3):
            value = state[(c + 1) * LANES + i] + t * state[(c + 4) * LANES + i]
            state[(c + 1) * LANES + i] = min(high, max(low, value)) * rate + shift


@njit(cache=True, nogil=True, fastmath=FINITE, error_model='numpy')
def blend_tiles(records, pairs, offsets, tile0, tile1, tiles_x, background, limits, image, alpha):
    """Blend tiles [tile0, tile1) into image [H, W, 3] and alpha [H, W] over background [H, W, 3] or [1, 1, 3].

    limits [4] float32 says how a value is stored: min(limits[1], max(limits[0], value)) * limits[2] + limits[3].
    """
    use_wide_vectors()
    height, width = alpha.shape
    picture = background.shape[0] * background.shape[1] > 1
    xs, ys = lane_offsets()
    state = aligned_lanes(7)
    for c in range(3):
        state[(c + 4) * LANES : (c + 5) * LANES] = background[0, 0, c]
    for tile in range(tile0, tile1):
        ty, tx = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        h, w = min(TILE, height - ty), min(TILE, width - tx)
        state[:LANES] = ONE
        state[LANES : 4 * LANES] = ZERO
        for k in range(offsets[tile], offsets[tile + 1]):
            _blend_splat(records, pairs[k], f32(tx), f32(ty), xs, ys, state)
            if (k & (_CHECK - 1)) == 0 and _tile_done(state):
                break
        if picture:
            for y in range(h):
                for x in range(w):
                    for c in range(3):
                        state[(c + 4) * LANES + y * TILE + x] = background[ty + y, tx + x, c]
        _finish_tile(state, limits[0], limits[1], limits[2], limits[3])
        for y in range(h):
            for x in range(w):
                i = y * TILE + x
                alpha[ty + y, tx + x] = state[i]
                for c in range(3):
                    image[ty + y, tx + x, c] = state[(c + 1) * LANES + i]


@njit(cache=True)
def lane_offsets():
    """Pixel centres of the 64 lanes relative to the tile's corner: xs [64], ys [64]."""
    lanes = aligned_lanes(2)
    for i in range(LANES):
        lanes[i], lanes[LANES + i] = f32(i % TILE) + f32(0.5), f32(i // TILE) + f32(0.5)
    return lanes[:LANES], lanes[LANES:]


@njit(cache=True)
def aligned_lanes(rows):
    """Uninitialised float32 [rows * LANES] on a cache line: 512-bit loads across lines take twice as long."""
    buffer = np.empty(rows * LANES + 16, np.float32)
    skip = ((64 - (buffer.ctypes.data & 63)) >> 2) & 15
    return buffer[skip : skip + rows * LANES]


@njit(fastmath=FINITE | {'reassoc'}, error_model='numpy', inline='never')
def _blend_splat_backward(records, j, x0, y0, xs, ys, state, grads):
    """Add record j's gradient sums over a tile to `grads` [M, GRADIENT].

    State rows: T, the share of the loss carried by the splats behind, dL/dR, dL/dG, dL/dB. With `reassoc` the sums
    vectorise; exp2 is compiled with flags of its own.
    """
    use_wide_vectors()
    a, b, d, lo = records[j, A], records[j, B], records[j, D], records[j, LO]
    red, green, blue = records[j, RED], records[j, GREEN], records[j, BLUE]
    u0, v0 = a * (x0 - records[j, MX]) + b * (y0 - records[j, MY]), d * (y0 - records[j, MY])
    g, gu, gv, guu, guv, gvv = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    gr, gg, gb = ZERO, ZERO, ZERO
    for i in range(LANES):
        u = a * xs[i] + (b * ys[i] + u0)
        v = d * ys[i] + v0
        p = lo - u * u - v * v
        full = exp2(p)
        alpha = min(_ALPHA_MAX, full)
        alpha = alpha if p >= _LOG2_CUT else ZERO
        t = state[i]
        after = t - t * alpha
        keep = after > _T_MIN
        w = t - after if keep else ZERO
        state[i] = after if keep else -abs(t)
        dr, dg, db = state[2 * LANES + i], state[3 * LANES + i], state[4 * LANES + i]
        value = red * dr + green * dg + blue * db
        rest = state[LANES + i] - w * value
        state[LANES + i] = rest
        h = alpha * (t * value - rest / (ONE - alpha))
        h = h if keep & (full <= _ALPHA_MAX) else ZERO
        hu, hv = h * u, h * v
        g += h
        gu += hu
        gv += hv
        guu += hu * u
        guv += hu * v
        gvv += hv * v
        gr += w * dr
        gg += w * dg
        gb += w * db
    grads[j, 0] += g
    grads[j, 1] += gu
    grads[j, 2] += gv
    grads[j, 3] += guu
    grads[j, 4] += guv
    grads[j, 5] += gvv
    grads[j, 6] += gr
    grads[j, 7] += gg
    grads[j, 8] += gb


@njit(fastmath=FINITE, error_model='numpy', inline='always')
def _start_rest(state):
    """Turn row 1 from alpha into the share of the loss that the whole tile's splats carry; rows 5-8: dL/dalpha, RGB."""
    for i in range(LANES):
        rest = (state[LANES + i] - ONE) * state[5 * LANES + i]
        for c in range(3):
            rest += state[(c + 2) * LANES + i] * state[(c + 6) * LANES + i]
        state[LANES + i] = rest


@njit(cache=True, nogil=True, fastmath=FINITE, error_model='numpy')
def blend_tiles_backward(records, pairs, offsets, tile0, tile1, tiles_x, image, alpha, v_image, v_alpha, grads):
    """Add the gradients of tiles [tile0, tile1) to `grads` [M, GRADIENT], walking front to back once more.

    `image` is what the forward pass made, background included; v_image [H, W, 3] and v_alpha [H, W] are dL of its
    outputs. What the splats behind carry of the loss starts as the whole picture's share and shrinks with each splat,
    so the forward pass need not store anything per pair.
    """
    use_wide_vectors()
    height, width = alpha.shape
    xs, ys = lane_offsets()
    state = aligned_lanes(9)
    for tile in range(tile0, tile1):
        if offsets[tile] == offsets[tile + 1]:
            continue
        ty, tx = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        state[:LANES] = f32(-1)
        state[LANES:] = ZERO
        for y in range(min(TILE, height - ty)):
            for x in range(min(TILE, width - tx)):
                i = y * TILE + x
                state[i], state[LANES + i], state[5 * LANES + i] = ONE, alpha[ty + y, tx + x], v_alpha[ty + y, tx + x]
                for c in range(3):
                    state[(c + 2) * LANES + i] = v_image[ty + y, tx + x, c]
                    state[(c + 6) * LANES + i] = image[ty + y, tx + x, c]
        _start_rest(state)
        for k in range(offsets[tile], offsets[tile + 1]):
            _blend_splat_backward(records, pairs[k], f32(tx), f32(ty), xs, ys, state, grads)
            if (k & (_CHECK - 1)) == 0 and _tile_done(state):
                break

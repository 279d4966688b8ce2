"""CPU kernels: blending of the tiles, forward and backward. Mirrors `reference._blend`.

A tile is 8 x 8 pixels, held as 64 lanes; each splat is evaluated over all of them in one flat loop without branches.
Lane state lies in rows of one scratch array. A transmittance is stored negative once its pixel is done.
"""

import numpy as np
from numba import njit

from sega_ros.render.constants import ALPHA_CUT, ALPHA_MAX, TRANSMITTANCE_MIN
from sega_ros.render.cpu_math import FINITE, exp2
from sega_ros.render.cpu_project import BLUE, GREEN, LO, MX, MY, RED, A, B, D

f32 = np.float32
SHIFT = 3
TILE = 1 << SHIFT
LANES = TILE * TILE
_CHECK = 16  # splats between two looks whether the whole tile is done

_LOG2_CUT = f32(np.log2(ALPHA_CUT))
_ALPHA_MAX, _T_MIN = f32(ALPHA_MAX), f32(TRANSMITTANCE_MIN)
_FLOOR = f32(-32.0)  # exponents are clamped here: far below the cut, safely inside exp2's range
ZERO, ONE = f32(0), f32(1)

# Gradient of a record: sums of h = alpha dL/dalpha times 1, u, v, uu, uv, vv; then dL/drgb.
GRADIENT = 9


@njit(cache=True, fastmath=FINITE, error_model='numpy')
def blend_splat(rec, x0, y0, xs, ys, state):
    """Blend one record over the 64 lanes of the tile at (x0, y0); state rows: T, R, G, B."""
    a, b, d, lo = rec[A], rec[B], rec[D], rec[LO]
    red, green, blue = rec[RED], rec[GREEN], rec[BLUE]
    u0, v0 = a * (x0 - rec[MX]) + b * (y0 - rec[MY]), d * (y0 - rec[MY])
    for i in range(LANES):
        u = a * xs[i] + (b * ys[i] + u0)
        v = d * ys[i] + v0
        p = lo - u * u - v * v
        alpha = min(_ALPHA_MAX, exp2(max(_FLOOR, p)))
        alpha = alpha if p >= _LOG2_CUT else ZERO
        t = state[i]
        after = t - t * alpha
        keep = after > _T_MIN
        w = t - after if keep else ZERO
        state[i] = after if keep else -abs(t)
        state[LANES + i] += w * red
        state[2 * LANES + i] += w * green
        state[3 * LANES + i] += w * blue


@njit(cache=True, fastmath=FINITE, error_model='numpy')
def tile_done(state):
    """Tell whether all 64 transmittances are negative."""
    high = f32(-1)
    for i in range(LANES):
        high = max(high, state[i])
    return high < ZERO


@njit(cache=True, fastmath=FINITE, error_model='numpy')
def blend_tiles(records, pairs, starts, ends, tile0, tile1, tiles_x, background, image, alpha):
    """Blend tiles [tile0, tile1) into image [H, W, 3] and alpha [H, W] float32 over background [h, w, 3] (h, w may be 1)."""
    height, width = alpha.shape
    xs, ys = lane_offsets()
    state = np.empty(4 * LANES, np.float32)
    for tile in range(tile0, tile1):
        ty, tx = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        state[:LANES] = ONE
        state[LANES:] = ZERO
        for k in range(starts[tile], ends[tile]):
            blend_splat(records[pairs[k]], f32(tx), f32(ty), xs, ys, state)
            if (k & (_CHECK - 1)) == 0 and tile_done(state):
                break
        for y in range(min(TILE, height - ty)):
            for x in range(min(TILE, width - tx)):
                i = y * TILE + x
                t = abs(state[i])
                by = ty + y if background.shape[0] > 1 else 0
                bx = tx + x if background.shape[1] > 1 else 0
                alpha[ty + y, tx + x] = ONE - t
                for c in range(3):
                    image[ty + y, tx + x, c] = state[(c + 1) * LANES + i] + t * background[by, bx, c]


@njit(cache=True)
def lane_offsets():
    """Pixel centres of the 64 lanes relative to the tile's corner: xs [64], ys [64]."""
    xs, ys = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for i in range(LANES):
        xs[i], ys[i] = f32(i % TILE) + f32(0.5), f32(i // TILE) + f32(0.5)
    return xs, ys


@njit(cache=True, fastmath=FINITE | {'reassoc'}, error_model='numpy')
def blend_splat_backward(rec, x0, y0, xs, ys, state, grad):
    """Add one record's gradient sums over a tile to `grad` [GRADIENT].

    State rows: T, the share of the loss carried by the splats behind, dL/dR, dL/dG, dL/dB. With `reassoc` the sums
    vectorise; exp2 is compiled with flags of its own.
    """
    a, b, d, lo = rec[A], rec[B], rec[D], rec[LO]
    red, green, blue = rec[RED], rec[GREEN], rec[BLUE]
    u0, v0 = a * (x0 - rec[MX]) + b * (y0 - rec[MY]), d * (y0 - rec[MY])
    g, gu, gv, guu, guv, gvv = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    gr, gg, gb = ZERO, ZERO, ZERO
    for i in range(LANES):
        u = a * xs[i] + (b * ys[i] + u0)
        v = d * ys[i] + v0
        p = lo - u * u - v * v
        full = exp2(max(_FLOOR, p))
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
    grad[0] += g
    grad[1] += gu
    grad[2] += gv
    grad[3] += guu
    grad[4] += guv
    grad[5] += gvv
    grad[6] += gr
    grad[7] += gg
    grad[8] += gb


@njit(cache=True, fastmath=FINITE, error_model='numpy')
def blend_tiles_backward(records, pairs, starts, ends, tile0, tile1, tiles_x, image, alpha, v_image, v_alpha, grads):
    """Add the gradients of tiles [tile0, tile1) to `grads` [M, GRADIENT], walking front to back once more.

    `image` is what the forward pass made, background included; v_image [H, W, 3] and v_alpha [H, W] are dL of its
    outputs. What the splats behind carry of the loss starts as the whole picture's share and shrinks with each splat,
    so the forward pass need not store anything per pair.
    """
    height, width = alpha.shape
    xs, ys = lane_offsets()
    state = np.empty(5 * LANES, np.float32)
    for tile in range(tile0, tile1):
        if starts[tile] == ends[tile]:
            continue
        ty, tx = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        state[:LANES] = f32(-1)
        state[LANES:] = ZERO
        for y in range(min(TILE, height - ty)):
            for x in range(min(TILE, width - tx)):
                i = y * TILE + x
                state[i] = ONE
                rest = -v_alpha[ty + y, tx + x] * (ONE - alpha[ty + y, tx + x])
                for c in range(3):
                    v = v_image[ty + y, tx + x, c]
                    state[(c + 2) * LANES + i] = v
                    rest += v * image[ty + y, tx + x, c]
                state[LANES + i] = rest
        for k in range(starts[tile], ends[tile]):
            j = pairs[k]
            blend_splat_backward(records[j], f32(tx), f32(ty), xs, ys, state, grads[j])
            if (k & (_CHECK - 1)) == 0 and tile_done(state):
                break

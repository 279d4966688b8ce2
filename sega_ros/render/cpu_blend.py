"""CPU kernels: blending of the tiles, forward and backward. Mirrors `reference._blend`.

A tile is 8 x 8 pixels, held as 64 lanes; each splat is evaluated over all of them, without branches.
A transmittance is negative once its pixel is done (of floats; bytes go on, see `_step_for_bytes`).
"""

from functools import partial

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from sega_ros.render import cpu_lanes
from sega_ros.render.constants import ALPHA_CUT, ALPHA_MAX, TRANSMITTANCE_MIN
from sega_ros.render.cpu_lanes import LANES, Lanes
from sega_ros.render.cpu_math import FINITE, use_wide_vectors
from sega_ros.render.cpu_project import FALL, MID, MX, MY, RECORD, RED, A, B, D

f32 = np.float32
TILE = 8
ZERO, ONE = f32(0), f32(1)
_LOOK = 16  # splats between two looks whether the whole tile is done
_LOG2_CUT = np.log2(ALPHA_CUT)
# Bytes: below which transmittance nothing behind is seen, and where it stays.
_UNSEEN, _NONE, _LOOK_FOR_BYTES = 1 / 256, 1e-6, 8

# A quarter of the lanes is two rows of pixels. Its columns, and its rows if it lay in the middle of the tile, relative to
# the tile's corner; the quarters' rows relative to that.
_QUARTER = LANES // 4
_XS, _YS = np.arange(_QUARTER) % TILE + 0.5, np.arange(_QUARTER) // TILE + 3.5
_DOWN = (-3.0, -1.0, 1.0, 3.0)

# Gradient of a record: sums of h = alpha dL/dalpha times 1, u, v, uu, uv, vv; then dL/drgb.
GRADIENT = 9


@intrinsic
def _blend_list(typingctx, records, pairs, begin, end, x0, y0, state, image):
    """Blend the records pairs[begin:end] over the tile at (x0, y0) into `state` [4 * LANES]: T, R, G, B.

    For an `image` of bytes by less work, see `_step_for_bytes`.
    """
    _want_contiguous(records, pairs, state)
    for_bytes = image.dtype == types.uint8
    least, look = (_UNSEEN, _LOOK_FOR_BYTES) if for_bytes else (0.0, _LOOK)

    def codegen(context, b, signature, args):
        step = partial(_step_for_bytes, scaling=cpu_lanes.can_scale(context)) if for_bytes else _step
        records, pairs, state = (_data(context, b, signature, args, k) for k in (0, 1, 6))
        begin, end = args[2:4]
        pixels = _pixels(b, *args[4:6])

        def body(k, lanes):
            # One quarter after the other, not step by step: what is alive at a time stays in registers.
            get, _ = _record(b, records, pairs, k)
            after = [None] * 16
            for q, exponent in enumerate(_falloff(b, get, pixels)[0]):
                after[q], weight, *_ = step(exponent, lanes[q])
                for c in (1, 2, 3):
                    after[4 * c + q] = lanes[4 * c + q] + weight * Lanes.broadcast(b, get(RED + c - 1), _QUARTER)
            return after

        def alive(lanes):
            return cpu_lanes.concat(lanes[:4]).any_above(least)

        start = [Lanes.constant(b, float(row == 0), _QUARTER) for row in range(4) for _ in range(4)]
        after = cpu_lanes.loop(b, begin, end, start, body, look_every=look, alive=alive)
        for row in range(4):
            cpu_lanes.store_row(b, state, row, cpu_lanes.concat(after[4 * row : 4 * row + 4]))
        return context.get_dummy_value()
    return types.none(records, pairs, begin, end, x0, y0, state, image), codegen


@intrinsic
def _blend_list_backward(typingctx, records, pairs, begin, end, x0, y0, state, grads):
    """Add the gradients of pairs[begin:end] over a tile to `grads` [M, GRADIENT].

    Rows of `state`: T, the share of the loss carried by the splats behind, dL/dR, dL/dG, dL/dB.
    """
    _want_contiguous(records, pairs, state, grads)

    def codegen(context, b, signature, args):
        records, pairs, state, grads = (_data(context, b, signature, args, k) for k in (0, 1, 6, 7))
        begin, end = args[2:4]
        pixels = _pixels(b, *args[4:6])

        def body(k, lanes):
            transmittance, rest = lanes
            v_rgb = [cpu_lanes.load_row(b, state, 2 + c) for c in range(3)]
            get, index = _record(b, records, pairs, k)
            exponent, u, v = (cpu_lanes.concat(quarters) for quarters in _falloff(b, get, pixels))
            after, weight, alpha, free = _step(exponent, transmittance)
            red, green, blue = (_broadcast(b, get, RED + c) for c in range(3))
            value = v_rgb[0] * red + v_rgb[1] * green + v_rgb[2] * blue
            rest = rest - weight * value
            one = Lanes.constant(b, 1.0)
            h = (alpha * (transmittance * value - rest / (one - alpha))).where(free, 0.0)
            hu, hv = h * u, h * v
            moments = [h, hu, hv, hu * u, hu * v, hv * v, *(weight * v_c for v_c in v_rgb)]
            target = b.mul(index, cpu_lanes.INDEX(GRADIENT))
            cpu_lanes.add_to(b, grads, target, cpu_lanes.sums(b, moments[:8]))
            cpu_lanes.add_to(b, grads, b.add(target, cpu_lanes.INDEX(8)), cpu_lanes.total(moments[8]))
            return [after, rest]

        start = [cpu_lanes.load_row(b, state, row) for row in range(2)]
        cpu_lanes.loop(b, begin, end, start, body, look_every=_LOOK, alive=lambda lanes: lanes[0].any_above(0.0))
        return context.get_dummy_value()
    return types.none(records, pairs, begin, end, x0, y0, state, grads), codegen


def _step(p: Lanes, transmittance: Lanes):
    """Blend alpha = 2^p: transmittance after, weight, alpha (0 where cut), mask of lanes where alpha may move."""
    b = p.builder
    full = p.exp2()
    unclamped = full <= ALPHA_MAX
    alpha = full.where(unclamped, ALPHA_MAX).where(p >= _LOG2_CUT, 0.0)
    after = transmittance - transmittance * alpha
    keep = after > TRANSMITTANCE_MIN
    weight = (transmittance - after).where(keep, 0.0)
    return after.where(keep, transmittance.minus_abs()), weight, alpha, b.and_(keep, unclamped)


def _step_for_bytes(p: Lanes, transmittance: Lanes, *, scaling: bool):
    """`_step` where a byte's step is near enough: transmittance after, and weight.

    No splat is left out for taking the transmittance too low: the next ones no longer show. That none reaches zero keeps
    denormal numbers away.
    """
    weight = transmittance * p.rough_exp2(p >= _LOG2_CUT, scaling=scaling)
    after = transmittance - weight
    return after.where(after >= _NONE, _NONE), weight


def _pixels(b, x0, y0) -> tuple[Lanes, Lanes]:
    """Pixel centres x, y [16] of the tile's middle rows."""
    return tuple(Lanes.broadcast(b, corner, _QUARTER) + at for corner, at in ((x0, _XS), (y0, _YS)))


def _falloff(b, get, pixels) -> tuple[list[Lanes], list[Lanes], list[Lanes]]:
    """Exponent log2(opacity) - u^2 - v^2 of the quarters, and their whitened offsets u, v from the record's centre.

    Of the middle rows' u and v, two rows up or down are a step of (b, d): the exponent of the other quarters is that of the
    middle plus a multiple of u b + v d, and what depends on the record alone is stored in it. That is 14 instructions, not 20,
    and rounding stays below 1e-4 of alpha: |u| and |v| are under 20 in all of a tile that the splat reaches.
    """
    def of(name):
        return Lanes.broadcast(b, get(name), _QUARTER)

    dx, dy = pixels[0] - of(MX), pixels[1] - of(MY)
    u, v = of(A) * dx + of(B) * dy, of(D) * dy
    tilt = u * of(B) + v * of(D)
    middle = of(MID) - u * u - v * v
    rim = middle - of(FALL)
    exponent = [(rim if abs(k) == 3 else middle) - tilt * (2 * k) for k in _DOWN]
    return exponent, *([at + of(name) * k for k in _DOWN] for at, name in ((u, B), (v, D)))


def _record(b, records, pairs, k):
    """Return a function that loads a field of record pairs[k], and that record's index."""
    index = b.zext(b.load(b.gep(pairs, [k])), cpu_lanes.INDEX)
    base = b.mul(index, cpu_lanes.INDEX(RECORD))
    return (lambda name: b.load(b.gep(records, [b.add(base, cpu_lanes.INDEX(name))]))), index


def _broadcast(b, get, name) -> Lanes:
    return Lanes.broadcast(b, get(name))


def _want_contiguous(*arrays: types.Array) -> None:
    """Raise TypingError for an array whose elements don't lie in a row: the kernels address memory themselves."""
    for array in arrays:
        if array.layout != 'C':
            raise TypingError(f'wanted a contiguous array, found {array}')


def _data(context, b: ir.IRBuilder, signature, args, k: int) -> ir.Value:
    """Pointer to the elements of the contiguous array that is argument `k`."""
    return context.make_array(signature.args[k])(context, b, args[k]).data


@njit(fastmath=FINITE, error_model='numpy', inline='always')
def _finish_tile(state, low, high, rate, shift):
    """Composite over the background (rows 4-6), clamp, scale; row 0 becomes alpha."""
    for i in range(LANES):
        t = abs(state[i])
        state[i] = ONE - t
        for c in range(3):
            value = state[(c + 1) * LANES + i] + t * state[(c + 4) * LANES + i]
            state[(c + 1) * LANES + i] = min(high, max(low, value)) * rate + shift


@njit(fastmath=FINITE, error_model='numpy', inline='always')
def _store_alpha(state, alpha, start, width, h, w):
    """Write the alpha of h x w pixels into the flat array; unsigned indices need no check for negative ones."""
    for y in range(h):
        for x in range(w):
            alpha[start + np.uintp(y) * width + np.uintp(x)] = state[np.uintp(y * TILE + x)]


@njit(fastmath=FINITE, error_model='numpy', inline='always')
def _store_colors(state, image, start, width, h, w):
    """Write h x w pixels into the flat picture."""
    for y in range(h):
        for x in range(w):
            i, p = np.uintp(y * TILE + x), start + np.uintp(y) * width + np.uintp(x)
            for c in range(3):
                image[p * np.uintp(3) + np.uintp(c)] = state[i + np.uintp((c + 1) * LANES)]


@intrinsic
def _store_whole(typingctx, state, image, start, width):
    """Write a whole tile into the flat picture and say whether that was done: only for bytes is there a faster way.

    Three vectors of channels become pixels of four bytes, from which a shuffle takes every row's 24.
    """
    _want_contiguous(state, image)
    done = image.dtype == types.uint8

    def codegen(context, b, signature, args):
        if done:
            state, image = (_data(context, b, signature, args, k) for k in (0, 1))
            cpu_lanes.store_rgb(b, image, args[2], args[3], [cpu_lanes.load_row(b, state, 1 + c) for c in range(3)])
        return context.get_constant(types.boolean, done)
    return types.boolean(state, image, types.uintp, types.uintp), codegen


@njit(cache=True, nogil=True, fastmath=FINITE, error_model='numpy')
def blend_tiles(records, pairs, offsets, tile0, tile1, tiles_x, background, limits, image, alpha):
    """Blend tiles [tile0, tile1) into image [H, W, 3] and alpha [H, W] over background [H, W, 3] or [1, 1, 3].

    An alpha of another size is left alone: a frame of the driver needs none.

    limits [4] float32 says how a value is stored: min(limits[1], max(limits[0], value)) * limits[2] + limits[3].
    """
    use_wide_vectors()
    height, width = image.shape[:2]
    flat_image, flat_alpha, with_alpha = image.reshape(-1), alpha.reshape(-1), alpha.shape == image.shape[:2]
    picture = background.shape[0] * background.shape[1] > 1
    state = aligned_lanes(7)
    for c in range(3):
        state[(c + 4) * LANES : (c + 5) * LANES] = background[0, 0, c]
    for tile in range(tile0, tile1):
        ty, tx = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        h, w = min(TILE, height - ty), min(TILE, width - tx)
        _blend_list(records, pairs, offsets[tile], offsets[tile + 1] - 1, f32(tx), f32(ty), state, flat_image)
        if picture:
            for y in range(h):
                for x in range(w):
                    for c in range(3):
                        state[(c + 4) * LANES + y * TILE + x] = background[ty + y, tx + x, c]
        _finish_tile(state, limits[0], limits[1], limits[2], limits[3])
        start, stride = np.uintp(ty * width + tx), np.uintp(width)
        # The branch tells LLVM the size of nearly all tiles.
        if h == TILE and w == TILE:
            if not _store_whole(state, flat_image, start, stride):
                _store_colors(state, flat_image, start, stride, TILE, TILE)
            if with_alpha:
                _store_alpha(state, flat_alpha, start, stride, TILE, TILE)
        else:
            _store_colors(state, flat_image, start, stride, h, w)
            if with_alpha:
                _store_alpha(state, flat_alpha, start, stride, h, w)


@njit(cache=True)
def aligned_lanes(rows):
    """Uninitialised float32 [rows * LANES] on a cache line: 512-bit loads across lines take twice as long."""
    buffer = np.empty(rows * LANES + 16, np.float32)
    skip = ((64 - (buffer.ctypes.data & 63)) >> 2) & 15
    return buffer[skip : skip + rows * LANES]


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
    state = aligned_lanes(9)
    for tile in range(tile0, tile1):
        begin, end = offsets[tile], offsets[tile + 1] - 1
        if begin == end:
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
        _blend_list_backward(records, pairs, begin, end, f32(tx), f32(ty), state, grads)

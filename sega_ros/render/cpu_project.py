"""CPU kernels: splats to image-plane records, and the gradients back. Mirrors `reference.project`.

Both passes work on blocks of splats held as structure of arrays in one scratch array (rows of BLOCK lanes): one array
with constant offsets is what lets LLVM prove that loads and stores don't alias, and so vectorise.
"""

import numpy as np
from numba import njit

from sega_ros.render.constants import ALPHA_CUT, BLUR, CLAMP, NEAR
from sega_ros.render.cpu_math import EXACT, bits_to_float, float_to_bits, log2, use_wide_vectors

f32, i32 = np.float32, np.int32
BLOCK = 256  # splats per block: the scratch stays in the first-level cache

# Record of a visible splat: alpha = 2^(log2_opacity - u^2 - v^2), u = a (x - mx) + b (y - my), v = d (y - my).
# MID = log2_opacity - (b^2 + d^2) and FALL = 8 (b^2 + d^2) serve the blending's steps from row to row.
RECORD = 12
MX, MY, A, B, D, MID, FALL, RED, GREEN, BLUE, Z = range(11)

# Tiles that a visible splat touches, TILES int32: first and last row, in up to BANDS bands of STEP rows; first and last column
# of each band, from SPANS on. Two numbers share a word, the exclusive end above; `low` and `high` tell them apart. A corner
# of the bounding box that the ellipse does not reach costs nothing later.
BANDS = 4
ROWS, STEP, SPANS = 0, 1, 2
TILES = SPANS + BANDS

# Rows of the scratch after projection: the record's first fields, then these.
_Z, _VISIBLE, _LEFT, _RIGHT, _TOP, _BOTTOM, _REACH, _WIDE, _LEAN = range(7, 16)
_TILES = 16  # from here on the TILES words, as the bits of floats
_SCRATCH = _TILES + TILES

# Camera as a float64 vector: rotation row by row, translation, fx, fy, cx, cy, then the Jacobian's limits.
CAMERA_SIZE = 20
LIMIT_X0, LIMIT_X1, LIMIT_Y0, LIMIT_Y1 = range(16, 20)

_HALF_LOG2E = f32(0.5 * 1.4426950408889634)
_LOG2_CUT = f32(np.log2(ALPHA_CUT))
_BLUR, _BLUR2, _NEAR, _CUT = f32(BLUR), f32(BLUR * BLUR), f32(NEAR), f32(ALPHA_CUT)
_TWO_LN2 = f32(2 * 0.6931471805599453)
_MARGIN = f32(0.01)  # px; covers the rounding of the bounding box
_ROUNDING = f32(4e-6)  # of a large splat's reach, likewise
_HUGE = f32(3e38)
ONE, ZERO, TWO, HALF, QUARTER, EIGHT = f32(1), f32(0), f32(2), f32(0.5), f32(0.25), f32(8)


def camera_vector(camera) -> np.ndarray:
    """Pack a Camera for the kernels: float64 [CAMERA_SIZE]."""
    margin_x, margin_y = CLAMP * 0.5 * camera.width / camera.fx, CLAMP * 0.5 * camera.height / camera.fy
    limits = [
        -camera.cx / camera.fx - margin_x, (camera.width - camera.cx) / camera.fx + margin_x,
        -camera.cy / camera.fy - margin_y, (camera.height - camera.cy) / camera.fy + margin_y,
    ]
    viewmat = np.asarray(camera.viewmat, np.float64)
    return np.concatenate([
        viewmat[:3, :3].ravel(), viewmat[:3, 3], [camera.fx, camera.fy, camera.cx, camera.cy], limits
    ]).astype(np.float64)


@njit(cache=True)
def load_block(means, quats, scales, opacities, colors, start, n, s):
    """Copy splats [start, start + n) into rows of `s`: mean 0-2, quat 3-6, scale 7-9, opacity 10, colour 11-13."""
    for i in range(n):
        for k in range(3):
            s[k * BLOCK + i], s[(7 + k) * BLOCK + i] = means[start + i, k], scales[start + i, k]
            s[(11 + k) * BLOCK + i] = colors[start + i, k]
        for k in range(4):
            s[(3 + k) * BLOCK + i] = quats[start + i, k]
        s[10 * BLOCK + i] = opacities[start + i]


@njit(cache=True, fastmath=EXACT, error_model='numpy')
def project_block(s, cam, width, height):  # noqa: PLR0915 (one loop body: split, it would not vectorise)
    """Project the splats of `s` [_SCRATCH, BLOCK] in place, see the names of its rows.

    Every lane is computed, filled or not: no branch, no remainder.
    """
    use_wide_vectors()
    r0, r1, r2, r3, r4, r5, r6, r7, r8 = cam[0], cam[1], cam[2], cam[3], cam[4], cam[5], cam[6], cam[7], cam[8]
    t0, t1, t2 = cam[9], cam[10], cam[11]
    fx, fy, cx, cy = f32(cam[12]), f32(cam[13]), f32(cam[14]), f32(cam[15])
    lx0, lx1, ly0, ly1 = f32(cam[16]), f32(cam[17]), f32(cam[18]), f32(cam[19])
    w00, w01, w02, w10, w11, w12 = f32(r0), f32(r1), f32(r2), f32(r3), f32(r4), f32(r5)
    w20, w21, w22 = f32(r6), f32(r7), f32(r8)
    fw, fh = f32(width), f32(height)
    for i in range(BLOCK):
        mx, my, mz = s[i], s[BLOCK + i], s[2 * BLOCK + i]
        # float64, because the order of splats hangs on the last bit of z.
        x = f32(r0 * mx + r1 * my + r2 * mz + t0)
        y = f32(r3 * mx + r4 * my + r5 * mz + t1)
        z = f32(r6 * mx + r7 * my + r8 * mz + t2)
        qw, qx, qy, qz = s[3 * BLOCK + i], s[4 * BLOCK + i], s[5 * BLOCK + i], s[6 * BLOCK + i]
        s0, s1, s2 = s[7 * BLOCK + i], s[8 * BLOCK + i], s[9 * BLOCK + i]
        op = s[10 * BLOCK + i]
        norm = qw * qw + qx * qx + qy * qy + qz * qz
        size = abs(mx) + abs(my) + abs(mz) + norm + abs(s0) + abs(s1) + abs(s2)
        size += abs(s[11 * BLOCK + i]) + abs(s[12 * BLOCK + i]) + abs(s[13 * BLOCK + i]) + abs(op)
        ok = (size < _HUGE) & (norm > ZERO) & (op >= _CUT) & (z >= _NEAR)
        z = z if ok else ONE
        op = op if ok else ONE
        two = TWO / (norm if ok else ONE)

        rz = ONE / z
        xz, yz = x * rz, y * rz
        tx, ty = min(lx1, max(lx0, xz)), min(ly1, max(ly0, yz))
        jx, jy = fx * rz, fy * rz
        # J W [2, 3], then times the rotation (identity + two * ...) and the scales.
        a0, a1, a2 = jx * (w00 - tx * w20), jx * (w01 - tx * w21), jx * (w02 - tx * w22)
        b0, b1, b2 = jy * (w10 - ty * w20), jy * (w11 - ty * w21), jy * (w12 - ty * w22)
        xx, yy, zz = two * qx * qx, two * qy * qy, two * qz * qz
        xy, xZ, yZ = two * qx * qy, two * qx * qz, two * qy * qz
        wx, wy, wz = two * qw * qx, two * qw * qy, two * qw * qz
        q00, q01, q02 = ONE - yy - zz, xy - wz, xZ + wy
        q10, q11, q12 = xy + wz, ONE - xx - zz, yZ - wx
        q20, q21, q22 = xZ - wy, yZ + wx, ONE - xx - yy
        u0 = (a0 * q00 + a1 * q10 + a2 * q20) * s0
        u1 = (a0 * q01 + a1 * q11 + a2 * q21) * s1
        u2 = (a0 * q02 + a1 * q12 + a2 * q22) * s2
        v0 = (b0 * q00 + b1 * q10 + b2 * q20) * s0
        v1 = (b0 * q01 + b1 * q11 + b2 * q21) * s1
        v2 = (b0 * q02 + b1 * q12 + b2 * q22) * s2
        cxx, cxy, cyy = u0 * u0 + u1 * u1 + u2 * u2, u0 * v0 + u1 * v1 + u2 * v2, v0 * v0 + v1 * v1 + v2 * v2
        m0, m1, m2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
        det = m0 * m0 + m1 * m1 + m2 * m2 + _BLUR * (cxx + cyy) + _BLUR2
        cxx, cyy = cxx + _BLUR, cyy + _BLUR
        a = np.sqrt(_HALF_LOG2E * cyy / det)
        d = np.sqrt(_HALF_LOG2E / cyy)
        lo = log2(op)
        px, py = fx * xz + cx, fy * yz + cy
        reach = _TWO_LN2 * max(ZERO, lo - _LOG2_CUT)
        rx, ry = np.sqrt(reach * cxx) + _MARGIN, np.sqrt(reach * cyy) + _MARGIN
        ok = ok & (abs(px) + abs(py) + det + rx + ry < _HUGE)
        px, py = (px if ok else ZERO), (py if ok else ZERO)
        rx, ry = (rx if ok else ZERO), (ry if ok else ZERO)
        # Pixels whose centre lies in the bounding box: [x0, x1) x [y0, y1).
        x0, x1 = min(fw, max(ZERO, np.ceil(px - rx - HALF))), min(fw, max(ZERO, np.floor(px + rx + HALF)))
        y0, y1 = min(fh, max(ZERO, np.ceil(py - ry - HALF))), min(fh, max(ZERO, np.floor(py + ry + HALF)))
        ok = ok & (x0 < x1) & (y0 < y1)
        b = -a * cxy / cyy
        slope = b * b + d * d
        s[i], s[BLOCK + i], s[2 * BLOCK + i], s[3 * BLOCK + i], s[4 * BLOCK + i] = px, py, a, b, d
        s[MID * BLOCK + i], s[FALL * BLOCK + i], s[_Z * BLOCK + i] = lo - slope, EIGHT * slope, z
        s[_VISIBLE * BLOCK + i] = ONE if ok else ZERO
        s[_LEFT * BLOCK + i], s[_RIGHT * BLOCK + i], s[_TOP * BLOCK + i], s[_BOTTOM * BLOCK + i] = x0, x1, y0, y1
        s[_REACH * BLOCK + i], s[_WIDE * BLOCK + i] = max(ZERO, lo - _LOG2_CUT), rx
        s[_LEAN * BLOCK + i] = rx * cxy / cxx


@njit(cache=True, inline='always')
def pack(low, high):
    """Two whole numbers under 2^15 in one word, as the bits of a float."""
    return bits_to_float(i32(low) | (i32(high) << i32(16)))


@njit(cache=True, inline='always')
def low(word):
    """First number of a word."""
    return word & i32(0xFFFF)


@njit(cache=True, inline='always')
def high(word):
    """Second number of a word."""
    return word >> i32(16)


@njit(cache=True, fastmath=EXACT, error_model='numpy')
def find_spans(s, tile):
    """Fill the rows of tiles and spans of `s` (projected) for tiles of `tile` px: what the ellipse touches, never less.

    In a band of rows the ellipse is widest where it leans furthest, or at the band's edge next to that. Comparisons are
    written so that NaN (absurd sizes) leaves the bounding box.
    """
    use_wide_vectors()
    side, rate = f32(tile), ONE / f32(tile)
    for i in range(BLOCK):
        px, py, a, b, d = s[i], s[BLOCK + i], s[2 * BLOCK + i], s[3 * BLOCK + i], s[4 * BLOCK + i]
        left, right, top, bottom = (s[_LEFT * BLOCK + i], s[_RIGHT * BLOCK + i], s[_TOP * BLOCK + i],
                                    s[_BOTTOM * BLOCK + i])
        reach, lean = s[_REACH * BLOCK + i], s[_LEAN * BLOCK + i]
        wide = ONE / a
        slant = -b * wide
        slack = _MARGIN + _ROUNDING * s[_WIDE * BLOCK + i]
        ty0, ty1 = np.floor(top * rate), np.ceil(bottom * rate)
        step = np.ceil((ty1 - ty0) * QUARTER)
        s[(_TILES + ROWS) * BLOCK + i], s[(_TILES + STEP) * BLOCK + i] = pack(ty0, ty1), pack(step, ZERO)
        for k in range(BANDS):
            y0 = max(top, (ty0 + f32(k) * step) * side) + HALF - py
            y1 = min(bottom, (ty0 + f32(k + 1) * step) * side) - HALF - py
            right_y, left_y = min(y1, max(y0, lean)), min(y1, max(y0, -lean))
            right_v, left_v = d * right_y, d * left_y
            right_x = px + slant * right_y + wide * np.sqrt(max(ZERO, reach - right_v * right_v)) + slack + HALF
            left_x = px + slant * left_y - wide * np.sqrt(max(ZERO, reach - left_v * left_v)) - slack - HALF
            left_x, right_x = np.ceil(left_x), np.floor(right_x)
            x0, x1 = (left_x if left_x > left else left), (right_x if right_x < right else right)
            x0, x1 = np.floor(x0 * rate), np.ceil(x1 * rate)
            some = (x1 > x0) & (y1 >= y0)
            s[(_TILES + SPANS + k) * BLOCK + i] = pack(x0 if some else ZERO, x1 if some else ZERO)


@njit(cache=True, nogil=True, error_model='numpy')
def project_splats(means, quats, scales, opacities, colors, cam, width, height, tile, records, tiles, keys, ids, starts):
    """Fill the records of the visible splats and return how many there are.

    records [N, RECORD] float32, tiles [N, TILES] int32 (of `tile` px), keys [N] uint32 (the bits of z: ordered as z is, for
    z > 0), ids [N] int32 (splat of each record). In `starts` [tile rows, tile columns + 1] int32, zero on entry, each
    row of a splat adds one where its tiles begin and takes one away behind their end.
    """
    s = np.zeros(_SCRATCH * BLOCK, np.float32)
    flat, width_of_starts = starts.reshape(-1), np.uintp(starts.shape[1])
    count = np.uintp(0)
    for start in range(0, means.shape[0], BLOCK):
        n = min(BLOCK, means.shape[0] - start)
        load_block(means, quats, scales, opacities, colors, start, n, s)
        project_block(s, cam, width, height)
        find_spans(s, tile)
        for j in range(n):
            i = np.uintp(j)  # unsigned indices need no check for negative ones
            if s[i + np.uintp(_VISIBLE * BLOCK)] != ZERO:
                for k in range(7):
                    records[count, k] = s[i + np.uintp(k * BLOCK)]
                for k in range(3):
                    records[count, RED + k] = colors[i + np.uintp(start), k]
                z = s[i + np.uintp(_Z * BLOCK)]
                records[count, Z], keys[count] = z, np.uint32(float_to_bits(z))
                ids[count] = start + j
                for k in range(TILES):
                    tiles[count, k] = float_to_bits(s[i + np.uintp((_TILES + k) * BLOCK)])
                note_tiles(tiles, count, flat, width_of_starts)
                count += np.uintp(1)
    return count


@njit(cache=True, inline='always')
def note_tiles(tiles, i, starts, width):
    """Add the spans of splat `i` to `starts`, flat with rows of `width`."""
    y, last, step = low(tiles[i, ROWS]), high(tiles[i, ROWS]), tiles[i, STEP]
    for k in range(BANDS):
        x0, x1 = low(tiles[i, SPANS + k]), high(tiles[i, SPANS + k])
        for row in range(y, min(y + step, last)):
            first = np.uintp(row) * width
            starts[first + np.uintp(x0)] += 1
            starts[first + np.uintp(x1)] -= 1
        y += step

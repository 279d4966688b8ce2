"""Hair and bust for the running driver: one Numba pass that turns the torso and leaves out what faces away.

In blocks of BLOCK splats as structure of arrays, like `bind_kernel`.
"""

import numba as nb
import numpy as np

from sega_ros.render.cpu_math import EXACT, use_wide_vectors

f32, uint = np.float32, np.uintp
BLOCK = 128
ZERO, ONE, HALF = f32(0), f32(1), f32(0.5)
_CUT = f32(1 / 255)
# Rows of the scratch: mean 0-2, quaternion 3-6, then these; the first eight are replaced.
_OPACITY, _NORMAL, _FADE, _TORSO = 7, 8, 11, 13
_ROWS = 14


@nb.njit(cache=True, fastmath=EXACT, error_model='numpy')
def _place_block(s, motion):
    """Place the splats of `s` [_ROWS, BLOCK] in place.

    `motion` [19] float32: rotation less identity row by row, its quaternion, pivot, eye.
    """
    use_wide_vectors()
    r0, r1, r2, r3, r4, r5 = motion[0], motion[1], motion[2], motion[3], motion[4], motion[5]
    r6, r7, r8, qw, qi, qj, qk = motion[6], motion[7], motion[8], motion[9], motion[10], motion[11], motion[12]
    cx, cy, cz, ex, ey, ez = motion[13], motion[14], motion[15], motion[16], motion[17], motion[18]
    for k in range(BLOCK):
        share = s[_TORSO * BLOCK + k]
        px, py, pz = s[k], s[BLOCK + k], s[2 * BLOCK + k]
        x, y, z = px - cx, py - cy, pz - cz
        px += share * (r0 * x + r1 * y + r2 * z)
        py += share * (r3 * x + r4 * y + r5 * z)
        pz += share * (r6 * x + r7 * y + r8 * z)
        x, y, z = s[_NORMAL * BLOCK + k], s[(_NORMAL + 1) * BLOCK + k], s[(_NORMAL + 2) * BLOCK + k]
        nx = x + share * (r0 * x + r1 * y + r2 * z)
        ny = y + share * (r3 * x + r4 * y + r5 * z)
        nz = z + share * (r6 * x + r7 * y + r8 * z)
        x, y, z = ex - px, ey - py, ez - pz
        cosine = (x * nx + y * ny + z * nz) / np.sqrt(x * x + y * y + z * z)
        low, high = s[_FADE * BLOCK + k], s[(_FADE + 1) * BLOCK + k]
        w, i, j, m = s[3 * BLOCK + k], s[4 * BLOCK + k], s[5 * BLOCK + k], s[6 * BLOCK + k]
        turned = share > HALF  # in between, the discs are nearly round: either orientation serves
        s[k], s[BLOCK + k], s[2 * BLOCK + k] = px, py, pz
        s[3 * BLOCK + k] = qw * w - qi * i - qj * j - qk * m if turned else w
        s[4 * BLOCK + k] = qw * i + qi * w + qj * m - qk * j if turned else i
        s[5 * BLOCK + k] = qw * j - qi * m + qj * w + qk * i if turned else j
        s[6 * BLOCK + k] = qw * m + qi * j - qj * i + qk * w if turned else m
        s[_OPACITY * BLOCK + k] *= min(ONE, max(ZERO, (cosine - low) / (high - low)))


@nb.njit(cache=True, nogil=True, error_model='numpy')
def _place(means, quats, scales, opacities, colors, normals, fade, torso, motion, start, out):
    o_means, o_quats, o_scales, o_opacities, o_colors = out
    s = np.zeros(_ROWS * BLOCK, np.float32)
    count = uint(start)  # unsigned indices need no check for negative ones
    for first in range(0, means.shape[0], BLOCK):
        n = min(BLOCK, means.shape[0] - first)
        for j in range(n):
            i, t = uint(j), uint(first + j)
            for k in range(3):
                s[i + uint(k * BLOCK)], s[i + uint((_NORMAL + k) * BLOCK)] = means[t, k], normals[t, k]
            for k in range(4):
                s[i + uint((3 + k) * BLOCK)] = quats[t, k]
            s[i + uint(_FADE * BLOCK)], s[i + uint((_FADE + 1) * BLOCK)] = fade[t, 0], fade[t, 1]
            s[i + uint(_OPACITY * BLOCK)], s[i + uint(_TORSO * BLOCK)] = opacities[t], torso[t]
        _place_block(s, motion)
        for j in range(n):
            i, t = uint(j), uint(first + j)
            opacity = s[i + uint(_OPACITY * BLOCK)]
            if opacity >= _CUT:
                for k in range(3):
                    o_means[count, k] = s[i + uint(k * BLOCK)]
                    o_scales[count, k], o_colors[count, k] = scales[t, k], colors[t, k]
                for k in range(4):
                    o_quats[count, k] = s[i + uint((3 + k) * BLOCK)]
                o_opacities[count] = opacity
                count += uint(1)
    return count


def place_shell(
    shell: tuple[np.ndarray, ...], normals: np.ndarray, fade: np.ndarray, torso: np.ndarray, turn: np.ndarray,
    quat: np.ndarray, pivot: np.ndarray, eye: np.ndarray, start: int, out: tuple[np.ndarray, ...],
) -> int:
    """Write the shell's splats that `eye` [3] sees into `out` from row `start` on; return the row after the last.

    Args:
        shell: fields of Splats [N].
        normals: [N, 3] outward.
        fade: [N, 2] cosines of the angle between normal and eye at which a splat is gone, and at which it is all there.
        torso: [N] share of the torso's rotation.
        turn: [3, 3] rotation of the torso about `pivot`.
        quat: [4] the same, unit quaternion wxyz.
        pivot: [3] head frame.
        eye: [3] camera centre, head frame.
        start: first row to write.
        out: as in `bind_into`.
    """
    motion = np.empty(19, np.float32)
    motion[:9].reshape(3, 3)[:] = turn - np.eye(3)
    motion[9:13], motion[13:16], motion[16:] = quat, pivot, eye
    return int(_place(*shell, normals, fade, torso, motion, start, out))

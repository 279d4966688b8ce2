"""Hair and bust for the running driver: one Numba pass that turns the torso and leaves out what faces away."""

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True, fastmath={'contract', 'nsz', 'arcp'})
def _place(means, quats, scales, opacities, colors, normals, fade, torso, turn, quat, pivot, eye, start, out):
    o_means, o_quats, o_scales, o_opacities, o_colors = out
    n = start
    for t in range(means.shape[0]):
        x, y, z = means[t, 0] - pivot[0], means[t, 1] - pivot[1], means[t, 2] - pivot[2]
        a, b, c = normals[t, 0], normals[t, 1], normals[t, 2]
        s = torso[t]
        px = pivot[0] + x + s * (turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z - x)
        py = pivot[1] + y + s * (turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z - y)
        pz = pivot[2] + z + s * (turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z - z)
        na = a + s * (turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c - a)
        nb_ = b + s * (turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c - b)
        nc = c + s * (turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c - c)
        ex, ey, ez = eye[0] - px, eye[1] - py, eye[2] - pz
        cosine = (ex * na + ey * nb_ + ez * nc) / np.sqrt(ex * ex + ey * ey + ez * ez)
        opacity = opacities[t] * min(max((cosine - fade[t, 0]) / (fade[t, 1] - fade[t, 0]), 0.0), 1.0)
        if opacity < 1.0 / 255.0:
            continue
        o_means[n, 0], o_means[n, 1], o_means[n, 2] = px, py, pz
        w, i, j, k = quats[t, 0], quats[t, 1], quats[t, 2], quats[t, 3]
        if s > 0.5:  # in between, the discs are nearly round: either orientation serves
            qw, qi, qj, qk = quat[0], quat[1], quat[2], quat[3]
            w, i, j, k = (qw * w - qi * i - qj * j - qk * k, qw * i + qi * w + qj * k - qk * j,
                          qw * j - qi * k + qj * w + qk * i, qw * k + qi * j - qj * i + qk * w)
        o_quats[n, 0], o_quats[n, 1], o_quats[n, 2], o_quats[n, 3] = w, i, j, k
        for d in range(3):
            o_scales[n, d] = scales[t, d]
            o_colors[n, d] = colors[t, d]
        o_opacities[n] = opacity
        n += 1
    return n


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
    return _place(*shell, normals, fade, torso, np.asarray(turn, np.float64), np.asarray(quat, np.float64),
                  np.asarray(pivot, np.float64), np.asarray(eye, np.float64), start, out)

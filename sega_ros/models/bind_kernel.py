"""`binding.bind` for the running driver: one Numba pass from the posed mesh to packed splats, culled ones left out."""

import numba as nb
import numpy as np

from sega_ros.models.binding import FADE, SHELL_FADE, STRETCH, TexelTable, texel_frame, vertex_normals
from sega_ros.types import GaussianMap

_FADE_LOW, _FADE_HIGH = FADE
_SHELL_LOW, _SHELL_HIGH = SHELL_FADE
_STRETCH_LOW, _STRETCH_HIGH = STRETCH


@nb.njit(cache=True, inline='always')
def _frame_quat(frame, q):
    """Quaternion wxyz of the frame's rotation (columns 3-5, 6-8, 9-11); the largest of the four divisors is used."""
    a, b, c = frame[3], frame[4], frame[5]
    d, e, f = frame[6], frame[7], frame[8]
    g, h, i = frame[9], frame[10], frame[11]
    w, x, y, z = 1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i
    if w >= x and w >= y and w >= z:
        q[0], q[1], q[2], q[3] = w, f - h, g - c, b - d
    elif x >= y and x >= z:
        q[0], q[1], q[2], q[3] = f - h, x, b + d, g + c
    elif y >= z:
        q[0], q[1], q[2], q[3] = g - c, b + d, y, f + h
    else:
        q[0], q[1], q[2], q[3] = b - d, g + c, f + h, z
    length = np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + q[3] ** 2)
    for k in range(4):
        q[k] /= length


@nb.njit(cache=True, nogil=True, fastmath={'contract', 'nsz', 'arcp'})
def _bind(vertices, normals, corners, bary, grad_u, grad_v, rest, local, eye, means, quats, scales, opacities, colors):
    frame, q = np.empty(14, np.float64), np.empty(4, np.float64)
    n = 0
    for t in range(corners.shape[0]):
        texel_frame(vertices, normals, corners[t], bary[t], grad_u[t], grad_v[t], frame)
        ex, ey, ez = eye[0] - frame[0], eye[1] - frame[1], eye[2] - frame[2]
        cosine = (ex * frame[9] + ey * frame[10] + ez * frame[11]) / np.sqrt(ex * ex + ey * ey + ez * ez)
        fade = min(max((cosine - _FADE_LOW) / (_FADE_HIGH - _FADE_LOW), 0.0), 1.0)
        opacity = local[t, 10] * fade * fade * (3 - 2 * fade)
        if opacity < 1.0 / 255.0:
            continue
        su = min(max(frame[12] / max(rest[t, 0], 1e-7), _STRETCH_LOW), _STRETCH_HIGH)
        sv = min(max(frame[13] / max(rest[t, 1], 1e-7), _STRETCH_LOW), _STRETCH_HIGH)
        for k in range(3):
            means[n, k] = (frame[k] + frame[3 + k] * local[t, 0] + frame[6 + k] * local[t, 1] + frame[9 + k] * local[t, 2])
            colors[n, k] = local[t, 11 + k]
        _frame_quat(frame, q)
        w, x, y, z = local[t, 3], local[t, 4], local[t, 5], local[t, 6]
        quats[n, 0] = q[0] * w - q[1] * x - q[2] * y - q[3] * z
        quats[n, 1] = q[0] * x + q[1] * w + q[2] * z - q[3] * y
        quats[n, 2] = q[0] * y - q[1] * z + q[2] * w + q[3] * x
        quats[n, 3] = q[0] * z + q[1] * y - q[2] * x + q[3] * w
        scales[n, 0] = local[t, 7] * su
        scales[n, 1] = local[t, 8] * sv
        scales[n, 2] = local[t, 9] * np.sqrt(su * sv)
        opacities[n] = opacity
        n += 1
    return n


def activate(maps: GaussianMap, table: TexelTable) -> np.ndarray:
    """Activated parameters [T, 14] of the texels: offset, unit rotation, scale (metres), opacity, colour."""
    import torch

    rows, cols = table.index
    parts = [
        maps.offset[rows, cols], torch.nn.functional.normalize(maps.rotation[rows, cols], dim=-1),
        maps.log_scale[rows, cols].exp(), torch.sigmoid(maps.opacity[rows, cols])[:, None], maps.color[rows, cols].clamp(0, 1),
    ]
    return np.ascontiguousarray(torch.cat(parts, 1).detach().float().numpy())


def bind_into(table: TexelTable, local: np.ndarray, vertices: np.ndarray, eye: np.ndarray, out: tuple[np.ndarray, ...]) -> int:
    """Write the splats that `eye` [3] sees into the leading rows of `out` (fields of Splats); return their number.

    Args:
        table: texels in use [T].
        local: [T, 14] of `activate`.
        vertices: [V, 3] float32 posed mesh.
        eye: camera centre, head frame.
        out: float32 arrays with at least T rows: means, quats, scales, opacities, colors.
    """
    normals = vertex_normals(vertices, table.faces)
    return _bind(vertices, normals, table.corners, table.bary, table.grad_u, table.grad_v, table.rest_stretch, local,
                 np.asarray(eye, np.float64), *out)


@nb.njit(cache=True, nogil=True, fastmath={'contract', 'nsz', 'arcp'})
def _place(means, quats, scales, opacities, colors, normals, torso, turn, quat, pivot, eye, start, out):
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
        opacity = opacities[t] * min(max((cosine - _SHELL_LOW) / (_SHELL_HIGH - _SHELL_LOW), 0.0), 1.0)
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
    shell: tuple[np.ndarray, ...], normals: np.ndarray, torso: np.ndarray, turn: np.ndarray, quat: np.ndarray,
    pivot: np.ndarray, eye: np.ndarray, start: int, out: tuple[np.ndarray, ...],
) -> int:
    """Write the shell's splats that `eye` [3] sees into `out` from row `start` on; return the row after the last.

    Args:
        shell: fields of Splats [N].
        normals: [N, 3] outward.
        torso: [N] share of the torso's rotation.
        turn: [3, 3] rotation of the torso about `pivot`.
        quat: [4] the same, unit quaternion wxyz.
        pivot: [3] head frame.
        eye: [3] camera centre, head frame.
        start: first row to write.
        out: as in `bind_into`.
    """
    return _place(*shell, normals, torso, np.asarray(turn, np.float64), np.asarray(quat, np.float64),
                  np.asarray(pivot, np.float64), np.asarray(eye, np.float64), start, out)

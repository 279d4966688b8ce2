"""`binding.bind` for the running driver: one Numba pass from the posed mesh to packed splats, culled ones left out."""

import numba as nb
import numpy as np

from sega_ros.models.binding import FADE, STRETCH, TexelTable, texel_frame, vertex_normals
from sega_ros.types import GaussianMap

_FADE_LOW, _FADE_HIGH = FADE
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

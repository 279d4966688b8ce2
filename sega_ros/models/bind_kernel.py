"""`binding.bind` for the running driver: one Numba pass from the posed mesh to packed splats, culled ones left out.

Texels are done in blocks, held as structure of arrays in one scratch array (rows of BLOCK lanes): gathered, then computed in
one loop without branches, which LLVM vectorises, then written out where visible.
"""

import numba as nb
import numpy as np

from sega_ros.models.binding import FADE, STRETCH, TexelTable, activated, add_normals, gather, pack_texels
from sega_ros.render.cpu_math import EXACT, use_wide_vectors
from sega_ros.types import GaussianMap

f32, uint = np.float32, np.uintp
BLOCK = 128  # texels per block: the scratch stays in the first-level cache
ZERO, ONE, TWO, THREE = f32(0), f32(1), f32(2), f32(3)
_FADE_LOW, _FADE_RATE = f32(FADE[0]), f32(1 / (FADE[1] - FADE[0]))
_STRETCH_LOW, _STRETCH_HIGH = (f32(v) for v in STRETCH)
_CUT = f32(1 / 255)
_TINY, _FLAT = f32(1e-20), f32(1e-9)

# Rows of the scratch: three corners (position, normal), TexelTable.weights, then the first columns of `activate`.
_WEIGHTS = 18
_LOCAL = _WEIGHTS + 8
_ROWS = _LOCAL + 11
# After `_bind_block`: mean 0-2, quaternion 3-6, scales 7-9, opacity 10.
_OPACITY = 10


@nb.njit(cache=True, fastmath=EXACT, error_model='numpy')
def _bind_block(s, ex, ey, ez):  # noqa: PLR0915 (one loop body: split, it would not vectorise)
    """Bind the texels of `s` [_ROWS, BLOCK] in place for an eye at (ex, ey, ez); as `binding.texel_frame`, in float32.

    Edges, not corners, are weighted: their difference is exact, so a small triangle's tangent keeps its digits.
    """
    use_wide_vectors()
    for i in range(BLOCK):
        x0, y0, z0 = s[i], s[BLOCK + i], s[2 * BLOCK + i]
        ax, ay, az = s[6 * BLOCK + i] - x0, s[7 * BLOCK + i] - y0, s[8 * BLOCK + i] - z0
        bx, by, bz = s[12 * BLOCK + i] - x0, s[13 * BLOCK + i] - y0, s[14 * BLOCK + i] - z0
        v, w = s[_WEIGHTS * BLOCK + i], s[(_WEIGHTS + 1) * BLOCK + i]
        u = ONE - v - w
        x, y, z = x0 + v * ax + w * bx, y0 + v * ay + w * by, z0 + v * az + w * bz
        nx = u * s[3 * BLOCK + i] + v * s[9 * BLOCK + i] + w * s[15 * BLOCK + i]
        ny = u * s[4 * BLOCK + i] + v * s[10 * BLOCK + i] + w * s[16 * BLOCK + i]
        nz = u * s[5 * BLOCK + i] + v * s[11 * BLOCK + i] + w * s[17 * BLOCK + i]
        length = ONE / (np.sqrt(nx * nx + ny * ny + nz * nz) + _TINY)
        nx, ny, nz = nx * length, ny * length, nz * length

        dx, dy, dz = ex - x, ey - y, ez - z
        cosine = (dx * nx + dy * ny + dz * nz) / np.sqrt(dx * dx + dy * dy + dz * dz)
        fade = min(ONE, max(ZERO, (cosine - _FADE_LOW) * _FADE_RATE))
        opacity = s[(_LOCAL + 10) * BLOCK + i] * fade * fade * (THREE - TWO * fade)

        v, w = s[(_WEIGHTS + 2) * BLOCK + i], s[(_WEIGHTS + 3) * BLOCK + i]
        tx, ty, tz = v * ax + w * bx, v * ay + w * by, v * az + w * bz
        v, w = s[(_WEIGHTS + 4) * BLOCK + i], s[(_WEIGHTS + 5) * BLOCK + i]
        cx, cy, cz = v * ax + w * bx, v * ay + w * by, v * az + w * bz
        along = tx * nx + ty * ny + tz * nz
        tx, ty, tz = tx - along * nx, ty - along * ny, tz - along * nz
        su = np.sqrt(tx * tx + ty * ty + tz * tz)
        # A collapsed triangle: any tangent will do, but it must be one.
        flat, steep = su < _FLAT, abs(nx) > f32(0.9)
        tx = (-ny * nx if steep else ONE - nx * nx) if flat else tx
        ty = (ONE - ny * ny if steep else -nx * ny) if flat else ty
        tz = (-ny * nz if steep else -nx * nz) if flat else tz
        length = ONE / (np.sqrt(tx * tx + ty * ty + tz * tz) + _TINY)
        tx, ty, tz = tx * length, ty * length, tz * length
        bx, by, bz = ny * tz - nz * ty, nz * tx - nx * tz, nx * ty - ny * tx
        sv = abs(cx * bx + cy * by + cz * bz)
        su = min(_STRETCH_HIGH, max(_STRETCH_LOW, su * s[(_WEIGHTS + 6) * BLOCK + i]))
        sv = min(_STRETCH_HIGH, max(_STRETCH_LOW, sv * s[(_WEIGHTS + 7) * BLOCK + i]))

        # Quaternion of the rotation with columns t, b, n: the row with the largest of the four divisors.
        cw, ci, cj, ck = ONE + tx + by + nz, ONE + tx - by - nz, ONE - tx + by - nz, ONE - tx - by + nz
        wi, wj, wk, ij, ik, jk = bz - ny, nx - tz, ty - bx, ty + bx, nx + tz, bz + ny
        best = max(cw, ci, cj, ck)
        is_w, is_i, is_j = cw == best, ci == best, cj == best
        qw = cw if is_w else (wi if is_i else (wj if is_j else wk))
        qi = wi if is_w else (ci if is_i else (ij if is_j else ik))
        qj = wj if is_w else (ij if is_i else (cj if is_j else jk))
        qk = wk if is_w else (ik if is_i else (jk if is_j else ck))
        length = ONE / np.sqrt(qw * qw + qi * qi + qj * qj + qk * qk)
        qw, qi, qj, qk = qw * length, qi * length, qj * length, qk * length

        ox, oy, oz = s[_LOCAL * BLOCK + i], s[(_LOCAL + 1) * BLOCK + i], s[(_LOCAL + 2) * BLOCK + i]
        a, b = s[(_LOCAL + 3) * BLOCK + i], s[(_LOCAL + 4) * BLOCK + i]
        c, d = s[(_LOCAL + 5) * BLOCK + i], s[(_LOCAL + 6) * BLOCK + i]
        s[i], s[BLOCK + i] = x + tx * ox + bx * oy + nx * oz, y + ty * ox + by * oy + ny * oz
        s[2 * BLOCK + i] = z + tz * ox + bz * oy + nz * oz
        s[3 * BLOCK + i], s[4 * BLOCK + i] = qw * a - qi * b - qj * c - qk * d, qw * b + qi * a + qj * d - qk * c
        s[5 * BLOCK + i], s[6 * BLOCK + i] = qw * c - qi * d + qj * a + qk * b, qw * d + qi * c - qj * b + qk * a
        s[7 * BLOCK + i], s[8 * BLOCK + i] = s[(_LOCAL + 7) * BLOCK + i] * su, s[(_LOCAL + 8) * BLOCK + i] * sv
        s[9 * BLOCK + i] = s[(_LOCAL + 9) * BLOCK + i] * np.sqrt(su * sv)
        s[_OPACITY * BLOCK + i] = opacity


@nb.njit(cache=True, nogil=True, error_model='numpy')
def _bind(vertices, normals, faces, corners, weights, local, eye, means, quats, scales, opacities, colors):
    """`weights` [8, T] and `local` [14, T]: columns as rows, so that a block of each is one piece of memory."""
    add_normals(vertices, faces, normals)
    s = np.zeros(_ROWS * BLOCK, np.float32)
    ex, ey, ez = f32(eye[0]), f32(eye[1]), f32(eye[2])
    count = uint(0)  # unsigned indices need no check for negative ones
    for start in range(0, corners.shape[0], BLOCK):
        n = min(BLOCK, corners.shape[0] - start)
        for j in range(n):
            for c in range(3):
                at, row = uint(corners[uint(start + j), c]), uint(6 * c * BLOCK + j)
                for k in range(3):
                    s[row + uint(k * BLOCK)] = vertices[at, k]
                    s[row + uint((3 + k) * BLOCK)] = normals[at, k]
        for k in range(8):
            for j in range(n):
                s[uint((_WEIGHTS + k) * BLOCK + j)] = weights[k, uint(start + j)]
        for k in range(11):
            for j in range(n):
                s[uint((_LOCAL + k) * BLOCK + j)] = local[k, uint(start + j)]
        _bind_block(s, ex, ey, ez)
        for j in range(n):
            i = uint(j)
            if s[i + uint(_OPACITY * BLOCK)] >= _CUT:
                for k in range(3):
                    means[count, k] = s[i + uint(k * BLOCK)]
                    scales[count, k] = s[i + uint((7 + k) * BLOCK)]
                    colors[count, k] = local[11 + k, uint(start) + i]
                for k in range(4):
                    quats[count, k] = s[i + uint((3 + k) * BLOCK)]
                opacities[count] = s[i + uint(_OPACITY * BLOCK)]
                count += uint(1)
    return count


def activate(maps: GaussianMap, table: TexelTable) -> np.ndarray:
    """Activated parameters [T, 14] of the texels: offset, unit rotation, scale (metres), opacity, colour.

    In column order, as `bind_into` reads them.
    """
    return np.asfortranarray(activated(pack_texels(gather(maps, table))).detach().float().numpy())


def bind_into(
    table: TexelTable, local: np.ndarray, vertices: np.ndarray, eye: np.ndarray, out: tuple[np.ndarray, ...],
    *, normals: np.ndarray | None = None,
) -> int:
    """Write the splats that `eye` [3] sees into the leading rows of `out` (fields of Splats); return their number.

    Args:
        table: texels in use [T].
        local: [T, 14] of `activate` (another memory order is copied).
        vertices: [V, 3] float32 posed mesh.
        eye: camera centre, head frame.
        out: float32 arrays with at least T rows: means, quats, scales, opacities, colors.
        normals: float32 [V, 3] that receives the vertices' normals, to be used again; None makes a new array.
    """
    normals = np.empty_like(vertices) if normals is None else normals
    return int(_bind(vertices, normals, table.faces, table.corners, table.weights, np.ascontiguousarray(local.T), eye, *out))

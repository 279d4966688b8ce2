"""CPU kernel: gradients of the image-plane records back to the splat parameters. Mirrors `reference.project`."""

import numpy as np
from numba import njit

from sega_ros.render.cpu_math import EXACT, use_wide_vectors
from sega_ros.render.cpu_project import BLOCK, A, B, D

f32 = np.float32
ONE, TWO = f32(1), f32(2)
# u and v of a record are sqrt(c) times the whitened offset, c = log2(e) / 2.
_RATE = f32(1 / (0.5 * 1.4426950408889634))


@njit(cache=True, fastmath=EXACT, error_model='numpy')
def project_block_backward(s, cam):  # noqa: PLR0915 (one loop body: split, it would not vectorise)
    """Replace rows 0-10 of `s` (mean, quat, scale, opacity) by their gradients.

    Further rows: 11-16 the sums of h times 1, u, v, uu, uv, vv; 17-19 a, b, d of the record; 20 dL/dz.
    With L the conic's Cholesky factor: dL/dmean2d = L (sum of h w), dL/dcov2d = L (sum of h w w^T) L^T / 2.
    """
    use_wide_vectors()
    r0, r1, r2, r3, r4, r5, r6, r7, r8 = cam[0], cam[1], cam[2], cam[3], cam[4], cam[5], cam[6], cam[7], cam[8]
    t0, t1, t2 = cam[9], cam[10], cam[11]
    w00, w01, w02, w10, w11, w12 = f32(cam[0]), f32(cam[1]), f32(cam[2]), f32(cam[3]), f32(cam[4]), f32(cam[5])
    w20, w21, w22 = f32(cam[6]), f32(cam[7]), f32(cam[8])
    fx, fy = f32(cam[12]), f32(cam[13])
    lx0, lx1, ly0, ly1 = f32(cam[16]), f32(cam[17]), f32(cam[18]), f32(cam[19])
    for i in range(BLOCK):
        mx, my, mz = s[i], s[BLOCK + i], s[2 * BLOCK + i]
        x = f32(r0 * mx + r1 * my + r2 * mz + t0)
        y = f32(r3 * mx + r4 * my + r5 * mz + t1)
        z = f32(r6 * mx + r7 * my + r8 * mz + t2)
        qw, qx, qy, qz = s[3 * BLOCK + i], s[4 * BLOCK + i], s[5 * BLOCK + i], s[6 * BLOCK + i]
        length = ONE / np.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        qw, qx, qy, qz = qw * length, qx * length, qy * length, qz * length
        s0, s1, s2 = s[7 * BLOCK + i], s[8 * BLOCK + i], s[9 * BLOCK + i]
        rz = ONE / z
        xz, yz = x * rz, y * rz
        tx, ty = min(lx1, max(lx0, xz)), min(ly1, max(ly0, yz))
        jx, jy = fx * rz, fy * rz
        e0, e1, e2 = w00 - tx * w20, w01 - tx * w21, w02 - tx * w22
        f0, f1, f2 = w10 - ty * w20, w11 - ty * w21, w12 - ty * w22
        a0, a1, a2 = jx * e0, jx * e1, jx * e2
        b0, b1, b2 = jy * f0, jy * f1, jy * f2
        xx, yy, zz = TWO * qx * qx, TWO * qy * qy, TWO * qz * qz
        xy, xZ, yZ = TWO * qx * qy, TWO * qx * qz, TWO * qy * qz
        wx, wy, wz = TWO * qw * qx, TWO * qw * qy, TWO * qw * qz
        q00, q01, q02 = ONE - yy - zz, xy - wz, xZ + wy
        q10, q11, q12 = xy + wz, ONE - xx - zz, yZ - wx
        q20, q21, q22 = xZ - wy, yZ + wx, ONE - xx - yy
        g0, g1, g2 = a0 * q00 + a1 * q10 + a2 * q20, a0 * q01 + a1 * q11 + a2 * q21, a0 * q02 + a1 * q12 + a2 * q22
        h0, h1, h2 = b0 * q00 + b1 * q10 + b2 * q20, b0 * q01 + b1 * q11 + b2 * q21, b0 * q02 + b1 * q12 + b2 * q22
        u0, u1, u2, v0, v1, v2 = g0 * s0, g1 * s1, g2 * s2, h0 * s0, h1 * s1, h2 * s2

        a, b, d = s[17 * BLOCK + i], s[18 * BLOCK + i], s[19 * BLOCK + i]
        su, sv, suu = s[12 * BLOCK + i], s[13 * BLOCK + i], s[14 * BLOCK + i]
        suv, svv = s[15 * BLOCK + i], s[16 * BLOCK + i]
        vx, vy = _RATE * a * su, _RATE * (b * su + d * sv)
        # Twice dL/dcov2d, since dL/dM = 2 dL/dcov M.
        rate = _RATE * _RATE
        c00, c01 = rate * a * a * suu, rate * a * (b * suu + d * suv)
        c11 = rate * (b * b * suu + TWO * b * d * suv + d * d * svv)
        du0, du1, du2 = c00 * u0 + c01 * v0, c00 * u1 + c01 * v1, c00 * u2 + c01 * v2
        dv0, dv1, dv2 = c01 * u0 + c11 * v0, c01 * u1 + c11 * v1, c01 * u2 + c11 * v2
        s[7 * BLOCK + i], s[8 * BLOCK + i] = du0 * g0 + dv0 * h0, du1 * g1 + dv1 * h1
        s[9 * BLOCK + i] = du2 * g2 + dv2 * h2
        du0, du1, du2, dv0, dv1, dv2 = du0 * s0, du1 * s1, du2 * s2, dv0 * s0, dv1 * s1, dv2 * s2

        da0, db0 = du0 * q00 + du1 * q01 + du2 * q02, dv0 * q00 + dv1 * q01 + dv2 * q02
        da1, db1 = du0 * q10 + du1 * q11 + du2 * q12, dv0 * q10 + dv1 * q11 + dv2 * q12
        da2, db2 = du0 * q20 + du1 * q21 + du2 * q22, dv0 * q20 + dv1 * q21 + dv2 * q22
        dtx = -jx * (da0 * w20 + da1 * w21 + da2 * w22)
        dty = -jy * (db0 * w20 + db1 * w21 + db2 * w22)
        dxz = fx * vx + (dtx if (xz >= lx0) & (xz <= lx1) else f32(0))
        dyz = fy * vy + (dty if (yz >= ly0) & (yz <= ly1) else f32(0))
        drz = fx * (da0 * e0 + da1 * e1 + da2 * e2) + fy * (db0 * f0 + db1 * f1 + db2 * f2) + x * dxz + y * dyz
        dx, dy, dz = rz * dxz, rz * dyz, s[20 * BLOCK + i] - rz * rz * drz
        s[i], s[BLOCK + i] = w00 * dx + w10 * dy + w20 * dz, w01 * dx + w11 * dy + w21 * dz
        s[2 * BLOCK + i] = w02 * dx + w12 * dy + w22 * dz

        r00, r01, r02 = a0 * du0 + b0 * dv0, a0 * du1 + b0 * dv1, a0 * du2 + b0 * dv2
        r10, r11, r12 = a1 * du0 + b1 * dv0, a1 * du1 + b1 * dv1, a1 * du2 + b1 * dv2
        r20, r21, r22 = a2 * du0 + b2 * dv0, a2 * du1 + b2 * dv1, a2 * du2 + b2 * dv2
        p01, p02, p12 = r01 + r10, r02 + r20, r12 + r21
        m01, m02, m12 = r10 - r01, r02 - r20, r21 - r12
        dw = TWO * (qx * m12 + qy * m02 + qz * m01)
        dqx = TWO * (qy * p01 + qz * p02 + qw * m12 - TWO * qx * (r11 + r22))
        dqy = TWO * (qx * p01 + qz * p12 + qw * m02 - TWO * qy * (r00 + r22))
        dqz = TWO * (qx * p02 + qy * p12 + qw * m01 - TWO * qz * (r00 + r11))
        along = dw * qw + dqx * qx + dqy * qy + dqz * qz
        s[3 * BLOCK + i], s[4 * BLOCK + i] = length * (dw - along * qw), length * (dqx - along * qx)
        s[5 * BLOCK + i], s[6 * BLOCK + i] = length * (dqy - along * qy), length * (dqz - along * qz)
        s[10 * BLOCK + i] = s[11 * BLOCK + i] / s[10 * BLOCK + i]


@njit(cache=True, nogil=True, error_model='numpy')
def project_splats_backward(
    means, quats, scales, opacities, ids, records, grads, v_depths, cam,
    v_means, v_quats, v_scales, v_opacities, v_colors,
):
    """Write the gradients of the splats that have a record (the others' stay as they are, zero).

    ids [M], records [M, RECORD], grads [M, 9] of `blend_tiles_backward`, v_depths [M] dL/dz.
    """
    s = np.zeros(21 * BLOCK, np.float32)
    for start in range(0, ids.shape[0], BLOCK):
        n = min(BLOCK, ids.shape[0] - start)
        for i in range(n):
            j, r = ids[start + i], start + i
            for k in range(3):
                s[k * BLOCK + i], s[(7 + k) * BLOCK + i] = means[j, k], scales[j, k]
                v_colors[j, k] = grads[r, 6 + k]
            for k in range(4):
                s[(3 + k) * BLOCK + i] = quats[j, k]
            s[10 * BLOCK + i] = opacities[j]
            for k in range(6):
                s[(11 + k) * BLOCK + i] = grads[r, k]
            s[17 * BLOCK + i], s[18 * BLOCK + i] = records[r, A], records[r, B]
            s[19 * BLOCK + i], s[20 * BLOCK + i] = records[r, D], v_depths[r]
        project_block_backward(s, cam)
        for i in range(n):
            j = ids[start + i]
            for k in range(3):
                v_means[j, k], v_scales[j, k] = s[k * BLOCK + i], s[(7 + k) * BLOCK + i]
            for k in range(4):
                v_quats[j, k] = s[(3 + k) * BLOCK + i]
            v_opacities[j] = s[10 * BLOCK + i]

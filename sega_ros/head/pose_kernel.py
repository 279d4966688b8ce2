"""From the parameters of a frame to a few numbers, and in one Numba pass to posed vertices, without what is zero.

Definition: `skinning`.

Loops instead of slices: an assignment to a slice takes three seconds to compile.
"""

import numba as nb
import numpy as np

f32, uint = np.float32, np.uintp


@nb.njit(cache=True, error_model='numpy')
def _rotations(rotvecs):
    """Rotation matrices [5, 3, 3] (Rodrigues)."""
    rotations = np.empty((5, 3, 3), np.float32)
    for j in range(5):
        x, y, z = np.float64(rotvecs[j, 0]), np.float64(rotvecs[j, 1]), np.float64(rotvecs[j, 2])
        square = x * x + y * y + z * z
        a, b = 1 - square / 6, 0.5 - square / 24  # closed forms lose digits near zero, see `geometry`
        if square > 1e-12:
            angle = np.sqrt(square)
            a, b = np.sin(angle) / angle, (1 - np.cos(angle)) / square
        r = rotations[j]
        r[0, 0], r[0, 1], r[0, 2] = 1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y
        r[1, 0], r[1, 1], r[1, 2] = b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x
        r[2, 0], r[2, 1], r[2, 2] = b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)
    return rotations


@nb.njit(cache=True, inline='always')
def _product(a, b, k, m):
    """Element (k, m) of the product of a [3, 3] (of which more columns don't count) and b [3, m]."""
    return a[k, 0] * b[0, m] + a[k, 1] * b[1, m] + a[k, 2] * b[2, m]


@nb.njit(cache=True, error_model='numpy')
def _transforms(rotations, joints, parents, turn, pivot):
    """Transforms [5, 3, 4] from the rest pose to the posed one, turned about `pivot`."""
    world, local, out = np.empty((5, 3, 4)), np.empty((3, 4)), np.empty((5, 3, 4), np.float32)
    for j in range(5):
        up = parents[j]
        for k in range(3):
            for m in range(3):
                local[k, m] = rotations[j, k, m]
            local[k, 3] = joints[j, k] - (joints[up, k] if up >= 0 else f32(0))
        for k in range(3):
            for m in range(4):
                world[j, k, m] = local[k, m] if up < 0 else _product(world[up], local, k, m)
            if up >= 0:
                world[j, k, 3] += world[up, k, 3]
    for j in range(5):
        w = world[j]
        for k in range(3):  # where it takes the origin, not the joint
            w[k, 3] -= w[k, 0] * joints[j, 0] + w[k, 1] * joints[j, 1] + w[k, 2] * joints[j, 2] + pivot[k]
        for k in range(3):
            for m in range(4):
                out[j, k, m] = _product(turn, w, k, m)
            out[j, k, 3] += pivot[k]
    return out


@nb.njit(cache=True, nogil=True, error_model='numpy', fastmath={'contract', 'nsz'})
def frame_numbers(expression, closure, rotvecs, regressor, rest_joints, parents, pose_entries, turn, pivot):
    """Return a frame's coefficients [E + pose entries + 4] and the transforms [5, 3, 4] of its joints.

    The last four coefficients are the closure c of left and right lid, then 4 c (1 - c) of each.

    Args:
        expression: [E].
        closure: [2].
        rotvecs: [5, 3] radians.
        regressor: [E, 15] joints per expression.
        rest_joints: [5, 3].
        parents: [5].
        pose_entries: entries of the 36 pose features that do anything; their coefficients follow the expression's.
        turn, pivot: rotation [3, 3] of the posed head about a point [3].
    """
    rotations = _rotations(rotvecs)
    count = len(expression) + len(pose_entries)
    coefficients = np.empty(count + 4, np.float32)
    for k in range(2):
        coefficients[count + k] = closure[k]
        coefficients[count + 2 + k] = f32(4) * closure[k] * (f32(1) - closure[k])
    for k in range(len(pose_entries)):
        joint, row, column = 1 + pose_entries[k] // 9, pose_entries[k] % 9 // 3, pose_entries[k] % 3
        coefficients[len(expression) + k] = rotations[joint, row, column] - (1 if row == column else 0)
    joints = np.empty((5, 3), np.float32)
    for k in range(15):
        joints[k // 3, k % 3] = rest_joints[k // 3, k % 3]
    for e in range(len(expression)):
        coefficients[e] = expression[e]
        for k in range(15):
            joints[k // 3, k % 3] += expression[e] * regressor[e, k]
    return coefficients, _transforms(rotations, joints, parents, turn, pivot)


@nb.njit(cache=True, nogil=True, error_model='numpy', fastmath={'contract', 'nsz'})
def pose_vertices(rest, starts, columns, moves, coefficients, joints, lid_slot, lids, weights, out):
    """Write the posed vertices [V, 3] into `out`.

    Args:
        rest: [V, 3].
        starts, columns, moves: entries [starts[v], starts[v + 1]) say which coefficient moves vertex v, and where to [K, 3].
        coefficients, joints: of `frame_numbers`.
        lid_slot: [V] row of `lids`, or -1.
        lids: [L, 4, 3] motion with each of the last four coefficients.
        weights: [V, 5].
        out: [V, 3].
    """
    transforms = joints.reshape(-1)
    count = len(coefficients)
    left, right = coefficients[count - 4], coefficients[count - 3]
    left_arc, right_arc = coefficients[count - 2], coefficients[count - 1]
    for v in range(rest.shape[0]):
        i = uint(v)  # unsigned indices need no check for negative ones
        x, y, z = rest[i, 0], rest[i, 1], rest[i, 2]
        for e in range(starts[i], starts[i + uint(1)]):
            k = uint(e)
            amount = coefficients[uint(columns[k])]
            x, y, z = x + amount * moves[k, 0], y + amount * moves[k, 1], z + amount * moves[k, 2]
        if lid_slot[i] >= 0:
            m = lids[uint(lid_slot[i])]
            x += left * m[0, 0] + right * m[1, 0] + left_arc * m[2, 0] + right_arc * m[3, 0]
            y += left * m[0, 1] + right * m[1, 1] + left_arc * m[2, 1] + right_arc * m[3, 1]
            z += left * m[0, 2] + right * m[1, 2] + left_arc * m[2, 2] + right_arc * m[3, 2]
        px, py, pz = f32(0), f32(0), f32(0)
        for j in range(5):
            w = weights[i, uint(j)]
            if w != f32(0):
                t = uint(12 * j)
                px += w * (transforms[t] * x + transforms[t + uint(1)] * y + transforms[t + uint(2)] * z
                           + transforms[t + uint(3)])
                py += w * (transforms[t + uint(4)] * x + transforms[t + uint(5)] * y + transforms[t + uint(6)] * z
                           + transforms[t + uint(7)])
                pz += w * (transforms[t + uint(8)] * x + transforms[t + uint(9)] * y + transforms[t + uint(10)] * z
                           + transforms[t + uint(11)])
        out[i, 0], out[i, 1], out[i, 2] = px, py, pz

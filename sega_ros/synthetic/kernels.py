"""Numba kernels of the small software renderer that draws synthetic people: triangles, shadow map, shading.

One thread, everything in the camera's frame (x right, y down, z forward; metres), light linear.
"""

import math

import numba
import numpy as np

SKIN, EYE, MOUTH, HAIR, CLOTH, BEARD, FRAME, LENS, LOCK = range(9)  # materials; a frame is that of glasses
NOTHING = 255  # no triangle there
_FAST = {'contract', 'nsz', 'arcp', 'nnan', 'ninf'}
_EDGE = 1e-5  # barycentric slack, so that shared edges leave no gaps


@numba.njit(cache=True, nogil=True)
def draw_depth(xyz, faces, depth):
    """Z-buffer of triangles that face the viewer, without perspective.

    Args:
        xyz: [V, 3] pixels x, y (down) and depth.
        faces: [F, 3].
        depth: [H, W] to draw into; the smallest stays.
    """
    height, width = depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = xyz[a, 0], xyz[a, 1], xyz[b, 0], xyz[b, 1], xyz[c, 0], xyz[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= 0.0:
            continue
        left, right = max(0, math.floor(min(ax, bx, cx))), min(width - 1, math.floor(max(ax, bx, cx)))
        top, bottom = max(0, math.floor(min(ay, by, cy))), min(height - 1, math.floor(max(ay, by, cy)))
        inverse = 1.0 / area
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * inverse
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * inverse
                w = 1.0 - u - v
                if u < -_EDGE or v < -_EDGE or w < -_EDGE:
                    continue
                z = u * xyz[a, 2] + v * xyz[b, 2] + w * xyz[c, 2]
                depth[row, column] = min(depth[row, column], z)


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def draw_triangles(xyz, faces, attributes, level, material, strands, inverse_depth, face_out, kind_out, bary_out):
    """Perspective z-buffer with an alpha test.

    Args:
        xyz: [V, 3] pixels x, y and camera z.
        faces: [F, 3].
        attributes: [F, 3, 3] u, v and cover at the corners.
        level: [F] a pixel of the triangle exists where strand height times cover exceeds it; 0: everywhere;
            negative: likewise with its absolute value, and seen from both sides.
        material: [F] uint8.
        strands: [S, S] heights in [0, 1], tiled by u, v; S is a power of two.
        inverse_depth, face_out, kind_out, bary_out: [H, W] (three times), [H, W, 3] to draw into: the largest inverse
            depth wins; `kind_out` is the material.
    """
    height, width = inverse_depth.shape
    side = strands.shape[0]
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = xyz[a, 0], xyz[a, 1], xyz[b, 0], xyz[b, 1], xyz[c, 0], xyz[c, 1]
        az, bz, cz = xyz[a, 2], xyz[b, 2], xyz[c, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        # y is down: what faces the camera has a negative area.
        if area == 0.0 or (area > 0.0 and level[f] >= 0.0) or min(az, bz, cz) <= 0.0:
            continue
        if material[f] == LENS:  # see `glaze`
            continue
        left, right = max(0, math.ceil(min(ax, bx, cx) - 0.5)), min(width - 1, math.floor(max(ax, bx, cx) - 0.5))
        top, bottom = max(0, math.ceil(min(ay, by, cy) - 0.5)), min(height - 1, math.floor(max(ay, by, cy) - 0.5))
        if left > right or top > bottom:
            continue
        inverse = 1.0 / area
        ia, ib, ic = 1.0 / az, 1.0 / bz, 1.0 / cz
        du, dv = (by - cy) * inverse, (cy - ay) * inverse
        threshold = abs(level[f])
        for row in range(top, bottom + 1):
            y, x = row + 0.5, left + 0.5
            u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * inverse
            v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * inverse
            for column in range(left, right + 1):
                w = 1.0 - u - v
                if u >= -_EDGE and v >= -_EDGE and w >= -_EDGE:
                    near = u * ia + v * ib + w * ic
                    if near > inverse_depth[row, column]:
                        z = 1.0 / near
                        p, q, r = u * ia * z, v * ib * z, w * ic * z
                        shown = True
                        if threshold > 0.0:
                            s = p * attributes[f, 0, 0] + q * attributes[f, 1, 0] + r * attributes[f, 2, 0]
                            t = p * attributes[f, 0, 1] + q * attributes[f, 1, 1] + r * attributes[f, 2, 1]
                            cover = p * attributes[f, 0, 2] + q * attributes[f, 1, 2] + r * attributes[f, 2, 2]
                            i = math.floor(t * side) & (side - 1)
                            j = math.floor(s * side) & (side - 1)
                            shown = strands[i, j] * cover > threshold
                        if shown:
                            inverse_depth[row, column] = near
                            face_out[row, column] = f
                            kind_out[row, column] = material[f]
                            bary_out[row, column, 0] = p
                            bary_out[row, column, 1] = q
                            bary_out[row, column, 2] = r
                u += du
                v += dv


@numba.njit(inline='always')
def _texel(texture, s, t, out):
    """Bilinear RGBA of a float32 texture [H, W, 4] at s right, t down in [0, 1], clamped."""
    height, width = texture.shape[0], texture.shape[1]
    x = min(max(s * width - 0.5, 0.0), width - 1.001)
    y = min(max(t * height - 0.5, 0.0), height - 1.001)
    j, i = int(x), int(y)
    fx, fy = x - j, y - i
    for k in range(4):
        upper = texture[i, j, k] * (1 - fx) + texture[i, j + 1, k] * fx
        lower = texture[i + 1, j, k] * (1 - fx) + texture[i + 1, j + 1, k] * fx
        out[k] = upper * (1 - fy) + lower * fy


@numba.njit(inline='always')
def _lit(shadow, sx, sy, sz, bias):
    """Share of a 5 x 5 neighbourhood of the shadow map that the light reaches, in [0, 1], softly."""
    height, width = shadow.shape
    j, i = int(sx), int(sy)
    if j < 3 or i < 3 or j >= width - 3 or i >= height - 3:
        return 1.0
    total = 0.0
    for di in range(-2, 3, 2):
        for dj in range(-2, 3, 2):
            gap = (sz - shadow[i + di, j + dj] - bias) * 600.0  # fades in over 1.7 mm
            total += 1.0 - min(max(gap, 0.0), 1.0)
    return total / 9.0


@numba.njit(inline='always')
def _shaded_at(kind_at, row, column):
    """Which sample of a 2 x 2 pixel this one takes its colour from: 0 itself, 1 its neighbour, 2 the pixel's first.

    Skin and cloth vary slowly; hair keeps two of four samples, eyes all.
    """
    kind = kind_at[row, column]
    if kind == EYE or kind_at[row, column ^ 1] != kind:
        return 0
    if kind in (SKIN, CLOTH) and kind_at[row ^ 1, column] == kind and kind_at[row ^ 1, column ^ 1] == kind:
        return 2 if (row | column) & 1 else 0
    return (row ^ column) & 1


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def shade(  # noqa: PLR0912, PLR0915 - one loop over pixels: what is split off is compiled, but no easier to read
    points, normals, tangents, occlusion, faces, attributes, root, face_at, kind_at, bary_at, skin,
    hair_color, cloth_color, lights, light_colors, ambient, sky, shadow, light_matrix, sparse, out,
):
    """Linear RGB of every pixel that shows a triangle, into `out` [H, W, 3].

    Args:
        points, normals, tangents: [V, 3] camera frame.
        occlusion: [V] ambient light that arrives, [0, 1].
        faces, attributes, root: [F, 3], [F, 3, 3], [F] height above the scalp in [0, 1] (hair).
        face_at, kind_at, bary_at: what `draw_triangles` found.
        skin: [S, S, 4] linear RGB and gloss.
        hair_color: [3, 2, 3] root and tip of hair and beard; the glasses' frame twice.
        cloth_color: [2, 3] dark and light.
        lights, light_colors: [3, 3] unit directions towards key, fill and rim light; linear RGB.
        ambient: [2, 3] from above, from below.
        sky: [3] unit direction towards above.
        sparse: shade fewer samples where a pixel shows one material (2 x 2 samples per pixel).
        shadow, light_matrix: [M, M] depth map of the key light; [3, 4] camera to its pixels and depth.
    """
    height, width = face_at.shape
    texel = np.zeros(4, np.float32)
    n, p, t = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    for row in range(height):
        for column in range(width):
            kind = kind_at[row, column]
            if kind == NOTHING or (sparse and _shaded_at(kind_at, row, column)):
                continue
            colors = 0  # which of the hair's
            lock = kind == LOCK
            if lock:
                kind = HAIR
            elif kind == BEARD:
                kind, colors = HAIR, 1
            elif kind == FRAME:
                colors = 2
            f = face_at[row, column]
            u, v, w = bary_at[row, column, 0], bary_at[row, column, 1], bary_at[row, column, 2]
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            for k in range(3):
                n[k] = u * normals[a, k] + v * normals[b, k] + w * normals[c, k]
                p[k] = u * points[a, k] + v * points[b, k] + w * points[c, k]
            scale = 1.0 / math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + 1e-12)
            far = 1.0 / math.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2])
            n[0] *= scale
            n[1] *= scale
            n[2] *= scale
            ex, ey, ez = -p[0] * far, -p[1] * far, -p[2] * far  # towards the eye of the camera
            reach = u * occlusion[a] + v * occlusion[b] + w * occlusion[c]
            s = u * attributes[f, 0, 0] + v * attributes[f, 1, 0] + w * attributes[f, 2, 0]
            q = u * attributes[f, 0, 1] + v * attributes[f, 1, 1] + w * attributes[f, 2, 1]
            if kind == HAIR:
                toward = n[0] * ex + n[1] * ey + n[2] * ez
                if lock and toward < 0.0:  # a lock beyond the outline: lit as the outline is, not as the far side
                    n[0], n[1], n[2] = n[0] - toward * ex, n[1] - toward * ey, n[2] - toward * ez
                    scale = 1.0 / math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + 1e-6)
                    n[0], n[1], n[2] = n[0] * scale, n[1] * scale, n[2] * scale
                elif toward < 0.0:
                    n[0], n[1], n[2] = -n[0], -n[1], -n[2]
                for k in range(3):
                    t[k] = u * tangents[a, k] + v * tangents[b, k] + w * tangents[c, k]
                scale = 1.0 / math.sqrt(t[0] * t[0] + t[1] * t[1] + t[2] * t[2] + 1e-12)
                tip = root[f]
                # Strands differ a little in colour: a cheap hash of the strand's place.
                tone = 0.82 + 0.36 * abs(math.sin(math.floor(s * 512.0) * 12.9898)) ** 2
                for k in range(3):
                    t[k] *= scale
                    texel[k] = (hair_color[colors, 0, k] * (1 - tip) + hair_color[colors, 1, k] * tip) * tone
            elif kind == CLOTH:
                weave = 0.5 + 0.5 * math.sin(s * 2600.0) * math.sin(q * 2600.0)
                for k in range(3):
                    texel[k] = cloth_color[0, k] * (1 - weave) + cloth_color[1, k] * weave
            elif kind == FRAME:
                for k in range(3):
                    texel[k] = hair_color[2, 0, k]
                texel[3] = 2.0
            else:
                _texel(skin, s, q, texel)
            sx = light_matrix[0, 0] * p[0] + light_matrix[0, 1] * p[1] + light_matrix[0, 2] * p[2] + light_matrix[0, 3]
            sy = light_matrix[1, 0] * p[0] + light_matrix[1, 1] * p[1] + light_matrix[1, 2] * p[2] + light_matrix[1, 3]
            sz = light_matrix[2, 0] * p[0] + light_matrix[2, 1] * p[1] + light_matrix[2, 2] * p[2] + light_matrix[2, 3]
            slant = n[0] * lights[0, 0] + n[1] * lights[0, 1] + n[2] * lights[0, 2]
            lit = _lit(shadow, sx, sy, sz, 0.006 if kind == HAIR else 0.0018 + 0.008 * (1 - max(slant, 0.0)))
            rise = n[0] * sky[0] + n[1] * sky[1] + n[2] * sky[2]
            if kind == EYE:  # the upper lid and its lashes shade the eye
                reach *= 1 - 0.6 * min(max((0.02 + rise) * 4.0, 0.0), 1.0)
                lit *= 1 - 0.5 * min(max((0.02 + rise) * 4.0, 0.0), 1.0)
            root_lit = math.sqrt(lit)
            up = 0.5 + 0.5 * rise
            facing = max(0.0, n[0] * ex + n[1] * ey + n[2] * ez)
            for k in range(3):
                # Light that enters skin comes out around the edge of a shadow, red farthest.
                wrap = 0.0
                if kind == SKIN:
                    wrap = 0.38 - 0.12 * k
                elif kind in (EYE, MOUTH):
                    wrap = 0.25
                total = (ambient[0, k] * up + ambient[1, k] * (1 - up)) * reach
                for m in range(3):
                    along = n[0] * lights[m, 0] + n[1] * lights[m, 1] + n[2] * lights[m, 2]
                    if kind == HAIR:
                        slope = t[0] * lights[m, 0] + t[1] * lights[m, 1] + t[2] * lights[m, 2]
                        diffuse = math.sqrt(max(0.0, 1 - slope * slope)) * min(max(0.35 + along, 0.0), 1.0)
                    else:
                        diffuse = max(0.0, (along + wrap) / (1 + wrap))
                    if m == 0:
                        bleed = 0.5 - 0.25 * k if kind == SKIN else 0.0
                        diffuse *= lit + (root_lit - lit) * bleed
                    else:
                        diffuse *= 0.35 + 0.65 * reach
                    total += light_colors[m, k] * diffuse
                out[row, column, k] = texel[k] * total
            # Highlights of key and rim light; the fill light is too broad for any.
            for m in (0, 2):
                hx, hy, hz = lights[m, 0] + ex, lights[m, 1] + ey, lights[m, 2] + ez
                scale = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
                hx, hy, hz = hx * scale, hy * scale, hz * scale
                along = n[0] * lights[m, 0] + n[1] * lights[m, 1] + n[2] * lights[m, 2]
                if kind == HAIR:
                    slope = t[0] * hx + t[1] * hy + t[2] * hz
                    gleam = max(0.0, 1 - slope * slope)
                    strength = 0.07 * gleam**40 + 0.02 * gleam**10
                    strength *= min(max(0.3 + along, 0.0), 1.0) * (0.3 + 0.7 * root[f])
                elif along <= 0.0 or kind == CLOTH:
                    continue
                else:
                    gleam = max(0.0, n[0] * hx + n[1] * hy + n[2] * hz)
                    edge = (1 - facing) ** 4
                    gloss = texel[3]
                    if kind == EYE:
                        strength = 2.2 * gleam**300 + 0.04 * gleam**30
                    elif kind == MOUTH:
                        strength = gloss * (0.5 * gleam**90)
                    else:
                        strength = gloss * (0.16 * gleam**14 + 0.14 * gleam**55) * (0.55 + 2.5 * edge) * along
                    strength *= 0.3 + 0.7 * reach
                if m == 0:
                    strength *= lit
                for k in range(3):
                    tint = 0.3 + 2.0 * hair_color[colors, 1, k] if kind == HAIR else 1.0
                    out[row, column, k] += light_colors[m, k] * strength * tint
    if sparse:
        for row in range(height):
            for column in range(width):
                if kind_at[row, column] != NOTHING:
                    source = _shaded_at(kind_at, row, column)
                    if source:
                        i, j = (row, column ^ 1) if source == 1 else (row & ~1, column & ~1)
                        for k in range(3):
                            out[row, column, k] = out[i, j, k]


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def glaze(xyz, points, normals, faces, lights, light_colors, inverse_depth, linear):
    """Lay clear glass over what was shaded: it takes a little light and adds its highlights.

    Args:
        xyz, points, normals: [V, 3] pixels and camera z; camera frame.
        faces: [F, 3] of the glass.
        lights, light_colors: [3, 3] as in `shade`.
        inverse_depth, linear: [H, W], [H, W, 3]: what is there; glass behind it is not seen.
    """
    height, width = inverse_depth.shape
    n = np.zeros(3, np.float32)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = xyz[a, 0], xyz[a, 1], xyz[b, 0], xyz[b, 1], xyz[c, 0], xyz[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        inverse = 1.0 / area
        for row in range(max(0, math.ceil(min(ay, by, cy) - 0.5)), min(height - 1, math.floor(max(ay, by, cy) - 0.5)) + 1):
            for column in range(max(0, math.ceil(min(ax, bx, cx) - 0.5)), min(width - 1, math.floor(max(ax, bx, cx) - 0.5)) + 1):
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * inverse
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * inverse
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                if u / xyz[a, 2] + v / xyz[b, 2] + w / xyz[c, 2] <= inverse_depth[row, column]:
                    continue
                for k in range(3):
                    n[k] = u * normals[a, k] + v * normals[b, k] + w * normals[c, k]
                ex, ey, ez = -points[a, 0], -points[a, 1], -points[a, 2]
                far = 1.0 / math.sqrt(ex * ex + ey * ey + ez * ez)
                facing = abs(n[0] * ex + n[1] * ey + n[2] * ez) * far
                veil = 0.012 + 0.25 * (1 - facing) ** 4
                for k in range(3):
                    linear[row, column, k] *= 0.94 - veil
                for m in range(3):
                    hx, hy, hz = lights[m, 0] + ex * far, lights[m, 1] + ey * far, lights[m, 2] + ez * far
                    scale = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
                    gleam = max(0.0, (n[0] * hx + n[1] * hy + n[2] * hz) * scale)
                    for k in range(3):
                        linear[row, column, k] += light_colors[m, k] * (0.10 * gleam**120 + 0.4 * veil)


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def finish(linear, kind_at, background, factor, curve, out, alpha, cloth):
    """Average `factor` x `factor` samples and put them through the tone `curve` (over [0, 4)) as uint8.

    Samples without a triangle take the pixel's `background`. `alpha` and `cloth` [H, W] uint8 get the shares of samples with any
    triangle, and with cloth.
    """
    height, width = out.shape[:2]
    steps = curve.shape[0]
    share = 1.0 / (factor * factor)
    total = np.zeros(3)
    for row in range(height):
        for column in range(width):
            total[:] = 0.0
            free, dressed = 0, 0
            for i in range(row * factor, (row + 1) * factor):
                for j in range(column * factor, (column + 1) * factor):
                    if kind_at[i, j] == NOTHING:
                        free += 1
                        continue
                    dressed += kind_at[i, j] == CLOTH
                    for k in range(3):
                        # A highlight must not outshine its neighbours, or its edge shows stairs.
                        total[k] += min(linear[i, j, k], 2.0)
            alpha[row, column] = int(255 * (1 - free * share) + 0.5)
            cloth[row, column] = int(255 * dressed * share + 0.5)
            for k in range(3):
                value = (total[k] + free * background[row, column, k]) * share
                out[row, column, k] = curve[min(int(value * (steps / 4.0)), steps - 1)]

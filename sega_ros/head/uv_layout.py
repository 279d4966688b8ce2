"""Texture layout: flattens charts with a wanted texel density and places them in the unit square.

Each chart starts from a valid flat layout and slides downhill on the symmetric Dirichlet energy, which punishes
stretch and shrinkage alike and becomes infinite before a triangle could turn over. Sources: Smith and Schaefer,
"Bijective parameterization with free boundaries", 2015 (energy); Rabinovich et al., "Scalable locally injective
mappings", 2017 (SLIM, the descent).
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from sega_ros.errors import HeadModelError
from sega_ros.head import surface as sf
from sega_ros.head.mesh import boundary_loops
from sega_ros.types import Region

# Texels per metre relative to the plain face, by region.
DENSITY = {Region.FACE: 1.0, Region.EYELIDS: 2.6, Region.SCALP: 0.31, Region.EARS: 0.45, Region.NECK: 0.32,
           Region.MOUTH: 0.45, Region.TEETH: 0.9, Region.EYES: 1.2}
_MARGIN = 0.006  # of the atlas, around every chart


@dataclass(frozen=True)
class Chart:
    """One piece of the surface with a first flat layout."""

    faces: np.ndarray  # [f] triangles of the head
    corners: np.ndarray  # [f, 3] indices into uv
    points: np.ndarray  # [n, 3] metres
    uv: np.ndarray  # [n, 2] u right, v down, any unit; no triangle turned over
    density: np.ndarray  # [f] wanted texels per metre, relative
    box: tuple[float, float, float, float]  # left, top, right, bottom in the atlas
    relax: bool = True


def layout_charts(charts: list[Chart]) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates [T, 2] in [0, 1] and triangles [F, 3] over all charts.

    Raises:
        HeadModelError: a chart starts with a triangle that is turned over.
    """
    n_faces = 1 + max(int(c.faces.max()) for c in charts)
    uvs, uv_faces, count = [], np.zeros((n_faces, 3), np.int64), 0
    for chart in charts:
        flat = flatten(chart) if chart.relax else chart.uv
        uvs.append(_fit_box(flat, chart.box))
        uv_faces[chart.faces] = chart.corners + count
        count += len(chart.uv)
    return np.concatenate(uvs), uv_faces


def _fit_box(uv: np.ndarray, box) -> np.ndarray:
    low, high = uv.min(0), uv.max(0)
    corner = np.array(box[:2]) + _MARGIN
    room = np.array(box[2:]) - _MARGIN - corner
    scale = min(room / (high - low))
    return corner + (room - scale * (high - low)) / 2 + scale * (uv - low)


def _local_frames(points: np.ndarray, corners: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse edge matrices [f, 2, 2] of the wanted flat triangles, and their areas [f]."""
    a, b, c = (points[corners[:, k]] for k in range(3))
    ab, ac = b - a, c - a
    length = np.maximum(np.linalg.norm(ab, axis=1), 1e-9)
    along = (ac * ab).sum(1) / length
    height = np.maximum(np.linalg.norm(np.cross(ab, ac), axis=1) / length, 1e-7)
    edges = np.zeros((len(corners), 2, 2))
    edges[:, 0, 0], edges[:, 0, 1], edges[:, 1, 1] = length, along, height
    edges *= density[:, None, None]
    return np.linalg.inv(edges), 0.5 * length * height * density**2


def _energy(uv, corners, inverse, area):
    """Symmetric Dirichlet energy and its gradient [n, 2]; infinite when a triangle is turned over."""
    a, b, c = (uv[corners[:, k]] for k in range(3))
    jacobian = np.stack([b - a, c - a], 2) @ inverse  # [f, 2, 2]
    det = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
    if det.min() <= 1e-9:
        return np.inf, None
    square = (jacobian**2).sum((1, 2))
    energy = (area * square * (1 + 1 / det**2)).sum()
    cofactor = np.empty_like(jacobian)
    cofactor[:, 0, 0], cofactor[:, 1, 1] = jacobian[:, 1, 1], jacobian[:, 0, 0]
    cofactor[:, 0, 1], cofactor[:, 1, 0] = -jacobian[:, 1, 0], -jacobian[:, 0, 1]
    slope = area[:, None, None] * (2 * (1 + 1 / det**2)[:, None, None] * jacobian
                                   - (2 * square / det**3)[:, None, None] * cofactor)
    by_edge = slope @ inverse.transpose(0, 2, 1)  # [f, 2, 2] columns: derivative by b - a, c - a
    gradient = np.zeros_like(uv)
    for corner, part in ((0, -by_edge.sum(2)), (1, by_edge[:, :, 0]), (2, by_edge[:, :, 1])):
        for axis in range(2):
            gradient[:, axis] += np.bincount(corners[:, corner], part[:, axis], minlength=len(uv))
    return energy, gradient


def _descent(uv, corners, inverse, area) -> np.ndarray:
    """Step [n, 2] to the minimum of the reweighted quadratic proxy (SLIM, section 4)."""
    a, b, c = (uv[corners[:, k]] for k in range(3))
    jacobian = np.stack([b - a, c - a], 2) @ inverse
    left, sigma, right = np.linalg.svd(jacobian)
    weight = np.sqrt((sigma**2 + 1) * (sigma + 1) / sigma**3)  # sqrt of (s - s^-3) / (s - 1), finite at s = 1
    scaled = (left * weight[:, None, :]) @ left.transpose(0, 2, 1) * np.sqrt(area)[:, None, None]  # [f, 2, 2]
    hats = np.stack([-inverse[:, 0] - inverse[:, 1], inverse[:, 0], inverse[:, 1]], 1)  # [f, 3, 2]
    blocks = np.einsum('fki,fkj,fpa,fqa->fpiqj', scaled, scaled, hats, hats, optimize=True)
    residual = scaled.transpose(0, 2, 1) @ scaled @ (left @ right - jacobian)
    force = np.einsum('fia,fpa->fpi', residual, hats)
    n = len(uv)
    unknown = (2 * corners[:, :, None] + np.arange(2)).reshape(-1, 6)
    rows, columns = np.repeat(unknown, 6, 1).ravel(), np.tile(unknown, (1, 6)).ravel()
    matrix = sp.csc_matrix((blocks.reshape(-1), (rows, columns)), shape=(2 * n, 2 * n))
    matrix += 1e-9 * matrix.diagonal().mean() * sp.identity(2 * n)
    solver = splu(matrix.tocsc(), permc_spec='MMD_AT_PLUS_A', diag_pivot_thresh=0.0, options={'SymmetricMode': True})
    return solver.solve(np.bincount(unknown.ravel(), force.ravel(), minlength=2 * n)).reshape(n, 2)


def _largest_step(uv, step, corners) -> float:
    """Largest t in (0, 1] for which no triangle of uv + t step turns over."""
    a, b, c = (uv[corners[:, k]] for k in range(3))
    da, db, dc = (step[corners[:, k]] for k in range(3))
    e, f, de, df = b - a, c - a, db - da, dc - da
    c0 = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
    c1 = e[:, 0] * df[:, 1] - e[:, 1] * df[:, 0] + de[:, 0] * f[:, 1] - de[:, 1] * f[:, 0]
    c2 = de[:, 0] * df[:, 1] - de[:, 1] * df[:, 0]
    with np.errstate(divide='ignore', invalid='ignore'):
        root = np.sqrt(np.maximum(c1 * c1 - 4 * c2 * c0, 0))
        q = -0.5 * (c1 + np.where(c1 >= 0, root, -root))
        roots = np.concatenate([np.where(c1 * c1 >= 4 * c2 * c0, r, np.inf) for r in (q / c2, c0 / q)])
    positive = roots[np.isfinite(roots) & (roots > 0)]
    return float(min(1.0, 0.9 * positive.min())) if len(positive) else 1.0


def flatten(chart: Chart, *, iterations: int = 40, tolerance: float = 1e-3) -> np.ndarray:
    """Relaxed layout [n, 2] of a chart in metres times density.

    Raises:
        HeadModelError: the first layout has a triangle turned over.
    """
    corners = chart.corners
    inverse, area = _local_frames(chart.points, corners, chart.density)
    uv = chart.uv - chart.uv.mean(0)
    a, b, c = (uv[corners[:, k]] for k in range(3))
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    # v points down: a triangle seen from outside runs clockwise in (u, v), so it is mirrored for the energy.
    if (turn >= 0).any():
        raise HeadModelError(f'texture layout: {(turn >= 0).sum()} of {len(turn)} triangles start turned over')
    uv = uv * [1, -1] * np.sqrt(area.sum() / (0.5 * np.abs(turn).sum()))
    holes = [loop[::-1] for loop in boundary_loops(corners)[1:]]
    for _ in range(iterations):
        mesh = _stuff_holes(uv, holes, corners, inverse, area)
        energy, gradient = _energy(uv, *mesh)
        step = _descent(uv, *mesh)
        slope, t = (gradient * step).sum(), _largest_step(uv, step, mesh[0])
        while True:
            now = _energy(uv + t * step, *mesh)[0]
            if now <= energy + 1e-4 * t * slope or t < 1e-8:
                break
            t *= 0.5
        if t < 1e-8:
            break
        uv = uv + t * step
        if energy - now < tolerance * energy and t > 0.1:
            break
    return uv * [1, -1]


def _stuff_holes(uv, holes, corners, inverse, area):
    """Fill holes (mouth, eyes) with triangles: without them a hole's rims slide over each other.

    They are made anew for every step, so they follow any motion but turning over. Source: Jiang et al., "Simplicial
    complex augmentation framework for bijective maps", 2017.
    """
    for ring in holes:
        filling = clip_ears(uv, ring)
        flat = np.c_[uv, np.zeros(len(uv))]
        more_inverse, more_area = _local_frames(flat, filling, np.ones(len(filling)))
        corners, inverse = np.concatenate([corners, filling]), np.concatenate([inverse, more_inverse])
        # Enough weight to keep slits from thinning out, whose slivers would allow only tiny steps.
        area = np.concatenate([area, 0.3 * np.maximum(more_area, more_area.mean())])
    return corners, inverse, area


def clip_ears(uv: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Triangles [k - 2, 3] that fill a simple polygon `ring` [k] of points uv [n, 2], counter-clockwise.

    Source: Meisters, "Polygons have ears", 1975; the roundest ear is clipped first.

    Raises:
        HeadModelError: the polygon crosses itself.
    """
    left, triangles = [int(v) for v in ring], []
    while len(left) > 2:
        points = uv[left]
        before, after = np.roll(points, 1, 0), np.roll(points, -1, 0)
        turn = _cross(points - before, after - points)
        longest = np.maximum.reduce([((p - q) ** 2).sum(1) for p, q in
                                     ((points, before), (after, points), (after, before))])
        for k in np.argsort(-turn / np.maximum(longest, 1e-30)):
            if turn[k] <= 0:
                raise HeadModelError('texture layout: the rim of a hole crosses itself')
            a, b, c = before[k], points[k], after[k]
            sides = [_cross(q - p, points - p) >= 0 for p, q in ((a, b), (b, c), (c, a))]
            inside = sides[0] & sides[1] & sides[2]
            inside[[k - 1, k, (k + 1) % len(left)]] = False
            if not inside.any():
                triangles.append((left[k - 1], left[k], left[(k + 1) % len(left)]))
                del left[k]
                break
        else:
            raise HeadModelError('texture layout: the rim of a hole crosses itself')
    return np.array(triangles)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def smooth_density(faces: np.ndarray, density: np.ndarray, n: int, *, rounds: int = 8) -> np.ndarray:
    """Blur a per-triangle density [F] over the mesh (geometric mean), so that texels change size gradually."""
    log = np.log(density)
    count = np.bincount(faces.ravel(), minlength=n)
    for _ in range(rounds):
        at_vertex = np.bincount(faces.ravel(), np.repeat(log, 3), minlength=n) / np.maximum(count, 1)
        log = at_vertex[faces].mean(1)
    return np.exp(log)


def open_head_charts(template: np.ndarray, surface: sf.Surface, region: np.ndarray, lips: np.ndarray) -> list[Chart]:
    """Charts of the open head: head (face, ears, scalp) above; neck, eyes, mouth and teeth in a strip below."""
    density = np.array([DENSITY.get(Region(r), 1.0) for r in range(9)])[region]
    density[lips] = 2.2
    density = smooth_density(surface.faces, density, len(template))
    charts = [_chart(template, surface, density, surface.part == sf.SKIN, (0, 0, 1, 0.79), painted=True)]
    charts.append(_neck_chart(template, surface, density, (0.0, 0.79, 0.42, 1)))
    for part, box in ((sf.RIGHT_EYE, (0, 0.61, 0.17, 0.78)), (sf.LEFT_EYE, (0.83, 0.61, 1, 0.78))):
        charts.append(_eye_chart(template, surface, density, part, box))
    for part, box in ((sf.UPPER_TEETH, (0.44, 0.80, 0.68, 0.89)), (sf.LOWER_TEETH, (0.44, 0.90, 0.68, 0.99)),
                      (sf.BAG, (0.70, 0.82, 0.85, 0.97)), (sf.TONGUE, (0.86, 0.81, 1, 0.98))):
        charts.append(_chart(template, surface, density, surface.part == part, box))
    return charts


def _chart(template, surface, density, members, box, *, painted=False) -> Chart:
    faces = np.flatnonzero(members)
    _, first, corners = np.unique(surface.uv_ids[faces], return_index=True, return_inverse=True)
    points = template[surface.faces[faces].ravel()[first]]
    corners = corners.reshape(-1, 3)
    uv = _upright(surface.uv[faces].reshape(-1, 2)[first], points) if painted else tutte(corners, points)
    return Chart(faces, corners, points, uv, density[faces], box)


def _upright(uv: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Turn MakeHuman's chart so that u grows to the subject's left and v downwards."""
    flat, space = uv - uv.mean(0), points - points.mean(0)
    fit = np.linalg.lstsq(flat, space[:, :2], rcond=None)[0]  # [uv, xy]
    if abs(fit[0, 0]) < abs(fit[1, 0]):
        flat, fit = flat[:, ::-1], fit[::-1]
    return flat * [np.sign(fit[0, 0]), -np.sign(fit[1, 1])]


def _neck_chart(template, surface, density, box) -> Chart:
    """Lay out the neck, cut along the nape."""
    faces = np.flatnonzero(surface.part == sf.NECK)
    triangles = surface.faces[faces]
    axis_z = template[np.unique(triangles), 2].mean()
    right = template[triangles].mean(1)[:, 0] < 0
    nape = (np.abs(template[triangles, 0]) < 1e-6) & (template[triangles, 2] < axis_z)
    ids = triangles + len(template) * (nape & right[:, None])
    unique, corners = np.unique(ids, return_inverse=True)
    corners, points = corners.reshape(-1, 3), template[unique % len(template)]
    return Chart(faces, corners, points, tutte(corners, points), density[faces], box)


def tutte(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Flat layout [n, 2] without overturned triangles: border on a circle, the rest at its neighbours' mean.

    Source: Tutte, "How to draw a graph", 1963. Holes are closed with one extra point each. u grows to the
    subject's left, v points down.
    """
    loops, n = boundary_loops(corners), len(points)
    outer = loops[0]
    length = np.linalg.norm(points[np.roll(outer, -1)] - points[outer], axis=1)
    angle = 2 * np.pi * (np.cumsum(length) - length) / length.sum()
    filled = np.concatenate([corners] + [
        np.stack([np.roll(hole, -1), hole, np.full(len(hole), n + k)], 1) for k, hole in enumerate(loops[1:])])
    size = n + len(loops) - 1
    a, b = filled.ravel(), np.roll(filled, -1, 1).ravel()
    graph = sp.csr_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(size, size))
    graph.data[:] = 1
    laplacian = sp.diags(np.asarray(graph.sum(1)).ravel()) - graph
    inner = np.setdiff1d(np.arange(size), outer)
    uv = np.zeros((size, 2))
    uv[outer] = np.stack([np.cos(angle), -np.sin(angle)], 1)
    uv[inner] = splu(laplacian[inner][:, inner].tocsc()).solve(-(laplacian[inner][:, outer] @ uv[outer]))
    # Turn so that the subject's left comes to lie on the right, as on the other charts.
    side = np.linalg.lstsq(uv[:n] - uv[:n].mean(0), points[:, 0] - points[:, 0].mean(), rcond=None)[0]
    cosine, sine = side / np.linalg.norm(side)
    return uv[:n] @ np.array([[cosine, -sine], [sine, cosine]])


def _eye_chart(template, surface, density, part, box) -> Chart:
    """Disc around the pupil; the iris gets a little more than its share."""
    faces = np.flatnonzero(surface.part == part)
    unique, corners = np.unique(surface.faces[faces], return_inverse=True)
    unit, _ = sf.eyeball()
    polar = np.arccos(np.clip(unit[:, 2], -1, 1))
    radius = polar**0.85
    turn = np.arctan2(unit[:, 1], unit[:, 0])
    uv = radius[:, None] * np.stack([np.cos(turn), -np.sin(turn)], 1)
    return Chart(faces, corners.reshape(-1, 3), template[unique], uv, density[faces], box, relax=False)

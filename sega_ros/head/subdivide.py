"""Catmull-Clark subdivision of chosen quads, as a linear map, with triangles all around.

A map instead of moved points: every target of the base mesh goes through the same matrix as the mesh.
Source: Catmull and Clark, "Recursively generated B-spline surfaces on arbitrary topological meshes", 1978.
"""

import numpy as np
import scipy.sparse as sp


def edge_table(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List unique edges [Ne, 2], each quad side's edge [Q, 4] (side k: corners k, k + 1), quads per edge [Ne]."""
    sides = np.stack([quads, np.roll(quads, -1, 1)], 2).reshape(-1, 2)
    edges, index, count = np.unique(np.sort(sides, 1), axis=0, return_inverse=True, return_counts=True)
    return edges, index.reshape(quads.shape), count


def _sparse(rows, columns, values, shape) -> sp.csr_matrix:
    return sp.csr_matrix((values, (rows, columns)), shape=shape)


def smooth_matrix(quads: np.ndarray, n_points: int, *, smooth: bool = True) -> sp.csr_matrix:
    """Matrix [V0 + Ne + Q, V0]: moved old points, then edge points, then face points.

    `smooth=False` leaves old points where they are and takes midpoints (for texture coordinates).
    """
    edges, sides, count = edge_table(quads)
    n_quads, n_edges = len(quads), len(edges)
    quarters = np.full(4 * n_quads, 0.25)
    face_points = _sparse(np.repeat(np.arange(n_quads), 4), quads.ravel(), quarters, (n_quads, n_points))
    middles = _sparse(np.repeat(np.arange(n_edges), 2), edges.ravel(), np.full(2 * n_edges, 0.5), (n_edges, n_points))
    if not smooth:
        return sp.vstack([sp.identity(n_points), middles, face_points]).tocsr()
    inner = count == 2
    edge_to_quad = _sparse(sides.ravel(), np.repeat(np.arange(n_quads), 4), np.ones(4 * n_quads), (n_edges, n_quads))
    scale = sp.diags(np.where(inner, 0.5, 1.0))
    edge_points = scale @ middles + sp.diags(np.where(inner, 0.25, 0.0)) @ edge_to_quad @ face_points
    old_points = _vertex_points(quads, n_points, edges, inner, middles, face_points)
    return sp.vstack([old_points, edge_points, face_points]).tocsr()


def _vertex_points(quads, n_points, edges, inner, middles, face_points):
    """Catmull-Clark's rule for old points: (F + 2 E + (n - 3) P) / n inside, (6 P + neighbours) / 8 on a border."""
    n_edges = len(edges)
    to_edge = _sparse(edges.ravel(), np.repeat(np.arange(n_edges), 2), np.ones(2 * n_edges), (n_points, n_edges))
    to_quad = _sparse(quads.ravel(), np.repeat(np.arange(len(quads)), 4), np.ones(quads.size), (n_points, len(quads)))
    valence = np.asarray(to_edge.sum(1)).ravel()
    n_faces = np.maximum(np.asarray(to_quad.sum(1)).ravel(), 1)
    on_border = np.asarray((to_edge @ sp.diags((~inner).astype(float))).sum(1)).ravel() > 0
    n = np.maximum(valence, 1)
    inside = ~on_border & (valence > 0)
    around = sp.diags(1 / n_faces) @ to_quad @ face_points + 2 * sp.diags(1 / n) @ to_edge @ middles
    rule = sp.diags(inside / n) @ around
    rule += sp.diags(np.where(inside, (n - 3) / n, np.where(on_border, 0.5, 1.0)))
    return rule + sp.diags(np.where(on_border, 0.25, 0.0)) @ to_edge @ sp.diags((~inner).astype(float)) @ middles


def split_sides(quads: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Sides [Q, 4] bool that a marked quad [Q] touches."""
    edges, sides, _ = edge_table(quads)
    split = np.zeros(len(edges), bool)
    split[sides[marked].ravel()] = True
    return split[sides]


def emit_triangles(
    quads: np.ndarray, n_points: int, marked: np.ndarray, split: np.ndarray, diagonal: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles [F, 3] over the points of `smooth_matrix` and the quad each came from [F].

    Args:
        quads, n_points: the old mesh.
        marked: [Q] quads cut in four; the others stay, fanned from their middle where a side is split.
        split: [Q, 4] sides that carry a middle point (`split_sides`).
        diagonal: [Q, 5] bool: for each of the four sub-quads and the whole quad, cut along corners 1-3, not 0-2.
    """
    edges, sides, _ = edge_table(quads)
    middle, centre = n_points + sides, n_points + len(edges) + np.arange(len(quads))
    faces, parent = [], []
    for q, corners in enumerate(quads):
        before = len(faces)
        if marked[q]:
            for k in range(4):
                four = (corners[k], middle[q, k], centre[q], middle[q, k - 1])
                faces += _two(four, diagonal[q, k])
        elif split[q].any():
            ring = [p for k in range(4) for p in ([corners[k], middle[q, k]] if split[q, k] else [corners[k]])]
            faces += [(a, b, centre[q]) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
        else:
            faces += _two(corners, diagonal[q, 4])
        parent += [q] * (len(faces) - before)
    return np.array(faces), np.array(parent)


def _two(four, other: bool):
    a, b, c, d = four
    return [(b, c, d), (b, d, a)] if other else [(a, b, c), (a, c, d)]


def shorter_diagonals(quads: np.ndarray, points: np.ndarray, n_points: int, mirror: np.ndarray) -> np.ndarray:
    """Choice [Q, 5] for `emit_triangles`: the shorter diagonal, equal on both sides of a symmetric mesh.

    `points` [V0 + Ne + Q, 3] are all points of `smooth_matrix`, `mirror` [V0 + Ne + Q] their twins.
    """
    edges, sides, _ = edge_table(quads)
    middle, centre = n_points + sides, n_points + len(edges) + np.arange(len(quads))
    fours = [np.stack([quads[:, k], middle[:, k], centre, middle[:, k - 1]], 1) for k in range(4)] + [quads]
    choice = []
    for four in fours:
        lengths = [np.linalg.norm(points[four[:, i]] - points[four[:, j]], axis=1) for i, j in ((0, 2), (1, 3))]
        least = np.minimum(four, mirror[four])  # a name that a vertex and its twin share
        tie = np.abs(lengths[0] - lengths[1]) < 1e-6
        choice.append(np.where(tie, least[:, [1, 3]].min(1) < least[:, [0, 2]].min(1), lengths[1] < lengths[0]))
    return np.stack(choice, 1)

"""Small geometry on triangle meshes: closest points and neighbourhoods."""

import numpy as np


def closest_on_triangles(point: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentrics [N, 3] and squared distances [N] of the points of `triangles` [N, 3, 3] nearest to `point` [3].

    The foot of the perpendicular where it falls inside, else the best of the three edges.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, ac, ap = b - a, c - a, point - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    options = [np.stack([1 - v - w, v, w], 1)]
    inside = (options[0] >= 0).all(1)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = triangles[:, j] - triangles[:, i]
        t = ((point - triangles[:, i]) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-30)
        bary = np.zeros_like(options[0])
        bary[:, j] = np.clip(t, 0, 1)
        bary[:, i] = 1 - bary[:, j]
        options.append(bary)
    distances = np.stack([np.square(np.einsum('nk,nkc->nc', o, triangles) - point).sum(1) for o in options])
    distances[0, ~inside] = np.inf
    best = distances.argmin(0)
    rows = np.arange(len(triangles))
    return np.stack(options)[best, rows], distances[best, rows]


def closest_points(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, candidates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest surface points of `points` [N, 3] among the `candidates` (face indices).

    Returns face [N], barycentrics [N, 3] and distance [N] (metres).
    """
    triangles = vertices[faces[candidates]].astype(np.float64)
    found = np.empty(len(points), np.int64)
    barys = np.empty((len(points), 3))
    distances = np.empty(len(points))
    for n, point in enumerate(points):
        bary, square = closest_on_triangles(point, triangles)
        best = int(square.argmin())
        found[n], barys[n], distances[n] = candidates[best], bary[best], np.sqrt(square[best])
    return found, barys, distances


def grow_faces(faces: np.ndarray, seeds: np.ndarray, *, rings: int) -> np.ndarray:
    """Return the indices of the faces within `rings` shared-vertex steps of `seeds`."""
    grown = np.unique(seeds)
    for _ in range(rings):
        grown = np.flatnonzero(np.isin(faces, faces[grown]).any(1))
    return grown

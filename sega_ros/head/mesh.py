"""Small questions about triangle meshes: borders, distances, twins."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import dijkstra


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Border loops of a triangle mesh [f, 3], each in the direction of its triangles, longest first."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = set(map(tuple, sides.tolist()))
    after = {a: b for a, b in sides.tolist() if (b, a) not in known}
    loops = []
    while after:
        start, loop = next(iter(after)), []
        while start in after:
            loop.append(start)
            start = after.pop(start)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def edge_distances(points: np.ndarray, faces: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Length [V] of the shortest way along edges from the nearest source vertex; inf where there is none."""
    a, b = faces.ravel(), np.roll(faces, -1, 1).ravel()
    length = np.linalg.norm(points[a] - points[b], axis=1)
    graph = sp.csr_matrix((length, (a, b)), shape=(len(points),) * 2)
    graph = graph.maximum(graph.T)
    return dijkstra(graph, directed=False, indices=sources, min_only=True)


def arcs(points: np.ndarray, loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower arc of a closed loop of vertices, parted at its leftmost and rightmost vertex (in both)."""
    x = points[loop, 0]
    first, last = sorted((int(x.argmin()), int(x.argmax())))
    one, other = loop[first:last + 1], np.concatenate([loop[last:], loop[:first + 1]])
    return (one, other) if points[one, 1].mean() > points[other, 1].mean() else (other, one)


def mirror_faces(faces: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Index [F] of each triangle's twin (itself where there is none)."""
    index = {tuple(f): i for i, f in enumerate(np.sort(faces, 1).tolist())}
    twins = np.sort(mirror[faces], 1).tolist()
    return np.array([index.get(tuple(t), i) for i, t in enumerate(twins)])

"""Small questions about triangle meshes: borders, distances, twins."""

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra


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


def loose_parts(faces: np.ndarray, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the largest connected surface as a mask [count] of vertices, and the vertex indices of each other part."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = sp.csr_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    parts, label = connected_components(graph, directed=False)
    largest = np.bincount(label, minlength=parts).argmax()
    return label == largest, [np.flatnonzero(label == k) for k in range(parts) if k != largest]


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


def cut_open(points: np.ndarray, faces: np.ndarray, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a mesh along the shortest way between two vertices; vertices on the way (ends: on the border alone) double.

    Returns:
        faces [f, 3] indices into old and new vertices, and source [V + new]: the old vertex each one is.
    """
    path = _shortest_path(points, faces, start, end)
    on_border = set(np.concatenate([*boundary_loops(faces), np.zeros(0, int)]).tolist())
    cut = {tuple(sorted(e)) for e in pairwise(path)}
    source, new_faces = list(range(len(points))), faces.copy()
    double = [v for k, v in enumerate(path) if 0 < k < len(path) - 1 or v in on_border]
    for vertex in double:
        around = np.flatnonzero((faces == vertex).any(1))
        for fan in _fans(faces, around, vertex, cut)[1:]:
            new_faces[fan] = np.where(faces[fan] == vertex, len(source), new_faces[fan])
            source.append(vertex)
    return new_faces, np.array(source)


def _shortest_path(points, faces, start: int, end: int) -> list[int]:
    a, b = faces.ravel(), np.roll(faces, -1, 1).ravel()
    graph = sp.csr_matrix((np.linalg.norm(points[a] - points[b], axis=1), (a, b)), shape=(len(points),) * 2)
    before = dijkstra(graph.maximum(graph.T), directed=False, indices=start, return_predecessors=True)[1]
    path = [end]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    return path[::-1]


def _fans(faces, around, vertex: int, cut) -> list[list[int]]:
    """Group the triangles around a vertex that are connected without crossing a cut edge."""
    others = {int(f): [int(v) for v in faces[f] if v != vertex] for f in around}
    left, fans = set(others), []
    while left:
        fan, queue = [], [min(left)]
        left.discard(queue[0])
        while queue:
            f = queue.pop()
            fan.append(f)
            for v in others[f]:
                if tuple(sorted((vertex, v))) not in cut:
                    joined = [g for g in left if v in others[g]]
                    left.difference_update(joined)
                    queue += joined
        fans.append(fan)
    return fans

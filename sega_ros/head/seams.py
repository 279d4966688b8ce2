"""Closing operators for lips and lids: where two borders must meet, move both there, smoothly and linearly.

Columns stand across the seam; in each, the lowest point of the upper border and the highest of the lower one must
touch. The correction is the smoothest field (Gaussian kernel on each side of the seam) that makes them do so, and it
is linear in the vertices, so that the same operator closes the template and every identity component.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Seam:
    """Closing operator of one seam; acts on heights (y)."""

    vertices: np.ndarray  # [n] vertices that move
    gap: sp.csr_matrix  # [K, V] upper minus lower height per column
    spread: np.ndarray  # [n, K] height of each vertex for a unit gap in each column

    def close(self, heights: np.ndarray, *, overlap: float = 0.0) -> np.ndarray:
        """Return heights [V, ...] with every column's gap at minus `overlap`."""
        residual = self.gap @ heights + overlap  # [K, ...]
        closed = np.array(heights)
        closed[self.vertices] -= np.tensordot(self.spread, residual, 1)
        return closed


def seam_columns(points: np.ndarray, faces: np.ndarray, upper: bool, xs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest (`upper`) or highest point of a surface in each column x.

    Args:
        points: [V, 3]; faces: [f, 3] triangles of that border's side.
        xs: [K] columns.

    Returns:
        vertices [K, 2] and weights [K, 2]: the point lies on that edge; weights are 0 where a column hits nothing.
    """
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1), axis=0)
    a, b = points[edges[:, 0]], points[edges[:, 1]]
    vertices, weights = np.zeros((len(xs), 2), int), np.zeros((len(xs), 2))
    for k, x in enumerate(xs):
        span = b[:, 0] - a[:, 0]
        t = np.where(np.abs(span) > 1e-9, (x - a[:, 0]) / np.where(np.abs(span) > 1e-9, span, 1), -1)
        hit = np.flatnonzero((t >= 0) & (t <= 1))
        if len(hit) == 0:
            continue
        y = a[hit, 1] + t[hit] * (b[hit, 1] - a[hit, 1])
        best = hit[np.argmin(y) if upper else np.argmax(y)]
        vertices[k], weights[k] = edges[best], (1 - t[best], t[best])
    return vertices, weights


def build_seam(
    points: np.ndarray, upper_faces: np.ndarray, lower_faces: np.ndarray, xs: np.ndarray, *, reach: float,
    upper_share: float = 0.5,
) -> Seam:
    """Return the closing operator between two borders.

    Args:
        points: [V, 3] metres.
        upper_faces, lower_faces: [f, 3] triangles above and below the seam.
        xs: [K] columns, metres; columns that miss a border are left out.
        reach: width of the smoothing kernel, metres.
        upper_share: part of the gap the upper border closes.
    """
    upper, uw = seam_columns(points, upper_faces, True, xs)
    lower, lw = seam_columns(points, lower_faces, False, xs)
    good = (uw.sum(1) > 0) & (lw.sum(1) > 0)
    upper, uw, lower, lw = upper[good], uw[good], lower[good], lw[good]
    rows, n = np.repeat(np.arange(len(upper)), 2), len(points)
    above = sp.csr_matrix((uw.ravel(), (rows, upper.ravel())), shape=(len(upper), n))
    below = sp.csr_matrix((lw.ravel(), (rows, lower.ravel())), shape=(len(upper), n))
    share = (upper_share, 1 - upper_share)
    spread = np.zeros((n, len(upper)))
    for rows_of, faces, part, sign in ((above, upper_faces, share[0], 1), (below, lower_faces, share[1], -1)):
        members = np.unique(faces)
        anchor = rows_of @ points
        kernel = _kernel(points[members], anchor, reach)
        # The ridge keeps neighbouring columns from fighting over one coarse edge.
        weights = rows_of[:, members] @ kernel + 1e-3 * np.eye(len(upper))
        spread[members] += sign * part * np.linalg.solve(weights.T, kernel.T).T
    moved = np.flatnonzero(np.abs(spread).max(1) > 1e-5)
    return Seam(moved, (above - below).tocsr(), spread[moved])


def _kernel(a: np.ndarray, b: np.ndarray, reach: float) -> np.ndarray:
    square = ((a[:, None] - b[None]) ** 2).sum(2) / reach**2
    return np.exp(-0.5 * square) * (square < 16)

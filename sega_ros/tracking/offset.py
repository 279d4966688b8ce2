"""A smooth displacement of the head's surface from displacements of some of its points.

Thin-plate-like energy on the mesh, so the lips do not pull each other through the air; a weak spring to zero lets the
field fade away from the landmarks.
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import factorized
from scipy.spatial import cKDTree

from sega_ros.head.mesh import loose_parts
from sega_ros.head.model import HeadModel
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.landmark_model import JAW
from sega_ros.tracking.topology import LEFT_IRIS, RIGHT_IRIS, landmark_weights
from sega_ros.types import Region

_FADE_M = 0.05  # distance over which the field fades
_SEAM_M = 0.0015  # vertices of the two lips this close belong together
_RIGID_REACH_M = 0.015  # neighbourhood whose mean moves an eyeball or a tooth


def solve_offset_field(
    head: HeadModel, embedding: LandmarkEmbedding, displacement: np.ndarray, *, tension: float = 1.0,
) -> np.ndarray:
    """Displacements [V, 3] of the template for `displacement` [478, 3] of its landmarks, metres.

    Eyeballs, teeth and other loose parts follow rigidly; vertices where closed lips meet move together.
    """
    skin, loose = loose_parts(head.faces, len(head.v_template))
    rows = np.flatnonzero(embedding.valid)
    rows = rows[~np.isin(rows, LEFT_IRIS + RIGHT_IRIS)]  # gaze and eyeball are not skin
    corners, n = head.faces[embedding.faces[rows]], len(head.v_template)
    data = sp.csr_matrix((embedding.barys[rows].ravel(), (np.repeat(np.arange(len(rows)), 3), corners.ravel())),
                         shape=(len(rows), n))
    weight = sp.diags(landmark_weights()[rows] / tension)
    laplacian, length = _laplacian(head, skin)
    # (d - mean of the neighbours) is h^2/4 times the Laplacian: one scale-free bending term per vertex. Its stiffness
    # sets how closely the landmarks are met; the spring follows from the distance over which the field shall fade.
    bending = 0.05 * laplacian.T @ laplacian
    spring = sp.diags(0.05 / 16 * np.minimum((length / _FADE_M) ** 4, 1.0) + 1e-9)
    seam = _seam(head)
    system = data.T @ weight @ data + bending + spring + 10.0 * seam.T @ seam
    right = data.T @ weight @ displacement[rows].astype(np.float64)
    members = np.flatnonzero(skin)
    solve = factorized(system.tocsc()[members][:, members])
    field = np.zeros((n, 3))
    field[members] = np.stack([solve(right[members, k]) for k in range(3)], 1)
    _follow(head, field, skin, loose)
    return field.astype(np.float32)


def _laplacian(head: HeadModel, skin: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Vertex minus mean of its neighbours [V, V] (weights 1 / edge length), and the mean edge length [V]."""
    n = len(head.v_template)
    faces = head.faces[skin[head.faces].all(1)]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(np.concatenate([edges, edges[:, ::-1]]), 1), axis=0)
    length = np.maximum(np.linalg.norm(head.v_template[edges[:, 0]] - head.v_template[edges[:, 1]], axis=1), 1e-5)
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    w = sp.csr_matrix((np.tile(1 / length, 2), (i, j)), shape=(n, n))
    total = np.asarray(w.sum(1)).ravel()
    mean_length = np.bincount(i, np.tile(length, 2), minlength=n) / np.maximum(np.bincount(i, minlength=n), 1)
    average = sp.diags(1 / np.maximum(total, 1e-12)) @ w
    return (sp.eye(n) - average).tocsr(), np.maximum(mean_length, 1e-5)


def _seam(head: HeadModel) -> sp.csr_matrix:
    """Rows that are zero when the two lips move alike where they touch."""
    jaw = head.weights[:, JAW]
    mouth = np.unique(head.faces[np.isin(head.face_region, (Region.MOUTH, Region.FACE))])
    upper, lower = mouth[jaw[mouth] < 0.35], mouth[jaw[mouth] > 0.65]
    n = len(head.v_template)
    if not len(upper) or not len(lower):
        return sp.csr_matrix((0, n))
    distance, nearest = cKDTree(head.v_template[upper]).query(head.v_template[lower])
    close = distance < _SEAM_M
    a, b = lower[close], upper[nearest[close]]
    k = np.arange(len(a))
    return sp.csr_matrix((np.r_[np.ones(len(a)), -np.ones(len(a))], (np.r_[k, k], np.r_[a, b])), shape=(len(a), n))


def _follow(head: HeadModel, field: np.ndarray, skin: np.ndarray, loose: list[np.ndarray]) -> None:
    """Move each loose part by the mean of the skin around it, the jaw's parts by the jaw's skin (in place)."""
    skin_index = np.flatnonzero(skin)
    tree = cKDTree(head.v_template[skin_index])
    for part in loose:
        of_jaw = head.weights[part, JAW].mean() > 0.5
        near = np.unique(np.concatenate(tree.query_ball_point(head.v_template[part], _RIGID_REACH_M)).astype(int))
        near = skin_index[near]
        same = near[(head.weights[near, JAW] > 0.5) == of_jaw]
        if len(same):
            field[part] = field[same].mean(0)

"""Colours for the parts of the head that the photo does not show: by symmetry, then smoothly; never from the background."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from sega_ros.head.model import HeadModel

# Light may differ this much between the sides of a face; beyond it the difference is a shadow's edge or a misfit.
_MAX_TONE = 0.12


def mirror_index(points: np.ndarray) -> np.ndarray:
    """Index [T] of the texel that lies nearest to each texel's mirror image; `points` [T, 3] on the mean head."""
    _, index = cKDTree(points).query(points * [-1, 1, 1])
    return index


class SurfaceFill:
    """Harmonic interpolation over a part of the mesh: smooth, and seamless where charts of the atlas meet."""

    def __init__(self, head: HeadModel, faces: np.ndarray, corners: np.ndarray, bary: np.ndarray):
        """Use the triangles `faces` [K] of `head`; texels have `corners` [T, 3] and `bary` [T, 3]."""
        triangles = head.faces[faces]
        i = np.concatenate([triangles[:, [0, 1, 2]].ravel(), triangles[:, [1, 2, 0]].ravel()])
        j = np.concatenate([triangles[:, [1, 2, 0]].ravel(), triangles[:, [0, 1, 2]].ravel()])
        n = len(head.v_template)
        length = np.linalg.norm(head.v_template[i] - head.v_template[j], axis=1)
        graph = sp.csr_matrix((1 / np.maximum(length, 1e-5) * 1e-3, (i, j)), shape=(n, n))
        self._laplacian = (sp.diags(np.asarray(graph.sum(1)).ravel()) - graph).tocsr()
        rows = np.repeat(np.arange(len(corners)), 3)
        self._sample = sp.csr_matrix((bary.ravel(), (rows, corners.ravel())), shape=(len(corners), n))

    def __call__(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Spread `values` [T, C] from the texels where `known` [T] bool over all texels: [T, C]."""
        if not known.any():
            return np.zeros_like(values)
        data = self._sample[known]
        system = (self._laplacian + data.T @ data + 1e-6 * sp.eye(self._laplacian.shape[0])).tocsc()
        # The tiny pull is towards the mean, which is what a part without any contact to known texels gets.
        mean = values[known].mean(0)
        vertices = splu(system).solve(np.asarray(data.T @ (values[known] - mean), np.float64)) + mean
        return (self._sample @ vertices).astype(values.dtype)


def fill_by_symmetry(values: np.ndarray, known: np.ndarray, mirror: np.ndarray, fill: SurfaceFill) -> np.ndarray:
    """Complete `values` [T, C]: known texels stay, others copy their mirror image, matched in tone, or are spread smoothly.

    Light falls from one side, so a mirrored patch is shifted by the smooth difference between the sides.
    """
    both = known & known[mirror]
    mirrored = np.where(known[mirror, None], values[mirror], 0)
    difference = fill(np.where(both[:, None], values - values[mirror], 0), both) if both.any() else np.zeros_like(values)
    smooth = fill(values, known)
    copied = mirrored + np.clip(difference, -_MAX_TONE, _MAX_TONE)
    out = np.where(known[:, None], values, np.where(known[mirror, None], copied, smooth))
    return np.clip(out, 0, 1).astype(np.float32)

"""Lid motion: the lids close over the eyeball, slide along it and meet, for every identity."""

from dataclasses import dataclass

import numpy as np

from sega_ros.head.mesh import arcs, edge_distances
from sega_ros.head.seams import Seam, build_seam

_CLEARANCE = 6e-4  # metres between the eyeball and the inner side of a closed lid
_OVERLAP = 1.6e-3  # metres the closed lids overlap, so that no eyeball shows between them
_REACH = 4e-3  # metres: width of the smooth correction that makes the lids meet
_UPPER_SHARE = 0.85  # of the way that the upper lid goes
N_COLUMNS = 31


@dataclass(frozen=True)
class EyelidMotion:
    """How one lid pair closes."""

    dirs: np.ndarray  # [V, 3] at closure 1
    arc: np.ndarray  # [V, 3] extra at closure 1/2
    seam: Seam  # keeps the closed lids together when the identity changes the opening

    def mirrored(self, mirror: np.ndarray) -> 'EyelidMotion':
        """Return the other eye's lids; `mirror` [V] is each vertex's twin."""
        flip = np.array([-1, 1, 1])
        seam = Seam(mirror[self.seam.vertices], self.seam.gap[:, mirror], self.seam.spread)
        return EyelidMotion(self.dirs[mirror] * flip, self.arc[mirror] * flip, seam)


def lid_fields(lids: tuple[EyelidMotion, EyelidMotion]) -> dict[str, np.ndarray]:
    """Return the lids' fields of a `HeadModel` from both eyes' motion."""
    vertices = np.unique(np.concatenate([lid.seam.vertices for lid in lids]))
    index, weight = np.zeros((2, N_COLUMNS, 4), np.int32), np.zeros((2, N_COLUMNS, 4), np.float32)
    spread = np.zeros((2, len(vertices), N_COLUMNS), np.float32)
    for side, lid in enumerate(lids):
        for k in range(lid.seam.gap.shape[0]):
            row = lid.seam.gap[k].tocoo()
            index[side, k, :row.nnz], weight[side, k, :row.nnz] = row.col, row.data
        spread[side, np.searchsorted(vertices, lid.seam.vertices), :lid.seam.gap.shape[0]] = lid.seam.spread
    return {
        'eyelid_dirs': np.stack([lid.dirs for lid in lids]).astype(np.float32),
        'eyelid_arc': np.stack([lid.arc for lid in lids]).astype(np.float32),
        'eyelid_vertices': vertices.astype(np.int32), 'eyelid_columns': index, 'eyelid_column_weights': weight,
        'eyelid_spread': spread,
    }


def eyelid_motion(
    template: np.ndarray, skin: np.ndarray, loop: np.ndarray, blink: np.ndarray, centre: np.ndarray, radius: float,
) -> EyelidMotion:
    """Motion of the lids of one eye.

    Args:
        template: [V, 3] metres.
        skin: [f, 3] triangles of the skin around.
        loop: border of the skin at the eye (vertices).
        blink: [V, 3] a first guess of the closing motion. Artists drew it for another face and eyeball, so the lids
            are lifted off this one and made to meet.
        centre, radius: the eyeball, metres.
    """
    way = edge_distances(template, skin, loop)
    near = way < 1.2 * radius
    movable = near & (np.linalg.norm(blink, axis=1) > 1e-5)
    faces = skin[near[skin].all(1)]
    upper = nearer_to_upper(template, faces, loop)
    closed = _lift(template + blink, movable, centre, radius + _CLEARANCE)
    x = template[loop, 0]
    xs = x.min() + (x.max() - x.min()) * np.linspace(0.04, 0.96, N_COLUMNS)
    for _ in range(4):  # lifting moves the border a little: meet again
        seam = build_seam(closed, faces[upper], faces[~upper], xs, reach=_REACH, upper_share=_UPPER_SHARE)
        closed[:, 1] = seam.close(closed[:, 1], overlap=_OVERLAP)
        closed = _lift(closed, near, centre, radius + _CLEARANCE)
    moved = closed - template
    moved[~near] = 0
    return EyelidMotion(moved, _arc(template, template + moved, centre, radius), seam)


def nearer_to_upper(points: np.ndarray, faces: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """[f] bool: triangles [f, 3] nearer to the upper than to the lower arc of an opening.

    Along the surface: through the air a lower lip is as near to the upper arc as to its own.
    """
    upper, lower = (edge_distances(points, faces, arc[1:-1]) for arc in arcs(points, loop))
    return (upper < lower)[faces].mean(1) > 0.5


def _lift(points, movable, centre, least) -> np.ndarray:
    """Push movable points out to a distance of `least` from the centre."""
    arm = points - centre
    distance = np.linalg.norm(arm, axis=1)
    inside = movable & (distance < least)
    lifted = points.copy()
    lifted[inside] = centre + arm[inside] * (least / distance[inside])[:, None]
    return lifted


def _arc(template, closed, centre, radius) -> np.ndarray:
    """Find what half-closed lids need to keep the distance from the eyeball that their ends have."""
    middle = (template + closed) / 2
    ends = (np.linalg.norm(template - centre, axis=1) + np.linalg.norm(closed - centre, axis=1)) / 2
    distance = np.linalg.norm(middle - centre, axis=1)
    moved = (np.linalg.norm(closed - template, axis=1) > 1e-5) & (distance < 1.5 * radius)
    lack = np.where(moved, np.maximum(ends - distance, 0), 0)
    return (middle - centre) / np.maximum(distance, 1e-9)[:, None] * lack[:, None]

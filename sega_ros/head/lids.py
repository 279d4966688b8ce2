"""Lid motion: closes over the eyeball, slides along it, and both lids meet."""

import numpy as np

from sega_ros.head import surface as sf
from sega_ros.head.seams import build_seam

_CLEARANCE = 3e-4  # metres between the eyeball and the inner side of a closed lid
_OVERLAP = 6e-4  # metres the closed lids overlap, so that no eyeball shows between them


def eyelid_motion(template: np.ndarray, surface: sf.Surface, blinks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lid displacements at closure 1 and the extra ones at closure 1/2: [2, V, 3] each, left and right.

    Args:
        template: [V, 3] metres.
        blinks: displacement [V, 3] of MakeHuman's blink for the left and the right eye; artists drew them for another
            eyeball, so the lids are lifted off ours and made to meet.
    """
    dirs, arcs = np.zeros((2, *template.shape)), np.zeros((2, *template.shape))
    for side, part in enumerate((sf.LEFT_EYE, sf.RIGHT_EYE)):
        centre, radius = sf.fit_sphere(template[surface.vertex_part == part])
        closed = _close(template, surface, blinks[side], centre, radius)
        dirs[side] = closed - template
        arcs[side] = _arc(template, closed, centre, radius)
    return dirs, arcs


def _close(template, surface, blink, centre, radius) -> np.ndarray:
    skin = surface.vertex_part == sf.SKIN
    near = skin & (np.linalg.norm(template - centre, axis=1) < 1.6 * radius)
    closed = template + blink
    members = near[surface.faces].all(1)
    moving = np.linalg.norm(blink, axis=1)
    upper = _upper_lid(template, surface.faces, members, centre)
    x = template[near & (moving > 0.1 * moving.max()), 0]
    xs = np.linspace(x.min(), x.max(), 33)
    seam = build_seam(closed, surface.faces[members & upper], surface.faces[members & ~upper], xs, reach=0.0025, upper_share=0.8)
    return _lift(closed, near & (moving > 1e-5), centre, radius + _CLEARANCE)


def _upper_lid(template, faces, members, centre) -> np.ndarray:
    return template[faces].mean(1)[:, 1] > centre[1]


def _lift(points, movable, centre, least) -> np.ndarray:
    """Push movable points out to a distance of `least` from the centre."""
    arm = points - centre
    distance = np.linalg.norm(arm, axis=1)
    inside = movable & (distance < least)
    lifted = points.copy()
    lifted[inside] = centre + arm[inside] * (least / distance[inside])[:, None]
    return lifted


def _arc(template, closed, centre, radius) -> np.ndarray:
    """What half-closed lids need to keep the distance from the eyeball that their ends have."""
    middle = (template + closed) / 2
    ends = (np.linalg.norm(template - centre, axis=1) + np.linalg.norm(closed - centre, axis=1)) / 2
    distance = np.linalg.norm(middle - centre, axis=1)
    moved = np.linalg.norm(closed - template, axis=1) > 1e-5
    lack = np.where(moved & (distance < 1.5 * radius), np.maximum(ends - distance, 0), 0)
    return (middle - centre) / distance[:, None] * lack[:, None]

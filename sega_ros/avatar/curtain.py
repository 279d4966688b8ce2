"""Hanging hair: below the ears it falls from the widest place of each side around the nape, not along the neck.

The hull (`avatar.hull`) follows the skull, which ends there. So each row of the photo below the ears gets an arc of its own:
straight back from the hair's outline, then a quarter of an ellipse to the middle of the nape, as deep as the hull. Camera frame
throughout.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from sega_ros.types import Camera

_MIN_WIDTH = 0.008  # metres of hair in a row that hang, less is a lone strand
_MIN_LENGTH = 0.02  # metres over which hair must hang
_INSET = 2.0  # crop pixels that the arc stays inside of the outline
_SMOOTH = 3.0  # rows


def hanging_arcs(
    hair: np.ndarray, color: np.ndarray, camera: Camera, middle: np.ndarray, ahead: float, depth: float, top: int, bottom: int,
    step: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [N, 3], outward normals [N, 3] and colours [N, 3] of hair that hangs beside the face; N is 0 where none does.

    Args:
        hair: [H, W] bool, pixels that show hair.
        color: [H, W, 3] their colours.
        camera: of the photo.
        middle: [3] centre of the skull, metres.
        ahead: metres by which the outline lies before it.
        depth: metres from there to the hair at the back of the head.
        top, bottom: first and last row of hair that may hang.
        step: crop pixels between points.
    """
    metre = float(middle[2] / camera.fx)
    centre = round(float(camera.cx + middle[0] / metre))
    rows = np.arange(max(top, 0), min(bottom, len(hair)), max(1, int(step)))
    parts = [_side(hair, color, rows, centre, sign, metre, ahead, depth, step) for sign in (-1, 1)]
    parts = [p for p in parts if p is not None]
    if not parts:
        return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), color.dtype)
    across, back, row, normals, colors = (np.concatenate(x) for x in zip(*parts, strict=True))
    points = np.stack([(centre + 0.5 - camera.cx) * metre + across, (row + 0.5 - camera.cy) * metre, middle[2] + back], -1)
    return points, normals, colors


def _side(hair, color, rows, centre, sign, metre, ahead, depth, step):
    """Arcs of one side: across, back (metres), row [N], normals [N, 3], colours [N, 3]; None where no hair hangs."""
    inner, outer = np.zeros(len(rows)), np.zeros(len(rows))
    found = np.zeros(len(rows), bool)
    width = hair.shape[1] - centre - 1 if sign > 0 else centre
    for k, row in enumerate(rows):
        line = hair[row, centre:centre + width] if sign > 0 else hair[row, centre:centre - width:-1]
        at = np.flatnonzero(line)
        if not len(at):
            continue
        gaps = np.flatnonzero(np.diff(at) > 4)
        first = at[gaps[-1] + 1] if len(gaps) else at[0]
        found[k], inner[k], outer[k] = (at[-1] - first) * metre > _MIN_WIDTH, first, at[-1]
    if found.sum() * max(1, int(step)) * metre < _MIN_LENGTH:
        return None
    last = np.flatnonzero(found)[-1] + 1
    rows, found = rows[:last], found[:last]
    at = np.arange(last)
    inner, outer = (gaussian_filter1d(np.interp(at, at[found], x[:last][found]), _SMOOTH, mode='nearest') for x in (inner, outer))
    out = []
    for row, start, end in zip(rows, inner, outer, strict=True):
        wide = max((end - _INSET) * metre, 0.02)
        count = max(4, int(0.25 * np.pi * (wide + depth) / (step * metre)))
        angle = (np.arange(count) + 0.5 * (row % 2)) / count * np.pi / 2
        level = np.arange(-ahead, 0, step * metre)  # straight back at first
        across, back = np.r_[np.full(len(level), wide), wide * np.cos(angle)], np.r_[level, depth * np.sin(angle)]
        angle = np.r_[0 * level, angle]
        normal = np.stack([sign * np.cos(angle) / wide, np.zeros(len(angle)), np.sin(angle) / depth], -1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        along = np.r_[0, np.cumsum(np.hypot(np.diff(across), np.diff(back)))]
        span = max((end - start) * metre - 2 * _INSET * metre, 2 * metre)
        turned = span - np.abs(along % (2 * span) - span)  # from the outline inwards and back again
        column = np.clip(centre + sign * (end - _INSET - turned / metre), 0, hair.shape[1] - 1).astype(int)
        out.append((sign * across, back, np.full(len(angle), float(row)), normal, color[row, column]))
    return tuple(np.concatenate(x) for x in zip(*out, strict=True))

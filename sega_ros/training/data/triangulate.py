"""Points in space from calibrated views, and the motion that brings one set of points onto another."""

from dataclasses import dataclass

import numpy as np

from sega_ros.camera import project
from sega_ros.types import Camera

_ROBUST_PX = 3.0  # px of a 1000 px wide picture with focal length 2000: larger errors lose weight
_ROUNDS = 3
_MIN_ANGLE = np.radians(4.0)  # between the outermost rays, or depth is a guess


@dataclass(frozen=True)
class Triangulation:
    """Points in space."""

    points: np.ndarray  # [P, 3] world
    weights: np.ndarray  # [P] how many views carry each; 0 where there is no point


def triangulate(pixels: np.ndarray, weights: np.ndarray, cameras: list[Camera]) -> Triangulation:
    """Points nearest to their rays, robustly.

    Args:
        pixels: [C, P, 2] x, y in each of the cameras.
        weights: [C, P] trust; 0 where a camera does not see a point.
        cameras: C of them, with world-to-camera viewmats.
    """
    centres = np.stack([-c.viewmat[:3, :3].T @ c.viewmat[:3, 3] for c in cameras]).astype(np.float64)  # [C, 3]
    rays = np.stack([_rays(p, c) for p, c in zip(pixels, cameras, strict=True)])  # [C, P, 3]
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]  # [C, P, 3, 3]
    used = weights.astype(np.float64)
    points = np.zeros(rays.shape[1:])
    for _ in range(_ROUNDS):
        system = np.einsum('cp,cpij->pij', used, across)
        right = np.einsum('cp,cpij,cj->pi', used, across, centres)
        # Weakly towards the middle of what the cameras surround, so that unseen points stay finite.
        points = np.linalg.solve(system + 1e-9 * np.eye(3), right[..., None])[..., 0]
        used = weights / (1 + np.square(_errors(points, pixels, cameras) / _ROBUST_PX))
    count = (used > 0.05).sum(0)
    return Triangulation(points, np.where((count >= 2) & (_widest(rays, used > 0.05) > _MIN_ANGLE), used.sum(0), 0.0))


def rigid_motion(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3], translation [3] and scale with target = scale * rotation @ source + translation, least squares.

    Umeyama's closed form; `weights` [P]. The translation belongs to the scaled motion.
    """
    w = weights / weights.sum()
    a, b = w @ source, w @ target
    u, d, vt = np.linalg.svd((target - b).T @ ((source - a) * w[:, None]))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = float((d * sign).sum() / (w @ np.square(source - a).sum(1)))
    return rotation, b - scale * rotation @ a, scale


def rigid_pose(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rigid motion [4, 4] that takes `source` [P, 3] nearest to `target`, without scale."""
    rotation, _, _ = rigid_motion(source, target, weights)
    w = weights / weights.sum()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, w @ target - rotation @ (w @ source)
    return pose


def _rays(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """Unit directions [P, 3] in the world."""
    xy = (pixels - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    rays = np.concatenate([xy, np.ones_like(xy[:, :1])], 1) @ camera.viewmat[:3, :3].astype(np.float64)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _errors(points: np.ndarray, pixels: np.ndarray, cameras: list[Camera]) -> np.ndarray:
    """Reprojection errors [C, P], px at a focal length of 2000."""
    errors = []
    for seen, camera in zip(pixels, cameras, strict=True):
        xy, depth = project(points, camera)
        errors.append(np.where(depth > 0, np.linalg.norm(xy - seen, axis=1) * 2000 / camera.fx, 1e6))
    return np.nan_to_num(np.stack(errors), nan=1e6, posinf=1e6)


def _widest(rays: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Largest angle [P] between two used rays."""
    cosine = np.einsum('cpi,dpi->cdp', rays, rays)
    cosine = np.where(used[:, None] & used[None], cosine, 1.0)
    return np.arccos(np.clip(cosine.min((0, 1)), -1, 1))

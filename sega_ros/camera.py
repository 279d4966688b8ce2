"""Pinhole cameras around a head: projection, and the cameras that the views and the tests use."""


import numpy as np

from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.types import Camera

# Takes head coordinates (y up, z out of the face) to a frontal camera's (y down, z forward).
FRONTAL = np.diag([1.0, -1.0, -1.0]).astype(np.float32)


def pose_to_viewmat(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Viewmat [4, 4] of a head pose: rotation [3, 3] and translation [3] (metres), head to camera."""
    viewmat = np.eye(4, dtype=np.float32)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, translation
    return viewmat


def pose_camera(rotation: np.ndarray, translation: np.ndarray, focal_length: float, size: tuple[int, int]) -> Camera:
    """Camera of `size` (H, W) that sees the head at this pose; `focal_length` is over the width, the centre is the image's."""
    height, width = size
    focal = float(focal_length) * width
    return Camera(width, height, focal, focal, width / 2, height / 2, pose_to_viewmat(rotation, translation))


def orbit_camera(
    *, yaw: float = 0.0, pitch: float = 0.0, distance: float = 1.0, size: tuple[int, int] = (512, 512),
    focal_length: float = 2.0, target: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Camera:
    """Camera on a sphere around `target` (head frame, metres), looking at it, up kept up.

    `yaw` > 0 moves the camera to the subject's left (the picture shows more of that cheek), `pitch` > 0 moves it up;
    radians. `focal_length` is over the image width.
    """
    turn = rotvec_to_rotmat(np.array([pitch, 0.0, 0.0])) @ rotvec_to_rotmat(np.array([0.0, -yaw, 0.0]))
    rotation = FRONTAL @ turn
    translation = np.array([0.0, 0.0, distance]) - rotation @ np.asarray(target, np.float64)
    return pose_camera(rotation, translation, focal_length, size)


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Project head-frame points [..., 3]: pixels [..., 2] (x, y) and depth [...] in metres (camera z)."""
    p = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    z = p[..., 2]
    xy = p[..., :2] / z[..., None] * np.array([camera.fx, camera.fy]) + np.array([camera.cx, camera.cy])
    return xy, z


def unproject(pixels: np.ndarray, depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Head-frame points [..., 3] of pixels [..., 2] (x, y) at camera depth [...] in metres."""
    xy = (pixels - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    p = np.concatenate([xy, np.ones_like(xy[..., :1])], -1) * np.asarray(depth)[..., None]
    return (p - camera.viewmat[:3, 3]) @ camera.viewmat[:3, :3]

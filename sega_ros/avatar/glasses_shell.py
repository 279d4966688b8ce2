"""Geometry of glasses: rims and bridge on a bent front before the eyes, temples back to the ears; splats, rigid with the head."""

import numpy as np

from sega_ros.avatar.glasses import Glasses, remove_glasses
from sega_ros.avatar.photo import Photo
from sega_ros.avatar.shell import LAYERS, frames_to_shell, hexagonal_grid, join_shells, layered
from sega_ros.avatar.texture import mesh_buffer
from sega_ros.camera import unproject
from sega_ros.head.model import HeadModel
from sega_ros.raster import TriangleBuffer
from sega_ros.types import Camera, Region, Shell

_ALWAYS = (-3.0, -2.0)  # fade of splats that are seen from both sides
_WRAP = 1.6  # 1/metres: how much the front bends around the face
_AHEAD = (0.012, 0.018)  # metres from the eyeballs' front to the frame, least and most
_CLEARANCE = 0.0015  # metres between frame and skin
_STEP = 1.5  # crop pixels between splats; finer ones would thicken the rims where pictures are small
_TEMPLE = (0.0015, 0.004)  # metres, least and most height of a temple


def glasses_shell(glasses: Glasses, photo: Photo, vertices: np.ndarray, camera: Camera, head: HeadModel) -> Shell:
    """Make the frame's splats, rigid with the head.

    Args:
        glasses: of `find_glasses`.
        photo: the photo with the glasses on it.
        vertices: [V, 3] mesh at the photo's pose, head frame.
        camera: of the photo's crop.
        head: head model.
    """
    buffer = mesh_buffer(head, vertices, camera)
    height = _front_height(glasses, vertices, head, buffer)
    hinges = _on_front(glasses.hinges, height, camera)
    front = _front(glasses, photo, height, camera, buffer)
    thick = float(np.clip(_rim_width(glasses.front, front) * _depth(hinges[0], camera) / camera.fx, *_TEMPLE))
    temples = [_temple(hinge, vertices, head, glasses.color, camera, thick) for hinge in hinges]
    return join_shells([front, *temples])


def _depth(point: np.ndarray, camera: Camera) -> float:
    return float(camera.viewmat[2, :3] @ point + camera.viewmat[2, 3])


def _rim_width(mask: np.ndarray, front: Shell) -> float:
    """Width of the rims in crop pixels: how much of the mask they cover over the length of its middle line."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(c, closed=True) for c in contours) / 2
    cover = 1 - (1 - front.splats.opacities.numpy()) ** LAYERS
    return float(cover.mean() * mask.sum() / max(length, 1.0))


def _front_height(glasses: Glasses, vertices: np.ndarray, head: HeadModel, buffer: TriangleBuffer) -> float:
    """Z (head frame, metres) of the front where x is 0; it bends back by _WRAP x^2."""
    eyes = vertices[np.unique(head.faces[head.face_region == Region.EYES])]
    ball = float(np.quantile(eyes[:, 2] + _WRAP * eyes[:, 0] ** 2, 0.98))
    skin = buffer.interpolate(vertices, head.faces)[glasses.front]
    beside = (buffer.face[glasses.front] >= 0) & (np.abs(skin[:, 0]) > 0.015)
    behind = skin[beside, 2] + _WRAP * skin[beside, 0] ** 2
    wanted = float(np.quantile(behind, 0.9)) + _CLEARANCE if len(behind) else ball
    return float(np.clip(wanted, ball + _AHEAD[0], ball + _AHEAD[1]))


def _on_front(pixels: np.ndarray, height: float, camera: Camera) -> np.ndarray:
    """Points [n, 3] (head frame) where the rays of `pixels` [n, 2] meet the bent front."""
    eye = -camera.viewmat[:3, :3].T.astype(np.float64) @ camera.viewmat[:3, 3]
    ray = unproject(np.asarray(pixels, np.float64), np.ones(len(pixels)), camera) - eye
    points = eye + ray * ((height - eye[2]) / ray[:, 2])[:, None]
    for _ in range(4):  # the bend is slight: each round leaves a tenth of the error
        points = eye + ray * ((height - _WRAP * points[:, :1] ** 2 - eye[2]) / ray[:, 2:])
    return points


def _front(glasses: Glasses, photo: Photo, height: float, camera: Camera, buffer: TriangleBuffer) -> Shell:
    """Splats of rims and bridge, one per _STEP pixels, before the skin wherever that reaches farther than the front."""
    rows, cols = hexagonal_grid(glasses.front, _STEP)
    points = _on_front(np.stack([cols + 0.5, rows + 0.5], -1), height, camera)
    rotation, translation = camera.viewmat[:3, :3].astype(np.float64), camera.viewmat[:3, 3].astype(np.float64)
    depth = (points @ rotation.T + translation)[:, 2]
    depth = np.minimum(depth, buffer.depth[rows, cols] - _CLEARANCE)
    points = unproject(np.stack([cols + 0.5, rows + 0.5], -1).astype(np.float64), depth, camera)
    normal = np.stack([2 * _WRAP * points[:, 0], np.zeros(len(points)), np.ones(len(points))], -1)
    spacing = 0.62 * _STEP * depth / camera.fx
    color, cover = _unmixed(photo, remove_glasses(photo, glasses), rows, cols)
    frames, scales = _frames(normal @ rotation.T, rotation @ [0.0, 1.0, 0.0]), np.stack([spacing, spacing, 0.5 * spacing], -1)
    return frames_to_shell(points, frames, scales, layered(0.97 * cover), color, np.zeros(len(points)), _ALWAYS, camera)


def _unmixed(photo: Photo, bare: Photo, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour [n, 3] and opacity [n] of the frame's pixels: along its edges they are skin in part."""
    skin, seen = bare.image[rows, cols], photo.image[rows, cols]
    away = np.linalg.norm(seen - skin, axis=-1)
    cover = np.clip(away / max(float(np.quantile(away, 0.93)) if len(away) else 1.0, 1e-3), 0.02, 1)
    return np.clip(skin + (seen - skin) / cover[:, None], 0, 1), cover


def _frames(normal: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Rotations [n, 3, 3] whose columns are two tangents and the unit normals, given normals [n, 3] and a direction [3]."""
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    first = np.cross(np.broadcast_to(up, normal.shape), normal)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(normal, first), normal], -1)


def _temple(hinge: np.ndarray, vertices: np.ndarray, head: HeadModel, color: np.ndarray, camera: Camera, thick: float) -> Shell:
    """Splats of a band `thick` metres high from `hinge` [3] (head frame) back to the ear, outside of the skin."""
    side = np.sign(hinge[0])
    path = temple_path(hinge, vertices, head)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.array([0.0, 1.0, 0.0]) - along[:, 1:2] * along
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    normal = np.cross(along, across)
    normal *= side * np.sign(normal[:, :1])
    spread = thick / 3 * np.arange(-1, 2)
    points = (path[:, None] + spread[:, None] * across[:, None]).reshape(-1, 3)
    step = float(np.linalg.norm(np.diff(path, axis=0), axis=1).mean())
    rotation = camera.viewmat[:3, :3].astype(np.float64)
    frame = np.repeat(np.stack([along, np.cross(normal, along), normal], -1), 3, 0)
    scales = np.tile([0.75 * step, 0.2 * thick, 0.15 * thick], (len(points), 1))
    count = len(points)
    return frames_to_shell(points, rotation @ frame, scales, np.full(count, 0.95), np.tile(color, (count, 1)), np.zeros(count),
                     _ALWAYS, camera)


def temple_path(hinge: np.ndarray, vertices: np.ndarray, head: HeadModel) -> np.ndarray:
    """Points [n, 3] from `hinge` [3] to the top of the ear on its side and a little down behind it; metres, head frame."""
    side = np.sign(hinge[0])
    ears = vertices[np.unique(head.faces[head.face_region == Region.EARS])]
    ear = ears[ears[:, 0] * side > 0]
    top = ear[ear[:, 1].argmax()]
    end = np.array([abs(hinge[0]), top[1] - 0.002, top[2]])
    share = np.linspace(0, 1, 60)[:, None]
    path = np.array([abs(hinge[0]), hinge[1], hinge[2]]) * (1 - share) + end * share
    skin = vertices[np.unique(head.faces[np.isin(head.face_region, (Region.FACE, Region.SCALP))])]
    skin = skin[skin[:, 0] * side > 0]
    for point in path:
        near = skin[np.linalg.norm(skin[:, 1:] - point[1:], axis=1) < 0.008]
        point[0] = max(point[0], np.abs(near[:, 0]).max(initial=0.0) + 0.0025)
    path[:, 0] = np.maximum.accumulate(path[:, 0])
    hook = path[-1] + np.array([-0.004, -0.012, -0.014]) * np.linspace(0, 1, 9)[1:, None] ** [2, 1.5, 1]
    return np.concatenate([path, hook]) * [side, 1, 1]

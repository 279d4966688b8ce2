"""What every calibrated source delivers: one moment of one person, seen by several cameras."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from sega_ros.errors import DatasetError
from sega_ros.types import Camera

MAX_SIDE = 1100  # px: shots need no more, and 12 moments of 16 cameras stay under half a gigabyte
_MAX_JSON = 16 * 1024 * 1024
_ORTHONORMAL = 1e-2  # written with few digits, a rotation is still one


@dataclass(frozen=True)
class View:
    """One picture of one calibrated camera."""

    name: str  # of the camera
    image: np.ndarray  # [H, W, 3] uint8 RGB
    alpha: np.ndarray | None  # [H, W] uint8 matte that came with the data, or None
    camera: Camera  # its viewmat takes world coordinates (metres) to the camera's


@dataclass(frozen=True)
class Frame:
    """One moment."""

    name: str
    views: tuple[View, ...]


class Source(Protocol):
    """A data set of calibrated people."""

    def people(self) -> list[str]:
        """Names of all people in it."""

    def frames(self, person: str, count: int) -> Iterator[Frame]:
        """At most `count` moments of a person, spread over what there is."""


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted; none where there is no such folder."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def shrink(image: np.ndarray, alpha: np.ndarray | None, camera: Camera, max_side: int) -> tuple:
    """Scale a picture, its matte and its camera down to at most `max_side` px a side, whole pixels."""
    import cv2

    height, width = image.shape[:2]
    if max(height, width) <= max_side:
        return image, alpha, camera
    share = max_side / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if alpha is not None:
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    return image, alpha, scaled_camera(camera, size[0], size[1])


def scaled_camera(camera: Camera, width: int, height: int) -> Camera:
    """Camera of the same picture at another size; pixel centres lie at half integers, so everything scales."""
    x, y = width / camera.width, height / camera.height
    return replace(camera, width=width, height=height, fx=camera.fx * x, cx=camera.cx * x, fy=camera.fy * y, cy=camera.cy * y)


def spread(total: int, count: int) -> list[int]:
    """At most `count` indices spread evenly over `total`, the first one included."""
    if count < 1:
        raise DatasetError(f'frames: wanted at least 1 a person, found {count}')
    return sorted({int(i) for i in np.linspace(0, total - 1, min(count, total)).round()}) if total else []


def read_json(path: Path, *, wanted: str) -> dict:
    """Read a JSON object.

    Raises:
        DatasetError: no such file, too long, or no JSON object; `wanted` says what should be there.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_JSON:
            raise DatasetError(f'{path}: found {size} bytes, wanted {wanted} (at most {_MAX_JSON} bytes)')
        value = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as e:
        raise DatasetError(f'{path}: no such file; wanted {wanted}') from e
    except (OSError, ValueError, RecursionError) as e:
        raise DatasetError(f'{path}: cannot be read as JSON ({e}); wanted {wanted}') from e
    if not isinstance(value, dict):
        raise DatasetError(f'{path}: found a {type(value).__name__}, wanted {wanted}')
    return value


def read_matrix(value, size: int, *, name: str) -> np.ndarray:
    """Check a matrix [size, size] of finite numbers from a JSON file.

    Raises:
        DatasetError: something else.
    """
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError) as e:
        raise DatasetError(f'{name}: wanted {size}x{size} numbers, found {str(value)[:60]}') from e
    if matrix.shape != (size, size) or not np.isfinite(matrix).all():
        raise DatasetError(f'{name}: wanted {size}x{size} finite numbers, found shape {list(matrix.shape)}')
    return matrix


def check_pose(viewmat: np.ndarray, *, name: str) -> np.ndarray:
    """Return `viewmat` [4, 4] as float32 if it is a rigid motion.

    Raises:
        DatasetError: it scales, mirrors or shears.
    """
    rotation = viewmat[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > _ORTHONORMAL or np.linalg.det(rotation) < 0 or np.abs(viewmat[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise DatasetError(f'{name}: wanted a rigid motion, world to camera (OpenCV axes, metres), found rotation part off by '
                           f'{off:.2g}, determinant {np.linalg.det(rotation):.2g}, last row {viewmat[3].tolist()}')
    return viewmat.astype(np.float32)


def check_intrinsics(K: np.ndarray, *, name: str) -> np.ndarray:
    """Return `K` [3, 3] if it is a pinhole camera's without skew.

    Raises:
        DatasetError: it is not.
    """
    if K[0, 0] <= 0 or K[1, 1] <= 0 or abs(K[0, 1]) > 1e-3 * K[0, 0] or np.abs(K[2] - [0, 0, 1]).max() > 1e-6 or K[1, 0] != 0:
        raise DatasetError(f'{name}: wanted [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, found {K.round(3).tolist()}')
    return K

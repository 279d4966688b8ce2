"""Any calibrated multi-view recording, brought into one plain layout.

::

    ROOT/PERSON/cameras.json             {"cameras": {"NAME": {"K": 3x3, "world_to_camera": 4x4, "width": W, "height": H}}}
    ROOT/PERSON/images/FRAME/NAME.png    or .jpg, .jpeg: RGB, upright, undistorted, W x H pixels
    ROOT/PERSON/mattes/FRAME/NAME.png    optional: grey, 255 where the person is

`world_to_camera` is OpenCV's (x right, y down, z forward), metres; `K` is in pixels, pixel centres at half integers. A camera
may lack a frame's picture, but every frame needs one from some camera. ROOT may also be one person's folder itself.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sega_ros.errors import DatasetError, ImageError
from sega_ros.io import read_image
from sega_ros.training.data.views import (
    MAX_SIDE,
    Frame,
    View,
    check_intrinsics,
    check_pose,
    read_json,
    read_matrix,
    shrink,
    spread,
    subfolders,
)
from sega_ros.types import Camera

_CAMERAS = 'cameras.json'
_WANTED = '{"cameras": {NAME: {"K": 3x3, "world_to_camera": 4x4, "width": W, "height": H}}}'
_SUFFIXES = '.png', '.jpg', '.jpeg'


class MultiviewSource:
    """People in the plain layout above; see `views.Source`."""

    def __init__(self, root: Path | str, *, max_side: int = MAX_SIDE) -> None:
        """Look for people; pictures are read later and scaled down to `max_side` px.

        Raises:
            DatasetError: no such folder, or nobody in it.
        """
        self.root, self.max_side = Path(root), max_side
        if not self.root.is_dir():
            raise DatasetError(f'{self.root}: no such folder; wanted one with PERSON/{_CAMERAS}')
        if (self.root / _CAMERAS).is_file():
            self._folders = {self.root.resolve().name: self.root}
        else:
            people = [p for p in sorted(self.root.iterdir()) if (p / 'images').is_dir() or (p / _CAMERAS).is_file()]
            self._folders = {p.name: p for p in people}
        if not self._folders:
            raise DatasetError(f'{self.root}: nobody found; wanted PERSON/{_CAMERAS} and PERSON/images/FRAME/CAMERA.png')

    def people(self) -> list[str]:
        """Names of the people."""
        return list(self._folders)

    def cameras(self, person: str) -> dict[str, Camera]:
        """Cameras of a person by name.

        Raises:
            DatasetError: unknown person; no, or wrong, calibration.
        """
        path = self._folder(person) / _CAMERAS
        cameras = read_json(path, wanted=_WANTED).get('cameras')
        if not isinstance(cameras, dict) or not cameras:
            raise DatasetError(f'{path}: person {person}: no cameras in it; wanted {_WANTED}')
        if bad := [name for name in cameras if Path(name).name != name]:
            raise DatasetError(f'{path}: person {person}: camera {bad[0][:60]!r}: wanted a plain file name without folders')
        return {name: _camera(entry, f'{path}: person {person}, camera {name}') for name, entry in cameras.items()}

    def frame_names(self, person: str) -> list[str]:
        """Names of a person's frames, sorted.

        Raises:
            DatasetError: there are none.
        """
        images = self._folder(person) / 'images'
        names = subfolders(images)
        if not names:
            raise DatasetError(f'{images}: person {person}: no frames; wanted images/FRAME/CAMERA.png')
        return names

    def frames(self, person: str, count: int) -> Iterator[Frame]:
        """At most `count` frames, spread over the recording.

        Raises:
            DatasetError: calibration, frames or pictures are missing or do not fit together.
        """
        cameras, names = self.cameras(person), self.frame_names(person)
        for index in spread(len(names), count):
            yield self._frame(person, names[index], cameras)

    def _frame(self, person: str, frame: str, cameras: dict[str, Camera]) -> Frame:
        folder = self._folder(person)
        views = []
        for name, camera in cameras.items():
            path = _picture(folder / 'images' / frame, name)
            if path is None:
                continue
            image = _read(path, camera, f'person {person}, frame {frame}, camera {name}')
            matte = _picture(folder / 'mattes' / frame, name)
            alpha = None
            if matte is not None:
                alpha = _read(matte, camera, f'person {person}, frame {frame}, camera {name}, matte')[..., 0]
            views.append(View(name, *shrink(image, alpha, camera, self.max_side)))
        if not views:
            raise DatasetError(f'{folder / "images" / frame}: person {person}, frame {frame}: no picture of any camera; wanted '
                               f'CAMERA.png with CAMERA one of {", ".join(list(cameras)[:8])}')
        return Frame(frame, tuple(views))

    def _folder(self, person: str) -> Path:
        if person not in self._folders:
            raise DatasetError(f'{self.root}: person {person!r} is not there; found {", ".join(list(self._folders)[:8])}')
        return self._folders[person]


def _camera(entry, name: str) -> Camera:
    missing = [k for k in ('K', 'world_to_camera', 'width', 'height') if not isinstance(entry, dict) or k not in entry]
    if missing:
        raise DatasetError(f'{name}: lacks {", ".join(missing)}; wanted {_WANTED}')
    K = check_intrinsics(read_matrix(entry['K'], 3, name=f'{name}, K'), name=f'{name}, K')
    name = f'{name}, world_to_camera'
    pose = check_pose(read_matrix(entry['world_to_camera'], 4, name=name), name=name)
    width, height = entry['width'], entry['height']
    if any(type(n) is not int or not 1 <= n <= 16384 for n in (width, height)):
        raise DatasetError(f'{name}: width and height: wanted whole pixels from 1 to 16384, found {width!r} and {height!r}')
    return Camera(width, height, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), pose)


def _picture(folder: Path, camera: str) -> Path | None:
    paths = [folder / f'{camera}{suffix}' for suffix in _SUFFIXES]
    return next((p for p in paths if p.is_file()), None)


def _read(path: Path, camera: Camera, name: str) -> np.ndarray:
    try:
        image = read_image(path)
    except ImageError as e:
        raise DatasetError(f'{name}: {e}') from e
    if image.shape[:2] != (camera.height, camera.width):
        raise DatasetError(f'{path}: {name}: found {image.shape[1]} x {image.shape[0]} px, its calibration says '
                           f'{camera.width} x {camera.height}; give pictures and calibration of one size')
    return image

"""NeRSemble v2, as its own download script lays it out.

::

    ROOT/017/calibration/camera_params.json        {"world_2_cam": {SERIAL: 4x4}, "intrinsics": 3x3}
    ROOT/017/calibration/color_calibration.json    {SERIAL: 3 x terms}, optional
    ROOT/017/sequences/EMO-1-shout+laugh/images/cam_222200037.mp4
    ROOT/017/sequences/EMO-1-shout+laugh/alpha_maps/cam_222200037.mp4    optional: benchmark only

`world_2_cam` is OpenCV's, metres. The intrinsics, shared by all cameras, are for the full pictures of 2200 x 3208 px (W x H);
the benchmark's are per serial (`{SERIAL: 3x3}`) and for the size of its clips. Sources: github.com/tobias-kirschstein/
nersemble-data (constants.py, data/nersemble_data.py, README 4.2) and nersemble-benchmark (constants.py, data/benchmark_data.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import CameraError, DatasetError, ImageError
from sega_ros.io import VideoReader
from sega_ros.training.data.clips import read_frames
from sega_ros.training.data.color import check_color_matrix, correct_color
from sega_ros.training.data.views import (
    MAX_SIDE,
    Frame,
    View,
    check_intrinsics,
    check_pose,
    read_json,
    read_matrix,
    scaled_camera,
    shrink,
    spread,
    subfolders,
)
from sega_ros.types import Camera

FULL_SIZE = 3208, 2200  # (H, W) of the pictures that the shared intrinsics are for
SERIALS = (
    '222200042', '222200044', '222200046', '222200040', '222200036', '222200048', '220700191', '222200041',
    '222200037', '222200038', '222200047', '222200043', '222200049', '222200039', '222200045', '221501007')
# The person's face is not what these show.
_SKIPPED = 'BACKGROUND', 'GLASSES', 'HAIR'
_PERSON, _CLIP = re.compile(r'\d{3,}'), re.compile(r'cam_([A-Za-z0-9]+)\.mp4')
_WANTED = '{"world_2_cam": {SERIAL: 4x4}, "intrinsics": 3x3 (or {SERIAL: 3x3})}'
_FETCH = 'fetch it again with "nersemble-data download"'
_ASPECT = 0.02  # by which a clip's shape may differ from the calibrated picture's


@dataclass(frozen=True)
class Calibration:
    """What is known of a participant's cameras."""

    viewmats: dict[str, np.ndarray]  # serial -> [4, 4] world to camera, metres
    Ks: dict[str, np.ndarray]  # serial -> [3, 3] pixels
    colors: dict[str, np.ndarray]  # serial -> [3, terms]; empty without colour calibration


class NersembleSource:
    """Participants of a local NeRSemble v2 folder; see `views.Source`.

    Args:
        root: the folder given to `nersemble-data download` (or a benchmark's, e.g. `.../nvs`).
        max_side: pictures are scaled down to it when they are decoded.
        color: apply the colour calibration where there is one.
    """

    def __init__(self, root: Path | str, *, max_side: int = MAX_SIDE, color: bool = True) -> None:
        """Look for participants.

        Raises:
            DatasetError: no such folder, or no participant in it.
        """
        self.root, self.max_side, self.color = Path(root), max_side, color
        if not self.root.is_dir():
            raise DatasetError(f'{self.root}: no such folder; wanted a NeRSemble folder with 017/calibration and 017/sequences')
        self._people = [name for name in subfolders(self.root) if _PERSON.fullmatch(name)]
        if not self._people:
            raise DatasetError(f'{self.root}: no participant in it; wanted folders named 017, 018, ... as '
                               '"nersemble-data download" makes them')

    def people(self) -> list[str]:
        """Participants, as three digits."""
        return list(self._people)

    def sequences(self, person: str) -> list[str]:
        """Sequences of a participant that are on the disk, sorted.

        Raises:
            DatasetError: there is none.
        """
        folder = self._folder(person) / 'sequences'
        names = subfolders(folder)
        if not names:
            raise DatasetError(f'{folder}: participant {person}: no sequences; wanted sequences/NAME/images/cam_SERIAL.mp4; '
                               f'{_FETCH}')
        return names

    def cameras(self, person: str, sequence: str) -> list[str]:
        """Serials of the cameras whose clips are on the disk, sorted.

        Raises:
            DatasetError: the sequence or its clips are missing.
        """
        folder = self._folder(person) / 'sequences' / sequence / 'images'
        if not folder.is_dir():
            raise DatasetError(f'{folder}: participant {person}, sequence {sequence}: no such folder; wanted '
                               f'images/cam_SERIAL.mp4; {_FETCH}')
        serials = sorted(m[1] for p in folder.iterdir() if (m := _CLIP.fullmatch(p.name)))
        if not serials:
            raise DatasetError(f'{folder}: participant {person}, sequence {sequence}: no clips; wanted cam_SERIAL.mp4 with '
                               f'SERIAL one of {", ".join(SERIALS[:3])}, ...; {_FETCH}')
        return serials

    def calibration(self, person: str) -> Calibration:
        """Calibration of a participant's cameras.

        Raises:
            DatasetError: missing, or with numbers that are no calibration.
        """
        folder = self._folder(person) / 'calibration'
        path = folder / 'camera_params.json'
        raw = read_json(path, wanted=f'the calibration of participant {person}, {_WANTED}; {_FETCH}')
        poses, intrinsics = raw.get('world_2_cam'), raw.get('intrinsics')
        if not isinstance(poses, dict) or not poses or intrinsics is None:
            raise DatasetError(f'{path}: participant {person}: found the keys {sorted(raw)[:6]}, wanted {_WANTED}; {_FETCH}')
        name = f'{path}: participant {person}, camera'
        viewmats = {s: check_pose(read_matrix(m, 4, name=f'{name} {s}, world_2_cam'), name=f'{name} {s}, world_2_cam')
                    for s, m in poses.items()}
        Ks = {}
        for serial in viewmats:
            matrix = intrinsics.get(serial) if isinstance(intrinsics, dict) else intrinsics
            label = f'{name} {serial}, intrinsics'
            Ks[serial] = check_intrinsics(read_matrix(matrix, 3, name=label), name=label)
        return Calibration(viewmats, Ks, self._colors(folder / 'color_calibration.json', person))

    def frame_count(self, person: str, sequence: str) -> int:
        """Number of frames of the shortest clip of a sequence, as the clips' headers state it.

        Raises:
            DatasetError: no clips, or one that can't be opened.
        """
        counts = []
        for serial in self.cameras(person, sequence):
            with self._open('images', person, sequence, serial) as clip:
                counts.append(clip.frame_count or 1)
        return min(counts)

    def load(self, person: str, sequence: str, indices: list[int]) -> list[Frame]:
        """Frames `indices` (ascending) of a sequence, seen by all cameras whose clips are there.

        Raises:
            DatasetError: a camera without calibration, a clip that is damaged, too short or of another shape.
        """
        calibration = self.calibration(person)
        views: list[list[View]] = [[] for _ in indices]
        for serial in self.cameras(person, sequence):
            where = _where(person, sequence, serial)
            if serial not in calibration.viewmats:
                raise DatasetError(f'{self._folder(person)}/calibration/camera_params.json: {where}: is not in it; found '
                                   f'{", ".join(list(calibration.viewmats)[:16])}; {_FETCH}')
            pictures = self._decode('images', person, sequence, serial, indices)
            mattes = [None] * len(indices)
            if self._clip('alpha_maps', person, sequence, serial).exists():
                mattes = self._decode('alpha_maps', person, sequence, serial, indices)
            for row, image, matte in zip(views, pictures, mattes, strict=True):
                row.append(self._view(calibration, serial, image, matte, where))
        return [Frame(f'{sequence}-{index:05d}', tuple(row)) for index, row in zip(indices, views, strict=True)]

    def frames(self, person: str, count: int) -> Iterator[Frame]:
        """At most `count` frames: the first one of the first sequence, which is neutral, then moments spread over all.

        Raises:
            DatasetError: see `load`.
        """
        names = self.sequences(person)
        names = [n for n in names if n not in _SKIPPED] or [n for n in names if n != 'BACKGROUND']
        if not names:
            raise DatasetError(f'{self._folder(person)}/sequences: participant {person}: only BACKGROUND is there; wanted a '
                               'sequence with the person in it, such as EXP-1-head; fetch one with "nersemble-data download"')
        chosen = spread(len(names), count)
        for k, part in enumerate(np.array_split(np.arange(count), len(chosen))):
            total = self.frame_count(person, names[chosen[k]])
            # The middles of equal parts of the clip.
            moments = {int((i + 0.5) / len(part) * total) for i in range(len(part))} if k else set(spread(total, len(part)))
            yield from self.load(person, names[chosen[k]], sorted(moments))

    def _view(self, calibration: Calibration, serial: str, image: np.ndarray, matte: np.ndarray | None, where: str) -> View:
        camera = _camera(calibration.Ks[serial], calibration.viewmats[serial], image.shape[:2], where)
        alpha = None
        if matte is not None:
            if matte.shape != image.shape:
                raise DatasetError(f'{where}: alpha map of {matte.shape[1]} x {matte.shape[0]} px on a picture of '
                                   f'{image.shape[1]} x {image.shape[0]}; {_FETCH}')
            alpha = np.ascontiguousarray(matte[..., 0])
        image, alpha, camera = shrink(image, alpha, camera, self.max_side)
        if self.color and serial in calibration.colors:
            image = correct_color(image, calibration.colors[serial])
        return View(serial, image, alpha, camera)

    def _decode(self, kind: str, person: str, sequence: str, serial: str, indices: list[int]) -> list[np.ndarray]:
        try:
            return read_frames(self._clip(kind, person, sequence, serial), indices)
        except (CameraError, ImageError, DatasetError) as e:
            raise DatasetError(f'{_where(person, sequence, serial)}: {e}; {_FETCH}') from e

    def _open(self, kind: str, person: str, sequence: str, serial: str) -> VideoReader:
        try:
            return VideoReader(self._clip(kind, person, sequence, serial))
        except (CameraError, ImageError) as e:
            raise DatasetError(f'{_where(person, sequence, serial)}: {e}; {_FETCH}') from e

    def _clip(self, kind: str, person: str, sequence: str, serial: str) -> Path:
        return self._folder(person) / 'sequences' / sequence / kind / f'cam_{serial}.mp4'

    def _colors(self, path: Path, person: str) -> dict[str, np.ndarray]:
        if not self.color or not path.exists():
            return {}
        raw = read_json(path, wanted=f'the colour calibration of participant {person}, {{SERIAL: 3 x terms}}')
        return {s: check_color_matrix(m, name=f'{path}: participant {person}, camera {s}') for s, m in raw.items()}

    def _folder(self, person: str) -> Path:
        if person not in self._people:
            raise DatasetError(f'{self.root}: participant {person!r} is not there; found {", ".join(self._people[:8])}')
        return self.root / person


def _where(person: str, sequence: str, serial: str) -> str:
    return f'participant {person}, sequence {sequence}, camera {serial}'


def _camera(K: np.ndarray, viewmat: np.ndarray, size: tuple[int, int], where: str) -> Camera:
    """Camera of a clip of `size` (H, W).

    The calibration does not say which picture size it is for. For the full size its principal point is near that picture's
    middle and the clip has that picture's shape; else it is for the clip.
    """
    height, width = size
    scale = width / FULL_SIZE[1]
    same_shape = abs(scale * FULL_SIZE[0] / height - 1) < _ASPECT
    is_full = same_shape and 0.35 < K[0, 2] / FULL_SIZE[1] < 0.65 and 0.35 < K[1, 2] / FULL_SIZE[0] < 0.65
    full = FULL_SIZE if is_full else size
    camera = Camera(full[1], full[0], float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), viewmat)
    if not (0 < camera.cx < camera.width and 0 < camera.cy < camera.height):
        raise DatasetError(
            f'{where}: intrinsics with the principal point ({K[0, 2]:.0f}, {K[1, 2]:.0f}) are neither for this clip of {width} x '
            f'{height} px nor for pictures of {FULL_SIZE[1]} x {FULL_SIZE[0]} px scaled to it; {_FETCH}')
    return scaled_camera(camera, width, height)

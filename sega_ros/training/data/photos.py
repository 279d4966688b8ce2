"""Portraits for the identity encoder from a folder of photographs (FFHQ and the like)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sega_ros.errors import DatasetError, ImageError
from sega_ros.io import read_image
from sega_ros.models.crop import cut_window, identity_crop, identity_square
from sega_ros.tracking.matting import matte
from sega_ros.types import Landmarks

SUFFIXES = frozenset({'.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff'})
MIN_FACE_PX = 64  # larger extent of the face; a smaller one is mostly interpolation at 256 px
_MATTE_SIZE = 512  # px: what the matting is made for
_MATTE_MARGIN = 1.25  # its window over the portrait's: shoulders help it
_MIN_COVER = 0.15  # share of the portrait that must be person
_MAX_SAID = 20  # file names kept per reason


@dataclass(frozen=True)
class Portrait:
    """One aligned crop."""

    path: Path
    image: np.ndarray  # [size, size, 3] uint8 RGB over mid grey


@dataclass
class PhotoReport:
    """What became of the pictures so far."""

    used: int = 0
    skipped: Counter = field(default_factory=Counter)  # reason -> pictures
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> some file names
    seconds: float = 0.0

    def skip(self, reason: str, path: Path) -> None:
        """Count a picture that can't be used."""
        self.skipped[reason] += 1
        names = self.examples.setdefault(reason, [])
        if len(names) < _MAX_SAID:
            names.append(str(path))

    def text(self) -> str:
        """One line for people."""
        reasons = ', '.join(f'{n} {reason}' for reason, n in self.skipped.most_common())
        return f'{self.used} portraits, {self.skipped.total()} skipped{f" ({reasons})" if reasons else ""}'


class PhotoFolder:
    """Portraits of all usable photographs in a folder and the folders in it, in the order of their names.

    Iterate as often as you like; `report` tells of the last pass. Example::

        with LandmarkDetector(static_image_mode=True) as detector:
            photos = PhotoFolder('ffhq', detector.detect)
            for portrait in photos:
                ...
            print(photos.report.text())
    """

    def __init__(self, folder: Path | str, detect: Callable[[np.ndarray], list[Landmarks]], *, size: int = 256) -> None:
        """List the pictures; none is read yet.

        Raises:
            DatasetError: no such folder, or no picture in it.
        """
        self.folder, self.size, self._detect = Path(folder), size, detect
        if not self.folder.is_dir():
            raise DatasetError(f'{self.folder}: no such folder; wanted one with photographs')
        self.paths = tuple(sorted(p for p in self.folder.rglob('*') if p.suffix.lower() in SUFFIXES and p.is_file()))
        if not self.paths:
            raise DatasetError(f'{self.folder}: no pictures in it or in the folders in it; wanted {", ".join(sorted(SUFFIXES))}')
        self.report = PhotoReport()

    def __len__(self) -> int:
        """Pictures, usable or not."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Portrait]:
        """Portraits of the usable pictures.

        Raises:
            DatasetError: at the end, if not one picture was usable.
        """
        self.report, start = PhotoReport(), time.perf_counter()
        for path in self.paths:
            image = self._portrait(path)
            if image is not None:
                self.report.used += 1
                yield Portrait(path, image)
            self.report.seconds = time.perf_counter() - start
        if not self.report.used:
            raise DatasetError(f'{self.folder}: not one of {len(self.paths)} pictures is usable: {self.report.text()}; wanted '
                               f'faces of at least {MIN_FACE_PX} px')

    def _portrait(self, path: Path) -> np.ndarray | None:
        try:
            image = read_image(path)
            faces = self._detect(image)
        except ImageError:
            self.report.skip('cannot be read', path)
            return None
        if not faces:
            self.report.skip('without a face', path)
            return None
        points = faces[0].points
        if float(np.ptp(points[:468, :2], axis=0).max()) < MIN_FACE_PX:
            self.report.skip('with a face that is too small', path)
            return None
        portrait, cover = make_portrait(image, points, size=self.size)
        if cover < _MIN_COVER:
            self.report.skip('where the person could not be cut out', path)
            return None
        return portrait


def make_portrait(image: np.ndarray, points: np.ndarray, *, size: int = 256) -> tuple[np.ndarray, float]:
    """Portrait uint8 RGB [size, size, 3] of the face with landmarks `points` [478, 2+] in `image`, and its share of person.

    The matte is computed on a window around the head, whatever the photograph's size.
    """
    centre, side = identity_square(points)
    span = side * _MATTE_MARGIN
    window = cut_window(image, centre, span, _MATTE_SIZE)
    inside = cut_window(np.ones(image.shape[:2], np.float32), centre, span, _MATTE_SIZE) > 0.5
    found = matte(window, inside)
    moved = (points[:, :2] - centre + span / 2) * (_MATTE_SIZE / span)
    portrait = identity_crop(np.round(found.color * 255).astype(np.uint8), found.alpha, moved, size=size)
    cover = identity_crop(np.zeros_like(window), found.alpha, moved, size=size)
    return portrait, float(1 - cover.mean() / 128)

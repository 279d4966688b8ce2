"""Face landmarks of a picture or of a stream of pictures: MediaPipe's 478 points, irises included.

Detection on a steady, tight region: the region is the one that MediaPipe takes for a still picture,
derived from the last landmarks and low-passed, so a resting face rests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import ConfigError, ImageError
from sega_ros.tracking.mediapipe_graph import FaceFinder, RegionMesher, import_mediapipe, quiet_stderr
from sega_ros.types import Landmarks

_OUTER_EYE_CORNERS = 33, 263  # right, left (the subject's)
_MESH_POINTS = 468  # without the irises


@dataclass(frozen=True)
class LandmarkConfig:
    """How faces are searched and followed."""

    min_confidence: float = 0.5  # of the finder, and of the presence score that keeps a face
    region_scale: float = 1.4  # region over the larger side of the landmarks' box; measured: what a still picture gets
    region_shift: float = 0.02  # downwards, over the same side
    region_gain: float = 0.3  # low-pass of the region per frame; 1 follows at once
    region_jump: float = 0.08  # movement (over the size) beyond which the region follows at once
    tile_shares: tuple[float, ...] = (0.5, 0.25)  # side of a tile over the picture's, in the search for small faces
    min_tile: int = 160  # pixels; a face that is small in a smaller tile is too small for anything
    tiles_per_frame: int = 3  # how many tiles a lost frame of a stream may cost
    max_pixels: int = 4096 * 4096


def face_box(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [2] and larger side of the box around the landmarks [478, 2+], pixels."""
    rows = points[:_MESH_POINTS, :2].T.copy()  # along rows, or each minimum takes five times as long
    low, high = rows.min(1), rows.max(1)
    return (low + high) / 2, float((high - low).max())


def landmark_region(points: np.ndarray, config: LandmarkConfig) -> np.ndarray:
    """Region (centre x, centre y, size, angle) in which MediaPipe would mesh this face in a still picture."""
    centre, side = face_box(points)
    right, left = (points[i, :2] for i in _OUTER_EYE_CORNERS)
    angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    down = np.array([-np.sin(angle), np.cos(angle)])
    return np.array([*(centre + config.region_shift * side * down), config.region_scale * side, angle])


def check_image(image: np.ndarray, max_pixels: int = LandmarkConfig.max_pixels) -> np.ndarray:
    """Return `image` contiguous, or raise ImageError unless it is uint8 RGB [H, W, 3] of a sane size."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f'{getattr(image, "dtype", type(image).__name__)} {list(getattr(image, "shape", ()))}'
        raise ImageError(f'image: wanted uint8 RGB [H, W, 3], found {found}')
    height, width = image.shape[:2]
    if not height or not width:
        raise ImageError(f'image: it is empty ({width} x {height})')
    if height * width > max_pixels:
        raise ImageError(f'image: {width} x {height} is over the limit of {max_pixels} pixels; scale it down first')
    return np.ascontiguousarray(image)


class LandmarkDetector:
    """Landmarks of the faces in an image, largest first; a context manager.

    With `static_image_mode` every image stands for itself. Without, images are frames of one stream: the face found
    first is followed as long as it is there (one network, half the time), and only then is the picture searched again.
    """

    def __init__(
        self, *, static_image_mode: bool = False, max_faces: int = 4, config: LandmarkConfig | None = None,
    ) -> None:
        self.config = config or LandmarkConfig()
        self._static = static_image_mode
        self._finder = FaceFinder(max_faces, self.config.min_confidence)
        self._mesher = RegionMesher()
        self._region: np.ndarray | None = None
        self._next_tile = 0

    def __enter__(self) -> 'LandmarkDetector':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Release MediaPipe's graphs."""
        self._finder.close()
        self._mesher.close()

    def reset(self) -> None:
        """Forget the followed face."""
        self._region = None

    def detect(self, image: np.ndarray) -> list[Landmarks]:
        """Landmarks of the faces in `image` (uint8 RGB [H, W, 3]); of the followed one alone while it is followed.

        Raises:
            ImageError: another type or shape, an empty or a giant image.
        """
        image = check_image(image, self.config.max_pixels)
        if not self._static and self._region is not None:
            followed = self._mesh(image, self._region)
            if followed is not None:
                self._region = self._steady(landmark_region(followed.points, self.config))
                return [followed]
        self._region = None
        faces = self._search(image)
        if faces and not self._static:
            self._region = landmark_region(faces[0].points, self.config)
        return faces

    def refine(self, image: np.ndarray, face: Landmarks, *, samples: int = 12) -> Landmarks:
        """Average over `samples` slightly moved regions: less noise on a photo, where 50 ms do not matter."""
        image = check_image(image, self.config.max_pixels)
        region = landmark_region(face.points, self.config)
        rng = np.random.default_rng(0)
        moves = rng.uniform(-1, 1, (samples, 4)) * [0.015 * region[2], 0.015 * region[2], 0.03 * region[2], 0.03]
        meshes = [m for m in (self._mesh(image, region + move) for move in moves) if m is not None]
        if not meshes:
            return face
        points = np.mean([m.points for m in meshes], 0, dtype=np.float64).astype(np.float32)
        return Landmarks(points, float(np.mean([m.confidence for m in meshes])), face.width, face.height)

    def _mesh(self, image: np.ndarray, region: np.ndarray) -> Landmarks | None:
        """Landmarks inside a region, or None where no face is."""
        points, score = self._mesher(image, region[:2], region[2], region[3])
        height, width = image.shape[:2]
        if score < self.config.min_confidence or not np.isfinite(points).all():
            return None
        centre, side = face_box(points)
        if side < 8 or not (0 <= centre[0] < width and 0 <= centre[1] < height):
            return None
        return Landmarks(points, score, width, height)

    def _steady(self, wanted: np.ndarray) -> np.ndarray:
        """Low-passed region; a fast movement is followed at once."""
        last = self._region
        move = max(np.abs(wanted[:3] - last[:3]).max() / last[2], abs(wanted[3] - last[3]))
        gain = 1.0 if move > self.config.region_jump else self.config.region_gain
        return last + gain * (wanted - last)

    def _search(self, image: np.ndarray) -> list[Landmarks]:
        """Faces of the whole picture; where there is none, small ones in its tiles."""
        faces = self._in_window(image, 0, 0, *image.shape[:2])
        for window in () if faces else self._tiles(*image.shape[:2]):
            faces += self._in_window(image, *window)
            if faces and not self._static:
                break
        faces.sort(key=lambda face: -face_box(face.points)[1])
        return _without_doubles(faces)

    def _tiles(self, height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
        """Windows (top, left, height, width): all of them for a still, the next few for a stream."""
        windows = [w for share in self.config.tile_shares for w in _tiling(height, width, share, self.config.min_tile)]
        if self._static or not windows:
            yield from windows
            return
        for i in range(min(self.config.tiles_per_frame, len(windows))):
            yield windows[(self._next_tile + i) % len(windows)]
        self._next_tile += self.config.tiles_per_frame

    def _in_window(self, image: np.ndarray, top: int, left: int, height: int, width: int) -> list[Landmarks]:
        """Faces found in a window, meshed anew in the region of the whole picture."""
        window = np.ascontiguousarray(image[top:top + height, left:left + width])
        faces = []
        for points in self._finder(window):
            # Twice: the finder's region is a noisy start, the second is the one that is used while following.
            face = self._mesh(image, landmark_region(points + np.array([left, top, 0], np.float32), self.config))
            again = face and self._mesh(image, landmark_region(face.points, self.config))
            faces += [again or face] if face else []
        return faces


def _tiling(height: int, width: int, share: float, min_tile: int) -> list[tuple[int, int, int, int]]:
    """Windows (top, left, height, width) of `share` of the larger side that overlap by half; none under `min_tile`."""
    side = int(share * max(height, width))
    if side < min_tile:
        return []
    tall, wide = min(side, height), min(side, width)
    tops = np.linspace(0, height - tall, 1 + int(np.ceil(2 * (height - tall) / side))).astype(int)
    lefts = np.linspace(0, width - wide, 1 + int(np.ceil(2 * (width - wide) / side))).astype(int)
    return [(int(top), int(left), tall, wide) for top in tops for left in lefts]


def _without_doubles(faces: list[Landmarks]) -> list[Landmarks]:
    """Keep the first of faces that lie on one another (tiles overlap)."""
    kept: list[Landmarks] = []
    for face in faces:
        centre, side = face_box(face.points)
        if all(np.abs(centre - face_box(k.points)[0]).max() > 0.3 * max(side, face_box(k.points)[1]) for k in kept):
            kept.append(face)
    return kept


class TaskLandmarkDetector:
    """The same from a user's `face_landmarker.task` file, the only way for mediapipe >= 0.10.30.

    Raises:
        ConfigError: no such file, or no model in it.
    """

    def __init__(self, path: str | Path, *, static_image_mode: bool = False, max_faces: int = 1) -> None:
        path = Path(path)
        if not path.is_file():
            raise ConfigError(f'{path}: no such file; give the path of a face_landmarker.task, or leave it out to use '
                              'the models of mediapipe 0.10.21')
        try:
            import mediapipe
            from mediapipe.tasks import python as tasks
        except ImportError as error:
            raise ImportError('mediapipe is not installed: pip install mediapipe') from error
        self._image = mediapipe.Image
        self._format = mediapipe.ImageFormat.SRGB
        options = tasks.vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
            running_mode=tasks.vision.RunningMode.IMAGE if static_image_mode else tasks.vision.RunningMode.VIDEO,
            num_faces=max_faces)
        try:
            with quiet_stderr():
                self._task = tasks.vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f'{path}: not a face_landmarker.task that mediapipe {mediapipe.__version__} can read '
                              f'({str(error).splitlines()[0][:120]}); fetch it again') from error
        self._static, self._time_ms = static_image_mode, 0

    def __enter__(self) -> 'TaskLandmarkDetector':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Release the task."""
        self._task.close()

    def reset(self) -> None:
        """Forget nothing: the task keeps its own state and finds a lost face by itself."""

    def detect(self, image: np.ndarray) -> list[Landmarks]:
        """Landmarks of the faces in `image` (uint8 RGB [H, W, 3]), largest first."""
        image = check_image(image)
        wrapped = self._image(image_format=self._format, data=image)
        self._time_ms += 33
        result = self._task.detect(wrapped) if self._static else self._task.detect_for_video(wrapped, self._time_ms)
        height, width = image.shape[:2]
        scale = np.array([width, height, width], np.float32)
        points = [np.array([(p.x, p.y, p.z) for p in face], np.float32) * scale for face in result.face_landmarks]
        points.sort(key=lambda p: -face_box(p)[1])
        return [Landmarks(p, 1.0, width, height) for p in points]


def open_detector(
    task_path: str | Path | None = None, *, static_image_mode: bool = False, max_faces: int = 4,
) -> LandmarkDetector | TaskLandmarkDetector:
    """Return the detector of a task file when one is given, else the one with bundled models.

    Raises:
        ImportError: mediapipe is missing, or carries no models and no file is given.
        ConfigError: the task file can't be read.
    """
    if task_path:
        return TaskLandmarkDetector(task_path, static_image_mode=static_image_mode, max_faces=max_faces)
    import_mediapipe()
    return LandmarkDetector(static_image_mode=static_image_mode, max_faces=max_faces)

"""Whose avatar is driven: of a frame of the recording itself, of a photo, or a stored one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.create import create_avatar
from sega_ros.avatar.photo import choose_face, face_roll, face_yaw
from sega_ros.errors import (
    FaceProfileError,
    FaceTooSmallError,
    ImageBlurredError,
    NoFaceError,
    RecordingError,
)
from sega_ros.head.model import HeadModel
from sega_ros.io.bags import StampedImage
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.tracking.topology import eye_openness
from sega_ros.types import Landmarks

_UNFIT = (NoFaceError, FaceTooSmallError, FaceProfileError, ImageBlurredError)
# A good frontal frame: turned and tilted at most so far (radians, roughly), eyes open.
_FRONTAL, _UPRIGHT, _OPEN = 0.21, 0.26, 0.12
_SEARCHED = 1800  # frames: a minute at 30 Hz

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Person:
    """An avatar and where it comes from."""

    avatar: Avatar
    source: dict  # for the summary: kind, and frame, photo or avatar
    frame: int | None = None  # index of the identity frame: it is the photo, so it is not scored
    warnings: tuple[str, ...] = ()


def person_of_recording(frames: Iterable[StampedImage], *, head: HeadModel, embedding: LandmarkEmbedding, quality: str,
                        progress: Progress = lambda stage, share: None) -> Person:
    """Make an avatar of the first good frontal frame: a face that may become an avatar, looking into the camera, eyes open.

    Where none of the first 1,800 frames is that good, the first that may become an avatar at all is taken.

    Raises:
        NoFaceError: no frame may become an avatar; says what the last one lacked.
    """
    second, reason, count = None, '', 0
    with LandmarkDetector(static_image_mode=True) as detector:
        for index, frame in enumerate(frames):
            progress('identity', 0.0)
            count += 1
            try:
                face, _ = choose_face(detector.detect(frame.image), frame.image)
            except _UNFIT as e:
                reason = str(e)
                face = None
            if face is not None:
                chosen = index, frame.image
                second = second or chosen
                if _is_good(face):
                    return _made(*chosen, head, embedding, quality, progress)
            if index + 1 >= _SEARCHED:
                break
    if second is None:
        raise NoFaceError(f'no frame can become an avatar: none of the first {count} shows a usable face; the last one: {reason}')
    person = _made(*second, head, embedding, quality, progress)
    text = f'no frame shows the face frontal with open eyes: frame {second[0]} is the identity'
    return Person(person.avatar, person.source, person.frame, (*person.warnings, text))


def person_of_photo(image: np.ndarray, name: str, *, head: HeadModel, embedding: LandmarkEmbedding, quality: str,
                    progress: Progress = lambda stage, share: None) -> Person:
    """Make an avatar of a photo, uint8 RGB [H, W, 3]; see `create_avatar` for the errors."""
    avatar = _create(image, head, embedding, quality, progress)
    return Person(avatar, {'kind': 'photo', 'photo': name, 'quality': quality}, warnings=avatar.warnings)


def _is_good(face: Landmarks) -> bool:
    return bool(abs(face_yaw(face)) < _FRONTAL and abs(face_roll(face)) < _UPRIGHT and eye_openness(face.points).min() > _OPEN)


def _made(index: int, image: np.ndarray, head, embedding, quality: str, progress: Progress) -> Person:
    try:
        avatar = _create(image, head, embedding, quality, progress)
    except _UNFIT as e:
        raise RecordingError(f'frame {index} looks like a usable photo, but: {e}; give another with --photo') from e
    source = {'kind': 'frame', 'frame': index, 'quality': quality}
    return Person(avatar, source, index, avatar.warnings)


def _create(image: np.ndarray, head, embedding, quality: str, progress: Progress) -> Avatar:
    return create_avatar(image, head=head, embedding=embedding, quality=quality, consent='evaluation of a recording',
                         progress=lambda stage, share, _preview: progress(f'avatar: {stage}', share))

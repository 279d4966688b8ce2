"""Exceptions of the project: each says what was found, what was wanted and what to do.

The codes are those of the service answers (`srv/*.srv`, `uint16 error_code`), so that a node reports an
exception without looking into its text.
"""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Machine-readable cause of a refusal, equal to the constants in the service definitions."""

    OK = 0
    NO_FACE = 1
    FACE_TOO_SMALL = 2
    FACE_PROFILE = 3
    IMAGE_BLURRED = 4
    BAD_IMAGE = 5
    BAD_AVATAR_ID = 6
    AVATAR_EXISTS = 7
    AVATAR_NOT_FOUND = 8
    AVATAR_DAMAGED = 9
    HEAD_MODEL_MISMATCH = 10
    BUSY = 11
    CANCELLED = 12
    STORAGE = 13
    BAD_REQUEST = 14
    NOT_ACTIVE = 15
    NO_CAMERA = 16
    HEAD_MODEL = 17
    INTERNAL = 255


class SegaError(Exception):
    """Base of all errors that a user can cause and mend."""

    code = ErrorCode.INTERNAL


class ImageError(SegaError):
    """Image bytes, size, step or encoding that can't be used."""

    code = ErrorCode.BAD_IMAGE


class NoFaceError(SegaError):
    """No face was found in the photo, or during the calibration."""

    code = ErrorCode.NO_FACE


class FaceTooSmallError(SegaError):
    """The face spans fewer pixels than an avatar needs."""

    code = ErrorCode.FACE_TOO_SMALL


class FaceProfileError(SegaError):
    """The face is turned too far away from the camera."""

    code = ErrorCode.FACE_PROFILE


class ImageBlurredError(SegaError):
    """The face is too blurred to make an avatar of it."""

    code = ErrorCode.IMAGE_BLURRED


class AvatarIdError(SegaError):
    """An avatar id outside `[A-Za-z0-9_-]{1,64}`."""

    code = ErrorCode.BAD_AVATAR_ID


class AvatarExistsError(SegaError):
    """The avatar id is taken and replacing it was not asked for."""

    code = ErrorCode.AVATAR_EXISTS


class AvatarNotFoundError(SegaError):
    """No avatar of that id is stored."""

    code = ErrorCode.AVATAR_NOT_FOUND


class AvatarDamagedError(SegaError):
    """An avatar file that is truncated, malformed or of an unknown version."""

    code = ErrorCode.AVATAR_DAMAGED


class HeadModelMismatchError(SegaError):
    """Avatar, message and loaded head model don't belong together."""

    code = ErrorCode.HEAD_MODEL_MISMATCH


class HeadModelError(SegaError):
    """A head model file that can't be read, converted or trusted."""

    code = ErrorCode.HEAD_MODEL


class BusyError(SegaError):
    """Another creation or calibration is running."""

    code = ErrorCode.BUSY


class CancelledError(SegaError):
    """The caller, the node going inactive, or a limit of time ended the work."""

    code = ErrorCode.CANCELLED


class StorageError(SegaError):
    """The avatar directory can't be read or written (disk full, read-only)."""

    code = ErrorCode.STORAGE


class RequestError(SegaError):
    """An argument outside its range, or an unknown choice."""

    code = ErrorCode.BAD_REQUEST


class CameraError(SegaError):
    """A camera or clip that can't be opened or stopped delivering."""

    code = ErrorCode.NO_CAMERA


class NotActiveError(SegaError):
    """A request to a node that is not active."""

    code = ErrorCode.NOT_ACTIVE


class BackendError(SegaError):
    """A renderer backend that this machine can't run."""

    code = ErrorCode.BAD_REQUEST


class ConfigError(SegaError):
    """Unknown keys or values of the wrong type in a configuration."""

    code = ErrorCode.BAD_REQUEST


class ModelError(SegaError):
    """A file with the networks' weights does not fit this version."""

    code = ErrorCode.INTERNAL


class DatasetError(SegaError):
    """Training data that are missing, incomplete, damaged or not in the layout they should have."""

    code = ErrorCode.BAD_REQUEST


class RecordingError(SegaError):
    """A bag, clip or folder of pictures that is missing, damaged or lacks what an evaluation needs."""

    code = ErrorCode.BAD_REQUEST

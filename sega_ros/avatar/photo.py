"""The identity photo: its checks, the square crop the avatar is made from, and its matte."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sega_ros.errors import FaceProfileError, FaceTooSmallError, ImageBlurredError, ImageError, NoFaceError
from sega_ros.tracking.matting import matte
from sega_ros.types import Camera, Landmarks

MIN_FACE_PX = 64  # between the outermost landmarks: below it there is nothing to make an avatar of
GOOD_FACE_PX = 128
MAX_YAW = 0.62  # radians; farther, half of the face is invisible
MAX_ROLL = 0.8
CROP_SCALE = 2.3  # side of the crop over the larger side of the face: hair and shoulders fit
CROP_SIZE = 512
# Variance of the Laplacian of the face resampled to 128 px, luma in [0, 255]: sharp portraits have hundreds.
MIN_SHARPNESS = 12.0

_NOSE, _LEFT, _RIGHT = 1, 454, 234  # nose tip, the ends of the face contour beside the ears


@dataclass(frozen=True)
class Photo:
    """The crop around the face, in the units the avatar is optimised in."""

    image: np.ndarray  # [H, W, 3] RGB in [0, 1], as photographed
    color: np.ndarray  # [H, W, 3] foreground colour
    alpha: np.ndarray  # [H, W] matte
    inside: np.ndarray  # [H, W] bool: covered by the photo
    landmarks: Landmarks  # in pixels of the full photo
    origin: np.ndarray  # [2] x, y of the crop's corner in the full photo, pixels
    scale: float  # crop pixels per photo pixel
    warnings: tuple[str, ...]

    def crop_camera(self, camera: Camera) -> Camera:
        """Return the camera of the full photo as one of this crop."""
        size = self.alpha.shape[0]
        return replace(camera, width=size, height=size, fx=camera.fx * self.scale, fy=camera.fy * self.scale,
                       cx=(camera.cx - self.origin[0]) * self.scale, cy=(camera.cy - self.origin[1]) * self.scale)


def portrait_window(photo: Photo) -> np.ndarray:
    """Square window (x, y of its corner, side; crop pixels) that shows the person without the photo's lower edge.

    Where the photo ends above the crop's end, the bust would hover: the window ends there instead.
    """
    size = photo.alpha.shape[0]
    rows = np.flatnonzero((photo.alpha > 0.5).any(1))
    if not len(rows):
        return np.array([0.0, 0.0, size], np.float32)
    bottom = min(int(rows[-1]) + 1 - 4, size)
    top = max(float(rows[0]) - 0.07 * size, 0.0)
    side = max(bottom - top, 0.55 * size)
    return np.array([(size - side) / 2, bottom - side, side], np.float32)


def check_image(image: np.ndarray) -> None:
    """Raise ImageError unless `image` is uint8 RGB [H, W, 3] with pixels in it."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f'photo: wanted uint8 RGB [H, W, 3], found {type(image).__name__}')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f'photo: wanted uint8 RGB [H, W, 3], found {image.dtype} {list(image.shape)}')


def choose_face(faces: list[Landmarks], image: np.ndarray) -> tuple[Landmarks, list[str]]:
    """Return the largest of `faces` and the warnings about it.

    Raises:
        NoFaceError, FaceTooSmallError, FaceProfileError, ImageBlurredError: the photo can't become an avatar.
    """
    height, width = image.shape[:2]
    if not faces:
        raise NoFaceError(f'no face found in the photo ({width}x{height}): use one with a frontal, well lit, unhidden face')
    face, warnings = faces[0], []
    if len(faces) > 1:
        warnings.append(f'{len(faces)} faces found: the largest is used')
    size = float(np.ptp(face.points[:468, :2], axis=0).max())
    if size < MIN_FACE_PX:
        raise FaceTooSmallError(f'the face spans {size:.0f} px, at least {MIN_FACE_PX} are needed: use a larger picture')
    if size < GOOD_FACE_PX:
        warnings.append(f'the face spans {size:.0f} px only: at {GOOD_FACE_PX} and more the avatar is sharper')
    roll = face_roll(face)
    if abs(roll) > MAX_ROLL:
        raise FaceProfileError(f'the face is tilted by {np.degrees(abs(roll)):.0f} degrees, at most {np.degrees(MAX_ROLL):.0f} '
                               'work: turn the photo upright')
    yaw = face_yaw(face)
    if abs(yaw) > MAX_YAW:
        raise FaceProfileError(f'the face is turned by about {np.degrees(abs(yaw)):.0f} degrees, at most '
                               f'{np.degrees(MAX_YAW):.0f} work: look into the camera')
    sharpness = face_sharpness(face, image)
    if sharpness < MIN_SHARPNESS:
        raise ImageBlurredError(f'the face is blurred (sharpness {sharpness:.0f}, at least {MIN_SHARPNESS:.0f} is needed): '
                                'use a sharper photo')
    return face, warnings


def face_yaw(face: Landmarks) -> float:
    """Rough yaw in radians from where the nose tip lies between the ends of the contour; positive to the picture's right."""
    left, right, nose = (face.points[k, :2] for k in (_LEFT, _RIGHT, _NOSE))
    axis = left - right
    t = float((nose - right) @ axis / (axis @ axis))
    # The tip stands about 1.4 half face widths in front of the contour's ends (measured on drawn heads at known yaws):
    # t = .5 + .7 tan(yaw).
    return float(np.arctan((t - 0.5) / 0.7))


def face_roll(face: Landmarks) -> float:
    """Return the tilt of the face in the picture's plane, radians: 0 for an upright one, pi upside down."""
    across = face.points[_LEFT, :2] - face.points[_RIGHT, :2]
    return float(np.arctan2(across[1], across[0]))


def face_sharpness(face: Landmarks, image: np.ndarray) -> float:
    """Variance of the Laplacian over the face, resampled to 128 px so that the figure does not depend on the resolution."""
    import cv2

    crop, _, _ = crop_image(image, face, 1.0, 128)
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(gray[16:-16, 16:-16], cv2.CV_32F).var())


def crop_image(image: np.ndarray, face: Landmarks, factor: float, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Cut a square of `factor` times the face out of uint8 RGB [H, W, 3], at `size` pixels.

    Returns the cut-out, its corner (x, y) in `image` and its pixels per pixel of `image`.
    """
    import cv2

    low, high = face.points[:468, :2].min(0), face.points[:468, :2].max(0)
    side = factor * (high - low).max()
    origin, scale = (low + high) / 2 - side / 2, size / side
    if scale < 1:  # warpAffine does not average: shrink first
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = np.array([[1, 0, -origin[0] * scale], [0, 1, -origin[1] * scale]])
    else:  # pixel centres at half integers: x' + .5 = scale * (x + .5 - origin)
        shift = scale * (0.5 - origin) - 0.5
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    crop = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return crop, origin, float(scale)


def letterbox(image: np.ndarray) -> tuple[int, int]:
    """Rows of black bars at the top and at the bottom of `image`."""
    black = image.reshape(len(image), -1).max(1) < 24
    if black.all():
        return 0, 0
    lit = np.flatnonzero(~black)
    bars = int(lit[0]), len(image) - 1 - int(lit[-1])
    return tuple(n + 4 if n else 0 for n in bars)  # compression blurs the bar's edge


def prepare_photo(image: np.ndarray, detect: Callable[[np.ndarray], list[Landmarks]]) -> Photo:
    """Check `image` (uint8 RGB [H, W, 3]), crop it around its largest face and cut the person out.

    Raises:
        ImageError, NoFaceError, FaceTooSmallError, FaceProfileError, ImageBlurredError: see `choose_face`.
    """
    check_image(image)
    face, warnings = choose_face(detect(image), image)
    crop, origin, scale = crop_image(image, face, CROP_SCALE, CROP_SIZE)
    height, width = image.shape[:2]
    centres = (np.arange(CROP_SIZE) + 0.5) / scale
    inside = ((centres + origin[1] > 0) & (centres + origin[1] < height))[:, None] & (
        (centres + origin[0] > 0) & (centres + origin[0] < width))
    bars = letterbox(image)
    inside &= ((centres + origin[1] > bars[0]) & (centres + origin[1] < height - bars[1]))[:, None]
    cut = matte(crop, inside)
    return Photo(crop.astype(np.float32) / 255, cut.color, cut.alpha, inside, face, origin, scale, tuple(warnings))

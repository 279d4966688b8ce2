"""Pictures of a report's moments: the true frame, the avatar's, and where they differ."""

import base64
import io
from collections.abc import Iterator, Sequence

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image

from sega_ros.evaluation.replay.clip_frames import ClipFrames
from sega_ros.evaluation.replay.finished import FinishedRun
from sega_ros.evaluation.replay.moments import Moment

SIDE = 256  # px of each picture
HEAT_END = 64  # of 255: the mean difference of R, G and B at which the heat is brightest
_HEAT = 'inferno'
_QUALITY = 86  # of the JPEG


def pictures(run: FinishedRun, moments: Sequence[Moment]) -> Iterator[tuple[int, str]]:
    """Yield (row, data URI of a JPEG) of every moment, read from the run's clip.

    Frames compared pixel by pixel have three pictures of 256 px side by side (true, avatar, heat), others two.

    Raises:
        CameraError: there is no clip, or it ends too early.
    """
    with ClipFrames(run.clip) as frames:
        for row in sorted(m.row for m in moments):
            yield row, jpeg_uri(moment_picture(frames.at(row), heat=has_heat(run, row)))


def has_heat(run: FinishedRun, row: int) -> bool:
    """Whether the frame of `row` shows what the avatar ought to look like."""
    return bool(np.isfinite(run.frames['psnr_face'][row]))


def moment_picture(side_by_side: np.ndarray, *, heat: bool) -> np.ndarray:
    """Halves of uint8 RGB [H, 2 H, 3] at 256 px, with the `heat` of their difference: uint8 RGB [256, 512 or 768, 3]."""
    half = side_by_side.shape[1] // 2
    true, drawn = side_by_side[:, :half], side_by_side[:, half:2 * half]
    parts = [true, drawn, difference_heat(true, drawn)] if heat else [true, drawn]
    return np.concatenate([cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in parts], 1)


def difference_heat(true: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Colour [H, W, 3] uint8 of the mean absolute difference of R, G and B: black is 0, brightest is `HEAT_END` and more."""
    difference = np.abs(true.astype(np.float32) - drawn).mean(-1)
    return mpl.colormaps[_HEAT](np.minimum(difference / HEAT_END, 1.0), bytes=True)[..., :3]


def heat_gradient() -> str:
    """The heat's scale as a CSS gradient."""
    stops = mpl.colormaps[_HEAT](np.linspace(0, 1, 9), bytes=True)[:, :3]
    return f'linear-gradient(to right, {", ".join(f"rgb({r} {g} {b})" for r, g, b in stops.tolist())})'


def jpeg_uri(image: np.ndarray) -> str:
    """Return uint8 RGB [H, W, 3] as the data URI of a JPEG."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(data, 'JPEG', quality=_QUALITY)
    return data_uri('image/jpeg', data.getvalue())


def data_uri(kind: str, data: bytes) -> str:
    """Return `data` as a URI of MIME type `kind`."""
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'

"""Clips and cameras as uint8 RGB frames. What is written decodes to exactly the frames, rate and size that went in."""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from sega_ros.errors import CameraError, ImageError, RequestError, StorageError
from sega_ros.io.files import TEMPORARY_PREFIX
from sega_ros.io.images import check_image_size

MAX_RATE = 1000.0  # frames/s
_CLOSE_TIMEOUT = 120.0  # s: the encoder's look-ahead is some dozens of frames


class VideoReader:
    """Frames of a clip (a path) or a camera (a device number) as a context manager and iterator.

    Frames are upright: a rotation noted in the file is applied. Example::

        with VideoReader('clip.mp4') as clip:
            for image in clip:  # uint8 RGB [H, W, 3], H x W = clip.size
                ...
    """

    def __init__(self, source: Path | str | int, *, size: tuple[int, int] | None = None, fps: float | None = None,
                 name: str = ''):
        """Open `source`; `size` (H, W) and `fps` are requests to a camera, ignored for clips.

        `name` is what messages call it ('': its path or number).

        Raises:
            CameraError: it can't be opened or has no video.
            ImageError: its frames are larger than accepted.
        """
        import cv2

        self.source = source
        self.is_camera = isinstance(source, int)
        self._name = name or (f'camera {source}' if self.is_camera else str(source))
        self._check_source()
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            wanted = 'is it in use by another program?' if self.is_camera else 'wanted a video such as MP4, MKV or WebM'
            raise CameraError(f'{self._name}: cannot be opened; {wanted}')
        if self.is_camera:
            self._request(size, fps)
        get = self._capture.get
        self.size = (int(get(cv2.CAP_PROP_FRAME_HEIGHT)), int(get(cv2.CAP_PROP_FRAME_WIDTH)))  # (H, W)
        rate = get(cv2.CAP_PROP_FPS)
        self.fps = float(rate) if 0 < rate <= MAX_RATE else 30.0  # frames/s; some cameras and streams state none
        count = get(cv2.CAP_PROP_FRAME_COUNT)
        # What the header states; a damaged clip may hold fewer. None: a camera, or a stream that does not say.
        self.frame_count = int(count) if not self.is_camera and 0 < count < 2**40 else None
        self._pending: np.ndarray | None = None
        try:
            check_image_size(*self.size, name=self._name)
            self._pending = self._read()
            if self._pending is None:
                raise CameraError(f'{self._name}: not one frame could be decoded; copy or record it again')
        except Exception:
            self.close()
            raise
        self.size = (self._pending.shape[0], self._pending.shape[1])

    def _check_source(self) -> None:
        if isinstance(self.source, int):
            devices = sorted(Path('/dev').glob('video*'))
            # Elsewhere than on Linux cameras are no files; there OpenCV finds out.
            missing = sys.platform == 'linux' and not Path(f'/dev/video{self.source}').exists()
            if self.source < 0 or missing:
                found = ', '.join(d.name.removeprefix('video') for d in devices) or 'none'
                raise CameraError(f'{self._name}: no such camera; present: {found}; connect one or give a clip instead')
        elif not Path(self.source).is_file():
            found = 'is a directory' if Path(self.source).is_dir() else 'no such file'
            raise CameraError(f'{self._name}: {found}; give the path of a clip or a camera number')

    def _request(self, size: tuple[int, int] | None, fps: float | None) -> None:
        import cv2

        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # newest frame wins
        if size is not None:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
        if fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, fps)

    def _read(self) -> np.ndarray | None:
        import cv2

        ok, frame = self._capture.read()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if ok else None

    def read(self) -> np.ndarray | None:
        """Return the next frame, uint8 RGB [H, W, 3], or None at the end (or when a camera stops)."""
        if self._pending is not None:
            frame, self._pending = self._pending, None
            return frame
        return self._read()

    def peek(self) -> np.ndarray:
        """Return the frame that `read` returns next, at the start only: reading on has not begun.

        Raises:
            CameraError: frames were read already.
        """
        if self._pending is None:
            raise CameraError(f'{self._name}: the first frame was read already')
        return self._pending

    def __iter__(self) -> Iterator[np.ndarray]:
        while (frame := self.read()) is not None:
            yield frame

    def close(self) -> None:
        """Release the file or the device."""
        self._capture.release()

    def __enter__(self) -> 'VideoReader':
        return self

    def __exit__(self, *_) -> None:
        self.close()


class VideoWriter:
    """H.264 clip of uint8 RGB frames, as a context manager; the file appears when it is closed without an error.

    N frames in are N frames out, at exactly `fps` and exactly `size`. Sides of even length give yuv420p, which every
    player shows; an odd side needs yuv444p, the only way to keep the size. The encoder is imageio-ffmpeg's own.
    """

    def __init__(self, path: Path | str, *, size: tuple[int, int], fps: float | Fraction, crf: int = 14):
        """Start the encoder for frames of `size` (H, W) at `fps`; a smaller `crf` is finer (14: no visible loss).

        Raises:
            RequestError: a rate, size or file name that can't be written.
            StorageError: the directory can't be written.
        """
        self.path, self.size = Path(path), (int(size[0]), int(size[1]))
        self.frame_count = 0
        if not 0 < float(fps) <= MAX_RATE:
            raise RequestError(f'fps: wanted more than 0 and at most {MAX_RATE:g}, found {float(fps):g}')
        if self.path.suffix.lower() not in ('.mp4', '.mkv', '.mov'):
            raise RequestError(f'{self.path}: wanted a file name ending in .mp4, .mkv or .mov')
        check_image_size(*self.size, name=str(self.path))
        # 29.97 is 30000/1001: rates are ratios of small numbers, a rounded decimal drifts.
        self.fps = Fraction(fps).limit_denominator(1001)
        self._temporary = self.path.parent / f'{TEMPORARY_PREFIX}{secrets.token_hex(4)}{self.path.suffix.lower()}'
        self._process: subprocess.Popen | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch(exist_ok=False)
        except OSError as e:
            raise StorageError(f'cannot write {self.path}: {(e.strerror or str(e)).lower()}') from e
        self._log = tempfile.TemporaryFile()  # a pipe nobody reads could fill and block the encoder
        self._process = subprocess.Popen(self._command(crf), stdin=subprocess.PIPE, stderr=self._log)

    def _command(self, crf: int) -> list[str]:
        import imageio_ffmpeg

        (height, width), rate = self.size, f'{self.fps.numerator}/{self.fps.denominator}'
        pixels = 'yuv420p' if height % 2 == 0 and width % 2 == 0 else 'yuv444p'
        return [
            imageio_ffmpeg.get_ffmpeg_exe(), '-y', '-loglevel', 'error', '-nostats',
            '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}', '-r', rate, '-i', 'pipe:0',
            '-an', '-c:v', 'libx264', '-preset', 'fast', '-crf', str(crf), '-pix_fmt', pixels,
            # The matrix that swscale (and OpenCV's reader) assume; stated, so that other players agree.
            '-sws_flags', 'bicubic+accurate_rnd+full_chroma_int', '-colorspace', 'smpte170m', '-color_range', 'tv',
            '-r', rate, '-movflags', '+faststart', str(self._temporary),
        ]

    def write(self, image: np.ndarray) -> None:
        """Append one frame, uint8 RGB [H, W, 3] of the writer's size.

        Raises:
            ImageError: another shape or type.
            StorageError: the encoder stopped (disk full).
        """
        if image.dtype != np.uint8 or image.shape != (*self.size, 3):
            raise ImageError(f'{self.path}: wanted uint8 frames [{self.size[0]}, {self.size[1]}, 3], '
                             f'found {image.dtype} {list(image.shape)}')
        if self._process is None:
            raise StorageError(f'{self.path}: is closed, no frame can follow')
        try:
            self._process.stdin.write(np.ascontiguousarray(image).data)
        except OSError as e:
            raise self._failure() from e
        self.frame_count += 1

    def close(self) -> None:
        """Finish the file under its name.

        Raises:
            RequestError: no frame was written.
            StorageError: the encoder failed; nothing is left under the name but what was there before.
        """
        if self._process is None:
            return
        if not self.frame_count:
            self.abort()
            raise RequestError(f'{self.path}: no frame to write; the input is empty')
        try:
            self._process.stdin.close()
            code = self._process.wait(_CLOSE_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise self._failure() from e
        if code:
            raise self._failure()
        try:
            self._temporary.replace(self.path)
        except OSError as e:
            raise StorageError(f'cannot write {self.path}: {(e.strerror or str(e)).lower()}') from e
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop and leave nothing behind."""
        if self._process is not None:
            with suppress(OSError):
                self._process.stdin.close()
            self._process.kill()
            self._process.wait()
            self._process = None
            self._log.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _failure(self) -> StorageError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._log.seek(0)
        said = self._log.read()[-2000:].decode(errors='replace').strip().splitlines()
        self.abort()
        full = any('No space left' in line for line in said)
        reason = 'the disk is full; free some space' if full else f'the encoder stopped: {said[-1] if said else "?"}'
        return StorageError(f'cannot write {self.path} after {self.frame_count} frames: {reason}')

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

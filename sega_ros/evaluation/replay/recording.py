"""Recorded pictures of any kind as one stream of stamped frames: bags, clips, folders of pictures."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sega_ros.errors import CameraError, ImageError, RecordingError
from sega_ros.io import VideoReader, read_image
from sega_ros.io.bags import EXPRESSION, PICTURES, BagReader, StampedImage, Topic
from sega_ros.types import FlameExpression

BAG_FILES = ('.mcap', '.db3')
_PICTURE_FILES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm')
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """What is replayed."""

    path: Path
    topic: str = ''  # of pictures, in a bag; '': its only one
    expression_topic: str = ''  # of expressions, in a bag; '': its only one
    fps: float = 30.0  # frames/s of a folder of pictures

    @property
    def is_bag(self) -> bool:
        """Whether the path is a bag."""
        return self.path.suffix in BAG_FILES or (self.path / 'metadata.yaml').is_file()


class Recording:
    """Frames of a source, as a context manager; every call of `frames` starts anew.

    `frame_count` is what the source states, None where it does not; `focal_length` that of a bag's camera_info over the image
    width, or None.
    """

    def __init__(self, source: Source):
        """Open `source`.

        Raises:
            RecordingError: it is missing, damaged, empty, or lacks the topic.
        """
        self.source, self.name, self.topic = source, source.path.name, ''
        self.frame_count: int | None = None
        self.focal_length: float | None = None
        self._bag: BagReader | None = None
        self._files: list[Path] = []
        if not source.path.exists():
            raise RecordingError(f'{source.path}: no such bag, clip or folder')
        if source.is_bag:
            self._open_bag()
        elif source.path.is_dir():
            self._open_folder()
        else:
            self._open_clip()

    def __enter__(self) -> 'Recording':
        return self

    def __exit__(self, *_) -> None:
        if self._bag is not None:
            self._bag.close()

    def frames(self) -> Iterator[StampedImage]:
        """Yield the frames in the order of their recording.

        Raises:
            RecordingError: the source is damaged there, or has no frame at all.
        """
        count = 0
        for frame in self._frames():
            count += 1
            yield frame
        if not count:
            raise RecordingError(f'{self.source.path}: has no frame; nothing can be evaluated')

    def expressions(self) -> Iterator[FlameExpression]:
        """Yield the recorded expressions of a bag.

        Raises:
            RecordingError: no bag, no such topic, or damaged there.
        """
        if self._bag is None:
            raise RecordingError(f'{self.source.path}: expressions are recorded in bags only, this is none')
        topic = self._bag.choose_topic(self.source.expression_topic, (EXPRESSION,))
        yield from self._bag.expressions(topic)

    def _open_bag(self) -> None:
        self._bag = BagReader(self.source.path)
        try:
            topic = self._picture_topic(self._bag)
        except RecordingError:
            self._bag.close()
            raise
        if topic is not None:
            self.topic, self.frame_count = topic.name, topic.count
            self.focal_length = self._bag.focal_length(topic)

    def _picture_topic(self, bag: BagReader) -> Topic | None:
        """The chosen topic of pictures; None where there is none and expressions were asked for instead."""
        has_pictures = any(t.kind in PICTURES for t in bag.topics.values())
        if not self.source.topic and self.source.expression_topic and not has_pictures:
            return None
        return bag.choose_topic(self.source.topic, PICTURES)

    def _open_folder(self) -> None:
        self._files = sorted(p for p in self.source.path.iterdir() if p.suffix.lower() in _PICTURE_FILES)
        self.frame_count = len(self._files)
        if not self._files:
            raise RecordingError(f'{self.source.path}: neither a bag (no metadata.yaml) nor a folder with pictures '
                                 f'({", ".join(_PICTURE_FILES)})')

    def _open_clip(self) -> None:
        try:
            with VideoReader(self.source.path) as reader:
                self.frame_count = reader.frame_count
        except (CameraError, ImageError) as e:
            raise RecordingError(f'{e}; wanted a bag, a clip or a folder of pictures') from e

    def _frames(self) -> Iterator[StampedImage]:
        if self._bag is not None:
            yield from self._bag.images(self._bag.choose_topic(self.topic, PICTURES))
        elif self._files:
            for k, path in enumerate(self._files):
                yield StampedImage(round(k * 1e9 / self.source.fps), '', self._picture(path))
        else:
            with VideoReader(self.source.path) as reader:
                for k, image in enumerate(reader):
                    yield StampedImage(round(k * 1e9 / reader.fps), '', image)

    def _picture(self, path: Path):
        try:
            return read_image(path)
        except ImageError as e:
            raise RecordingError(str(e)) from e


def fingerprint(path: Path, progress: Callable[[float], None] = lambda share: None) -> dict:
    """Name, size in bytes and SHA-256 of a file, or of a folder's files with their names, sorted.

    Raises:
        RecordingError: a file can't be read.
    """
    files = sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]
    total, done, digest = sum(p.stat().st_size for p in files), 0, hashlib.sha256()
    for file in files:
        if path.is_dir():
            digest.update(f'{file.relative_to(path).as_posix()}\n'.encode())
        try:
            with file.open('rb') as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    done += len(block)
                    progress(done / max(total, 1))
        except OSError as e:
            raise RecordingError(f'{file}: cannot be read ({e.strerror})') from e
    return {'name': path.name, 'bytes': total, 'sha256': digest.hexdigest()}

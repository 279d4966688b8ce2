"""Bags of ROS 2 (sqlite3, mcap, compressed) without ROS: pictures and expressions out of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.errors import ImageError, RecordingError, RequestError, SegaError
from sega_ros.io.bag_types import bag_types
from sega_ros.io.bag_writer import CAMERA_INFO, COMPRESSED, EXPRESSION, IMAGE, BagWriter
from sega_ros.io.expression_fields import NANOSECONDS, message_to_expression
from sega_ros.io.images import decode_image
from sega_ros.io.raw_images import check_raw_image, raw_image_to_rgb
from sega_ros.types import FlameExpression

__all__ = ['CAMERA_INFO', 'COMPRESSED', 'EXPRESSION', 'IMAGE', 'PICTURES', 'BagReader', 'BagWriter', 'StampedImage', 'Topic']

PICTURES = (IMAGE, COMPRESSED)
_REINDEX = '"ros2 bag reindex" (sqlite3) or "mcap recover" may save what is in it'


@dataclass(frozen=True)
class StampedImage:
    """One picture of a topic."""

    stamp_ns: int  # of its header; of its recording where the header has none
    frame_id: str
    image: np.ndarray  # [H, W, 3] uint8 RGB


@dataclass(frozen=True)
class Topic:
    """What a bag has on one topic."""

    name: str
    kind: str  # such as sensor_msgs/msg/Image
    count: int  # messages


class BagReader:
    """A bag, as a context manager: a folder with metadata.yaml, or one .mcap or .db3 file.

    Messages are read one by one in the order of their recording, whatever the bag's size.
    """

    def __init__(self, path: Path | str):
        """Open the bag.

        Raises:
            RecordingError: there is none, it is damaged, or its FlameExpression is not this version's.
        """
        from rosbags.highlevel import AnyReader

        self.path = Path(path)
        if not self.path.exists():
            raise RecordingError(f'{self.path}: no such bag; give its folder, or its .mcap or .db3 file')
        try:
            self._reader = AnyReader([self.path], default_typestore=bag_types())
            self._reader.open()
        except Exception as e:  # damaged files make the reader raise whatever its parsers do
            raise RecordingError(f'{self.path}: cannot be read as a bag ({_say(e)}); {_REINDEX}') from e
        try:
            self._check_expressions()
        except RecordingError:
            self.close()
            raise

    def __enter__(self) -> 'BagReader':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._reader.stack is not None:
            self._reader.close()

    @property
    def topics(self) -> Mapping[str, Topic]:
        """The bag's topics by name."""
        return {name: Topic(name, info.msgtype or 'several types', info.msgcount)
                for name, info in sorted(self._reader.topics.items())}

    def choose_topic(self, name: str, kinds: tuple[str, ...]) -> Topic:
        """Return topic `name`, or the only one of `kinds` when it is ''.

        Raises:
            RecordingError: there is no such topic, it has another type, or there are several to choose from.
        """
        topics = self.topics
        there = ', '.join(f'{t.name} ({t.kind}, {t.count})' for t in topics.values()) or 'none'
        usable = [t for t in topics.values() if t.kind in kinds and t.count]
        if name:
            if name not in topics:
                raise RecordingError(f'{self.path}: has no topic {name}; there are: {there}')
            if topics[name].kind not in kinds:
                raise RecordingError(f'{self.path}: topic {name} has type {topics[name].kind}, wanted {" or ".join(kinds)}; '
                                     f'there are: {there}')
            return topics[name]
        if len(usable) != 1:
            found = 'several topics' if usable else 'no topic'
            raise RecordingError(f'{self.path}: {found} with messages of type {" or ".join(kinds)}; name one of: {there}')
        return usable[0]

    def images(self, topic: Topic) -> Iterator[StampedImage]:
        """Yield the pictures of a topic.

        Raises:
            RecordingError: the bag ends or is damaged there, or a message is no picture.
        """
        for message, recorded in self._messages(topic):
            try:
                yield StampedImage(_stamp(message, recorded), message.header.frame_id, _pixels(message, topic.kind))
            except ImageError as e:
                raise RecordingError(f'{self.path}: topic {topic.name}: {e}') from e

    def expressions(self, topic: Topic) -> Iterator[FlameExpression]:
        """Yield the expressions of a topic.

        Raises:
            RecordingError: the bag ends or is damaged there, or a message holds what no expression can.
        """
        for message, _ in self._messages(topic):
            try:
                yield message_to_expression(message)
            except RequestError as e:
                raise RecordingError(f'{self.path}: topic {topic.name}: {e}') from e

    def focal_length(self, topic: Topic) -> float | None:
        """Focal length over image width as the first camera_info beside a picture's topic says, or None."""
        base = topic.name.removesuffix('/compressed').rpartition('/')[0]
        info = self.topics.get(f'{base}/camera_info')
        if info is None or info.kind != CAMERA_INFO:
            return None
        for message, _ in self._messages(info):
            fx, width = float(message.k[0]), int(message.width)
            return fx / width if width > 0 and 0.2 < fx / width < 20 else None
        return None

    def _messages(self, topic: Topic) -> Iterator[tuple[Any, int]]:
        """Messages of one topic and when they were recorded (ns)."""
        connections = [c for c in self._reader.connections if c.topic == topic.name]
        count = 0
        try:
            for connection, recorded, data in self._reader.messages(connections=connections):
                yield self._reader.deserialize(data, connection.msgtype), recorded
                count += 1
        except (SegaError, GeneratorExit):
            raise
        except Exception as e:  # see __init__
            raise RecordingError(f'{self.path}: topic {topic.name}: damaged after {count} of {topic.count} messages '
                                 f'({_say(e)}); {_REINDEX}') from e

    def _check_expressions(self) -> None:
        """A message of ours whose definition is not ours would be misread: compare the hashes of the types."""
        ours = bag_types().hash_rihs01(EXPRESSION)
        for connection in self._reader.connections:
            if connection.msgtype != EXPRESSION:
                continue
            theirs = connection.digest or self._reader.typestore.hash_rihs01(EXPRESSION)
            if theirs != ours:
                raise RecordingError(f'{self.path}: topic {connection.topic}: {EXPRESSION} was recorded with another definition '
                                     f'({theirs}, this version has {ours}); record it again, or evaluate with the version that '
                                     'recorded it')


def _stamp(message: Any, recorded: int) -> int:
    stamp = message.header.stamp
    return (stamp.sec * NANOSECONDS + stamp.nanosec) or recorded


def _pixels(message: Any, kind: str) -> np.ndarray:
    if kind == COMPRESSED:
        return decode_image(bytes(message.data), name='compressed image')
    check_raw_image(message)
    return raw_image_to_rgb(message)


def _say(error: BaseException) -> str:
    text = ' '.join(str(error).split())
    return text or type(error).__name__

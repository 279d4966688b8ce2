"""Writing bags without ROS, message by message."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sega_ros.errors import RequestError, StorageError
from sega_ros.io.bag_types import bag_types

Storage = Literal['mcap', 'sqlite3']
Compression = Literal['none', 'zstd']
_VERSION: Literal[9] = 9  # of rosbag2's metadata: Jazzy's


class BagWriter:
    """A bag of some topics as a context manager; after an error no readable bag is left.

    Example::

        with BagWriter('out/bag', {'/camera/image': 'sensor_msgs/msg/Image'}) as bag:
            bag.write('/camera/image', stamp_ns, message)
    """

    def __init__(
        self, path: Path | str, topics: Mapping[str, str], *, storage: Storage = 'mcap', compression: Compression = 'none',
    ):
        """Start a bag in the new folder `path` for `topics` (name -> message type).

        Raises:
            RequestError: an unknown storage or compression.
            StorageError: `path` exists or can't be written.
        """
        from rosbags.rosbag2 import Writer, WriterError

        self.path, self._types = Path(path), dict(topics)
        try:
            self._writer = Writer(self.path, version=_VERSION, storage_plugin=_plugin(storage))
            self._writer.set_compression(*_compression(compression, storage))
            self._writer.open()
            self._connections = {topic: self._writer.add_connection(topic, kind, typestore=bag_types())
                                 for topic, kind in topics.items()}
        except (OSError, WriterError) as e:
            raise StorageError(f'cannot write the bag {self.path}: {e}; choose another folder') from e

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Append a message, received at `stamp_ns`.

        Raises:
            StorageError: the disk is full.
        """
        data = bag_types().serialize_cdr(message, self._types[topic])
        try:
            self._writer.write(self._connections[topic], stamp_ns, data)
        except OSError as e:
            raise StorageError(f'cannot write the bag {self.path}: {e.strerror or e}; free some space') from e

    def __enter__(self) -> 'BagWriter':
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()


def _plugin(storage: str):
    from rosbags.rosbag2 import StoragePlugin

    known = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
    if storage not in known:
        raise RequestError(f'bag storage: found {storage!r}, wanted {" or ".join(known)}')
    return known[storage]


def _compression(name: str, storage: str):
    from rosbags.rosbag2 import CompressionFormat, CompressionMode

    if name not in ('none', 'zstd'):
        raise RequestError(f'bag compression: found {name!r}, wanted none or zstd')
    if name == 'none':
        return CompressionMode.NONE, CompressionFormat.ZSTD
    return (CompressionMode.STORAGE if storage == 'mcap' else CompressionMode.MESSAGE), CompressionFormat.ZSTD

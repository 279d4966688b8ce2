"""A camera for benchmarks: pictures that are serialised beforehand, published at a rate that no webcam has.

As a process of its own: `python -m sega_ros.nodes.fast_camera FRAMES.npy --rate 120`. With `--switch` and several files, each
line on standard input names the one to be shown from then on (`FRAMES`); any other name stops the stream.
"""

import argparse
import itertools
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from sega_ros.nodes import qos
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message

_STAMP = struct.Struct('<iI')  # seconds, nanoseconds: the first fields of a message with a header
_AT = 4  # bytes of CDR's own head before them
_LITTLE_ENDIAN = b'\x00\x01'


def stamped(data: bytes, stamp_ns: int) -> bytes:
    """Return a serialised message with a header, with another stamp (nanoseconds).

    Raises:
        ValueError: it is not little-endian CDR.
    """
    if data[:2] != _LITTLE_ENDIAN:
        raise ValueError(f'serialised message: wanted little-endian CDR (0001), found {data[:2].hex()}')
    return data[:_AT] + _STAMP.pack(*divmod(stamp_ns, 10**9)) + data[_AT + _STAMP.size:]


def stamp_of(data: bytes) -> int:
    """Return the stamp (nanoseconds) of a serialised message that begins with a header."""
    seconds, rest = _STAMP.unpack_from(data, _AT)
    return seconds * 10**9 + rest


def there_and_back(count: int) -> Iterator[int]:
    """Yield 0 ... count - 1 and back again, without end: a clip without a jump."""
    turn = max(1, 2 * count - 2)
    for k in itertools.count():
        at = k % turn
        yield min(at, turn - at) if count > 1 else 0


def publish(node: Node, clips: Mapping[str, np.ndarray], rate: float, *, shown: Callable[[], str],
            sent: Callable[[int], object]) -> None:
    """Publish the clip that `shown` names on `image`, `rate` per second, until the context ends.

    Each clip is uint8 RGB [N, H, W, 3]; `sent` is called with every stamp, nanoseconds.
    """
    publisher = node.create_publisher(Image, 'image', qos.newest())
    serialised = {name: [_serialised(frame) for frame in frames] for name, frames in clips.items()}
    orders = {name: there_and_back(len(messages)) for name, messages in serialised.items()}
    start = time.monotonic()
    for k in itertools.count():
        time.sleep(max(0.0, start + k / rate - time.monotonic()))
        if not node.context.ok():
            break
        if (name := shown()) not in serialised:
            continue
        stamp = time.time_ns()
        try:
            publisher.publish(stamped(serialised[name][next(orders[name])], stamp))
        except RCLError:
            if node.context.ok():
                raise
            break  # a signal closed the context
        sent(stamp)


def _serialised(frame: np.ndarray) -> bytes:
    return bytes(serialize_message(rgb_to_image_message(frame, stamp=ns_to_stamp(0), frame_id='camera_optical_frame')))


class Switch:
    """Holds the name of the clip that is shown: the line that was read last, in a thread of its own."""

    def __init__(self, first: str, lines: Iterable[str]) -> None:
        self.name = first
        self._lines = lines
        threading.Thread(target=self._read, name='switch', daemon=True).start()

    def _read(self) -> None:
        for line in self._lines:
            self.name = line.strip()


def main(args: list[str] | None = None) -> int:
    """Run the camera until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('frames', type=Path, nargs='+')
    parser.add_argument('--rate', type=float, default=120.0)
    parser.add_argument('--log', type=Path, help='file for the stamps of what was sent, one per line')
    parser.add_argument('--switch', action='store_true', help='read from standard input which file is shown')
    options = parser.parse_args(args)
    clips = {path.stem: np.load(path, mmap_mode='r', allow_pickle=False) for path in options.frames}
    switch = Switch(options.frames[0].stem, sys.stdin if options.switch else ())
    rclpy.init()
    node = Node('fast_camera', start_parameter_services=False, enable_rosout=False)
    with (options.log or Path(os.devnull)).open('w', encoding='ascii') as log:
        publish(node, clips, options.rate, shown=lambda: switch.name, sent=lambda stamp: log.write(f'{stamp}\n'))
    return 0


if __name__ == '__main__':
    sys.exit(main())

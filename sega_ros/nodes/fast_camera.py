"""A camera for benchmarks: pictures that are serialised beforehand, published at a rate that no webcam has.

As a process of its own: `python -m sega_ros.nodes.fast_camera FRAMES.npy --rate 120`.
"""

import argparse
import itertools
import struct
import sys
import time
from collections.abc import Iterator
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


def publish(node: Node, frames: np.ndarray, rate: float) -> list[int]:
    """Publish frames [N, H, W, 3] (uint8 RGB) on `image`, `rate` per second, until the context ends; return the stamps."""
    publisher = node.create_publisher(Image, 'image', qos.newest())
    serialised = [bytes(serialize_message(rgb_to_image_message(f, stamp=ns_to_stamp(0), frame_id='camera_optical_frame')))
                  for f in frames]
    stamps: list[int] = []
    start = time.monotonic()
    for k, index in enumerate(there_and_back(len(serialised))):
        time.sleep(max(0.0, start + k / rate - time.monotonic()))
        try:
            stamps.append(time.time_ns())
            publisher.publish(stamped(serialised[index], stamps[-1]))
        except RCLError:
            if node.context.ok():
                raise
            break  # a signal closed the context
    return stamps


def main(args: list[str] | None = None) -> int:
    """Run the camera until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('frames', type=Path)
    parser.add_argument('--rate', type=float, default=120.0)
    parser.add_argument('--log', type=Path, help='file for the stamps of what was sent, one per line')
    options = parser.parse_args(args)
    frames = np.load(options.frames, mmap_mode='r', allow_pickle=False)
    rclpy.init()
    node = Node('fast_camera', start_parameter_services=False, enable_rosout=False)
    stamps = publish(node, frames, options.rate)
    if options.log is not None:
        options.log.write_text('\n'.join(map(str, stamps)), encoding='ascii')
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""Bags as tests want them: frames and expressions into any storage, and two people's clips."""

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sega_ros.io.bag_types import bag_types

START = 1_700_000_000_000_000_000  # ns


def write_bag(path, messages, *, storage='mcap', compression='none'):
    """Write (topic, type, stamp_ns, message) to a new bag."""
    types, connections = bag_types(), {}
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compression != 'none':
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        for topic, kind, stamp, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(connections[topic], stamp, types.serialize_cdr(message, kind))
    return Path(path)


def header(stamp_ns, frame_id='camera'):
    types = bag_types().types
    return types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](stamp_ns // 10**9, stamp_ns % 10**9), frame_id)


def raw_image(image, stamp_ns, encoding='rgb8'):
    """A sensor_msgs/Image of uint8 [H, W, 3]."""
    height, width = image.shape[:2]
    return bag_types().types['sensor_msgs/msg/Image'](
        header=header(stamp_ns), height=height, width=width, encoding=encoding, is_bigendian=0, step=3 * width,
        data=np.ascontiguousarray(image).reshape(-1))


def image_messages(frames, *, topic='/camera/image', rate=12.5, encoding='rgb8', start=START):
    """Frames as (topic, type, stamp, message)."""
    for k, image in enumerate(frames):
        stamp = start + round(k * 1e9 / rate)
        shown = image if encoding == 'rgb8' else image[..., ::-1]
        yield topic, 'sensor_msgs/msg/Image', stamp, raw_image(shown, stamp, encoding)

"""Raw pictures as camera drivers send them: encoding, width, height, step and bytes of `sensor_msgs/Image`, to RGB.

Sizes are checked before anything of that size is allocated.
"""

from typing import Protocol

import cv2
import numpy as np

from sega_ros.errors import ImageError
from sega_ros.io.images import MAX_PIXELS, check_image_size

# encoding: bytes per pixel, OpenCV's conversion to RGB (None: it is RGB)
ENCODINGS = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
    '8UC1': (1, cv2.COLOR_GRAY2RGB),
    '8UC3': (3, cv2.COLOR_BGR2RGB),  # what OpenCV programs publish without naming the order
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
}


class RawImage(Protocol):
    """The fields of `sensor_msgs/msg/Image` that say what its pixels are, whoever read the message."""

    encoding: str
    height: int
    width: int
    step: int  # bytes of a row
    data: object  # bytes, array or ndarray of uint8


def check_raw_image(message: RawImage, *, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ImageError unless encoding, width, height, step and length of an image fit together."""
    if message.encoding not in ENCODINGS:
        raise ImageError(f'image encoding: found {message.encoding[:40]!r}, wanted one of {", ".join(ENCODINGS)}; '
                         'convert it, for example with image_proc')
    check_image_size(message.height, message.width, max_pixels=max_pixels)
    bytes_per_pixel, _ = ENCODINGS[message.encoding]
    if bytes_per_pixel == 2 and message.width % 2:
        raise ImageError(f'image: {message.encoding} wants an even width, found {message.width} px')
    row = message.width * bytes_per_pixel
    if message.step < row:
        raise ImageError(f'image step: found {message.step} bytes, wanted at least {row} for {message.width} px '
                         f'{message.encoding}')
    if len(message.data) != message.step * message.height:
        raise ImageError(f'image data: found {len(message.data)} bytes, wanted step x height = {message.step} x '
                         f'{message.height} = {message.step * message.height}')


def raw_image_to_rgb(message: RawImage) -> np.ndarray:
    """Return a checked image as uint8 RGB [H, W, 3]; an rgb8 image is a view of the message's buffer."""
    bytes_per_pixel, conversion = ENCODINGS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, :message.width * bytes_per_pixel].reshape(message.height, message.width, bytes_per_pixel)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)

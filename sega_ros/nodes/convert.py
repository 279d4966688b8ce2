"""Image messages to arrays and back. uint8 RGB [H, W, 3] inside, any supported encoding outside.

Sizes are checked before anything of that size is allocated. Filling `Image.data` through `array.frombytes` takes
microseconds, assigning an ndarray to it 64 ms for 512 x 512 pixels.
"""

import array

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sega_ros.io import decode_image
from sega_ros.io.expression_fields import NANOSECONDS
from sega_ros.io.images import MAX_PIXELS
from sega_ros.io.raw_images import ENCODINGS, check_raw_image, raw_image_to_rgb
from sega_ros.types import Camera

# cv_bridge's names for the conversions it can do; the rest is left to OpenCV directly, which is what it calls too.
_CV_BRIDGE_ENCODINGS = {'rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'yuv422', 'yuv422_yuy2'}
_LAST_SECOND = 2**31 - 1  # of a stamp, int32


def stamp_to_ns(stamp: Time) -> int:
    """Return a message's stamp as nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Return nanoseconds as a message's stamp, the nearest that it can hold."""
    held = min(max(stamp_ns, -_LAST_SECOND * NANOSECONDS), (_LAST_SECOND + 1) * NANOSECONDS - 1)
    return Time(sec=held // NANOSECONDS, nanosec=held % NANOSECONDS)


def _cv_bridge():
    """Return a CvBridge where one is installed, else None."""
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    return CvBridge()


def image_message_to_rgb(message: Image, *, bridge=None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return an image message as uint8 RGB [H, W, 3].

    An rgb8 image is a view of the message's buffer. `bridge` is a CvBridge to convert with (`CONVERTER` by default).

    Raises:
        ImageError: unsupported encoding, sizes that don't fit together, or more than `max_pixels`.
    """
    check_raw_image(message, max_pixels=max_pixels)
    bridge = bridge or CONVERTER
    bytes_per_pixel, _ = ENCODINGS[message.encoding]
    # cv_bridge misreads rows that are padded by part of a pixel.
    padded = message.step != message.width * bytes_per_pixel
    if bridge is not None and message.encoding in _CV_BRIDGE_ENCODINGS and not padded:
        return np.asarray(bridge.imgmsg_to_cv2(message, 'rgb8'))
    return raw_image_to_rgb(message)


CONVERTER = _cv_bridge()


def compressed_message_to_rgb(message: CompressedImage, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a compressed image message to uint8 RGB [H, W, 3]; the header's size is checked before decoding.

    Raises:
        ImageError: empty, corrupt, truncated, too large or of an unknown format.
    """
    return decode_image(bytes(memoryview(message.data)), name='compressed image', max_pixels=max_pixels)


def _bytes_to_data(data) -> array.array:
    filled = array.array('B')
    filled.frombytes(data)
    return filled


def rgb_to_image_message(image: np.ndarray, *, stamp: Time, frame_id: str) -> Image:
    """Return uint8 RGB [H, W, 3] as an rgb8 message."""
    height, width = image.shape[:2]
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.data = _bytes_to_data(np.ascontiguousarray(image).data.cast('B'))
    return message


def rgb_to_jpeg_message(image: np.ndarray, *, stamp: Time, frame_id: str, quality: int = 90) -> CompressedImage:
    """Return uint8 RGB [H, W, 3] as a JPEG message, format string as image_transport writes it."""
    _, encoded = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(format='rgb8; jpeg compressed bgr8')
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.data = _bytes_to_data(encoded.data.cast('B'))
    return message


def camera_to_message(camera: Camera, *, stamp: Time, frame_id: str) -> CameraInfo:
    """Return the intrinsics of an undistorted camera."""
    fx, fy, cx, cy = (float(v) for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    message = CameraInfo(height=camera.height, width=camera.width, distortion_model='plumb_bob', d=[0.0] * 5)
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message

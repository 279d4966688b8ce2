"""Writing bags of ROS 2 without ROS: pictures, cameras and expressions."""

from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.errors import RequestError, StorageError
from sega_ros.io.bag_types import bag_types
from sega_ros.io.expression_fields import JOINTS, NANOSECONDS, check_carries, rotmat_to_xyzw
from sega_ros.types import Camera, FlameExpression

IMAGE, COMPRESSED, CAMERA_INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/CameraInfo'
EXPRESSION = 'sega_ros/msg/FlameExpression'
STORAGES, COMPRESSIONS = ('mcap', 'sqlite3'), ('none', 'zstd')


class BagWriter:
    """A new bag of pictures and expressions, as a context manager; equal input gives equal messages.

    After an error what is written so far is closed without its index: no reader takes it for a whole bag.
    """

    def __init__(self, path: Path | str, *, storage: str = 'mcap', compression: str = 'none'):
        """Start a bag in the new folder `path`.

        Args:
            path: the folder.
            storage: 'mcap' or 'sqlite3'.
            compression: 'none' or 'zstd', of chunks (mcap) or messages (sqlite3).

        Raises:
            RequestError: another storage or compression.
            StorageError: the folder is there already, or can't be written.
        """
        from rosbags.rosbag2 import Writer, WriterError

        self.path = Path(path)
        self._types = bag_types()
        self._topics: dict[str, Any] = {}
        plugin, mode = _plugin(storage, compression)
        try:
            self._writer = Writer(self.path, version=9, storage_plugin=plugin)
            self._writer.set_compression(*mode)
            self._writer.open()
        except (OSError, WriterError) as e:
            raise StorageError(f'cannot write {self.path}: {_say(e)}') from e

    def __enter__(self) -> 'BagWriter':
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            self._writer.abort()
            return
        try:
            self._writer.close()
        except OSError as e:
            raise StorageError(f'cannot write {self.path}: {_say(e)}') from e

    def write_expression(self, topic: str, expression: FlameExpression) -> None:
        """Append an expression.

        Raises:
            ConfigError, RequestError: a message can't carry it.
            StorageError: the disk is full.
        """
        check_carries(expression)
        params, types = expression.params, self._types.types
        x, y, z, w = rotmat_to_xyzw(np.asarray(expression.rotation, np.float64).tolist())
        point = types['geometry_msgs/msg/Point'](*(float(v) for v in expression.translation))
        pose = types['geometry_msgs/msg/Pose'](point, types['geometry_msgs/msg/Quaternion'](x, y, z, w))
        joints = {name: np.asarray(getattr(params, name), np.float32) for name in JOINTS}
        message = types[EXPRESSION](
            header=self._header(expression.stamp_ns, expression.frame_id), head_model=expression.head_model,
            head_model_version=expression.head_model_version, face_present=bool(expression.face_present),
            confidence=float(expression.confidence), expression=np.asarray(params.expression, np.float32),
            eyelids=np.asarray(params.eyelids, np.float32), head_pose=pose, focal_length=float(expression.focal_length), **joints)
        self._write(topic, EXPRESSION, message, expression.stamp_ns)

    def write_jpeg(self, topic: str, image: np.ndarray, *, stamp_ns: int, frame_id: str, quality: int = 95) -> None:
        """Append a picture, uint8 RGB [H, W, 3], as JPEG.

        Raises:
            StorageError: the disk is full.
        """
        import cv2

        _, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        message = self._types.types[COMPRESSED](
            header=self._header(stamp_ns, frame_id), format='rgb8; jpeg compressed bgr8', data=data.reshape(-1))
        self._write(topic, COMPRESSED, message, stamp_ns)

    def write_image(self, topic: str, image: np.ndarray, *, stamp_ns: int, frame_id: str) -> None:
        """Append a picture, uint8 RGB [H, W, 3], as it is.

        Raises:
            StorageError: the disk is full.
        """
        height, width = image.shape[:2]
        message = self._types.types[IMAGE](
            header=self._header(stamp_ns, frame_id), height=height, width=width, encoding='rgb8', is_bigendian=0, step=3 * width,
            data=np.ascontiguousarray(image).reshape(-1))
        self._write(topic, IMAGE, message, stamp_ns)

    def write_camera(self, topic: str, camera: Camera, *, stamp_ns: int, frame_id: str) -> None:
        """Append the intrinsics of a camera without distortion.

        Raises:
            StorageError: the disk is full.
        """
        K, types = camera.K.astype(np.float64), self._types.types
        whole = types['sensor_msgs/msg/RegionOfInterest'](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        message = types[CAMERA_INFO](
            header=self._header(stamp_ns, frame_id), height=camera.height, width=camera.width, distortion_model='plumb_bob',
            d=np.zeros(5), k=K.reshape(-1), r=np.eye(3).reshape(-1), p=np.c_[K, np.zeros(3)].reshape(-1), binning_x=0,
            binning_y=0, roi=whole)
        self._write(topic, CAMERA_INFO, message, stamp_ns)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        types = self._types.types
        stamp = types['builtin_interfaces/msg/Time'](int(stamp_ns // NANOSECONDS), int(stamp_ns % NANOSECONDS))
        return types['std_msgs/msg/Header'](stamp, frame_id)

    def _write(self, topic: str, kind: str, message: Any, stamp_ns: int) -> None:
        if topic not in self._topics:
            self._topics[topic] = self._writer.add_connection(topic, kind, typestore=self._types)
        try:
            self._writer.write(self._topics[topic], stamp_ns, self._types.serialize_cdr(message, kind))
        except OSError as e:
            raise StorageError(f'cannot write {self.path}: {_say(e)}') from e


def _plugin(storage: str, compression: str):
    """What the writer of rosbags calls them."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

    if storage not in STORAGES or compression not in COMPRESSIONS:
        raise RequestError(f'bag: found storage {storage!r} and compression {compression!r}, wanted one of '
                           f'{", ".join(STORAGES)} and one of {", ".join(COMPRESSIONS)}')
    packed = CompressionMode.STORAGE if storage == 'mcap' else CompressionMode.MESSAGE
    mode = CompressionMode.NONE if compression == 'none' else packed
    return StoragePlugin[storage.upper()], (mode, CompressionFormat.ZSTD)


def _say(error: BaseException) -> str:
    text = ' '.join(str(error).split())
    return text or type(error).__name__

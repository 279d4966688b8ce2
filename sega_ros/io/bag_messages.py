"""Pictures, cameras and expressions as messages of bags: what `nodes/convert.py` and `nodes/expressions.py` are to ROS."""

from typing import Any

import numpy as np

from sega_ros.errors import ImageError
from sega_ros.io.bag_types import bag_types
from sega_ros.types import Camera, FlameExpression

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO, EXPRESSION = 'sensor_msgs/msg/CameraInfo', 'sega_ros/msg/FlameExpression'
_NS = 1_000_000_000


def image_to_bag(image: np.ndarray, *, stamp_ns: int, frame_id: str) -> Any:
    """Return the rgb8 `Image` of uint8 RGB [H, W, 3]."""
    height, width = image.shape[:2]
    return _kind(IMAGE)(header=_header(stamp_ns, frame_id), height=height, width=width, encoding='rgb8', is_bigendian=0,
                        step=3 * width, data=np.ascontiguousarray(image).reshape(-1))


def jpeg_to_bag(image: np.ndarray, *, quality: int, stamp_ns: int, frame_id: str) -> Any:
    """Return the `CompressedImage` of uint8 RGB [H, W, 3] as JPEG of `quality` 1 to 100.

    Raises:
        ImageError: the picture can't be encoded (larger than 65,500 px a side).
    """
    import cv2

    ok, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ImageError(f'JPEG: a picture of {image.shape[1]} x {image.shape[0]} px can\'t be encoded; take a smaller one')
    return _kind(COMPRESSED)(header=_header(stamp_ns, frame_id), format='rgb8; jpeg compressed bgr8', data=data.reshape(-1))


def camera_to_bag(camera: Camera, *, stamp_ns: int, frame_id: str) -> Any:
    """Return the `CameraInfo` of a camera without distortion (as the nodes do); its pose is not part of it."""
    K = camera.K.astype(np.float64)
    region = _kind('sensor_msgs/msg/RegionOfInterest')(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _kind(CAMERA_INFO)(
        header=_header(stamp_ns, frame_id), height=camera.height, width=camera.width, distortion_model='plumb_bob',
        d=np.zeros(5), k=K.reshape(-1), r=np.eye(3).reshape(-1), p=np.c_[K, np.zeros(3)].reshape(-1), binning_x=0, binning_y=0,
        roi=region)


def expression_to_bag(expression: FlameExpression) -> Any:
    """Return the `FlameExpression` message of an expression."""
    from scipy.spatial.transform import Rotation

    params = expression.params
    x, y, z, w = Rotation.from_matrix(np.asarray(expression.rotation, np.float64)).as_quat()
    place = [float(v) for v in expression.translation]
    pose = _kind('geometry_msgs/msg/Pose')(
        position=_kind('geometry_msgs/msg/Point')(x=place[0], y=place[1], z=place[2]),
        orientation=_kind('geometry_msgs/msg/Quaternion')(x=float(x), y=float(y), z=float(z), w=float(w)))
    joints = {name: np.asarray(getattr(params, name), np.float32)
              for name in ('neck_pose', 'jaw_pose', 'left_eye_pose', 'right_eye_pose', 'eyelids', 'expression')}
    return _kind(EXPRESSION)(
        header=_header(expression.stamp_ns, expression.frame_id), head_model=expression.head_model,
        head_model_version=expression.head_model_version, face_present=bool(expression.face_present),
        confidence=float(expression.confidence), head_pose=pose, focal_length=float(expression.focal_length), **joints)


def _header(stamp_ns: int, frame_id: str) -> Any:
    stamp = _kind('builtin_interfaces/msg/Time')(sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)
    return _kind('std_msgs/msg/Header')(stamp=stamp, frame_id=frame_id)


def _kind(name: str) -> Any:
    return bag_types().types[name]

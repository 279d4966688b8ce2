"""Expression messages as fields, whoever made the message: rclpy or a bag's reader. Limits, rotations, checks."""

import math
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sega_ros.errors import ConfigError, RequestError
from sega_ros.types import FlameExpression, FlameParams

NANOSECONDS = 1_000_000_000
MAX_COEFFICIENTS = 100
MAX_MODEL, MAX_VERSION, MAX_FRAME_ID = 32, 16, 32  # bytes
JOINTS = ('neck_pose', 'jaw_pose', 'left_eye_pose', 'right_eye_pose')
# A sender's float32 quaternion is this close to unit length; anything farther is no rotation.
_UNIT_TOLERANCE = 1e-3
# Far beyond any face (coefficients are standard deviations or shares, joints radians), and nothing overflows yet.
_LARGEST, _FARTHEST = 100.0, 1000.0  # the second in metres


def check_names(head_model: str, version: str, frame_id: str = '') -> None:
    """Raise ConfigError unless an expression message can carry these names."""
    limits = (('head model', head_model, MAX_MODEL), ('head model version', version, MAX_VERSION),
              ('optical frame id', frame_id, MAX_FRAME_ID))
    for name, value, limit in limits:
        if len(value.encode()) > limit:
            raise ConfigError(f'{name}: found {value!r} ({len(value.encode())} bytes), an expression message carries '
                              f'at most {limit}; choose a shorter one')


def check_carries(expression: FlameExpression) -> None:
    """Raise unless an expression message can carry `expression`.

    Raises:
        ConfigError: names that are too long.
        RequestError: more than 100 coefficients.
    """
    check_names(expression.head_model, expression.head_model_version, expression.frame_id)
    if len(expression.params.expression) > MAX_COEFFICIENTS:
        raise RequestError(f'expression: found {len(expression.params.expression)} coefficients, at most {MAX_COEFFICIENTS} fit')


def rotmat_to_xyzw(m: list[list[float]]) -> list[float]:
    """Return the unit quaternion of a rotation matrix.

    In plain numbers: for one rotation SciPy's checks and PyTorch's calls take thirty times as long.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = m
    # Four times the squares of x, y, z, w; the row of the largest divides by nothing small.
    rows = ((1 + xx - yy - zz, xy + yx, xz + zx, zy - yz), (xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx),
            (xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy), (zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz))
    best = max(range(4), key=lambda k: rows[k][k])
    length = math.hypot(*rows[best])
    return [value / length for value in rows[best]]


def message_to_expression(message: Any) -> FlameExpression:
    """Return the expression of a message.

    Raises:
        RequestError: values that are not finite or that no face has, an orientation that is no rotation, or a frame id that
            the message may not have.
    """
    pose, stamp = message.head_pose, message.header.stamp
    quat = np.array([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
    translation = np.array([pose.position.x, pose.position.y, pose.position.z], np.float32)
    joints = {name: np.array(getattr(message, name), np.float32) for name in JOINTS}
    coefficients, eyelids = np.array(message.expression, np.float32), np.array(message.eyelids, np.float32)
    scalars = np.array([message.confidence, message.focal_length])
    values = np.concatenate([quat, translation, coefficients, eyelids, scalars, *joints.values()])
    if not np.isfinite(values).all():
        raise RequestError('expression message: found values that are not finite numbers; drop it')
    for name, value, largest in (('coefficients', coefficients, _LARGEST), ('eyelids', eyelids, _LARGEST),
                                 ('joints', [*joints.values()], _LARGEST), ('head position', translation, _FARTHEST)):
        if np.abs(value).max(initial=0) > largest:
            raise RequestError(f'expression message: {name}: wanted values up to {largest:g}, found larger ones; drop it')
    if not 0 < message.focal_length <= _LARGEST:
        raise RequestError(f'expression message: focal length: wanted over 0 and up to {_LARGEST:g} image widths, found '
                           f'{message.focal_length:g}')
    if len(message.header.frame_id.encode('utf-8', 'replace')) > MAX_FRAME_ID:
        raise RequestError(f'expression message: found a frame id of more than {MAX_FRAME_ID} bytes; name the frame shorter')
    if abs(np.linalg.norm(quat) - 1) > _UNIT_TOLERANCE:
        raise RequestError(f'head pose: wanted a unit quaternion, found one of length {np.linalg.norm(quat):.4g}')
    rotation = Rotation.from_quat(quat).as_matrix().astype(np.float32)  # xyzw, as in the message; normalised there
    params = FlameParams(np.zeros(0, np.float32), coefficients, eyelids=eyelids, **joints)
    return FlameExpression(
        stamp.sec * NANOSECONDS + stamp.nanosec, message.header.frame_id, message.head_model, message.head_model_version,
        message.face_present, message.confidence, params, rotation, translation, message.focal_length)

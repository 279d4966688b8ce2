"""Expression messages to the core's FlameExpression and back."""

import array
import math

import numpy as np
from scipy.spatial.transform import Rotation

from sega_ros.errors import ConfigError, HeadModelMismatchError, RequestError
from sega_ros.msg import FlameExpression as FlameExpressionMessage
from sega_ros.nodes.convert import MAX_FRAME_ID, ns_to_stamp, stamp_to_ns
from sega_ros.types import FlameExpression, FlameParams

MAX_COEFFICIENTS = 100
MAX_MODEL, MAX_VERSION = 32, 16  # characters
JOINTS = ('neck_pose', 'jaw_pose', 'left_eye_pose', 'right_eye_pose')
# A sender's float32 quaternion is this close to unit length; anything farther is no rotation.
_UNIT_TOLERANCE = 1e-3


def check_names(head_model: str, version: str, frame_id: str = '') -> None:
    """Raise ConfigError unless an expression message can carry these names."""
    limits = (('head model', head_model, MAX_MODEL), ('head model version', version, MAX_VERSION),
              ('optical frame id', frame_id, MAX_FRAME_ID))
    for name, value, limit in limits:
        if len(value.encode()) > limit:
            raise ConfigError(f'{name}: found {value!r} ({len(value.encode())} bytes), an expression message carries '
                              f'at most {limit}; choose a shorter one')


def expression_to_message(expression: FlameExpression) -> FlameExpressionMessage:
    """Return the message of an expression.

    Raises:
        ConfigError: names that are too long for the message.
        RequestError: more than 100 coefficients.
    """
    check_names(expression.head_model, expression.head_model_version, expression.frame_id)
    params = expression.params
    if len(params.expression) > MAX_COEFFICIENTS:
        raise RequestError(f'expression: found {len(params.expression)} coefficients, at most {MAX_COEFFICIENTS} fit')
    message = FlameExpressionMessage(
        head_model=expression.head_model, head_model_version=expression.head_model_version,
        face_present=bool(expression.face_present), confidence=float(expression.confidence),
        focal_length=float(expression.focal_length))
    message.header.stamp, message.header.frame_id = ns_to_stamp(expression.stamp_ns), expression.frame_id
    message.expression = array.array('f', np.asarray(params.expression, np.float32).tobytes())
    message.eyelids = np.asarray(params.eyelids, np.float32)
    for name in JOINTS:
        setattr(message, name, np.asarray(getattr(params, name), np.float32))
    pose = message.head_pose
    turn = pose.orientation
    turn.x, turn.y, turn.z, turn.w = _rotmat_to_xyzw(np.asarray(expression.rotation, np.float64).tolist())
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in expression.translation)
    return message


def _rotmat_to_xyzw(m: list[list[float]]) -> list[float]:
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


def message_to_expression(message: FlameExpressionMessage) -> FlameExpression:
    """Return the expression of a message.

    Raises:
        RequestError: values that are not finite, or an orientation that is no rotation.
    """
    pose = message.head_pose
    quat = np.array([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
    translation = np.array([pose.position.x, pose.position.y, pose.position.z], np.float32)
    joints = {name: np.array(getattr(message, name), np.float32) for name in JOINTS}
    coefficients, eyelids = np.array(message.expression, np.float32), np.array(message.eyelids, np.float32)
    scalars = np.array([message.confidence, message.focal_length])
    values = np.concatenate([quat, translation, coefficients, eyelids, scalars, *joints.values()])
    if not np.isfinite(values).all():
        raise RequestError('expression message: found values that are not finite numbers; drop it')
    if abs(np.linalg.norm(quat) - 1) > _UNIT_TOLERANCE:
        raise RequestError(f'head pose: wanted a unit quaternion, found one of length {np.linalg.norm(quat):.4g}')
    rotation = Rotation.from_quat(quat).as_matrix().astype(np.float32)  # xyzw, as in the message; normalised there
    params = FlameParams(np.zeros(0, np.float32), coefficients, eyelids=eyelids, **joints)
    return FlameExpression(
        stamp_to_ns(message.header.stamp), message.header.frame_id, message.head_model, message.head_model_version,
        message.face_present, message.confidence, params, rotation, translation, message.focal_length)


def check_head_model(expression: FlameExpression, head_model: str, version: str, n_expression: int) -> None:
    """Raise HeadModelMismatchError unless an expression belongs to this head model."""
    found, wanted = (expression.head_model, expression.head_model_version), (head_model, version)
    if found != wanted:
        raise HeadModelMismatchError(f'expression message: made for head model {" ".join(found)!r}, this driver uses '
                                     f'{" ".join(wanted)!r}; use the same model on both machines')
    count = len(expression.params.expression)
    if count != n_expression:
        raise HeadModelMismatchError(f'expression message: found {count} coefficients, {" ".join(wanted)!r} has '
                                     f'{n_expression}; use the same model file on both machines')

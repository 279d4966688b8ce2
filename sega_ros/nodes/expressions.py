"""Expression messages of a node: built from the core's FlameExpression, and checked against a head model."""

import array

import numpy as np

from sega_ros.errors import HeadModelMismatchError
from sega_ros.io.expression_fields import JOINTS, check_carries, rotmat_to_xyzw
from sega_ros.msg import FlameExpression as FlameExpressionMessage
from sega_ros.nodes.convert import ns_to_stamp
from sega_ros.types import FlameExpression


def expression_to_message(expression: FlameExpression) -> FlameExpressionMessage:
    """Return the message of an expression.

    Raises:
        ConfigError: names that are too long for the message.
        RequestError: more than 100 coefficients.
    """
    check_carries(expression)
    params = expression.params
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
    turn.x, turn.y, turn.z, turn.w = rotmat_to_xyzw(np.asarray(expression.rotation, np.float64).tolist())
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in expression.translation)
    return message


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

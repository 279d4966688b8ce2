"""What a receiver renders from the bytes on the wire is what the sender would render."""

from dataclasses import replace

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from sega_ros.avatar.avatar import avatar_to_tensors, tensors_to_avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.io.expression_fields import message_to_expression
from sega_ros.msg import FlameExpression as FlameExpressionMessage
from sega_ros.nodes.expressions import expression_to_message


def over_the_wire(message):
    """Return the expression that arrives, and the number of bytes that were sent."""
    data = serialize_message(message)
    return message_to_expression(deserialize_message(data, FlameExpressionMessage)), len(data)


def tracked(driver, seed):
    """Return a message as the driver's node publishes them: lively face, turned head.

    The node renders what its message says, not what it was made from: a quaternion does not give back every bit of
    a matrix.
    """
    rng = np.random.default_rng(seed)
    neutral = driver.neutral()
    params = replace(
        neutral.params, expression=rng.uniform(0, 0.8, driver.head.n_expression).astype(np.float32),
        jaw_pose=np.float32([0.15, 0.01, 0]), left_eye_pose=np.float32([0.05, 0.1, 0]),
        right_eye_pose=np.float32([0.05, 0.12, 0]), eyelids=rng.uniform(0, 1, 2).astype(np.float32))
    rotation = (neutral.rotation @ rotvec_to_rotmat(rng.normal(size=3) * 0.2)).astype(np.float32)
    made = replace(neutral, params=params, rotation=rotation, translation=np.float32([0.02, 0.03, 0.9]),
                   focal_length=1.37, stamp_ns=1_700_000_000_123_456_789, face_present=True, confidence=0.8)
    return expression_to_message(made)


@pytest.mark.parametrize('kind', ['frontal', 'follow', 'input', 'free'])
@pytest.mark.parametrize('seed', [0, 1])
def test_rendered_from_the_serialised_message(real_avatar, head, kind, seed):
    sender = AvatarDriver(real_avatar, head)
    receiver = AvatarDriver(real_avatar, head)
    sent = tracked(sender, seed)
    received, size = over_the_wire(sent)
    assert size <= 640
    view = View(kind, (144, 160), yaw=0.3)
    receiver.render(receiver.neutral(), View(size=(32, 48)))  # what a receiver did before plays no part
    np.testing.assert_array_equal(receiver.render(received, view), sender.render(message_to_expression(sent), view))


def test_rendered_from_the_serialised_avatar_and_message(real_avatar, head):
    """The avatar file, the message and the view: nothing else is needed on the other machine."""
    stored = tensors_to_avatar(*avatar_to_tensors(real_avatar))
    again = tensors_to_avatar(*avatar_to_tensors(stored))
    sent = tracked(AvatarDriver(stored, head), 2)
    view = View('follow', (144, 160))
    np.testing.assert_array_equal(AvatarDriver(again, head).render(over_the_wire(sent)[0], view),
                                  AvatarDriver(stored, head).render(message_to_expression(sent), view))

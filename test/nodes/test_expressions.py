"""Expression messages: size, round trip, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message

from sega_ros.errors import ConfigError, HeadModelMismatchError, RequestError
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.io.expression_fields import check_names, message_to_expression
from sega_ros.msg import FlameExpression as FlameExpressionMessage
from sega_ros.nodes.expressions import check_head_model, expression_to_message
from sega_ros.types import FlameExpression, FlameParams

MAX_BYTES = 640


def example(seed=0, n=51, **changes):
    rng = np.random.default_rng(seed)

    def f(*shape):
        return rng.normal(size=shape).astype(np.float32)

    params = FlameParams(np.zeros(0, np.float32), f(n), f(3), f(3), f(3), f(3), f(2))
    rotation = rotvec_to_rotmat(rng.normal(size=3)).astype(np.float32)
    made = FlameExpression(1_700_000_000_123_456_789, 'camera', 'open', '3+anny0.6.2', True, 0.75, params, rotation,
                           f(3), 1.5)
    return replace(made, **changes)


def assert_same(a, b, atol=0.0):
    for name in ('stamp_ns', 'frame_id', 'head_model', 'head_model_version', 'face_present', 'confidence',
                 'focal_length'):
        assert getattr(a, name) == getattr(b, name), name
    for name, value in vars(a.params).items():
        np.testing.assert_array_equal(value, getattr(b.params, name), err_msg=name)
    np.testing.assert_allclose(a.rotation, b.rotation, atol=atol)
    np.testing.assert_array_equal(a.translation, b.translation)


def test_worst_case_size():
    worst = example(n=100, frame_id='f' * 32, head_model='m' * 32, head_model_version='v' * 16)
    message = expression_to_message(worst)
    data = serialize_message(message)
    assert len(data) <= MAX_BYTES
    assert deserialize_message(data, FlameExpressionMessage) == message
    assert_same(message_to_expression(message), worst, atol=1e-6)


@pytest.mark.parametrize('axis', [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-0.6, 0.48, 0.64)])
@pytest.mark.parametrize('angle', [0.0, 1e-7, 1.0, np.pi - 1e-7, np.pi])
def test_turns_pass_as_unit_quaternions(axis, angle):
    """Half turns too, where the scalar part vanishes."""
    rotation = rotvec_to_rotmat(angle * np.array(axis))
    message = expression_to_message(example(rotation=rotation))
    turn = message.head_pose.orientation
    assert np.linalg.norm([turn.x, turn.y, turn.z, turn.w]) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(message_to_expression(message).rotation, rotation, atol=1e-6)


@pytest.mark.parametrize('seed', range(5))
def test_round_trip_through_bytes(seed):
    sent = example(seed)
    data = serialize_message(expression_to_message(sent))
    assert_same(message_to_expression(deserialize_message(data, FlameExpressionMessage)), sent, atol=1e-6)


def test_a_message_is_read_the_same_everywhere():
    """What is rendered locally is read from the message before it is sent; a receiver reads the same bits."""
    message = expression_to_message(example())
    received = deserialize_message(serialize_message(message), FlameExpressionMessage)
    assert_same(message_to_expression(message), message_to_expression(received))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-np.pi, np.pi), min_size=3, max_size=3))
def test_rotations(rotvec):
    rotation = rotvec_to_rotmat(np.array(rotvec)).astype(np.float32)
    found = message_to_expression(expression_to_message(example(rotation=rotation))).rotation
    np.testing.assert_allclose(found, rotation, atol=2e-6)  # float32 in, three roundings
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-6)


def test_identity_never_travels():
    shaped = replace(example(), params=replace(example().params, shape=np.ones(300, np.float32)))
    assert serialize_message(expression_to_message(shaped)) == serialize_message(expression_to_message(example()))


@pytest.mark.parametrize(('changes', 'match'), [
    ({'frame_id': 'x' * 33}, 'optical frame id'), ({'head_model': 'x' * 33}, 'head model'),
    ({'head_model_version': 'x' * 17}, 'head model version')])
def test_names_that_do_not_fit(changes, match):
    with pytest.raises(ConfigError, match=match):
        expression_to_message(example(**changes))


def test_names_count_bytes():
    check_names('ö' * 16, 'v')
    with pytest.raises(ConfigError, match='34 bytes'):
        check_names('ö' * 17, 'v')


def test_too_many_coefficients():
    with pytest.raises(RequestError, match='found 101 coefficients'):
        expression_to_message(example(n=101))


@pytest.mark.parametrize('name', ['jaw_pose', 'eyelids', 'expression'])
def test_values_that_are_not_finite(name):
    message = expression_to_message(example())
    getattr(message, name)[0] = float('nan')
    with pytest.raises(RequestError, match='not finite'):
        message_to_expression(message)


def test_orientation_that_is_no_rotation():
    message = expression_to_message(example())
    message.head_pose.orientation.w = message.head_pose.orientation.x = 2.0
    with pytest.raises(RequestError, match='unit quaternion'):
        message_to_expression(message)
    with pytest.raises(RequestError, match='length 1'):  # ROS's default is the identity; all zeros are no rotation
        message.head_pose.orientation.w = message.head_pose.orientation.x = 1.0
        message.head_pose.orientation.y = message.head_pose.orientation.z = 0.0
        message_to_expression(message)


def test_head_model_mismatch():
    check_head_model(example(), 'open', '3+anny0.6.2', 51)
    with pytest.raises(HeadModelMismatchError, match="'open 3\\+anny0.6.2', this driver uses 'flame2020 1'"):
        check_head_model(example(), 'flame2020', '1', 51)
    with pytest.raises(HeadModelMismatchError, match='51 coefficients'):
        check_head_model(example(), 'open', '3+anny0.6.2', 50)

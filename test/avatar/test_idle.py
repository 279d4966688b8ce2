"""What is shown while no face is seen."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from sega_ros.avatar.idle import FaceHold, IdleConfig, blink, idle_expression, neutral_expression, smoothstep
from sega_ros.camera import FRONTAL
from sega_ros.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from sega_ros.types import FlameExpression, FlameParams

CONFIG = IdleConfig(hold=0.3, ease=0.6, blinks=True)
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@pytest.fixture
def last():
    params = FlameParams(np.zeros(0, np.float32), np.full(4, 0.8, np.float32), *np.full((4, 3), 0.2, np.float32),
                         np.array([0.5, 0.4], np.float32))
    rotation = (FRONTAL @ rotvec_to_rotmat(np.array([0.1, 0.5, 0.0]))).astype(np.float32)
    return FlameExpression(START, 'cam', 'open', '1', True, 0.9, params, rotation, np.float32([0, 0, 0.6]), 1.4)


def at(last, seconds, config=CONFIG):
    return idle_expression(last, START + round(seconds * SECOND), config)


def test_holds_then_eases_to_neutral(last):
    held = at(last, 0.29)
    np.testing.assert_array_equal(held.params.expression, last.params.expression)
    np.testing.assert_array_equal(held.rotation, last.rotation)
    assert not held.face_present and held.confidence == 0
    sizes = [np.abs(at(last, s).params.expression).max() for s in np.linspace(0.3, 0.9, 13)]
    assert all(a >= b for a, b in pairwise(sizes))
    neutral = at(last, 0.9)
    for name, value in vars(neutral.params).items():
        assert not value.any(), name
        assert value.dtype == np.float32, name
    np.testing.assert_allclose(neutral.rotation, FRONTAL, atol=1e-6)
    np.testing.assert_array_equal(neutral.translation, last.translation)


def test_no_jumps(last):
    """Neither lids nor pose move by more than a blink can in 10 ms."""
    steps = [at(last, s) for s in np.arange(0, 12, 0.01)]
    for a, b in pairwise(steps):
        assert np.abs(a.params.eyelids - b.params.eyelids).max() < 0.15
        assert np.linalg.norm(rotmat_to_rotvec(a.rotation @ b.rotation.T)) < 0.03


def test_blinks():
    lids = np.array([blink(s) for s in np.arange(0, 120, 0.01)])
    closed = lids > 0.5
    count = int((closed[1:] & ~closed[:-1]).sum())
    assert 25 <= count <= 35, 'one in about four seconds'
    assert lids.min() == 0 and 0.99 < lids.max() <= 1
    assert (lids > 0).mean() < 0.1
    starts = np.flatnonzero(closed[1:] & ~closed[:-1]) / 100
    assert np.diff(starts).std() > 0.3, 'not like a metronome'


def test_blinks_can_be_left_out(last):
    quiet = replace(CONFIG, blinks=False)
    assert not any(at(last, s, quiet).params.eyelids.any() for s in np.arange(1, 20, 0.05))


def test_same_input_same_output(last):
    a, b = at(last, 5.2), at(last, 5.2)
    assert all((x == y).all() for x, y in zip(vars(a.params).values(), vars(b.params).values(), strict=True))


def test_face_hold(last):
    hold = FaceHold(CONFIG)
    unseen = neutral_expression(4, 'open', '1', stamp_ns=START - SECOND)
    before = hold.update(unseen)
    assert not before.face_present and not before.params.expression.any()
    assert hold.update(last) is last
    lost = replace(neutral_expression(4, 'open', '1', stamp_ns=START + SECOND // 10), frame_id='cam2')
    held = hold.update(lost)
    np.testing.assert_array_equal(held.params.expression, last.params.expression)
    assert (held.stamp_ns, held.frame_id) == (lost.stamp_ns, 'cam2')
    assert hold.update(replace(last, stamp_ns=START + SECOND)).face_present


def test_smoothstep():
    assert [smoothstep(x) for x in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [0, 0, 0.5, 1, 1]

"""Action units of expressions, against where the face's points move, and against the table in the documentation."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sega_ros.camera import FRONTAL
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.tracking.action_units import FROM_UNITS, GAZE_FULL, HEAD_FULL, JAW_FULL, N_CODES, action_units
from sega_ros.tracking.face_points import face_points
from sega_ros.tracking.landmark_model import LandmarkModel
from sega_ros.types import FlameExpression, FlameParams

PAGE = Path(__file__).resolve().parent.parent.parent / 'docs' / 'ros4hri.md'
LEFT_EAR, RIGHT_EAR, NOSE, MENTON, RIGHT_PUPIL, LEFT_PUPIL = 16, 0, 30, 8, 68, 69


def seen(head, units=None, turn=(0.0, 0.0, 0.0), **params):
    expression = np.zeros(head.n_expression, np.float32)
    for name, value in (units or {}).items():
        expression[head.expression_index(name)] = value
    changed = replace(FlameParams.neutral(0, head.n_expression), expression=expression,
                      **{name: np.float32(value) for name, value in params.items()})
    return FlameExpression(0, '', 'open', '', True, 1.0, changed, FRONTAL @ rotvec_to_rotmat(np.array(turn)),
                           np.array([0, 0, 0.9]), 2.0)


def shown(head, *args, **kwargs):
    """Codes with their intensities where there is any."""
    found = action_units(seen(head, *args, **kwargs), head.expression_names)
    assert not found.intensity[~found.told].any()
    return {int(code): pytest.approx(float(found.intensity[code]), abs=1e-3)
            for code in np.flatnonzero(found.intensity > 1e-6)}


@pytest.mark.parametrize('code', FROM_UNITS)
def test_each_unit_is_its_code(head, code):
    for name in FROM_UNITS[code]:
        found = action_units(seen(head, {name: 0.6}), head.expression_names)
        assert found.intensity[code] == pytest.approx(0.6) and found.told[code]
        others = set(np.flatnonzero(found.intensity)) - {code}
        assert others <= {25}, 'but for parted lips nothing else'


def test_nothing_is_nothing_and_nothing_exceeds_one(head):
    assert shown(head) == {}
    assert shown(head, {'mouthSmileLeft': 1.4, 'browInnerUp': -0.3}) == {12: 1.0}


def test_lips_part_as_far_as_the_jaw_opens_them(head):
    assert shown(head, jaw_pose=[JAW_FULL / 2, 0, 0]) == {25: 0.5, 26: 0.5}
    assert shown(head, {'mouthClose': 0.5}, jaw_pose=[JAW_FULL / 2, 0, 0]) == {26: 0.5}
    assert shown(head, {'mouthLowerDownLeft': 0.4}) == {16: 0.4, 25: 0.4}


def test_eyes_are_closed_when_both_are(head):
    assert shown(head, eyelids=[1.0, 0.0]) == {} and shown(head, eyelids=[1.0, 0.7]) == {43: 0.7}


@pytest.mark.parametrize(('code', 'turn', 'point', 'axis', 'sign'), [
    (51, (0, 0.4, 0), NOSE, 0, 1), (52, (0, -0.4, 0), NOSE, 0, -1), (53, (-0.4, 0, 0), NOSE, 1, -1),
    (54, (0.4, 0, 0), NOSE, 1, 1), (55, (0, 0, -0.4), LEFT_EAR, 1, 1), (56, (0, 0, 0.4), RIGHT_EAR, 1, 1)])
def test_head_turns_are_where_the_face_goes(head, embedding, code, turn, point, axis, sign):
    """Of a picture: the subject's left is on the right, y points down."""
    model = LandmarkModel(head, embedding.faces, embedding.barys, shape=np.zeros(head.n_shape))
    before, after = (face_points(model, seen(head, turn=t), (400, 400)).points[point, axis]
                     for t in ((0, 0, 0), turn))
    assert (after - before) * sign > 0.005
    assert shown(head, turn=turn) == {code: 0.4 / HEAD_FULL}


@pytest.mark.parametrize(('code', 'gaze', 'axis', 'sign'), [
    (61, (0, 0.2, 0), 0, 1), (62, (0, -0.2, 0), 0, -1), (63, (-0.2, 0, 0), 1, -1), (64, (0.2, 0, 0), 1, 1)])
def test_eyes_turn_where_the_pupils_go(head, embedding, code, gaze, axis, sign):
    model = LandmarkModel(head, embedding.faces, embedding.barys, shape=np.zeros(head.n_shape))
    still, moved = (face_points(model, seen(head, left_eye_pose=g, right_eye_pose=g), (400, 400)).points
                    for g in (np.zeros(3), gaze))
    assert ((moved - still)[[RIGHT_PUPIL, LEFT_PUPIL], axis] * sign > 0.001).all()
    assert shown(head, left_eye_pose=gaze, right_eye_pose=gaze) == {code: 0.2 / GAZE_FULL}


def test_a_head_without_named_units_tells_joints_and_lids(head):
    expression = seen(head, jaw_pose=[JAW_FULL, 0, 0], eyelids=[1, 1])
    found = action_units(expression, tuple(f'expression_{k}' for k in range(head.n_expression)))
    assert set(np.flatnonzero(found.told)) == {26, 43, 51, 52, 53, 54, 55, 56, 61, 62, 63, 64}
    assert found.intensity[26] == found.intensity[43] == 1


def test_the_page_says_what_the_code_does(head):
    found = re.findall(r'^\| ([\d, ]+) \| [^|]+ \| ([^|]+) \|', PAGE.read_text(encoding='utf-8'), re.MULTILINE)
    rows = [(int(code), sources) for codes, sources in found for code in codes.split(', ')]
    told = action_units(seen(head), head.expression_names).told
    assert len(told) == N_CODES and [code for code, _ in rows] == list(np.flatnonzero(told))
    for code, sources in rows:
        if code in FROM_UNITS:
            assert set(re.findall(r'`(\w+)`', sources)) == set(FROM_UNITS[code])

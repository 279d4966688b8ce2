"""Points of a face under dlib's numbers: where they lie, against the posed mesh and against what a face looks like."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.camera import FRONTAL, pose_camera, project
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.skinning import pose_mesh
from sega_ros.tracking.calibration import Calibration
from sega_ros.tracking.face_points import POINTS, face_points
from sega_ros.tracking.landmark_model import LandmarkModel
from sega_ros.types import FlameExpression, FlameParams

SIZE = 300, 400
# dlib's own: the number of the point on the other side of the face.
MIRRORED = (*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
            41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65, 69, 68)
MENTON, NOSE, RIGHT_EAR, LEFT_EAR = 8, 30, 0, 16


def seen(params, *, turn=(0.0, 0.0, 0.0), at=(0.0, 0.0, 0.9)):
    return FlameExpression(0, '', 'open', '', True, 1.0, params, FRONTAL @ rotvec_to_rotmat(np.array(turn)), np.array(at), 2.0)


@pytest.fixture(scope='module')
def mean(head, embedding):
    return LandmarkModel(head, embedding.faces, embedding.barys, shape=np.zeros(head.n_shape))


@pytest.fixture(scope='module')
def neutral(head, mean):
    return face_points(mean, seen(FlameParams.neutral(0, head.n_expression)), SIZE).points * SIZE[::-1]


def test_points_are_those_of_the_posed_mesh(head, embedding):
    rng = np.random.default_rng(0)
    shape = rng.standard_normal(head.n_shape).astype(np.float32)
    params = FlameParams(shape, rng.uniform(0, 0.5, head.n_expression).astype(np.float32), jaw_pose=np.float32([0.2, 0, 0]),
                         left_eye_pose=np.float32([0.1, 0.2, 0]), eyelids=np.float32([0.3, 0.6]))
    expression = seen(replace(params, shape=np.zeros(0)), turn=(0.1, 0.4, -0.2), at=(0.05, -0.02, 0.8))
    camera = pose_camera(expression.rotation, expression.translation, 2.0, SIZE)
    pixels, _ = project(embedding.points(pose_mesh(head, params), head.faces), camera)
    found = face_points(LandmarkModel(head, embedding.faces, embedding.barys, shape=shape), expression, SIZE)
    np.testing.assert_allclose(found.points * SIZE[::-1], pixels[list(POINTS)], atol=0.01)
    np.testing.assert_allclose(found.box * np.tile(SIZE[::-1], 2), [*pixels.min(0), *pixels.max(0)], atol=0.01)
    assert found.inside.all()


def test_every_number_has_its_mirror(neutral):
    """The mean head is symmetric up to what the embedding saw; neighbouring points lie 10 px apart."""
    mirrored = neutral[list(MIRRORED)] * [-1, 1] + [SIZE[1], 0]
    assert sorted(MIRRORED) == list(range(70))
    assert np.linalg.norm(neutral - mirrored, axis=1).max() < 3.0


def test_numbers_run_as_in_dlib(neutral):
    x, y = neutral.T
    assert (np.diff(x[:17]) > 0).all(), "jaw line from the subject's right"
    assert y[MENTON] == y.max() and (np.diff(x[17:27]) > 0).all() and (np.diff(y[27:31]) > 0).all()
    assert (np.diff(x[31:36]) > 0).all() and x[36] < x[37] < x[38] < x[39] < x[42] < x[43] < x[44] < x[45]
    assert (np.diff(x[48:55]) > 0).all() and (np.diff(x[54:60]) < 0).all(), 'outer lips, clockwise from the right corner'
    assert (np.diff(x[60:65]) > 0).all() and (np.diff(x[64:68]) < 0).all()
    assert x[36] < x[68] < x[39] and x[42] < x[69] < x[45], 'pupils between the corners of their eyes'
    assert (y[17:27].max() < y[36:48].min()) and y[36:48].max() < y[33] < y[51] < y[57] < y[MENTON]
    brow, lid = y[20], y[37:39].mean()
    assert brow < lid < y[40:42].mean()


def test_what_is_outside_of_the_picture_is_cut(head, mean):
    found = face_points(mean, seen(FlameParams.neutral(0, head.n_expression), at=(-0.2, 0.0, 0.9)), SIZE)
    assert not found.inside[RIGHT_EAR] and found.inside[LEFT_EAR]
    assert found.points.min() >= 0 and found.points.max() <= 1 and found.box[0] == 0
    assert (found.inside == (found.points[:, 0] > 0)).all()


def test_a_calibration_is_undone(head):
    rng = np.random.default_rng(1)
    neutral = Calibration(*(rng.uniform(0, 0.2, n).astype(np.float32) for n in (head.n_expression, 3, 3, 3, 2)))
    params = FlameParams(np.zeros(0), *(rng.uniform(0.3, 0.8, n).astype(np.float32) for n in (head.n_expression, 3, 3, 3, 3, 2)))
    again = neutral.absolute(neutral.relative(params))
    for name, value in vars(params).items():
        np.testing.assert_allclose(getattr(again, name), value, atol=1e-6, err_msg=name)

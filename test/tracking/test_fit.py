"""Embedding, identity and expression fit on the open head, with projected landmarks of known parameters as truth."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.camera import FRONTAL, pose_camera, project
from sega_ros.errors import HeadModelError, NoFaceError, RequestError
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.skinning import pose_mesh
from sega_ros.tracking.embedding import (
    LandmarkEmbedding,
    _read,
    plain_picture,
    vertex_colors,
    write_embedding,
)
from sega_ros.tracking.expression import ExpressionFitter
from sega_ros.tracking.fit import Identity, fit_identity, reprojection, solve_personal_offset
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.tracking.solver import FitConfig
from sega_ros.tracking.topology import INNER_LIPS, LEFT_IRIS, RIGHT_IRIS
from sega_ros.types import FlameParams, Landmarks, Region

SIZE = 480, 640  # H != W


def camera_of(*, turn=(0.0, 0.0, 0.0), focal=2.2):
    rotation = FRONTAL @ rotvec_to_rotmat(np.array(turn))
    return pose_camera(rotation, np.array([0.01, -0.02, 0.9]), focal, SIZE)


def seen(head, embedding, params, camera):
    """Noiseless landmarks of the posed head, depth as MediaPipe gives it."""
    pixels, depth = project(embedding.points(pose_mesh(head, params), head.faces), camera)
    z = (depth - depth.mean()) * camera.fx / depth.mean()
    return Landmarks(np.c_[pixels, z].astype(np.float32), 1.0, SIZE[1], SIZE[0])


def person(head, seed=0):
    shape = (0.6 * np.random.default_rng(seed).standard_normal(head.n_shape)).astype(np.float32)
    return FlameParams(shape, np.zeros(head.n_expression, np.float32))


def acting(head, params, **units):
    expression = params.expression.copy()
    for name, value in units.items():
        expression[head.expression_index(name)] = value
    return replace(params, expression=expression)


def test_embedding_is_complete_and_close(head, embedding):
    assert embedding.valid.sum() >= 474
    assert embedding.median_residual_px < 2.0
    assert embedding.barys.sum(1) == pytest.approx(1, abs=1e-5)
    assert embedding.barys.min() >= -1e-6


def test_embedding_lies_where_it_should(head, embedding):
    """Irises on the eyeballs, inner lips on the lips, left and right mirrored."""
    assert (head.face_region[embedding.faces[list(LEFT_IRIS + RIGHT_IRIS)]] == Region.EYES).all()
    assert np.isin(head.face_region[embedding.faces[list(INNER_LIPS)]], (Region.FACE, Region.EYELIDS)).all()
    points = embedding.points(head.v_template, head.faces)
    assert points[263, 0] == pytest.approx(-points[33, 0], abs=0.004)  # outer corners of the eyes
    assert points[473, 0] > 0 > points[468, 0]  # the left pupil is on +x


def test_embedding_reproduces_mediapipe_on_another_identity(head, embedding):
    camera = pose_camera(FRONTAL, np.array([0, -0.0, 1.2]), 3.4, (512, 512))
    image, _, _ = plain_picture(head, person(head, 7), camera, vertex_colors(head, embedding))
    with LandmarkDetector(static_image_mode=True) as detector:
        [face] = detector.detect(image)
    pixels, _ = project(embedding.points(pose_mesh(head, person(head, 7)), head.faces), camera)
    assert np.median(np.linalg.norm(pixels - face.points[:, :2], axis=1)[embedding.valid]) < 4.0


def test_embedding_cache(tmp_path, head, embedding):
    path = tmp_path / 'deep' / 'landmarks.npz'
    write_embedding(path, embedding)
    again = _read(path, len(head.faces))
    assert (again.faces == embedding.faces).all() and (again.barys == embedding.barys).all()
    assert _read(path, 10) is None  # another mesh
    path.write_bytes(path.read_bytes()[:200])
    assert _read(path, len(head.faces)) is None
    assert list(path.parent.iterdir()) == [path]  # nothing half-written beside it


def test_unwritable_cache_is_no_error(tmp_path, embedding):
    (tmp_path / 'file').write_text('')
    write_embedding(tmp_path / 'file' / 'landmarks.npz', embedding)


def test_identity_of_a_neutral_photo(head, embedding):
    truth, camera = person(head), camera_of(turn=(0.05, -0.12, 0.03))
    fit = fit_identity(head, embedding, seen(head, embedding, truth, camera))
    angle = np.degrees(np.arccos((np.trace(fit.rotation @ camera.viewmat[:3, :3].T) - 1) / 2))
    assert fit.rms_px < 1.5
    assert angle < 2.0
    assert FitConfig().focal_min <= fit.focal_length <= 4
    assert np.abs(fit.params.expression).max() < 0.35


def test_known_focal_length_is_kept(head, embedding):
    landmarks = seen(head, embedding, person(head), camera_of(focal=3.0))
    fit = fit_identity(head, embedding, landmarks, focal_length=3.0)
    assert fit.focal_length == 3.0
    assert fit.translation[2] == pytest.approx(0.9, rel=0.08)


def test_a_smile_does_not_become_identity(head, embedding):
    camera = camera_of()
    truth = person(head)
    smile = acting(head, truth, mouthSmileLeft=0.8, mouthSmileRight=0.8)
    fit = fit_identity(head, embedding, seen(head, embedding, smile, camera))
    rest = fit_identity(head, embedding, seen(head, embedding, truth, camera))
    units = [head.expression_index(n) for n in ('mouthSmileLeft', 'mouthSmileRight')]
    assert fit.params.expression[units].mean() > rest.params.expression[units].mean() + 0.4


def test_several_pictures_share_shape_and_focal(head, embedding):
    truth = person(head)
    pictures = [seen(head, embedding, acting(head, truth, jawForward=0.2 * i), camera_of(turn=(0, 0.25 * i, 0)))
                for i in (-1, 0, 1)]
    several = fit_identity(head, embedding, pictures)
    assert several.rms_px < 1.5
    assert several.shape.shape == (head.n_shape,)


def test_landmark_offset_zeroes_the_photo(head, embedding):
    rng = np.random.default_rng(0)
    exact = seen(head, embedding, person(head), camera_of())
    error = np.c_[rng.normal(0, 2, (478, 2)), np.zeros(478)].astype(np.float32)
    noisy = Landmarks(exact.points + error, 1.0, *SIZE[::-1])
    fit = fit_identity(head, embedding, noisy)
    pose = fit.rotation, fit.translation, fit.focal_length
    found = reprojection(head, embedding, fit.identity(), fit.params, *pose, SIZE)
    assert found[embedding.valid] == pytest.approx(noisy.points[embedding.valid, :2], abs=0.02)


@pytest.fixture(scope='module')
def personal(head, embedding):
    """A photo whose landmarks are off by a smooth warp that no shape component explains."""
    exact = seen(head, embedding, person(head), camera_of())
    points = exact.points.copy()
    middle = points.mean(0)
    points[:, 0] += 4 * np.sin((points[:, 1] - middle[1]) / 25)
    photo = Landmarks(points, 1.0, *SIZE[::-1])
    fit = fit_identity(head, embedding, photo)
    return photo, fit, solve_personal_offset(head, embedding, fit)


def test_personal_offset_meets_the_photo(head, embedding, personal):
    photo, fit, identity = personal
    camera = pose_camera(fit.rotation, fit.translation, fit.focal_length, SIZE)

    def off(v_offset):
        vertices = pose_mesh(head, fit.params, v_offset=v_offset)
        pixels, _ = project(embedding.points(vertices, head.faces), camera)
        return np.median(np.linalg.norm(pixels - photo.points[:, :2], axis=1)[embedding.valid])

    assert off(identity.v_offset) < 0.25 * off(None)
    found = reprojection(head, embedding, identity, fit.params, fit.rotation, fit.translation, fit.focal_length, SIZE)
    assert found[embedding.valid] == pytest.approx(photo.points[embedding.valid, :2], abs=0.02)


def test_personal_offset_fades_and_keeps_parts_rigid(head, personal):
    _, _, identity = personal
    size = np.linalg.norm(identity.v_offset, axis=1)
    scalp = np.unique(head.faces[head.face_region == Region.SCALP])
    back = scalp[head.v_template[scalp, 2] < -0.05]
    assert size[back].mean() < 0.15 * np.quantile(size, 0.99)
    eyes = np.unique(head.faces[head.face_region == Region.EYES])
    left = eyes[head.v_template[eyes, 0] > 0]
    assert np.ptp(identity.v_offset[left], axis=0) == pytest.approx(0, abs=1e-7)


@pytest.fixture(scope='module')
def fitter(head, embedding):
    truth = person(head)
    return ExpressionFitter(head, embedding, Identity(truth.shape, focal_length=2.2))


def test_expression_of_a_frame(head, embedding, fitter):
    """Warm start from rest: a strong, asymmetric face in one call; then the same frame again moves nothing."""
    truth = acting(head, person(head), mouthSmileLeft=0.7, browInnerUp=0.6, cheekPuff=0.4)
    truth = replace(truth, jaw_pose=np.float32([0.15, 0, 0]), eyelids=np.float32([0.7, 0.0]),
                    left_eye_pose=np.float32([0.1, 0.2, 0]), right_eye_pose=np.float32([0.1, 0.2, 0]))
    camera = camera_of(turn=(0.1, 0.2, -0.05))
    rest = fitter.fit(seen(head, embedding, person(head), camera))
    landmarks = seen(head, embedding, truth, camera)
    found = fitter.fit(landmarks, rest.state, iterations=4)
    for name, value in (('mouthSmileLeft', 0.7), ('mouthSmileRight', 0.0), ('browInnerUp', 0.6), ('cheekPuff', 0.4)):
        assert found.params.expression[head.expression_index(name)] == pytest.approx(value, abs=0.3), name
    assert found.params.jaw_pose[0] == pytest.approx(0.15, abs=0.05)
    assert found.params.eyelids == pytest.approx([0.7, 0.0], abs=0.12)
    assert found.params.left_eye_pose[:2] == pytest.approx([0.1, 0.2], abs=0.06)
    assert found.rms_px < 1.0
    again = fitter.fit(landmarks, found.state)
    assert np.abs(again.params.expression - found.params.expression).max() < 0.05


def test_turning_the_head_moves_the_pose_alone(head, embedding, fitter):
    truth = person(head)
    state = fitter.fit(seen(head, embedding, truth, camera_of())).state
    turned = fitter.fit(seen(head, embedding, truth, camera_of(turn=(0, 0.5, 0))), state, iterations=5)
    want = camera_of(turn=(0, 0.5, 0)).viewmat[:3, :3]
    assert np.degrees(np.arccos((np.trace(turned.rotation @ want.T) - 1) / 2)) < 1.0
    assert np.abs(turned.params.expression).max() < 0.1


def test_a_blink_that_mediapipe_shows_by_nine_tenths_closes(head, embedding):
    truth, camera = person(head), camera_of()
    rest = seen(head, embedding, truth, camera)
    shut = seen(head, embedding, replace(truth, eyelids=np.float32([0.9, 0.9])), camera)
    identity = fit_identity(head, embedding, rest).identity()
    tracker = ExpressionFitter(head, embedding, identity)
    found = tracker.fit(shut, tracker.fit(rest).state, iterations=4)
    assert found.params.eyelids.min() > 0.85


def test_failures_are_named(head, embedding):
    with pytest.raises(NoFaceError, match='at least one picture'):
        fit_identity(head, embedding, [])
    landmarks = seen(head, embedding, person(head), camera_of())
    with pytest.raises(RequestError, match='focal_length: wanted 0.2 to 50'):
        fit_identity(head, embedding, landmarks, focal_length=0.0)
    hole = embedding.valid.copy()
    hole[INNER_LIPS[3]] = False
    broken = LandmarkEmbedding(embedding.faces, embedding.barys, hole, embedding.residual_px)
    with pytest.raises(HeadModelError, match='lids or inner lips'):
        fit_identity(head, broken, landmarks)

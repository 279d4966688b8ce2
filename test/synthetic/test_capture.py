"""Captures of varied synthetic people: the same for a seed, true to their masks, lit alike from every side."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.camera import project
from sega_ros.cli.app import run
from sega_ros.head.skinning import pose_mesh
from sega_ros.synthetic.capture import TARGET, camera_ring, draw_asymmetry, make_capture, open_studio, take_shot
from sega_ros.synthetic.expressions import WIDE_OPEN, draw_expression
from sega_ros.synthetic.folds import folded
from sega_ros.synthetic.glasses import fit_glasses
from sega_ros.synthetic.look import BEARDS, GLASSES, STYLES, Look
from sega_ros.synthetic.performer import Performer
from sega_ros.synthetic.person import draw_truth, make_person
from sega_ros.types import FlameParams, Region

SMALL = {'shots': 4, 'size': 96, 'photo_size': 128, 'texture_size': 160}


@pytest.fixture(scope='module')
def capture(head):
    return make_capture(head, 5, **SMALL)


def test_equal_seeds_give_equal_captures_and_others_differ(head, capture):
    again, other = make_capture(head, 5, **SMALL), make_capture(head, 6, **SMALL)
    assert capture.name == again.name == 'synthetic-000005' and other.name == 'synthetic-000006'
    for a, b in zip((capture.photo, *capture.shots), (again.photo, *again.shots), strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.params.expression, b.params.expression)
    assert not np.allclose(capture.shape, other.shape) and not np.array_equal(capture.photo.image, other.photo.image)
    assert not np.array_equal(capture.v_offset, other.v_offset)


def test_sizes_and_parameters(head, capture):
    assert capture.photo.image.shape == (128, 128, 3) and len(capture.shots) == 4
    for shot in capture.shots:
        assert shot.image.shape == (96, 96, 3) and shot.image.dtype == np.uint8 and shot.background.shape == (3,)
        assert np.array_equal(shot.params.shape, capture.shape) and not shot.params.neck_pose.any()
    yaw, pitch = _angles(capture.photo.camera)
    assert abs(yaw) <= 12.5 and abs(pitch) <= 6.5


def test_masks_agree_with_the_matte_and_the_background(capture):
    for shot in (capture.photo, *capture.shots):
        assert (shot.alpha[shot.head] > 127).all() and (shot.alpha[shot.face] > 0).all()
        assert (shot.face & shot.head).sum() > 0.97 * shot.face.sum() and 0.02 < shot.face.mean() < 0.3
        assert shot.head.sum() > shot.face.sum() and (shot.alpha > 127).sum() > shot.head.sum()
        empty = shot.alpha == 0
        assert empty.mean() > 0.2
        assert np.abs(shot.image[empty] - np.round(shot.background * 255)).max() <= 1


def test_the_mesh_lies_where_the_truth_says(head, capture):
    for shot in capture.shots:
        mesh = pose_mesh(head, shot.params, v_offset=capture.v_offset)
        eyes = mesh[np.unique(head.faces[head.face_region == Region.EYELIDS])]
        xy = project(eyes, shot.camera)[0].astype(int)
        assert shot.alpha[xy[:, 1], xy[:, 0]].mean() > 250


def test_ring_looks_at_the_head():
    ring = camera_ring(size=64)
    assert len(ring) == 16
    angles = np.array([_angles(camera) for camera in ring])
    assert np.abs(angles[:, 0]).max() == pytest.approx(48, abs=0.5) and np.abs(angles[:, 1]).max() == pytest.approx(16, abs=0.5)
    assert len({(round(y), round(p)) for y, p in angles}) == 16
    for camera in ring:
        rotation = camera.viewmat[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) and np.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
        xy, z = project(TARGET, camera)
        assert np.allclose(xy, 32, atol=0.01) and z == pytest.approx(1.0, abs=1e-4)


def _angles(camera) -> tuple[float, float]:
    """Degrees to the subject's left and up from which a camera looks at the target."""
    rotation = camera.viewmat[:3, :3].astype(np.float64)
    away = -rotation.T @ camera.viewmat[:3, 3] - TARGET
    return np.degrees(np.arctan2(away[0], away[2])), np.degrees(np.arctan2(away[1], np.hypot(away[0], away[2])))


def test_light_stays_with_the_head(head):
    """Each cheek is about as bright from any side."""
    studio = open_studio(head, 1, texture_size=160)
    neutral = FlameParams.neutral(head.n_shape, head.n_expression)
    seen = {}
    for k, camera in enumerate(camera_ring(size=160)):
        if k in (2, 3, 4, 5):
            drawing = take_shot(studio, neutral, camera, np.random.default_rng(0))
            mesh = studio.person.poser.pose(neutral)
            for side in (1, -1):
                near = mesh[np.linalg.norm(mesh - np.array([side * 0.035, -0.005, 0.05]), axis=1) < 0.012]
                x, y = project(near.mean(0), camera)[0].astype(int)
                seen.setdefault(side, []).append(drawing.image[y - 2 : y + 3, x - 2 : x + 3].mean())
    for values in seen.values():
        assert np.ptp(values) < 0.15 * np.mean(values)


def test_faces_are_well_exposed(head):
    for seed in range(4):
        studio = open_studio(head, seed, texture_size=128)
        neutral, rng = FlameParams.neutral(head.n_shape, head.n_expression), np.random.default_rng(0)
        shot = take_shot(studio, neutral, camera_ring(size=96)[3], rng)
        luma = shot.image[shot.face].mean(0) @ [0.2126, 0.7152, 0.0722] / 255
        assert 0.2 < luma < 0.72


def test_expressions_cover_the_face(head):
    rng = np.random.default_rng(0)
    drawn = [draw_expression(head, np.zeros(head.n_shape, np.float32), rng) for _ in range(400)]
    assert (np.max([d.expression for d in drawn], axis=0) > 0.5).all() and all(0 <= d.expression.min() for d in drawn)
    lids, jaw = np.array([d.eyelids for d in drawn]), np.array([d.jaw_pose[0] for d in drawn])
    assert 0.12 < (lids.max(1) > 0.2).mean() < 0.4 and jaw.max() > 0.3 and jaw.max() <= WIDE_OPEN + 1e-6
    gaze = np.degrees([d.left_eye_pose for d in drawn])
    assert 15 < np.abs(gaze[:, 1]).max() <= 27 and 10 < np.abs(gaze[:, 0]).max() <= 17


def test_looks_reach_every_kind():
    looks = [Look.vary(seed) for seed in range(300)]
    assert {look.style for look in looks} == {*STYLES, 'bald', 'buzz'}
    assert {look.beard for look in looks} == {*BEARDS, ''} and {look.glasses for look in looks} == {*GLASSES, ''}
    assert 0.08 < np.mean([look.glasses != '' for look in looks]) < 0.25
    assert {look.collar for look in looks} == {'crew', 'wide', 'high', 'shirt', 'hood'}
    assert min(look.tone for look in looks) < 0.05 and max(look.tone for look in looks) > 0.9
    assert min(look.age for look in looks) < 0.05 and max(look.age for look in looks) > 0.9
    brightness = np.array([look.hair.mean() for look in looks])
    assert brightness.min() < 0.1 and brightness.max() > 0.65
    for look in looks:
        colors = [look.skin, look.lips, look.iris, look.hair, look.cloth]
        assert all((np.asarray(c) >= 0).all() and (np.asarray(c) <= 1).all() for c in colors)
    assert Look.vary(7).style == Look.vary(7).style


@pytest.mark.parametrize('kind', GLASSES)
def test_glasses_sit_before_the_eyes(head, kind):
    person = make_person(head, 3, texture_size=64)
    rest = person.poser.rest
    glasses = fit_glasses(head, rest, kind, thickness=0.002)
    eyes = (head.J_regressor @ rest)[3:5]
    lenses = glasses.points[np.unique(glasses.lenses)]
    ball = rest[np.unique(head.faces[head.face_region == Region.EYES])]
    for eye in eyes:
        lens = lenses[lenses[:, 0] * eye[0] > 0]
        assert lens[:, 2].min() > ball[:, 2].max() and np.abs(lens.mean(0)[:2] - eye[:2]).max() < 0.008
    ears = rest[np.unique(head.faces[head.face_region == Region.EARS])]
    frame = glasses.points[np.unique(glasses.frame)]
    assert frame[:, 2].min() < ears[:, 2].max() and np.abs(frame[:, 0]).max() < np.abs(ears[:, 0]).max() + 0.02


def test_asymmetry_is_small_and_leaves_the_neck(head):
    offset = draw_asymmetry(head, 4)
    assert 0.0003 < np.linalg.norm(offset, axis=1).max() <= 0.0020001
    assert not offset[head.v_template[:, 1] < -0.115].any()


def test_folds_follow_the_brows_and_age(head):
    def change(age: float, unit: str) -> float:
        person = make_person(head, 2, texture_size=160, look=replace(Look.vary(2), age=age))
        expression = np.zeros(head.n_expression, np.float32)
        assert np.array_equal(folded(person.scene.skin, person.folds, expression), person.scene.skin)
        expression[head.expression_index(unit)] = 1
        return float(np.abs(folded(person.scene.skin, person.folds, expression) - person.scene.skin).max())

    assert 0 < change(0.0, 'browInnerUp') < 0.5 * change(1.0, 'browInnerUp')
    assert change(1.0, 'mouthSmileLeft') > 0 and change(1.0, 'mouthFunnel') == 0


def test_beards_move_with_the_jaw(head):
    look = replace(Look.vary(2), beard='full', beard_length=0.01, beard_hair=np.array([[0.1] * 3, [0.2] * 3]))
    person = make_person(head, 2, texture_size=64, look=look)
    neutral = FlameParams.neutral(head.n_shape, head.n_expression)
    camera = camera_ring(size=96)[3]
    shut = draw_truth(person, neutral, camera)
    wide = draw_truth(person, replace(neutral, jaw_pose=np.array([0.3, 0, 0], np.float32)), camera)
    bare = draw_truth(make_person(head, 2, texture_size=64, look=replace(look, beard='')), neutral, camera)
    assert np.isin(bare.region, (Region.FACE,)).sum() > 1.15 * np.isin(shut.region, (Region.FACE,)).sum()
    assert np.abs(shut.image.astype(int) - wide.image).mean() > 0.5


def test_performers_are_as_ever(head):
    """Mean brightness of 4 x 4 blocks, as drawn before people were varied."""
    image = Performer(head, seed=0, size=(96, 96), person=make_person(head, 0, texture_size=256)).frame(1.3)[0]
    blocks = image.reshape(4, 24, 4, 24, 3).mean((1, 3, 4))
    assert np.abs(blocks - [[111.4, 97.4, 100.5, 125.5], [105.0, 108.9, 125.6, 115.0], [98.9, 123.2, 116.5, 106.6],
                            [83.6, 84.0, 70.4, 88.9]]).max() < 0.3


def test_sheet_by_command(capsys, tmp_path):
    out = tmp_path / 'people.png'
    assert run(['data', 'sample', '--out', str(out), '--people', '1', '--json']) == 0 and out.stat().st_size > 50_000
    assert run(['data', 'sample', '--out', 'people.jpg', '--json']) == 1
    assert run(['data', 'sample', '--people', '0', '--json']) == 1

"""The synthetic person: deterministic, exactly where the truth says, and a face to MediaPipe in every frame."""

import numpy as np
import pytest

from sega_ros.camera import project
from sega_ros.errors import RequestError
from sega_ros.head.skinning import pose_mesh
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.performer import Performer
from sega_ros.synthetic.person import draw_person, make_person
from sega_ros.synthetic.script import PERIOD, Script, _hat
from sega_ros.types import FlameParams, Region


@pytest.fixture(scope='module')
def performer(head):
    return Performer(head, seed=0, person=make_person(head, 0, texture_size=768))


def test_frames_are_deterministic_and_repeat(head, performer):
    image, params, camera = performer.frame(1.3)
    assert image.shape == (512, 512, 3) and image.dtype == np.uint8
    again = Performer(head, seed=0, person=make_person(head, 0, texture_size=768))
    for t in (1.3, 1.3 + PERIOD):
        other, other_params, other_camera = again.frame(t)
        assert np.array_equal(image, other)
        assert np.allclose(params.expression, other_params.expression, atol=1e-6)
        assert np.allclose(camera.viewmat, other_camera.viewmat, atol=1e-6)


def test_other_seeds_are_other_people(head, performer):
    looks = [Look.draw(seed) for seed in range(30)]
    assert len({look.tone for look in looks}) == 30
    assert 0 < sum(look.hair_curtain > 0 for look in looks) < 30
    assert not np.allclose(make_person(head, 1, texture_size=128).shape, performer.person.shape)


def test_size_is_height_then_width(head, performer):
    image, _, camera = Performer(head, size=(120, 200), person=performer.person).frame(0.0)
    assert image.shape == (120, 200, 3) and (camera.height, camera.width) == (120, 200)


def test_the_picture_shows_the_mesh_where_truth_says(head, performer):
    """The pupil lies where it projects to: much darker than the cheek below."""
    for t in (0.0, 1.7, 5.6):
        image, params, camera = performer.frame(t)
        vertices = pose_mesh(head, params)
        eyes = vertices[np.unique(head.faces[head.face_region == Region.EYES])]
        for left in (True, False):
            ball = eyes[(eyes[:, 0] > 0) == left]
            rest = pose_mesh(head, FlameParams.neutral(head.n_shape, head.n_expression))
            pupil = _pupil(head, vertices, rest, left)
            (x, y), _ = project(pupil, camera)
            dark = image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean(2).min()
            (x, y), _ = project(ball.mean(0) + np.array([0, -0.035, 0.02]), camera)
            cheek = image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean()
            assert dark < 0.5 * cheek


def _pupil(head, vertices, rest, left):
    """The foremost vertex of an eyeball at rest, where it is now."""
    index = np.unique(head.faces[head.face_region == Region.EYES])
    index = index[(rest[index, 0] > 0) == left]
    return vertices[index[rest[index, 2].argmax()]]


def test_mediapipe_follows_every_frame(head, performer):
    """Every second frame of the whole performance: a face is found, within pixels of the truth."""
    from sega_ros.tracking.embedding import landmark_embedding
    from sega_ros.tracking.landmarks import LandmarkDetector

    embedding = landmark_embedding(head)
    errors = []
    with LandmarkDetector() as detector:
        for t in np.arange(0, PERIOD, 1 / 15):
            image, params, camera = performer.frame(t)
            faces = detector.detect(image)
            assert len(faces) == 1, f'no face, or several, at {t:.2f} s'
            truth, _ = project(embedding.points(pose_mesh(head, params), head.faces), camera)
            error = np.linalg.norm(faces[0].points[:, :2] - truth, axis=1)[embedding.valid]
            errors.append(np.median(error))
    assert np.median(errors) < 4.0 and np.max(errors) < 9.0


def test_other_heads_are_refused(head):
    from dataclasses import replace

    bare = replace(head, face_region=np.full_like(head.face_region, Region.FACE))
    with pytest.raises(RequestError, match='use the open head'):
        make_person(bare, 0)


def test_background_and_empty_scene(head, performer):
    """A head out of the picture leaves the background alone."""
    _, params, camera = performer.frame(0.0)
    away = camera.viewmat.copy()
    away[0, 3] = 5.0
    from dataclasses import replace
    background = np.full((512, 512, 3), 0.2, np.float32)
    image = draw_person(performer.person, params, replace(camera, viewmat=away), background=background)
    assert (image == image[0, 0]).all() and 120 < image[0, 0, 0] < 130  # sRGB of 0.2


# The script


def test_script_is_smooth_and_periodic():
    script, steps = Script(3), np.arange(0, PERIOD, 1 / 120)
    moments = [script.at(t) for t in steps]
    jaw = np.array([m.jaw for m in moments])
    turn = np.array([m.turn for m in moments])
    assert np.abs(np.diff(jaw)).max() < 0.03 and np.degrees(np.abs(np.diff(turn, axis=0)).max()) < 1.0
    a, b = script.at(0.0), script.at(PERIOD - 1e-6)
    assert np.allclose(a.turn, b.turn, atol=1e-3) and np.allclose(a.gaze, b.gaze, atol=1e-3)
    assert abs(a.jaw - b.jaw) < 1e-3


def test_script_covers_the_face():
    moments = [Script(0).at(t) for t in np.arange(0, PERIOD, 1 / 60)]
    assert max(m.eyelids[0] for m in moments) > 0.98 and min(m.eyelids[0] for m in moments) < 0.05
    assert max(m.jaw for m in moments) > 0.2 and min(m.jaw for m in moments) < 0.01
    yaw = np.degrees([m.turn[0] for m in moments])
    assert yaw.max() > 15 and yaw.min() < -15
    used = {name for m in moments for name, value in m.units.items() if value > 0.2}
    assert {'mouthSmileLeft', 'mouthPucker', 'browInnerUp', 'browDownRight', 'cheekSquintLeft'} <= used
    assert all(0 <= v <= 1 for m in moments for v in m.units.values())


def test_visemes_overlap_to_one():
    assert sum(_hat(0.3 + k) for k in range(-2, 3)) == pytest.approx(1.0)


def test_gaze_and_turn_signs(head, performer):
    """Yaw to the subject's left moves the nose to the picture's right; pitch up moves it up."""
    from sega_ros.geometry import rotvec_to_rotmat
    from sega_ros.synthetic.performer import rotvec_of

    nose = np.array([0.0, 0.0, 0.1])
    assert (rotvec_to_rotmat(rotvec_of(0.3, 0, 0)) @ nose)[0] > 0.02
    assert (rotvec_to_rotmat(rotvec_of(0, 0.3, 0)) @ nose)[1] > 0.02
    assert (rotvec_to_rotmat(rotvec_of(0, 0, 0.3)) @ [0.0, 0.1, 0.0])[0] > 0.02

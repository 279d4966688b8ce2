"""Glasses: told from bare faces, taken off the skin, and given back before the eyes."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from sega_ros.avatar.glasses import best_path, find_glasses, line_contrast, remove_glasses
from sega_ros.avatar.glasses_shell import glasses_shell, temple_path
from sega_ros.avatar.photo import prepare_photo
from sega_ros.avatar.shell import join_shells
from sega_ros.avatar.texture import mesh_buffer
from sega_ros.camera import project
from sega_ros.head.skinning import Poser
from sega_ros.models.uv import UvLayout
from sega_ros.synthetic.capture import DISTANCE, _camera, draw_asymmetry, open_studio, take_shot
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.person import make_person
from sega_ros.tracking.embedding import landmark_embedding
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.training.examples import capture_photo
from sega_ros.types import Capture, FlameParams, Region

# --- lines ------------------------------------------------------------------------------------------------------------

def test_a_line_is_darker_than_both_of_its_sides():
    profile = np.zeros((3, 40), np.float32)
    profile[0, 20] = -0.3
    profile[1, 20:] = -0.3  # an edge is no line
    profile[2] = np.linspace(0, 1, 40)  # nor is a slope
    contrast = line_contrast(profile)
    assert contrast[0].argmax() == 20 and contrast[0, 20] == pytest.approx(0.3)
    assert contrast[1].max() < 0.11 and contrast[2].max() <= 1e-6


def test_a_broad_line_counts_a_broader_one_does_not():
    profile = np.zeros((2, 60), np.float32)
    profile[0, 27:33] = -0.3
    profile[1, 15:45] = -0.3
    contrast = line_contrast(profile)
    assert contrast[0, 30] == pytest.approx(0.3) and contrast[1, 30] == 0


def test_the_best_path_follows_a_bent_line():
    wanted = np.round(20 + 8 * np.sin(np.arange(50) / 8)).astype(int)
    gain = np.random.default_rng(0).uniform(0, 0.1, (50, 45))
    gain[np.arange(50), wanted] = 0.5
    np.testing.assert_array_equal(best_path(gain), wanted)


def test_a_closed_path_ends_where_it_began():
    turn = np.arange(72) * 2 * np.pi / 72
    wanted = np.round(20 + 6 * np.cos(turn + 1)).astype(int)
    gain = np.zeros((72, 40))
    gain[np.arange(72), wanted] = 0.4
    path = best_path(gain, closed=True)
    np.testing.assert_array_equal(path, wanted)
    assert np.abs(np.diff(np.append(path, path[0]))).max() <= 2


def test_a_path_bends_no_more_than_allowed():
    gain = np.random.default_rng(1).random((30, 25))
    assert np.abs(np.diff(best_path(gain, bends=1))).max() <= 1


# --- real faces -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def portrait(astronaut):
    """Photo of a real face without glasses."""
    with LandmarkDetector(static_image_mode=True) as detector:
        return prepare_photo(astronaut, detector.detect)


def worn(photo, color, *, width=4):
    """The photo with a frame drawn on it, and where."""
    points = (photo.landmarks.points[:, :2] - photo.origin) * photo.scale
    right, left = (points[list(corners)].mean(0) for corners in ((33, 133), (263, 362)))
    ipd, mask = np.linalg.norm(left - right), np.zeros(photo.alpha.shape, np.uint8)
    for eye in (right, left):
        centre = np.round(eye + np.array([0, 0.05]) * ipd).astype(int)
        cv2.ellipse(mask, centre, (int(0.40 * ipd), int(0.30 * ipd)), 0, 0, 360, 1, width)
    middle = (left + right) / 2
    cv2.line(mask, *(np.round(middle + np.array([s * 0.11, -0.02]) * ipd).astype(int) for s in (-1, 1)), 1, width)
    mask = mask > 0
    image = photo.image.copy()
    image[mask] = color
    return replace(photo, image=image, color=image.copy()), mask


def test_a_bare_face_has_none(portrait):
    assert find_glasses(portrait) is None
    flipped = replace(portrait, image=portrait.image[:, ::-1].copy())  # landmarks and picture don't belong together
    assert find_glasses(flipped) is None


@pytest.mark.parametrize('color', [(0.1, 0.08, 0.08), (0.35, 0.1, 0.08), (0.97, 0.97, 1.0)])
def test_drawn_frames_are_found_and_taken_off(portrait, color):
    photo, drawn = worn(portrait, color)
    glasses = find_glasses(photo)
    assert glasses is not None and 0.5 <= glasses.confidence < 1
    assert (glasses.mask & drawn).sum() > 0.8 * drawn.sum()
    near = cv2.dilate(drawn.astype(np.uint8), np.ones((9, 9))) > 0
    assert (glasses.front & near).sum() > 0.8 * glasses.front.sum()
    bare = remove_glasses(photo, glasses)
    before, after = (np.abs(p.image - portrait.image)[drawn].mean() for p in (photo, bare))
    assert after < 0.3 * before
    away = ~(cv2.dilate((glasses.mask | drawn).astype(np.uint8), np.ones((11, 11))) > 0)
    np.testing.assert_array_equal(bare.image[away], photo.image[away])
    assert len(bare.warnings) == len(photo.warnings) + 1
    assert find_glasses(bare) is None


def test_a_plain_picture_has_none(portrait):
    assert find_glasses(replace(portrait, image=np.full_like(portrait.image, 0.5))) is None


# --- synthetic people with known truth --------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def layout(head):
    return UvLayout.build(head, 96)


def pictured(head, layout, seed, *, bare=False):
    """Photo, camera and mesh of a person with or without their glasses, under one light."""
    studio = open_studio(head, seed, texture_size=256)
    if bare:
        person = make_person(head, seed, texture_size=256, look=replace(Look.vary(seed), glasses=''),
                             v_offset=draw_asymmetry(head, seed))
        studio = replace(studio, person=person)
    neutral = FlameParams.neutral(head.n_shape, head.n_expression)
    shot = take_shot(studio, neutral, _camera(0.08, -0.03, DISTANCE, 512), np.random.default_rng(3))
    capture = Capture('x', studio.person.shape, studio.person.v_offset, shot, ())
    photo, camera = capture_photo(layout, landmark_embedding(head), capture)
    vertices = Poser(head, capture.shape, v_offset=capture.v_offset).pose(replace(neutral, shape=capture.shape))
    return SimpleNamespace(photo=photo, camera=camera, vertices=vertices)


@pytest.fixture(scope='module')
def wearer(head, layout):
    seed = next(s for s in range(50_000, 50_100) if Look.vary(s).glasses)
    scene = pictured(head, layout, seed)
    return SimpleNamespace(**vars(scene), glasses=find_glasses(scene.photo), bare=pictured(head, layout, seed, bare=True).photo)


def test_of_synthetic_people_only_wearers_wear_them(head, layout, wearer):
    assert wearer.glasses is not None and find_glasses(wearer.bare) is None
    seeds = [s for s in range(50_200, 50_260) if not Look.vary(s).glasses][:2]
    assert all(find_glasses(pictured(head, layout, s).photo) is None for s in seeds)


def test_the_skin_beneath_comes_near_the_truth(wearer):
    frame = wearer.glasses.mask
    removed = remove_glasses(wearer.photo, wearer.glasses)
    before, after = (np.abs(p.image - wearer.bare.image)[frame].mean() for p in (wearer.photo, removed))
    assert after < 0.35 * before


@pytest.fixture(scope='module')
def shell(head, wearer):
    return glasses_shell(wearer.glasses, wearer.photo, wearer.vertices, wearer.camera, head)


def test_the_frame_stands_before_the_eyes_and_outside_of_the_skin(head, wearer, shell):
    means = shell.splats.means.numpy()
    assert 300 < len(means) < 6000 and not shell.torso.any()
    eyes = wearer.vertices[np.unique(head.faces[head.face_region == Region.EYES])]
    rims = means[(np.abs(np.abs(means[:, 0]) - 0.03) < 0.01) & (means[:, 2] > eyes[:, 2].max() - 0.004)]
    ahead = rims[:, 2] - eyes[:, 2].max()
    assert len(rims) > 100 and 0.008 < np.median(ahead) < 0.025
    xy, depth = project(means, wearer.camera)
    cols, rows = np.clip(np.floor(xy), 0, 511).astype(int).T
    surface = mesh_buffer(head, wearer.vertices, wearer.camera).depth[rows, cols]
    seen = rims[:, 2].min() < means[:, 2]  # temples run beside the face
    assert (depth < surface)[seen].mean() > 0.99


def test_splats_of_the_frame_are_sane(shell, wearer):
    splats = shell.splats
    assert torch.isfinite(splats.means).all() and 0 < splats.scales.min() and splats.scales.max() < 0.006
    assert splats.colors.min() >= 0 and splats.colors.max() <= 1 and 0 < splats.opacities.min() and splats.opacities.max() < 1
    np.testing.assert_allclose(np.linalg.norm(shell.normals, axis=1), 1, atol=1e-4)
    assert (shell.fade[:, 1] < -1).all(), 'seen from both sides'
    solid = splats.opacities.numpy() > 0.8
    assert np.abs(np.median(splats.colors.numpy()[solid], 0) - wearer.glasses.color).max() < 0.15


def test_temples_reach_both_ears(head, wearer, shell):
    means = shell.splats.means.numpy()
    ears = wearer.vertices[np.unique(head.faces[head.face_region == Region.EARS])]
    for side in (-1, 1):
        ear = ears[ears[:, 0] * side > 0]
        near = means[means[:, 0] * side > 0]
        assert np.linalg.norm(near - ear[ear[:, 1].argmax()], axis=1).min() < 0.012


def test_a_temple_runs_outside_of_the_head(head, wearer):
    skin = wearer.vertices[np.unique(head.faces[np.isin(head.face_region, (Region.FACE, Region.SCALP))])]
    path = temple_path(np.array([0.06, 0.03, 0.05]), wearer.vertices, head)[:60]
    assert (np.diff(path[:, 0]) >= 0).all() and path[0, 2] > path[-1, 2]
    for point in path[1:]:
        near = skin[(np.linalg.norm(skin[:, 1:] - point[1:], axis=1) < 0.006) & (skin[:, 0] > 0)]
        assert point[0] > near[:, 0].max(initial=0)


def test_shells_join_in_order(shell):
    both = join_shells([shell, shell])
    n = len(shell.splats)
    assert len(both.splats) == 2 * n and torch.equal(both.splats.means[n:], shell.splats.means)
    np.testing.assert_array_equal(both.fade[:n], shell.fade)

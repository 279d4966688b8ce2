"""Scenes of the benchmark: what happens in them, and what the webcam makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.synthetic.film import Film
from sega_ros.synthetic.hand import load_hand
from sega_ros.synthetic.renderer import srgb_to_linear
from sega_ros.synthetic.scenes import SCENES
from sega_ros.synthetic.script import Script
from sega_ros.synthetic.webcam import Webcam, exposed, photograph

SIZE = (120, 160)


@pytest.fixture(scope='module')
def films(head):
    """Film of a scene by name, made once; the same person in all."""
    made = {}

    def film(name, **changes):
        key = (name, *changes.items())
        if key not in made:
            made[key] = Film(head, replace(SCENES[name], **changes), 1_000_001, size=SIZE, texture_size=96)
        return made[key]

    return film


@pytest.mark.parametrize('name', SCENES)
def test_scenes_start_quiet_and_move_smoothly(name):
    script, act = Script(11), SCENES[name].act
    first = act(script, 0.0)
    assert not any(first.moment.turn) and not any(first.moment.eyelids) and first.body == (0, 0, 0) and first.hand is None
    assert all(v == 0 for v in first.moment.units.values())
    beats = [act(script, k / 120) for k in range(120 * 13)]
    turn, body = np.array([b.moment.turn for b in beats]), np.array([b.body for b in beats])
    assert np.degrees(np.abs(np.diff(turn, axis=0))).max() < 4 and np.abs(np.diff(body, axis=0)).max() < 0.015
    assert np.abs(np.diff([b.moment.eyelids for b in beats], axis=0)).max() < 0.35


def test_what_the_scenes_are_named_for():
    script = Script(11)
    beats = {name: [spec.act(script, k / 60) for k in range(360)] for name, spec in SCENES.items()}
    yaw = np.degrees([b.moment.turn[0] for b in beats['large_pose']])
    assert yaw.max() > 55 and yaw.min() < -55
    lids = np.array([b.moment.eyelids for b in beats['blinking']])
    assert (lids.min(1) > 0.95).any() and (lids[:, 0] - lids[:, 1]).max() > 0.8 and (lids[:, 1] - lids[:, 0]).max() > 0.8
    assert max(b.body[0] for b in beats['leaving']) > 0.5 and beats['leaving'][-1].body[0] < 0.01
    assert {b.hand is None for b in beats['occlusion']} == {True, False}
    speed = np.abs(np.diff([b.moment.turn[0] for b in beats['fast_motion']])).max() * 60
    assert speed > 2 * np.abs(np.diff([b.moment.turn[0] for b in beats['talking']])).max() * 60


def test_hand_is_a_left_hand_of_a_grown_up():
    hand = load_hand()
    skin = hand.points[np.unique(hand.faces[~hand.sleeve])]
    low, high = skin.min(0), skin.max(0)
    assert 0.08 < high[1] < 0.16 and 0.06 < high[0] - low[0] < 0.16  # fingertips from the palm's middle, width
    thumb = skin[skin[:, 0].argmax()]
    assert thumb[1] < 0.06  # it ends below the other fingertips
    corners = hand.points[hand.faces]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum('fc,fc->f', outward, hand.normals[hand.faces].mean(1)) > 0).mean() > 0.99
    back = np.abs(hand.normals[hand.faces].mean(1)[:, 2]) > 0.9
    assert back.any() and np.ptp(skin[np.abs(skin[:, 1]) < 0.02][:, 2]) < 0.06  # a palm is thin along z


def test_hand_hides_the_face(films):
    with_hand, without = films('occlusion'), films('occlusion', hand=False)
    before, during = with_hand.take(0, 30.0), with_hand.take(51, 30.0)
    bare = without.take(51, 30.0)
    assert before.hand is None and during.hand is not None
    assert 0.1 < during.face.sum() / bare.face.sum() < 0.7 and not (during.face & ~bare.face).any()
    assert np.array_equal(before.image, without.take(0, 30.0).image)
    shown = bare.face & ~during.face
    assert np.abs(during.image[shown].astype(int) - bare.image[shown]).mean() > 5


def test_leaving_takes_the_shoulders_along(films):
    film = films('leaving')
    gone, back = film.take(75, 30.0), film.take(150, 30.0)
    assert not gone.face.any() and back.face.sum() > 500
    room = (film._room.clip(0, 1) ** (1 / 2.2) * 255).astype(int)
    assert np.abs(gone.image.astype(int) - room).mean() < 12  # nothing but the room is left


def test_guest_is_there_only_in_between(films):
    film, alone = films('two_people'), films('two_people', guest=None)
    for index, differs in ((0, False), (90, True)):
        a, b = film.take(index, 30.0), alone.take(index, 30.0)
        assert np.array_equal(a.face, b.face) and np.allclose(a.camera.viewmat, b.camera.viewmat)
        share = (np.abs(a.image.astype(int) - b.image).max(2) > 24).mean()
        assert (share > 0.05) if differs else (share < 0.001)


def test_motion_blur(films):
    """Edges of the moving face lose contrast; those of the room don't."""
    blurred, sharp = films('fast_motion').take(31, 30.0), films('fast_motion', exposures=1).take(31, 30.0)

    def contrast(take, mask):
        step = np.abs(np.diff(take.image.astype(float).mean(2), axis=1))
        return step[mask[:, 1:]].mean()

    assert np.allclose(blurred.camera.viewmat, sharp.camera.viewmat)
    assert contrast(blurred, sharp.face) < 0.8 * contrast(sharp, sharp.face)
    corner = np.zeros(SIZE, bool)
    corner[:40, :40] = True
    assert contrast(blurred, corner) == pytest.approx(contrast(sharp, corner), rel=0.1)


def test_low_light_is_dark_and_noisy(films):
    dark = films('low_light')
    bright = films('low_light', webcam=Webcam())
    a, b = dark.take(0, 30.0).image.astype(float), bright.take(0, 30.0).image.astype(float)
    assert 0.4 < a.mean() / b.mean() < 0.75

    def noise(film):
        return np.std(film.take(0, 30.0).image[10:40, 10:60].astype(float) - film.take(1, 30.0).image[10:40, 10:60])

    assert noise(dark) > 2 * noise(bright)


# The webcam


def test_photon_noise_is_poissons():
    """Standard deviation of grey on a flat field, after the lens, against photon statistics; no colour is invented."""
    light = np.full((200, 300, 3), 0.2, np.float32)
    image = photograph(light, Webcam(electrons=9000.0, read_noise=20.0), np.random.default_rng(0))
    raw = srgb_to_linear(image / 255.0)
    green = raw[..., 1]
    # Half of the green values are measured, the others means of four, which have half the deviation.
    expected = np.sqrt(9000 * 0.2 + 400) / 9000 * np.sqrt(0.5 + 0.5 * 0.25)
    assert green.mean() == pytest.approx(0.2, rel=0.02) and green.std() == pytest.approx(expected, rel=0.15)
    assert np.abs(raw.mean((0, 1)) - 0.2).max() < 0.004


def test_colors_survive_the_sensor():
    light = np.zeros((64, 96, 3), np.float32) + np.array([0.5, 0.2, 0.05], np.float32)
    image = photograph(light, Webcam(electrons=1e7, read_noise=0.0), np.random.default_rng(1))
    assert np.abs(srgb_to_linear(image[8:-8, 8:-8] / 255.0) - light[8:-8, 8:-8]).max() < 0.01


def test_exposure_is_a_mean_of_light():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 188, np.uint8)
    assert exposed([black, white])[0, 0, 0] == pytest.approx(srgb_to_linear(188 / 255) / 2, abs=2e-3)


def test_films_are_deterministic(head):
    a, b = (Film(head, SCENES['talking'], 7, size=(64, 96), texture_size=64).take(9, 30.0) for _ in range(2))
    assert np.array_equal(a.image, b.image) and np.array_equal(a.face, b.face)
    other = Film(head, SCENES['talking'], 8, size=(64, 96), texture_size=64).take(9, 30.0)
    assert not np.array_equal(a.image, other.image)

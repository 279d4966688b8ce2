"""A coloured background leaves no stains on the outline of who stands before it."""

import numpy as np
import pytest

from sega_ros.tracking.matting import without_spill

SIZE, HALF, BAND = 210, 60, 5  # pixels: picture, half the person's width, how far in the background shines through
GREEN, HAIR = np.array([0.27, 0.6, 0.4]), np.array([0.1, 0.1, 0.11])
LUMA = np.array([0.299, 0.587, 0.114])


def scene(background, person, share=0.2):
    """A square person whose outline took on `share` of the background: colours, matte, picture, distance from the outline."""
    at = np.abs(np.arange(SIZE) + 0.5 - SIZE / 2)
    depth = HALF - np.maximum(at[:, None], at[None])
    alpha = (depth > 0).astype(float)
    mixed = ((depth < BAND) * share)[..., None]
    color = (1 - mixed) * person + mixed * background
    return color, alpha, alpha[..., None] * color + (1 - alpha[..., None]) * background, depth


def hue(color, background):
    """How much of the background's hue is in colours [..., 3]."""
    way = background - background @ LUMA
    return (color - (color @ LUMA)[..., None]) @ (way / np.linalg.norm(way))


@pytest.mark.parametrize('background', [GREEN, GREEN[[2, 0, 1]]])
def test_hair_before_a_screen_stays_grey(background):
    color, alpha, image, depth = scene(background, HAIR)
    out = without_spill(color, alpha, image)
    outline = (depth > 0) & (depth < BAND)
    before, after = (hue(c[outline], background).mean() for c in (color, out))
    assert before > 0.04 and after < 0.3 * before
    np.testing.assert_allclose(out @ LUMA, color @ LUMA, atol=1e-9)
    assert (out[depth > BAND] == color[depth > BAND]).all()


def test_whoever_wears_the_background_s_colour_keeps_it():
    shirt = np.array([0.2, 0.5, 0.3])
    color, alpha, image, depth = scene(GREEN, shirt)
    out = without_spill(color, alpha, image)
    assert np.abs(out - color)[depth > 0].max() < 0.02


def test_grey_backgrounds_and_warm_skin_are_left_alone():
    for background, person in ((np.full(3, 0.5), HAIR), (GREEN, np.array([0.75, 0.6, 0.5]))):
        color, alpha, image, depth = scene(background, person)
        assert (without_spill(color, alpha, image)[depth > 0] == color[depth > 0]).all()


def test_pictures_without_an_inside_or_an_outside():
    color = np.full((40, 40, 3), 0.4)
    for alpha in (np.zeros((40, 40)), np.ones((40, 40)), np.eye(40)):
        assert (without_spill(color, alpha, color) == color).all()

"""Relighting: side light goes, even light stays, colours stay colours."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sega_ros.avatar.lighting import (
    HAIR_STRENGTH,
    LIMITS,
    estimate_light,
    harmonics,
    light_gains,
    lighting_figure,
    luminance,
    neutral_colors,
    neutral_shell,
)
from sega_ros.avatar.start import photo_start
from sega_ros.avatar.surface_fill import mirror_index
from sega_ros.synthetic.capture import DISTANCE, Studio, _camera, open_studio, take_shot
from sega_ros.synthetic.illumination import _towards
from sega_ros.synthetic.renderer import Lighting, linear_to_srgb, srgb_to_linear
from sega_ros.tracking.embedding import landmark_embedding
from sega_ros.tracking.fit import Identity
from sega_ros.training.examples import capture_photo
from sega_ros.types import Capture, FlameParams, Region, Shell, Splats

# --- a half ball with known light -------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def ball():
    """Normals of a half ball with its mirror, as texels of a face."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(1500, 3))
    half[:, 2] = np.abs(half[:, 2]) + 0.1
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    normals = np.concatenate([half, half * [-1, 1, 1]])
    n = len(normals)
    return SimpleNamespace(normals=normals, mirror=np.roll(np.arange(n), n // 2), seen=np.ones(n, bool),
                           region=np.full(n, Region.FACE))


def lit(ball, coefficients, albedo=0.3):
    """Colours [T, 3] of the ball."""
    shade = np.maximum(harmonics(ball.normals) @ coefficients, 0.02) * albedo
    return np.repeat(linear_to_srgb(shade)[:, None], 3, 1)


def light_of(ball, colors):
    return estimate_light(colors, ball.normals, ball.seen, ball.region, ball.mirror)


SIDE = np.array([1.0, 0.45, 0.1, 0.2, 0, 0, 0, 0.1, 0])
EVEN = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0])


def shading_error(ball, light, wanted):
    """RMS of the ratio between estimated and true shading, up to one factor."""
    ratio = np.log((harmonics(ball.normals) @ light.photo) / (harmonics(ball.normals) @ wanted))
    return ratio.std()


def test_a_known_light_is_found(ball):
    assert shading_error(ball, light_of(ball, lit(ball, SIDE)), SIDE) < 0.03


def test_brows_and_beards_do_not_count(ball):
    """A fifth of the texels has another albedo, on both sides and on one."""
    albedo = np.full(len(ball.normals), 0.3)
    beard = ball.normals[:, 1] < -0.55
    albedo[beard] *= 0.25
    albedo[np.random.default_rng(1).permutation(len(albedo))[:150]] *= 0.4
    light = light_of(ball, lit(ball, SIDE, albedo))
    assert shading_error(ball, light, SIDE) < 0.08 and light.texels < 0.93 * len(albedo)


def test_mirrored_spots_may_have_any_albedo(ball):
    """Patches that both sides share don't bend the light to one side."""
    albedo = 0.3 * (1 + 0.25 * np.sin(7 * np.abs(ball.normals[:, 0])) * np.cos(5 * ball.normals[:, 1]))
    light = light_of(ball, lit(ball, EVEN, albedo))
    assert abs(light.photo[1]) < 0.01


def test_a_mirrored_light_gives_the_mirrored_estimate(ball):
    flip = np.array([1, -1, 1, 1, -1, 1, 1, -1, 1])
    a, b = light_of(ball, lit(ball, SIDE)), light_of(ball, lit(ball, SIDE * flip))
    np.testing.assert_allclose(a.photo, b.photo * flip, atol=1e-6)
    np.testing.assert_allclose(a.neutral, b.neutral, atol=1e-6)
    np.testing.assert_allclose(a.neutral[[1, 4, 7]], 0, atol=1e-9)


def test_side_light_goes_and_exposure_stays(ball):
    colors = lit(ball, SIDE)
    new = neutral_colors(colors, ball.normals, light_of(ball, colors))
    uneven = [np.abs(np.log(luminance(c) / luminance(c)[ball.mirror])).mean() for c in (colors, new)]
    assert uneven[1] < 0.25 * uneven[0]
    assert luminance(new).mean() == pytest.approx(luminance(colors).mean(), rel=0.06)


def test_even_light_stays(ball):
    colors = lit(ball, EVEN)
    np.testing.assert_allclose(neutral_colors(colors, ball.normals, light_of(ball, colors)), colors, atol=0.005)


def test_done_twice_is_done_once(ball):
    colors = lit(ball, SIDE)
    once = neutral_colors(colors, ball.normals, light_of(ball, colors))
    twice = neutral_colors(once, ball.normals, light_of(ball, once))
    assert np.abs(twice - once).mean() < 0.25 * np.abs(once - colors).mean()


def test_gains_are_limited_smooth_and_can_be_turned_down(ball):
    light = light_of(ball, lit(ball, SIDE))
    gains = light_gains(ball.normals, light)
    assert gains.min() >= LIMITS[0] and gains.max() <= LIMITS[1]
    turn = np.linspace(0, 2 * np.pi, 721)
    around = light_gains(np.stack([np.sin(turn), np.zeros_like(turn), np.cos(turn)], -1), light)
    assert np.abs(np.diff(around)).max() < 0.05
    np.testing.assert_allclose(light_gains(ball.normals, light, strength=0.0), 1)


def test_colours_stay_in_range_and_keep_their_hue(ball):
    light = light_of(ball, lit(ball, SIDE))
    colors = np.random.default_rng(2).random((len(ball.normals), 3))
    new = neutral_colors(colors, ball.normals, light)
    assert new.min() >= 0 and new.max() <= 1 and new.dtype == np.float32
    a, b = srgb_to_linear(colors), srgb_to_linear(new)
    np.testing.assert_allclose(a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True), atol=2e-3)


@pytest.mark.parametrize('seen', [0.0, 0.1])
def test_too_little_skin_changes_nothing(ball, seen):
    some = np.arange(len(ball.seen)) < seen * len(ball.seen)
    colors = lit(ball, SIDE)
    light = estimate_light(colors, ball.normals, some, ball.region, ball.mirror)
    np.testing.assert_allclose(neutral_colors(colors, ball.normals, light), colors, atol=1e-5)


def test_hair_takes_less_of_it(ball):
    n, colors = len(ball.normals), lit(ball, SIDE).astype(np.float32)
    light = light_of(ball, colors)
    splats = Splats(torch.zeros(n, 3), torch.zeros(n, 4), torch.zeros(n, 3), torch.ones(n), torch.from_numpy(colors))
    shell = neutral_shell(Shell(splats, ball.normals.astype(np.float32), np.zeros((n, 2)), np.zeros(n)), light)
    full = np.abs(np.log(light_gains(ball.normals, light)))
    own = np.abs(np.log(luminance(shell.splats.colors.numpy()) / luminance(colors)))
    assert 0.3 * HAIR_STRENGTH < own.mean() / full.mean() < 1.2 * HAIR_STRENGTH
    assert shell.splats.means is splats.means


def test_the_figure_shows_both(ball):
    before, after = np.full((60, 80, 3), 90, np.uint8), np.full((60, 80, 3), 120, np.uint8)
    figure = lighting_figure(before, after, light_of(ball, lit(ball, SIDE)))
    assert figure.shape == (60, 160, 3) and figure.dtype == np.uint8
    assert (figure[0, 0] == 90).all() and (figure[0, -1] == 120).all() and (before == 90).all()
    ball_row = figure[60 - 7, 1:12, 0].astype(int)
    assert ball_row[-1] - ball_row[0] > 10, 'the light comes from the picture\'s right'


# --- synthetic people -------------------------------------------------------------------------------------------------

def lights(kind):
    """Light fixed to the head."""
    yaw = {'even': 0, 'left': 70, 'right': -60}[kind]
    directions = np.stack([_towards(yaw, 20), _towards(-yaw, 0), _towards(150, 10)]).astype(np.float32)
    up = np.array([0, 1, 0], np.float32)
    if kind == 'even':
        return Lighting(directions, np.zeros((3, 3), np.float32), np.full((2, 3), 0.9, np.float32), up)
    return Lighting(directions, np.outer([1.0, 0.08, 0], np.ones(3)).astype(np.float32),
                    np.outer([0.3, 0.22], np.ones(3)).astype(np.float32), up)


def unwrapped(head, layout, seed, kind):
    """Colours, normals, mask and regions of the texels of a person under a light."""
    studio = Studio(open_studio(head, seed, texture_size=256).person, lights(kind))
    params = FlameParams.neutral(head.n_shape, head.n_expression)
    shot = take_shot(studio, params, _camera(0.05, 0.0, DISTANCE, 512), np.random.default_rng(1))
    capture = Capture('x', studio.person.shape, studio.person.v_offset, shot, ())
    photo, camera = capture_photo(layout, landmark_embedding(head), capture)
    start = photo_start(layout, Identity(capture.shape, capture.v_offset), replace(params, shape=capture.shape), photo, camera)
    return start.base.color, start.frames.rotmats[..., 2], start.base.seen


@pytest.mark.parametrize(('seed', 'kind'), [(50_000, 'left'), (50_003, 'right'), (50_000, 'even')])
def test_people(head, layout, seed, kind):
    colors, normals, seen = unwrapped(head, layout, seed, kind)
    points = (head.v_template[layout.table.corners] * layout.table.bary[..., None]).sum(1)
    mirror, region = mirror_index(points), layout.region
    new = neutral_colors(colors, normals, estimate_light(colors, normals, seen, region, mirror))
    assert new.min() >= 0 and new.max() <= 1
    face = seen & (region == Region.FACE)
    if kind == 'even':
        assert np.abs(new - colors)[face].mean() < 0.02
        return
    x, y = points[:, 0], points[:, 1]
    cheek = face & face[mirror] & (x > 0.025) & (x < 0.055) & (y > -0.06) & (y < -0.015)
    uneven = [abs(np.log(luminance(c)[cheek].mean() / luminance(c)[mirror[cheek]].mean())) for c in (colors, new)]
    assert cheek.sum() > 100 and uneven[0] > 0.5 and uneven[1] < 0.5 * uneven[0]
    assert luminance(new)[face].mean() == pytest.approx(luminance(colors)[face].mean(), rel=0.12)

"""One-Euro filters: steady at rest, quick in movement, indifferent to units of time."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sega_ros.tracking.smoothing import OneEuroConfig, OneEuroFilter, RotationFilter

SECOND = 10**9


def run(filter_, values, rate=30.0):
    return np.array([filter_(v, round(i * SECOND / rate)) for i, v in enumerate(values)])


def test_first_sample_passes():
    assert OneEuroFilter()(np.array([1.0, -2.0]), 5) == pytest.approx([1.0, -2.0])


def test_constant_stays_constant():
    assert np.ptp(run(OneEuroFilter(), np.full(50, 0.7))) == 0


def test_noise_at_rest_is_reduced():
    noise = 0.01 * np.random.default_rng(0).standard_normal(400)
    out = run(OneEuroFilter(OneEuroConfig(min_cutoff=1.5, beta=5.0)), noise)
    assert out[50:].std() < 0.5 * noise[50:].std()


def test_strength_changes_while_it_runs():
    noise = 0.01 * np.random.default_rng(0).standard_normal(400)
    spread = []
    for strength in (0.0, 1.0, 4.0):
        filter_ = OneEuroFilter(OneEuroConfig(min_cutoff=1.5, beta=5.0))
        filter_.strength = strength
        spread.append(run(filter_, noise)[50:].std())
    assert spread[0] == pytest.approx(noise[50:].std(), rel=1e-6) and spread[2] < 0.7 * spread[1] < 0.4 * spread[0]
    turned = RotationFilter()
    turned.strength = 0.0
    turned(np.eye(3), 0)
    sample = Rotation.from_rotvec([0.1, 0.2, -0.1]).as_matrix()
    np.testing.assert_allclose(turned(sample, SECOND // 30), sample, atol=1e-7)
    turned.strength = 4.0
    back = Rotation.from_matrix(turned(np.eye(3), 2 * SECOND // 30)).magnitude()
    assert back > 0.5 * Rotation.from_matrix(sample).magnitude(), 'smoothed from the next sample on'


def test_step_is_followed_without_visible_lag():
    """A blink: closed within three frames at 30 Hz."""
    out = run(OneEuroFilter(OneEuroConfig(min_cutoff=3.0, beta=12.0)), np.r_[np.zeros(30), np.ones(10)])
    assert out[32] > 0.9
    assert out.max() <= 1.0  # a first-order low-pass never overshoots


@pytest.mark.parametrize('rate', [25.0, 60.0])
def test_speed_opens_the_filter(rate):
    """The lag behind a ramp, in seconds, falls with its speed."""
    lags = []
    for speed in (0.1, 10.0):
        values = speed * np.arange(int(2 * rate)) / rate
        lags.append((values - run(OneEuroFilter(), values, rate))[-1] / speed)
    assert 0 < lags[1] < 0.2 * lags[0]


def test_components_do_not_disturb_each_other():
    still = np.zeros(40)
    moving = np.r_[np.zeros(20), np.linspace(0, 5, 20)]
    both = run(OneEuroFilter(), np.stack([still, moving], 1))
    assert np.all(both[:, 0] == 0)
    assert both[:, 1] == pytest.approx(run(OneEuroFilter(), moving))


@pytest.mark.parametrize('gap', [-1, 0, SECOND])
def test_time_that_stands_jumps_or_runs_back_restarts(gap):
    one = OneEuroFilter()
    one(0.0, SECOND)
    assert one(5.0, SECOND + gap) == 5.0


def test_scaling_signal_and_beta_alike_scales_the_output():
    values = np.cumsum(np.random.default_rng(1).standard_normal(60))
    a = run(OneEuroFilter(OneEuroConfig(1.0, 3.0)), values)
    b = run(OneEuroFilter(OneEuroConfig(1.0, 0.003)), 1000 * values)
    assert b == pytest.approx(1000 * a)


def test_rotation_filter_stays_on_the_group_and_matches_the_vector_filter_about_one_axis():
    config = OneEuroConfig(min_cutoff=1.0, beta=6.0)
    angles = 0.5 * np.sin(np.linspace(0, 6, 80))
    samples = [Rotation.from_rotvec([0, a, 0]).as_matrix() for a in angles]
    out = run(RotationFilter(config), samples)
    assert out @ out.transpose(0, 2, 1) == pytest.approx(np.tile(np.eye(3), (80, 1, 1)), abs=1e-9)
    found = Rotation.from_matrix(out).as_rotvec()[:, 1]
    assert found == pytest.approx(run(OneEuroFilter(config), angles), abs=1e-9)


def test_rotation_filter_passes_a_half_turn():
    """Heads face the camera with a half turn about x, where axis-angle vectors flip sign."""
    base = Rotation.from_rotvec([np.pi, 0, 0])
    one = RotationFilter()
    for i, wobble in enumerate(np.tile([0.01, -0.01], 10)):
        out = one((Rotation.from_rotvec([wobble, 0, 0]) * base).as_matrix(), i * SECOND // 30)
    assert (Rotation.from_matrix(out) * base.inv()).magnitude() < 0.011

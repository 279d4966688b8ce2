"""Fewer splats at run time: evenly spread, covering the same area, without jumps; and how their number is found."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from sega_ros.avatar.detail import LEAST, DetailControl, Thinning, grown, local_means, share_of
from sega_ros.avatar.drive import AvatarDriver, View


def psnr(a, b):
    return 20 * np.log10(255 / max(np.sqrt(((a.astype(float) - b) ** 2).mean()), 1e-9))


# --- which splats -----------------------------------------------------------------------------------------------------

def test_all_splats_are_as_they_are():
    kept = Thinning(np.random.default_rng(0).uniform(1, 4, 1000)).kept(1.0)
    np.testing.assert_array_equal(kept.index, np.arange(1000))
    assert (kept.opacity == 1).all() and (kept.growth == 1).all() and (kept.blur == 0).all()


@pytest.mark.parametrize('share', [0.5, 0.25, 0.1])
def test_what_is_left_is_spread_evenly_and_covers_the_area(share):
    kept = Thinning(np.ones(4096)).kept(share)
    area = kept.opacity * kept.growth**2
    runs = np.bincount(kept.index // 256, weights=area, minlength=16)
    np.testing.assert_allclose(runs, 256, rtol=0.12)
    assert np.diff(kept.index).max() <= 2 / share


def test_important_splats_stay_longer():
    importance = np.where(np.arange(4096) < 2048, 4.0, 1.0)
    kept = Thinning(importance).kept(0.25)
    first = kept.index < 2048
    assert first.sum() == 2048 and (kept.growth[first] == 1).all()
    assert 500 < (~first).sum() < 600 and np.allclose(kept.growth[~first], 2)


@pytest.mark.parametrize('count', [300, 1000, 2500, 4999])
def test_the_wanted_number(count):
    thinnings = Thinning(np.ones(3000)), Thinning(np.linspace(1, 5, 2000))
    share = share_of(count, *thinnings)
    found = sum(t.kept(share).opacity.sum() for t in thinnings)
    assert abs(found - count) < 0.06 * count + 5
    assert share_of(5000, *thinnings) == 1.0


def test_splats_come_and_go_by_fading():
    thinning = Thinning(np.ones(2000))
    before, after = thinning.kept(0.5), thinning.kept(0.49)
    opacity = np.zeros(2000)
    opacity[before.index] = before.opacity
    opacity[after.index] -= after.opacity
    assert opacity.max() < 0.25


def test_long_splats_get_rounder_before_they_get_larger():
    scales = np.array([[1.0, 4.0, 0.1], [2.0, 2.0, 0.1]]).T
    out = grown(scales, np.array([2.0, 3.0]))
    np.testing.assert_allclose(out[:, 0], [4, 4, 0.1])
    np.testing.assert_allclose(out[:, 1], [6, 6, 0.1])
    np.testing.assert_array_equal(grown(scales, np.ones(2)), scales)


def test_colors_become_their_neighbourhoods():
    points = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
    means = local_means(np.repeat((points.sum(1) % 2)[:, None], 3, 1), points)
    assert means[0].std() == 0.5 and means[2].std() < 0.1
    thinning = Thinning(np.ones(400))
    np.testing.assert_allclose(thinning.kept(1 / 16).colors(means), means[2][thinning.kept(1 / 16).index], atol=1e-6)
    assert local_means(np.ones((3, 3)), points[:3]).shape == (3, 3, 3)


# --- the avatar -------------------------------------------------------------------------------------------------------

@pytest.fixture
def driver(real_avatar, head):
    return AvatarDriver(real_avatar, head)


@pytest.mark.parametrize(('part', 'least'), [(0.7, 29), (0.35, 24), (0.17, 20)])
def test_fewer_splats_look_like_all(driver, part, least):
    message, views = driver.neutral(), [View('frontal'), View('free', yaw=0.6)]
    message = replace(message, params=replace(message.params, jaw_pose=np.array([0.15, 0, 0], np.float32)))
    whole, every = [driver.render(message, v) for v in views], driver.detail
    driver.detail = round(part * every)
    assert driver.detail == round(part * every)
    for view, wanted in zip(views, whole, strict=True):
        bound = driver.bind(message, view)
        assert len(bound.arrays[0]) < 1.1 * part * every
        assert psnr(driver.draw(bound), wanted) > least
    driver.detail = 10**9
    assert driver.detail == every
    np.testing.assert_array_equal(driver.render(message, views[0]), whole[0])


def test_a_step_of_the_control_is_not_seen(driver):
    pictures, counts = [], [round(driver.detail / 1.03**k) for k in range(8, 20)]
    for count in counts:
        driver.detail = count
        pictures.append(driver.render(driver.neutral(), View('frontal')))
    assert min(psnr(a, b) for a, b in pairwise(pictures)) > 38


# --- how many ---------------------------------------------------------------------------------------------------------

def settle(control, seconds_per_splat, target, frames=1000):
    for _ in range(frames):
        control.update(control.count * seconds_per_splat, target)
    return control.count


def test_the_number_follows_the_time():
    control = DetailControl(30_000)
    assert 15_000 < settle(control, 1e-6, 0.020) <= 20_600
    here = control.count
    assert settle(control, 1e-6, 0.020, 300) == here, 'it rests'
    assert settle(control, 1e-5, 0.020) == LEAST, 'a slow machine'
    assert settle(control, 1e-8, 0.020) == 30_000, 'a fast one'


def test_one_slow_frame_changes_little():
    control = DetailControl(30_000)
    settle(control, 5e-7, 0.020)
    control.update(0.060, 0.020)
    assert control.count > 0.9 * 30_000


def test_no_target_draws_everything():
    control = DetailControl(30_000)
    settle(control, 1e-5, 0.020)
    assert control.update(1.0, 0.0) == 30_000


def test_a_small_avatar_keeps_its_few_splats():
    assert settle(DetailControl(800), 1.0, 0.001) == 800

"""Metrics against pictures whose figures are known beforehand."""

import numpy as np
import pytest

from sega_ros.errors import RequestError
from sega_ros.evaluation import metrics
from sega_ros.evaluation.metrics import (
    IdentityDistance,
    Scores,
    encoder_feature_distance,
    face_box,
    landmark_distance,
    masked_psnr,
    masked_ssim,
    mean_scores,
)


@pytest.fixture
def picture():
    """Smooth noise, uint8 RGB [48, 64, 3]."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros((48, 64), bool)
    mask[10:30, 20:50] = True
    return mask


def test_psnr_of_a_known_error(picture, mask):
    image = np.clip(picture, 10, 255)
    image[mask] = np.where(picture[mask] > 127, picture[mask] - 51, picture[mask] + 51)  # a fifth of the range
    assert masked_psnr(image, picture, mask) == pytest.approx(-10 * np.log10(0.04), abs=1e-6)


@pytest.mark.parametrize('metric', [masked_psnr, masked_ssim])
def test_what_lies_outside_of_the_mask_does_not_count(picture, mask, metric):
    image = picture.copy()
    image[mask] //= 2
    other = image.copy()
    far = np.ones_like(mask)
    far[2:38, 12:58] = False  # SSIM's windows reach 3 px over the mask's edge
    other[far] = 255 - other[far]
    assert metric(other, picture, mask) == pytest.approx(metric(image, picture, mask), abs=1e-9)


def test_identical_pictures(picture, mask):
    assert masked_psnr(picture, picture, mask) == 100
    assert masked_ssim(picture, picture, mask) == pytest.approx(1)


def test_noise_lowers_both(picture, mask):
    noisy = np.clip(picture + np.random.default_rng(1).normal(0, 40, picture.shape), 0, 255).astype(np.uint8)
    assert masked_psnr(noisy, picture, mask) < 20 and masked_ssim(noisy, picture, mask) < 0.9


@pytest.mark.parametrize('metric', [masked_psnr, masked_ssim])
def test_few_pixels_are_unknown_and_sizes_must_agree(picture, mask, metric):
    assert np.isnan(metric(picture, picture, np.zeros_like(mask)))
    with pytest.raises(RequestError, match='of one size'):
        metric(picture[:-1], picture, mask)
    with pytest.raises(RequestError, match='uint8'):
        metric(picture / 255, picture, mask)


def test_shifted_landmarks():
    points = np.random.default_rng(0).uniform(0, 200, (478, 3))
    moved = points + np.array([3, 4, 100])
    moved[468:] += 50  # irises don't count
    assert landmark_distance(moved, points) == pytest.approx(5)
    assert np.isnan(landmark_distance(None, points))


def test_feature_distance_sees_the_window_around_the_face_only(small_weights):
    from sega_ros.models.weights import load_weights

    encoder = load_weights(small_weights).identity
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (200, 240, 3)).astype(np.uint8)
    landmarks = rng.uniform([100, 80], [140, 120], (478, 2))
    assert encoder_feature_distance(encoder, truth, truth, landmarks) == pytest.approx(0, abs=1e-6)
    far, near = truth.copy(), truth.copy()
    far[:30] = 0
    near[90:110, 110:130] = 0
    assert encoder_feature_distance(encoder, far, truth, landmarks) == pytest.approx(0, abs=1e-6)
    assert encoder_feature_distance(encoder, near, truth, landmarks) > 1e-4


def test_face_box_is_a_square_around_the_face():
    points = np.random.default_rng(0).uniform([100, 50], [200, 170], (478, 2))
    left, top, right, bottom = face_box(points)
    assert abs((right - left) - (bottom - top)) <= 1 and 100 < right - left < 115
    assert abs((left + right) / 2 - 150) < 2 and abs((top + bottom) / 2 - 110) < 2


def test_means_leave_out_the_unknown_and_sum_the_counts():
    mean = mean_scores([Scores(20, 30, akd=1, akd_lost=1), Scores(22, np.nan, akd_lost=1, identity_failed=1)])
    assert mean.head_psnr == 21 and mean.face_psnr == 30 and mean.akd == 1 and np.isnan(mean.ssim)
    assert (mean.akd_lost, mean.identity_failed, mean.count) == (2, 1, 2)


def test_identity_distance_on_a_photo(astronaut):
    import cv2

    from sega_ros.tracking.landmarks import LandmarkDetector

    distance = IdentityDistance()
    if not distance.available:
        pytest.skip(distance.reason)
    with LandmarkDetector(static_image_mode=True) as detector:
        points = metrics.detected(detector, astronaut)
    assert distance(astronaut, astronaut, points) == 0
    soft = distance(cv2.GaussianBlur(astronaut, (0, 0), 1.5), astronaut, points)
    assert 0.02 < soft < 0.5 < distance(255 - astronaut, astronaut, points)
    assert np.isnan(distance(astronaut, astronaut, points - [1000, 0, 0]))


def test_identity_distance_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'dlib', None)
    metrics._dlib.cache_clear()
    try:
        distance = IdentityDistance()
        assert not distance.available and 'pip install' in distance.reason
        assert np.isnan(distance(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), np.zeros((478, 2))))
    finally:
        metrics._dlib.cache_clear()

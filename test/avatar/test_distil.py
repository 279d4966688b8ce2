"""Linear bases in place of the dynamic decoder: the fit, the file, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.avatar.avatar import avatar_to_tensors, tensors_to_avatar
from sega_ros.avatar.device_drive import open_driver
from sega_ros.avatar.distil import BASES, distil
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.expressions import other_expressions
from sega_ros.errors import RequestError
from sega_ros.io.tensors import tensors_to_bytes
from sega_ros.models.distilled import CHANNELS, Distilled, LinearFit, quantised

# --- the fit ----------------------------------------------------------------------------------------------------------

def test_what_is_linear_is_found():
    rng = np.random.default_rng(0)
    weight, images, mean = rng.standard_normal((3, 6)), rng.standard_normal((3, 240)), rng.standard_normal(240)
    kinds = np.repeat(np.arange(3), 80)
    images[:, kinds == 2] *= 1000  # another unit
    features = rng.standard_normal((200, 6)).astype(np.float32)
    outputs = (features @ weight.T @ images + mean).astype(np.float32)
    fit = LinearFit(6, 240)
    for part in range(4):
        fit.add(features[50 * part:50 * part + 50], outputs[50 * part:50 * part + 50])
    for rank, most in ((3, 0.03), (2, 0.8)):
        w, b, m, v = fit.bases(rank, kinds, ridge=1e-3)
        assert w.shape == (rank, 6) and v.shape == (rank, 240)
        left = (outputs - (m + (features @ w.T + b) @ v)) / outputs.std(0)
        assert (left**2).mean() < most**2
    assert (left**2).mean() > 0.01, 'two bases cannot hold three'


def test_eight_bits():
    bases = np.random.default_rng(1).standard_normal((2, CHANNELS * 5 + 6912)) * np.logspace(-4, 2, CHANNELS * 5 + 6912)
    eight, scales = quantised(bases, 5)
    assert eight.dtype == np.int8 and scales.shape == (2, CHANNELS + 1) and np.abs(eight).max() == 127
    per_value = np.concatenate([np.repeat(scales[:, :CHANNELS], 5, 1), np.repeat(scales[:, -1:], 6912, 1)], 1)
    assert (np.abs(eight * per_value - bases) <= 0.5001 * per_value).all()


# --- an avatar --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def made(real_avatar, head):
    if real_avatar.branch is None:
        pytest.skip('no weights for this head model')
    return distil(real_avatar, head)


def test_it_looks_like_the_full_decoder(made, real_avatar, head):
    small, report = made
    assert report.bases == BASES == len(small.branch.bases)
    assert report.psnr > 40 and report.psnr > report.static_psnr + 10
    full, quick = AvatarDriver(real_avatar, head), AvatarDriver(small, head)
    for params in other_expressions(head)[1:4]:
        message = replace(full.neutral(), params=params)
        for view in (View(size=(256, 256)), View('free', (256, 256), yaw=0.5)):
            error = (full.render(message, view).astype(float) - quick.render(message, view)) / 255
            assert -10 * np.log10((error**2).mean()) > 36
    assert small.metadata['distilled'] == {'bases': BASES, 'psnr': round(report.psnr, 1)}


def test_the_file_is_small_and_says_the_same(made, head):
    small, _ = made
    tensors, metadata = avatar_to_tensors(small)
    data = tensors_to_bytes(tensors, metadata)
    assert len(data) < 4e6
    loaded = tensors_to_avatar(tensors, metadata)
    assert isinstance(loaded.branch, Distilled)
    a, b = (AvatarDriver(x, head).render(AvatarDriver(small, head).neutral(), View(size=(128, 128))) for x in (small, loaded))
    # Half precision: neighbours of almost the same depth may change places.
    assert -10 * np.log10((((a.astype(float) - b) / 255) ** 2).mean()) > 45
    assert type(open_driver(loaded, head, device='cuda')) is AvatarDriver, 'nothing to put on a GPU'


def test_it_goes_together_with_fewer_splats(made, head):
    driver = AvatarDriver(made[0], head)
    whole = driver.render(driver.neutral(), View())
    driver.detail = driver.detail // 2
    error = (driver.render(driver.neutral(), View()).astype(float) - whole) / 255
    assert -10 * np.log10((error**2).mean()) > 25


def test_what_cannot_be_distilled(made, real_avatar, head):
    with pytest.raises(RequestError, match='distilled already'):
        distil(made[0], head)
    with pytest.raises(RequestError, match='has no networks'):
        distil(replace(real_avatar, branch=None), head)
    with pytest.raises(RequestError, match='wanted 1 to 48 bases, found 0'):
        distil(real_avatar, head, bases=0)


@pytest.mark.parametrize(('key', 'change', 'match'), [
    ('distilled.bases', lambda v: v[:, :-1], 'distilled'), ('distilled.bases', lambda v: v.astype(np.float32), 'int8'),
    ('distilled.cells', lambda v: v + 9216, 'wanted 0 to 9215'), ('distilled.cells', lambda v: v[:-1], 'distilled.mean'),
    ('distilled.weight', lambda v: v[:, :3], 'distilled.weight'), ('distilled.scales', lambda v: v * np.nan, 'not finite'),
    ('distilled.encoder.mean.weight', None, 'mean.weight is missing'),
    ('distilled.encoder.mean.weight', lambda v: v[:2], 'mean.weight'),
])
def test_damaged_bases_are_refused(made, refused, key, change, match):
    refused(made[0], key, change, match)

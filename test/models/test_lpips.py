"""LPIPS against torchmetrics' own network, whose backbone is put in place of the one that torchvision would bring."""

import numpy as np
import pytest
import torch
from torch import nn

from sega_ros.errors import ModelError
from sega_ros.models.lpips import load_lpips

_PLAN = (64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512, 'M')


def vgg16_features():
    """The layers of torchvision's vgg16().features, untrained."""
    layers, inputs = [], 3
    for step in _PLAN:
        if step == 'M':
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, step, 3, padding=1), nn.ReLU()]
            inputs = step
    return nn.Sequential(*layers)


@pytest.fixture(scope='module')
def backbone():
    torch.manual_seed(0)
    features = vgg16_features()
    for layer in features:
        if isinstance(layer, nn.Conv2d):  # features of the size that trained ones have, or what guards the division by it decides
            nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
    return features


@pytest.fixture(scope='module')
def weights(tmp_path_factory, backbone):
    path = tmp_path_factory.mktemp('weights') / 'vgg16.pth'
    torch.save({f'features.{name}': value for name, value in backbone.state_dict().items()}, path)
    return path


def test_agrees_with_torchmetrics(weights, backbone, monkeypatch):
    from torchmetrics.functional.image import lpips

    monkeypatch.setattr(lpips, '_get_tv_model_features', lambda *args, **kwargs: backbone)
    theirs = lpips._LPIPS(net='vgg', pnet_rand=True)
    ours = load_lpips(weights)
    images = torch.from_numpy(np.random.default_rng(0).random((2, 2, 3, 48, 64), np.float32))
    with torch.no_grad():
        wanted = theirs(*images, normalize=True).flatten()
        found = ours(*images)
    assert found.shape == (2,) and (found > 0).all()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_distance_of_pictures(weights):
    ours, rng = load_lpips(weights), np.random.default_rng(1)
    a, b = rng.integers(0, 255, (2, 40, 56, 3)).astype(np.uint8)
    assert ours.distance(a, a, None) == pytest.approx(0, abs=1e-6)
    assert ours.distance(a, b, None) == pytest.approx(ours.distance(b, a, None)) and ours.distance(a, b, None) > 0


def test_other_weights_are_refused(tmp_path):
    torch.save({'features.0.weight': torch.zeros(3)}, tmp_path / 'x.pth')
    with pytest.raises(ModelError, match='vgg16'):
        load_lpips(tmp_path / 'x.pth')
    with pytest.raises(ModelError, match='no such file'):
        load_lpips(tmp_path / 'none.pth')

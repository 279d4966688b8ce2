"""VGG-16 and ArcFace from a user's file: layouts, values, framing, and everything else a file may hold. Weights are random."""

import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from sega_ros.camera import orbit_camera, project
from sega_ros.cli import main
from sega_ros.errors import ModelError, RequestError
from sega_ros.head.skinning import Poser
from sega_ros.losses import FeatureLoss, LossNetworks
from sega_ros.models import state_dict
from sega_ros.models.arcface import DEPTHS, SIZE, face_crop, load_arcface
from sega_ros.models.crop import identity_square, to_window
from sega_ros.models.identity_encoder import IdentityEncoder
from sega_ros.models.vgg import load_vgg
from sega_ros.types import FlameParams

# torchvision: places of the convolutions in `features`, and their outputs; None is a pooling.
VGG = [(0, 64), (2, 64), None, (5, 128), (7, 128), None, (10, 256), (12, 256), (14, 256), None, (17, 512), (19, 512), (21, 512)]
WIDTHS = (4, 4, 8, 8, 16)
# insightface's template for 112 px: eyes from left to right, nose, corners of the mouth.
TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


def vgg_state(*, seed: int = 0) -> dict[str, torch.Tensor]:
    """State dict of torchvision's vgg16, its classifier smaller."""
    generator, state, inputs = torch.Generator().manual_seed(seed), OrderedDict(), 3
    for place, outputs in filter(None, [*VGG, (24, 512), (26, 512), (28, 512)]):
        state[f'features.{place}.weight'] = torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / inputs / 9) ** 0.5
        state[f'features.{place}.bias'] = 0.1 * torch.randn(outputs, generator=generator)
        inputs = outputs
    return state | {'classifier.0.weight': torch.zeros(8, 8), 'classifier.0.bias': torch.zeros(8)}


def arcface_state(blocks=(2, 2, 2, 2), widths=WIDTHS, embedding=32, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """State dict of an IResNet of insightface's arcface_torch."""
    generator, state = torch.Generator().manual_seed(seed), OrderedDict()

    def convolution(name, inputs, outputs, kernel):
        std = (1 / inputs / kernel**2) ** 0.5
        state[f'{name}.weight'] = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * std

    def normalisation(name, width):
        for key, middle in (('weight', 1.0), ('bias', 0.0), ('running_mean', 0.0), ('running_var', 1.0)):
            state[f'{name}.{key}'] = middle + 0.1 * torch.rand(width, generator=generator)
        state[f'{name}.num_batches_tracked'] = torch.tensor(7)

    convolution('conv1', 3, widths[0], 3)
    normalisation('bn1', widths[0])
    state['prelu.weight'] = torch.full((widths[0],), 0.25)
    for layer, count in enumerate(blocks, 1):
        for block in range(count):
            name, inputs, outputs = f'layer{layer}.{block}', widths[layer - 1 if block == 0 else layer], widths[layer]
            normalisation(f'{name}.bn1', inputs)
            convolution(f'{name}.conv1', inputs, outputs, 3)
            normalisation(f'{name}.bn2', outputs)
            state[f'{name}.prelu.weight'] = torch.full((outputs,), 0.25)
            convolution(f'{name}.conv2', outputs, outputs, 3)
            normalisation(f'{name}.bn3', outputs)
            if block == 0:
                convolution(f'{name}.downsample.0', inputs, outputs, 1)
                normalisation(f'{name}.downsample.1', outputs)
    normalisation('bn2', widths[4])
    state['fc.weight'] = torch.randn(embedding, 49 * widths[4], generator=generator) / (49 * widths[4]) ** 0.5
    state['fc.bias'] = torch.zeros(embedding)
    normalisation('features', embedding)
    return state


def embed(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """What an IResNet says of pictures [B, 3, 112, 112] in [-1, 1], layer by layer from its state dict."""
    def bn(name, x):
        return F.batch_norm(x, *(state[f'{name}.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')), eps=1e-5)

    x = F.prelu(bn('bn1', F.conv2d(x, state['conv1.weight'], padding=1)), state['prelu.weight'])
    for name in dict.fromkeys(k.rsplit('.bn1.', 1)[0] for k in state if k.startswith('layer') and '.bn1.' in k):
        stride = 2 if f'{name}.downsample.0.weight' in state else 1
        y = bn(f'{name}.bn2', F.conv2d(bn(f'{name}.bn1', x), state[f'{name}.conv1.weight'], padding=1))
        y = F.conv2d(F.prelu(y, state[f'{name}.prelu.weight']), state[f'{name}.conv2.weight'], stride=stride, padding=1)
        if stride == 2:
            x = bn(f'{name}.downsample.1', F.conv2d(x, state[f'{name}.downsample.0.weight'], stride=2))
        x = bn(f'{name}.bn3', y) + x
    x = bn('features', F.linear(bn('bn2', x).flatten(1), state['fc.weight'], state['fc.bias']))
    return x / x.norm(dim=1, keepdim=True)


@pytest.fixture(scope='module')
def vgg_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('vgg') / 'vgg16.safetensors'
    save_file({k: v.half() for k, v in vgg_state().items()}, path)
    return path


@pytest.fixture(scope='module')
def arcface_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('arcface') / 'backbone.pth'
    torch.save(arcface_state(), path)
    return path


def test_vgg_follows_torchvisions_layout(vgg_file):
    images, state = torch.rand(2, 3, 32, 48), {k: v.half().float() for k, v in vgg_state().items()}
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, wanted = (images - mean) / std, []
    for layer in [*VGG, None]:
        if layer is None:
            wanted.append(x)
            x = F.max_pool2d(x, 2)
        else:
            x = F.relu(F.conv2d(x, state[f'features.{layer[0]}.weight'], state[f'features.{layer[0]}.bias'], padding=1))
    for a, b in zip(load_vgg(vgg_file)(images), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # sums of thousands of products in another order


@pytest.mark.parametrize('blocks', DEPTHS)
def test_arcface_follows_insightfaces_layout(tmp_path, blocks):
    state = arcface_state(blocks)
    torch.save(state, tmp_path / 'backbone.pth')
    images = torch.rand(2, 3, SIZE, SIZE)
    found = load_arcface(tmp_path / 'backbone.pth')(images)
    torch.testing.assert_close(found, embed(state, 2 * images - 1), rtol=1e-3, atol=1e-5)  # up to 100 layers deep
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(('write', 'name'), [
    (save_file, 'a.safetensors'), (torch.save, 'a.pth'),
    (lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False), 'old.pth')])
def test_kinds_of_files(tmp_path, write, name):
    state = {k: v for k, v in arcface_state().items() if 'num_batches' not in k}  # older files have none
    write(state, tmp_path / name)
    network = load_arcface(tmp_path / name)
    assert torch.equal(network.layer4[1].conv2.weight, state['layer4.1.conv2.weight'])
    assert not network.training and not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize('size', [128, 200])
def test_the_crop_is_framed_as_insightface_aligns_faces(head, embedding, size):
    poser = Poser(head, np.zeros(80, np.float32))
    vertices = poser.pose(FlameParams(np.zeros(80, np.float32), np.zeros(1, np.float32)))
    points = project(embedding.points(vertices, head.faces), orbit_camera())[0]
    places = to_window(points, *identity_square(points))  # -1 to 1
    places = np.array([(places[33] + places[133]) / 2, (places[362] + places[263]) / 2, places[1], places[61], places[291]])
    # A dot at each point of the window comes out where the template has it.
    grid = (torch.arange(size) + 0.5) / size * 2 - 1
    for (x, y), wanted in zip(places, TEMPLATE, strict=True):
        dot = torch.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / 0.002).expand(1, 3, -1, -1)
        crop = face_crop(dot)[0, 0]
        centres = torch.arange(SIZE) + 0.5
        found = torch.stack([(crop.sum(0) * centres).sum(), (crop.sum(1) * centres).sum()]) / crop.sum()
        assert np.abs(found.numpy() - wanted).max() < 3.5, (found, wanted)  # px; another head has other proportions


def test_each_network_takes_its_place_in_the_loss(small_networks, vgg_file, arcface_file):
    torch.manual_seed(0)
    encoder = IdentityEncoder(small_networks.identity).eval().requires_grad_(False)
    images, targets = torch.rand(2, 3, 64, 64, requires_grad=True), torch.rand(2, 3, 64, 64)
    own = FeatureLoss(encoder)(images, targets)
    seen = FeatureLoss(encoder, LossNetworks.load(perceptual=str(vgg_file)))(images, targets)
    told = FeatureLoss(encoder, LossNetworks.load(identity=str(arcface_file)))(images, targets)
    loss = FeatureLoss(encoder, LossNetworks.load(perceptual=str(vgg_file), identity=str(arcface_file)))
    both = loss(images, targets)
    assert seen[0] != own[0] and seen[1] == own[1] and told[0] == own[0] and told[1] != own[1]
    assert both == (seen[0], told[1]) and all(0 < x < 4 for x in both)
    for term in both:
        (gradient,) = torch.autograd.grad(term, images)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    assert loss(images, targets, identity=False) == (seen[0], 0)
    assert all(abs(float(x)) < 1e-5 for x in loss(targets, targets))


def test_empty_features_have_a_finite_gradient(small_networks, tmp_path):
    encoder = IdentityEncoder(small_networks.identity).requires_grad_(False)
    dead = {k: -v.abs() if 'bias' in k else torch.zeros_like(v) for k, v in vgg_state().items()}
    save_file(dead, tmp_path / 'dead.safetensors')
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    term, _ = FeatureLoss(encoder, LossNetworks.load(perceptual=str(tmp_path / 'dead.safetensors')))(
        images, torch.rand(1, 3, 32, 32), identity=False)
    (gradient,) = torch.autograd.grad(term, images)
    assert term == 0 and torch.isfinite(gradient).all()


def test_other_networks_are_refused(tmp_path, vgg_file, arcface_file):
    with pytest.raises(ModelError, match=r"found 187 tensors \(conv1.weight, .*20 missing \(features.0.weight, .*torchvision's"):
        load_vgg(arcface_file)
    with pytest.raises(ModelError, match=r"found 28 tensors \(.*\[0, 0, 0, 0\] blocks in its layers: wanted .* of insightface's"):
        load_arcface(vgg_file)
    with pytest.raises(ModelError, match=r'\[2, 2, 2, 3\] blocks'):
        load_arcface(saved(tmp_path, arcface_state((2, 2, 2, 3))))


@pytest.mark.parametrize(('load', 'state', 'key', 'found'), [
    (load_vgg, vgg_state, 'features.7.weight', r'1 of another shape \(features.7.weight \[3, 5\] instead of \[128, 128'),
    (load_arcface, arcface_state, 'layer2.0.bn3.running_var', r'\(layer2.0.bn3.running_var \[3, 5\] instead of \[8\]\)'),
    (load_arcface, arcface_state, 'fc.weight', r'fc.weight \[3, 5\] instead of \[3, 784\]')])
def test_wrong_shapes_and_missing_keys_are_named(tmp_path, load, state, key, found):
    with pytest.raises(ModelError, match=found):
        load(saved(tmp_path, state() | {key: torch.zeros(3, 5)}))
    with pytest.raises(ModelError, match=f'{key}.*wanted'):
        load(saved(tmp_path, {k: v for k, v in state().items() if k != key}))


def test_numbers_that_are_none_are_refused(tmp_path):
    state = arcface_state()
    state['bn2.bias'][0] = np.nan
    with pytest.raises(ModelError, match=r'not finite: bn2.bias: wanted .* get the file again'):
        load_arcface(saved(tmp_path, state))


class Malice:
    """Makes a folder where a pickle is loaded that trusts what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('modern', [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, modern):
    path, mark = tmp_path / 'vgg16.pth', tmp_path / 'ran'
    torch.save(vgg_state() | {'extra': Malice(mark)}, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(ModelError, match='refused, and nothing in it was run') as refusal:
        load_vgg(path)
    assert not mark.exists() and 'weights_only' not in str(refusal.value)


@pytest.mark.parametrize('content', [
    {'state_dict': {}, 'epoch': 3}, [1, 2], {1: torch.zeros(2)}, {'a': torch.zeros(1).expand(1 << 40)},
    {'a': torch.zeros(2, 2).to_sparse()}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    with pytest.raises(ModelError, match='wanted'):
        load_arcface(saved(tmp_path, content))


@pytest.mark.parametrize('name', ['vgg16.safetensors', 'vgg16.pth'])
@pytest.mark.parametrize('share', [0, 0.001, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path, vgg_file, name, share):
    path = tmp_path / name
    if path.suffix == '.pth':
        torch.save({k: v.half() for k, v in vgg_state().items()}, path)
    else:
        path.write_bytes(vgg_file.read_bytes())
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(ModelError, match=f'{name}: refused.*damaged'):
        load_vgg(path)


def test_files_that_are_none(tmp_path, vgg_file, monkeypatch):
    with pytest.raises(ModelError, match='no such file: wanted torchvision'):
        load_vgg(tmp_path / 'none.pth')
    with pytest.raises(ModelError, match=r"a file of kind '.onnx': wanted .* as .safetensors or .pth"):
        load_arcface(tmp_path / 'backbone.onnx')
    (tmp_path / 'link.pth').symlink_to(vgg_file)
    with pytest.raises(ModelError, match='symbolic link'):
        load_vgg(tmp_path / 'link.pth')
    monkeypatch.setattr(state_dict, 'MAX_BYTES', 1000)
    with pytest.raises(ModelError, match='at most 1000 are accepted'):
        load_vgg(vgg_file)


def test_pictures_of_another_size_are_refused(arcface_file):
    with pytest.raises(RequestError, match=r'images: wanted shape \[any, 3, 112, 112\]'):
        load_arcface(arcface_file)(torch.zeros(1, 3, 128, 128))


def test_the_command_tries_the_files_first(capsys, tmp_path, arcface_file):
    common = ['train', 'static', '--out', str(tmp_path / 'run'), '--head', str(tmp_path / 'no.npz')]
    assert main([*common, '--perceptual', str(arcface_file)]) == 1
    assert 'wanted torchvision' in capsys.readouterr().err
    assert main([*common, '--identity', str(tmp_path / 'no.pth')]) == 1
    assert 'no.pth: no such file: wanted the state dict of an r18' in capsys.readouterr().err
    assert main(['train', 'identity', *common[2:], '--identity', str(arcface_file)]) == 1
    assert 'leave out --perceptual and --identity' in capsys.readouterr().err


def saved(folder, state):
    torch.save(state, folder / 'state.pth')
    return folder / 'state.pth'

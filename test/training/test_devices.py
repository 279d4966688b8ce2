"""Training on a device: PyTorch's `meta` device computes nothing, but refuses to mix tensors of two devices."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sega_ros.errors import RequestError
from sega_ros.models.sega import Sega
from sega_ros.training import decoders
from sega_ros.training.decoders import DecoderStep, LossWeights, draw_example
from sega_ros.training.identity import IdentityLoss, IdentityStep, Portraits, draw_pairs
from sega_ros.training.people import PeopleFolder
from sega_ros.training.run import drawn, pick_device
from sega_ros.types import Rendering


@pytest.fixture
def people(people_folder, layout, embedding):
    return PeopleFolder(people_folder, layout, embedding, split='train')


@pytest.fixture
def example(people, layout, embedding):
    return draw_example(people, layout, embedding, shots=2, seed=0, step=0)


def rasterize_shapes(splats, camera, *, background):
    """A renderer for tensors without values: right shapes, a gradient to every parameter."""
    total = sum(getattr(splats, k).sum() for k in ('means', 'quats', 'scales', 'opacities', 'colors'))
    image = background.expand(camera.height, camera.width, 3) + total
    return Rendering(image, image[..., 0])


def test_a_step_keeps_to_one_device(monkeypatch, example, layout, small_networks):
    monkeypatch.setattr(decoders, 'rasterize', rasterize_shapes)
    model = Sega(small_networks).to('meta')
    result = DecoderStep(model, layout, LossWeights())(*example)
    result.loss.backward()
    assert result.loss.device.type == 'meta' and result.images.device.type == 'meta'
    trained = [p for name, p in model.named_parameters() if name.startswith(('static.', 'dynamic.', 'deformation.'))]
    assert all(p.grad is not None and p.grad.device.type == 'meta' for p in trained)


def test_bfloat16_gives_nearly_the_same_loss_and_float32_pictures(example, layout, small_networks):
    torch.manual_seed(0)
    model = Sega(small_networks)
    step = DecoderStep(model, layout, LossWeights()).eval()
    exact = step(*example)
    model.mixed = True
    mixed = step(*example)
    mixed.loss.backward()
    assert mixed.images.dtype == torch.float32 and not torch.equal(mixed.images, exact.images)
    assert float(mixed.loss.detach()) == pytest.approx(float(exact.loss.detach()), rel=0.02)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_identity_stage_runs_in_bfloat16(people, layout, embedding, small_networks):
    pictures = draw_pairs(Portraits(people, layout, embedding), batch=2, seed=0, step=0)
    losses = []
    for mixed in (False, True):
        torch.manual_seed(0)
        step = IdentityStep(Sega(small_networks).identity, IdentityLoss(bypass=1.0))
        step.mixed = mixed
        result = step(*pictures)
        result.loss.backward()
        losses.append(float(result.terms['photometric']))
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.02)


def test_examples_made_ahead_come_in_order(people, layout, embedding):
    def make(step):
        return draw_example(people, layout, embedding, shots=1, seed=0, step=step)

    for workers in (0, 3):
        for step, (person, frames) in zip(range(2, 5), drawn(make, 2, workers), strict=False):
            wanted, same = make(step)
            assert person.capture.name == wanted.capture.name
            np.testing.assert_array_equal(frames[0].offsets, same[0].offsets)


def test_an_error_in_a_worker_reaches_the_caller():
    def make(step):
        if step == 3:
            raise ValueError('step 3')
        return step

    found = drawn(make, 0, 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match='step 3'):
        next(found)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_a_missing_device_is_refused(tiny, tmp_path, layout, embedding):
    from sega_ros.training.stages import train_stage

    assert pick_device('auto') == torch.device('cpu')
    for device, match in (('cuda', 'sees no CUDA device'), ('tpu', 'wanted auto, cpu or cuda')):
        with pytest.raises(RequestError, match=match):
            train_stage('identity', tmp_path, layout, embedding, replace(tiny, run=replace(tiny.run, device=device)))

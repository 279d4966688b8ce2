"""The driver's fast branch computes what the trained networks compute."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from sega_ros.avatar.store import AvatarStore
from sega_ros.head.skinning import Poser
from sega_ros.models import frame_decoder
from sega_ros.models.base import FRAME_GROWTH, at_texels, in_units, moved_only, raw_units, reshaped
from sega_ros.models.frame_decoder import Branch, DecodedTexels, FrameDecoder
from sega_ros.models.frame_kernel import finish_maps
from sega_ros.models.sega import Sega, SegaConfig
from sega_ros.models.static_decoder import Correction
from sega_ros.models.uv import UvLayout


@pytest.fixture(scope='module')
def layout(head):
    return UvLayout.build(head)


@pytest.fixture(scope='module')
def model():
    """Networks that do something: fresh ones start close to zero."""
    torch.manual_seed(0)
    model = Sega(SegaConfig()).eval().requires_grad_(False)
    for p in (*model.dynamic.to_maps.parameters(), model.dynamic.basis):
        p.add_(0.3 * torch.randn_like(p))
    return model


def decoded(head, layout, model, dtype, vertices, rest):
    """Texels [14, T] of the fast path, and what the module gives for them [T, 14]."""
    generator = torch.Generator().manual_seed(1)
    config = model.config
    features = torch.randn(1, config.static.features, 48, 48, generator=generator)
    fine = torch.randn(1, config.static.fine_features, 96, 96, generator=generator)
    branch = Branch.of_model(model, features, fine)
    count = len(layout.xy)
    start = torch.randn(14, count, generator=generator)
    start[11:] = torch.rand(3, count, generator=generator)
    fast = FrameDecoder(branch, head, rest, xy=layout.xy.numpy(), dtype=dtype)
    out = np.zeros((14, count), np.float32)
    looks = reshaped(layout.region)
    fast.write(vertices, DecodedTexels(layout.xy.numpy().astype(np.float32), looks, np.arange(count), start.numpy()), out)
    offsets = torch.from_numpy(layout.offsets(vertices, rest))[None] * torch.from_numpy(layout.coarse.dynamic)
    deformation = model.deformation(offsets)
    change = at_texels(in_units(model.dynamic(features, fine, deformation.feature, offsets), growth=FRAME_GROWTH), layout)
    change = moved_only(change, layout)
    moved = torch.nn.functional.grid_sample(deformation.displacement, layout.xy[None, :, None], align_corners=False,
                                            padding_mode='border')[0, :, :, 0].T
    parts = [change.offset + moved, change.rotation, change.log_scale, change.opacity[:, None], change.color]
    raw = start.T + torch.cat(parts, 1)
    wanted = torch.cat([raw[:, :3], torch.nn.functional.normalize(raw[:, 3:7], dim=-1), raw[:, 7:10].exp(),
                        raw[:, 10:11].sigmoid(), raw[:, 11:].clamp(0, 1)], 1)
    return out.T, wanted.numpy()


def test_float32_is_the_module(head, layout, model):
    poser = Poser(head, np.zeros(head.n_shape, np.float32))
    rest = poser.rest
    vertices = rest + 0.004 * np.random.default_rng(0).standard_normal(rest.shape).astype(np.float32)
    found, wanted = decoded(head, layout, model, torch.float32, vertices, rest)
    assert np.ptp(wanted[:, 11:]) > 0.5
    np.testing.assert_allclose(found[:, :3], wanted[:, :3], atol=1e-6 + 1e-4 * 0.003)
    np.testing.assert_allclose(found[:, 3:], wanted[:, 3:], atol=1e-3)


def test_bfloat16_is_close(head, layout, model):
    poser = Poser(head, np.zeros(head.n_shape, np.float32))
    rest = poser.rest
    vertices = rest + 0.004 * np.random.default_rng(0).standard_normal(rest.shape).astype(np.float32)
    found, wanted = decoded(head, layout, model, torch.bfloat16, vertices, rest)
    error = np.sqrt(((found - wanted) ** 2)[:, 11:].mean())
    assert 20 * np.log10(1 / error) > 45  # of colours in [0, 1]; these networks are much wilder than trained ones


def test_bounds_are_the_module_s():
    """`finish_maps` bounds as `in_units` does, far outside and around zero."""
    raw = np.linspace(-40, 40, 23 * 801, dtype=np.float32).reshape(-1, 23)
    maps = raw.copy()
    none = np.zeros((len(raw), 1, 23), np.float32)
    finish_maps(maps, np.arange(len(raw)), none, none[0, :, 0], raw_units(FRAME_GROWTH))
    geometry = torch.from_numpy(raw[:, :11].copy()).T[None, :, :, None]
    wanted = in_units(Correction(geometry, torch.zeros(1)), growth=FRAME_GROWTH).geometry[0, :, :, 0].T.numpy()
    bound = np.minimum(raw_units(FRAME_GROWTH)[1], 1.0)
    assert (np.abs(maps[:, :11] - wanted) <= 2e-4 * bound).all() and (maps[:, 11:] == raw[:, 11:]).all()


def test_a_captured_module_that_is_gone_holds_no_memory():
    """A driver captures two for each avatar it loads. In a process of its own, where nothing else allocates."""
    code = """
import gc
import os

import torch

from sega_ros.io.memory import process_memory, release_freed_memory
from sega_ros.models.frame_decoder import captured

for k in range(20):
    module, example = torch.nn.Conv2d(512, 256, 3, padding=1).eval().requires_grad_(False), torch.zeros(1, 512, 4, 4)
    run = captured(module, example)
    with torch.inference_mode():
        for _ in range(3):
            run(example)
    del module, run
    if k == 3:
        gc.collect()
        release_freed_memory()
        before = process_memory(os.getpid())
gc.collect()
release_freed_memory()
print(process_memory(os.getpid()) - before)
"""
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert float(found) < 20, 'sixteen of 4.7 MB each'


def test_drivers_that_are_gone_hold_no_memory(tmp_path, plain_avatar, model):
    """A node loads avatar after avatar for weeks: 40 of them, with the graphs of their networks, leave nothing behind."""
    code = """
import gc
import os
import sys
from pathlib import Path

from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.store import AvatarStore
from sega_ros.head import load_head
from sega_ros.io.memory import keep_freed_memory, process_memory, release_freed_memory

keep_freed_memory()
head, avatar = load_head(), AvatarStore(Path(sys.argv[1])).load('ann')
for k in range(48):
    driver = AvatarDriver(avatar, head)
    for _ in range(3):
        driver.render(driver.neutral(), View('frontal', (64, 64)))
    if k in (7, 47):
        gc.collect()
        release_freed_memory()
        print(process_memory(os.getpid()))
"""
    config = model.config.static
    branch = Branch.of_model(model, torch.randn(1, config.features, 48, 48), torch.randn(1, config.fine_features, 96, 96))
    AvatarStore(tmp_path).save('ann', replace(plain_avatar, branch=branch))
    run = [sys.executable, '-c', code, str(tmp_path)]
    before, after = map(float, subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    assert after - before < 10, 'a constant in each graph made 100 MB'


def test_modules_that_differ_in_weights_share_a_graph_and_keep_their_own():
    def make(width, seed):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Conv2d(2, width, 3), torch.nn.BatchNorm2d(width)).eval().requires_grad_(False)

    example = torch.randn(1, 2, 8, 8)
    modules = [make(4, 0), make(4, 1), make(5, 2)]
    before = len(frame_decoder._graphs)
    runs = [frame_decoder.captured(module, example) for module in modules]
    assert len(frame_decoder._graphs) == before + 2
    with torch.inference_mode():
        for module, run in zip(modules, runs, strict=True):
            torch.testing.assert_close(run(example), module(example))

"""Driving on a torch device gives the CPU driver's frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sega_ros.avatar.device_drive import DeviceDriver, open_driver
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.camera import FRONTAL
from sega_ros.errors import BackendError, HeadModelMismatchError
from sega_ros.evaluation.bench_device import bench_device, measure
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.skinning import Poser
from sega_ros.head.tensor_poser import TensorPoser
from sega_ros.models.binding import surface_frames, vertex_normals
from sega_ros.models.frame_decoder import FrameDecoder
from sega_ros.models.layers import fast_dtype
from sega_ros.models.tensor_frame import TensorBinder
from sega_ros.types import FlameParams

SIZE = (224, 240)
CPU = torch.device('cpu')
VIEWS = {
    'frontal': View('frontal', SIZE), 'follow': View('follow', SIZE), 'input': View('input', SIZE),
    'side': View('free', SIZE, yaw=np.radians(30)), 'far side': View('free', SIZE, yaw=np.radians(-60), pitch=0.2),
    'between': View('free', SIZE, yaw=np.radians(25), background=(0, 1, 0)),  # part of the residual shows
}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='PyTorch sees no CUDA device')


class ExactDriver(AvatarDriver):
    """Convolutions in float32 also where the CPU has units for bfloat16."""

    def _frame_decoder(self):
        if self.avatar.branch is None:
            return None
        return FrameDecoder(self.avatar.branch, self.head, self._poser.rest, xy=self._whole.xy[self._whole.decoded],
                            dtype=torch.float32)


def message(driver, seed):
    """A face at random, the head turned; seed 0 is neutral, 1 shuts one lid."""
    rng, neutral = np.random.default_rng(seed), driver.neutral()
    if seed == 0:
        return neutral
    turn = rotvec_to_rotmat(np.array([rng.uniform(-0.2, 0.2), rng.uniform(-0.5, 0.5), 0.1]))
    params = FlameParams(
        np.zeros(0, np.float32), rng.uniform(0, 0.7, driver.head.n_expression).astype(np.float32),
        *(rng.normal(0, 0.1, (4, 3)).astype(np.float32)), np.float32([1, 0] if seed == 1 else rng.uniform(0, 1, 2)))
    params = replace(params, jaw_pose=np.float32([0.2, 0.02, 0]))
    return replace(neutral, params=params, rotation=(FRONTAL @ turn).astype(np.float32),
                   translation=np.float32([0.01, 0.02, 0.7]), focal_length=1.5)


def psnr(a, b):
    error = (a.astype(float) - b) / 255
    return -10 * np.log10(max((error**2).mean(), 1e-12))


@pytest.fixture(scope='module')
def avatars(real_avatar):
    assert real_avatar.branch is not None and real_avatar.residual is not None
    return {'whole': real_avatar, 'no branch': replace(real_avatar, branch=None),
            'no residual': replace(real_avatar, residual=None),
            'neither': replace(real_avatar, branch=None, residual=None)}


@pytest.fixture(scope='module')
def pairs(avatars, head):
    """The CPU driver and the device driver of each avatar, both in float32."""
    return {name: (ExactDriver(a, head), DeviceDriver(a, head, device='cpu', dtype=torch.float32))
            for name, a in avatars.items()}


# --- pictures ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('view', VIEWS)
@pytest.mark.parametrize('name', ['whole', 'no branch', 'no residual', 'neither'])
def test_pictures_are_the_cpu_driver_s(pairs, name, view):
    """Sums in another order, and the decoder's tanh, approximated to 1e-4 on the CPU, tip the rounding to a grey level.

    Two splats at one depth may also change places: a few pixels differ by more.
    """
    ours, device = pairs[name]
    for seed in range(4):
        wanted, found = (d.render(message(ours, seed), VIEWS[view]) for d in (ours, device))
        assert found.shape == (*SIZE, 3) and found.dtype == np.uint8
        assert psnr(found, wanted) > 60
        assert (np.abs(found.astype(int) - wanted).max(-1) > 2).sum() <= 5


def test_pictures_differ_where_they_must(pairs):
    """The comparison above would notice a missing part."""
    device, view = pairs['whole'][1], VIEWS['frontal']
    shown = device.render(message(device, 2), view)
    for name in ('no branch', 'no residual'):
        assert psnr(pairs[name][1].render(message(device, 2), view), shown) < 45
    assert psnr(device.render(message(device, 3), view), shown) < 40


def test_the_fast_precision_is_close(real_avatar, head, pairs):
    """By default the convolutions run in bfloat16 where there are units for it: a 256th of what the decoder changes."""
    exact, fast = pairs['whole'][0], DeviceDriver(real_avatar, head, device='cpu')
    assert fast._decoder._networks.dtype == fast_dtype(torch.device('cpu'))
    for seed in (1, 2):
        assert psnr(fast.render(message(fast, seed), VIEWS['frontal']), exact.render(message(exact, seed), VIEWS['frontal'])) > 45


def test_visible_splats_are_the_cpu_driver_s(pairs):
    ours, device = pairs['whole']
    view, face = VIEWS['follow'], message(ours, 2)
    camera = ours.camera(face, view)
    wanted, found = ours.splats(face, view, camera), [t.numpy() for t in device.splats(face, view, camera)]
    seen = found[3] >= 1 / 255
    assert abs(int(seen.sum()) - len(wanted[0])) <= 3, 'at the cut, rounding decides'
    if seen.sum() == len(wanted[0]):
        means, quats, scales, opacities, colors = (a[seen] for a in found)
        np.testing.assert_allclose(means, wanted[0], atol=2e-6)
        np.testing.assert_allclose(np.abs((quats * wanted[1]).sum(1)) / np.linalg.norm(quats, axis=1), 1, atol=1e-4)
        np.testing.assert_allclose(scales, wanted[2], rtol=2e-3)
        np.testing.assert_allclose(opacities, wanted[3], atol=2e-3)
        np.testing.assert_allclose(colors, wanted[4], atol=1e-3)


def test_a_frame_depends_on_its_arguments_alone(pairs):
    """Two frames are bound before either is drawn, as the node does."""
    device = pairs['whole'][1]
    jobs = [(message(device, s), v) for s in range(3) for v in VIEWS.values()]
    first = [device.render(*job) for job in jobs]
    bound = [device.bind(*job) for job in jobs[::-1]]
    for job, picture in zip(bound, first[::-1], strict=True):
        np.testing.assert_array_equal(device.draw(job), picture)


# --- what stays on the device -----------------------------------------------------------------------------------------

class OnlyOn(TorchDispatchMode):
    """Fails when an operation takes or makes a tensor elsewhere. On device 'meta' one that needs values fails by itself."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves((args, kwargs, out)):
            assert not isinstance(t, torch.Tensor) or t.device.type == self.device, func
        return out


@pytest.mark.parametrize('name', ['whole', 'neither'])
def test_a_frame_can_be_recorded(avatars, head, name):
    """A CUDA graph holds no copy from or to the host, no shape and no choice that depends on data."""
    driver = DeviceDriver(avatars[name], head, device='meta', dtype=torch.float32)
    with OnlyOn('meta'), torch.no_grad():
        flat = driver._run(torch.zeros(sum(driver._sizes), device='meta'))
    assert flat.numel() == 14 * driver.detail
    assert sum(driver._sizes) * 4 < 1000, 'bytes that a frame sends to the device'


# --- parts ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('turned', [False, True])
def test_vertices_are_the_poser_s(real_avatar, head, turned):
    identity = real_avatar.identity
    poser = Poser(head, identity.shape, v_offset=identity.v_offset)
    tensors = TensorPoser(head, poser, CPU)
    turn = {'turn': rotvec_to_rotmat(np.array([0.1, 0.4, -0.2])), 'pivot': np.array([0.0, -0.1, 0.02])} if turned else {}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        params = FlameParams(np.zeros(0), rng.uniform(0, 1, head.n_expression - 3), *rng.normal(0, 0.3, (4, 3)),
                             rng.uniform(0, 1, 2))
        found = tensors(*map(torch.from_numpy, poser.numbers(params, **turn)))
        np.testing.assert_allclose(found.numpy(), poser.pose(params, **turn), atol=1e-6)


def test_frames_are_those_of_the_binding(pairs, head):
    table, poser = pairs['whole'][0]._whole.table, pairs['whole'][0]._poser
    vertices = poser.pose(message(pairs['whole'][0], 3).params)
    vertices[head.faces[:40]] = vertices[head.faces[:40, :1]]  # collapsed triangles
    binder = TensorBinder(table, len(vertices), CPU)
    wanted, found = surface_frames(table, vertices), binder.frames(torch.from_numpy(vertices))
    normals = binder.normals(torch.from_numpy(vertices)).numpy()
    np.testing.assert_allclose(normals, vertex_normals(vertices, table.faces), atol=2e-4)
    for name, value in zip(('positions', 'rotmats', 'stretch'), found, strict=True):
        error = np.abs(value.numpy() - getattr(wanted, name))
        # In float32 a needle's tangent loses digits; one splat in a thousand may turn by a degree.
        assert np.quantile(error, 0.999) < 1e-3 and np.isfinite(error).all(), name
    rotmats = found[1]
    torch.testing.assert_close(rotmats.transpose(1, 2) @ rotmats, torch.eye(3).expand_as(rotmats), atol=1e-4, rtol=0)


# --- which driver -----------------------------------------------------------------------------------------------------

def test_the_device_decides(plain_avatar, head):
    for device in (None, 'cpu'):
        assert type(open_driver(plain_avatar, head, device=device)) is AvatarDriver
    ours, device = AvatarDriver(plain_avatar, head), DeviceDriver(plain_avatar, head, device='cpu')
    assert psnr(device.render(device.neutral(), VIEWS['side']), ours.render(ours.neutral(), VIEWS['side'])) > 60
    with pytest.raises(HeadModelMismatchError, match='the avatar was made for head model'):
        DeviceDriver(replace(plain_avatar, head_model='another'), head, device='cpu')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_a_missing_gpu_is_named(plain_avatar, head):
    pytest.importorskip('gsplat', reason="gsplat is not installed: pip install 'gsplat>=1.5'")
    with pytest.raises(BackendError, match='needs a CUDA device'):
        open_driver(plain_avatar, head, device='cuda')
    assert bench_device(plain_avatar, head) is None


@needs_cuda
@pytest.mark.parametrize('name', ['whole', 'neither'])
def test_cuda_pictures_are_the_cpu_driver_s(avatars, pairs, head, name):
    """gsplat agrees with the CPU renderer to 1e-3; bfloat16 convolutions cost as much as on the CPU."""
    device = open_driver(avatars[name], head, device='cuda')
    jobs = [(message(device, s), v) for s in range(3) for v in VIEWS.values()]
    bound = [device.bind(*job) for job in jobs]
    for job, ready in zip(jobs, bound, strict=True):
        picture = device.draw(ready)
        assert psnr(picture, pairs[name][0].render(*job)) > 45
        np.testing.assert_array_equal(device.render(*job), picture)


@needs_cuda
def test_bench_measures_a_gpu(real_avatar, head):
    timing = bench_device(real_avatar, head, frames=20)
    assert timing.frames_per_second > 0 and timing.splats > 5000 and timing.bind_ms > 0 and timing.draw_ms > 0


def test_what_is_timed(pairs):
    driver = pairs['neither'][1]
    timing = measure(driver, 'this CPU', size=(40, 64), frames=2, wait=lambda: None)
    assert timing.splats == driver.detail and timing.size == (40, 64)
    assert 0 < timing.frames_per_second < 1e4 and timing.bind_ms > 0 and timing.draw_ms > 0

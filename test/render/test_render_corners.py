"""Corner cases and refusals of the renderer's entry."""

import dataclasses

import numpy as np
import pytest
import torch
from render_scenes import FIELDS, as_leaves, assert_pictures_agree, camera_of, cloud

from sega_ros.errors import BackendError, RequestError
from sega_ros.render import pick_backend, rasterize, rasterize_arrays
from sega_ros.types import Splats

BACKENDS = ('reference', 'cpu')
BLUE = torch.tensor([0.0, 0.25, 1.0])


@pytest.mark.parametrize('backend', BACKENDS)
def test_no_splats_give_the_background(backend):
    r = rasterize(cloud(0), camera_of((5, 9)), background=BLUE, backend=backend, with_depth=True)
    assert torch.equal(r.image, BLUE.expand(5, 9, 3))
    assert not r.alpha.any() and not r.depth.any()


@pytest.mark.parametrize('backend', BACKENDS)
def test_splats_behind_the_camera_are_not_drawn_and_get_no_gradient(backend):
    splats = as_leaves(cloud(60, seed=1))
    camera = camera_of((12, 20), distance=0.02)  # inside of the cloud
    rasterize(splats, camera, backend=backend).image.sum().backward()
    z = splats.means.detach() @ torch.as_tensor(camera.viewmat[2, :3]) + float(camera.viewmat[2, 3])
    behind = z < 0.01
    assert behind.any() and not behind.all()
    for f in FIELDS:
        assert not getattr(splats, f).grad[behind].any()
        assert getattr(splats, f).grad.isfinite().all()


@pytest.mark.parametrize('field', FIELDS)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('backend', BACKENDS)
def test_a_splat_that_is_not_finite_is_ignored(backend, value, field):
    splats = cloud(30, seed=2)
    broken = {f: getattr(splats, f).clone() for f in FIELDS}
    broken[field][7] = value
    broken = as_leaves(Splats(**broken))
    without = splats[torch.arange(30) != 7]
    camera = camera_of((20, 28))
    image = rasterize(broken, camera, backend=backend).image
    torch.testing.assert_close(image, rasterize(without, camera, backend=backend).image)
    image.sum().backward()
    for f in FIELDS:
        assert getattr(broken, f).grad.isfinite().all() and not getattr(broken, f).grad[7].any()


@pytest.mark.parametrize('backend', BACKENDS)
def test_zero_rotation_is_ignored(backend):
    splats = as_leaves(dataclasses.replace(cloud(3), quats=torch.zeros(3, 4)))
    image = rasterize(splats, camera_of((8, 8)), backend=backend).image
    image.sum().backward()
    assert not image.any() and splats.quats.grad.isfinite().all()


@pytest.mark.parametrize('scale', [0.0, 1e-30, 1e-9, 1.0, 1e3, 1e6, 1e12, 3e38])
def test_absurd_sizes_render_as_in_the_reference(scale):
    splats = cloud(20, seed=3)
    splats = dataclasses.replace(splats, scales=torch.full((20, 3), scale))
    camera = camera_of((24, 17))
    cpu, reference = (rasterize(splats, camera, backend=b) for b in BACKENDS)
    assert cpu.image.isfinite().all()
    assert_pictures_agree(cpu.image, reference.image)
    leaves = as_leaves(splats)
    rasterize(leaves, camera, backend='cpu').image.sum().backward()
    assert all(getattr(leaves, f).grad.isfinite().all() for f in FIELDS)


def test_absurd_positions_and_opacities():
    splats = cloud(40, seed=4)
    means = splats.means * torch.logspace(0, 30, 40)[:, None]
    opacities = torch.linspace(-3, 5, 40)  # gsplat's clamp is the only limit
    splats = dataclasses.replace(splats, means=means, opacities=opacities)
    camera = camera_of((24, 17))
    assert_pictures_agree(*(rasterize(splats, camera, backend=b).image for b in BACKENDS))


@pytest.mark.parametrize('size', [(1, 1), (1, 50), (50, 1), (7, 9), (8, 8), (9, 7), (17, 64)])
def test_any_size(size):
    splats, camera = cloud(80, seed=5, scale=0.03), camera_of(size)
    cpu, reference = (rasterize(splats, camera, background=BLUE, backend=b) for b in BACKENDS)
    assert cpu.image.shape == (*size, 3) and cpu.alpha.shape == size and cpu.depth is None
    assert_pictures_agree(cpu.image, reference.image)


def test_strided_tensors_are_taken():
    splats, camera = cloud(30, seed=6), camera_of((16, 16))
    odd = Splats(*(torch.stack([getattr(splats, f)] * 2, -1)[..., 0] for f in FIELDS))
    assert not odd.means.is_contiguous()
    assert torch.equal(rasterize(odd, camera, backend='cpu').image, rasterize(splats, camera, backend='cpu').image)


def test_backend_is_picked_by_dtype():
    assert pick_backend(cloud(1)) == 'cpu'
    assert pick_backend(cloud(1, dtype=torch.float64)) == 'reference'


@pytest.mark.parametrize(('change', 'match'), [
    ({'means': torch.zeros(5, 2)}, r'splats.means: wanted shape \[5, 3\], found \[5, 2\]'),
    ({'quats': torch.zeros(4, 4)}, r'splats.quats: wanted shape \[5, 4\], found \[4, 4\]'),
    ({'opacities': torch.zeros(5, 1)}, r'splats.opacities: wanted shape \[5\], found \[5, 1\]'),
    ({'colors': torch.zeros(5, 3, dtype=torch.float64)}, 'splats.colors: wanted torch.float32 on cpu'),
])
def test_wrong_splats_are_refused(change, match):
    with pytest.raises(RequestError, match=match):
        rasterize(dataclasses.replace(cloud(5), **change), camera_of((4, 4)))


@pytest.mark.parametrize(('change', 'match'), [
    ({'width': 0}, 'width and height in'), ({'height': 10**6}, 'width and height in'),
    ({'fx': 0.0}, 'fx and fy above 0'),
    ({'cx': float('nan')}, 'finite numbers'), ({'viewmat': np.full((4, 4), np.inf)}, 'finite numbers'),
    ({'viewmat': np.eye(3)}, r'camera.viewmat: wanted shape \[4, 4\]'),
])
def test_wrong_cameras_are_refused(change, match):
    with pytest.raises(RequestError, match=match):
        rasterize(cloud(5), dataclasses.replace(camera_of((4, 4)), **change))


def test_other_refusals():
    splats, camera = cloud(5), camera_of((4, 6))
    with pytest.raises(RequestError, match=r'background: wanted shape \[4, 6, 3\], found \[6, 4, 3\]'):
        rasterize(splats, camera, background=torch.zeros(6, 4, 3))
    with pytest.raises(RequestError, match=r'background: wanted floating RGB in \[0, 1\], found torch.uint8'):
        rasterize(splats, camera, background=torch.zeros(4, 6, 3, dtype=torch.uint8))
    with pytest.raises(RequestError, match="wanted one of reference, cpu, cuda, found 'vulkan'"):
        rasterize(splats, camera, backend='vulkan')
    with pytest.raises(BackendError, match=r"'cpu' renders float32 tensors on cpu, found torch.float64"):
        rasterize(splats.to(torch.float64), camera, backend='cpu')
    with pytest.raises(BackendError, match="'cuda' renders float32 tensors on cuda, found torch.float32 on cpu"):
        rasterize(splats, camera, backend='cuda')
    with pytest.raises(RequestError, match='threads: wanted 1 or more, found 0'):
        rasterize(splats, camera, threads=0)


def test_arrays_are_checked():
    arrays = [getattr(cloud(5), f).numpy() for f in FIELDS]
    camera = camera_of((4, 6))
    with pytest.raises(RequestError, match=r'out: wanted shape \[4, 6, 3\], found \[6, 4, 3\]'):
        rasterize_arrays(*arrays, camera, out=np.empty((6, 4, 3), np.uint8))
    with pytest.raises(RequestError, match='out: wanted a writable, contiguous uint8 or float32 array, found float64'):
        rasterize_arrays(*arrays, camera, out=np.empty((4, 6, 3)))
    with pytest.raises(RequestError, match='background: wanted floating RGB'):
        rasterize_arrays(*arrays, camera, background=np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(RequestError, match='dtype: wanted uint8 or float32, found int16'):
        rasterize_arrays(*arrays, camera, dtype=np.int16)
    with pytest.raises(RequestError, match=r'quats: wanted shape \[5, 4\]'):
        rasterize_arrays(arrays[0], arrays[1][:, :3], *arrays[2:], camera)

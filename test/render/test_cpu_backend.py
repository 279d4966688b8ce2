"""The Numba kernels against the reference: pictures and every gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from render_scenes import FIELDS, assert_pictures_agree, camera_of, cloud, outputs_and_gradients

from sega_ros.camera import orbit_camera
from sega_ros.evaluation.bench_render import frontal_camera, surface_splats
from sega_ros.render import rasterize, rasterize_arrays
from sega_ros.types import Camera, Splats

WHITE = torch.ones(3)


@pytest.mark.parametrize('with_depth', [False, True])
@pytest.mark.parametrize('picture', [False, True])
@pytest.mark.parametrize(('n', 'size', 'scale'), [
    (1, (16, 24), 0.05), (40, (1, 1), 0.05), (300, (8, 8), 0.02), (500, (33, 70), 0.02), (1500, (97, 61), 0.01),
    (200, (64, 40), 0.3),
])
def test_pictures_and_gradients_equal_the_reference(n, size, scale, picture, with_depth):
    splats, camera = cloud(n, seed=n, scale=scale), camera_of(size)
    background = torch.rand(*size, 3, generator=torch.Generator().manual_seed(2)) if picture else WHITE
    cpu = outputs_and_gradients(splats, camera, background=background, backend='cpu', with_depth=with_depth)
    exact = outputs_and_gradients(
        splats.to(torch.float64), camera, background=background, backend='reference', with_depth=with_depth
    )
    assert_pictures_agree(cpu['image'], exact['image'])
    assert_pictures_agree(cpu['alpha'], exact['alpha'])
    if with_depth:
        solid = exact['alpha'] > 0.05
        assert_pictures_agree(torch.where(solid, cpu['depth'], 0), torch.where(solid, exact['depth'], 0))
    for name in ['v_' + f for f in FIELDS] + ['v_background']:
        # float32 sums over thousands of pixels, and a splat at the alpha cut: 1e-3 of the largest entry.
        torch.testing.assert_close(cpu[name], exact[name], rtol=1e-3, atol=1e-3 * float(exact[name].abs().max()) + 1e-7)


def test_gradient_is_exact_where_no_splat_is_cut():
    """One broad splat covers the picture, so no pixel sits near a threshold and the gradients agree closely."""
    splats = Splats(
        torch.tensor([[0.01, -0.02, 0.0]]), torch.tensor([[0.9, 0.2, -0.3, 0.4]]), torch.tensor([[0.2, 0.3, 0.1]]),
        torch.tensor([0.7]), torch.tensor([[0.2, 0.9, 0.4]]),
    )
    camera = camera_of((24, 40))
    cpu = outputs_and_gradients(splats, camera, background=WHITE, backend='cpu')
    exact = outputs_and_gradients(splats.to(torch.float64), camera, background=WHITE, backend='reference')
    for name, value in exact.items():
        torch.testing.assert_close(cpu[name], value, rtol=2e-5, atol=2e-5 * float(value.abs().max()))


def test_equal_depths_keep_their_order():
    n = 50
    splats = cloud(n, seed=3, scale=0.03)
    splats = replace(splats, means=splats.means * torch.tensor([1.0, 1.0, 0.0]))
    camera = orbit_camera(size=(40, 56), distance=0.7)
    assert_pictures_agree(*(rasterize(splats, camera, backend=b).image for b in ('cpu', 'reference')))


def test_depths_that_differ_in_the_last_bit_are_ordered_by_it():
    z = torch.tensor([1.0])
    nearer = torch.nextafter(z, torch.tensor([0.0]))
    means = torch.stack([torch.tensor([0.0, 0.0, float(v)]) for v in (z, nearer)])
    unit = torch.tensor([[1.0, 0, 0, 0]] * 2)
    splats = Splats(means, unit, torch.full((2, 3), 0.05), torch.full((2,), 0.95), torch.eye(3)[:2])
    camera = Camera(16, 16, 30.0, 30.0, 8.0, 8.0)  # identity view: z is the depth
    for backend in ('cpu', 'reference'):
        r, g, _ = rasterize(splats, camera, backend=backend).image[8, 8]
        assert g > 5 * r


def test_far_and_near_together():
    """Depths over many binades take the sort's third pass."""
    g = torch.Generator().manual_seed(5)
    z = 10 ** (torch.rand(400, generator=g) * 5 - 1.5)
    means = torch.stack([(torch.rand(400, generator=g) - 0.5) * z, (torch.rand(400, generator=g) - 0.5) * z, z], 1)
    base = cloud(400, seed=6)
    splats = Splats(means, base.quats, base.scales * z[:, None] * 5, base.opacities, base.colors)
    camera = Camera(48, 40, 60.0, 60.0, 24.0, 20.0)
    assert_pictures_agree(*(rasterize(splats, camera, backend=b).image for b in ('cpu', 'reference')))


def test_needles_keep_their_width():
    """Axis ratios of 1e4 lose a float32 determinant computed as a c - b^2; ours is a sum of positive terms."""
    base = cloud(60, seed=8)
    splats = Splats(base.means, base.quats, torch.tensor([0.3, 3e-5, 3e-5]).expand(60, 3), base.opacities, base.colors)
    camera = camera_of((120, 160))
    cpu = rasterize(splats, camera, backend='cpu').image
    assert_pictures_agree(cpu, rasterize(splats.to(torch.float64), camera, backend='reference').image)


@pytest.mark.parametrize('threads', [2, 3])
def test_threads_change_nothing(threads):
    splats, camera = cloud(800, seed=4), camera_of((70, 50))
    one = outputs_and_gradients(splats, camera, background=WHITE, backend='cpu')
    more = outputs_and_gradients(splats, camera, background=WHITE, backend='cpu', threads=threads)
    for name in ('image', 'alpha', 'depth'):
        assert torch.equal(one[name], more[name])
    for name in FIELDS:
        value = one['v_' + name]
        # The order of summation differs between thread counts.
        torch.testing.assert_close(more['v_' + name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


@pytest.mark.parametrize('threads', [1, 2])
def test_runs_repeat_bit_by_bit(threads):
    splats, camera = cloud(800, seed=4), camera_of((70, 50))
    a, b = (outputs_and_gradients(splats, camera, background=WHITE, backend='cpu', threads=threads) for _ in range(2))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_long_tile_lists_are_done_in_bands(monkeypatch):
    from sega_ros.render import cpu_frame

    splats, camera = cloud(300, seed=9, scale=0.05), camera_of((80, 56))
    whole = outputs_and_gradients(splats, camera, background=WHITE, backend='cpu')
    monkeypatch.setattr(cpu_frame, 'MAX_PAIRS', 500)
    banded = outputs_and_gradients(splats, camera, background=WHITE, backend='cpu', threads=2)
    for name, value in whole.items():
        torch.testing.assert_close(banded[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def test_inplace_change_before_backward_is_noticed():
    splats = cloud(10)
    splats.means.requires_grad_()
    image = rasterize(splats, camera_of((16, 16)), backend='cpu').image
    with torch.no_grad():
        splats.scales.mul_(2)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        image.sum().backward()


def test_arrays_give_the_same_picture_as_tensors():
    splats, camera = cloud(600, seed=11), camera_of((45, 80))
    background = torch.rand(45, 80, 3, generator=torch.Generator().manual_seed(1))
    wanted = rasterize(splats, camera, background=background, backend='cpu')
    arrays = [getattr(splats, f).numpy() for f in FIELDS]
    alpha = np.empty((45, 80), np.float32)
    image = rasterize_arrays(*arrays, camera, background=background.numpy(), dtype=np.float32, alpha=alpha)
    assert np.array_equal(image, wanted.image.numpy()) and np.array_equal(alpha, wanted.alpha.numpy())
    out = np.empty((45, 80, 3), np.uint8)
    assert rasterize_arrays(*arrays, camera, background=background.numpy(), out=out) is out
    assert np.abs(out - wanted.image.numpy().clip(0, 1) * 255).max() <= 0.5 + 0.02


@pytest.mark.parametrize('n', [600, 3000, 12000])
def test_bytes_are_the_floats_rounded(n):
    """They are made by less work: up to half a step from rounding, a step at most from what lies behind 1/256."""
    splats, camera = cloud(n, seed=11), camera_of((45, 80))
    arrays = [getattr(splats, f).numpy() for f in FIELDS]
    pictures = [rasterize_arrays(*arrays, camera, background=np.ones(3, np.float32), dtype=d) for d in (np.uint8, np.float32)]
    apart = np.abs(pictures[0] - pictures[1].clip(0, 1) * 255)
    assert apart.max() <= 1.5 and (apart > 0.52).mean() < 0.01


def test_bytes_of_opaque_splats_hide_what_is_behind():
    """Floats leave out the splat that would end a pixel, as gsplat does; in bytes nothing shines through."""
    n = 40
    splats = Splats(torch.zeros(n, 3), torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1), torch.full((n, 3), 0.3), torch.ones(n),
                    torch.full((n, 3), 0.5))
    arrays = [getattr(splats, f).numpy() for f in FIELDS]
    image = rasterize_arrays(*arrays, camera_of((24, 32)), background=np.ones(3, np.float32))
    assert (image == 128).all()


def test_avatar_like_surface_keeps_the_contract():
    splats, camera = surface_splats(6000), frontal_camera(160)
    pictures = [rasterize(splats, camera, background=WHITE, backend=b) for b in ('cpu', 'reference')]
    assert_pictures_agree(*(p.image for p in pictures))
    assert_pictures_agree(*(p.alpha for p in pictures))


@pytest.mark.parametrize('scale', [0.003, 0.02, 0.2, 30.0])
def test_tile_lists_hold_what_shows_and_little_else(scale):
    """Ellipses of every shape: a tile with a pixel above the alpha cut is listed; most of those listed have one."""
    from sega_ros.render import cpu_frame
    from sega_ros.render.cpu_project import FALL, MID, MX, MY, SPANS, A, B, D

    base = cloud(400, seed=12, scale=scale)
    splats = replace(base, scales=base.scales * torch.tensor([1.0, 0.1, 0.1]))
    size = (93, 150)
    frame = cpu_frame.prepare(tuple(getattr(splats, f).numpy() for f in FIELDS), camera_of(size))
    spans = frame.tiles[:, SPANS:]
    assert (spans >> 16).max() <= 19 and ((spans & 0xFFFF) <= spans >> 16).all(), 'also what is empty lies in the picture'
    listed = np.zeros((len(frame.records), 12, 19), bool)
    for tile in range(12 * 19):
        own = frame.pairs[frame.offsets[tile] : frame.offsets[tile + 1] - 1]
        assert (np.diff(np.argsort(frame.order)[own]) > 0).all(), 'nearest first, each once'
        listed[own, tile // 19, tile % 19] = True
    r = frame.records.astype(np.float64)[:, :, None, None]
    dx, dy = np.arange(152) + 0.5 - r[:, MX], (np.arange(96) + 0.5)[:, None] - r[:, MY]
    u, v = r[:, A] * dx + r[:, B] * dy, r[:, D] * dy
    exponent = r[:, MID] + r[:, FALL] / 8 - u**2 - v**2

    def touched(cut):
        shown = exponent > cut
        shown[:, size[0] :], shown[:, :, size[1] :] = False, False
        return shown.reshape(-1, 12, 8, 19, 8).any((2, 4))

    cut = np.log2(1 / 255)
    assert not (touched(cut + 1e-4) & ~listed).any()
    assert (listed & ~touched(cut - 0.1)).sum() <= 0.2 * listed.sum(), 'tall ones are cut in four bands'


def test_frames_share_memory_and_nothing_else():
    """Frames of all sizes in turn, in several threads at once: each is what it would be alone."""
    from concurrent.futures import ThreadPoolExecutor

    jobs = [(cloud(n, seed=n, scale=0.03), camera_of(size)) for n, size in (
        (700, (70, 50)), (20, (40, 90)), (0, (9, 5)), (900, (64, 64)), (300, (8, 120)))]

    def picture(job, **options):
        return rasterize_arrays(*(getattr(job[0], f).numpy() for f in FIELDS), job[1], dtype=np.float32, **options)

    wanted = [rasterize(*job, backend='cpu').image.numpy() for job in jobs]
    order = np.random.default_rng(0).integers(0, len(jobs), 60)
    with ThreadPoolExecutor(3) as pool:
        pictures = list(pool.map(lambda k: picture(jobs[k], threads=1 + k % 2), order))
    for k, found in zip(order, pictures, strict=True):
        np.testing.assert_array_equal(found, wanted[k])

"""The reference: gradients against finite differences, projection against gsplat, symmetries."""

import numpy as np
import pytest
import torch
from render_scenes import FIELDS, as_leaves, assert_pictures_agree, camera_of, cloud

from sega_ros.camera import orbit_camera
from sega_ros.geometry import rotvec_to_rotmat, unitquat_mul
from sega_ros.render import rasterize
from sega_ros.render.reference import project
from sega_ros.types import Camera, Splats

BACKENDS = ('reference', 'cpu')


def test_gradcheck():
    """Splats so broad and faint that finite differences cross neither the alpha cut nor the stop."""
    g = torch.Generator().manual_seed(0)
    n = 4
    splats = as_leaves(Splats(
        (torch.rand(n, 3, generator=g) - 0.5) * 0.1, torch.randn(n, 4, generator=g),
        torch.rand(n, 3, generator=g) * 0.2 + 0.2, torch.rand(n, generator=g) * 0.4 + 0.3,
        torch.rand(n, 3, generator=g),
    ).to(torch.float64))
    camera = camera_of((4, 6))

    def render(*tensors):
        r = rasterize(Splats(*tensors), camera, background=torch.ones(3), backend='reference', with_depth=True)
        return r.image, r.alpha, r.depth

    assert torch.autograd.gradcheck(render, tuple(getattr(splats, f) for f in FIELDS))


def test_projection_equals_gsplat():
    impl = pytest.importorskip('gsplat.cuda._torch_impl', reason='needs gsplat to compare with')
    splats, camera = cloud(200, seed=1).to(torch.float64), camera_of((60, 90), distance=0.17)
    covars, _ = impl._quat_scale_to_covar_preci(splats.quats, splats.scales, compute_preci=False)
    viewmats = torch.as_tensor(camera.viewmat, dtype=torch.float64)[None]
    means_c, covars_c = impl._world_to_cam(splats.means, covars, viewmats)
    K = torch.tensor([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], dtype=torch.float64)[None]
    means2d, covs2d = impl._persp_proj(means_c, covars_c, K, camera.width, camera.height)
    covs2d = covs2d[0] + 0.3 * torch.eye(2, dtype=torch.float64)

    ours = project(splats, camera)
    assert len(ours.ids) > 150
    clamped = (means2d[0, :, 0] < -0.15 * camera.width) | (means2d[0, :, 0] > 1.15 * camera.width)
    assert clamped[ours.ids].any(), 'the scene must reach the clamp of the Jacobian'
    torch.testing.assert_close(ours.means2d, means2d[0][ours.ids])
    torch.testing.assert_close(ours.covs2d, covs2d[ours.ids][:, [0, 0, 1], [0, 1, 1]])
    torch.testing.assert_close(ours.conics, torch.linalg.inv(covs2d)[ours.ids][:, [0, 0, 1], [0, 1, 1]])
    torch.testing.assert_close(ours.depths, means_c[0, ours.ids, 2])


def test_one_splat_by_hand():
    """A round splat on the axis: sigma is known in closed form."""
    camera = Camera(9, 7, 100.0, 100.0, 4.5, 3.5)
    splats = Splats(
        torch.tensor([[0.0, 0, 2]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.04), torch.tensor([0.8]),
        torch.tensor([[1.0, 0.5, 0.25]]),
    )
    variance = (100 / 2 * 0.04) ** 2 + 0.3
    y, x = np.mgrid[:7, :9] + 0.5
    alpha = 0.8 * np.exp(-((x - 4.5) ** 2 + (y - 3.5) ** 2) / (2 * variance))
    alpha[alpha < 1 / 255] = 0
    for backend in BACKENDS:
        r = rasterize(splats, camera, background=torch.tensor([0.0, 0, 1]), backend=backend, with_depth=True)
        np.testing.assert_allclose(r.alpha, alpha, atol=1e-5)
        np.testing.assert_allclose(r.image[..., 2], alpha * 0.25 + 1 - alpha, atol=1e-5)
        np.testing.assert_allclose(r.depth, np.where(alpha > 0, 2, 0), atol=1e-5)


def test_alpha_is_clamped_and_a_done_pixel_shows_nothing_behind():
    """Opaque red, then opaque green: alpha 0.999 leaves 1e-3, and the second would go below 1e-4, so it is left out."""
    camera = Camera(8, 8, 50.0, 50.0, 4.5, 4.5)
    splats = Splats(
        torch.tensor([[0.0, 0, 1], [0.0, 0, 2]]), torch.tensor([[1.0, 0, 0, 0]] * 2), torch.full((2, 3), 1.0),
        torch.ones(2), torch.eye(3)[:2],
    )
    for backend in BACKENDS:
        r = rasterize(splats, camera, backend=backend)
        assert r.image[4, 4].tolist() == pytest.approx([0.999, 0, 0], abs=1e-5)
        assert float(r.alpha[4, 4]) == pytest.approx(0.999, abs=1e-5)


@pytest.mark.parametrize('backend', BACKENDS)
def test_order_of_splats_does_not_matter(backend):
    splats, camera = cloud(400, seed=2), camera_of((40, 64))
    shuffled = splats[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(
        rasterize(splats, camera, backend=backend).image, rasterize(shuffled, camera, backend=backend).image
    )


@pytest.mark.parametrize('backend', BACKENDS)
def test_moving_camera_and_scene_together_changes_nothing(backend):
    splats, camera = cloud(300, seed=3).to(torch.float64), camera_of((48, 36))
    rotvec, shift = np.array([0.4, -0.7, 0.2]), np.array([0.3, -0.1, 0.5])
    R = rotvec_to_rotmat(rotvec)
    angle = np.linalg.norm(rotvec)
    quat = torch.tensor([np.cos(angle / 2), *(np.sin(angle / 2) * rotvec / angle)])
    moved = Splats(
        splats.means @ torch.tensor(R.T) + torch.tensor(shift), unitquat_mul(quat.expand(300, 4), splats.quats),
        splats.scales, splats.opacities, splats.colors,
    )
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = R, shift
    view = camera.viewmat.astype(np.float64) @ np.linalg.inv(motion)
    camera2 = Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, view)
    dtype = torch.float32 if backend == 'cpu' else torch.float64
    a = rasterize(splats.to(dtype), camera, backend=backend).image
    b = rasterize(moved.to(dtype), camera2, backend=backend).image
    assert a.mean() > 0.05
    assert_pictures_agree(a, b)


def test_blocks_are_seamless():
    from sega_ros.render.reference import rasterize_reference

    splats, camera = cloud(300, seed=5, scale=0.05, dtype=torch.float64), orbit_camera(size=(45, 33), distance=0.6)
    a, b = (rasterize_reference(splats, camera, background=torch.zeros(3), block=n) for n in (7, 64))
    torch.testing.assert_close(a.image, b.image)


def test_rotation_needs_no_normalising():
    splats, camera = cloud(50, seed=6), camera_of((20, 30))
    longer = Splats(splats.means, splats.quats * 7.0, splats.scales, splats.opacities, splats.colors)
    for backend in BACKENDS:
        torch.testing.assert_close(
            rasterize(splats, camera, backend=backend).image, rasterize(longer, camera, backend=backend).image,
            atol=1e-5, rtol=1e-5,
        )

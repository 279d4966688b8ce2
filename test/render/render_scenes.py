"""Seeded scenes and comparisons for the renderer's tests."""

from dataclasses import fields

import numpy as np
import torch

from sega_ros.camera import orbit_camera
from sega_ros.render import rasterize
from sega_ros.types import Camera, Splats

FIELDS = tuple(f.name for f in fields(Splats))


def cloud(n: int, *, seed: int = 0, scale: float = 0.01, dtype=torch.float32) -> Splats:
    """Random splats in a head-sized box around the origin; scales up to `scale` metres."""
    g = torch.Generator().manual_seed(seed)
    return Splats(
        (torch.rand(n, 3, generator=g) - 0.5) * torch.tensor([0.2, 0.26, 0.2]),
        torch.randn(n, 4, generator=g),
        torch.rand(n, 3, generator=g) * scale + 0.0005,
        torch.rand(n, generator=g) * 0.99 + 0.01,
        torch.rand(n, 3, generator=g),
    ).to(dtype)


def camera_of(size: tuple[int, int], *, yaw: float = 0.3, distance: float = 0.6) -> Camera:
    """Camera of `size` (H, W), off centre and with unequal focal lengths, so that a swap shows."""
    c = orbit_camera(yaw=yaw, pitch=0.1, distance=distance, size=size, focal_length=2.0)
    focal = 2.0 * min(size)
    return Camera(c.width, c.height, focal, focal * 1.1, c.cx + 1.3, c.cy - 0.7, c.viewmat)


def as_leaves(splats: Splats) -> Splats:
    return Splats(*(getattr(splats, f).detach().clone().requires_grad_() for f in FIELDS))


def outputs_and_gradients(splats, camera, *, background, backend, with_depth=True, threads=1, seed=1) -> dict:
    """Image, alpha, depth and the gradients of a random linear loss, all float64."""
    splats, background = as_leaves(splats), background.to(splats.means.dtype).clone().requires_grad_()
    r = rasterize(
        splats, camera, background=background, backend=backend, with_depth=with_depth, threads=threads
    )
    g = torch.Generator().manual_seed(seed)
    parts = {'image': r.image, 'alpha': r.alpha} | ({'depth': r.depth} if with_depth else {})
    # Depth of nearly empty pixels divides by almost zero; it means nothing there, so it gets no weight.
    weights = {k: torch.randn(v.shape, generator=g) for k, v in parts.items()}
    if with_depth:
        weights['depth'] *= (r.alpha.detach() > 0.05).cpu()
    sum((v * weights[k].to(v)).sum() for k, v in parts.items()).backward()
    out = {k: v.detach().double() for k, v in parts.items()}
    out |= {'v_' + f: getattr(splats, f).grad.double() for f in FIELDS}
    return out | {'v_background': background.grad.double()}


def assert_pictures_agree(a, b) -> None:
    """The backends' contract: within 1e-3, but for 0.01 % of pixels that a splat at the alpha cut moves by 4e-3."""
    worst = np.abs(np.asarray(a) - np.asarray(b))
    worst = worst.max(-1) if worst.ndim == 3 else worst
    assert worst.max(initial=0) <= 4e-3, f'largest difference {worst.max()}'
    assert (worst > 1e-3).mean() <= 1e-4, f'{(worst > 1e-3).sum()} of {worst.size} pixels differ by more than 1e-3'

"""Gaussian splatting in plain PyTorch: any device, any floating dtype. It defines what is right and is never optimised.

EWA splatting as in gsplat (its `_torch_impl.py` and `RasterizeToPixels3DGSFwd.cu`). Two details are fixed here for
all backends: splats are ordered by their camera z rounded to float32, equal ones by index; and the determinant of the
projected covariance is a sum of positive terms (see `project`), so needles don't lose it to cancellation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from sega_ros.geometry import unitquat_to_rotmat
from sega_ros.render.constants import (
    ALPHA_CUT,
    ALPHA_MAX,
    BLUR,
    CLAMP,
    DEPTH_ALPHA_MIN,
    NEAR,
    TRANSMITTANCE_MIN,
)
from sega_ros.types import Camera, Rendering, Splats

BLOCK = 32  # px; pixels are blended in blocks so that [pixels, splats] tensors stay small


@dataclass(frozen=True)
class Projected:
    """Visible splats on the image plane, nearest first."""

    ids: Tensor  # [M] int64, into the splats they come from
    means2d: Tensor  # [M, 2] px
    covs2d: Tensor  # [M, 3] px^2: xx, xy, yy, blurred
    conics: Tensor  # [M, 3] inverse of the covariance: xx, xy, yy
    depths: Tensor  # [M] metres, camera z


def rasterize_reference(
    splats: Splats, camera: Camera, *, background: Tensor, with_depth: bool = False, block: int = BLOCK
) -> Rendering:
    """Render `splats` over `background` ([3] or [H, W, 3]); differentiable in every splat parameter and background.

    Splats with a non-finite parameter or a zero quaternion are ignored and get zero gradients.
    """
    projected = project(splats, camera)
    colors, opacities = splats.colors[projected.ids], splats.opacities[projected.ids]
    features = torch.cat([colors, projected.depths[:, None]], 1) if with_depth else colors
    rows = []
    for y in range(0, camera.height, block):
        y1 = min(y + block, camera.height)
        columns = [(x, min(x + block, camera.width)) for x in range(0, camera.width, block)]
        row = [_blend_block(projected, opacities, features, (y, x), (y1, x1)) for x, x1 in columns]
        rows.append(torch.cat(row, 1))
    blended = torch.cat(rows)  # [H, W, C + 1]
    alpha = blended[..., -1]
    image = blended[..., :3] + (1 - alpha)[..., None] * background
    depth = blended[..., 3] / alpha.clamp_min(DEPTH_ALPHA_MIN) if with_depth else None
    return Rendering(image, alpha, depth)


def drawable(splats: Splats) -> Tensor:
    """Mask [N] of splats that can be drawn at all: finite, with a rotation, above the alpha cut."""
    finite = splats.opacities.isfinite()
    for values in (splats.means, splats.quats, splats.scales, splats.colors):
        finite = finite & values.isfinite().all(-1)
    return finite & (splats.quats.square().sum(-1) > 0) & (splats.opacities >= ALPHA_CUT)


def project(splats: Splats, camera: Camera) -> Projected:
    """Project and sort the visible splats.

    With M = J W R S [2, 3] the covariance is M M^T + blur I, and by Cauchy-Binet its determinant is the sum of M's
    squared 2 x 2 minors + blur * trace(M M^T) + blur^2.
    """
    viewmat = torch.as_tensor(camera.viewmat, dtype=torch.float64, device=splats.means.device)
    means_c = (splats.means.double() @ viewmat[:3, :3].T + viewmat[:3, 3]).to(splats.means.dtype)
    key = means_c[:, 2].detach().float()
    ids = torch.nonzero(drawable(splats) & (key >= NEAR)).squeeze(1)
    ids = ids[torch.argsort(key[ids], stable=True)]

    means_c, rotation = means_c[ids], viewmat[:3, :3].to(splats.means.dtype)
    turned = rotation @ unitquat_to_rotmat(normalize(splats.quats[ids], dim=-1))
    axes = turned * splats.scales[ids][:, None, :]  # [M, 3, 3]
    M = _jacobian(means_c, camera) @ axes  # [M, 2, 3]
    u, v = M.unbind(1)
    xx, xy, yy = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    det = torch.linalg.cross(u, v).square().sum(-1) + BLUR * (xx + yy) + BLUR**2
    covs2d = torch.stack([xx + BLUR, xy, yy + BLUR], -1)
    conics = torch.stack([covs2d[:, 2], -xy, covs2d[:, 0]], -1) / det[:, None]
    focal = means_c.new_tensor([camera.fx, camera.fy])
    means2d = means_c[:, :2] / means_c[:, 2:] * focal + means_c.new_tensor([camera.cx, camera.cy])
    ok = det.isfinite() & means2d.isfinite().all(-1)  # absurd sizes overflow, and are not drawn
    return Projected(ids[ok], means2d[ok], covs2d[ok], conics[ok], means_c[ok, 2])


def _jacobian(means_c: Tensor, camera: Camera) -> Tensor:
    """Perspective Jacobian [M, 2, 3] at camera points [M, 3], clamped near the frustum as gsplat does."""
    x, y, z = means_c.unbind(-1)
    margin_x, margin_y = CLAMP * 0.5 * camera.width / camera.fx, CLAMP * 0.5 * camera.height / camera.fy
    tx = (x / z).clamp(-camera.cx / camera.fx - margin_x, (camera.width - camera.cx) / camera.fx + margin_x)
    ty = (y / z).clamp(-camera.cy / camera.fy - margin_y, (camera.height - camera.cy) / camera.fy + margin_y)
    zero = torch.zeros_like(z)
    rows = [camera.fx / z, zero, -camera.fx * tx / z, zero, camera.fy / z, -camera.fy * ty / z]
    return torch.stack(rows, -1).unflatten(-1, (2, 3))


def _blend_block(projected: Projected, opacities: Tensor, features: Tensor, start: tuple, end: tuple) -> Tensor:
    """Blend the pixels from `start` to `end` (row, column): features and alpha [h, w, C + 1]."""
    (y0, x0), (y1, x1) = start, end
    ids = _overlapping(projected, opacities, start, end)
    xs = torch.arange(x0, x1, device=features.device, dtype=features.dtype) + 0.5
    ys = torch.arange(y0, y1, device=features.device, dtype=features.dtype) + 0.5
    pixels = torch.stack(torch.meshgrid(xs, ys, indexing='xy'), -1).flatten(0, 1)  # [h * w, 2]
    means2d, covs2d, conics_xx = projected.means2d[ids], projected.covs2d[ids], projected.conics[ids, 0]
    args = (pixels, means2d, covs2d, conics_xx, opacities[ids], features[ids])
    if torch.is_grad_enabled() and any(a.requires_grad for a in args):
        return checkpoint(_blend, *args, use_reentrant=False).unflatten(0, (y1 - y0, x1 - x0))
    return _blend(*args).unflatten(0, (y1 - y0, x1 - x0))


def _overlapping(projected: Projected, opacities: Tensor, start: tuple, end: tuple) -> Tensor:
    """Return indices of the splats that can reach the cut in the block: the ellipse's bounding box, 1 px wider."""
    with torch.no_grad():
        extent = (2 * (opacities / ALPHA_CUT).log()).clamp_min(0).sqrt()[:, None]
        radius = extent * projected.covs2d[:, [0, 2]].sqrt() + 1
        low, high = projected.means2d - radius, projected.means2d + radius
        corner0, corner1 = low.new_tensor(start[::-1]), low.new_tensor(end[::-1])
        return torch.nonzero(((high >= corner0) & (low <= corner1)).all(-1)).squeeze(1)


def _blend(
    pixels: Tensor, means2d: Tensor, covs2d: Tensor, conics_xx: Tensor, opacities: Tensor, features: Tensor
) -> Tensor:
    """Blend front to back at pixels [P, 2]: features and alpha [P, C + 1].

    The exponent d^T conic d / 2 is written as a sum of two squares (Cholesky), so it can't turn negative by rounding.
    """
    dx, dy = (pixels[:, None] - means2d[None]).unbind(-1)  # [P, M]
    _, xy, yy = covs2d.unbind(-1)
    sigma = 0.5 * (conics_xx * (dx - xy / yy * dy) ** 2 + dy * dy / yy)
    alpha = (opacities * torch.exp(-sigma)).clamp_max(ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_CUT, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, 1)
    # `after` never grows, so the first splat that takes it to the limit ends the pixel and is itself left out.
    alpha = torch.where(after > TRANSMITTANCE_MIN, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    weights = alpha * before  # [P, M]
    return torch.cat([weights @ features, weights.sum(1, keepdim=True)], 1)

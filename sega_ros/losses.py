"""What training and personalisation minimise (SEGA section 3.5: photometric, perceptual, identity)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sega_ros.models.identity_encoder import IdentityEncoder


def photometric(images: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Absolute and squared error of `images` [B, H, W, 3] against `targets`, weighted by `weights` [B, H, W]; a scalar."""
    error = images - targets
    weights = weights[..., None] / weights.mean().clamp_min(1e-6)
    return (weights * (error.abs() + 4 * error**2)).mean()


def edges(images: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Absolute error of horizontal and vertical differences: keeps strands, lashes and lips sharp; a scalar."""
    error = images - targets
    weights = weights[..., None] / weights.mean().clamp_min(1e-6)
    across = (weights[:, :, 1:] * (error[:, :, 1:] - error[:, :, :-1]).abs()).mean()
    return across + (weights[:, 1:] * (error[:, 1:] - error[:, :-1]).abs()).mean()


class FeatureLoss:
    """Perceptual and identity distance in the frozen identity encoder's features, where no licensed network is at hand.

    It sees windows around the faces, as the encoder does. Distances are of unit vectors per place, as in LPIPS (Zhang et al.
    2018) without its learned weights; the identity distance is one minus the cosine of the embeddings.
    """

    def __init__(self, encoder: IdentityEncoder, *, stages: int = 3):
        self.encoder, self.stages = encoder, stages

    def __call__(self, images: Tensor, targets: Tensor, *, identity: bool = True) -> tuple[Tensor, Tensor]:
        """Perceptual and identity loss (scalars) of windows [B, 3, h, w] against `targets`; `identity` False leaves that out."""
        with torch.no_grad():
            wanted = self._features(targets, deep=identity)
        found = self._features(images, deep=identity)
        perceptual = sum(((F.normalize(a, dim=1) - F.normalize(b, dim=1)) ** 2).sum(1).mean()
                         for a, b in zip(found[:self.stages], wanted[:self.stages], strict=True)) / self.stages
        if not identity:
            return perceptual, perceptual.new_zeros(())
        same = (self.encoder.embed(found[-1]) * self.encoder.embed(wanted[-1])).sum(-1)
        return perceptual, (1 - same).mean()

    def _features(self, images: Tensor, *, deep: bool) -> list[Tensor]:
        x, out = 2 * images - 1, []
        for stage in self.encoder.stages if deep else self.encoder.stages[:self.stages]:
            x = stage(x)
            out.append(x)
        return out


def psnr(images: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB of each of `images` [B, H, W, 3] in [0, 1] over the pixels where `mask` [B, H, W] holds: [B]."""
    mask = mask.to(images.dtype)
    error = (((images - targets) ** 2).mean(-1) * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)
    return -10 * torch.log10(error.clamp_min(1e-10))

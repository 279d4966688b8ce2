"""What training and personalisation minimise (SEGA section 3.5: photometric, perceptual, identity)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sega_ros.models.arcface import ArcFace, face_crop, load_arcface
from sega_ros.models.identity_encoder import IdentityEncoder
from sega_ros.models.vgg import Vgg16, load_vgg

_SHORT = 1e-4  # length of a feature vector under which its direction says nothing


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


@dataclass(frozen=True)
class LossNetworks:
    """Frozen networks of others whose weights a user has; None leaves their place to the identity encoder."""

    perceptual: Vgg16 | None = None
    identity: ArcFace | None = None

    @classmethod
    def load(cls, *, perceptual: str = '', identity: str = '') -> 'LossNetworks':
        """Load those of the state dicts (`.safetensors` or `.pth`) that are given.

        Raises:
            ModelError: no such file, or it holds something else; nothing in it is run.
        """
        return cls(load_vgg(perceptual) if perceptual else None, load_arcface(identity) if identity else None)


class FeatureLoss:
    """Perceptual and identity distance of windows around faces, as the identity encoder sees them (SEGA section 3.5).

    The perceptual one is of VGG-16's features, the identity one of ArcFace's embeddings; each of the frozen identity encoder's
    where that network is not given. Features are compared as unit vectors per place, as in LPIPS (Zhang et al. 2018) without its
    learned weights: other than by the difference of VGG's raw features, every scale counts alike and the term is of one size
    for either network, so that its weight need not change with it. The identity distance is one minus the cosine.

    No module on purpose: its networks are neither trained nor saved with what holds it. They follow the windows' device.
    """

    def __init__(self, encoder: IdentityEncoder, networks: LossNetworks | None = None, *, stages: int = 3):
        self.encoder, self.networks, self.stages = encoder, networks or LossNetworks(), stages

    def __call__(self, images: Tensor, targets: Tensor, *, identity: bool = True) -> tuple[Tensor, Tensor]:
        """Perceptual and identity loss (scalars) of windows [B, 3, h, h] in [0, 1] against `targets`; `identity` False: zero."""
        with torch.no_grad():
            wanted, own = self._look(targets, identity=identity)
        found, likeness = self._look(images, identity=identity)
        perceptual = sum(_unit_distance(a, b) for a, b in zip(found, wanted, strict=True)) / len(found)
        if not identity:
            return perceptual, perceptual.new_zeros(())
        return perceptual, (1 - (likeness * own).sum(-1)).mean()

    def _look(self, windows: Tensor, *, identity: bool) -> tuple[list[Tensor], Tensor | None]:
        """Feature maps, and with `identity` embeddings; the encoder runs as far as it is needed."""
        vgg, arcface = self.networks.perceptual, self.networks.identity
        embeds = identity and arcface is None
        encoded = self._encode(windows, len(self.encoder.stages) if embeds else self.stages if vgg is None else 0)
        maps = encoded[:self.stages] if vgg is None else vgg.to(windows.device)(windows)
        if not identity:
            return maps, None
        return maps, self.encoder.embed(encoded[-1]) if embeds else arcface.to(windows.device)(face_crop(windows))

    def _encode(self, windows: Tensor, stages: int) -> list[Tensor]:
        x, out = 2 * windows - 1, []
        for stage in self.encoder.stages[:stages]:
            x = stage(x)
            out.append(x)
        return out


def _unit_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared distance of the unit vectors of two feature maps [B, C, h, w]; a scalar."""
    # VGG's features can all be zero at a place: there the gradient of a unit vector would have no bound.
    found, wanted = (F.normalize(x, dim=1, eps=_SHORT) for x in (found, wanted))
    return ((found - wanted) ** 2).sum(1).mean()


def psnr(images: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB of each of `images` [B, H, W, 3] in [0, 1] over the pixels where `mask` [B, H, W] holds: [B]."""
    mask = mask.to(images.dtype)
    error = (((images - targets) ** 2).mean(-1) * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)
    return -10 * torch.log10(error.clamp_min(1e-10))

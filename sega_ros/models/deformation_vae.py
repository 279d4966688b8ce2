"""Deformation VAE (SEGA section 3.3): the posed mesh's offsets in UV -> expression feature -> a displacement of the mesh in UV.

The latent is the expression feature that the dynamic decoder is conditioned on. The displacement holds what the head model's
linear units miss; it is kept small. The reconstruction of the input is the usual VAE term: it keeps the latent telling of
the whole face, also where a picture shows little of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sega_ros.errors import RequestError
from sega_ros.models.layers import conv

SIDE = 48  # texels of its UV maps
UNIT = 100.0  # metres to the network's unit, centimetres


@dataclass(frozen=True)
class DeformationConfig:
    """Sizes of the VAE."""

    width: int = 24
    latent: int = 48
    max_displacement: float = 0.004  # metres


def check_widths(**widths: object) -> None:
    """Raise RequestError unless sizes of networks, as a file states them, are integers that a network may have."""
    for name, value in widths.items():
        if type(value) is not int or not 1 <= value <= 512:
            raise RequestError(f'networks of the avatar: {name}: wanted an integer of 1 to 512, found {str(value)[:40]!r}')


def check_deformation(config: DeformationConfig) -> None:
    """Raise RequestError unless a configuration that a file states is one of such a network."""
    check_widths(width=config.width, latent=config.latent)
    limit = config.max_displacement
    if type(limit) not in (int, float) or not 0 < limit <= 0.1:
        raise RequestError(f'networks of the avatar: wanted displacements of up to 0.1 m, found {str(limit)[:40]!r}')


@dataclass(frozen=True)
class Deformation:
    """Outcome for B expressions."""

    feature: Tensor  # [B, latent] the expression feature
    displacement: Tensor  # [B, 3, 48, 48] metres along (tangent, bitangent, normal)
    reconstruction: Tensor  # [B, 3, 48, 48] metres, head axes: the input again
    mean: Tensor  # [B, latent]
    log_variance: Tensor  # [B, latent]


class DeformationVAE(nn.Module):
    """UV offsets of an expression to its feature and a displacement."""

    def __init__(self, config: DeformationConfig):
        super().__init__()
        self.config = config
        w, z = config.width, config.latent
        self.encoder = nn.Sequential(
            conv(3, w, stride=2), nn.SiLU(),  # 24
            conv(w, 2 * w, stride=2), nn.SiLU(),  # 12
            conv(2 * w, 4 * w, stride=2), nn.SiLU(),  # 6
            nn.Flatten(), nn.Linear(36 * 4 * w, 2 * z))
        self.decoder = nn.Sequential(
            nn.Linear(z, 36 * 4 * w), nn.SiLU(), nn.Unflatten(1, (4 * w, 6, 6)),
            conv(4 * w, 8 * w), nn.PixelShuffle(2), nn.SiLU(),  # 2 w at 12
            conv(2 * w, 4 * w), nn.PixelShuffle(2), nn.SiLU(),  # w at 24
            conv(w, 24, gain=1.0), nn.PixelShuffle(2))  # 6 at 48
        with torch.no_grad():
            self.decoder[-2].weight *= 0.1

    def encode(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance [B, latent] of `offsets` [B, 3, 48, 48], metres in the head frame."""
        mean, log_variance = self.encoder(UNIT * offsets).float().chunk(2, 1)
        return mean, log_variance.clamp(-8, 4)

    def forward(self, offsets: Tensor, *, sample: bool = False) -> Deformation:
        """Run on `offsets` [B, 3, 48, 48]; `sample` draws the feature around its mean (training)."""
        mean, log_variance = self.encode(offsets)
        feature = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if sample else mean
        displacement, reconstruction = self.decoder(feature).float().chunk(2, 1)
        limit = self.config.max_displacement
        displacement = limit * torch.tanh(displacement / (UNIT * limit))
        return Deformation(feature, displacement, reconstruction / UNIT, mean, log_variance)


def vae_loss(deformation: Deformation, offsets: Tensor, valid: Tensor, *, kl: float = 1e-3) -> Tensor:
    """Reconstruction in cm^2 over `valid` [48, 48], plus `kl` times the divergence from a unit Gaussian per feature."""
    error = ((UNIT * (deformation.reconstruction - offsets)) ** 2).sum(1)  # [B, 48, 48]
    mean, log_variance = deformation.mean, deformation.log_variance
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    return (error * valid).sum() / (valid.sum() * len(offsets)) + kl * divergence

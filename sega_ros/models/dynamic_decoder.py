"""Dynamic decoder (SEGA section 3.4): identity and expression features -> corrections of face, mouth and eyes, frame by frame.

Everything here is paid for in every frame: no normalisation, half of the resolution until the last layer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.models.deformation_vae import UNIT
from sega_ros.models.layers import conv
from sega_ros.models.static_decoder import GEOMETRY, SIDE, Correction, split_maps

REGIONS = ('face', 'all', 'none')


@dataclass(frozen=True)
class DynamicConfig:
    """Sizes of the decoder; `regions` says what it decodes: 'face' as in the paper, 'all' or 'none' (ablations)."""

    width: int = 48
    fine_width: int = 24
    regions: str = 'face'


class DynamicDecoder(nn.Module):
    """Expression feature and posed offsets, on top of the identity's cached features."""

    def __init__(self, config: DynamicConfig, features: int, fine_features: int, latent: int):
        super().__init__()
        self.config = config
        w, v = config.width, config.fine_width
        self.expression = nn.Sequential(nn.Linear(latent, 64), nn.SiLU(), nn.Linear(64, 2 * w))
        self.enter = conv(features + 3, w)
        self.body = nn.ModuleList([conv(w, w), conv(w, w)])
        self.rise = conv(w, 4 * v)
        self.fine = conv(v + fine_features, v)
        self.to_maps = conv(v, GEOMETRY + 12, gain=0.1)
        self.linear = nn.Linear(latent, 8)  # a few expression-wide images of change: linear, so they learn fast
        self.basis = nn.Parameter(torch.zeros(8, GEOMETRY + 12, SIDE, SIDE))

    def forward(self, features: Tensor, fine_features: Tensor, feature: Tensor, offsets: Tensor) -> Correction:
        """Run per frame.

        Args:
            features: [B, features, 48, 48] the identity's, cached.
            fine_features: [B, fine_features, 96, 96] likewise.
            feature: [B, latent] expression feature.
            offsets: [B, 3, 48, 48] posed offsets in UV, metres.
        """
        scale, shift = self.expression(feature)[..., None, None].chunk(2, 1)  # [B, w, 1, 1]
        x = self.enter(torch.cat([features, (UNIT * offsets).to(features.dtype)], 1))  # w at 48
        x = F.silu(x * (1 + scale) + shift)
        for layer in self.body:
            x = x + F.silu(layer(x))
        x = F.silu(F.pixel_shuffle(self.rise(x), 2))  # v at 96
        x = F.silu(self.fine(torch.cat([x, fine_features.to(x.dtype)], 1)))
        maps = self.to_maps(x).float() + (self.linear(feature).float() @ self.basis.flatten(1)).unflatten(1, self.basis.shape[1:])
        return split_maps(maps)

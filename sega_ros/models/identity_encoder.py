"""Identity encoder (SEGA section 3.2): one picture of a face becomes a grid of discrete codes; frozen after its own training.

A VQ-VAE (van den Oord et al. 2017) on pictures alone, the 2D prior. While it trains, `vector-quantize-pytorch` keeps the
codebook; afterwards a code is a look-up. An embedding of the whole picture, trained to tell people apart, comes with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.models.layers import Block, conv

CROP = 256  # pixels, square


@dataclass(frozen=True)
class IdentityConfig:
    """Sizes of the encoder."""

    width: int = 24  # at a half of the size; 2 and 4 times that at a quarter and below
    code_width: int = 48
    codes: int = 1024
    embedding: int = 64
    quantise: bool = True  # False passes the latents on as they are


@dataclass(frozen=True)
class IdentityCode:
    """What the 2D prior says of a picture."""

    latents: Tensor  # [B, code_width, 16, 16]
    embedding: Tensor  # [B, embedding] unit vectors

    @property
    def tokens(self) -> Tensor:
        """The latents as tokens [B, 256, code_width]."""
        return self.latents.flatten(2).transpose(1, 2)


class IdentityEncoder(nn.Module):
    """Picture to codes."""

    def __init__(self, config: IdentityConfig):
        super().__init__()
        self.config = config
        a, b, c = (n * config.width for n in (1, 2, 4))
        self.stages = nn.ModuleList([
            nn.Sequential(Block(3, a, stride=2), Block(a, a)),  # 128
            nn.Sequential(Block(a, b, stride=2), Block(b, b)),  # 64
            nn.Sequential(Block(b, c, stride=2), Block(c, c)),  # 32
            nn.Sequential(Block(c, c, stride=2), Block(c, c)),  # 16
        ])
        self.to_code = conv(c, config.code_width, kernel=1, gain=1.0)
        self.to_embedding = nn.Sequential(Block(c, c, stride=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                                          nn.Linear(4 * c, config.embedding))
        self.register_buffer('codebook', torch.randn(config.codes, config.code_width))  # unit length once trained

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps [B, C, h, w] at a half, a quarter, an eighth and a sixteenth of `image` [B, 3, H, W] in [0, 1]."""
        x, out = 2 * image - 1, []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def continuous(self, deepest: Tensor) -> Tensor:
        """Latents before quantisation, unit length along the channels, of `features(...)[-1]`."""
        return F.normalize(self.to_code(deepest).float(), dim=1)

    def indices(self, latents: Tensor) -> Tensor:
        """Entry of the codebook [B, h, w] closest to every latent of [B, code_width, h, w]."""
        return (latents.movedim(1, -1) @ F.normalize(self.codebook, dim=1).T).argmax(-1)

    def quantise(self, latents: Tensor) -> Tensor:
        """Replace every latent of [B, code_width, h, w] by the closest entry of the codebook."""
        return F.normalize(self.codebook, dim=1)[self.indices(latents)].movedim(-1, 1)

    def embed(self, deepest: Tensor) -> Tensor:
        """Unit vectors [B, embedding] of `features(...)[-1]`."""
        return F.normalize(self.to_embedding(deepest).float(), dim=1)

    def forward(self, image: Tensor) -> IdentityCode:
        """Codes of `image` [B, 3, 256, 256], RGB in [0, 1], a face cut out as `identity_crop` does."""
        deepest = self.features(image)[-1]
        latents = self.continuous(deepest)
        return IdentityCode(self.quantise(latents) if self.config.quantise else latents, self.embed(deepest))


class IdentityDecoder(nn.Module):
    """Codes back to the picture; needed for training only."""

    def __init__(self, config: IdentityConfig):
        super().__init__()
        a, b, c = (n * config.width for n in (1, 2, 4))
        self.layers = nn.Sequential(
            Block(config.code_width, c), Block(c, c),  # 16
            conv(c, 4 * c, kernel=1), nn.PixelShuffle(2), Block(c, c),  # 32
            conv(c, 4 * b, kernel=1), nn.PixelShuffle(2), Block(b, b),  # 64
            conv(b, 4 * a, kernel=1), nn.PixelShuffle(2), Block(a, a),  # 128
            conv(a, 12, gain=1.0), nn.PixelShuffle(2))  # 256

    def forward(self, latents: Tensor) -> Tensor:
        """Pictures [B, 3, 16 h, 16 w] of latents [B, code_width, h, w]."""
        return 0.5 + 0.5 * self.layers(latents)

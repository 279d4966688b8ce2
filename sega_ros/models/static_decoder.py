"""Static decoder (SEGA section 3.4): identity -> corrections of all that does not depend on the expression; once per avatar.

It starts from what geometry and photo alone give (`models.base.Base`) and corrects it: the Gaussians on the mesh in UV space,
and those of hair and bust off the mesh, each of which looks up the UV features under it. The features that the dynamic
decoder needs per frame come out as well and are kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.models.layers import Block, CrossAttention, conv, sample_at

FINE, SIDE = 192, 96  # texels of the colour maps, and of the geometry maps
COARSE = 48
GEOMETRY = 11  # offset 3, rotation 4, log scale 3, opacity 1
UV_CHANNELS = 21  # see `uv_input`
SHELL_FORM, SHELL_LOOK = 10, 4  # inputs: place, normal, sort and size; colour and opacity
_FORM, _LOOK = 3, 3  # outputs: outward move, log scale, opacity; colour


@dataclass(frozen=True)
class StaticConfig:
    """Sizes of the decoder."""

    width: int = 32
    features: int = 32  # kept per coarse texel for the dynamic decoder
    fine_features: int = 12  # kept per fine texel
    shell_width: int = 128  # of the hidden layers of the two networks per splat off the mesh
    use_identity: bool = True  # False: without the 2D prior (ablation)


@dataclass(frozen=True)
class Correction:
    """Raw outputs of a decoder in UV space; `models.base.corrected` gives them their units."""

    geometry: Tensor  # [B, 11, 96, 96]
    color: Tensor  # [B, 3, 192, 192]


@dataclass(frozen=True)
class StaticOutput:
    """What is made once per avatar."""

    correction: Correction
    features: Tensor  # [B, features, 48, 48] for the dynamic decoder
    fine_features: Tensor  # [B, fine_features, 96, 96] likewise
    shell: Tensor  # [B, N, 6] raw corrections of the splats off the mesh


class StaticDecoder(nn.Module):
    """U-Net over UV maps; at its bottom, UV tokens attend to the identity tokens."""

    def __init__(self, config: StaticConfig, code_width: int):
        super().__init__()
        self.config = config
        w = config.width
        self.down = nn.ModuleList([
            Block(UV_CHANNELS, w), Block(w, 2 * w, stride=2), Block(2 * w, 3 * w, stride=2), Block(3 * w, 4 * w, stride=2)])
        self.see = nn.ModuleList([conv(code_width, 2 * w, kernel=1, gain=1.0), conv(code_width, 3 * w, kernel=1, gain=1.0)])
        self.place = nn.Parameter(0.1 * torch.randn(1, 144, 4 * w))
        self.token_place = nn.Parameter(0.1 * torch.randn(1, 256, code_width))
        self.attend = nn.ModuleList([CrossAttention(4 * w, code_width) for _ in range(2)])
        self.mix = Block(4 * w, 4 * w)
        self.up = nn.ModuleList([Block(7 * w, 3 * w), Block(5 * w, 2 * w), Block(3 * w, w)])
        self.to_features = conv(2 * w, config.features, kernel=1, gain=1.0)
        self.to_fine = conv(w, config.fine_features, kernel=1, gain=1.0)
        self.to_maps = conv(w, GEOMETRY + 12, gain=0.1)
        self.bias = nn.Parameter(torch.zeros(1, GEOMETRY + 12, SIDE, SIDE))  # what all people share, texel by texel
        # Neighbours must move alike: form does not follow a splat's own colour, or textured hair would be torn.
        self.shell_form = _perceptron(2 * w + code_width + SHELL_FORM, _FORM, width=config.shell_width)
        self.shell_look = _perceptron(2 * w + code_width + SHELL_FORM + SHELL_LOOK, _LOOK, width=config.shell_width)

    def forward(
        self, uv: Tensor, tokens: Tensor, latents: Tensor, at: Tensor, shell: Tensor, shell_uv: Tensor, shell_at: Tensor,
    ) -> StaticOutput:
        """Run once per identity.

        Args:
            uv: [B, 21, 96, 96] of `models.base.uv_input`.
            tokens: [B, 256, code_width] identity tokens.
            latents: [B, code_width, 16, 16] the same as a picture.
            at: [B, 2, 48, 48] where on that picture each texel is (-1 to 1).
            shell: [B, N, 14] of `models.base.base_inputs`, form before look.
            shell_uv: [B, N, 2] texel under each splat off the mesh (-1 to 1).
            shell_at: [B, N, 2] where on the picture it is.
        """
        if not self.config.use_identity:
            tokens, latents = torch.zeros_like(tokens), torch.zeros_like(latents)
        seen = sample_at(latents, at.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, at.shape[2:])  # [B, code, 48, 48]
        a = self.down[0](uv)  # w at 96
        b = self.down[1](a) + self.see[0](seen)  # 2w at 48
        c = self.down[2](b) + self.see[1](F.avg_pool2d(seen, 2))  # 3w at 24
        d = self.down[3](c)  # 4w at 12
        x = d.flatten(2).transpose(1, 2) + self.place  # [B, 144, 4w]
        for attend in self.attend:
            x = attend(x, tokens + self.token_place)
        d = self.mix(x.transpose(1, 2).unflatten(2, d.shape[2:]))  # 4w at 12
        c = self.up[0](torch.cat([_twice(d), c], 1))  # 3w at 24
        b = self.up[1](torch.cat([_twice(c), b], 1))  # 2w at 48
        a = self.up[2](torch.cat([_twice(b), a], 1))  # w at 96
        maps = self.to_maps(a).float() + self.bias  # [B, 23, 96, 96]
        form = torch.cat([sample_at(b, shell_uv), sample_at(latents, shell_at), shell[..., :SHELL_FORM]], -1)
        look = torch.cat([form, shell[..., SHELL_FORM:]], -1)
        raw = torch.cat([self.shell_form(form), self.shell_look(look)], -1)  # [B, N, 6]
        return StaticOutput(split_maps(maps), self.to_features(b), self.to_fine(a), raw.float())


def _perceptron(inputs: int, outputs: int, *, width: int) -> nn.Sequential:
    """Two hidden layers; starts close to zero."""
    out = nn.Linear(width, outputs)
    nn.init.zeros_(out.bias)
    with torch.no_grad():
        out.weight *= 0.1
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), out)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode='nearest')


def split_maps(maps: Tensor) -> Correction:
    """[B, 23, 96, 96] -> geometry at 96, colour at 192."""
    return Correction(maps[:, :GEOMETRY], F.pixel_shuffle(maps[:, GEOMETRY:], 2))

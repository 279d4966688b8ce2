"""What the networks share: building blocks, lookups, and the precision they run in."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, gain: float = math.sqrt(2)) -> nn.Conv2d:
    """Return a convolution that keeps the size (at stride 1) and the variance (`gain` for what follows it)."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs * kernel * kernel))
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Convolution, group normalisation, SiLU."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.conv = conv(inputs, outputs, kernel=kernel, stride=stride)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        return F.silu(self.norm(self.conv(x)))


class CrossAttention(nn.Module):
    """Tokens of one kind look at tokens of another (Vaswani et al. 2017); both are normalised first."""

    def __init__(self, width: int, context: int, *, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(context)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(context, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Tokens x [B, N, width], context [B, M, context] -> [B, N, width]."""
        def split(t: Tensor) -> Tensor:  # [B, n, width] -> [B, heads, n, width / heads]
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.key_value(self.context_norm(context)).chunk(2, -1)
        seen = F.scaled_dot_product_attention(split(self.query(self.norm(x))), split(key), split(value))
        return x + self.out(seen.transpose(1, 2).flatten(2))


def sample_at(maps: Tensor, xy: Tensor) -> Tensor:
    """Bilinear values [B, N, C] of `maps` [B, C, H, W] at `xy` [B, N, 2]: right and down, -1 to 1 over the picture's edges."""
    picked = F.grid_sample(maps.float(), xy[:, :, None], align_corners=False, padding_mode='border')  # [B, C, N, 1]
    return picked.squeeze(-1).transpose(1, 2)


def has_matrix_units() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 in units of their own (AMX)."""
    return bool(getattr(torch.cpu, '_is_amx_tile_supported', lambda: False)())


def fast_dtype(device: torch.device) -> torch.dtype:
    """Type in which small convolutions run fastest on `device`: bfloat16 where it multiplies that, else float32.

    On a CPU that is AMX, or AVX-512's dot product of bfloat16: a third less time for the networks of a frame on Zen 5.
    """
    if device.type == 'cuda':
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = has_matrix_units() or getattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)()
    return torch.bfloat16 if fast else torch.float32


def precision(device: torch.device, mixed: bool) -> AbstractContextManager:
    """Context in which convolutions and matrix products run in bfloat16, if `mixed`."""
    return torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()

"""The dynamic branch of one avatar while it is driven: posed mesh -> expression feature -> Gaussians of face, mouth and eyes."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.errors import RequestError
from sega_ros.head.atlas import build_atlas
from sega_ros.head.model import HeadModel
from sega_ros.models.base import COLOR_UNIT, FRAME_GROWTH, raw_units
from sega_ros.models.deformation_vae import UNIT, DeformationConfig, DeformationVAE
from sega_ros.models.dynamic_decoder import DynamicConfig, DynamicDecoder
from sega_ros.models.frame_kernel import finish_maps, needed_cells, write_texels
from sega_ros.models.layers import has_matrix_units
from sega_ros.models.static_decoder import COARSE, SIDE
from sega_ros.types import check_shape

_PARTS = ('deformation', 'dynamic')


@dataclass(frozen=True)
class Branch:
    """What the avatar file holds of the networks: personal weights, and the identity's cached features."""

    deformation: DeformationConfig
    dynamic: DynamicConfig
    features: Tensor  # [F, 48, 48]
    fine_features: Tensor  # [G, 96, 96]
    weights: dict[str, Tensor]  # 'deformation.' and 'dynamic.' with the modules' own names

    @classmethod
    def of_model(cls, model, features: Tensor, fine_features: Tensor) -> 'Branch':
        """Take the dynamic part out of a `Sega` model, with one person's features [1, ...]."""
        weights = {f'{part}.{k}': v.detach().clone() for part in _PARTS for k, v in getattr(model, part).state_dict().items()}
        return cls(model.config.deformation, model.config.dynamic, features[0].detach(), fine_features[0].detach(), weights)


def branch_to_tensors(branch: Branch) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays in half precision, and JSON-able sizes."""
    tensors = {f'branch.{k}': v.numpy().astype(np.float16) for k, v in branch.weights.items()}
    tensors |= {f'branch.{k}': getattr(branch, k).numpy().astype(np.float16) for k in ('features', 'fine_features')}
    return tensors, {k: asdict(getattr(branch, k)) for k in _PARTS}


def tensors_to_branch(tensors: dict[str, np.ndarray], sizes: dict) -> Branch:
    """Inverse of `branch_to_tensors`; every weight's shape is checked.

    Raises:
        RequestError, TypeError, KeyError, ValueError: sizes or tensors that don't fit together.
    """
    deformation, dynamic = DeformationConfig(**sizes['deformation']), DynamicConfig(**sizes['dynamic'])
    for number in (deformation.width, deformation.latent, dynamic.width, dynamic.fine_width):
        if not 1 <= int(number) <= 512:
            raise RequestError(f'networks of the avatar: wanted widths of 1 to 512, found {number}')
    own = {k.removeprefix('branch.'): torch.from_numpy(np.array(v, np.float32)) for k, v in tensors.items()
           if k.startswith('branch.')}
    features, fine = own.pop('features'), own.pop('fine_features')
    check_shape('features', features, (None, COARSE, COARSE))
    check_shape('fine_features', fine, (None, SIDE, SIDE))
    branch = Branch(deformation, dynamic, features, fine, own)
    _build(branch)
    return branch


def _build(branch: Branch) -> tuple[DeformationVAE, DynamicDecoder]:
    deformation = DeformationVAE(branch.deformation)
    dynamic = DynamicDecoder(branch.dynamic, len(branch.features), len(branch.fine_features), branch.deformation.latent)
    for part, module in zip(_PARTS, (deformation, dynamic), strict=True):
        weights = {k.removeprefix(f'{part}.'): v for k, v in branch.weights.items() if k.startswith(f'{part}.')}
        for name, value in module.state_dict().items():
            if name not in weights:
                raise RequestError(f'networks of the avatar: {part}.{name} is missing')
            check_shape(f'{part}.{name}', weights[name], tuple(value.shape))
        module.load_state_dict(weights)
        module.eval().requires_grad_(False)
    return deformation, dynamic


class FrameDecoder:
    """Writes the dynamic texels of one frame. Keeps buffers, not state."""

    def __init__(
        self, branch: Branch, head: HeadModel, rest: np.ndarray, *, xy: np.ndarray, index: np.ndarray, start: np.ndarray,
        dtype: torch.dtype | None = None,
    ):
        """Prepare.

        Args:
            branch: networks and features.
            head: head model.
            rest: [V, 3] the person's neutral mesh, metres.
            xy: [K, 2] places of the dynamic texels in UV, -1 to 1.
            index: [K] their columns in the buffer that `write` fills.
            start: [14, K] their own parameters before activation (offset, rotation, log scale, opacity, colour).
            dtype: in which the convolutions compute; None is bfloat16 where the CPU has units for it, else float32.
        """
        deformation, dynamic = _build(branch)
        self._dtype = dtype or (torch.bfloat16 if has_matrix_units() else torch.float32)
        self._deformation = _FastDeformation(deformation, self._dtype)
        self._dynamic = _FastDecoder(dynamic, branch, self._dtype)
        self._units = raw_units(FRAME_GROWTH)
        self._map_cells = needed_cells(xy, SIDE)
        basis = dynamic.basis.detach().flatten(2)[..., self._map_cells]
        self._basis = np.ascontiguousarray(basis.permute(2, 0, 1).numpy())  # [M, 8, 23]
        atlas = build_atlas(head, COARSE)
        rows, cols = np.nonzero(atlas.dynamic)
        face = atlas.face[rows, cols]
        self._corners, self._bary = head.faces[face], atlas.bary[rows, cols].astype(np.float32)
        self._cells = rows, cols
        self._rest = self._surface(rest)
        self._offsets = np.zeros((1, 3, COARSE, COARSE), np.float32)
        self._xy, self._index = np.ascontiguousarray(xy, np.float32), np.ascontiguousarray(index, np.int64)
        self._start = np.ascontiguousarray(start, np.float32)
        self.color = self._start[11:]  # [3, K] base colours; lids change them from frame to frame

    def _surface(self, vertices: np.ndarray) -> np.ndarray:
        return (vertices[self._corners] * self._bary[..., None]).sum(1)

    def write(self, vertices: np.ndarray, out: np.ndarray) -> None:
        """Decode the posed mesh `vertices` [V, 3] (head frame) into `out` [14, T]."""
        rows, cols = self._cells
        self._offsets[0][:, rows, cols] = (self._surface(vertices) - self._rest).T
        with torch.inference_mode():
            offsets = torch.from_numpy(self._offsets).contiguous(memory_format=torch.channels_last)
            feature, displacement = self._deformation(offsets)
            maps, share = (x.numpy() for x in self._dynamic(feature, offsets))
        finish_maps(maps.reshape(-1, maps.shape[-1]), self._map_cells, self._basis, share, self._units)
        write_texels(maps, displacement[0].numpy(), COLOR_UNIT, self._xy, self._start[:11], self.color, self._index,
                     out)


class _FastDeformation:
    """`DeformationVAE.forward` without the reconstruction; only the convolutions in the given precision."""

    def __init__(self, vae: DeformationVAE, dtype: torch.dtype):
        self._dtype, self._limit = dtype, vae.config.max_displacement
        *down, _, last = vae.encoder
        self._down = nn.Sequential(*down).to(dtype, memory_format=torch.channels_last)
        self._mean = last.weight[:vae.config.latent].contiguous(), last.bias[:vae.config.latent]
        first, act, shape, *up, out, shuffle = vae.decoder
        self._first = nn.Sequential(first, act, shape)
        half = out.out_channels // 2  # the rest is the reconstruction
        self._up = nn.Sequential(*up).to(dtype, memory_format=torch.channels_last)
        self._out = [x.to(dtype).contiguous() for x in (out.weight[:half], out.bias[:half])]
        self._shuffle = shuffle

    def __call__(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Feature [1, latent] and displacement [1, 3, 48, 48] of posed offsets [1, 3, 48, 48] (channels last); metres."""
        x = self._down((UNIT * offsets).to(self._dtype))
        feature = F.linear(x.flatten(1).float(), *self._mean)
        x = self._up(self._first(feature).to(self._dtype, memory_format=torch.channels_last))
        x = self._shuffle(F.conv2d(x, *self._out, padding=1)).float()
        return feature, self._limit * torch.tanh(x / (UNIT * self._limit))


class _FastDecoder:
    """`DynamicDecoder.forward` of one person, channels last, in bfloat16 where that is faster.

    What convolutions make of the identity's features is the same in every frame: it is added as a constant.
    """

    def __init__(self, decoder: DynamicDecoder, branch: Branch, dtype: torch.dtype):
        self._decoder, self._dtype = decoder, dtype
        f, v = len(branch.features), decoder.config.fine_width

        def ready(x: Tensor) -> Tensor:
            return x.detach().to(dtype).contiguous(memory_format=torch.channels_last)

        def parts(layer: nn.Conv2d, at: int) -> tuple[Tensor, Tensor]:
            return layer.weight[:, :at], layer.weight[:, at:]

        own, self._enter = parts(decoder.enter, f)
        self._fine, own_fine = parts(decoder.fine, v)
        self._entered = ready(F.conv2d(branch.features[None], own, decoder.enter.bias, padding=1))
        self._refined = ready(F.conv2d(branch.fine_features[None], own_fine, decoder.fine.bias, padding=1))
        self._enter, self._fine = ready(self._enter), ready(self._fine)
        self._layers = [(ready(layer.weight), layer.bias.to(dtype))
                        for layer in (*decoder.body, decoder.rise, decoder.to_maps)]

    def __call__(self, feature: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Decode an expression feature [1, latent] and posed offsets [1, 3, 48, 48] (channels last), metres.

        Returns:
            Raw maps [96, 96, 23] float32 without the images of change, and how much of each of these comes to them [8].
        """
        d, dtype = self._decoder, self._dtype
        scale, shift = d.expression(feature)[..., None, None].to(dtype).chunk(2, 1)
        x = F.conv2d((UNIT * offsets).to(dtype), self._enter, padding=1).add_(self._entered)  # w at 48
        x = F.silu(x.mul_(1 + scale).add_(shift), inplace=True)
        *body, rise, to_maps = self._layers
        for weight, bias in body:
            x = F.silu(F.conv2d(x, weight, bias, padding=1), inplace=True).add_(x)
        x = F.silu(F.pixel_shuffle(F.conv2d(x, *rise, padding=1), 2), inplace=True)  # v at 96
        x = F.silu(F.conv2d(x, self._fine, padding=1).add_(self._refined), inplace=True)
        maps = F.conv2d(x, *to_maps, padding=1)[0].permute(1, 2, 0)
        return maps.float().contiguous(), d.linear(feature)[0]

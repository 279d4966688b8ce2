"""The dynamic branch of one avatar while it is driven: posed mesh -> expression feature -> Gaussians of face, mouth and eyes."""

import copy
import threading
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.errors import RequestError
from sega_ros.head.atlas import build_atlas
from sega_ros.head.model import HeadModel
from sega_ros.models.base import COLOR_UNIT, FRAME_GROWTH, raw_units
from sega_ros.models.deformation_vae import UNIT, DeformationConfig, DeformationVAE, check_deformation, check_widths
from sega_ros.models.dynamic_decoder import REGIONS, DynamicConfig, DynamicDecoder
from sega_ros.models.frame_kernel import LookUps, finish_maps, look_ups, needed_cells, write_texels
from sega_ros.models.layers import fast_dtype
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
    check_deformation(deformation)
    check_widths(width=dynamic.width, fine_width=dynamic.fine_width)
    if dynamic.regions not in REGIONS:
        raise RequestError(f'networks of the avatar: wanted regions {", ".join(REGIONS)}, found {str(dynamic.regions)[:40]!r}')
    own = {k.removeprefix('branch.'): torch.from_numpy(np.array(v, np.float32)) for k, v in tensors.items()
           if k.startswith('branch.')}
    features, fine = own.pop('features'), own.pop('fine_features')
    check_shape('features', features, (None, COARSE, COARSE))
    check_shape('fine_features', fine, (None, SIDE, SIDE))
    branch = Branch(deformation, dynamic, features, fine, own)
    build_networks(branch)
    return branch


def build_networks(branch: Branch) -> tuple[DeformationVAE, DynamicDecoder]:
    """Modules with the branch's weights; RequestError names the first that is missing or does not fit."""
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


@dataclass(frozen=True)
class DecodedTexels:
    """The texels that are written, and their own parameters; the caller may change these between frames."""

    xy: np.ndarray  # [K, 2] float32 places in UV, -1 to 1
    reshaped: np.ndarray  # [K] bool, see `base.reshaped`
    index: np.ndarray  # [K] int64 their columns in the buffer that is written
    start: np.ndarray  # [14, K] float32 before activation: offset, rotation, log scale, opacity, colour

    @cached_property
    def look_ups(self) -> LookUps:
        """Where they find their values."""
        return look_ups(self.xy, SIDE, COARSE)


class FrameDecoder:
    """Writes the dynamic texels of one frame. Keeps buffers, not state."""

    def __init__(
        self, branch: Branch, head: HeadModel, rest: np.ndarray, *, xy: np.ndarray, dtype: torch.dtype | None = None,
    ):
        """Prepare.

        Args:
            branch: networks and features.
            head: head model.
            rest: [V, 3] the person's neutral mesh, metres.
            xy: [K, 2] places in UV, -1 to 1, of all texels that it will be asked for.
            dtype: in which the convolutions compute; None is bfloat16 where the CPU has units for it, else float32.
        """
        fast, basis = fast_branch(branch, dtype or fast_dtype(torch.device('cpu')))
        self.offsets = PosedOffsets(head, rest)
        # One graph, entered once: between operations of its own, each waits anew for Python's lock.
        self._branch = captured(fast, self.offsets.values)
        self._units = raw_units(FRAME_GROWTH)
        self.cells = needed_cells(xy, SIDE)  # [M] of the maps, row * 96 + column, that the texels need; no others are finished
        basis = basis.flatten(2)[..., self.cells]
        self._basis = np.ascontiguousarray(basis.permute(2, 0, 1).numpy())  # [M, 8, 23]

    def limited(self, where: Tensor) -> 'FrameDecoder':
        """Let the displacement act in texels `where` [48, 48] only (an ablation's)."""
        branch = self._branch

        def masked(offsets: Tensor) -> tuple[Tensor, ...]:
            maps, share, displacement = branch(offsets)
            return maps, share, displacement * where

        self._branch = masked
        return self

    def decode(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode the posed mesh `vertices` [V, 3] (head frame).

        Returns:
            maps: [96, 96, 23] offset, rotation, log scale, opacity in their units; raw colours, four pixels of each.
            displacement: [3, 48, 48] metres.
        """
        offsets = self.offsets.of(vertices)
        with torch.inference_mode():
            maps, share, displacement = (x.numpy() for x in self._branch(offsets))
        finish_maps(maps.reshape(-1, maps.shape[-1]), self.cells, self._basis, share, self._units)
        return maps, displacement

    def write(self, vertices: np.ndarray, texels: DecodedTexels, out: np.ndarray) -> None:
        """Decode the posed mesh `vertices` [V, 3] (head frame) into the columns of `texels` in `out` [14, T]."""
        write_decoded(*self.decode(vertices), texels, out)


def write_decoded(maps: np.ndarray, displacement: np.ndarray, texels: DecodedTexels, out: np.ndarray) -> None:
    """Write the columns of `texels` in `out` [14, T] from what `FrameDecoder.decode` gives."""
    start, found = (texels.start[:11], texels.start[11:]), texels.look_ups
    write_texels(maps, np.ascontiguousarray(displacement), COLOR_UNIT, found.cells, found.shares, texels.reshaped, *start,
                 texels.index, out)


class PosedOffsets:
    """How far the texels of the dynamic regions are from where they are at rest."""

    def __init__(self, head: HeadModel, rest: np.ndarray):
        """Take the person's neutral mesh `rest` [V, 3], metres."""
        atlas = build_atlas(head, COARSE)
        self._cells = rows, cols = np.nonzero(atlas.dynamic)
        face = atlas.face[rows, cols]
        self._corners, self._bary = head.faces[face], atlas.bary[rows, cols].astype(np.float32)
        self._rest = self._surface(rest)
        self.values = torch.zeros(1, 3, COARSE, COARSE).contiguous(memory_format=torch.channels_last)

    def _surface(self, vertices: np.ndarray) -> np.ndarray:
        return (vertices[self._corners] * self._bary[..., None]).sum(1)

    def of(self, vertices: np.ndarray) -> Tensor:
        """Offsets [1, 3, 48, 48] (channels last, metres) of the posed mesh `vertices` [V, 3], in a buffer."""
        rows, cols = self._cells
        self.values.numpy()[0][:, rows, cols] = (self._surface(vertices) - self._rest).T
        return self.values


def fast_branch(branch: Branch, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """Networks of one person as one module (`_FastBranch`), and the decoder's images of change [8, 23, 96, 96]."""
    deformation, dynamic = build_networks(branch)
    return _FastBranch(deformation, dynamic, branch, dtype).eval().requires_grad_(False), dynamic.basis.detach()


def captured(module: nn.Module, example: Tensor) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """`module` as a graph that runs without Python, with the weights that it has now.

    Modules that differ in nothing but their weights share one graph, whose inputs these are: PyTorch never lets go of a graph,
    nor of what is a constant in it. TorchScript is deprecated, but what is to replace it compiles with a C++ compiler, which a
    robot need not have.
    """
    values = tuple(tensor.detach() for _, _, tensor in _tensors(module))
    key = (_structure(module), *((v.dtype, v.shape, v.stride()) for v in values))
    with _capturing:
        graph = _graphs.get(key)
        if graph is None:
            graph = _graphs[key] = _traced(copy.deepcopy(module), example, values)
    return lambda x: graph(x, *values)


_graphs: dict[tuple, Callable] = {}
_capturing = threading.Lock()


def _traced(module: nn.Module, example: Tensor, values: tuple[Tensor, ...]) -> Callable:
    """A graph that takes an example's like and the tensors of `module`, which is of no use afterwards."""
    places = [(part, name) for part, name, _ in _tensors(module)]
    for part, name in places:
        part._parameters.pop(name, None)  # else nothing but a parameter may take its place

    def forward(x: Tensor, *tensors: Tensor):
        for (part, name), tensor in zip(places, tensors, strict=True):
            setattr(part, name, tensor)
        return module(x)

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        return torch.jit.trace(forward, (example, *values), check_trace=False)


def _tensors(module: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Parameters and buffers: the part of `module` that has them, their names there, and they themselves."""
    return [(part, name, tensor) for part in module.modules()
            for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))]


def _structure(module: nn.Module) -> str:
    """What a module's graph depends on, besides the shapes of its tensors: its parts, and their numbers and types."""
    numbers = [(name, sorted((k, str(v)) for k, v in vars(part).items() if isinstance(v, bool | int | float | str | torch.dtype)))
               for name, part in module.named_modules()]
    return f'{type(module).__qualname__} {module} {numbers}'


class FastEncoder(nn.Module):
    """The mean that `DeformationVAE.encode` gives, as fast as the machine can."""

    def __init__(self, vae: DeformationVAE, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        *down, _, last = vae.encoder
        self.down = nn.Sequential(*down).to(dtype=dtype, memory_format=torch.channels_last)
        self.mean = nn.Linear(last.in_features, vae.config.latent)  # the first half of it
        self.mean.load_state_dict({k: v[:vae.config.latent] for k, v in last.state_dict().items()})

    def forward(self, offsets: Tensor) -> Tensor:
        """Expression feature [1, latent] of posed offsets [1, 3, 48, 48] (channels last), metres."""
        return self.mean(self.down((UNIT * offsets).to(self.dtype)).flatten(1).float())


class _FastBranch(nn.Module):
    """`DeformationVAE` and `DynamicDecoder` of one person as one graph, with what does not change from frame to frame left out.

    Convolutions run channels last, in bfloat16 where that is faster; what they make of the identity's features is added as a
    constant; the VAE's reconstruction is not made.
    """

    def __init__(self, vae: DeformationVAE, decoder: DynamicDecoder, branch: Branch, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.limit = dtype, vae.config.max_displacement
        order = {'dtype': dtype, 'memory_format': torch.channels_last}
        self.encoder = FastEncoder(vae, dtype)
        *first, rise, shuffle, act, again, again_shuffle, again_act, out, out_shuffle = vae.decoder
        self.first = nn.Sequential(*first)
        self.up = nn.Sequential(rise, shuffle, act, again, again_shuffle, again_act).to(**order)
        self.shift = _part(out, slice(out.out_channels // 2), slice(None)).to(**order)  # the rest is the reconstruction
        self.shuffle = out_shuffle

        f, v = len(branch.features), decoder.config.fine_width
        self.expression, self.linear = decoder.expression, decoder.linear
        with torch.no_grad():
            entered = _part(decoder.enter, slice(None), slice(f))(branch.features[None])
            refined = _part(decoder.fine, slice(None), slice(v, None))(branch.fine_features[None])
        self.register_buffer('entered', entered.to(**order))
        self.register_buffer('refined', refined.to(**order))
        self.enter = _part(decoder.enter, slice(None), slice(f, None), bias=False).to(**order)
        self.fine = _part(decoder.fine, slice(None), slice(v), bias=False).to(**order)
        self.body, self.rise, self.to_maps = (m.to(**order) for m in (decoder.body, decoder.rise, decoder.to_maps))

    def forward(self, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode posed offsets [1, 3, 48, 48] (channels last), metres.

        Returns:
            Raw maps [96, 96, 23] float32 without the decoder's images of change, how much of each of these comes to them [8],
            and the displacement [3, 48, 48], metres.
        """
        feature = self.encoder(offsets)
        displacement, offsets = self.displacement(feature), (UNIT * offsets).to(self.dtype)

        scale, shift = self.expression(feature)[..., None, None].to(self.dtype).chunk(2, 1)
        x = self.enter(offsets).add_(self.entered)  # w at 48
        x = F.silu(x.mul_(1 + scale).add_(shift), inplace=True)
        for layer in self.body:
            x = F.silu(layer(x), inplace=True).add_(x)
        x = F.silu(F.pixel_shuffle(self.rise(x), 2), inplace=True)  # v at 96
        x = F.silu(self.fine(x).add_(self.refined), inplace=True)
        maps = self.to_maps(x)[0].permute(1, 2, 0).float().contiguous()
        return maps, self.linear(feature)[0], displacement

    def displacement(self, feature: Tensor) -> Tensor:
        """Displacement [3, 48, 48], metres, of an expression feature [1, latent]."""
        x = self.shuffle(self.shift(self.up(self.first(feature).to(self.dtype)))).float()
        return self.limit * torch.tanh(x / (UNIT * self.limit))[0]


def _part(layer: nn.Conv2d, outputs: slice, inputs: slice, *, bias: bool = True) -> nn.Conv2d:
    """A convolution of `layer`'s size from some of its inputs to some of its outputs."""
    weight = layer.weight.detach()[outputs, inputs]
    part = nn.Conv2d(weight.shape[1], weight.shape[0], layer.kernel_size, padding=layer.padding, bias=bias)
    part.load_state_dict({'weight': weight} | ({'bias': layer.bias.detach()[outputs]} if bias else {}))
    return part.requires_grad_(False)

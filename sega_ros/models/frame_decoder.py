"""The dynamic branch of one avatar while it is driven: posed mesh -> expression feature -> Gaussians of face, mouth and eyes."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from sega_ros.errors import RequestError
from sega_ros.head.atlas import build_atlas
from sega_ros.head.model import HeadModel
from sega_ros.models.base import FRAME_GROWTH, in_units
from sega_ros.models.deformation_vae import DeformationConfig, DeformationVAE
from sega_ros.models.dynamic_decoder import DynamicConfig, DynamicDecoder
from sega_ros.models.frame_kernel import write_texels
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
    ):
        """Prepare.

        Args:
            branch: networks and features.
            head: head model.
            rest: [V, 3] the person's neutral mesh, metres.
            xy: [K, 2] places of the dynamic texels in UV, -1 to 1.
            index: [K] their columns in the buffer that `write` fills.
            start: [14, K] their own parameters before activation (offset, rotation, log scale, opacity, colour).
        """
        self._deformation, self._dynamic = _build(branch)
        # The order in memory that convolutions of few channels like best.
        order = {'memory_format': torch.channels_last}
        self._dynamic.to(**order)
        self._features, self._fine = (x[None].contiguous(**order) for x in (branch.features, branch.fine_features))
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
            offsets = torch.from_numpy(self._offsets)
            deformation = self._deformation(offsets)
            change = in_units(self._dynamic(self._features, self._fine, deformation.feature, offsets), growth=FRAME_GROWTH)
        write_texels(change.geometry[0].numpy(), change.color[0].numpy(), deformation.displacement[0].numpy(), self._xy,
                     self._start[:11], self.color, self._index, out)

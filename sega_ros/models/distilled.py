"""The dynamic branch of one avatar reduced to a few images that are linear in the expression feature, for small computers.

The deformation VAE's encoder still says what the expression is; what is decoded becomes a mean and some bases, in eight bits.
"""

from dataclasses import asdict, dataclass

import numba as nb
import numpy as np
import torch
from torch import Tensor

from sega_ros.errors import RequestError
from sega_ros.head.model import HeadModel
from sega_ros.models.deformation_vae import DeformationConfig, DeformationVAE, check_deformation
from sega_ros.models.frame_decoder import DecodedTexels, FastEncoder, PosedOffsets, captured, write_decoded
from sega_ros.models.layers import fast_dtype
from sega_ros.models.static_decoder import COARSE, GEOMETRY, SIDE
from sega_ros.render.cpu_math import EXACT, use_wide_vectors
from sega_ros.types import check_shape

CHANNELS = GEOMETRY + 12
_DISPLACEMENT = 3 * COARSE * COARSE
_MAX_BASES = 64
_BLOCK = 512
_LEVELS = 127


@dataclass(frozen=True)
class Distilled:
    """What the avatar file holds in place of `frame_decoder.Branch`; M cells of the decoder's maps, R bases."""

    deformation: DeformationConfig
    encoder: dict[str, Tensor]  # `FastEncoder`, with the module's own names
    weight: np.ndarray  # [R, latent] from the feature to the bases' shares
    bias: np.ndarray  # [R]
    cells: np.ndarray  # [M] row * 96 + column
    mean: np.ndarray  # [23 * M + 3 * 48 * 48] maps, channel by channel, then the displacement (metres)
    bases: np.ndarray  # [R, 23 * M + 3 * 48 * 48] int8
    scales: np.ndarray  # [R, 24] what a step of eight bits stands for, per channel; the displacement is the last


class LinearFit:
    """Least squares from features to decoded maps, without keeping the maps."""

    def __init__(self, latent: int, size: int):
        """Prepare for features [latent] and outputs [size]."""
        self._square, self._cross = np.zeros((latent + 1, latent + 1)), np.zeros((latent + 1, size))
        self._squares, self._count = np.zeros(size), 0

    def add(self, features: np.ndarray, outputs: np.ndarray) -> None:
        """Take in examples: features [N, latent], outputs [N, size]."""
        ones = np.concatenate([features, np.ones((len(features), 1))], 1, dtype=np.float32)
        self._square += ones.T.astype(np.float64) @ ones
        self._cross += ones.T @ outputs
        self._squares += (outputs**2).sum(0)
        self._count += len(features)

    def bases(self, rank: int, groups: np.ndarray, *, ridge: float = 3.0) -> tuple[np.ndarray, ...]:
        """Solve, and reduce the solution to `rank` bases (reduced-rank regression).

        Args:
            rank: number of bases.
            groups: [size] kind of each output; errors count in standard deviations of their kind.
            ridge: examples' worth of pull towards the mean.

        Returns:
            weight [rank, latent], bias [rank], mean [size], bases [rank, size].
        """
        n = self._count
        center, mean = self._square[:-1, -1] / n, self._cross[-1] / n
        square = self._square[:-1, :-1] - n * np.outer(center, center)
        cross = self._cross[:-1] - n * np.outer(center, mean)
        spread = np.sqrt(np.diag(square) / n) + 1e-9
        solution = np.linalg.solve(square + ridge * np.diag(spread**2), cross)  # [latent, size]
        variance = np.maximum(self._squares / n - mean**2, 0)
        kinds = np.array([variance[groups == g].mean() for g in range(groups.max() + 1)])
        weigh = 1 / np.sqrt(kinds + 1e-12)[groups]
        # Fitted outputs are centred features times the solution: with the features' square root, their singular vectors.
        root = np.linalg.cholesky(square + 1e-9 * np.trace(square) * np.eye(len(square))).T
        _, _, right = np.linalg.svd(root @ (solution * weigh), full_matrices=False)
        right = right[:rank]
        weight = ((solution * weigh) @ right.T).T  # [rank, latent]
        return weight, -weight @ center, mean, right / weigh


def quantised(bases: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """`bases` [R, 23 * cells + displacement] in eight bits, and their `scales` [R, 24]."""
    parts = [*np.split(bases[:, :CHANNELS * cells], CHANNELS, 1), bases[:, CHANNELS * cells:]]
    scales = np.stack([np.maximum(np.abs(p).max(1), 1e-12) / _LEVELS for p in parts], 1)
    eight = [np.rint(p / s[:, None]).astype(np.int8) for p, s in zip(parts, scales.T, strict=True)]
    return np.ascontiguousarray(np.concatenate(eight, 1)), scales.astype(np.float32)


def distilled_to_tensors(distilled: Distilled) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays as they are kept in a file, and JSON-able sizes."""
    tensors = {f'distilled.encoder.{k}': v.numpy().astype(np.float16) for k, v in distilled.encoder.items()}
    tensors |= {f'distilled.{k}': getattr(distilled, k) for k in ('weight', 'bias', 'bases', 'scales')}
    tensors |= {'distilled.cells': distilled.cells.astype(np.int32), 'distilled.mean': distilled.mean.astype(np.float16)}
    return tensors, {'deformation': asdict(distilled.deformation)}


def tensors_to_distilled(tensors: dict[str, np.ndarray], sizes: dict) -> Distilled:
    """Inverse of `distilled_to_tensors`; every shape and every cell is checked.

    Raises:
        RequestError, TypeError, KeyError, ValueError: sizes or tensors that don't fit together.
    """
    deformation = DeformationConfig(**sizes['deformation'])
    check_deformation(deformation)
    own = {k.removeprefix('distilled.'): v for k, v in tensors.items() if k.startswith('distilled.')}
    encoder = {k.removeprefix('encoder.'): torch.from_numpy(np.array(v, np.float32)) for k, v in own.items()
               if k.startswith('encoder.')}
    cells, rank = own['cells'].astype(np.int64), len(own['bases'])
    size = CHANNELS * len(cells) + _DISPLACEMENT
    shapes = {'weight': (rank, deformation.latent), 'bias': (rank,), 'cells': (None,), 'mean': (size,), 'bases': (rank, size),
              'scales': (rank, CHANNELS + 1)}
    for name, shape in shapes.items():
        check_shape(f'distilled.{name}', own[name], shape)
    if not 1 <= rank <= _MAX_BASES or own['bases'].dtype != np.int8:
        raise RequestError(f'distilled.bases: wanted 1 to {_MAX_BASES} rows of int8, found {rank} of {own["bases"].dtype}')
    if len(cells) and not (0 <= cells.min() and cells.max() < SIDE * SIDE):
        raise RequestError(f'distilled.cells: wanted 0 to {SIDE * SIDE - 1}, found {cells.min()} to {cells.max()}')
    distilled = Distilled(deformation, encoder, *(np.array(own[k], np.float32) for k in ('weight', 'bias')), cells,
                          np.array(own['mean'], np.float32), np.array(own['bases']), np.array(own['scales'], np.float32))
    _encoder(distilled, torch.float32)
    return distilled


def encoder_weights(vae: DeformationVAE) -> dict[str, Tensor]:
    """Copies of the encoder's weights, as far as they make the feature."""
    return {k: v.detach().clone() for k, v in FastEncoder(vae, torch.float32).state_dict().items()}


def _encoder(distilled: Distilled, dtype: torch.dtype) -> FastEncoder:
    encoder = FastEncoder(DeformationVAE(distilled.deformation), dtype)
    for name, value in encoder.state_dict().items():
        if name not in distilled.encoder:
            raise RequestError(f'networks of the avatar: distilled.encoder.{name} is missing')
        check_shape(f'distilled.encoder.{name}', distilled.encoder[name], tuple(value.shape))
    encoder.load_state_dict(distilled.encoder)
    return encoder.eval().requires_grad_(False)


class DistilledDecoder:
    """As `FrameDecoder`, from the bases."""

    def __init__(self, distilled: Distilled, head: HeadModel, rest: np.ndarray):
        """Take the person's neutral mesh `rest` [V, 3], metres."""
        self._distilled, self._offsets = distilled, PosedOffsets(head, rest)
        self._encoder = captured(_encoder(distilled, fast_dtype(torch.device('cpu'))), self._offsets.values)
        self._maps = np.zeros((SIDE, SIDE, CHANNELS), np.float32)
        self._displacement = np.zeros(_DISPLACEMENT, np.float32)

    def write(self, vertices: np.ndarray, texels: DecodedTexels, out: np.ndarray) -> None:
        """Decode the posed mesh `vertices` [V, 3] (head frame) into the columns of `texels` in `out` [14, T]."""
        d = self._distilled
        with torch.inference_mode():
            feature = self._encoder(self._offsets.of(vertices))[0].numpy()
        shares = d.weight @ feature + d.bias
        _blend(d.mean, d.bases, d.scales * shares[:, None], d.cells, self._maps.reshape(-1, CHANNELS), self._displacement)
        write_decoded(self._maps, self._displacement.reshape(3, COARSE, COARSE), texels, out)


@nb.njit(cache=True, nogil=True, fastmath=EXACT, error_model='numpy')
def _blend(mean, bases, shares, cells, maps, displacement):
    """Mean plus bases [R, P] int8 times `shares` [R, 24], into the rows `cells` of `maps` [N, 23] and `displacement`."""
    use_wide_vectors()
    block = np.empty(_BLOCK, np.float32)
    count = cells.shape[0]
    for part in range(CHANNELS + 1):
        first, size = (part * count, count) if part < CHANNELS else (CHANNELS * count, displacement.shape[0])
        for start in range(0, size, _BLOCK):
            n, at = min(_BLOCK, size - start), np.uintp(first + start)
            for i in range(n):
                block[i] = mean[at + np.uintp(i)]
            for r in range(bases.shape[0]):
                share = shares[r, part]
                for i in range(n):
                    block[i] += share * np.float32(bases[r, at + np.uintp(i)])
            for i in range(n):
                if part < CHANNELS:
                    maps[cells[start + i], part] = block[i]
                else:
                    displacement[start + i] = block[i]

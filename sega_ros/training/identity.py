"""Stage `identity`: the VQ-VAE on pictures of faces, and its embedding on pairs of pictures of the same person.

Pictures come from captures (several per person) and from a folder of photographs (one per person), cut out by one convention.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.camera import project
from sega_ros.head.skinning import Poser
from sega_ros.losses import edges, photometric
from sega_ros.models.crop import identity_crop
from sega_ros.models.identity_encoder import IdentityDecoder, IdentityEncoder
from sega_ros.models.layers import precision
from sega_ros.models.uv import UvLayout
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.training.decoders import StepResult
from sega_ros.training.people import PeopleFolder
from sega_ros.types import Capture, Shot

_MAX_TURN = 0.75  # cosine between the face's axis and the way to the camera under which a shot tells little of a person


@dataclass(frozen=True)
class IdentityLoss:
    """How much each term counts."""

    edges: float = 0.5
    commitment: float = 0.25
    contrast: float = 0.05
    temperature: float = 0.1
    bypass: float = 0.3  # share of the steps without quantisation: the latents themselves must make sense as well


class IdentityStep(nn.Module):
    """One step's loss; holds the library's codebook while training."""

    def __init__(self, encoder: IdentityEncoder, weights: IdentityLoss):
        from vector_quantize_pytorch import VectorQuantize

        super().__init__()
        self.encoder, self.decoder, self.weights = encoder, IdentityDecoder(encoder.config), weights
        self.mixed = False  # run the convolutions in bfloat16
        self.quantiser = VectorQuantize(
            dim=encoder.config.code_width, codebook_size=encoder.config.codes, use_cosine_sim=True, decay=0.98,
            threshold_ema_dead_code=1, kmeans_init=True, kmeans_iters=10, commitment_weight=1.0, accept_image_fmap=True)

    def forward(self, images: Tensor) -> StepResult:
        """Pictures [2 B, 3, 256, 256] in [0, 1]: the first and the second half show the same B people."""
        w = self.weights
        images = images.to(self.encoder.codebook.device)
        with precision(images.device, self.mixed):
            deepest = self.encoder.features(images)[-1]
            latents = self.encoder.continuous(deepest)
            embeddings = self.encoder.embed(deepest)
        quantised, _, commitment = self.quantiser(latents)
        # Only one picture of each pair is put together again: the decoder costs as much as the encoder.
        device = images.device
        half = len(images) // 2
        shown = torch.arange(half, device=device) + half * (torch.rand(half, device=device) < 0.5)
        bypass = torch.rand(half, 1, 1, 1, device=device) < w.bypass
        with precision(images.device, self.mixed):
            found = self.decoder(torch.where(bypass, latents[shown], quantised[shown])).float()
        pictures, targets = found.movedim(1, -1), images[shown].movedim(1, -1)
        weights = _inner(targets)
        first, second = embeddings.chunk(2)
        likeness = first @ second.T / w.temperature
        same = torch.arange(len(first), device=device)
        terms = {
            'photometric': photometric(pictures, targets, weights), 'edges': w.edges * edges(pictures, targets, weights),
            'commitment': w.commitment * commitment.sum(),
            'contrast': w.contrast * 0.5 * (F.cross_entropy(likeness, same) + F.cross_entropy(likeness.T, same)),
        }
        return StepResult(sum(terms.values()), {k: v.detach() for k, v in terms.items()}, pictures.detach())

    @torch.no_grad()
    def keep_codebook(self) -> None:
        """Copy the library's codebook into the encoder."""
        self.encoder.codebook.copy_(F.normalize(self.quantiser.codebook, dim=1))


def _inner(images: Tensor) -> Tensor:
    """Weights [B, H, W]: the middle, where the face is, counts threefold."""
    out = images.new_ones(images.shape[:3])
    height, width = images.shape[1:3]
    out[:, height // 4:-height // 8, width // 4:-width // 4] = 3
    return out


def shot_crop(layout, embedding, capture: Capture, shot: Shot) -> np.ndarray:
    """Cut out of a shot, person over grey, uint8 [256, 256, 3], by the known place of the face."""
    poser = Poser(layout.head, capture.shape, v_offset=capture.v_offset)
    points = project(embedding.points(poser.pose(shot.params), layout.head.faces), shot.camera)[0]
    alpha = shot.alpha.astype(np.float32)[..., None] / 255
    color = (shot.image - (1 - alpha) * 255 * shot.background) / np.maximum(alpha, 0.05)
    return identity_crop(np.clip(color + 0.5, 0, 255).astype(np.uint8), alpha[..., 0], points)


def is_frontal(shot: Shot) -> bool:
    """Whether the camera sees enough of the face."""
    return bool(-shot.camera.viewmat[2, 2] > _MAX_TURN)


class Portraits:
    """Cut-outs of people, kept once they were made: 0.8 MB a person."""

    def __init__(self, people: PeopleFolder, layout: UvLayout, embedding: LandmarkEmbedding, *, shots: int = 3):
        self._people, self._layout, self._embedding, self._shots = people, layout, embedding, shots
        self._known: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._people)

    def __getitem__(self, index: int) -> np.ndarray:
        """Pictures [2 or more, 256, 256, 3] uint8 of a person: the photo, then shots that show the face."""
        if index not in self._known:
            capture = self._people.capture(index)
            shots = [s for s in capture.shots if is_frontal(s)] or list(capture.shots)
            self._known[index] = np.stack([
                shot_crop(self._layout, self._embedding, capture, s) for s in (capture.photo, *shots[:self._shots])])
        return self._known[index]


def draw_pairs(people: Portraits, *, batch: int, seed: int, step: int, rank: int = 0) -> tuple[Tensor]:
    """Example `step`, [2 batch, 3, 256, 256]: two pictures each of `batch` people, colours and mirror image varied."""
    rng = np.random.default_rng([seed, 11, step, rank])
    pictures = []
    for index in rng.choice(len(people), size=batch, replace=len(people) < batch):
        every = people[int(index)]
        pictures.append(every[[0, rng.integers(1, len(every))]])
    return (_varied(np.stack(pictures, 1).reshape(2 * batch, 256, 256, 3), rng),)


def _varied(pictures: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Vary brightness, contrast and colour, and mirror half of the pictures [B, H, W, 3] uint8."""
    out = pictures.astype(np.float32) / 255
    gain = rng.uniform(0.8, 1.25, (len(out), 1, 1, 1)) * rng.uniform(0.94, 1.06, (len(out), 1, 1, 3))
    out = np.clip((out - 0.5) * rng.uniform(0.85, 1.15, (len(out), 1, 1, 1)) + 0.5, 0, 1) * gain
    mirrored = rng.random(len(out)) < 0.5
    out[mirrored] = out[mirrored, :, ::-1]
    return torch.from_numpy(np.clip(out, 0, 1).astype(np.float32)).permute(0, 3, 1, 2).contiguous()

"""Stages `static` and `dynamic`: the decoders, one after the other, on people from several sides with many expressions.

A step draws one person per process and a few of their shots: the person is decoded once, the shots' expressions one by one,
and the pictures are compared. Run under `torchrun` the gradients of all processes are averaged (PyTorch's DDP).
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.losses import FeatureLoss, LossNetworks, edges, photometric, psnr
from sega_ros.models.closing import roughness
from sega_ros.models.deformation_vae import vae_loss
from sega_ros.models.sega import Sega, place_person
from sega_ros.models.uv import UvLayout
from sega_ros.render import rasterize
from sega_ros.training.examples import Frame, FrameMaker
from sega_ros.training.people import PeopleFolder, Person


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts."""

    edges: float = 0.5
    perceptual: float = 0.25
    identity: float = 0.25
    small: float = 2e-4  # pulls raw corrections to nothing
    displacement: float = 20.0  # per millimetre squared, mean
    deformation: float = 0.02
    rough: float = 0.2  # of the surface in each expression
    face: float = 3.0  # of a pixel of the face; 1 of one of the head
    clothes: float = 0.3
    outside: float = 0.5


@dataclass(frozen=True)
class StepResult:
    """What one step computed."""

    loss: Tensor
    terms: dict[str, Tensor]
    images: Tensor  # [K, H, W, 3]


def render_frames(model: Sega, layout: UvLayout, person_output, frames: list[Frame], *, sample: bool = False):
    """Pictures [K, H, W, 3] of `frames`, their K GaussianMaps [T, ...] and the deformation behind them."""
    offsets = torch.from_numpy(np.stack([f.offsets for f in frames]))
    eyelids = np.stack([f.eyelids for f in frames])
    texels, deformation = model.decode_frames(person_output, layout, offsets, eyelids, sample=sample)
    images = []
    for gaussians, f in zip(texels, frames, strict=True):
        splats = place_person(gaussians, person_output.shell, f.frames, f.eye, fade=f.fade)
        images.append(rasterize(splats, f.camera, background=f.background.to(splats.means)).image)
    return torch.stack(images), texels, deformation


class DecoderStep(nn.Module):
    """One step's loss as a module, so that DDP can wrap it."""

    def __init__(self, model: Sega, layout: UvLayout, weights: LossWeights, networks: LossNetworks | None = None):
        super().__init__()
        self.model, self.layout, self.weights = model, layout, weights
        self.features = FeatureLoss(model.identity, networks)

    def forward(self, person: Person, frames: list[Frame]) -> StepResult:
        """Decode `person`, draw `frames`, compare."""
        w = self.weights
        decoded = self.model.decode_person(person.base, self.layout)
        images, texels, deformation = render_frames(self.model, self.layout, decoded, frames, sample=self.training)
        device = self.model.device
        targets = torch.stack([f.target for f in frames]).to(device)
        weights = torch.stack([_pixel_weights(f, w) for f in frames]).to(device)
        terms = {'photometric': photometric(images, targets, weights), 'edges': w.edges * edges(images, targets, weights)}
        if w.perceptual or w.identity:
            perceptual, identity = self.features(_windows(images, frames), _windows(targets, frames), identity=w.identity > 0)
            terms |= {'perceptual': w.perceptual * perceptual, 'identity': w.identity * identity}
        raw = decoded.static
        raws = (raw.correction.geometry, raw.correction.color, raw.shell)
        terms['small'] = w.small * sum((r**2).mean() for r in raws)
        if deformation is not None:
            offsets = torch.from_numpy(np.stack([f.offsets for f in frames])).to(device)
            valid = torch.from_numpy(self.layout.coarse.dynamic).to(device)
            terms['deformation'] = w.deformation * vae_loss(deformation, offsets, valid)
            terms['rough'] = w.rough * sum(roughness(t.offset, self.layout) for t in texels) / len(texels)
            terms['displacement'] = w.displacement * (deformation.displacement**2).mean() * 1e6 * 1e-3
        return StepResult(sum(terms.values()), {k: v.detach() for k, v in terms.items()}, images.detach())


def _pixel_weights(frame: Frame, w: LossWeights) -> Tensor:
    person = (frame.target - frame.background).abs().amax(-1) > 0.02
    out = torch.where(frame.head, 1.0, torch.where(person, w.clothes, w.outside))
    return torch.where(frame.face, w.face, out)


def _windows(images: Tensor, frames: list[Frame], size: int = 128) -> Tensor:
    """Cut the identity encoder's windows out of pictures [K, H, W, 3]: [K, 3, size, size]."""
    height, width = images.shape[1:3]
    grid = torch.linspace(-1 + 1 / size, 1 - 1 / size, size)
    v, u = torch.meshgrid(grid, grid, indexing='ij')
    places = []
    for frame in frames:
        (x, y), side = frame.window
        places.append(torch.stack([(float(x) + side * u / 2) * 2 / width - 1, (float(y) + side * v / 2) * 2 / height - 1], -1))
    where = torch.stack(places).to(images.device)
    return F.grid_sample(images.permute(0, 3, 1, 2), where, align_corners=False, padding_mode='border')


def draw_example(
    people: PeopleFolder, layout: UvLayout, embedding, *, shots: int, seed: int, step: int, rank: int = 0, world: int = 1,
) -> tuple[Person, list[Frame]]:
    """Example `step`: the same in every run of the same seed; ranks see different people."""
    epoch, place = divmod(step * world + rank, len(people))
    order = np.random.default_rng([seed, epoch]).permutation(len(people))
    person = people[int(order[place])]
    rng = np.random.default_rng([seed, 7, step, rank])
    every = person.capture.shots
    maker = FrameMaker(layout, embedding, person.capture, person.base)
    return person, [maker(every[int(k)]) for k in rng.permutation(len(every))[:shots]]


def trainable(model: Sega, stage: str) -> list[nn.Parameter]:
    """Freeze what `stage` does not train, and return what it does; biases shared by all people first."""
    model.requires_grad_(False)
    if stage == 'static':
        model.static.requires_grad_(True)
        model.static.to_features.requires_grad_(False)
        model.static.to_fine.requires_grad_(False)
    else:
        for part in (model.dynamic, model.deformation, model.static.to_features, model.static.to_fine):
            part.requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]


@dataclass(frozen=True)
class Scores:
    """Means over held-out people."""

    head: float  # dB
    face: float
    per_person: list[tuple[float, float]] = field(default_factory=list)


@torch.no_grad()
def evaluate(model: Sega, layout: UvLayout, embedding, people: PeopleFolder, *, count: int = 8, shots: int = 4) -> Scores:
    """PSNR over head and face at new views and expressions of `count` held-out people."""
    model.eval()
    rows = []
    for index in range(min(count, len(people))):
        person = people[index]
        maker = FrameMaker(layout, embedding, person.capture, person.base)
        frames = [maker(s) for s in person.capture.shots[:shots]]
        decoded = model.decode_person(person.base, layout)
        images, *_ = render_frames(model, layout, decoded, frames)
        targets, head, face = (torch.stack([getattr(f, k) for f in frames]).to(images.device) for k in ('target', 'head', 'face'))
        seen = face.sum((1, 2)) > 50
        rows.append((float(psnr(images, targets, head).mean()), float(psnr(images, targets, face)[seen].mean())))
    model.train()
    return Scores(*np.mean(rows, 0), rows)

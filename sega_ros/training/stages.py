"""The three stages put together: `identity`, then `static`, then `dynamic`, each from the weights of the one before."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sega_ros.config import option
from sega_ros.errors import RequestError
from sega_ros.losses import LossNetworks
from sega_ros.models.deformation_vae import DeformationConfig
from sega_ros.models.dynamic_decoder import DynamicConfig
from sega_ros.models.identity_encoder import IdentityConfig
from sega_ros.models.sega import Sega, SegaConfig
from sega_ros.models.static_decoder import StaticConfig
from sega_ros.models.uv import UvLayout
from sega_ros.models.weights import load_weights, save_weights
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.training.decoders import DecoderStep, LossWeights, draw_example, evaluate, render_frames, trainable
from sega_ros.training.examples import FrameMaker
from sega_ros.training.identity import IdentityLoss, IdentityStep, Portraits, draw_pairs
from sega_ros.training.people import PeopleFolder, SyntheticPeople
from sega_ros.training.run import RunConfig, World, joined_world, pick_device, run_stage, runs_mixed

STAGES = ('identity', 'static', 'dynamic')
WEIGHTS = 'weights.safetensors'


@dataclass(frozen=True)
class DataConfig:
    """Whom to train on."""

    folder: str = option('', 'Folder of prepared people; with synthetic ones it is where they are kept')
    synthetic: int = option(0, 'This many synthetic people, made when first needed', bounds=(0, 1_000_000))
    first_seed: int = option(0, 'Seed of the first of them', bounds=(0, 2**31 - 1))
    shots: int = option(12, 'Pictures made of each synthetic person', bounds=(2, 256))
    size: int = option(256, 'Their size', unit='px', bounds=(32, 2048))
    held_out: int = option(8, 'People on whom the figures are measured while training', bounds=(1, 1000))


@dataclass(frozen=True)
class TrainConfig:
    """Everything about a stage."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch: int = option(6, 'Stage identity: people per step, two pictures each', bounds=(2, 1024))
    shots: int = option(4, 'Stages static and dynamic: pictures per person and step', bounds=(1, 64))
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    static: StaticConfig = field(default_factory=StaticConfig)
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    identity_loss: IdentityLoss = field(default_factory=IdentityLoss)
    loss: LossWeights = field(default_factory=LossWeights)
    perceptual_weights: str = option('', "Of VGG-16 for the perceptual loss, torchvision's state dict; else the identity encoder")
    identity_weights: str = option('', "Of ArcFace for the identity loss, insightface's state dict; else the identity encoder")

    @property
    def model(self) -> SegaConfig:
        """Sizes of the networks."""
        return SegaConfig(self.identity, self.deformation, self.static, self.dynamic)


Report = Callable[[int, dict[str, float]], None]


def train_stage(
    stage: str, out: Path, layout: UvLayout, embedding: LandmarkEmbedding, config: TrainConfig, *, start: Path | None = None,
    report: Report = lambda step, terms: None, should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Train one stage into the folder `out`; goes on where it was left. Returns the figures of the last check.

    Args:
        stage: of STAGES.
        out: folder of the checkpoint, the weights and TensorBoard's files.
        layout: UV layout of the head model.
        embedding: landmarks on it.
        config: sizes, data, losses, steps.
        start: weights of the stage before (needed by `static` and `dynamic`).
        report: called with step and loss terms.
        should_stop: asked after each step.

    Raises:
        RequestError: unknown stage, or no weights to start from.
        DatasetError, ModelError: data or weights that don't fit.
    """
    if stage not in STAGES:
        raise RequestError(f'stage {stage!r}: wanted one of {", ".join(STAGES)}')
    if stage != 'identity' and start is None:
        raise RequestError(f'stage {stage}: needs the weights of stage {STAGES[STAGES.index(stage) - 1]}')
    torch.manual_seed(config.run.seed)
    model = Sega(config.model)
    if start is not None:
        _take_over(model, load_weights(start))
    device = pick_device(config.run.device)
    model.to(device)
    model.mixed = runs_mixed(config.run, device)
    with joined_world(device) as world:
        run = _identity_run if stage == 'identity' else _decoder_run
        figures = run(stage, model, out, layout, embedding, config, world, report, should_stop)
        if world.first:
            save_weights(out / WEIGHTS, model, {'stage': stage, **figures}, head=layout.head)
    return figures


def _take_over(model: Sega, before: Sega) -> None:
    """Copy every weight that has the same name and size."""
    own = model.state_dict()
    own.update({k: v for k, v in before.state_dict().items() if k in own and own[k].shape == v.shape})
    model.load_state_dict(own)


def open_people(config: DataConfig, layout: UvLayout, embedding: LandmarkEmbedding, split) -> PeopleFolder:
    """Open the people of a split.

    Raises:
        RequestError: neither a folder nor synthetic people asked for.
        DatasetError: the folder has none.
    """
    if not config.folder:
        raise RequestError('training data: give a folder of prepared people, or a number of synthetic ones and their folder')
    if not config.synthetic:
        return PeopleFolder(config.folder, layout, embedding, split=split)
    seeds = range(config.first_seed, config.first_seed + config.synthetic)
    return SyntheticPeople(config.folder, layout, embedding, seeds, split=split, shots=config.shots, size=config.size)


def _identity_run(stage, model, out, layout, embedding, config, world: World, report, should_stop) -> dict[str, float]:
    people, held_out = (open_people(config.data, layout, embedding, s) for s in ('train', 'val'))
    step = IdentityStep(model.identity, config.identity_loss).to(model.device)
    step.mixed = model.mixed
    portraits, others = (Portraits(p, layout, embedding) for p in (people, held_out))

    def check(module: IdentityStep):
        return check_identity(module, others, config.data.held_out)

    figures = run_stage(
        model=step, step_module=step, parameters=list(step.parameters()), shared=[], check=check, config=config.run,
        full_config=config, out=out, world=world, progress=report, should_stop=should_stop,
        example=lambda k: draw_pairs(portraits, batch=config.batch, seed=config.run.seed, step=k, rank=world.rank))
    step.keep_codebook()
    return figures


@torch.no_grad()
def check_identity(step: IdentityStep, people: Portraits, count: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Reconstruction in dB, share of people recognised among all by another picture, share of codes in use; and pictures."""
    step.eval()
    step.keep_codebook()
    pairs = [people[index][:2] for index in range(min(count, len(people)))]
    images = torch.from_numpy(np.stack(pairs, 1)).movedim(-1, 2).float() / 255  # [2, B, 3, 256, 256]
    images = images.to(step.encoder.codebook.device)
    codes = [step.encoder(x) for x in images]
    likeness = codes[0].embedding @ codes[1].embedding.T
    found = step.decoder(codes[0].latents)
    used = torch.unique(step.encoder.indices(codes[0].latents)).numel()
    figures = {'psnr': float(-10 * torch.log10(((found - images[0]) ** 2).mean())),
               'recognised': float((likeness.argmax(1).cpu() == torch.arange(len(likeness))).float().mean()), 'codes_used': used}
    rows = [torch.cat(list(x[:6].movedim(1, -1)), 1) for x in (images[0], found)]
    step.train()
    return figures, {'reconstruction': _to_picture(torch.cat(rows))}


def _decoder_run(stage, model, out, layout, embedding, config, world: World, report, should_stop) -> dict[str, float]:
    networks = LossNetworks.load(perceptual=config.perceptual_weights, identity=config.identity_weights)
    people, held_out = (open_people(config.data, layout, embedding, s) for s in ('train', 'val'))
    # In stage `static` every region is drawn by the static decoder alone.
    model.with_dynamic = stage == 'dynamic' and config.dynamic.regions != 'none'
    parameters = trainable(model, stage if model.with_dynamic else 'static')

    def check(averaged: Sega):
        scores = evaluate(averaged, layout, embedding, held_out, count=config.data.held_out)
        return {'head_psnr': scores.head, 'face_psnr': scores.face}, {'held_out': _strip(averaged, layout, embedding, held_out)}

    return run_stage(
        model=model, step_module=DecoderStep(model, layout, config.loss, networks), parameters=parameters,
        shared=[p for p in (model.static.bias, model.dynamic.basis) if p.requires_grad], check=check, config=config.run,
        full_config=config, out=out, world=world, progress=report, should_stop=should_stop,
        example=lambda k: draw_example(people, layout, embedding, shots=config.shots, seed=config.run.seed, step=k,
                                       rank=world.rank, world=world.size))


@torch.no_grad()
def _strip(model: Sega, layout, embedding, people, *, count: int = 3, shots: int = 3) -> np.ndarray:
    """Truth above what the model draws, for a few held-out people."""
    rows = []
    for index in range(min(count, len(people))):
        person = people[index]
        maker = FrameMaker(layout, embedding, person.capture, person.base)
        frames = [maker(s) for s in person.capture.shots[:shots]]
        images, *_ = render_frames(model, layout, model.decode_person(person.base, layout), frames)
        rows.append(torch.cat([torch.cat([f.target for f in frames], 1), torch.cat(list(images.cpu()), 1)], 0))
    return _to_picture(torch.cat(rows, 1))


def _to_picture(image: torch.Tensor) -> np.ndarray:
    return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


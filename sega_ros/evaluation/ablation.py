"""The paper's ablation on held-out synthetic people: every variant trains at one small budget and is measured alike.

Data, steps and people: `config/ablation.yaml`. What is finished is kept, so an interrupted run goes on where it was.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sega_ros.config import dump_yaml, option, to_dict
from sega_ros.errors import DatasetError, RequestError
from sega_ros.evaluation.ablation_report import Results, VariantResult, read_variant, write_results, write_variant
from sega_ros.evaluation.ablation_score import HeldOutConfig, VariantScorer, make_held_out
from sega_ros.evaluation.metrics import Judge
from sega_ros.io import atomic_write
from sega_ros.models.sega import Sega, SegaConfig
from sega_ros.models.uv import UvLayout
from sega_ros.models.weights import SHIPPED, load_weights, save_weights
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.training.data.capture_file import split_of
from sega_ros.training.decoders import LossWeights
from sega_ros.training.people import synthesise
from sega_ros.training.run import RunConfig
from sega_ros.training.stages import WEIGHTS, DataConfig, TrainConfig, train_stage

Progress = Callable[[str, float], None]
_ROOT = Path(__file__).resolve().parents[2]
CONFIG, RESULTS = _ROOT / 'config' / 'ablation.yaml', _ROOT / 'docs' / 'ablation' / 'results.json'


@dataclass(frozen=True)
class PeopleConfig:
    """Whom the variants train on."""

    first_seed: int = option(600_000, 'Seed of the first synthetic person', bounds=(0, 2**31 - 1))
    people: int = option(80, 'How many; one in ten is kept for checks', bounds=(2, 100_000))
    shots: int = option(12, 'Pictures of each besides the photo', bounds=(1, 64))
    size: int = option(256, 'Side of the pictures', unit='px', bounds=(32, 1024))
    photo_size: int = option(512, 'Side of the photo', unit='px', bounds=(64, 2048))
    texture_size: int = option(640, 'Side of the skin texture', unit='texels', bounds=(64, 2048))


@dataclass(frozen=True)
class BudgetConfig:
    """What every variant may spend; without a dynamic decoder the static one takes all the steps."""

    identity_steps: int = option(1000, 'Steps of the shared identity encoder, where neither --weights nor the package has one',
                                 bounds=(1, 10**6))
    static_steps: int = option(400, 'Steps of stage static', bounds=(1, 10**6))
    dynamic_steps: int = option(400, 'Steps of stage dynamic', bounds=(1, 10**6))
    shots: int = option(4, 'Pictures per step', bounds=(1, 64))
    rate: float = option(6e-4, 'Peak learning rate', bounds=(1e-7, 1.0))
    warm_up: int = option(50, 'Steps to reach it', bounds=(0, 10**6))
    average: float = option(0.995, 'Of the running average of the weights', bounds=(0.0, 0.99999))
    checked: int = option(4, 'People behind the figures during training', bounds=(1, 1000))


@dataclass(frozen=True)
class FineTuning:
    """Personalisation on the photo, as quality `standard`."""

    decoder_steps: int = option(10, 'Steps on the decoders', bounds=(0, 10_000))
    steps: int = option(120, 'Steps on the residual', bounds=(0, 10_000))


@dataclass(frozen=True)
class AblationConfig:
    """Everything about the ablation."""

    seed: int = option(0, 'Of initial weights and order of the examples; the same for all variants', bounds=(0, 2**31 - 1))
    train: PeopleConfig = field(default_factory=PeopleConfig)
    test: HeldOutConfig = field(default_factory=HeldOutConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    personalise: FineTuning = field(default_factory=FineTuning)


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    title: str
    regions: str = 'face'  # of the dynamic decoder
    use_identity: bool = True
    perceptual: bool = True
    identity_loss: bool = True
    weights_of: str = ''  # variant whose networks it takes
    static_of: str = ''  # variant whose static stage is, step for step, its own


VARIANTS = {v.name: v for v in (
    Variant('full', 'full'),
    Variant('no_2d_prior', 'no 2D prior', use_identity=False),
    Variant('all_static', 'all static', regions='none'),
    Variant('all_dynamic', 'all dynamic', regions='all', static_of='full'),
    Variant('no_fine_tuning', 'no fine-tuning', weights_of='full'),
    Variant('no_perceptual', 'no perceptual loss', perceptual=False),
    Variant('no_identity', 'no identity loss', identity_loss=False),
)}


# Not part of the ablation: the package's own weights, measured alike.
SHIPPED_WEIGHTS = Variant('shipped', 'shipped weights')
_KNOWN = VARIANTS | {SHIPPED_WEIGHTS.name: SHIPPED_WEIGHTS}


def check_variants(names: list[str]) -> list[Variant]:
    """Return the variants of these names in the table's order.

    Raises:
        RequestError: an unknown name.
    """
    if unknown := [n for n in names if n not in _KNOWN]:
        raise RequestError(f'variant {", ".join(map(repr, unknown))}: wanted some of {", ".join(_KNOWN)}')
    return [v for v in _KNOWN.values() if v.name in names]


def retrain(
    config: AblationConfig, layout: UvLayout, embedding: LandmarkEmbedding, *, out: Path, data: Path,
    people: Path | None = None, weights: Path | None = None, variants: tuple[str, ...] = tuple(VARIANTS),
    progress: Progress = lambda stage, share: None,
) -> Results:
    """Make the people, train and measure the variants, and write `results.json`, a table and a figure into `out`.

    Args:
        config: budget and people.
        layout: UV layout of the head model.
        embedding: landmarks on it.
        out: folder of runs and results; finished parts in it are kept.
        data: folder of the synthetic people, made where absent.
        people: folder of prepared people to train on instead of the configuration's synthetic ones.
        weights: file whose identity encoder (and networks' sizes) all variants share; None takes the package's, or trains one.
        variants: names; those that `out` holds already stay in the results. `shipped` measures the package's weights.
        progress: called with what is done and the share of the whole.

    Raises:
        RequestError: an unknown variant, or `out` belongs to another configuration.
    """
    chosen = check_variants(list(variants))
    torch.set_num_threads(1)
    _claim(out, config, people, weights)
    trainer = Trainer(config, layout, embedding, out, people or data / 'train', synthetic=people is None)
    if weights is None and SHIPPED.is_file():
        weights = SHIPPED
    if people is None and chosen != [SHIPPED_WEIGHTS]:
        _make_people(config, layout, embedding, data / 'train', lambda share: progress('people to train on', 0.1 * share))
    make_held_out(layout.head, data / 'test', config.test, lambda share: progress('held-out people', 0.1 + 0.05 * share))
    progress('identity encoder', 0.15)
    start = trainer.start(weights)
    encoder = load_weights(start).identity
    with Judge(encoder, layout.head, embedding) as judge:
        scorer = VariantScorer(layout, embedding, data / 'test', config.test, judge)
        for k, variant in enumerate(chosen):
            def part(stage: str, share: float, k=k, title=variant.title) -> None:
                progress(f'{title}: {stage}', 0.2 + 0.8 * (k + share) / len(chosen))

            _one_variant(trainer, scorer, variant, start, part)
        done = [read_variant(out / v.name) for v in _KNOWN.values() if (out / v.name / 'scores.json').is_file()]
        results = Results(to_dict(config), tuple(done), judge.missing, str(people.name) if people else '')
    write_results(results, out)
    return results


def _one_variant(trainer: 'Trainer', scorer: VariantScorer, variant: Variant, start: Path, progress: Progress) -> None:
    folder = trainer.out / variant.name
    if (folder / 'scores.json').is_file():
        return
    source = _KNOWN[variant.weights_of or variant.name]
    if variant == SHIPPED_WEIGHTS:
        path = SHIPPED
    else:
        path = trainer.train(source, start, lambda stage, share: progress(stage, 0.7 * share))
    personal = trainer.config.personalise
    steps = (0, 0) if variant.weights_of else (personal.decoder_steps, personal.steps)
    scored = scorer(load_weights(path), regions=source.regions, steps=steps,
                    progress=lambda share: progress('measuring', 0.7 + 0.3 * share))
    result = VariantResult(variant.name, variant.title, trainer.minutes(source), scored.ms, scored.draw_ms, scored.rows)
    write_variant(folder, result, scored.pictures, scored.truth)


class Trainer:
    """Trains variants into a folder; stages that are done are not done again."""

    def __init__(self, config: AblationConfig, layout, embedding, out: Path, people: Path, *, synthetic: bool):
        self.config, self.out = config, out
        self._layout, self._embedding, self._people = layout, embedding, people
        t = config.train
        made = DataConfig(str(people), t.people if synthetic else 0, t.first_seed, t.shots, t.size)
        self._data = replace(made, held_out=config.budget.checked)

    def start(self, weights: Path | None) -> Path:
        """Weights that all variants start from: the identity encoder's, the rest fresh and equal for all."""
        path = self.out / 'start.safetensors'
        if path.is_file():
            return path
        if weights is None:
            weights = self._stage('identity', self.out / 'identity', TrainConfig(), self.config.budget.identity_steps, None)
        known = load_weights(weights)
        torch.manual_seed(self.config.seed)
        model = Sega(known.config)
        model.identity.load_state_dict(known.identity.state_dict())
        save_weights(path, model, {'stage': 'identity'}, head=self._layout.head)
        return path

    def train(self, variant: Variant, start: Path, progress: Progress) -> Path:
        """Both stages of `variant`; returns its weights."""
        budget, config = self.config.budget, self._settings(variant, load_weights(start).config)
        if variant.regions == 'none':
            return self._stage('static', self.out / variant.name / 'static', config,
                               budget.static_steps + budget.dynamic_steps, start, lambda share: progress('static', share))
        first = VARIANTS[variant.static_of or variant.name]
        static = self._stage('static', self.out / first.name / 'static', self._settings(first, load_weights(start).config),
                             budget.static_steps, start, lambda share: progress('static', 0.5 * share))
        return self._stage('dynamic', self.out / variant.name / 'dynamic', config, budget.dynamic_steps, static,
                           lambda share: progress('dynamic', 0.5 + 0.5 * share))

    def minutes(self, variant: Variant) -> float:
        """Minutes of training behind the variant, all stages."""
        static = self.out / (variant.static_of or variant.name) / 'static'
        return sum(_read_seconds(f) for f in (static, self.out / variant.name / 'dynamic')) / 60

    def _settings(self, variant: Variant, sizes: SegaConfig) -> TrainConfig:
        losses = LossWeights()
        if not variant.perceptual:
            losses = replace(losses, perceptual=0.0)
        if not variant.identity_loss:
            losses = replace(losses, identity=0.0)
        return TrainConfig(
            identity=sizes.identity, deformation=sizes.deformation, loss=losses, shots=self.config.budget.shots,
            static=replace(sizes.static, use_identity=variant.use_identity),
            dynamic=replace(sizes.dynamic, regions=variant.regions))

    def _stage(self, stage: str, folder: Path, config: TrainConfig, steps: int, start: Path | None,
               progress: Callable[[float], None] = lambda share: None) -> Path:
        weights = folder / WEIGHTS
        if weights.is_file():
            return weights
        b = self.config.budget
        run = RunConfig(steps=steps, rate=b.rate, warm_up=b.warm_up, seed=self.config.seed, average=b.average, check_every=steps,
                        save_every=100)
        with _timed(folder):
            train_stage(stage, folder, self._layout, self._embedding, replace(config, run=run, data=self._data), start=start,
                        report=lambda step, terms: progress(step / steps))
        return weights


@contextmanager
def _timed(folder: Path) -> Iterator[None]:
    """Add the seconds inside to the folder's."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        seconds = _read_seconds(folder) + time.perf_counter() - begun
        atomic_write(folder / 'seconds.txt', f'{seconds:.1f}\n'.encode())


def _read_seconds(folder: Path) -> float:
    path = folder / 'seconds.txt'
    return float(path.read_text()) if path.is_file() else 0.0


def _claim(out: Path, config: AblationConfig, people: Path | None, weights: Path | None) -> None:
    """Raise RequestError if the runs in `out` were made otherwise; else note how they are made."""
    out.mkdir(parents=True, exist_ok=True)
    text = dump_yaml(config) + f'# people: {people or "as above"}; encoder: {weights.name if weights else "trained here"}\n'
    path = out / 'config.yaml'
    if path.is_file() and path.read_text(encoding='utf-8') != text:
        raise RequestError(f'{out}: its runs have another configuration ({path}): choose another folder with --out')
    atomic_write(path, text.encode())


def _make_people(config: AblationConfig, layout, embedding, folder: Path, progress: Callable[[float], None]) -> None:
    t = config.train
    seeds = range(t.first_seed, t.first_seed + t.people)
    splits = {split_of(f'synthetic-{seed:06d}') for seed in seeds}
    if not {'train', 'val'} <= splits:
        raise DatasetError(f'ablation: of the {t.people} people from seed {t.first_seed} none falls into split '
                           f'{" or ".join(sorted({"train", "val"} - splits))}: take more, or another first seed')
    for k, seed in enumerate(seeds):
        progress(k / len(seeds))
        synthesise(folder, layout, embedding, seed, shots=t.shots, size=t.size, photo_size=t.photo_size,
                   texture_size=t.texture_size)

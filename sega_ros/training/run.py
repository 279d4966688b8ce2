"""What all stages share: processes, steps, the running average, checkpoints, TensorBoard, progress."""

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sega_ros.errors import DatasetError, RequestError
from sega_ros.models.layers import has_matrix_units
from sega_ros.training.state import load_state, save_state

CHECKPOINT = 'checkpoint.safetensors'


@dataclass(frozen=True)
class RunConfig:
    """One stage's run."""

    steps: int = 10_000
    rate: float = 6e-4  # peak learning rate
    bias_rate: float = 10.0  # times that for what all people share per texel
    warm_up: int = 200  # steps
    seed: int = 0
    average: float = 0.999  # of the running average of the weights
    clip: float = 1.0  # gradient norm
    log_every: int = 20
    check_every: int = 500  # evaluation and pictures
    save_every: int = 250
    device: str = 'auto'  # 'cpu', 'cuda'; auto takes CUDA where there is one
    mixed: bool = True  # networks in bfloat16 on CUDA, and on CPUs with matrix units (AMX)
    workers: int = 0  # threads that prepare examples ahead; as many as there are cores are right beside a GPU


@dataclass(frozen=True)
class World:
    """Place of the running process among all of a run."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """Join the processes that `torchrun` started (gloo on CPUs, nccl on CUDA devices); alone without it."""
    size = int(os.environ.get('WORLD_SIZE', '1'))
    if size == 1:
        yield World()
        return
    import torch.distributed as dist

    dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def pick_device(name: str) -> torch.device:
    """Device of this process for 'auto', 'cpu' or 'cuda' (the one of its local rank under `torchrun`).

    Raises:
        RequestError: another name, or no CUDA device there.
    """
    if name not in ('auto', 'cpu', 'cuda'):
        raise RequestError(f'run.device {name!r}: wanted auto, cpu or cuda')
    found = torch.cuda.is_available()
    if name == 'cuda' and not found:
        raise RequestError('run.device cuda: PyTorch sees no CUDA device; use auto or cpu')
    if name == 'cpu' or not found:
        return torch.device('cpu')
    return torch.device('cuda', int(os.environ.get('LOCAL_RANK', '0')))


def runs_mixed(config: RunConfig, device: torch.device) -> bool:
    """Whether the networks run in bfloat16."""
    return config.mixed and (device.type == 'cuda' or has_matrix_units())


T = TypeVar('T')


def drawn(make: Callable[[int], T], start: int, workers: int) -> Iterator[T]:
    """Yield make(start), make(start + 1), ... without end; `workers` threads work ahead, 0 makes each when asked for."""
    if not workers:
        yield from map(make, itertools.count(start))
        return
    pool = ThreadPoolExecutor(workers)
    try:
        ahead = deque(pool.submit(make, start + k) for k in range(2 * workers))
        for step in itertools.count(start + len(ahead)):
            ready = ahead.popleft()
            ahead.append(pool.submit(make, step))
            yield ready.result()
    finally:
        pool.shutdown(cancel_futures=True)


def learning_rate(config: RunConfig, step: int) -> float:
    """Rise over the warm-up, then fall along a cosine to a twentieth."""
    if step < config.warm_up:
        return config.rate * (step + 1) / config.warm_up
    share = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return config.rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def run_stage(
    *, model: nn.Module, step_module: nn.Module, parameters: list[nn.Parameter], shared: list[nn.Parameter],
    example: Callable[[int], tuple], check: Callable[[nn.Module], tuple[dict[str, float], dict[str, np.ndarray]]],
    config: RunConfig, full_config, out: Path, world: World, progress: Callable[[int, dict[str, float]], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Train; goes on where `out` was left. Returns the figures of the last check; `model` then holds the averaged weights.

    Args:
        model: what is saved and averaged.
        step_module: forward(*example) gives a result with `loss` and `terms`.
        parameters: what is trained.
        shared: those of them that get the higher rate.
        example: gives the example of a step.
        check: figures and pictures (uint8 [H, W, 3]) of the averaged model.
        config: how long, how fast.
        full_config: dataclass kept in the checkpoint.
        out: folder of checkpoint, TensorBoard files.
        world: of `joined_world`.
        progress: called now and then with the step and the latest terms.
        should_stop: asked after each step; True saves and returns.

    Raises:
        DatasetError: the folder's checkpoint belongs to another model, or the loss is no longer a number.
    """
    torch.manual_seed(config.seed + 1000 * world.rank)
    out.mkdir(parents=True, exist_ok=True)
    rest = [p for p in parameters if all(p is not s for s in shared)]
    groups = [{'params': rest, 'factor': 1.0}, {'params': shared, 'factor': config.bias_rate}]
    optimiser = torch.optim.Adam([g for g in groups if g['params']], betas=(0.9, 0.99))
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    start, path = 0, out / CHECKPOINT
    if path.is_file():
        start = load_state(path, model=model, average=average, optimiser=optimiser)
    writer = _writer(out) if world.first else None
    stepper = nn.parallel.DistributedDataParallel(step_module, find_unused_parameters=True) if world.size > 1 else step_module
    figures: dict[str, float] = {}
    step = start
    for step, arguments in zip(range(start, config.steps), drawn(example, start, config.workers), strict=False):
        for group in optimiser.param_groups:
            group['lr'] = learning_rate(config, step) * group['factor']
        result = stepper(*arguments)
        if not torch.isfinite(result.loss):
            raise DatasetError(f'step {step}: the loss is {float(result.loss.detach())}: lower the learning rate; '
                               f'the checkpoint in {out} is from before')
        optimiser.zero_grad(set_to_none=True)
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()
        _follow(average, model, min(config.average, (1 + step) / (10 + step)))
        done, last = step + 1, step + 1 == config.steps or should_stop()
        if world.first and (done % config.log_every == 0 or last):
            terms = {k: float(v) for k, v in result.terms.items()} | {'loss': float(result.loss.detach())}
            progress(done, terms)
            for name, value in terms.items():
                writer.add_scalar(f'train/{name}', value, done)
        if world.first and (done % config.check_every == 0 or last):
            figures = _checked(model, average, check, writer, done)
        if world.first and (done % config.save_every == 0 or last):
            save_state(path, model=model, average=average, optimiser=optimiser, step=done, config=full_config, notes=figures)
        if last:
            break
    if writer:
        writer.close()
    if world.size > 1:
        torch.distributed.barrier()
    model.load_state_dict(average)  # what the figures are of
    return figures | {'steps': step + 1}


def _writer(out: Path):
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / 'tensorboard'))


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: nn.Module, keep: float) -> None:
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - keep)
        else:
            average[key].copy_(value)


def _checked(model: nn.Module, average: dict[str, Tensor], check, writer, step: int) -> dict[str, float]:
    """Figures of the averaged weights; the model's own come back afterwards."""
    own = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(average)
    try:
        figures, pictures = check(model)
    finally:
        model.load_state_dict(own)
    for name, value in figures.items():
        writer.add_scalar(f'check/{name}', value, step)
    for name, picture in pictures.items():
        writer.add_image(name, picture, step, dataformats='HWC')
    return figures

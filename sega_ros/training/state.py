"""Checkpoints: weights, their running average, the optimiser and the step, in one safetensors file that runs no code."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sega_ros.errors import DatasetError
from sega_ros.io.tensors import load_tensors, save_tensors

FORMAT = 1
MAX_BYTES = 1 << 30


def save_state(
    path: Path | str, *, model: nn.Module, average: dict[str, Tensor], optimiser: torch.optim.Optimizer, step: int, config,
    notes: dict,
) -> None:
    """Write everything that a run needs to go on; `config` is a dataclass, `notes` JSON-able figures."""
    tensors = {f'model/{k}': v.detach().cpu().numpy() for k, v in model.state_dict().items()}
    tensors |= {f'average/{k}': v.cpu().numpy() for k, v in average.items()}
    for index, values in optimiser.state_dict()['state'].items():
        tensors |= {f'optimiser/{index}/{k}': np.asarray(v.cpu()) for k, v in values.items()}
    save_tensors(path, tensors, {'format': FORMAT, 'step': step, 'config': asdict(config), 'notes': notes,
                                 'rng': torch.get_rng_state().numpy().tobytes().hex()})


def load_state(path: Path | str, *, model: nn.Module, average: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> int:
    """Read what `save_state` wrote into `model`, `average` and `optimiser`; returns the step.

    Raises:
        DatasetError: the checkpoint belongs to a model of other sizes.
    """
    tensors, metadata = load_tensors(path, MAX_BYTES)
    weights = _part(tensors, 'model/')
    wrong = [k for k, v in model.state_dict().items() if k not in weights or weights[k].shape != v.shape]
    if wrong:
        raise DatasetError(f'{path}: checkpoint of another model (for one, {wrong[0]} differs): use its configuration, '
                           'or another output folder')
    model.load_state_dict(weights)
    for key, value in _part(tensors, 'average/').items():
        average[key].copy_(value)
    state = optimiser.state_dict()
    for key, value in _part(tensors, 'optimiser/').items():
        index, name = key.split('/', 1)
        state['state'].setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(state)
    torch.set_rng_state(torch.from_numpy(np.frombuffer(bytes.fromhex(metadata['rng']), np.uint8).copy()))
    return int(metadata['step'])


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): torch.from_numpy(np.array(v)) for k, v in tensors.items() if k.startswith(prefix)}

"""The shipped weights: one safetensors file with the networks' sizes beside it in the metadata; loading runs no code."""

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from sega_ros.errors import ModelError
from sega_ros.head.model import HeadModel
from sega_ros.io.tensors import load_metadata, load_tensors, save_tensors
from sega_ros.models.deformation_vae import DeformationConfig
from sega_ros.models.dynamic_decoder import DynamicConfig
from sega_ros.models.identity_encoder import IdentityConfig
from sega_ros.models.sega import Sega, SegaConfig
from sega_ros.models.static_decoder import StaticConfig

FORMAT = 1
SHIPPED = Path(__file__).with_name('sega.safetensors')
MAX_BYTES = 64 * 1024 * 1024
_PARTS = {'identity': IdentityConfig, 'deformation': DeformationConfig, 'static': StaticConfig, 'dynamic': DynamicConfig}


def save_weights(path: Path | str, model: Sega, notes: dict, *, head: HeadModel) -> None:
    """Write a model, trained on `head`'s UV layout, in half precision, with `notes` (JSON-able: data, seeds, steps, figures)."""
    tensors = {k: v.detach().cpu().numpy().astype(np.float16) for k, v in model.state_dict().items()}
    save_tensors(path, tensors, {'format': FORMAT, 'config': asdict(model.config), 'notes': notes,
                                 'head_model': head.name, 'head_model_version': head.version})


def config_from_dict(values: dict) -> SegaConfig:
    """Inverse of `dataclasses.asdict`.

    Raises:
        ModelError: unknown or missing entries.
    """
    try:
        return SegaConfig(**{k: make(**values[k]) for k, make in _PARTS.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f'networks: their sizes are not understood ({error}): use a file of this version') from error


@lru_cache(maxsize=2)
def load_weights(path: Path = SHIPPED) -> Sega:
    """Load a model, ready to run and frozen; shared by all callers, so copy it before you change it.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: it holds something else.
    """
    tensors, metadata = load_tensors(path, MAX_BYTES)
    if metadata.get('format') != FORMAT:
        raise ModelError(f'{path}: weights of format {metadata.get("format")!r}, wanted {FORMAT}: take those of this version')
    model = Sega(config_from_dict(metadata.get('config', {})))
    for name, value in model.state_dict().items():
        if name not in tensors or tensors[name].shape != tuple(value.shape):
            raise ModelError(f'{path}: {name} is missing or has another size')
    model.load_state_dict({k: torch.from_numpy(np.array(v, np.float32)) for k, v in tensors.items()})
    return model.eval().requires_grad_(False)


def load_prior(head: HeadModel, path: Path = SHIPPED) -> Sega | None:
    """Load the weights if they were trained on `head`'s UV layout; None if not, or if this installation has none.

    Raises:
        ModelError, AvatarDamagedError: the file is damaged or of another version.
    """
    if not path.is_file():
        return None
    metadata = load_metadata(path, MAX_BYTES)
    if (metadata.get('head_model'), metadata.get('head_model_version')) != (head.name, head.version):
        return None
    return load_weights(path)

"""State dicts of other projects' networks, from a user's file: tensors by name, and nothing in the file is run."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from sega_ros.errors import ModelError, StorageError
from sega_ros.io.files import read_file

MAX_BYTES = 1 << 30  # torchvision's VGG-16 has 553 MB, insightface's r100 261 MB
_SHOWN = 3  # names in a message


def load_state(path: Path | str, *, wanted: str) -> dict[str, Tensor]:
    """Read tensors by name from `.safetensors`, or from what `torch.save` wrote (`.pth`, `.pt`: tensors only).

    Args:
        path: the file; not a link, at most `MAX_BYTES`.
        wanted: what it should be, for the messages.

    Raises:
        ModelError: no such file, unreadable, damaged, or anything else than tensors by name.
    """
    path = Path(path)
    if path.suffix not in ('.safetensors', '.pth', '.pt'):
        raise ModelError(f'{path}: a file of kind {path.suffix!r}: wanted {wanted}, as .safetensors or .pth')
    try:
        data = read_file(path, limit=MAX_BYTES)
    except FileNotFoundError as error:
        raise ModelError(f'{path}: no such file: wanted {wanted}') from error
    except StorageError as error:
        raise ModelError(f'{error}: wanted {wanted}') from error
    try:
        state = _parse(data, pickled=path.suffix != '.safetensors')
    except Exception as error:  # a damaged pickle fails in any way, and PyTorch's own text would say how to run it all the same
        raise ModelError(f'{path}: refused, and nothing in it was run: it is damaged, or holds more than tensors by name; '
                         f'wanted {wanted}, as .safetensors or from torch.save(network.state_dict(), file)') from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and _is_plain(v) for k, v in state.items()):
        found = f'entries {_some(state)}' if isinstance(state, dict) else type(state).__name__
        raise ModelError(f'{path}: found {found}: wanted tensors by name, {wanted}')
    return dict(state)


def take_weights(network: nn.Module, state: dict[str, Tensor], *, path: Path | str, wanted: str) -> None:
    """Copy `state`'s values into `network`, which is frozen then; entries that the network does not have are left out.

    Raises:
        ModelError: an entry is missing, has another shape, or is not finite; all of them are counted, some named.
    """
    # Counters of training steps: older files have none.
    own = {k: v.shape for k, v in network.state_dict().items() if not k.endswith('num_batches_tracked')}
    missing = [k for k in own if k not in state]
    shapes = [f'{k} {list(state[k].shape)} instead of {list(s)}' for k, s in own.items() if k in state and state[k].shape != s]
    problems = [f'{len(p)} {what} ({_some(p)})' for p, what in ((missing, 'missing'), (shapes, 'of another shape')) if p]
    if problems:
        raise ModelError(f'{path}: found {len(state)} tensors ({_some(state)}), {" and ".join(problems)}: wanted {wanted}')
    broken = [k for k in own if not torch.isfinite(state[k]).all()]
    if broken:
        raise ModelError(f'{path}: not finite: {_some(broken)}: wanted {wanted}; get the file again')
    network.load_state_dict({k: state[k] for k in own}, strict=False)
    network.eval().requires_grad_(False)


def _parse(data: bytes, *, pickled: bool):
    if pickled:
        return torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    from safetensors.torch import load

    return load(data)


def _is_plain(value) -> bool:
    """Whether it is a dense tensor that holds every number it claims to: a pickle may repeat one of them without end."""
    return (isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == 'cpu' and not value.is_quantized
            and value.untyped_storage().nbytes() >= value.numel() * value.element_size())


def _some(names) -> str:
    names = [str(n)[:60] for n in names]
    return ', '.join(names[:_SHOWN]) + (', ...' if len(names) > _SHOWN else '') if names else 'none'

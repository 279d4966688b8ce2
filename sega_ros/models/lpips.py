"""LPIPS on VGG-16 (Zhang et al. 2018), frozen; the backbone's weights are the user's, the linear ones come with torchmetrics.

Names of the backbone's weights are torchvision's, as in `models.vgg`; those of the linear layers are torchmetrics'.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sega_ros.errors import ModelError
from sega_ros.models.state_dict import load_state, take_weights
from sega_ros.models.vgg import WANTED

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each slice; all but the first start with a pooling
_MEAN, _STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1]: the authors' own scaling
_TINY = 1e-10


class Lpips(nn.Module):
    """Two pictures to a distance."""

    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(_STD).view(3, 1, 1), persistent=False)
        layers: list[nn.Module] = []
        self._ends, inputs = [], 3
        for k, (width, count) in enumerate(zip(_WIDTHS, _CONVOLUTIONS, strict=True)):
            layers += [nn.MaxPool2d(2)] if k else []
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=False)]
                inputs = width
            self._ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.linear = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in _WIDTHS)

    def forward(self, images: Tensor, truths: Tensor) -> Tensor:
        """Distances [B] of `images` [B, 3, h, w] from `truths`, RGB in [0, 1]."""
        total = images.new_zeros(len(images))
        for weight, a, b in zip(self.linear, self._look(images), self._look(truths), strict=True):
            total = total + ((a - b).square() * weight.view(1, -1, 1, 1)).sum(1).mean((1, 2))
        return total

    def _look(self, images: Tensor) -> list[Tensor]:
        """Unit feature vectors after the last ReLU of each slice: [B, width, h / 2^k, w / 2^k]."""
        x, out = (2 * images - 1 - self.mean) / self.std, []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self._ends:
                out.append(x / (_TINY + x.square().sum(1, keepdim=True).sqrt()))
        return out

    def distance(self, image: np.ndarray, truth: np.ndarray, _landmarks: np.ndarray) -> float:
        """Distance of two uint8 RGB pictures [H, W, 3] of one size."""
        a, b = (torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float() / 255 for x in (image, truth))
        with torch.inference_mode():
            return float(self(a, b))


def load_lpips(backbone: Path | str) -> Lpips:
    """Load the network, frozen, from a user's state dict of VGG-16 (`.safetensors` or `.pth`).

    Raises:
        ModelError: no such file, or it holds something else; nothing in it is run.
    """
    import torchmetrics

    linear = Path(torchmetrics.__file__).parent / 'functional' / 'image' / 'lpips_models' / 'vgg.pth'
    layers = load_state(linear, wanted="torchmetrics' linear layers of LPIPS")
    try:
        weights = {f'linear.{k}': layers[f'lin{k}.model.1.weight'].flatten() for k in range(len(_WIDTHS))}
    except KeyError as e:
        raise ModelError(f'{linear}: has no {e}; this version of torchmetrics names its layers otherwise') from e
    network = Lpips()
    take_weights(network, load_state(backbone, wanted=WANTED) | weights, path=backbone, wanted=WANTED)
    return network

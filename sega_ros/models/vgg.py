"""VGG-16 up to relu4_3 (Simonyan and Zisserman 2015), frozen, for the perceptual loss; its weights are the user's.

Names of the weights are torchvision's (`vgg16().state_dict()`, https://github.com/pytorch/vision/blob/1c1feb57a2522dfccdac4a7984897818ee84cbd9/torchvision/models/vgg.py).
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from sega_ros.models.state_dict import load_state, take_weights

WANTED = "torchvision's state dict of vgg16, trained on ImageNet (features.0.weight [64, 3, 3, 3], ...)"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0, 1]
_PLACES = (3, 8, 15, 22)  # relu1_2, relu2_2, relu3_3, relu4_3


class Vgg16(nn.Module):
    """Picture to feature maps."""

    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.features = nn.Sequential(
            *_layer(3, 64), *_layer(64, 64), nn.MaxPool2d(2),
            *_layer(64, 128), *_layer(128, 128), nn.MaxPool2d(2),
            *_layer(128, 256), *_layer(256, 256), *_layer(256, 256), nn.MaxPool2d(2),
            *_layer(256, 512), *_layer(512, 512), *_layer(512, 512))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of `images` [B, 3, h, w], RGB in [0, 1], after relu1_2, 2_2, 3_3 and 4_3.

        They are [B, 64, h, w], [B, 128, h / 2, w / 2], [B, 256, h / 4, w / 4] and [B, 512, h / 8, w / 8]; h and w are 8 or more.
        """
        x, out = (images - self.mean) / self.std, []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in _PLACES:
                out.append(x)
        return out


def load_vgg(path: Path | str) -> Vgg16:
    """Load the network, frozen, from a user's state dict (`.safetensors` or `.pth`); the classifier's entries are not needed.

    Raises:
        ModelError: no such file, or it holds something else; nothing in it is run.
    """
    network = Vgg16()
    take_weights(network, load_state(path, wanted=WANTED), path=path, wanted=WANTED)
    return network


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)

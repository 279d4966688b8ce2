"""ArcFace (Deng et al. 2019) on an IResNet, frozen, for the identity loss; its weights are the user's.

Names and order of the layers are those of insightface's training code, whose `backbone.pth` is read here:
https://github.com/deepinsight/insightface/blob/04a433f154de30ff8604d78f73f2b6af5822f71c/recognition/arcface_torch/backbones/iresnet.py
"""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.errors import ModelError
from sega_ros.models.state_dict import load_state, take_weights
from sega_ros.types import check_shape

SIZE = 112  # pixels, square
DEPTHS = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34, (3, 4, 14, 3): 50, (3, 13, 30, 3): 100}  # by blocks per layer
WANTED = "the state dict of an r18, r34, r50 or r100 of insightface's arcface_torch (backbone.pth: conv1.weight, bn1.weight, ...)"
# insightface turns, scales and moves a face until eyes, nose and corners of the mouth lie at (38.3, 51.7), (73.5, 51.5),
# (56.0, 71.7), (41.5, 92.4), (70.7, 92.2) of its 112 px. In windows of `identity_square` these points of frontal faces fit best
# when the window is 182 px wide and the picture starts at (35, 39) in it: 2 px off over shapes of the open head, 8 px in a real
# portrait. At 15 and 30 degrees of yaw they lie 10 and 17 px aside, as the window follows the face's outline; rendering and
# truth are framed alike all the same, so their distance still means something.
_WINDOW = 182
_LEFT, _TOP = 35, 39


@dataclass(frozen=True)
class ArcFaceConfig:
    """Sizes of the network; the defaults are r50's."""

    blocks: tuple[int, ...] = (3, 4, 14, 3)
    widths: tuple[int, ...] = (64, 64, 128, 256, 512)  # of the first convolution, of the four layers
    embedding: int = 512


class Block(nn.Module):
    """Two convolutions between batch normalisations, beside a short cut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + (x if self.downsample is None else self.downsample(x))


class ArcFace(nn.Module):
    """Picture of a face to a unit vector that tells people apart."""

    def __init__(self, config: ArcFaceConfig):
        super().__init__()
        stem, *widths = config.widths
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.prelu = nn.PReLU(stem)
        self.layer1 = _layer(config.blocks[0], stem, widths[0])  # 56
        self.layer2 = _layer(config.blocks[1], widths[0], widths[1])  # 28
        self.layer3 = _layer(config.blocks[2], widths[1], widths[2])  # 14
        self.layer4 = _layer(config.blocks[3], widths[2], widths[3])  # 7
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(7 * 7 * widths[3], config.embedding)
        self.features = nn.BatchNorm1d(config.embedding)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors [B, embedding] of `images` [B, 3, 112, 112], RGB in [0, 1], framed as `face_crop` does.

        Raises:
            RequestError: pictures of another size.
        """
        check_shape('images', images, (None, 3, SIZE, SIZE))
        x = self.prelu(self.bn1(self.conv1(2 * images - 1)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return F.normalize(self.features(self.fc(self.bn2(x).flatten(1))), dim=1)


def face_crop(windows: Tensor) -> Tensor:
    """Cut the face [B, 3, 112, 112] out of `windows` [B, 3, h, h] that lie around it as `identity_square` says."""
    resized = F.interpolate(windows, (_WINDOW, _WINDOW), mode='bilinear', align_corners=False, antialias=True)
    return resized[..., _TOP:_TOP + SIZE, _LEFT:_LEFT + SIZE]


def load_arcface(path: Path | str) -> ArcFace:
    """Load the network, frozen, from a user's state dict (`.safetensors` or `.pth`), which says how deep and wide it is.

    Raises:
        ModelError: no such file, or it holds something else; nothing in it is run.
    """
    state = load_state(path, wanted=WANTED)
    network = ArcFace(_sizes(state, path))
    take_weights(network, state, path=path, wanted=WANTED)
    return network


def _sizes(state: dict[str, Tensor], path: Path | str) -> ArcFaceConfig:
    """Sizes that a state dict was written with."""
    blocks = tuple(sum(re.fullmatch(rf'layer{n}\.\d+\.conv1\.weight', k) is not None for k in state) for n in (1, 2, 3, 4))
    if blocks not in DEPTHS:
        raise ModelError(f'{path}: found {len(state)} tensors ({", ".join(list(state)[:3])}, ...), {list(blocks)} blocks in its '
                         f'layers: wanted {WANTED}')
    names = ('conv1.weight', *(f'layer{n}.0.conv1.weight' for n in (1, 2, 3, 4)), 'fc.weight')
    for name in names:
        if name not in state or not state[name].dim():
            raise ModelError(f'{path}: found no {name}: wanted {WANTED}')
    *widths, embedding = (state[n].shape[0] for n in names)
    return ArcFaceConfig(blocks, tuple(widths), embedding)


def _layer(count: int, inputs: int, outputs: int) -> nn.Sequential:
    """`count` blocks, of which the first halves the size."""
    return nn.Sequential(Block(inputs, outputs, stride=2), *(Block(outputs, outputs, stride=1) for _ in range(count - 1)))

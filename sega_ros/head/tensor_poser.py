"""`Poser` on a torch device: the host turns a frame into a few numbers, the device does what is done per vertex."""

import torch
from torch import Tensor

from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser


class TensorPoser:
    """Poses one identity on a device. Holds constants only, and no shape depends on data: a CUDA graph can record it."""

    def __init__(self, head: HeadModel, poser: Poser, device: torch.device):
        """Take the identity of `poser`."""
        self.rest = torch.from_numpy(poser.rest).to(device)  # [V, 3]
        self._directions = torch.from_numpy(poser.directions()).flatten(0, 1).to(device)  # [3 V, C]
        self._weights = torch.from_numpy(head.weights).to(device)  # [V, 5]

    def __call__(self, coefficients: Tensor, joints: Tensor) -> Tensor:
        """Vertices [V, 3] (metres, head frame) of `Poser.numbers`: coefficients [C] and joints [5, 3, 4]."""
        moved = self.rest + (self._directions @ coefficients).unflatten(0, (-1, 3))
        transforms = (self._weights @ joints.flatten(1)).unflatten(1, (3, 4))
        return (transforms[..., :3] * moved[:, None]).sum(-1) + transforms[..., 3]

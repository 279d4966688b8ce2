"""Texels that the networks move apart: how rough that makes the surface, and wider ones that keep it closed."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sega_ros.models.uv import UvLayout
from sega_ros.types import GaussianMap

# Neighbours may drift apart by so much before they have to be wider, as a logarithm; nothing gets wider than by half.
_SLACK, _WIDEST = 0.1, 0.5


def closed(change: GaussianMap, start: np.ndarray, layout: UvLayout) -> GaussianMap:
    """Changes of texels [T, ...] with sizes that close what their offsets tear: else dark lines show between rows.

    Offsets come on top of `start` [T, 3] (metres, in the surface's frame).

    Distances are measured on the mean identity, whose texels are as far apart as anybody's to within a tenth; sizes
    follow the person's own surface when they are bound.
    """
    with torch.no_grad():
        wider = _wider(torch.from_numpy(start).to(change.offset) + change.offset, change.log_scale, layout)
    return replace(change, log_scale=change.log_scale + wider)


def roughness(offset: Tensor, layout: UvLayout) -> Tensor:
    """How much offsets [T, 3] (metres, in the surface's frame) tear or fold a smooth surface; a scalar.

    Mean square of what neighbours' offsets differ by beyond `_SLACK` of their distance. Pictures for training show texels about
    as large as pixels, where ripples from one to the next do no harm; a display shows them.
    """
    parts = []
    for pair, apart in layout.joined:
        one, other = offset[pair.to(offset.device)]
        bent = ((one - other).square().sum(-1) + 1e-12).sqrt() / apart.to(offset)
        parts.append((bent - _SLACK).clamp_min(0).square())
    return torch.cat(parts).mean()


def _wider(offset: Tensor, growth: Tensor, layout: UvLayout) -> Tensor:
    """How much wider texels have to be, [T, 3] logarithms, at `offset` [T, 3] (metres) and with `growth` [T, 3] already."""
    positions, rotmats = (torch.from_numpy(getattr(layout.mean_frames, k)).to(offset) for k in ('positions', 'rotmats'))
    places = positions + (rotmats @ offset[..., None])[..., 0]
    wider = torch.zeros_like(growth)
    for axis, joined in enumerate(layout.joined):
        pair, before = (a.to(offset.device) for a in joined)
        apart = ((places[pair[0]] - places[pair[1]]).norm(dim=-1).clamp_min(1e-9) / before).log()
        for k in pair:  # no texel is twice in either row
            wider[k, axis] = torch.maximum(wider[k, axis], apart - _SLACK - growth[k, axis])
    return wider.clamp(0, _WIDEST)


"""Level of detail at run time: fewer and larger splats of the same avatar, without a jump from one number to the next.

Every splat has a threshold. Below it the splat is left out; a little above it is still faint. The thresholds follow the order
of bits in a Morton code turned around, so that what is left is spread evenly at every number of splats, as in ordered dithering;
what is left grows so as to cover the same area, and takes the mean colour of its neighbourhood.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

_BAND = 0.1  # share of the splats in use that are fading
LEAST = 5000  # splats that `DetailControl` leaves in any case
# A step changes 3 % of the splats every third frame: from all to the fewest in some seconds. A frame may take a seventh less
# than wanted before splats come back, or their number would swing.
_STEP, _STEP_FRAMES, _SLACK, _SMOOTHING = 1.03, 3, 0.86, 0.1
_MEANS = (1, 4, 16)  # neighbours, itself included, whose colours are averaged for areas 1, 4 and 16 times as large


@dataclass(frozen=True)
class Kept:
    """The splats of one level, and what changes in them."""

    index: np.ndarray  # [K] int64, ascending
    opacity: np.ndarray  # [K] factor in (0, 1]
    growth: np.ndarray  # [K] factor of the scales, at least 1
    blur: np.ndarray  # [K] 0 to 2: between the means of `local_means`

    def colors(self, means: np.ndarray) -> np.ndarray:
        """Colours [K, 3] out of `local_means` [3, N, 3]."""
        low = np.minimum(self.blur.astype(np.int64), len(_MEANS) - 2)
        share = (self.blur - low)[:, None]
        return ((1 - share) * means[low, self.index] + share * means[low + 1, self.index]).astype(np.float32)


class Thinning:
    """The order in which splats give way."""

    def __init__(self, importance: np.ndarray):
        """Take the importance [N], at least 1, of splats in Morton order: one of 3 stays three times as long as one of 1."""
        bits = max(1, int(len(importance) - 1).bit_length())
        place = np.arange(len(importance))
        turned = sum(((place >> k) & 1) << (bits - 1 - k) for k in range(bits)) + np.zeros(len(place))
        self._importance = np.asarray(importance, np.float64)
        self.thresholds = turned / (1 << bits) / self._importance  # [N] in [0, 1)

    def kept(self, share: float) -> Kept:
        """What is drawn at a `share` of the least important splats; 1 keeps everything as it is."""
        opacity = np.clip((share * (1 + _BAND) - self.thresholds) / (share * _BAND), 0, 1)
        index = np.flatnonzero(opacity > 0)
        dense = np.minimum(1, share * self._importance[index])
        return Kept(index, opacity[index].astype(np.float32), (dense**-0.5).astype(np.float32),
                    np.minimum(-np.log2(dense) / 2, len(_MEANS) - 1).astype(np.float32))


def grown(scales: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """Scales [3, K] of splats that cover `growth` [K] squared times their area: first they get rounder, then larger.

    A long splat that only grew would stick out of the outline like a spike.
    """
    order = np.argsort(scales, 0)
    thin, short, long = np.take_along_axis(scales, order, 0)
    rounder = np.minimum(growth**2, long / short)
    larger = np.sqrt(growth**2 / rounder)
    out = np.empty_like(scales)
    np.put_along_axis(out, order, np.stack([thin, short * rounder * larger, long * larger]), 0)
    return out


def share_of(count: int, *thinnings: Thinning) -> float:
    """Share at which about `count` splats of all `thinnings` are drawn, faint ones counted by half; at least one in 64."""
    thresholds = np.sort(np.concatenate([t.thresholds for t in thinnings]))
    if count >= len(thresholds):
        return 1.0
    return float(np.clip(thresholds[max(0, count)] / (1 + _BAND / 2), 1 / 64, 1))


def local_means(colors: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Means [3, N, 3] of the colours [N, 3] of the nearest 1, 4 and 16 `points` [N, D]."""
    if len(points) < _MEANS[-1]:
        return np.broadcast_to(colors, (len(_MEANS), *colors.shape))
    near = cKDTree(points).query(points, _MEANS[-1])[1]
    return np.stack([colors[near[:, :k]].mean(1) for k in _MEANS])


class DetailControl:
    """Finds the number of splats at which a frame takes a given time; it moves in steps that nobody sees."""

    def __init__(self, most: int):
        """Start with `most` splats."""
        self.count, self._most = most, most
        self._smoothed, self._frames = float('nan'), 0

    def update(self, seconds: float, target: float) -> int:
        """Take in what one frame took and return the number of splats for the next; `target` in seconds, 0 for all splats."""
        if target <= 0:
            self.count, self._smoothed = self._most, float('nan')
            return self.count
        first = np.isnan(self._smoothed)
        self._smoothed = seconds if first else self._smoothed + _SMOOTHING * (seconds - self._smoothed)
        self._frames += 1
        if self._frames % _STEP_FRAMES == 0:
            if self._smoothed > target:
                self.count = max(LEAST, round(self.count / _STEP)) if self.count > LEAST else self.count
            elif self._smoothed < _SLACK * target:
                self.count = min(self._most, round(self.count * _STEP))
        return self.count

"""How sure a mean of correlated values is: resampling blocks of consecutive ones."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

MIN_BLOCKS = 5  # fewer resampled blocks say nothing about how blocks vary


@dataclass(frozen=True)
class Interval:
    """A mean and what it may be."""

    mean: float
    low: float  # NaN: too few values to tell
    high: float


def block_interval(values: np.ndarray, *, block: int, resamples: int, confidence: float, rng: np.random.Generator) -> Interval:
    """Confidence interval of the mean of consecutive `values` [K] by a circular block bootstrap with blocks of `block` values.

    The circular form of the moving-block bootstrap (Politis and Romano 1992) draws every value equally often. Percentiles are
    those of Hesterberg's expanded interval (2015, "What teachers should know about the bootstrap"), as plain ones are too narrow
    for few blocks. The interval has NaN bounds under five blocks, and no width where all values are equal.
    """
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    blocks = len(values) / block
    if blocks < MIN_BLOCKS:
        return Interval(mean, math.nan, math.nan)
    means = _block_means(values, block, resamples, rng)
    tail = stats.norm.cdf(-math.sqrt(blocks / (blocks - 1)) * stats.t.ppf((1 + confidence) / 2, blocks - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def block_length(values: np.ndarray) -> int:
    """How many consecutive `values` [K] a circular block should have: the longer, the longer they stay alike.

    Politis and White (2004), "Automatic block-length selection for the dependent bootstrap", as corrected by Patton, Politis and
    White (2009); at most 3 sqrt(K) as there.
    """
    count = len(values)
    longest = math.ceil(3 * math.sqrt(count))
    lags = np.arange(min(longest, count - 1) + 1)
    centred = values - values.mean()
    covariance = np.array([centred[:count - k] @ centred[k:] for k in lags]) / count
    if covariance[0] <= 0:
        return 1
    # The first lag after which several in a row are no larger than chance makes them.
    small = np.abs(covariance / covariance[0]) < 2 * math.sqrt(math.log10(count) / count)
    row = max(5, math.ceil(math.sqrt(math.log10(count))))
    quiet = next((k for k in lags if small[k + 1:k + 1 + row].all()), lags[-1])
    weight = np.clip(2 - 2 * lags / max(2 * quiet, 2), 0, 1)
    spectrum = covariance[0] + 2 * weight[1:] @ covariance[1:]
    slope = 2 * (weight * lags) @ covariance
    if spectrum <= 0:
        return longest
    return max(1, min(longest, math.ceil((1.5 * (slope / spectrum) ** 2 * count) ** (1 / 3))))


def _block_means(values: np.ndarray, block: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means [resamples] of as many values as there are, drawn as blocks; the last block is cut to fit."""
    count = len(values)
    whole, rest = divmod(count, block)
    sums = _run_sums(values, block)[rng.integers(0, count, (resamples, whole))].sum(1)
    if rest:
        sums += _run_sums(values, rest)[rng.integers(0, count, resamples)]
    return sums / count


def _run_sums(values: np.ndarray, length: int) -> np.ndarray:
    """Sum [K] of `length` values from every place on, going round at the end."""
    total = np.concatenate([[0.0], np.cumsum(np.r_[values, values[:length]])])
    return total[length:length + len(values)] - total[:len(values)]

"""Two runs of one recording: which is better, figure by figure, and how sure that is."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sega_ros.config import option
from sega_ros.errors import RequestError
from sega_ros.evaluation.replay.bootstrap import block_interval, block_length
from sega_ros.evaluation.replay.finished import FinishedRun, typical_step
from sega_ros.evaluation.replay.rows import FIGURES

BETTER, WORSE, SAME, UNSURE = 'better', 'worse', 'no difference', 'too short to tell'
_SAME_WINDOW = 1e-3  # share by which the windows' sides may differ: both follow the same frames


@dataclass(frozen=True)
class CompareConfig:
    """How runs are compared."""

    block: float = option(1.0, 'frames resampled together last at least so long; longer where differences stay alike for longer',
                          unit='s', bounds=(0.001, 60.0))
    resamples: int = option(10_000, 'of the bootstrap', bounds=(2000, 1_000_000))
    confidence: float = option(0.95, 'of the intervals', bounds=(0.5, 0.999))
    seed: int = option(0, 'of the bootstrap', bounds=(0, 2**31 - 1))


@dataclass(frozen=True)
class Difference:
    """One figure over the frames of which both runs know it."""

    name: str
    meaning: str
    unit: str
    better: str  # 'more' or 'less'
    pairs: int  # frames
    mean_a: float
    mean_b: float
    difference: float  # b - a
    low: float  # confidence interval of the difference; NaN: too few frames
    high: float
    block: int  # frames that were resampled together
    verdict: str  # on b: better, worse, no difference, too short to tell


@dataclass(frozen=True)
class Comparison:
    """What two runs come to, beside each other."""

    a: str  # names of the folders
    b: str
    paired: int  # frames that both have, scored in both
    block_frames: int  # the shortest block
    config: CompareConfig
    differences: tuple[Difference, ...]
    series: Mapping[str, np.ndarray]  # difference b - a per paired frame [K], by figure; NaN is unknown
    seconds: np.ndarray  # [K] when those frames were taken
    period: float  # s from one of them to the next
    mismatches: tuple[str, ...]  # why these runs should not be compared; empty unless forced
    left_out: Mapping[str, str]  # figures without a pair, and why


def compare_runs(a: FinishedRun, b: FinishedRun, config: CompareConfig | None = None, *, force: bool = False) -> Comparison:
    """Compare run `b` with run `a`, pair by pair over the frames that both scored.

    Raises:
        RequestError: they are not of the same recording, protocol, view, masks and window (unless `force`), or share no frame.
    """
    config = config or CompareConfig()
    mismatches = find_mismatches(a, b)
    if mismatches and not force:
        raise RequestError(f'{a.folder} and {b.folder} cannot be compared: {"; ".join(mismatches)}; compare runs of the same '
                           'recording and options, or insist with --force')
    rows_a, rows_b = _paired_rows(a, b)
    if not len(rows_a):
        raise RequestError(f'{a.folder} and {b.folder} share no frame that both scored ({a.frames["scored"].sum()} and '
                           f'{b.frames["scored"].sum()} scored); pairs have the same stamp')
    seconds = a.seconds[rows_a]
    period = typical_step(seconds)
    block = max(1, round(config.block / period))
    values_a, values_b = _values(a, rows_a), _values(b, rows_b)
    found = [_compare(_about(name), values_a[name], values_b[name], block, config) for name in values_a]
    return Comparison(
        str(a.folder), str(b.folder), len(rows_a), block, config, tuple(d for d in found if d.pairs),
        {name: values_b[name] - values_a[name] for name in values_a}, seconds, period, tuple(mismatches),
        {d.name: _why(d.name, a, b) for d in found if not d.pairs})


def find_mismatches(a: FinishedRun, b: FinishedRun) -> list[str]:
    """What makes figures of two runs incomparable, in words."""
    found = []
    recordings = [_recording_hash(run) for run in (a, b)]
    if recordings[0] != recordings[1] or None in recordings:
        found.append('the recordings differ (' + ', '.join(
            f'{run.summary["recording"].get("name")}: SHA-256 {(code or "not stated")[:12]}'
            for run, code in zip((a, b), recordings, strict=True)) + ')')
    elif a.summary['recording'].get('topic') != b.summary['recording'].get('topic'):
        found.append(f'the topics differ ({a.summary["recording"].get("topic")}, {b.summary["recording"].get("topic")})')
    for name in ('protocol', 'view', 'masks'):
        if a.summary[name] != b.summary[name]:
            both = ', '.join(_short(run.summary[name]) for run in (a, b))
            found.append(f'{name} {"differ" if name == "masks" else "differs"} ({both})')
    windows = [run.summary['window'] for run in (a, b)]
    sides = [float(w.get('side') or math.nan) for w in windows]
    known = [s for s in sides if math.isfinite(s)]
    if windows[0].get('size') != windows[1].get('size') or len(known) == 1 or (
            len(known) == 2 and abs(sides[0] - sides[1]) > _SAME_WINDOW * max(sides)):
        found.append(f'the windows differ ({", ".join(_short(w) for w in windows)})')
    return found


def _recording_hash(run: FinishedRun) -> str | None:
    name = run.summary['recording'].get('name')
    return next((i.get('sha256') for i in run.summary['inputs'] if i.get('name') == name), None)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return '{' + ', '.join(f'{k}: {v}' for k, v in value.items()) + '}'
    return str(value)


def _paired_rows(a: FinishedRun, b: FinishedRun) -> tuple[np.ndarray, np.ndarray]:
    """Rows of frames with the same stamp, scored in both, in the order of `a`."""
    places = {key: row for row, key in enumerate(_keys(b)) if b.frames['scored'][row]}
    pairs = [(row, places[key]) for row, key in enumerate(_keys(a)) if a.frames['scored'][row] and key in places]
    rows = np.array(pairs, int).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _keys(run: FinishedRun) -> list[tuple[int, int]]:
    """Stamp of every row, and how often it was there before: stamps may repeat in a damaged recording."""
    seen: Counter[int] = Counter()
    keys = []
    for stamp in run.frames['stamp_ns'].tolist():
        keys.append((stamp, seen[stamp]))
        seen[stamp] += 1
    return keys


def _values(run: FinishedRun, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Figures that have a better side [K] each; openings of eyes and mouth count by their distance from the driver's."""
    values = {'lost': run.frames['lost'][rows].astype(float)}
    for f in FIGURES:
        column = run.frames[f.name][rows]
        if f.metadata['better']:
            values[f.name] = column
        elif f'{f.name}_driver' in run.frames:
            values[f.name] = np.abs(column - run.frames[f'{f.name}_driver'][rows])
    return values


def _about(name: str) -> tuple[str, str, str, str]:
    """Name, meaning, unit and better side of a compared figure."""
    if name == 'lost':
        return name, 'share of frames whose picture shows no face', '', 'less'
    about = next(f.metadata for f in FIGURES if f.name == name)
    if about['better']:
        return name, about['meaning'], about['unit'], about['better']
    return name, f"{about['meaning'].split(' (')[0]}: distance from the driver's", about['unit'], 'less'


def _compare(about: tuple[str, str, str, str], a: np.ndarray, b: np.ndarray, shortest: int, config: CompareConfig) -> Difference:
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return Difference(*about, 0, math.nan, math.nan, math.nan, math.nan, math.nan, 0, UNSURE)
    values = b[both] - a[both]
    block = max(shortest, block_length(values))
    # A generator of its own: a figure's interval does not depend on which others there are.
    interval = block_interval(values, block=block, resamples=config.resamples, confidence=config.confidence,
                              rng=np.random.default_rng(config.seed))
    return Difference(*about, int(both.sum()), float(a[both].mean()), float(b[both].mean()), interval.mean, interval.low,
                      interval.high, block, _verdict(interval.low, interval.high, about[-1]))


def _verdict(low: float, high: float, better: str) -> str:
    if math.isnan(low):
        return UNSURE
    if low <= 0 <= high:
        return SAME
    return BETTER if (low > 0) == (better == 'more') else WORSE


def _why(name: str, a: FinishedRun, b: FinishedRun) -> str:
    reasons = {run.summary['missing'].get(name) for run in (a, b)} - {None}
    return '; '.join(sorted(reasons)) or 'no frame has it in both runs'

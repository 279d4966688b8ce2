"""Plots of a report: figures over time with their worst moments as links, and the latencies."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from sega_ros.evaluation.replay.finished import FinishedRun
from sega_ros.evaluation.replay.moments import Panel
from sega_ros.evaluation.replay.svg import COLORS, draw_svg

_COLUMNS = 600  # over a plot's width: longer runs are drawn as their mean with a band from smallest to largest
_BINS = 60
_CUT = 99.5  # percentile at which the histogram of the latencies ends
PERCENTILES = (50, 95, 99)


def time_plot(run: FinishedRun, panel: Panel, marked: Sequence[int]) -> str | None:
    """SVG of a panel, its `marked` rows linked to `#frame-INDEX`; None where the run knows none of its figures."""
    if not any(np.isfinite(run.frames[name]).any() for name, _ in panel.lines):
        return None

    def draw(axes: Axes) -> None:
        kept = _measured(run)
        _shade(axes, run, kept)
        for (name, label), color in zip(panel.lines, ('one', 'two'), strict=False):
            _line(axes, run.seconds[kept], run.frames[name][kept], label, COLORS[color])
        _marks(axes, run, panel.column, marked)
        axes.set_xlabel('seconds', fontsize=9, color=COLORS['ink'], labelpad=1)
        axes.margins(x=0.01)
        if len(panel.lines) > 1:
            axes.legend(fontsize=9, frameon=False, labelcolor=COLORS['ink'], loc='lower right', bbox_to_anchor=(1, 1), ncols=2,
                        borderpad=0, borderaxespad=0.1)

    return draw_svg(panel.column, draw)


def is_condensed(run: FinishedRun) -> bool:
    """Whether plots show means and bands instead of every frame."""
    return int(_measured(run).sum()) > _COLUMNS


def grey_means(run: FinishedRun) -> str:
    """What `time_plot` shades grey."""
    return 'not scored' if run.frames['scored'].any() else 'no face in the driving frame'


def _measured(run: FinishedRun) -> np.ndarray:
    """Rows to draw [K] bool: all of them, or those that were measured, where others were left out on purpose."""
    if int(run.summary['config'].get('score_every', 1)) <= 1:
        return np.ones(len(run.seconds), bool)
    known = [np.isfinite(v) for name, v in run.frames.items() if v.dtype == np.float64 and name != 'confidence']
    return np.any(known, 0) | run.frames['lost'] | ~run.frames['driver_face']


def _line(axes: Axes, seconds: np.ndarray, values: np.ndarray, label: str, color: str) -> None:
    middle, low, mean, high = envelope(seconds, values)
    axes.plot(middle, mean, color=color, lw=1.4, label=label)
    if len(values) > len(mean):
        axes.fill_between(middle, low, high, color=color, alpha=0.25, lw=0)
    known = np.isfinite(np.r_[np.nan, mean, np.nan])
    alone = known[1:-1] & ~known[:-2] & ~known[2:]  # a line shows nothing of a point between two gaps
    axes.plot(middle[alone], mean[alone], '.', color=color, ms=5)


def envelope(seconds: np.ndarray, values: np.ndarray, *, columns: int = _COLUMNS) -> tuple[np.ndarray, ...]:
    """Times, smallest, mean and largest values [min(K, columns)] of consecutive rows; NaN where all of a column are NaN."""
    if len(values) <= columns:
        return seconds, values, values, values
    found = np.full((4, columns), np.nan)
    for k, part in enumerate(np.array_split(np.arange(len(values)), columns)):
        known = values[part][np.isfinite(values[part])]
        found[0, k] = seconds[part].mean()
        if len(known):
            found[1:, k] = known.min(), known.mean(), known.max()
    return tuple(found)


def _shade(axes: Axes, run: FinishedRun, kept: np.ndarray) -> None:
    """Shade frames that were not scored (in a run without truth: without a driver's face), over them those lost."""
    frames = run.frames
    grey = ~frames['scored'] if frames['scored'].any() else ~frames['driver_face']
    for rows, color in ((grey & ~frames['lost'] & kept, 'unscored'), (frames['lost'] & kept, 'lost')):
        spans = spans_of(rows, columns=_COLUMNS)
        start, end = run.seconds[[a for a, _ in spans]], run.seconds[[b - 1 for _, b in spans]]
        more = max(run.period, float(np.ptp(run.seconds)) / _COLUMNS)  # wide enough to be seen
        bars = [(float(a) - more / 2, float(b - a) + more) for a, b in zip(start, end, strict=True)]
        axes.broken_barh(bars, (0, 1), transform=axes.get_xaxis_transform(), facecolor=COLORS[color], lw=0, zorder=0)


def spans_of(rows: np.ndarray, *, columns: int) -> list[tuple[int, int]]:
    """Spans [first, end) of true `rows` [K]; in long runs those nearer to each other than a plot's column become one."""
    gap = max(1, len(rows) // columns)
    spans: list[tuple[int, int]] = []
    for row in np.flatnonzero(rows):
        if spans and row - spans[-1][1] < gap:
            spans[-1] = (spans[-1][0], int(row) + 1)
        else:
            spans.append((int(row), int(row) + 1))
    return spans


def _marks(axes: Axes, run: FinishedRun, column: str, marked: Sequence[int]) -> None:
    if not marked:
        return
    rows = list(marked)
    points = axes.scatter(run.seconds[rows], run.frames[column][rows], s=42, facecolor=COLORS['bad'], edgecolor=COLORS['paper'],
                          linewidth=1.2, zorder=5)
    points.set_urls([f'#frame-{run.frames["frame"][row]}' for row in rows])


def latency_plot(run: FinishedRun) -> str | None:
    """SVG of the latencies' histogram with their percentiles; None where nothing was drawn."""
    latency = drawn_latency(run)
    if not len(latency):
        return None

    def draw(axes: Axes) -> None:
        low, end = latency.min(), max(np.percentile(latency, _CUT), latency.min() + 1)
        axes.hist(latency, bins=np.linspace(low, end, _BINS + 1), color=COLORS['one'])
        for value, percentile in zip(np.percentile(latency, PERCENTILES), PERCENTILES, strict=True):
            axes.axvline(value, color=COLORS['two'], lw=1.2)
            axes.annotate(f'p{percentile} {value:.1f} ms', (value, 1.0 - 0.13 * PERCENTILES.index(percentile)), (4, 0), va='top',
                          xycoords=axes.get_xaxis_transform(), textcoords='offset points', fontsize=9, color=COLORS['ink'])
        axes.set_xlabel('ms', fontsize=9, color=COLORS['ink'], labelpad=1)
        axes.set_ylabel('frames', fontsize=9, color=COLORS['ink'])

    return draw_svg('latency', draw, height=2.4)


def drawn_latency(run: FinishedRun) -> np.ndarray:
    """Latencies (ms) of the frames of which a picture was made."""
    latency = run.timing['latency_ms']
    return latency[np.isfinite(latency) & (latency > 0)]

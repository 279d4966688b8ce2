"""A comparison of two runs as text, JSON, a picture or a page."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sega_ros.errors import RequestError
from sega_ros.evaluation.replay.bootstrap import MIN_BLOCKS
from sega_ros.evaluation.replay.compare import BETTER, UNSURE, WORSE, Comparison, Difference
from sega_ros.evaluation.replay.page import number, render_page, svg
from sega_ros.evaluation.replay.report_plots import envelope
from sega_ros.evaluation.replay.svg import COLORS, clean, figure_svg
from sega_ros.io import atomic_write

_VERDICT_COLORS = {BETTER: 'good', WORSE: 'bad'}
_ROW, _WIDTH = 0.62, 9.6  # inches


def to_table(found: Comparison) -> str:
    """Return the comparison as text for a terminal."""
    header = ('figure', 'mean A', 'mean B', 'B - A', f'{100 * found.config.confidence:g} % interval', 'pairs', 'block', 'B is')
    rows = [header, *(_cells(d) for d in found.differences)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ['  '.join(cell.ljust(w) if k in (0, 7) else cell.rjust(w)
                       for k, (cell, w) in enumerate(zip(row, widths, strict=True))) for row in rows]
    return '\n'.join([f'A {found.a}', f'B {found.b}', *(line.rstrip() for line in lines), *notes(found)])


def _cells(d: Difference) -> tuple[str, ...]:
    interval = f'{number(d.low, signed=True)} to {number(d.high, signed=True)}' if np.isfinite(d.low) else 'unknown'
    return (d.name, number(d.mean_a), number(d.mean_b), number(d.difference, signed=True), interval, str(d.pairs),
            str(d.block), d.verdict)


def notes(found: Comparison) -> list[str]:
    """How it was compared, and what could not be."""
    lines = [f'{found.paired} frames scored in both, paired by stamp; blocks of {found.block_frames} frames or more, '
             f'{found.config.resamples} resamples, seed {found.config.seed}.']
    if any(d.verdict == UNSURE for d in found.differences):
        lines.append(f'Too short to tell: an interval takes as many frames as {MIN_BLOCKS} blocks have.')
    lines.append('Intervals tell of more frames like these: not of other people, cameras or recordings.')
    lines.append('Each interval is for itself: of twenty figures without a difference, one is expected to show one by chance.')
    lines += [f'{name} is left out: {why}' for name, why in found.left_out.items()]
    return lines + [f'Compared all the same: {m}' for m in found.mismatches]


def to_json_values(found: Comparison) -> dict[str, Any]:
    """Return what `sega compare --json` prints: all but the frames' own differences."""
    return {'a': found.a, 'b': found.b, 'paired': found.paired, 'block_frames': found.block_frames,
            'config': asdict(found.config), 'left_out': dict(found.left_out), 'mismatches': list(found.mismatches),
            'figures': {d.name: {k: v for k, v in asdict(d).items() if k != 'name'} for d in found.differences}}


def check_out(path: Path) -> Path:
    """Return `path`, a name that `write_comparison` can write.

    Raises:
        RequestError: it ends in something else than .png or .html.
    """
    if path.suffix.lower() not in ('.png', '.html'):
        raise RequestError(f'{path}: wanted a file name ending in .png or .html')
    return path


def write_comparison(found: Comparison, path: Path) -> None:
    """Write a picture (`.png`) or a page (`.html`) of the comparison.

    Raises:
        RequestError: another ending.
        StorageError: it can't be written.
    """
    if check_out(path).suffix.lower() == '.png':
        data = io.BytesIO()
        figure = difference_figure(found)
        figure.patch.set_facecolor(COLORS['paper'])
        figure.savefig(data, format='png', dpi=110)
        atomic_write(path, data.getvalue())
    else:
        atomic_write(path, comparison_page(found))


def comparison_page(found: Comparison) -> bytes:
    """Return the comparison as a page (HTML) that stands alone."""
    rows = [{'name': d.name, 'meaning': d.meaning, 'unit': d.unit or 'none', 'cells': _cells(d)[1:7], 'verdict': d.verdict,
             'better': d.better} for d in found.differences]
    values = {'a': found.a, 'b': found.b, 'rows': rows, 'notes': notes(found), 'confidence': f'{100 * found.config.confidence:g}',
              'plot': svg(figure_svg(difference_figure(found), 'differences'))}
    return render_page('compare.html', values)


def difference_figure(found: Comparison) -> Figure:
    """Draw every figure's difference: its interval on the left, its course on the right."""
    count = len(found.differences)
    height = _ROW * count + 0.9
    figure = Figure(figsize=(_WIDTH, height))
    grid = figure.subplots(count, 2, squeeze=False, gridspec_kw={'width_ratios': (1, 2), 'wspace': 0.08, 'hspace': 0.75})
    figure.subplots_adjust(left=0.16, right=0.925, top=1 - 0.42 / height, bottom=0.5 / height)
    for (left, right), d in zip(grid, found.differences, strict=True):
        _interval(left, d)
        _course(right, found, d)
    titles = f'B - A, {100 * found.config.confidence:g} % interval', 'B - A, frame by frame'
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9, loc='left', color=COLORS['ink'])
    grid[-1][1].set_xlabel('seconds', fontsize=9, color=COLORS['ink'])
    return figure


def _interval(axes: Axes, d: Difference) -> None:
    clean(axes)
    axes.grid(visible=False)
    color = COLORS[_VERDICT_COLORS.get(d.verdict, 'quiet')]
    reach = 1.15 * float(np.nanmax(np.abs([d.difference, d.low, d.high]))) or 1.0
    axes.axvline(0, color=COLORS['quiet'], lw=0.8)
    axes.plot([d.low, d.high], [0, 0], color=color, lw=2.5, solid_capstyle='butt')
    axes.plot(d.difference, 0, 'o', color=color, ms=5)
    axes.set_xlim(-reach, reach)
    axes.set_yticks([0], [d.name])
    axes.tick_params(axis='x', labelsize=7, pad=1)
    axes.locator_params(axis='x', nbins=4)
    axes.spines['left'].set_visible(False)


def _course(axes: Axes, found: Comparison, d: Difference) -> None:
    clean(axes)
    axes.axhline(0, color=COLORS['quiet'], lw=0.8)
    middle, low, mean, high = envelope(found.seconds, found.series[d.name])
    axes.plot(middle, mean, color=COLORS['one'], lw=1)
    if len(found.seconds) > len(mean):
        axes.fill_between(middle, low, high, color=COLORS['one'], alpha=0.25, lw=0)
    axes.tick_params(labelsize=7, pad=1)
    axes.locator_params(axis='y', nbins=3)
    axes.yaxis.tick_right()
    axes.set_xlim(found.seconds.min() - found.period, found.seconds.max() + found.period)
    axes.tick_params(labelbottom=d is found.differences[-1])

"""The benchmark as pictures: where a frame's time goes, how it grows, and how long a frame is on its way."""

from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from sega_ros.evaluation.bench_path import Endurance, PathTiming, condition_words
from sega_ros.evaluation.bench_render import PHASES, RenderTiming
from sega_ros.evaluation.bench_stages import LEVELS, SIZES, STAGES, WHOLE, StageTiming
from sega_ros.evaluation.plot_style import GUIDE, INK, LINES, clean, to_png

# Tracking in blues, decoding in greens, rendering in oranges.
_COLORS = dict(zip(STAGES, ('#1f4e79', '#5b9bd5', '#1b5e3b', '#3f9b6b', '#7cc49a', '#bfe3cd', '#8c3b00', '#d9730d', '#f5b26b',
                            '#8a6fb0', '#c9c9c9'), strict=False))
_STYLE = {'fontsize': 9, 'color': INK}
_WIDE = 0.62  # of a bar


def figure_png(stages: tuple[StageTiming, ...], render: tuple[RenderTiming, ...], path: tuple[PathTiming, ...]) -> bytes:
    """Draw the four panels as a PNG; what was not measured says so."""
    figure = Figure(figsize=(14, 9.5), dpi=110, layout='constrained')
    panels: list[tuple[Callable, tuple, str]] = [
        (_stages, (stages, render), 'Stages of a frame, one after the other (512 x 512, one thread)'),
        (_against_splats, (render,), 'Renderer against splats'),
        (_against_pixels, (render,), 'Renderer against picture size, one thread'),
        (_path, (path,), 'Camera message to avatar message, through the real node'),
    ]
    for axes, (draw, found, title) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        axes.set_title(title, fontsize=11, color=INK, loc='left', fontweight='bold')
        clean(axes)
        if any(found):
            draw(axes, *found)
        else:
            axes.set_axis_off()
            axes.text(0.5, 0.5, 'not measured', ha='center', va='center', transform=axes.transAxes, **_STYLE)
    return to_png(figure)


def endurance_png(found: Endurance) -> bytes:
    """Draw memory and latency minute by minute as a PNG."""
    figure = Figure(figsize=(9, 5.5), dpi=110, layout='constrained')
    minutes = np.arange(1, len(found.minutes) + 1)
    series = (('driver, MB', [m.memory_mb for m in found.minutes], found.memory_ratio, LINES[0]),
              ('latency p95, ms', [m.latency_ms_p95 for m in found.minutes], found.latency_p95_ratio, LINES[1]))
    for axes, (label, values, ratio, color) in zip(figure.subplots(2, 1, sharex=True), series, strict=True):
        clean(axes)
        axes.plot(minutes, values, 'o-', color=color, lw=2, ms=5)
        axes.axhline(values[1], color=GUIDE, ls=':', lw=1.2)
        axes.set_ylim(0, 1.25 * max(values))
        axes.set_ylabel(label, **_STYLE)
        axes.set_title(f'minute {len(minutes)} over minute 2: {ratio:.3f}', fontsize=10, loc='left', color=INK)
    axes.set_xlabel('minute', **_STYLE)
    axes.set_xticks(minutes[:: max(1, len(minutes) // 12)])
    return to_png(figure)


def _stages(axes, stages: tuple[StageTiming, ...], render: tuple[RenderTiming, ...]) -> None:
    """Stack the medians for each level of detail; where the avatar has no such level, what the renderer alone takes."""
    bars = _avatar_bars(stages)
    driven = {n for n, _ in bars}
    bars += [bar for bar in _surface_bars(render) if all(abs(bar[0] - n) > 0.1 * n for n in driven)]
    bars.sort(key=lambda bar: bar[0])
    for k, (n, parts) in enumerate(bars):
        bottom = 0.0
        for name, value in parts.items():
            axes.bar(k, value, _WIDE, bottom=bottom, color=_COLORS[name], edgecolor='white', linewidth=0.6,
                     hatch=None if n in driven else '//')
            bottom += value
        axes.annotate(f'{bottom:.1f} ms', (k, bottom), (0, 2), textcoords='offset points', ha='center', va='bottom', **_STYLE)
    labels = [f'{n:,} splats' + ('' if n in driven else '\nrenderer alone') for n, _ in bars]
    axes.set_xticks(range(len(bars)), labels, **_STYLE)
    axes.set_ylabel('ms (medians)', **_STYLE)
    axes.set_ylim(0, 1.12 * max(sum(parts.values()) for _, parts in bars))
    shown = [name for name in STAGES if any(name in parts for _, parts in bars)]
    handles = [axes.bar(0, 0, color=_COLORS[name], label=name) for name in reversed(shown)]
    axes.set_xlim(-0.6, len(bars) - 0.4)
    axes.legend(handles=handles, fontsize=9, frameon=False, loc='center left', bbox_to_anchor=(1.0, 0.5))


def _avatar_bars(stages: Iterable[StageTiming]) -> list[tuple[int, dict[str, float]]]:
    bars: dict[int, dict[str, float]] = {}
    for s in stages:
        if (s.size, s.threads, s.busy) == (SIZES[0], 1, 0) and s.stage != WHOLE:
            bars.setdefault(s.splats, {})[s.stage] = max(0.0, s.p50)
    return list(bars.items())


def _surface_bars(render: Iterable[RenderTiming]) -> list[tuple[int, dict[str, float]]]:
    return [(r.splats, dict(zip(PHASES, (r.project_ms, r.sort_ms, r.blend_ms), strict=True)))
            for r in render if (r.backend, r.size, r.threads) == ('cpu', SIZES[0], 1) and r.splats in LEVELS]


def _against_splats(axes, render: tuple[RenderTiming, ...]) -> None:
    rows = [r for r in render if r.backend == 'cpu']
    for color, size in zip(LINES, sorted({r.size for r in rows}), strict=False):
        for threads in sorted({r.threads for r in rows}):
            line = sorted((r.splats, r.picture_ms) for r in rows if (r.size, r.threads) == (size, threads))
            name = f'{size} x {size}, {threads} thread{"s" * (threads > 1)}'
            _line(axes, line, color, f'{name}: {_more(line)} a splat', dashed=threads > 1)
    _guide(axes, [(r.splats, r.picture_ms) for r in rows])
    axes.set_xlabel('splats of the head (about half face the camera)', **_STYLE)
    _finish_log(axes, sorted({r.splats for r in rows}), lambda n: f'{n // 1000}k' if n >= 1000 else str(n))


def _against_pixels(axes, render: tuple[RenderTiming, ...]) -> None:
    rows = [r for r in render if (r.backend, r.threads) == ('cpu', 1)]
    for color, n in zip(LINES, sorted({r.splats for r in rows}), strict=False):
        line = sorted((r.size**2, r.picture_ms) for r in rows if r.splats == n)
        _line(axes, line, color, f'{n:,} splats: {_more(line)} a pixel')
    _guide(axes, [(r.size**2, r.picture_ms) for r in rows])
    axes.set_xlabel('pixels', **_STYLE)
    _finish_log(axes, sorted({r.size**2 for r in rows}), lambda n: f'{round(n**0.5)} x {round(n**0.5)}')


def _more(line: list[tuple[int, float]]) -> str:
    """Say what one splat or pixel more costs, from the line's ends."""
    (x0, y0), (x1, y1) = line[0], line[-1]
    return f'+{1e6 * (y1 - y0) / max(1, x1 - x0):.3g} ns'


def _line(axes, points: list[tuple[int, float]], color: str, label: str, *, dashed: bool = False) -> None:
    x, y = zip(*points, strict=True)
    style = {'ls': '--', 'lw': 1.2, 'alpha': 0.75, 'ms': 3.5} if dashed else {'ls': '-', 'lw': 2.2, 'ms': 5}
    axes.plot(x, y, marker='o', color=color, label=label, **style)


def _guide(axes, points: list[tuple[int, float]]) -> None:
    """Draw the slope of a cost in proportion, from the cheapest point of all."""
    x = np.array([min(p[0] for p in points), max(p[0] for p in points)])
    start = min(p[1] for p in points)
    axes.plot(x, start * x / x[0], color=GUIDE, ls=':', lw=2, label='in proportion (linear)')


def _finish_log(axes, ticks: list[int], text: Callable[[int], str]) -> None:
    axes.set_xscale('log')
    axes.set_yscale('log')
    axes.set_xticks(ticks, [text(n) for n in ticks], **_STYLE)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel('ms a picture (median)', **_STYLE)
    axes.legend(fontsize=8.5, frameon=False)


def _path(axes, path: tuple[PathTiming, ...]) -> None:
    """Median latency as bars with whiskers from there to the 95th percentile, and the rate above."""
    for k, p in enumerate(path):
        axes.bar(k, p.latency_ms_p50, _WIDE, color=LINES[3 if p.busy else 2], alpha=0.9)
        axes.plot([k, k], [p.latency_ms_p50, p.latency_ms_p95], color=INK, lw=1.4)
        axes.plot(k, p.latency_ms_p95, '_', color=INK, ms=16, mew=1.6)
        text = f'{p.fps:.0f} frames/s\n{p.latency_ms_p50:.0f} ms\np95 {p.latency_ms_p95:.0f}'
        axes.annotate(text, (k, p.latency_ms_p95), (0, 4), textcoords='offset points', ha='center', va='bottom', **_STYLE)
    labels = ['\n'.join(condition_words(p)).replace(' process', '\nprocess') for p in path]
    axes.set_xticks(range(len(path)), labels, **_STYLE)
    axes.set_ylabel('latency, ms: median and 95th percentile', **_STYLE)
    axes.set_ylim(0, 1.3 * max(p.latency_ms_p95 for p in path))
    axes.set_xlim(-0.7, len(path) - 0.3)

"""An endurance run as a picture: rate, latency and what the processes hold over time, under what was done."""

import numpy as np
from matplotlib.figure import Figure

from sega_ros.evaluation.plot_style import GUIDE, INK, LINES, clean, to_png
from sega_ros.evaluation.soak import UNITS, WARM_UP, WARM_UP_SHARE, Event, Soak, reasons, silences
from sega_ros.evaluation.soak_plan import CREATE, KINDS

_STYLE = {'fontsize': 9, 'color': INK}
_SILENT, _CREATING = '#f3c6c6', '#dbe6f4'


def soak_png(soak: Soak) -> bytes:
    """Draw a run as a PNG: what was done on top, then rate, latency, memory, threads and handles, all against minutes."""
    figure = Figure(figsize=(14, 12), dpi=100, layout='constrained')
    panels = figure.subplots(6, 1, sharex=True, height_ratios=(1.3, 1, 1, 1, 0.8, 0.8))
    minutes = np.array([s.at / 60 for s in soak.seconds])
    _events(panels[0], soak.events)
    _line(panels[1], minutes, [s.pictures for s in soak.seconds], 'pictures in a second', 0)
    for k, name in enumerate(('p50', 'p95', 'p99')):
        _line(panels[2], minutes, [getattr(s, f'latency_ms_{name}') for s in soak.seconds], name, (0, 1, 4)[k])
    panels[2].set_yscale('log')
    panels[2].set_ylabel('latency, ms', **_STYLE)
    for axes, (quantity, unit) in zip(panels[3:], UNITS.items(), strict=True):
        for k, process in enumerate(soak.seconds[-1].use if soak.seconds else ()):
            _line(axes, minutes, [getattr(s.use[process], quantity) for s in soak.seconds], process, k + 2)
        axes.set_ylabel(unit, **_STYLE)
    for axes in panels:
        _background(axes, soak)
    panels[-1].set_xlabel('minutes; red: the camera is silent; blue: an avatar is created; dotted: end of the warm-up', **_STYLE)
    found = reasons(soak)
    figure.suptitle('\n'.join(found[:4]) if found else 'nothing grew, stopped or broke', fontsize=10, x=0.01, ha='left',
                    color=LINES[3] if found else LINES[0])
    return to_png(figure)


def _events(axes, events: tuple[Event, ...]) -> None:
    """Mark what was done, a row for each kind; what was answered otherwise than asked is hollow."""
    for row, kind in enumerate(KINDS):
        good, other = ([e.at / 60 for e in events if e.kind == kind and (e.outcome == 'OK') == right] for right in (True, False))
        color = LINES[row % len(LINES)]
        axes.plot(good, [row] * len(good), '|', color=color, ms=11, mew=1.6)
        axes.plot(other, [row] * len(other), 'o', color=color, ms=7, mfc='none')
    axes.set_yticks(range(len(KINDS)), KINDS, **_STYLE)
    axes.set_ylim(len(KINDS) - 0.4, -0.6)


def _line(axes, minutes: np.ndarray, values: list, label: str, color: int) -> None:
    axes.plot(minutes, values, color=LINES[color % len(LINES)], lw=1, label=label)
    axes.legend(fontsize=8.5, frameon=False, loc='upper left', ncols=3)


def _background(axes, soak: Soak) -> None:
    clean(axes)
    for since, until in silences(soak.events, soak.duration):
        axes.axvspan(since / 60, until / 60, color=_SILENT, lw=0)
    for event in soak.events:
        if event.kind == CREATE:
            axes.axvspan(event.at / 60, (event.at + event.seconds) / 60, color=_CREATING, lw=0, zorder=0)
    axes.axvline(min(WARM_UP, WARM_UP_SHARE * soak.duration) / 60, color=GUIDE, ls=':', lw=1.2)

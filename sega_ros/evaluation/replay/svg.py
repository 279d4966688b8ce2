"""Plots as SVG that stands inside a page: its colours follow the page's scheme, its marks are links."""

import io
import re
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours of the light scheme; templates/page.html has those of the dark one under the same names.
COLORS = {
    'ink': '#222426', 'quiet': '#6d7479', 'grid': '#e3e6e8', 'paper': '#fefefe', 'one': '#0b7a75', 'two': '#d9730d',
    'three': '#4a5fb3', 'bad': '#c2334d', 'good': '#2e7d4f', 'lost': '#f3b8c2', 'unscored': '#d5d9dc'}
_WIDTH, _LEFT, _RIGHT = 9.6, 0.07, 0.985  # inches; shares of it, the same in all plots, so that their times lie below each other


def draw_svg(name: str, draw: Callable[[Axes], None], *, height: float = 2.1) -> str:
    """Return what `draw` draws on axes of `height` (inches), for `<figure>`; `name` keeps its ids apart from other plots'."""
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.subplots()
    figure.subplots_adjust(left=_LEFT, right=_RIGHT, bottom=0.42 / height, top=1 - 0.24 / height)
    clean(axes)
    draw(axes)
    return figure_svg(figure, name)


def figure_svg(figure: Figure, name: str) -> str:
    """Return `figure` as an SVG element without a prolog, the same bytes every time."""
    figure.patch.set_visible(False)
    data = io.StringIO()
    with mpl.rc_context({'svg.hashsalt': name, 'svg.fonttype': 'none'}):
        figure.savefig(data, format='svg', metadata={'Date': None})
    text = data.getvalue()
    text = text[text.index('<svg'):]
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]*)', text))
    # Most ids are numbered anew in every figure, so they would not be unique in the page, and nothing refers to them.
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else '', text)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*pt" height="[^"]*pt"|(<svg [^>]*?)height="[^"]*pt"([^>]*?)width="[^"]*pt"',
                  lambda m: (m[1] or f'{m[2]}{m[3]}'), text, count=1)
    text = text.replace(' target="_blank"', '')  # links stay in the page
    for color, value in COLORS.items():
        text = text.replace(value, f'var(--{color})')
    return text


def clean(axes: Axes) -> None:
    """Set the axes' lines, ticks and grid in the page's colours."""
    axes.patch.set_visible(False)
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(COLORS['quiet'])
    axes.tick_params(labelsize=9, color=COLORS['quiet'], labelcolor=COLORS['ink'])
    axes.grid(axis='y', color=COLORS['grid'], lw=0.8)
    axes.set_axisbelow(True)

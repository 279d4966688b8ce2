"""How the plots of benchmark and endurance run look."""

import io

from matplotlib.figure import Figure

LINES = ('#0b7a75', '#d9730d', '#4a5fb3', '#b03a5b', '#7a7a7a')
INK, GUIDE = '#222222', '#9a9a9a'


def clean(axes) -> None:
    """Leave axes the lines that say something."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color('#bbbbbb')
    axes.tick_params(colors=INK, labelsize=9, color='#bbbbbb')
    axes.grid(axis='y', color='#e6e6e6', lw=0.8)
    axes.set_axisbelow(True)


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG."""
    data = io.BytesIO()
    figure.savefig(data, format='png')
    return data.getvalue()

"""Which frames a report shows: the worst moments of every plotted figure, and a worst, median and best strip."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sega_ros.evaluation.replay.finished import FinishedRun
from sega_ros.evaluation.replay.rows import FIGURES

_ABOUT = {f.name: f.metadata for f in FIGURES}
_MARKS, _STRIP = 3, 3  # moments of each plot, of each strip
_APART = 1.0  # s: the worst second is one moment, not thirty


@dataclass(frozen=True)
class Panel:
    """One plot over time."""

    title: str
    lines: tuple[tuple[str, str], ...]  # column, what the legend calls it
    extreme: str  # what its worst moments are called

    @property
    def unit(self) -> str:
        """The unit of its lines."""
        return _ABOUT[self.column]['unit']

    @property
    def column(self) -> str:
        """The column that ranks its moments."""
        return self.lines[0][0]

    @property
    def follows(self) -> bool:
        """Whether the avatar's line should lie on the driver's."""
        return self.lines[-1][0].endswith('_driver')

    def badness(self, frames: Mapping[str, np.ndarray]) -> np.ndarray:
        """How bad every row is [K], greater is worse; NaN where that is unknown."""
        if self.follows:
            return np.abs(frames[self.lines[0][0]] - frames[self.lines[1][0]])
        return -frames[self.column] if _ABOUT[self.column]['better'] == 'more' else frames[self.column]


def _following(name: str, title: str) -> Panel:
    return Panel(title, ((name, 'avatar'), (f'{name}_driver', 'driver')), 'farthest from the driver')


PANELS = (
    Panel('PSNR', (('psnr_face', 'face'), ('psnr_head', 'head')), 'lowest'),
    Panel('AKD: mean distance of the landmarks', (('akd', 'AKD'),), 'largest'),
    Panel('AED: distance of the expression coefficients', (('aed', 'AED'),), 'largest'),
    Panel('Identity distance', (('identity_distance', 'identity distance'),), 'largest'),
    _following('mouth', "Mouth: gap between the lips over the eyes' distance"),
    _following('eye_left', 'Left eye: eye-aspect ratio'),
    _following('eye_right', 'Right eye: eye-aspect ratio'),
)
RANKING = ('psnr_face', 'akd', 'aed', 'mouth')  # the first that the run has ranks the strips


@dataclass(frozen=True)
class Moment:
    """One frame that the report shows."""

    row: int
    strip: str  # 'worst', 'median', 'best' or 'marked'
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Moments:
    """All that a report shows; a row is there once, in the strip that asked for it first."""

    apart: float  # s: least distance of the moments of one strip, or of one figure
    ranking: Panel | None  # None: no figure can rank the frames, they are spread over the run
    shown: tuple[Moment, ...]
    marks: Mapping[str, tuple[int, ...]]  # rows marked in each panel, by its column

    def strip(self, name: str) -> tuple[Moment, ...]:
        """Return the moments of one strip."""
        return tuple(m for m in self.shown if m.strip == name)


def choose_moments(run: FinishedRun) -> Moments:
    """Choose them; moments of one figure are a second apart, less in a short run."""
    seconds = run.seconds
    apart = min(_APART, float(np.ptp(seconds)) / (4 * _STRIP))
    by_column = {panel.column: panel for panel in PANELS}
    ranking = next((by_column[c] for c in RANKING if np.isfinite(by_column[c].badness(run.frames)).any()), None)
    found: dict[int, tuple[str, list[str]]] = {}

    def add(rows: tuple[int, ...], strip: str, reason: str) -> None:
        for row in rows:
            found.setdefault(row, (strip, []))[1].append(reason)

    for strip, order in _orders(run, ranking).items():
        add(_spread(order, seconds, apart, _STRIP), strip, strip if ranking else 'spread over the run')
    marks = {p.column: _worst(p.badness(run.frames), seconds, apart) for p in PANELS}
    for panel in PANELS:
        add(marks[panel.column], 'marked', f'{panel.title.split(":")[0]} {panel.extreme}')
    add(_spread(np.flatnonzero(run.frames['lost']), seconds, apart, _MARKS), 'marked', 'the picture shows no face')
    return Moments(apart, ranking, tuple(Moment(row, strip, tuple(why)) for row, (strip, why) in found.items()), marks)


def _orders(run: FinishedRun, ranking: Panel | None) -> dict[str, np.ndarray]:
    """Rows in the order in which each strip wants them."""
    if ranking is None:
        rows = len(run.seconds)
        return {'median': np.unique(np.linspace(0, rows - 1, min(rows, _STRIP)).round().astype(int))}
    bad = ranking.badness(run.frames)
    usable = np.flatnonzero(np.isfinite(bad))
    value = bad[usable]
    return {name: usable[np.argsort(key, kind='stable')]
            for name, key in (('worst', -value), ('median', np.abs(value - np.median(value))), ('best', value))}


def _worst(bad: np.ndarray, seconds: np.ndarray, apart: float) -> tuple[int, ...]:
    usable = np.flatnonzero(np.isfinite(bad))
    return _spread(usable[np.argsort(-bad[usable], kind='stable')], seconds, apart, _MARKS)


def _spread(order: np.ndarray, seconds: np.ndarray, apart: float, count: int) -> tuple[int, ...]:
    """The first `count` rows of `order` that lie `apart` (s) from each other."""
    chosen: list[int] = []
    for row in order:
        if all(abs(seconds[row] - seconds[other]) >= apart for other in chosen):
            chosen.append(int(row))
        if len(chosen) == count:
            break
    return tuple(chosen)

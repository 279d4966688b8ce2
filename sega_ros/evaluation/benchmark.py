"""A benchmark: every sequence of a set is evaluated, and the table over all of them."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.config import to_dict
from sega_ros.errors import (
    CameraError,
    FaceProfileError,
    FaceTooSmallError,
    ImageBlurredError,
    ImageError,
    NoFaceError,
    RecordingError,
    RequestError,
)
from sega_ros.evaluation.layouts import Entry
from sega_ros.evaluation.scene_score import score_tracking
from sega_ros.io import atomic_write

# Evaluates a sequence into a folder, reports the share that is done, and returns the summary, which has `frames` (counts) and
# `figures` (name -> {'mean': ...}).
Evaluate = Callable[[Entry, Path, Callable[[float], None]], Mapping[str, Any]]
Progress = Callable[[str, float], None]
SUMMARY, TABLE = 'summary.json', 'summary.md'
_EXPRESSIONS = 'bag'  # in the folder of a sequence's results: the tracked expressions, which a scene's truth judges
# What is wrong with one sequence; anything else stops the whole.
_REFUSALS = (CameraError, FaceProfileError, FaceTooSmallError, ImageBlurredError, ImageError, NoFaceError, RecordingError)
_KINDS = ('figures', 'tracking')
_COUNTS = ('total', 'scored', 'lost', 'driver_lost')
_SHOWN = ('psnr_face', 'psnr_head', 'ssim_face', 'lpips', 'feature_distance', 'akd', 'aed', 'apd', 'csim', 'identity_distance',
          'jitter')


@dataclass(frozen=True)
class Row:
    """What a sequence came to; a refused one has an error in place of figures."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)  # means over its frames
    counts: dict[str, int] = field(default_factory=dict)  # frames: total, scored, lost, ...
    tracking: dict[str, float] = field(default_factory=dict)  # against the truth, of a synthetic scene
    error: str = ''


@dataclass(frozen=True)
class Benchmark:
    """The table over all sequences."""

    rows: tuple[Row, ...]

    @property
    def mean(self) -> dict[str, dict[str, float]]:
        """Means of `figures` and `tracking` over the sequences that have them: each counts the same, however long it is."""
        return {kind: _means([getattr(row, kind) for row in self.rows]) for kind in _KINDS}

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        rows = {r.name: {'error': r.error} if r.error else {'frames': r.counts, **{k: getattr(r, k) for k in _KINDS}}
                for r in self.rows}
        return {'sequences': rows, 'mean': self.mean, 'refused': [r.name for r in self.rows if r.error]}

    def text(self) -> str:
        """Return it as Markdown: figures of the pictures, what was refused, tracking against the truth where there is one."""
        mean = self.mean
        parts = [self._table('figures', [n for n in _SHOWN if n in mean['figures']])]
        parts += [f'{row.name}: refused: {row.error}' for row in self.rows if row.error]
        if mean['tracking']:
            parts.append(self._table('tracking', list(mean['tracking'])))
        return '\n\n'.join(parts) + '\n'

    def _table(self, kind: str, names: list[str]) -> str:
        """One row per sequence, then the means."""
        rows = [[r.name, '{total} ({scored}, {lost})'.format(**r.counts), *(_cell(getattr(r, kind).get(n)) for n in names)]
                for r in self.rows if not r.error]
        rows.append(['**mean**', '', *(_cell(self.mean[kind][n]) for n in names)])
        head = ['sequence', 'frames (measured, lost)', *names]
        return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *rows))


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def run_set(entries: Sequence[Entry], out: Path, evaluate: Evaluate, *,
            progress: Progress = lambda stage, share: None) -> Benchmark:
    """Evaluate every sequence into `out / name` and write `summary.json` and `summary.md` over all.

    A sequence that is refused (no usable face in the photo, a damaged clip) is a row with its reason; the others go on.

    Args:
        entries: the sequences.
        out: folder of the results.
        evaluate: called with each sequence and the folder of its results; see `Evaluate`.
        progress: called with what is done and the share of the whole.
    """
    rows = []
    for k, entry in enumerate(entries):
        def report(share: float, k: int = k, name: str = entry.name) -> None:
            progress(name, (k + share) / len(entries))

        report(0.0)
        try:
            rows.append(_row(entry, out / entry.name, evaluate(entry, out / entry.name, report)))
        except _REFUSALS as e:
            rows.append(Row(entry.name, error=' '.join(str(e).split())))
    table = Benchmark(tuple(rows))
    atomic_write(out / SUMMARY, (json.dumps(table.as_dict(), indent=2, sort_keys=True, ensure_ascii=False) + '\n').encode())
    atomic_write(out / TABLE, table.text().encode())
    return table


def finished_summary(folder: Path, config: Any) -> Mapping[str, Any] | None:
    """Return the summary of a sequence that was evaluated with `config` already, or None.

    Raises:
        RequestError: it was evaluated with another configuration.
    """
    path = folder / SUMMARY
    if not path.is_file():
        return None
    summary = json.loads(path.read_text(encoding='utf-8'))
    if summary.get('config') != to_dict(config):
        raise RequestError(f'{folder}: was evaluated with other options ({path}); choose another folder with --out')
    return summary


def _row(entry: Entry, folder: Path, summary: Mapping[str, Any]) -> Row:
    figures = {n: float(f['mean']) for n, f in summary['figures'].items() if math.isfinite(f['mean'])}
    has_truth = entry.truth is not None and (folder / _EXPRESSIONS).is_dir()
    return Row(entry.name, figures, {n: int(summary['frames'].get(n, 0)) for n in _COUNTS},
               score_tracking(folder / _EXPRESSIONS, entry.path) if has_truth else {})


def _cell(value: float | None) -> str:
    return '' if value is None else f'{value:.4g}'

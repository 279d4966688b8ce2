"""Rows of figures as a table file, and what they come to."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from sega_ros.errors import RecordingError
from sega_ros.evaluation.replay.rows import FIGURES, FrameFigures

_MOVES = {'eye_left': 0.02, 'eye_right': 0.02, 'mouth': 0.02}  # standard deviation under which a correlation says nothing
_FEW = 10  # frames
_KINDS = {f.name: f.type for f in fields(FrameFigures)}


def to_csv(rows: Sequence[FrameFigures]) -> str:
    """Return the rows as CSV; unknown figures are empty cells."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow([f.name for f in fields(FrameFigures)])
    for row in rows:
        writer.writerow([_cell(getattr(row, f.name)) for f in fields(FrameFigures)])
    return stream.getvalue()


def from_csv(text: str) -> list[FrameFigures]:
    """Read what `to_csv` wrote.

    Raises:
        RecordingError: other columns, or cells that are no numbers.
    """
    reader = csv.DictReader(io.StringIO(text))
    names = [f.name for f in fields(FrameFigures)]
    if reader.fieldnames != names:
        raise RecordingError(f'frames.csv: found columns {reader.fieldnames}, wanted {names}; evaluate anew with this version')
    try:
        return [FrameFigures(**{name: _value(name, row[name]) for name in names}) for row in reader]
    except (ValueError, TypeError) as e:
        raise RecordingError(f'frames.csv: a cell is no number ({e}); evaluate anew') from e


def _cell(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    return '' if math.isnan(value) else f'{value:.6g}'


def _value(name: str, text: str):
    if _KINDS[name] is bool:
        return bool(int(text))
    if _KINDS[name] is int:
        return int(text)
    return float(text) if text else math.nan


def totals(rows: Sequence[FrameFigures], *, dropped: int = 0) -> dict:
    """Counts of frames, the figures' means, medians and worst twentieth, and how well eyes and mouth follow the driver's."""
    # As the table has them: whoever computes them again from the file finds the same.
    rows = from_csv(to_csv(rows))
    frames = {
        'total': len(rows), 'scored': sum(r.scored for r in rows), 'driver_lost': sum(not r.driver_face for r in rows),
        'lost': sum(r.lost for r in rows), 'dropped': dropped}
    figures = {}
    for f in FIGURES:
        values = np.array([getattr(r, f.name) for r in rows], float)
        values = values[np.isfinite(values)]
        if len(values):
            worst = 95 if f.metadata['better'] == 'less' else 5
            figures[f.name] = {'mean': _round(values.mean()), 'median': _round(np.median(values)),
                               'worst5': _round(np.percentile(values, worst)), 'count': len(values)}
    return {'frames': frames, 'figures': figures, 'correlations': {name: _correlation(rows, name) for name in _MOVES}}


def _correlation(rows: Sequence[FrameFigures], name: str) -> float | None:
    """Pearson's coefficient of an opening with the driver's; None where the driver hardly moves it."""
    pairs = np.array([(getattr(r, name), getattr(r, f'{name}_driver')) for r in rows], float).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < _FEW or pairs[:, 1].std() < _MOVES[name] or pairs[:, 0].std() < 1e-9:
        return None
    return _round(np.corrcoef(pairs.T)[0, 1])


def _round(value: float) -> float:
    return float(f'{value:.6g}')


def to_json(value: dict) -> str:
    """Return deterministic JSON for people: sorted keys, two spaces."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + '\n'

"""Folders that `sega evaluate` wrote, read back."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.errors import RecordingError
from sega_ros.evaluation.replay.folder import CLIP, FORMAT, FRAMES, RUN, STATE, SUMMARY, TIMING
from sega_ros.evaluation.replay.rows import FrameFigures

TIMES = ('track_ms', 'bind_ms', 'draw_ms', 'latency_ms', 'rss_mb')
_TABLES, _DOCUMENTS = (FRAMES, TIMING), (SUMMARY, RUN)
_KINDS = {int: np.int64, bool: np.bool_, float: np.float64}
_WANTED: dict[str, type] = {
    'protocol': str, 'view': str, 'recording': dict, 'identity': dict, 'masks': dict, 'window': dict, 'frames': dict,
    'figures': dict, 'correlations': dict, 'missing': dict, 'inputs': list, 'warnings': list, 'config': dict}


@dataclass(frozen=True)
class FinishedRun:
    """One run; row k of `frames` is one driving frame, and frame k of the clip."""

    folder: Path
    summary: Mapping[str, Any]  # summary.json
    about: Mapping[str, Any]  # run.json: when, how long, on what machine
    frames: Mapping[str, np.ndarray]  # columns [K] by the names of FrameFigures; NaN is unknown
    timing: Mapping[str, np.ndarray]  # columns by the names of TIMES, a row per frame that was drawn

    @property
    def clip(self) -> Path:
        """Where the side-by-side clip is, if there is one."""
        return self.folder / CLIP

    @property
    def seconds(self) -> np.ndarray:
        """Time of every row [K] since the earliest."""
        stamps = self.frames['stamp_ns']
        return (stamps - stamps.min()) / 1e9

    @property
    def period(self) -> float:
        """Seconds from a frame to the next (median)."""
        return typical_step(self.seconds)


def typical_step(seconds: np.ndarray) -> float:
    """Median step of times [K] (s); 1/30 where that can't be told."""
    steps = np.diff(np.sort(seconds))
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 1 / 30


def read_run(folder: Path | str) -> FinishedRun:
    """Read a finished run.

    Raises:
        RecordingError: no such folder, unfinished, damaged, or written by another version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordingError(f'{folder}: no such folder; give the output folder of "sega evaluate"')
    absent = [name for name in (*_TABLES, *_DOCUMENTS) if not (folder / name).is_file()]
    if absent or (folder / STATE).exists():
        found = f'{", ".join(absent)} missing' if absent else f'{STATE} is there'
        raise RecordingError(f'{folder}: not a finished run of "sega evaluate": {found}; let it finish, or evaluate anew')
    summary, about = (_document(folder / name) for name in _DOCUMENTS)
    _check_summary(folder, summary)
    frames = _table(folder / FRAMES, {f.name: _kind(f.type) for f in fields(FrameFigures)})
    timing = _table(folder / TIMING, dict.fromkeys(TIMES, np.float64))
    rows, timed, stated = len(frames['frame']), len(timing['latency_ms']), summary['frames'].get('total')
    # At the recorded pace, frames that were dropped took no time.
    if not rows or rows != stated or timed > rows or (timed < rows and not about.get('realtime')):
        raise RecordingError(f'{folder}: wanted as many rows in frames.csv and timing.csv as summary.json states frames, at '
                             f'least one; found {rows}, {timed} and {stated}; evaluate anew')
    return FinishedRun(folder, summary, about, frames, timing)


def _kind(annotation: Any) -> type:
    return _KINDS[annotation]


def _document(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as e:
        raise RecordingError(f'{path}: cannot be read as JSON ({e}); evaluate anew') from e
    if not isinstance(value, dict):
        raise RecordingError(f'{path}: wanted an object, found {type(value).__name__}; evaluate anew')
    return value


def _check_summary(folder: Path, summary: dict[str, Any]) -> None:
    if summary.get('format') != FORMAT:
        raise RecordingError(f'{folder}: summary.json has format {summary.get("format")!r}, this version reads {FORMAT}; '
                             'evaluate anew')
    wrong = [f'{name} ({kind.__name__})' for name, kind in _WANTED.items() if not isinstance(summary.get(name), kind)]
    if wrong:
        raise RecordingError(f'{folder}: summary.json lacks {", ".join(wrong)}; evaluate anew')


def _table(path: Path, kinds: Mapping[str, type]) -> dict[str, np.ndarray]:
    """Columns of a CSV file by name; columns of other names are passed over."""
    try:
        with path.open(encoding='utf-8', newline='') as file:
            names, *rows = csv.reader(file)
        absent = [name for name in kinds if name not in names]
        if absent:
            raise RecordingError(f'{path}: lacks the columns {", ".join(absent)}; evaluate anew with this version')
        columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
        return {name: _column(columns[name], kind) for name, kind in kinds.items()}
    except (OSError, ValueError) as e:
        raise RecordingError(f'{path}: damaged ({e}); evaluate anew') from e


def _column(cells: tuple[str, ...], kind: type) -> np.ndarray:
    if kind is np.float64:
        return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)
    return np.array([int(cell) for cell in cells], np.int64).astype(kind)

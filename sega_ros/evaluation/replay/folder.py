"""The folder of a run: what it holds, whether it is finished, and where an interrupted one goes on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from sega_ros.errors import RecordingError, RequestError
from sega_ros.evaluation.replay.rows import FrameFigures
from sega_ros.evaluation.replay.totals import from_csv, to_csv, to_json
from sega_ros.io import atomic_write

FORMAT = 1  # of the result files
STATE, PART = 'unfinished.json', 'frames.part.csv'
FRAMES, SUMMARY, TIMING, RUN, CLIP, REPORT, BAG = (
    'frames.csv', 'summary.json', 'timing.csv', 'run.json', 'side_by_side.mp4', 'report.html', 'bag')
_REWRITTEN = 2  # rows: the last ones of an interrupted run are measured again, as jitter needs their neighbours


class RunFolder:
    """Results of one run. Rows of figures are kept as they come, so that an interrupted run goes on where it stopped."""

    def __init__(self, path: Path, key: dict, *, overwrite: bool = False):
        """Open or make `path` for the run that `key` describes (inputs, configuration, versions).

        Raises:
            RequestError: it holds a finished run or another one, and `overwrite` is false; or something else altogether.
        """
        self.path = path
        self._key = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.known: list[FrameFigures] = []
        there = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
        if path.exists() and not path.is_dir():
            raise RequestError(f'{path}: is a file; name a folder for the results')
        if there and overwrite and self._is_run(there):
            self._clear()
        elif there:
            self._resume(there)
        path.mkdir(parents=True, exist_ok=True)
        atomic_write(path / STATE, to_json({'key': self._key}).encode())
        self._part = None

    def __enter__(self) -> 'RunFolder':
        kept = to_csv(self.known)
        atomic_write(self.path / PART, kept.encode())
        self._part = (self.path / PART).open('a', encoding='utf-8')
        return self

    def __exit__(self, *_) -> None:
        if self._part is not None:
            self._part.close()

    def keep(self, rows: Sequence[FrameFigures]) -> None:
        """Append measured rows to what an interrupted run would go on from."""
        self._part.write(''.join(to_csv([row]).split('\n', 1)[1] for row in rows))
        self._part.flush()

    def finish(self, texts: dict[str, str]) -> None:
        """Write the result files; from then on the run is finished."""
        for name, text in texts.items():
            atomic_write(self.path / name, text.encode())
        for name in (PART, STATE):
            (self.path / name).unlink(missing_ok=True)

    @staticmethod
    def _is_run(there: list[str]) -> bool:
        return SUMMARY in there or STATE in there

    def _resume(self, there: list[str]) -> None:
        """Take over the rows of the same run, unfinished."""
        if not self._is_run(there):
            raise RequestError(f'{self.path}: holds other files ({", ".join(there[:3])}); name a new folder for the results')
        if STATE not in there:
            raise RequestError(f'{self.path}: holds a finished run; name another folder, or give --overwrite')
        try:
            key = json.loads((self.path / STATE).read_text(encoding='utf-8')).get('key')
        except (OSError, ValueError, AttributeError):
            key = None
        if key != self._key:
            raise RequestError(f'{self.path}: holds an unfinished run of other inputs or options; name another folder, or give '
                               '--overwrite')
        self.known = self._rows()

    def _rows(self) -> list[FrameFigures]:
        """Whole rows of the part file, without the last ones."""
        try:
            text = (self.path / PART).read_text(encoding='utf-8')
            rows = from_csv(text[:text.rfind('\n') + 1])
        except (OSError, RecordingError):
            return []
        return rows[:-_REWRITTEN]

    def _clear(self) -> None:
        """Remove a run's own files, and nothing else."""
        import shutil

        for name in (FRAMES, SUMMARY, TIMING, RUN, CLIP, REPORT, STATE, PART):
            (self.path / name).unlink(missing_ok=True)
        for name in (BAG, f'{BAG}.part'):
            shutil.rmtree(self.path / name, ignore_errors=True)

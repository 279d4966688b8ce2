"""Creation and start, each in a new process: seconds and memory beside what they may cost."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import SegaError
from sega_ros.evaluation.bench_path import CONDITIONS, measure, prepared
from sega_ros.io import write_png
from sega_ros.io.memory import process_memory
from sega_ros.synthetic.performer import Performer

REPEATS = {'preview': 5, 'standard': 3}  # after one preview that fills the caches
# Seconds and megabytes: what each may cost on two cores without a GPU.
BUDGETS = {'preview': (5.0, 3000.0), 'standard': (45.0, 3000.0), 'start': (6.0, 1000.0), 'first start': (20.0, 1000.0)}
_STARTS = 3
_LOOK = 0.02  # seconds between two looks at a process's largest memory


class CreationError(SegaError):
    """A process of the measurement failed."""


@dataclass(frozen=True)
class CreationTiming:
    """One row; seconds are medians, memory is the largest."""

    what: str  # 'preview', 'standard': `sega create`; 'start', 'first start': the driver's process up to its first picture
    seconds: float  # of the whole process
    fastest_seconds: float
    inner_seconds: float | None  # of them the creation itself: without Python, imports and the head model
    memory_mb: float  # largest resident set of the process; of 'start' the one at the end
    repeats: int
    budget_seconds: float
    budget_mb: float


def bench_creation(
    head, *, repeats: dict[str, int] | None = None, progress: Callable[[float], None] = lambda share: None,
) -> list[CreationTiming]:
    """Run `sega create` on a picture of the synthetic performer so many times for each quality.

    Raises:
        CreationError: the command failed.
    """
    repeats = REPEATS if repeats is None else repeats
    rows, done, total = [], 0, sum(repeats.values())
    with tempfile.TemporaryDirectory(prefix='sega_bench_') as name:
        photo = Path(name) / 'photo.png'
        write_png(photo, Performer(head, 0, size=(512, 512)).frame(0.0)[0])
        _create(photo, 'preview')
        for quality, count in repeats.items():
            found = []
            for _ in range(count):
                found.append(_create(photo, quality))
                done += 1
                progress(done / total)
            seconds, inner, memory = zip(*found, strict=True)
            rows.append(CreationTiming(quality, statistics.median(seconds), min(seconds), statistics.median(inner), max(memory),
                                       count, *BUDGETS[quality]))
    return rows


def bench_start(
    avatar, pictures: np.ndarray, *, repeats: int = _STARTS, progress: Callable[[float], None] = lambda share: None,
) -> list[CreationTiming]:
    """Start the driver's process so many times, camera and receiver beside it; then once as if it were the first time ever.

    That is with empty folders for the head model, which is built then, and for what Numba compiles.

    Raises:
        PathError: it could not be started.
    """
    done = 0

    def started(**environment: str) -> dict:
        nonlocal done
        found = measure(folder, 1.0, *CONDITIONS[0], lambda share: None, environment)
        done += 1
        progress(done / (repeats + 1))
        return found

    with prepared(avatar, pictures) as folder, tempfile.TemporaryDirectory(prefix='sega_bench_') as empty:
        usual = [started() for _ in range(repeats)]
        first = started(SEGA_CACHE_DIR=f'{empty}/own', NUMBA_CACHE_DIR=f'{empty}/numba')
    rows = []
    for what, found in (('start', usual), ('first start', [first])):
        seconds = [f['start_seconds'] for f in found]
        rows.append(CreationTiming(what, statistics.median(seconds), min(seconds), None, max(f['memory_mb'] for f in found),
                                   len(found), *BUDGETS[what]))
    return rows


def _create(photo: Path, quality: str) -> tuple[float, float, float]:
    """Seconds of the command, those of the creation in it, and largest resident set in MB."""
    command = [sys.executable, '-m', 'sega_ros.cli', 'create', str(photo), '--name', 'bench', '--dir', str(photo.parent),
               '--quality', quality, '--consent', 'a synthetic person', '--replace', '--json']
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        memory = max(_memory(process), default=0.0)
        seconds = time.perf_counter() - start
        answer = process.stdout.read() if process.stdout else ''
    try:
        return seconds, float(json.loads(answer)['metadata']['create_seconds']), memory
    except (ValueError, KeyError) as error:
        raise CreationError(f'sega create --quality {quality} ended with status {process.returncode} and said '
                            f'{answer.strip()[:300]!r}') from error


def _memory(process: subprocess.Popen) -> Iterator[float]:
    """Yield the largest resident set so far until the process ends.

    What Linux tells the parent at the end (`ru_maxrss`) also counts the parent's own memory, as it was when it forked.
    """
    while process.poll() is None:
        with suppress(OSError):
            yield process_memory(process.pid, peak=True)
        time.sleep(_LOOK)


def creation_table(rows: Iterable[CreationTiming]) -> str:
    """Return the rows as Markdown, budgets beside what was found."""
    names = {'preview': '`sega create`, preview', 'standard': '`sega create`, standard', 'start': 'driver, to its first picture',
             'first start': 'the same the first time ever, with empty caches'}
    lines = ['| a new process | s (median) | fastest | without start-up | wanted s | peak MB | wanted MB | runs |',
             '|---' * 8 + '|']
    for r in rows:
        inner = '-' if r.inner_seconds is None else f'{r.inner_seconds:.1f}'
        lines.append(f'| {names[r.what]} | {r.seconds:.1f} | {r.fastest_seconds:.1f} | {inner} | <= {r.budget_seconds:g} '
                     f'| {r.memory_mb:.0f} | <= {r.budget_mb:g} | {r.repeats} |')
    return '\n'.join(lines)

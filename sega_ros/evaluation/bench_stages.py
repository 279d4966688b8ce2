"""Time of every stage from a camera frame to the avatar's message, one after the other, on a synthetic performer.

The stages' functions are wrapped while the performer drives the avatar. VAE and dynamic decoder are one graph there: its time
is shared out as the VAE's part, cut out of that graph and run once a frame beside it, takes of the whole.
"""

import array
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from os import getpid

import numpy as np
import torch
from torch import nn

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.evaluation.bench_path import FRAME_RATE
from sega_ros.evaluation.bench_render import PHASES
from sega_ros.evaluation.stopwatch import Target, replaced, stopwatch
from sega_ros.io.memory import keep_freed_memory, process_memory
from sega_ros.models import frame_decoder
from sega_ros.render import rasterize_arrays
from sega_ros.tracking.tracker import FaceTracker

LEVELS = (5_000, 20_000, 80_000)  # splats, besides all that the avatar has
SIZES, THREADS, BUSY = (512, 256, 1024), (1, 2), (0, 1)  # the first of each is the condition that is quoted
_WARM_UP = 10  # frames that compile and fill caches

_MESSAGE, _OTHER, WHOLE = 'message', 'other', 'whole path'
_GRAPH, _VAE, _DYNAMIC = 'graph', 'VAE', 'dynamic decoder'
# Stage, and the functions whose time it is, less that of the stages they call.
_TIMED: dict[str, tuple[Target, ...]] = {
    'track': ('sega_ros.tracking.tracker:FaceTracker.track',),
    'fit': ('sega_ros.tracking.expression:ExpressionFitter.fit',),
    'head model': ('sega_ros.head.skinning:Poser.pose',),
    _DYNAMIC: ('sega_ros.models.frame_decoder:FrameDecoder.write',),
    'fuse, bind': ('sega_ros.avatar.drive:AvatarDriver.splats',),
    **PHASES,
    _MESSAGE: ('sega_ros.evaluation.bench_stages:image_message',),
}
STAGES = ('track', 'fit', 'head model', _VAE, _DYNAMIC, 'fuse, bind', *PHASES, _MESSAGE, _OTHER, WHOLE)


@dataclass(frozen=True)
class StageTiming:
    """One stage under one condition, milliseconds a frame."""

    stage: str  # of STAGES
    p50: float
    p95: float
    p99: float
    fps: float  # frames a second if there were only this stage: from the median
    splats: int  # of the avatar at this level of detail
    drawn: int  # of these, median: what is seen edge-on or from behind is left out
    size: int  # pixels, square picture
    threads: int  # of the renderer
    busy: int  # other processes that compute all the time
    memory_mb: float  # resident set of the measuring process, which holds tracker and driver


@dataclass(frozen=True)
class _Condition:
    splats: int
    size: int
    threads: int
    busy: int


def bench_stages(
    avatar, head, embedding, pictures: np.ndarray, *, frames: int, levels: Iterable[int] = LEVELS, sizes: Iterable[int] = SIZES,
    threads: Iterable[int] = THREADS, busy: Iterable[int] = BUSY, dense: Callable[[], Avatar] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> list[StageTiming]:
    """Drive `avatar` with `frames` pictures under every condition; the avatar's own level of detail comes first.

    `pictures`, `bench_path.performance`, are played there and back. `levels` that the avatar has too few splats for are those
    of the avatar that `dense` makes, or left out. `progress` is called with the share done.
    """
    keep_freed_memory()  # as the nodes do
    levels, sizes, threads, busy, rows = tuple(levels), tuple(sizes), tuple(threads), tuple(busy), []
    with one_thread(), FaceTracker(head, embedding, identity=avatar.identity) as tracker:
        loop = _Loop(avatar, head, tracker, pictures)
        own = loop.splats
        more = [n for n in levels if n > own] if dense else []
        conditions = [_Condition(n, size, workers, others)
                      for counts in ((own, *(n for n in levels if n < own)), more)
                      for others, n, size, workers in product(busy, counts, sizes, threads)]
        for k, condition in enumerate(conditions):
            progress(k / len(conditions))
            if condition.splats > loop.splats and dense:
                loop = _Loop(dense(), head, tracker, pictures)
            with busy_processes(condition.busy):
                rows += loop.measure(condition, frames)
    return rows


class _Loop:
    """Performer, tracker, driver: frame after frame."""

    def __init__(self, avatar, head, tracker: FaceTracker, pictures: np.ndarray):
        self.driver, self._vae = driver_and_vae(avatar, head)
        self.splats = self.driver.detail  # all of them
        self._tracker, self._pictures = tracker, pictures
        self._count = 0  # frames so far: the tracker's time never goes back

    def measure(self, condition: _Condition, frames: int) -> list[StageTiming]:
        """Time `frames` frames after some to warm up."""
        self.driver.detail = condition.splats
        decoder, seconds, drawn = self.driver._decoder, [], []
        view = View('frontal', size=(condition.size, condition.size))
        timed = _TIMED | ({_GRAPH: ((decoder, '_branch'),)} if decoder else {})
        with stopwatch(timed) as spent:
            for k in range(_WARM_UP + frames):
                before = dict(spent)
                whole, count = self._frame(view, condition.threads)
                if k >= _WARM_UP:
                    seconds.append({name: spent[name] - before[name] for name in timed} | {WHOLE: whole})
                    seconds[-1][_VAE] = self._vae_seconds() if decoder else 0.0
                    drawn.append(count)
        found = {name: np.array([s[name] for s in seconds]) for name in (*timed, WHOLE, _VAE)}
        c, memory = condition, process_memory(getpid())
        return [stage_timing(name, values, c.splats, round(statistics.median(drawn)), c.size, c.threads, c.busy, memory)
                for name, values in split_stages(found).items()]

    def _frame(self, view: View, threads: int) -> tuple[float, int]:
        """One frame as the node does it, but one step after the other; return its seconds and the splats drawn."""
        last = len(self._pictures) - 1
        picture = self._pictures[last - abs(last - self._count % max(1, 2 * last))]
        stamp = round(self._count * 1e9 / FRAME_RATE)
        self._count += 1
        start = time.perf_counter()
        bound = self.driver.bind(self._tracker.track(picture, stamp), view)
        image_message(rasterize_arrays(*bound.arrays, bound.camera, background=bound.background, threads=threads))
        return time.perf_counter() - start, len(bound.arrays[0])

    def _vae_seconds(self) -> float:
        """Run the VAE's part on this frame's mesh; drawing has emptied the processor's caches, as in the running path."""
        with torch.inference_mode():
            start = time.perf_counter()
            self._vae(self.driver._decoder.offsets.values)
            return time.perf_counter() - start


def bench_picture(avatar, head, *, repeats: int = 200) -> float:
    """Median milliseconds to draw the avatar's neutral face again and again: 512 x 512 pixels, one thread, warm caches."""
    driver = AvatarDriver(avatar, head)
    bound, seconds = driver.bind(driver.neutral(), View('frontal')), []
    for _ in range(_WARM_UP + repeats):
        start = time.perf_counter()
        driver.draw(bound)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[_WARM_UP:])


def split_stages(seconds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From what was timed, seconds [frames] each, to STAGES: the graph shared out, and what is in no stage as 'other'."""
    graph = seconds.get(_GRAPH, np.zeros_like(seconds[WHOLE]))
    share = min(1.0, float(np.median(seconds[_VAE]) / np.median(graph))) if graph.any() else 0.0
    stages = {k: v for k, v in seconds.items() if k not in (_GRAPH, WHOLE)}
    stages |= {_VAE: share * graph, _DYNAMIC: seconds[_DYNAMIC] + (1 - share) * graph}
    stages |= {_OTHER: seconds[WHOLE] - sum(stages.values()), WHOLE: seconds[WHOLE]}
    return {name: stages[name] for name in STAGES}


def stage_timing(
    stage: str, seconds: np.ndarray, splats: int, drawn: int, size: int, threads: int, busy: int, memory_mb: float,
) -> StageTiming:
    """Summarise seconds [frames] as a row."""
    p50, p95, p99 = (float(v) for v in 1000 * np.percentile(seconds, (50, 95, 99)))
    fps = 1000 / p50 if p50 > 0 else float('nan')
    return StageTiming(stage, p50, p95, p99, fps, splats, drawn, size, threads, busy, memory_mb)


def driver_and_vae(avatar, head) -> tuple[AvatarDriver, Callable | None]:
    """Make a driver, and the part of its graph that makes the displacement."""
    made: list[tuple[nn.Module, torch.Tensor]] = []
    capture = frame_decoder.captured

    def keep(module: nn.Module, example: torch.Tensor):
        made.append((module, example))
        return capture(module, example)

    with replaced(frame_decoder, 'captured', keep):
        driver = AvatarDriver(avatar, head)
    if not made:  # an avatar without a dynamic branch
        return driver, None
    module, example = made[-1]
    return driver, capture(_Displacement(module).eval(), example)


class _Displacement(nn.Module):
    """The VAE's part of the decoders' graph: encoder, and displacement decoder."""

    def __init__(self, both: nn.Module):
        super().__init__()
        self.both = both

    def forward(self, offsets: torch.Tensor) -> torch.Tensor:
        """Displacement [3, 48, 48] of offsets [1, 3, 48, 48], metres."""
        return self.both.displacement(self.both.encoder(offsets))


def image_message(image: np.ndarray) -> array.array:
    """Copy a picture as the nodes do when they fill a message's `data`."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).data.cast('B'))
    return data


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, as in the nodes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Let so many other processes compute all the time."""
    with ExitStack() as stack:
        for _ in range(count):
            command = [sys.executable, '-c', 'print(flush=True)\nwhile True: pass']
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            process.stdout.readline()  # it runs
        yield


def stage_tables(rows: Iterable[StageTiming]) -> str:
    """Return the quoted condition stage by stage, then all conditions with the stages' medians, as Markdown."""
    rows = list(rows)
    groups = [rows[k : k + len(STAGES)] for k in range(0, len(rows), len(STAGES))]
    whole = groups[0][-1]
    lines = [f'One frame after the other, {_words(whole)}: {whole.fps:.0f} frames/s, {whole.memory_mb:.0f} MB', '',
             '| stage | ms p50 | p95 | p99 |', '|---|---|---|---|',
             *(f'| {r.stage} | {r.p50:.2f} | {r.p95:.2f} | {r.p99:.2f} |' for r in groups[0])]
    if len(groups) > 1:
        names = ('splats (drawn)', 'size', 'threads', 'busy', *STAGES, 'p95', 'p99', 'frames/s', 'MB')
        lines += ['', 'All conditions, median ms of each stage (busy: other processes that compute all the time):', '',
                  f'| {" | ".join(names)} |', '|---' * len(names) + '|']
        lines += [_condition_line(group) for group in groups]
    return '\n'.join(lines)


def _words(row: StageTiming) -> str:
    threads = 'one renderer thread' if row.threads == 1 else f'{row.threads} renderer threads'
    beside = f', {row.busy} busy process beside it' if row.busy else ''
    return f'{row.splats:,} splats ({row.drawn:,} drawn), {row.size} x {row.size}, {threads}{beside}'


def _condition_line(group: list[StageTiming]) -> str:
    first, whole = group[0], group[-1]
    cells = [f'{first.splats:,} ({first.drawn:,})', first.size, first.threads, first.busy, *(f'{r.p50:.2f}' for r in group),
             f'{whole.p95:.2f}', f'{whole.p99:.2f}', f'{whole.fps:.0f}', f'{whole.memory_mb:.0f}']
    return f'| {" | ".join(map(str, cells))} |'

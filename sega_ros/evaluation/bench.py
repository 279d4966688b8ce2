"""Time of every stage from a camera frame to the avatar's image, on a synthetic performer.

The stages are timed inside of the real path: their functions are wrapped while the performer drives the avatar, so
what is measured is what runs. Tracking errors and rendering costs come from their own benchmarks.
"""

import array
import functools
import importlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sega_ros.errors import RequestError
from sega_ros.io.files import atomic_write

PARTS = ('path', 'stages', 'tracking', 'render')
SIZE = (512, 512)  # (H, W) of camera and avatar pictures
_WARM_UP = 10  # frames that compile and fill caches

# Stage, and the functions whose time it is, less that of the stages they call.
STAGES: dict[str, tuple[str, ...]] = {
    'track: detect landmarks': ('sega_ros.tracking.landmarks:LandmarkDetector.detect',),
    'track: fit expression': ('sega_ros.tracking.expression:ExpressionFitter.fit',),
    'head pose': ('sega_ros.head.skinning:Poser.pose',),
    'bind': ('sega_ros.avatar.drive:AvatarDriver.splats',),
    'project, sort, blend': ('sega_ros.render:rasterize_arrays',),
}
_MESSAGE, _WHOLE = 'message build', 'whole path'


@dataclass(frozen=True)
class BenchConfig:
    """What is measured."""

    parts: tuple[str, ...] = PARTS
    frames: int = 250  # driven, at 25 per second of the performance
    performers: int = 3  # tracked
    quality: str = 'preview'  # of the avatar that is made when none is given
    seconds: float = 20.0  # of each condition of the whole path


@dataclass(frozen=True)
class StageTiming:
    """One row of the stage table, milliseconds a frame."""

    stage: str
    p50: float
    p95: float


@dataclass(frozen=True)
class BenchReport:
    """Everything that was measured; parts that were not asked for are empty."""

    machine: dict
    path: tuple = ()  # bench_path.PathTiming
    bandwidth: tuple = ()  # bench_path.Bandwidth
    stages: tuple[StageTiming, ...] = ()
    tracking: tuple = ()  # bench_tracking.TrackingScore
    render: tuple = ()  # bench_render.RenderTiming
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict:
        """Return plain values for JSON."""
        rows = [asdict(p) for p in self.path]
        keys = ('fps', 'latency_ms_p50', 'latency_ms_p95', 'latency_ms_p99', 'memory_mb', 'drops')
        return {'machine': self.machine, 'end_to_end': {k: rows[0][k] for k in keys} if rows else None, 'path': rows,
                'bandwidth': [asdict(b) for b in self.bandwidth], 'stages': [asdict(s) for s in self.stages],
                'tracking': [asdict(s) for s in self.tracking], 'render': [asdict(r) for r in self.render],
                'notes': list(self.notes)}

    def text(self) -> str:
        """Return the tables as Markdown."""
        m = self.machine
        parts = [f'{m["processor"]}, {m["cores"]} cores, load {m["load"]:.1f} at the start']
        if self.path:
            from sega_ros.evaluation.bench_path import bandwidth_table, path_table

            parts += [path_table(self.path), bandwidth_table(self.bandwidth)]
        if self.stages:
            rows = [f'| {s.stage} | {s.p50:.2f} | {s.p95:.2f} |' for s in self.stages]
            parts.append('\n'.join(['| stage | ms (median) | p95 |', '|---|---|---|', *rows]))
        if self.tracking:
            from sega_ros.evaluation.bench_tracking import table

            parts.append(table(self.tracking))
        if self.render:
            from sega_ros.evaluation.bench_render import format_table

            parts.append(format_table(self.render))
        return '\n\n'.join([*parts, *self.notes])


def run_bench(
    config: BenchConfig, *, avatar=None, progress: Callable[[str, float], None] | None = None,
) -> BenchReport:
    """Measure what `config` asks for; `avatar` is driven, or one made of the performer when it is None.

    Raises:
        RequestError: a part that doesn't exist.
    """
    unknown = set(config.parts) - set(PARTS)
    if unknown:
        raise RequestError(f'parts: wanted some of {PARTS}, found {sorted(unknown)}')
    report = progress or (lambda stage, share: None)
    machine, found, share = describe_machine(), {}, 0.0
    notes: list[str] = []
    runners = {'stages': lambda: _stages(config, avatar), 'tracking': lambda: _tracking(config), 'render': _render}
    for part in config.parts:
        report(part, share)
        if part == 'path':
            def path_share(done: float, at=share) -> None:
                report('path', at + done / len(config.parts))

            if find_spec('rclpy') is None:
                notes.append('whole path: not measured, as rclpy is not installed')
            else:
                found['path'], found['bandwidth'] = map(tuple, _path(config, avatar, path_share))
        else:
            found[part] = tuple(runners[part]())
        share += 1 / len(config.parts)
    return BenchReport(machine, notes=tuple(notes), **found)


def describe_machine() -> dict:
    """Return processor, cores, load and versions."""
    import numba
    import torch

    return {'processor': _processor(), 'cores': os.cpu_count(), 'load': os.getloadavg()[0],
            'python': platform.python_version(), 'torch': torch.__version__, 'numba': numba.__version__,
            'threads': torch.get_num_threads()}


def write_results(report: BenchReport, directory: Path) -> list[Path]:
    """Write `bench.json` and `bench.md` and return their paths.

    Raises:
        StorageError: the directory can't be written.
    """
    files = [directory / 'bench.json', directory / 'bench.md']
    atomic_write(files[0], json.dumps(report.as_dict(), indent=1).encode())
    atomic_write(files[1], (report.text() + '\n').encode())
    return files


@contextmanager
def stopwatch(stages: dict[str, tuple[str, ...]]) -> Iterator[dict[str, float]]:
    """Wrap the stages' functions and yield the seconds spent in each so far; undone at the end.

    Args:
        stages: stage name to functions named 'module:attribute.path'.
    """
    spent: dict[str, float] = dict.fromkeys(stages, 0.0)
    stack: list[float] = []  # seconds that the stages called by each running one took
    with ExitStack() as undo:
        for stage, names in stages.items():
            for name in names:
                owner, attribute = _resolve(name)
                original = getattr(owner, attribute)
                setattr(owner, attribute, _timed(original, stage, spent, stack))
                undo.callback(setattr, owner, attribute, original)
        yield spent


def _resolve(name: str) -> tuple[object, str]:
    module, path = name.split(':')
    owner = importlib.import_module(module)
    *outer, attribute = path.split('.')
    for step in outer:
        owner = getattr(owner, step)
    return owner, attribute


def _timed(function, stage: str, spent: dict[str, float], stack: list[float]):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        stack.append(0.0)
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.perf_counter() - start
            spent[stage] += took - stack.pop()
            if stack:
                stack[-1] += took

    return wrapper


def _performer_avatar(config: BenchConfig, head, embedding):
    """An avatar of the synthetic performer."""
    from sega_ros.avatar.create import create_avatar
    from sega_ros.synthetic.performer import Performer

    photo = Performer(head, 0, size=SIZE).frame(0.0)[0]
    return create_avatar(photo, head=head, embedding=embedding, quality=config.quality, consent='a synthetic person')


def _path(config: BenchConfig, avatar, progress: Callable[[float], None]) -> tuple[list, list]:
    from sega_ros.evaluation.bench_path import bench_path
    from sega_ros.head import load_head
    from sega_ros.tracking.embedding import landmark_embedding

    head = load_head()
    avatar = _performer_avatar(config, head, landmark_embedding(head)) if avatar is None else avatar
    return bench_path(avatar, head, seconds=config.seconds, progress=progress)


def _stages(config: BenchConfig, avatar) -> list[StageTiming]:
    from sega_ros.avatar.drive import AvatarDriver, View
    from sega_ros.head import load_head
    from sega_ros.synthetic.performer import Performer
    from sega_ros.tracking.embedding import landmark_embedding
    from sega_ros.tracking.tracker import FaceTracker

    head = load_head()
    embedding = landmark_embedding(head)
    performer = Performer(head, 0, size=SIZE)
    if avatar is None:
        avatar = _performer_avatar(config, head, embedding)
    driver, view = AvatarDriver(avatar, head), View('frontal', size=SIZE)
    count = config.frames + _WARM_UP
    rows: dict[str, list[float]] = {name: [] for name in (*STAGES, _MESSAGE, _WHOLE)}
    with FaceTracker(head, embedding, identity=avatar.identity) as tracker, stopwatch(STAGES) as spent:
        for k in range(count):
            frame = performer.frame(k / 25)[0]
            before, start = dict(spent), time.perf_counter()
            image = driver.render(tracker.track(frame, round(k * 1e9 / 25)), view)
            built = time.perf_counter()
            _image_message(image)
            end = time.perf_counter()
            if k >= _WARM_UP:
                for name in STAGES:
                    rows[name].append(spent[name] - before[name])
                rows[_MESSAGE].append(end - built)
                rows[_WHOLE].append(end - start)
    percentiles = {name: 1000 * np.percentile(values, (50, 95)) for name, values in rows.items()}
    return [StageTiming(name, float(p50), float(p95)) for name, (p50, p95) in percentiles.items()]


def _image_message(image: np.ndarray) -> array.array:
    """Copy a picture as the nodes do when they fill a message's `data`."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).data.cast('B'))
    return data


def _tracking(config: BenchConfig) -> list:
    from sega_ros.evaluation.bench_tracking import bench_tracking
    from sega_ros.head import load_head
    from sega_ros.tracking.embedding import landmark_embedding

    head = load_head()
    embedding = landmark_embedding(head)
    return [bench_tracking(head, embedding, seed=seed) for seed in range(1, config.performers + 1)]


def _render() -> list:
    from sega_ros.evaluation.bench_render import bench_render

    return bench_render()


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        return next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

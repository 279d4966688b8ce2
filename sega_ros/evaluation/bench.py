"""`sega bench`: what is measured, in which order, and how the results are written. Each part has a file of its own."""

import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

from sega_ros.errors import RequestError
from sega_ros.io.files import atomic_write

PARTS = ('path', 'stages', 'tracking', 'render', 'creation')
SIZE = (512, 512)  # (H, W) of the photo that the performer's avatar is made of
DENSE_ATLAS = 368  # texels a side of the avatar for the level with most splats
_NO_ROS = 'not measured, as rclpy is not installed'


@dataclass(frozen=True)
class BenchConfig:
    """What is measured."""

    parts: tuple[str, ...] = PARTS
    frames: int = 150  # driven under each condition of the stages
    performers: int = 3  # tracked
    quality: str = 'preview'  # of the avatar that is made when none is given
    seconds: float = 20.0  # of each condition of the whole path
    minutes: int | None = None  # of the whole path without a break, in place of its conditions


@dataclass(frozen=True)
class BenchReport:
    """Everything that was measured; parts that were not asked for are empty."""

    machine: dict
    path: tuple = ()  # bench_path.PathTiming
    bandwidth: tuple = ()  # bench_path.Bandwidth
    endurance: object | None = None  # bench_path.Endurance
    stages: tuple = ()  # bench_stages.StageTiming
    picture_ms: float | None = None  # to draw that avatar and nothing else, see bench_stages.bench_picture
    distilled: object | None = None  # avatar.distil.Distillation of that avatar
    device: object | None = None  # bench_device.DeviceTiming: the same on a GPU
    tracking: tuple = ()  # bench_tracking.TrackingScore
    render: tuple = ()  # bench_render.RenderTiming
    growth: tuple = ()  # bench_render.Growth
    peers: tuple = ()  # bench_peers.PeerTiming
    creation: tuple = ()  # bench_creation.CreationTiming
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict:
        """Return plain values for JSON; None stands for what is unknown."""
        keys = ('fps', 'latency_ms_p50', 'latency_ms_p95', 'latency_ms_p99', 'memory_mb', 'drops')
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        machine = plain.pop('machine')
        first = plain['path'][0] if self.path else None
        return _finite({'machine': machine, 'end_to_end': {k: first[k] for k in keys} if first else None, **plain})

    def text(self) -> str:
        """Return the tables as Markdown."""
        m = self.machine
        head = f'{m["processor"]}, {m["cores"]} cores, load {m["load"]:.1f} at the start'
        return '\n\n'.join([head, *(text for found, text in self._tables() if found), *self.notes])

    def _tables(self):
        """Yield what was found and its table, part by part."""
        from sega_ros.evaluation import bench_creation, bench_path, bench_peers, bench_render, bench_stages, bench_tracking

        tables = ((self.path, bench_path.path_table), (self.endurance, bench_path.endurance_text),
                  (self.bandwidth, bench_path.bandwidth_table), (self.stages, bench_stages.stage_tables),
                  (self.picture_ms, _picture_text), (self.distilled, _distilled_text), (self.device, _device_text),
                  (self.tracking, bench_tracking.table), (self.render, bench_render.format_table),
                  (self.growth, bench_render.growth_text), (self.peers, bench_peers.peer_table),
                  (self.creation, bench_creation.creation_table))
        return ((found, table(found) if found else '') for found, table in tables)


def run_bench(
    config: BenchConfig, *, avatar=None, progress: Callable[[str, float], None] | None = None,
) -> BenchReport:
    """Measure what `config` asks for; `avatar` is driven, or one made of the performer when it is None.

    Raises:
        RequestError: a part that doesn't exist, or minutes of another part than the whole path.
    """
    unknown = set(config.parts) - set(PARTS)
    if unknown:
        raise RequestError(f'parts: wanted some of {PARTS}, found {sorted(unknown)}')
    if config.minutes is not None and (config.minutes < 3 or 'path' not in config.parts):
        raise RequestError(f'minutes: wanted 3 or more of the part path, found {config.minutes} of {config.parts}')
    machine, bench, found = describe_machine(), _Bench(config, avatar), {}
    for k, part in enumerate(config.parts):
        def share(done: float, part=part, at=k) -> None:
            if progress:
                progress(part, (at + done) / len(config.parts))

        share(0.0)
        found |= getattr(bench, part)(share)
    return BenchReport(machine, notes=tuple(bench.notes), **found)


class _Bench:
    """The parts, and what several of them need. Each returns fields of BenchReport."""

    def __init__(self, config: BenchConfig, avatar):
        self._config, self._given = config, avatar
        self.notes: list[str] = []

    @cached_property
    def _head(self):
        from sega_ros.head import load_head

        return load_head()

    @cached_property
    def _embedding(self):
        from sega_ros.tracking.embedding import landmark_embedding

        return landmark_embedding(self._head)

    @cached_property
    def _avatar(self):
        """The avatar that was given, or one of the synthetic performer."""
        if self._given is not None:
            return self._given
        return self._of_performer()

    def _of_performer(self, **options):
        from sega_ros.avatar.create import create_avatar
        from sega_ros.synthetic.performer import Performer

        photo = Performer(self._head, 0, size=SIZE).frame(0.0)[0]
        return create_avatar(photo, head=self._head, embedding=self._embedding, quality=self._config.quality,
                             consent='a synthetic person', **options)

    @cached_property
    def _pictures(self):
        from sega_ros.evaluation.bench_path import performance

        return performance(self._head)

    def path(self, progress: Callable[[float], None]) -> dict:
        if find_spec('rclpy') is None:
            self.notes.append(f'Whole path: {_NO_ROS}.')
            return {}
        from sega_ros.evaluation.bench_path import bench_endurance, bench_path

        if self._config.minutes:
            row, endurance = bench_endurance(self._avatar, self._pictures, minutes=self._config.minutes, progress=progress)
            return {'path': (row,), 'endurance': endurance}
        rows, bandwidth = bench_path(self._avatar, self._head, self._pictures, seconds=self._config.seconds,
                                     progress=progress)
        return {'path': tuple(rows), 'bandwidth': tuple(bandwidth)}

    def stages(self, progress: Callable[[float], None]) -> dict:
        from sega_ros.evaluation.bench_device import bench_device
        from sega_ros.evaluation.bench_stages import LEVELS, bench_picture, bench_stages

        dense = None if self._given is not None else partial(self._of_performer, atlas=DENSE_ATLAS)
        rows = bench_stages(self._avatar, self._head, self._embedding, self._pictures, frames=self._config.frames, dense=dense,
                            progress=progress)
        most = max(row.splats for row in rows)
        self.notes += [f'Stages at {n:,} splats: not measured, as the avatar has {most:,}.' for n in LEVELS if n > most]
        device = bench_device(self._avatar, self._head)
        if device is None:
            self.notes.append('GPU driver: not measured, as PyTorch sees no CUDA device.')
        picture_ms = bench_picture(self._avatar, self._head)
        return {'stages': tuple(rows), 'picture_ms': picture_ms, 'distilled': self._distilled(), 'device': device}

    def _distilled(self):
        """What the avatar loses and gains when its dynamic decoder becomes linear; None for one without."""
        from sega_ros.avatar.distil import distil
        from sega_ros.evaluation.bench_stages import one_thread
        from sega_ros.models.frame_decoder import Branch

        if not isinstance(self._avatar.branch, Branch):
            self.notes.append('Distilled driver: not measured, as the avatar has no dynamic decoder.')
            return None
        with one_thread():
            return distil(self._avatar, self._head)[1]

    def tracking(self, progress: Callable[[float], None]) -> dict:
        from sega_ros.evaluation.bench_tracking import bench_tracking

        rows = []
        for seed in range(1, self._config.performers + 1):
            rows.append(bench_tracking(self._head, self._embedding, seed=seed))
            progress(seed / self._config.performers)
        return {'tracking': tuple(rows)}

    def render(self, progress: Callable[[float], None]) -> dict:
        from sega_ros.evaluation.bench_peers import bench_peers
        from sega_ros.evaluation.bench_render import bench_render, growth
        from sega_ros.evaluation.bench_stages import one_thread

        with one_thread():
            rows = tuple(bench_render())
            progress(0.7)
            return {'render': rows, 'growth': tuple(growth(rows)), 'peers': tuple(bench_peers())}

    def creation(self, progress: Callable[[float], None]) -> dict:
        from sega_ros.evaluation.bench_creation import bench_creation, bench_start

        rows = bench_creation(self._head, progress=lambda done: progress(0.8 * done))
        if find_spec('rclpy') is None:
            self.notes.append(f'Start of the driver: {_NO_ROS}.')
        else:
            rows.extend(bench_start(self._avatar, self._pictures, progress=lambda done: progress(0.8 + 0.2 * done)))
        return {'creation': tuple(rows)}


def describe_machine() -> dict:
    """Return processor, cores, load and versions."""
    import numba
    import torch

    return {'processor': _processor(), 'cores': os.cpu_count(), 'load': os.getloadavg()[0],
            'python': platform.python_version(), 'torch': torch.__version__, 'numba': numba.__version__,
            'threads': torch.get_num_threads()}


def write_results(report: BenchReport, directory: Path) -> list[Path]:
    """Write `bench.json`, `bench.md` and the plots of what was measured, and return their paths.

    Raises:
        StorageError: the directory can't be written.
    """
    files = {'bench.json': json.dumps(report.as_dict(), indent=1, allow_nan=False).encode(),
             'bench.md': (report.text() + '\n').encode()}
    if report.stages or report.render or report.path:
        from sega_ros.evaluation.bench_plot import endurance_png, figure_png

        files['bench.png'] = figure_png(report.stages, report.render, report.path)
        if report.endurance:
            files['endurance.png'] = endurance_png(report.endurance)
    for name, data in files.items():
        atomic_write(directory / name, data)
    return [directory / name for name in files]


def _picture_text(ms: float) -> str:
    return f'The avatar drawn again and again, 512 x 512, one thread: {ms:.2f} ms'


def _distilled_text(found) -> str:
    return (f'Distilled to {found.bases} linear images: {found.ms_after:.1f} ms to bind a frame for {found.ms_before:.1f}, '
            f'{found.psnr:.1f} dB against the full decoder\'s pictures where the face moves ({found.static_psnr:.1f} dB when the '
            'mesh alone moves)')


def _device_text(found) -> str:
    height, width = found.size
    return (f'On {found.device}, {found.splats:,} splats, {width} x {height}: {found.frames_per_second:.0f} frames/s '
            f'(pose, decode, bind {found.bind_ms:.2f} ms, draw and fetch {found.draw_ms:.2f} ms)')


def _finite(value):
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        return next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

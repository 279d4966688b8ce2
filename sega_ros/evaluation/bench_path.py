"""The whole path, camera message to avatar message, through the real driver node in a process of its own; and what it sends."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import SegaError
from sega_ros.synthetic.performer import Performer

CAMERA_RATE = 120.0  # Hz: more than any machine here answers, so that the driver sets the pace
FRAMES, FRAME_RATE = 60, 30.0  # of the performance, played there and back
_STREAM_RATE = 30.0  # Hz, of the bandwidth
_AROUND = 20.0  # seconds, about, that a measurement takes besides what is measured: only the progress shows it
_JPEG_QUALITY = 90
# Size of the pictures, other busy processes, and splats (0: all of the avatar's); the first is the one that is quoted.
CONDITIONS = ((512, 0, 0), (256, 0, 0), (1024, 0, 0), (512, 0, 20_000), (512, 0, 5_000), (512, 1, 0))


class PathError(SegaError):
    """The measurement's processes failed; their messages are on standard error."""


@dataclass(frozen=True)
class PathTiming:
    """One row. Latency: stamp of the camera's message to receipt of the avatar's."""

    size: int  # pixels
    busy: int  # other processes that compute all the time
    fps: float
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    memory_mb: float  # resident set of the driver
    drops: int  # of the camera's images: the newest wins
    start_seconds: float  # from the start of the driver's process to its first picture
    detail: int = 0  # splats; 0: all of the avatar's


@dataclass(frozen=True)
class Bandwidth:
    """Bytes a second of one way to send a face at 30 frames/s."""

    what: str
    bytes_per_second: float


@dataclass(frozen=True)
class Minute:
    """One minute of the endurance run."""

    fps: float
    latency_ms_p95: float
    memory_mb: float  # resident set of the driver at its end


@dataclass(frozen=True)
class Endurance:
    """The whole path for minutes on end: what grows, and what slows down. The first minute still fills caches."""

    minutes: tuple[Minute, ...]
    memory_ratio: float  # of the last minute over the second
    latency_p95_ratio: float

    @classmethod
    def of(cls, minutes: tuple[Minute, ...]) -> 'Endurance':
        """Compare the last of `minutes` with the second.

        Raises:
            PathError: fewer than three.
        """
        if len(minutes) < 3:
            raise PathError(f'endurance: wanted at least 3 minutes, found {len(minutes)}: measure for longer')
        last, second = minutes[-1], minutes[1]
        return cls(minutes, last.memory_mb / second.memory_mb, last.latency_ms_p95 / second.latency_ms_p95)


def performance(head) -> np.ndarray:
    """Return pictures of a synthetic performer, uint8 RGB [FRAMES, 512, 512, 3]; drawing them takes half a minute."""
    performer = Performer(head, 0, size=(512, 512))
    return np.stack([performer.frame(k / FRAME_RATE)[0] for k in range(FRAMES)])


def bench_path(
    avatar, head, pictures: np.ndarray, *, seconds: float, progress: Callable[[float], None],
) -> tuple[list[PathTiming], list[Bandwidth]]:
    """Measure the conditions one after the other.

    Args:
        avatar: is driven.
        head: head model.
        pictures: of the camera, `performance`.
        seconds: of each condition, after some of settling.
        progress: called with the share done.

    Raises:
        PathError: the node could not be started, or gave no pictures.
    """
    rows, found = [], {}
    with prepared(avatar, pictures) as folder:
        for k, condition in enumerate(CONDITIONS):
            def share(done: float, at=k) -> None:
                progress((at + done) / len(CONDITIONS))

            found = measure(folder, seconds, *condition, share)
            rows.append(_timing(*condition, found))
    messages = Bandwidth('expression messages', found['expression_bytes'] * _STREAM_RATE)
    return rows, [messages, *_as_pictures(avatar, head, pictures)]


def bench_endurance(
    avatar, pictures: np.ndarray, *, minutes: int, progress: Callable[[float], None],
) -> tuple[PathTiming, Endurance]:
    """Measure the quoted condition for whole minutes, three or more.

    Raises:
        PathError: as for `bench_path`; or too few minutes.
    """
    with prepared(avatar, pictures) as folder:
        found = measure(folder, 60.0 * minutes, *CONDITIONS[0], progress)
    return _timing(*CONDITIONS[0], found), Endurance.of(tuple(Minute(**m) for m in found['minutes']))


def _timing(size: int, busy: int, detail: int, found: dict) -> PathTiming:
    own = (f for f in PathTiming.__dataclass_fields__ if f not in ('size', 'busy', 'detail'))
    return PathTiming(size, busy, detail=detail, **{f: found[f] for f in own})


@contextmanager
def prepared(avatar, pictures: np.ndarray) -> Iterator[Path]:
    """Yield a folder with the avatar, and the pictures for the camera."""
    with tempfile.TemporaryDirectory(prefix='sega_bench_') as name:
        folder = Path(name)
        np.save(folder / 'frames.npy', pictures)
        AvatarStore(folder).save('bench', avatar)
        yield folder


def measure(folder: Path, seconds: float, size: int, busy: int, detail: int, progress: Callable[[float], None],
            environment: dict[str, str] | None = None) -> dict:
    """Run the three processes on what `prepared` wrote; return what `sega_ros.nodes.throughput` printed.

    `environment` is added to this process's.

    Raises:
        PathError: they failed.
    """
    options = {'avatar': 'bench', 'dir': folder, 'seconds': seconds, 'rate': CAMERA_RATE, 'size': size, 'busy': busy,
               'detail': detail}
    command = [sys.executable, '-m', 'sega_ros.nodes.throughput', str(folder / 'frames.npy'),
               *(part for name, value in options.items() for part in (f'--{name}', str(value)))]
    started = time.monotonic()
    variables = os.environ | (environment or {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables) as process:
        while True:
            try:
                output, messages = process.communicate(timeout=1.0)
                break
            except subprocess.TimeoutExpired:
                progress(min(1.0, (time.monotonic() - started) / (seconds + _AROUND)))
            except BaseException:
                process.terminate()
                raise
    lines = output.strip().splitlines()
    if process.returncode or not lines:
        raise PathError(f'bench path: {" ".join(messages.strip().splitlines()[-2:]) or "the measurement said nothing"}')
    return json.loads(lines[-1])


def _as_pictures(avatar, head, pictures: np.ndarray) -> list[Bandwidth]:
    """The avatar's pictures of the performance as JPEG and as H.264."""
    import cv2

    from sega_ros.avatar.drive import AvatarDriver, View
    from sega_ros.io import VideoWriter
    from sega_ros.tracking.embedding import landmark_embedding
    from sega_ros.tracking.tracker import FaceTracker

    driver, view = AvatarDriver(avatar, head), View('frontal')
    jpeg = 0
    with tempfile.TemporaryDirectory(prefix='sega_bench_') as folder:
        path = Path(folder) / 'avatar.mp4'
        with (FaceTracker(head, landmark_embedding(head), identity=avatar.identity) as tracker,
              VideoWriter(path, size=view.size, fps=_STREAM_RATE) as writer):
            for k, picture in enumerate(pictures):
                image = driver.render(tracker.track(picture, round(k * 1e9 / FRAME_RATE)), view)
                writer.write(image)
                options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
                jpeg += len(cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1])
        video = path.stat().st_size
    seconds = len(pictures) / _STREAM_RATE
    return [Bandwidth(f'the picture as JPEG, quality {_JPEG_QUALITY}', jpeg / seconds),
            Bandwidth('the picture as H.264 (the package\'s clips)', video / seconds)]


def condition_words(row: PathTiming) -> list[str]:
    """Say what was measured: the size, and in what it differs from the quoted condition."""
    words = [f'{row.size} x {row.size}']
    words += [f'{row.detail:,} splats'] if row.detail else []
    return words + ([f'{row.busy} busy process beside it'] if row.busy else [])


def path_table(rows: tuple[PathTiming, ...]) -> str:
    """Return the rows as Markdown."""
    lines = ['| camera message -> avatar message | frames/s | ms p50 | p95 | p99 | driver MB | start s |',
             '|---|---|---|---|---|---|---|']
    for r in rows:
        lines.append(f'| {", ".join(condition_words(r))} | {r.fps:.1f} | {r.latency_ms_p50:.1f} | {r.latency_ms_p95:.1f} | '
                     f'{r.latency_ms_p99:.1f} | {r.memory_mb:.0f} | {r.start_seconds:.1f} |')
    return '\n'.join(lines)


def bandwidth_table(rows: tuple[Bandwidth, ...]) -> str:
    """Return the rows as Markdown."""
    lines = [f'| sent at {_STREAM_RATE:g} frames/s | kB/s |', '|---|---|']
    return '\n'.join([*lines, *(f'| {r.what} | {r.bytes_per_second / 1000:.1f} |' for r in rows)])


def endurance_text(found: Endurance) -> str:
    """Return minutes and ratios as Markdown."""
    lines = ['| minute | frames/s | ms p95 | driver MB |', '|---|---|---|---|']
    lines += [f'| {k} | {m.fps:.1f} | {m.latency_ms_p95:.1f} | {m.memory_mb:.1f} |' for k, m in enumerate(found.minutes, 1)]
    lines += ['', f'Minute {len(found.minutes)} over minute 2: memory {found.memory_ratio:.3f}, '
                  f'latency (p95) {found.latency_p95_ratio:.3f}']
    return '\n'.join(lines)

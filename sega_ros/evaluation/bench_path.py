"""The whole path, camera message to avatar message, through the real driver node in a process of its own; and what it sends."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import SegaError

CAMERA_RATE = 120.0  # Hz: more than any machine here answers, so that the driver sets the pace
_FRAMES, _FRAME_RATE = 60, 30.0  # of the performance, played there and back
_STREAM_RATE = 30.0  # Hz, of the bandwidth
_JPEG_QUALITY = 90
# Size of the pictures and other busy processes; the first is the one that is quoted.
CONDITIONS = ((512, 0), (256, 0), (1024, 0), (512, 1))


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


@dataclass(frozen=True)
class Bandwidth:
    """Bytes a second of one way to send a face at 30 frames/s."""

    what: str
    bytes_per_second: float


def bench_path(avatar, head, *, seconds: float, progress: Callable[[float], None]) -> tuple[list[PathTiming], list[Bandwidth]]:
    """Measure the conditions one after the other.

    Args:
        avatar: is driven by a synthetic performer.
        head: head model.
        seconds: of each condition, after some of settling.
        progress: called with the share done.

    Raises:
        PathError: the node could not be started, or gave no pictures.
    """
    from sega_ros.avatar.store import AvatarStore
    from sega_ros.synthetic.performer import Performer

    performer = Performer(head, 0, size=(512, 512))
    frames = np.stack([performer.frame(k / _FRAME_RATE)[0] for k in range(_FRAMES)])
    rows, sent = [], {}
    with tempfile.TemporaryDirectory(prefix='sega_bench_') as folder:
        np.save(Path(folder) / 'frames.npy', frames)
        AvatarStore(Path(folder)).save('bench', avatar)
        for k, (size, busy) in enumerate(CONDITIONS):
            progress(k / len(CONDITIONS))
            found = _measure(Path(folder), seconds, size, busy)
            own = (f for f in PathTiming.__dataclass_fields__ if f not in ('size', 'busy'))
            rows.append(PathTiming(size, busy, **{f: found[f] for f in own}))
            sent = sent or found
    return rows, [Bandwidth('expression messages', sent['expression_bytes'] * _STREAM_RATE), *_as_pictures(avatar, head)]


def _measure(folder: Path, seconds: float, size: int, busy: int) -> dict:
    options = {'avatar': 'bench', 'dir': folder, 'seconds': seconds, 'rate': CAMERA_RATE, 'size': size, 'busy': busy}
    command = [sys.executable, '-m', 'sega_ros.nodes.throughput', str(folder / 'frames.npy'),
               *(part for name, value in options.items() for part in (f'--{name}', str(value)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise PathError(f'bench path: {" ".join(done.stderr.strip().splitlines()[-2:]) or "the measurement said nothing"}')
    return json.loads(lines[-1])


def _as_pictures(avatar, head) -> list[Bandwidth]:
    """The avatar's pictures of a performance as JPEG and as H.264."""
    import cv2

    from sega_ros.avatar.drive import AvatarDriver, View
    from sega_ros.io import VideoWriter
    from sega_ros.synthetic.performer import Performer
    from sega_ros.tracking.embedding import landmark_embedding
    from sega_ros.tracking.tracker import FaceTracker

    driver, view, performer = AvatarDriver(avatar, head), View('frontal'), Performer(head, 0, size=(512, 512))
    jpeg = 0
    with tempfile.TemporaryDirectory(prefix='sega_bench_') as folder:
        path = Path(folder) / 'avatar.mp4'
        with (FaceTracker(head, landmark_embedding(head), identity=avatar.identity) as tracker,
              VideoWriter(path, size=view.size, fps=_STREAM_RATE) as writer):
            for k in range(_FRAMES):
                image = driver.render(tracker.track(performer.frame(k / _FRAME_RATE)[0], round(k * 1e9 / _FRAME_RATE)), view)
                writer.write(image)
                options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
                jpeg += len(cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1])
        video = path.stat().st_size
    seconds = _FRAMES / _STREAM_RATE
    return [Bandwidth(f'the picture as JPEG, quality {_JPEG_QUALITY}', jpeg / seconds),
            Bandwidth('the picture as H.264 (the package\'s clips)', video / seconds)]


def path_table(rows: tuple[PathTiming, ...]) -> str:
    """Return the rows as Markdown."""
    lines = ['| camera message -> avatar message | frames/s | ms p50 | p95 | p99 | driver MB | start s |',
             '|---|---|---|---|---|---|---|']
    for r in rows:
        beside = f', {r.busy} busy process beside it' if r.busy else ''
        lines.append(f'| {r.size} x {r.size}{beside} | {r.fps:.1f} | {r.latency_ms_p50:.1f} | {r.latency_ms_p95:.1f} | '
                     f'{r.latency_ms_p99:.1f} | {r.memory_mb:.0f} | {r.start_seconds:.1f} |')
    return '\n'.join(lines)


def bandwidth_table(rows: tuple[Bandwidth, ...]) -> str:
    """Return the rows as Markdown."""
    lines = [f'| sent at {_STREAM_RATE:g} frames/s | kB/s |', '|---|---|']
    return '\n'.join([*lines, *(f'| {r.what} | {r.bytes_per_second / 1000:.1f} |' for r in rows)])

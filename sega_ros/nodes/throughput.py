"""The whole path at full rate: a camera, the real driver and a receiver, each a process of its own.

Prints one JSON object: `python -m sega_ros.nodes.throughput FRAMES.npy --avatar ID --dir DIR`. `sega bench` runs it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

from sega_ros.io.memory import process_memory
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.fast_camera import stamp_of
from sega_ros.nodes.processes import MeasurementError, activate, executable, pause, print_measured, spinning, start, wait_until
from sega_ros.nodes.reader import Reader

_SETTLE = 4.0  # seconds at full rate before anything counts
_MINUTE = 60.0


@dataclass(frozen=True)
class Setup:
    """What is measured."""

    avatar: str
    directory: str
    frames: Path  # uint8 RGB [N, H, W, 3], npy
    seconds: float = 20.0
    rate: float = 120.0  # of the camera, Hz
    size: int = 512  # of the avatar's pictures
    view: str = 'frontal'
    busy: int = 0  # other processes that compute all the time
    detail: int = 0  # splats; 0 draws all of the avatar's


@dataclass(frozen=True)
class Throughput:
    """What came out. Latency: from the stamp of the camera's message to the receipt of the avatar's."""

    fps: float
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    memory_mb: float  # the driver's resident set at the end
    drops: int  # camera images without an avatar image: the newest wins
    sent: int
    received: int
    seconds: float
    expression_bytes: float  # of one message, mean
    start_seconds: float  # from the start of the driver's process to the first picture
    minutes: list[dict[str, float]] = field(default_factory=list)  # fps, p95 and memory of each


class Receiver(Node):
    """Takes the avatar's pictures as bytes: reading them costs no more than it must."""

    def __init__(self, name: str, context: rclpy.Context) -> None:
        super().__init__(name, context=context, start_parameter_services=False, enable_rosout=False)
        self.arrivals: list[tuple[int, int]] = []  # receipt, stamp; nanoseconds
        self.expression_bytes: list[tuple[int, int]] = []  # receipt, size
        self._readers = [
            Reader(self, kind, topic, callback, profile, failed=self._failed, raw=True)
            for kind, topic, callback, profile in (
                (FlameExpression, 'expression', self._on_expression, qos.expression()),
                (Image, 'avatar/image', self._on_image, qos.newest()))]

    def _on_image(self, data: bytes) -> None:
        self.arrivals.append((time.time_ns(), stamp_of(data)))

    def _on_expression(self, data: bytes) -> None:
        self.expression_bytes.append((time.time_ns(), len(data)))

    def _failed(self, error: Exception) -> None:
        self.get_logger().error(f'{type(error).__name__}: {error}')

    def close(self) -> None:
        """Stop reading."""
        for reader in self._readers:
            reader.close()


def measure(setup: Setup, *, progress: Callable[[float], None] = lambda share: None,
            beside: Callable[[ExitStack, Node], None] = lambda stack, node: None) -> Throughput:
    """Start camera and driver, let them run, and return the figures.

    `beside` may start what else is to run until the end of a stack; the node it gets spins.

    Raises:
        MeasurementError: a process ended, or nothing came.
    """
    with ExitStack() as stack:
        context = rclpy.Context()
        rclpy.init(context=context)
        stack.callback(rclpy.try_shutdown, context=context)
        begun = time.monotonic()
        driver = start(stack, [executable('avatar_driver'), '--ros-args', *_parameters(setup)])
        receiver = stack.enter_context(receiving(Receiver('throughput', context)))
        activate(receiver, 'avatar_driver', driver)
        beside(stack, receiver)
        for _ in range(setup.busy):
            start(stack, ['-c', 'while True: pass'])
        log = stack.enter_context(tempfile.NamedTemporaryFile('r', suffix='.txt'))
        camera = start(stack, ['-m', 'sega_ros.nodes.fast_camera', str(setup.frames), '--rate', str(setup.rate),
                               '--log', log.name])
        wait_until(lambda: len(receiver.arrivals) > 0, 'first picture of the avatar', driver, camera)
        started = time.monotonic() - begun
        pause(_SETTLE, driver, camera)
        first, settled = time.time_ns(), time.monotonic()
        minutes, end, next_minute = [], settled + setup.seconds, settled + _MINUTE
        while (left := end - time.monotonic()) > 0:
            pause(min(1.0, left), driver, camera)
            progress(1 - max(0.0, left) / setup.seconds)
            if time.monotonic() >= next_minute:
                next_minute += _MINUTE
                minutes.append(_minute(receiver.arrivals, process_memory(driver.pid)))
        last, memory = time.time_ns(), process_memory(driver.pid)
        camera.terminate()
        camera.wait(10)
        sent = sum(first <= int(line) < last for line in log.read().split())
        return _figures(receiver, first, last, sent, memory, started, minutes)


def _figures(receiver: Receiver, first: int, last: int, sent: int, memory: float, started: float,
             minutes: list[dict[str, float]]) -> Throughput:
    seconds = (last - first) / 1e9
    sizes = [size for at, size in receiver.expression_bytes if first <= at < last]
    taken = [(at, stamp) for at, stamp in receiver.arrivals if first <= at < last]
    if len(taken) < 2:
        raise MeasurementError(f'{len(taken)} pictures of the avatar in {seconds:.0f} s; the messages above say why')
    latency = [(at - stamp) / 1e6 for at, stamp in taken]
    p50, p95, p99 = np.percentile(latency, [50, 95, 99])
    count = len(taken)
    return Throughput(
        fps=round(count / seconds, 2), latency_ms_p50=round(float(p50), 2), latency_ms_p95=round(float(p95), 2),
        latency_ms_p99=round(float(p99), 2), memory_mb=round(memory, 1), drops=max(0, sent - count), sent=sent, received=count,
        seconds=round(seconds, 2), expression_bytes=round(sum(sizes) / max(1, len(sizes)), 1), start_seconds=round(started, 2),
        minutes=minutes)


def _minute(arrivals: list[tuple[int, int]], memory: float) -> dict[str, float]:
    since = time.time_ns() - _MINUTE * 1e9
    latency = [(at - stamp) / 1e6 for at, stamp in arrivals if at >= since]
    p95 = float(np.percentile(latency, 95)) if latency else float('nan')
    return {'fps': round(len(latency) / _MINUTE, 2), 'latency_ms_p95': round(p95, 2), 'memory_mb': round(memory, 1)}


def _parameters(setup: Setup) -> Iterator[str]:
    values = {'avatar_dir': setup.directory, 'avatar_id': setup.avatar, 'view': setup.view, 'width': setup.size,
              'height': setup.size, 'detail': setup.detail}
    for name, value in values.items():
        yield from ('-p', f'{name}:={value}')


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    """Let a receiver take pictures in its threads; then destroy it."""
    with spinning(receiver):
        try:
            yield receiver
        finally:
            receiver.close()


def main(args: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('frames', type=Path)
    parser.add_argument('--avatar', required=True)
    parser.add_argument('--dir', required=True)
    parser.add_argument('--seconds', type=float, default=Setup.seconds)
    parser.add_argument('--rate', type=float, default=Setup.rate)
    parser.add_argument('--size', type=int, default=Setup.size)
    parser.add_argument('--view', default=Setup.view)
    parser.add_argument('--busy', type=int, default=Setup.busy)
    parser.add_argument('--detail', type=int, default=Setup.detail)
    o = parser.parse_args(args)
    setup = Setup(o.avatar, o.dir, o.frames, o.seconds, o.rate, o.size, o.view, o.busy, o.detail)
    return print_measured(lambda: measure(setup))


if __name__ == '__main__':
    sys.exit(main())

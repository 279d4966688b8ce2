"""Nodes as processes of their own, started, brought to life and watched by a program of ours."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from sega_ros.errors import SegaError
from sega_ros.io.memory import keep_freed_memory

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 10.0  # seconds for a process to end by itself
_START = 120.0  # seconds for what is waited for


class MeasurementError(SegaError):
    """A process of a measurement did not do its part."""


def quiet_environment() -> dict[str, str]:
    """Variables for processes that talk to each other only: pictures through shared memory, nobody else on the network."""
    return {
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(_ROOT / 'config' / 'fastdds.xml'),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100),
    }


def use_quiet_environment() -> None:
    """Set these variables for this process and those it starts, unless they are set."""
    for name, value in quiet_environment().items():
        os.environ.setdefault(name, value)


def print_measured(measure: Callable[[], Any]) -> int:
    """Measure in a quiet environment and print the result, a dataclass, as JSON; returns the exit status."""
    use_quiet_environment()
    keep_freed_memory()
    try:
        print(json.dumps(asdict(measure())))
    except SegaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def executable(name: str) -> str:
    """Return the path of a node's executable in this checkout."""
    return str(_ROOT / 'scripts' / name)


def start(stack: ExitStack, arguments: list[str], *, log: Path | None = None, **options) -> subprocess.Popen:
    """Start Python with `arguments`; the process ends with `stack`.

    `log` is a file for what it says, by default it says it here; `options` are those of Popen.
    """
    if log is not None:
        options |= {'stdout': stack.enter_context(log.open('wb')), 'stderr': subprocess.STDOUT}
    process = subprocess.Popen([sys.executable, *arguments], **options)
    stack.callback(stop, process)
    return process


def stop(process: subprocess.Popen) -> None:
    """End a process, by force where it does not end by itself."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def activate(node: Node, name: str, process: subprocess.Popen) -> None:
    """Configure and activate the lifecycle node `name` of `process`, as launch does; `node` spins meanwhile.

    Raises:
        MeasurementError: it ended, said nothing, or can't be started.
    """
    client = node.create_client(ChangeState, f'{name}/change_state')
    wait_until(client.service_is_ready, f'service {name}/change_state', process)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        wait_until(future.done, f'answer of {name}/change_state', process)
        if not future.result().success:
            raise MeasurementError(f'{name} could not be started; its messages say why')


def wait_until(condition: Callable[[], object], what: str, *processes: subprocess.Popen) -> None:
    """Wait for `condition` while `processes` run.

    Raises:
        MeasurementError: one ended, or nothing came in two minutes.
    """
    end = time.monotonic() + _START
    while not condition():
        pause(0.02, *processes)
        if time.monotonic() > end:
            raise MeasurementError(f'{what}: nothing within {_START:g} s')


def pause(seconds: float, *processes: subprocess.Popen) -> None:
    """Sleep; raise MeasurementError when one of the processes has ended."""
    time.sleep(seconds)
    for process in processes:
        if process.poll() is not None:
            raise MeasurementError(f'a process of the measurement ended with status {process.returncode}; its messages say why: '
                                   f'{process.args!r}')


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """Spin `node` in a thread; at the end its context is shut down and the node destroyed."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        rclpy.try_shutdown(context=node.context)
        thread.join()
        node.destroy_node()

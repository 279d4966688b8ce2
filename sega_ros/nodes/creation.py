"""Creations in a process of their own, beside the node.

It ends at any moment, whatever it computes: that is how a creation is cancelled. Programs that run all the time, the driver
above all, go first. And the memory of a creation, most of a gigabyte, goes back to the system.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.errors import CancelledError, SegaError

_ROOT = Path(__file__).resolve().parents[2]
_LOOK = 0.05  # seconds between two looks at whether to go on

Progress = Callable[[str, float, np.ndarray | None], None]  # stage, fraction of the whole job, picture so far


class WorkerError(SegaError):
    """The process that creates avatars ended before it was done."""


@dataclass(frozen=True)
class Order:
    """What is to be made."""

    head: str
    image: np.ndarray  # uint8 RGB [H, W, 3]
    options: dict[str, Any]  # of `create_avatar`


@dataclass(frozen=True)
class Ready:
    """The process has loaded what it needs."""


@dataclass(frozen=True)
class Report:
    """How far it is."""

    stage: str
    fraction: float
    picture: np.ndarray | None


@dataclass(frozen=True)
class Made:
    """What came of it."""

    data: bytes  # of the avatar's file
    warnings: tuple[str, ...]


def default_threads() -> int:
    """Return the threads of a creation that leave one core to the driver."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


class Workshop:
    """One process at a time; the next one is made ready before it is asked for, as its start takes some seconds."""

    def __init__(self, *, nice: int, threads: int) -> None:
        """Let processes run at a `nice` level (0 to 19) with so many `threads`; 0 are `default_threads`."""
        self._nice, self._threads = nice, threads or default_threads()
        self._lock = threading.Lock()
        self._spare: _Worker | None = None
        self._at_work: _Worker | None = None
        self._open = False

    @property
    def current(self) -> subprocess.Popen | None:
        """The process that carries out an order."""
        worker = self._at_work
        return worker.process if worker else None

    def open(self) -> None:
        """Have a process ready for each `make` from now on."""
        with self._lock:
            self._open = True
            if self._spare is None:
                self._spare = self._new()

    def close(self) -> None:
        """End the process that waits for an order, and start none beforehand from now on."""
        with self._lock:
            self._open = False
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.end()

    def make(self, order: Order, *, progress: Progress, cancelled: Callable[[], bool]) -> Made:
        """Carry out an order; `cancelled` is asked all the time.

        Raises:
            CancelledError: `cancelled` said so; the process has ended.
            WorkerError: the process ended by itself (out of memory, a crash).
            SegaError: as `create_avatar`.
        """
        with self._lock:
            worker = self._at_work = self._spare or self._new()
            self._spare = None
        refused = False
        try:
            return worker.make(order, progress, cancelled)
        except (CancelledError, WorkerError):
            raise
        except SegaError:
            refused = True  # a photo that is no good costs no new process
            raise
        finally:
            self._after(worker, keep=refused)

    def _after(self, worker: '_Worker', *, keep: bool) -> None:
        with self._lock:
            self._at_work = None
            keep = keep and self._open and self._spare is None
            if keep:
                self._spare = worker
            elif self._open and self._spare is None:
                self._spare = self._new()
        if not keep:
            worker.end()

    def _new(self) -> '_Worker':
        return _Worker(self._nice, self._threads)


class _Worker:
    """A running `creation_worker`; it ends when its socket is closed, also because this process was killed."""

    def __init__(self, nice: int, threads: int) -> None:
        ours, theirs = socket.socketpair()
        paths = [str(_ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
        limits = {'OMP_NUM_THREADS': str(threads), 'OPENBLAS_NUM_THREADS': str(threads), 'OMP_WAIT_POLICY': 'passive'}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'sega_ros.nodes.creation_worker', str(theirs.fileno()), '--nice', str(nice)],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                env={**os.environ, **limits, 'PYTHONPATH': os.pathsep.join(paths)})
        self._channel = Connection(ours.detach())
        self._ready = False

    def make(self, order: Order, progress: Progress, cancelled: Callable[[], bool]) -> Made:
        while not self._ready:  # it reads nothing before, and a photo is larger than what a socket holds
            self._ready = isinstance(self._next(cancelled), Ready)
        self._channel.send(order)
        while not isinstance(answer := self._next(cancelled), Made):
            if isinstance(answer, BaseException):
                raise answer
            progress(answer.stage, answer.fraction, answer.picture)
        return answer

    def _next(self, cancelled: Callable[[], bool]) -> Any:
        while not cancelled():
            try:
                if self._channel.poll(_LOOK):
                    return self._channel.recv()
            except (EOFError, OSError) as error:
                raise WorkerError(f'the process that creates avatars {_fate(self.process.wait())}; its last lines are in the '
                                  'log of this node') from error
        raise CancelledError('the creation was cancelled; nothing was stored')

    def end(self) -> None:
        """End it, whatever it does; nobody waits for it, as the system takes a while to free its memory."""
        self.process.kill()
        self._channel.close()
        threading.Thread(target=self.process.wait, daemon=True).start()


def _fate(status: int) -> str:
    if status >= 0:
        return f'ended with status {status}'
    hint = ' (out of memory?)' if -status == signal.SIGKILL else ''
    return f'was ended by {signal.Signals(-status).name}{hint}'

"""Endurance: builder, driver and a camera at full rate as processes, with random changes of everything that can be changed.

`make soak` runs it: `python -m sega_ros.nodes.soak --minutes 30 --seed 0 --out out/soak`. Exit status 1 with the reasons when
something grew, stopped or broke (`evaluation.soak`).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy
from tqdm import tqdm

from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import SegaError
from sega_ros.evaluation.soak import Second, Soak, reasons, report, summary, table
from sega_ros.evaluation.soak_plan import FACE, plan
from sega_ros.evaluation.soak_plot import soak_png
from sega_ros.head import load_head
from sega_ros.io.files import atomic_write
from sega_ros.io.memory import ProcessUse, keep_freed_memory, process_use
from sega_ros.nodes.processes import MeasurementError, activate, executable, pause, start, use_quiet_environment, wait_until
from sega_ros.nodes.soak_events import Actor
from sega_ros.nodes.throughput import Receiver, receiving
from sega_ros.synthetic.performer import Performer

_LAST_BREATH = 5.0  # seconds that a process may take to end
_TICK = 0.02  # seconds
_SAMPLE = 1.0  # seconds


@dataclass(frozen=True)
class Setup:
    """What is run."""

    folder: Path  # for logs; avatars go into `avatars` there
    clips: Sequence[Path]  # of the camera: `FACE` first, the names of `soak_plan.CUTS` but silence; uint8 RGB [N, H, W, 3], npy
    photos: Sequence[np.ndarray]  # people to be made avatars of, uint8 RGB [H, W, 3]
    seconds: float = 1800.0
    seed: int = 0
    rate: float = 120.0  # of the camera, Hz: more than any machine here answers
    builder: tuple[str, ...] = (executable('avatar_builder'),)  # Python's arguments
    driver: tuple[str, ...] = (executable('avatar_driver'),)


class Run:
    """One run under way."""

    def __init__(self, setup: Setup, stack: ExitStack) -> None:
        """Start the processes and create the first two avatars.

        Raises:
            MeasurementError: one ended, or did not answer.
        """
        self._setup, self._directory = setup, setup.folder / 'avatars'
        shutil.rmtree(self._directory, ignore_errors=True)  # an earlier run's
        context = rclpy.Context()
        rclpy.init(context=context)
        parameters = ['--ros-args', '-p', f'avatar_dir:={self._directory}']
        self._nodes = {name: start(stack, [*words, *parameters], log=setup.folder / f'{name}.log')
                       for name, words in (('avatar_builder', setup.builder), ('avatar_driver', setup.driver))}
        self._receiver = stack.enter_context(receiving(Receiver('soak', context)))
        for name, process in self._nodes.items():
            activate(self._receiver, name, process)
        self._camera = start(stack, ['-m', 'sega_ros.nodes.fast_camera', *map(str, setup.clips), '--rate', str(setup.rate),
                                     '--switch'], log=setup.folder / 'camera.log', stdin=subprocess.PIPE)
        self._actor = Actor(self._receiver, setup.photos, self._show, [*self._nodes.values(), self._camera])
        self._actor.first_avatars()
        wait_until(lambda: len(self._receiver.arrivals) > 0, 'first picture of the avatar', *self._nodes.values(), self._camera)

    def _show(self, clip: str) -> None:
        if (pipe := self._camera.stdin) is not None:
            with suppress(BrokenPipeError):  # that it has ended is noticed elsewhere
                pipe.write(f'{clip}\n'.encode())
                pipe.flush()

    def __call__(self) -> Soak:
        """Act and take figures until the end, or until a process dies."""
        first, begun, died, seconds = len(self._receiver.arrivals), time.time_ns(), '', []
        self._actor.begin(begun)
        try:
            with tqdm(total=round(self._setup.seconds), desc='soak', unit='s', mininterval=10.0) as bar:
                for second in self._seconds(begun, first):
                    seconds.append(second)
                    bar.update(round(second.at) - bar.n)
            self._actor.finish()
        except MeasurementError as error:
            died = str(error)
        arrivals = np.array([(got - begun) / 1e9 for got, _ in self._receiver.arrivals[first:]])
        return Soak(tuple(seconds), self._actor.events, arrivals, tuple(damaged(self._directory)), died, self._actor.refused)

    def _seconds(self, begun: int, seen: int) -> Iterator[Second]:
        """Act and yield the figures of each second; `seen` pictures came before the first."""
        actions, due = deque(plan(self._setup.seed, self._setup.seconds)), _SAMPLE
        while (at := (time.time_ns() - begun) / 1e9) < self._setup.seconds:
            while actions and actions[0].at <= at:
                self._actor(actions.popleft())
            self._actor.update()
            if at >= due:
                due += _SAMPLE
                arrivals = self._receiver.arrivals[seen:]
                seen += len(arrivals)
                yield self._second(at, arrivals)
            pause(_TICK, *self._nodes.values(), self._camera)

    def _second(self, at: float, arrivals: list[tuple[int, int]]) -> Second:
        latency = [(got - stamp) / 1e6 for got, stamp in arrivals] or [float('nan')]
        p50, p95, p99 = (float(v) for v in np.percentile(latency, (50, 95, 99)))
        return Second(at, len(arrivals), p50, p95, p99, self._use())

    def _use(self) -> dict[str, ProcessUse]:
        try:
            return {name: process_use(process.pid) for name, process in self._nodes.items()}
        except OSError:  # one has ended since it was looked at, or is about to: its memory goes first
            for _ in range(round(_LAST_BREATH / _TICK)):
                pause(_TICK, *self._nodes.values())
            raise


def damaged(directory: Path) -> list[str]:
    """Return a sentence about each avatar that can't be read whole."""
    store = AvatarStore(directory)
    out = [f'{entry.avatar_id}: {entry.reason}' for entry in store.damaged()]
    for entry in store.list():
        try:
            store.load(entry.avatar_id)
        except SegaError as error:
            out.append(f'{entry.avatar_id}: {error}')
    return out


def soak(setup: Setup) -> Soak:
    """Run it, write soak.json, soak.csv and soak.png into its folder, and return it.

    Raises:
        MeasurementError: it did not get going.
    """
    setup.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        done = Run(setup, stack)()
    what = {'seed': setup.seed, 'wanted_s': setup.seconds, 'camera_hz': setup.rate, 'cores': os.cpu_count()}
    for name, data in (('soak.json', f'{json.dumps(what | summary(done), indent=2)}\n'.encode()),
                       ('soak.csv', table(done).encode()), ('soak.png', soak_png(done))):
        atomic_write(setup.folder / name, data)
    return done


def synthetic(folder: Path, *, frames: int = 30, size: tuple[int, int] = (512, 512)) -> tuple[list[Path], list[np.ndarray]]:
    """Draw two synthetic people; return the camera's clips, written into `folder`, and a photo of each.

    Args:
        folder: for the clips.
        frames: of each performance.
        size: (H, W) pixels.
    """
    head, (height, _) = load_head(), size
    face, other = (np.stack([performer.frame(k / 30)[0] for k in range(frames)])
                   for performer in (Performer(head, seed, size=size) for seed in (0, 1)))
    clips = {FACE: face, 'other': other, 'still': face[:1], 'empty': np.full_like(face[:1], 128),
             'cropped': face[:, height // 8:-(height // 8)]}
    for name, clip in clips.items():
        np.save(folder / f'{name}.npy', clip)
    return [folder / f'{name}.npy' for name in clips], [face[0], other[0]]


def main(args: list[str] | None = None) -> int:
    """Run it and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--seed', type=int, default=0, help='of what happens when')
    parser.add_argument('--out', type=Path, default=Path('out/soak'), help='folder for results, logs and avatars')
    options = parser.parse_args(args)
    use_quiet_environment()
    keep_freed_memory()
    try:
        with tempfile.TemporaryDirectory(prefix='sega_soak_') as folder:
            clips, photos = synthetic(Path(folder))
            done = soak(Setup(options.out, clips, photos, 60 * options.minutes, options.seed))
    except SegaError as error:
        print(f'soak: {error}', file=sys.stderr)
        return 1
    print(f'{report(done)}\n{options.out / "soak.png"}')
    return 1 if reasons(done) else 0


if __name__ == '__main__':
    sys.exit(main())

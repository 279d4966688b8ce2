"""The driver's rate while the builder creates avatars on the same cores, and without it.

Prints one JSON object: `python -m sega_ros.nodes.contention PHOTO`.
"""

import argparse
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rclpy.node import Node

from sega_ros.avatar.create import create_avatar
from sega_ros.avatar.store import AvatarStore
from sega_ros.head import load_head
from sega_ros.io import read_image
from sega_ros.nodes.avatar_builder import QUALITIES
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message
from sega_ros.nodes.processes import MeasurementError, activate, executable, print_measured, start
from sega_ros.nodes.throughput import Setup, Throughput, measure
from sega_ros.srv import CreateAvatar
from sega_ros.synthetic.performer import Performer
from sega_ros.tracking.embedding import landmark_embedding

_FRAMES, _FRAME_RATE = 30, 30.0  # of the camera's clip, played there and back


@dataclass(frozen=True)
class Contention:
    """What came out: the driver alone, and beside creations."""

    alone: Throughput
    beside: Throughput
    kept: float  # share of the rate
    creation_seconds: list[float] = field(default_factory=list)  # of those that were finished


class Creations:
    """A builder that creates the same avatar again and again."""

    def __init__(self, photo: Path, quality: str, folder: Path, nice: int) -> None:
        """Store in `folder`; run creations at a `nice` level."""
        self._request = CreateAvatar.Request(
            avatar_id='beside', image=rgb_to_image_message(read_image(photo), stamp=ns_to_stamp(0), frame_id=''),
            quality=QUALITIES.index(quality), replace=True)
        self._command = [executable('avatar_builder'), '--ros-args', '-p', f'avatar_dir:={folder}', '-p',
                         f'nice:={nice}']
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.failure = ''

    def __call__(self, stack: ExitStack, node: Node) -> None:
        """Start them; they end with the stack."""
        builder = start(stack, self._command)
        activate(node, 'avatar_builder', builder)
        client = node.create_client(CreateAvatar, 'create_avatar')
        thread = threading.Thread(target=self._create, args=(client,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(self._over.set)

    def _create(self, client) -> None:
        while not self._over.is_set():
            begun, future = time.monotonic(), client.call_async(self._request)
            while not future.done() and not self._over.is_set():
                self._over.wait(0.1)
            if future.done():
                if not future.result().success:
                    self.failure = future.result().message
                    return
                self.seconds.append(round(time.monotonic() - begun, 1))


def contention(photo: Path, *, quality: str, rate: float, seconds: float, nice: int) -> Contention:
    """Drive an avatar of `photo` by a camera of `rate` for some `seconds` alone, then beside creations.

    Raises:
        MeasurementError: a process did not do its part.
        SegaError: the photo can't become an avatar.
    """
    head = load_head()
    performer = Performer(head, 0, size=(512, 512))
    with tempfile.TemporaryDirectory(prefix='sega_bench_') as name:
        folder = Path(name)
        np.save(folder / 'frames.npy', np.stack([performer.frame(k / _FRAME_RATE)[0] for k in range(_FRAMES)]))
        avatar = create_avatar(read_image(photo), head=head, embedding=landmark_embedding(head), quality='preview')
        AvatarStore(folder / 'driver').save('bench', avatar)
        setup = Setup('bench', str(folder / 'driver'), folder / 'frames.npy', seconds, rate)
        creations = Creations(photo, quality, folder / 'builder', nice)
        alone, beside = measure(setup), measure(setup, beside=creations)
    if creations.failure:
        raise MeasurementError(f'no avatar was created beside the driver: {creations.failure}')
    return Contention(alone, beside, round(beside.fps / alone.fps, 3), creations.seconds)


def main(args: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('photo', type=Path)
    parser.add_argument('--quality', choices=QUALITIES, default='standard')
    parser.add_argument('--rate', type=float, default=30.0, help='of the camera, Hz')
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--nice', type=int, default=10)
    o = parser.parse_args(args)
    return print_measured(lambda: contention(o.photo, quality=o.quality, rate=o.rate, seconds=o.seconds, nice=o.nice))


if __name__ == '__main__':
    sys.exit(main())

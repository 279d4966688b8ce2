"""Nodes on a small core that go wrong in a way of their choice: `soak_ends.py builder|driver right|damages|leaks|dies|hangs`."""

import os
import sys
import threading
from pathlib import Path

from fake_core import FakeBuilder, FakeDriver, FakePuppet, FakeTracker, record
from rclpy.parameter import Parameter

from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.managed import run_node

FRAMES = 60  # until a driver dies or hangs


class Builder(FakeBuilder):
    """Damages a file for each avatar it creates, when told so."""

    def __init__(self, way, directory):
        super().__init__()
        self._way, self._directory = way, Path(directory)

    def create(self, image, avatar_id, **options):
        if self._way == 'damages':
            self._directory.mkdir(parents=True, exist_ok=True)
            (self._directory / f'{avatar_id}.safetensors').write_bytes(b'half a file')
        return super().create(image, avatar_id, **options)


class Tracker(FakeTracker):
    """Leaks, dies or hangs with the frames."""

    def __init__(self, way):
        super().__init__()
        self._way, self._kept = way, []

    def track(self, image, stamp_ns, frame_id=''):
        if self._way == 'leaks':
            self._kept += [bytearray(os.urandom(1000) * 1500), Path(os.devnull).open('rb')]
            if self.frames % 10 == 0:
                threading.Thread(target=threading.Event().wait, daemon=True).start()
        elif self._way == 'dies' and self.frames > FRAMES:
            os._exit(3)
        elif self._way == 'hangs' and self.frames > FRAMES:
            threading.Event().wait()
        return super().track(image, stamp_ns, frame_id)


class Driver(FakeDriver):
    """Has every avatar."""

    def __init__(self, way):
        super().__init__()
        self._way = way

    def make_tracker(self):
        self.tracker = Tracker(self._way)
        return self.tracker

    def load(self, avatar_id):
        return FakePuppet(record(avatar_id), self)


def main(role, way, args):
    """Run one node."""
    if role == 'builder':
        return run_node(lambda: AvatarBuilder(core=lambda config: Builder(way, config.avatar_dir)), 'avatar_builder', args)
    return run_node(lambda: AvatarDriver(core=lambda _: Driver(way), parameter_overrides=[Parameter('fetch', value=False)]),
                    'avatar_driver', args)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[2:]))

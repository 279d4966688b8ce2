"""A small stand-in for the core, so that the nodes' own behaviour is tested in milliseconds.

Images are told apart by the value of their first pixel: 0 has no face.
"""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from sega_ros.avatar.idle import neutral_expression
from sega_ros.avatar.store import check_avatar_id
from sega_ros.camera import FRONTAL, pose_camera
from sega_ros.errors import (
    AvatarDamagedError,
    AvatarExistsError,
    AvatarNotFoundError,
    CancelledError,
    HeadModelMismatchError,
    NoFaceError,
    StorageError,
)
from sega_ros.nodes.core import AvatarRecord
from sega_ros.types import FlameExpression, FlameParams

MODEL, VERSION, N_EXPRESSION = 'fake', '1', 5


def record(avatar_id, created_ns=1, sha='0' * 64, model=MODEL):
    return AvatarRecord(avatar_id, created_ns, 1000, sha, model, VERSION, 'preview', 'not stated', 10, 30.0)


class FakeBuilder:
    """Keeps records in memory; `gate` holds a creation until it is set."""

    def __init__(self):
        self.records, self.bad = {}, []
        self.gate, self.started = threading.Event(), threading.Event()
        self.gate.set()
        self.calls = 0
        self.fail = None
        self.opened = False

    def open(self):
        self.opened = True

    def close(self):
        self.opened = False

    def check_free(self, avatar_id, *, replace):
        check_avatar_id(avatar_id)
        if avatar_id in self.records and not replace:
            raise AvatarExistsError(f'avatar {avatar_id!r} exists')

    def create(self, image, avatar_id, *, quality, consent, replace, bust, lighting, distilled, progress, cancelled):
        self.calls += 1
        self.started.set()
        if self.fail:
            raise self.fail
        if image[0, 0, 0] == 0:
            raise NoFaceError('no face found')
        for stage, fraction in (('fit', 0.2), ('optimise', 0.6)):
            progress(stage, fraction, image)
        while not self.gate.wait(0.01):
            if cancelled():
                raise CancelledError('cancelled')
        progress('store', 1.0, None)
        made = record(avatar_id, time.time_ns(), f'{self.calls:064d}')
        self.records[avatar_id] = made = AvatarRecord(**{**vars(made), 'quality': quality, 'consent': consent})
        return made, ('2 faces found: the largest is used',)

    def list(self):
        if isinstance(self.fail, StorageError):
            raise self.fail
        return sorted(self.records.values(), key=lambda r: r.avatar_id)

    def damaged(self):
        return self.bad

    def delete(self, avatar_id):
        check_avatar_id(avatar_id)
        if self.records.pop(avatar_id, None) is None:
            raise AvatarNotFoundError(f'no avatar {avatar_id!r}')

    def read_bytes(self, avatar_id, offset, length):
        if avatar_id not in self.records:
            raise AvatarNotFoundError(f'no avatar {avatar_id!r}')
        data = bytes(range(250)) * 4
        return SimpleNamespace(data=data[offset:offset + length], total_size=len(data), sha256='0' * 64)

    def read_photo(self, path):
        return np.full((8, 8, 3), 7, np.uint8)

    def store_id(self):
        return '5' * 32


class FakePuppet:
    """Renders a picture that tells avatar and expression: pixel 0 is the jaw, pixel 1 the avatar's creation time."""

    def __init__(self, made, driver):
        self.record, self.n_expression, self._driver = made, N_EXPRESSION, driver
        self.splats = 30_000

    def bind(self, expression, view):
        self._driver.views.append(view)
        image = np.zeros((*view.size, 3), np.uint8)
        image[0, 0] = round(float(expression.params.jaw_pose[0]) * 255)
        image[0, 1] = self.record.created_ns
        return SimpleNamespace(image=image, camera=pose_camera(FRONTAL, np.array([0, 0, 1.0]), 1.5, view.size))

    def draw(self, bound):
        self._driver.rendering.set()
        self._driver.gate.wait(10)
        return bound.image


class FakeTracker:
    """Sees a face in every image whose first pixel is not 0; that value is the jaw."""

    def __init__(self):
        self.calibration, self.frames = None, 0
        self.smoothing, self.closed = 1.0, False

    def reset(self):
        pass

    def close(self):
        self.closed = True

    def calibrate(self, expressions):
        self.calibration = list(expressions) if expressions is not None else None

    def track(self, image, stamp_ns, frame_id=''):
        assert not self.closed
        self.frames += 1
        if image[0, 0, 0] == 0:
            return neutral_expression(N_EXPRESSION, MODEL, VERSION, stamp_ns=stamp_ns, frame_id=frame_id)
        return seen(image[0, 0, 0] / 255, stamp_ns, frame_id)


def seen(jaw, stamp_ns=0, frame_id='camera'):
    """Return an expression with a face, the jaw turned by `jaw` radians."""
    params = replace(FlameParams.neutral(0, N_EXPRESSION), jaw_pose=np.array([jaw, 0, 0], np.float32))
    return FlameExpression(stamp_ns, frame_id, MODEL, VERSION, True, 0.9, params, FRONTAL,
                           np.array([0, 0, 0.7], np.float32), 1.5)


class FakeDriver:
    """Avatars in memory; `gate` holds rendering until it is set."""

    head_model, head_model_version = MODEL, VERSION

    def __init__(self, *records):
        self.records = {r.avatar_id: r for r in records}
        self.damaged = set()
        self.views, self.gate, self.rendering = [], threading.Event(), threading.Event()
        self.gate.set()
        self.tracker = FakeTracker()

    def list(self):
        return sorted(self.records.values(), key=lambda r: r.avatar_id)

    def load(self, avatar_id):
        check_avatar_id(avatar_id)
        if avatar_id in self.damaged:
            raise AvatarDamagedError(f'{avatar_id}: damaged')
        if avatar_id not in self.records:
            raise AvatarNotFoundError(f'no avatar {avatar_id!r}')
        if self.records[avatar_id].head_model != MODEL:
            raise HeadModelMismatchError(f'{avatar_id}: another head model')
        return FakePuppet(self.records[avatar_id], self)

    def make_tracker(self):
        self.tracker = FakeTracker()
        return self.tracker

    def stored_sha256(self, avatar_id):
        return self.records[avatar_id].sha256 if avatar_id in self.records else ''

    def receive(self, avatar_id, *, size, sha256):
        raise AvatarNotFoundError(f'no avatar {avatar_id!r}')  # nothing comes from elsewhere

    def copies(self):
        return []

    def drop_parts(self, listed):
        pass

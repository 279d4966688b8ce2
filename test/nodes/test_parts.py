"""Mailbox, jobs, statistics, answers and record messages, without a running node."""

import subprocess
import sys
import threading
from concurrent.futures import wait
from types import SimpleNamespace

import numpy as np
import pytest

from sega_ros.errors import BusyError, ErrorCode, NoFaceError
from sega_ros.io import memory
from sega_ros.nodes.answers import answer, shorten
from sega_ros.nodes.calibration import calibration_duration
from sega_ros.nodes.core import AvatarRecord
from sega_ros.nodes.jobs import OneJob
from sega_ros.nodes.mailbox import Mailbox, Worker
from sega_ros.nodes.records import choose, records_to_message
from sega_ros.nodes.statistics import FrameStatistics
from sega_ros.srv import DeleteAvatar


def record(avatar_id, created_ns=0, **changes):
    values = {'avatar_id': avatar_id, 'created_ns': created_ns, 'size': 1, 'sha256': '0' * 64, 'head_model': 'open',
              'head_model_version': '1', 'quality': 'high', 'consent': '', 'splats': 3, 'photo_psnr': float('nan')}
    return AvatarRecord(**{**values, **changes})


def test_mailbox_keeps_the_newest():
    box = Mailbox()
    assert [box.put(i) for i in range(3)] == [False, True, True]
    assert box.take() == 2
    assert box.put(3) is False
    assert box.close() is True
    assert box.take() is None
    assert box.put(4) is True


def test_worker_survives_failures_and_counts_drops():
    failures, handled, drops, gate, busy = [], [], [], threading.Event(), threading.Event()

    def handle(item):
        busy.set()
        assert gate.wait(10)
        if item == 'bad':
            raise ValueError(item)
        handled.append(item)

    worker = Worker('test', handle, dropped=lambda: drops.append(1), failed=failures.append)
    worker.put('bad')
    assert busy.wait(10)
    for item in 'abc':
        worker.put(item)
    gate.set()
    while not handled:
        threading.Event().wait(0.001)
    worker.stop()
    worker.put('d')
    assert [str(f) for f in failures] == ['bad'] and handled == ['c'] and len(drops) == 3


def test_one_job():
    jobs, gate = OneJob(), threading.Event()
    first = jobs.start('a', lambda _: gate.wait(10))
    with pytest.raises(BusyError, match='busy with a'):
        jobs.start('b', lambda _: None)
    gate.set()
    assert first.result(10) is True
    failing = jobs.start('c', lambda _: 1 / 0)
    wait([failing], 10)
    assert isinstance(failing.exception(), ZeroDivisionError)
    waiting = threading.Event()
    cancelled = jobs.start('d', lambda stopped: [waiting.wait(0.001) for _ in iter(stopped, True)])
    jobs.cancel()
    assert cancelled.done() and jobs.running == ''


def test_statistics():
    now = [0.0]
    statistics = FrameStatistics(window=5.0, clock=lambda: now[0])
    empty = statistics.report()
    assert empty.rate == 0 and np.isnan(empty.latency_p50) and np.isnan(empty.seconds_since_input)
    for k in range(11):
        now[0] = 100 + k / 10
        statistics.received()
        now[0] += 0.02
        statistics.published(0.02)
    statistics.dropped()
    statistics.refused()
    statistics.late()
    now[0] += 0.01
    report = statistics.report()
    assert report.rate == pytest.approx(10) and report.input_rate == pytest.approx(10)
    assert report.latency_p50 == pytest.approx(0.02) and report.latency_p95 == pytest.approx(0.02)
    assert (report.received, report.published, report.dropped, report.refused, report.unwanted) == (11, 11, 1, 1, 0)
    assert report.late == 1
    assert report.seconds_since_input == pytest.approx(0.03) and report.interval == pytest.approx(0.1)
    now[0] += 20
    statistics.published(0.5)
    late = statistics.report()
    assert late.recently == {'received': 0, 'published': 1, 'dropped': 0, 'refused': 0, 'unwanted': 0, 'late': 0}
    assert late.latency_p50 == pytest.approx(0.5) and late.published == 12, 'old latencies are gone'


def test_answer_turns_exceptions_into_codes():
    logger = SimpleNamespace(warning=lambda _: None, error=lambda _: None)

    def fail(error):
        def work(_):
            raise error
        return answer(DeleteAvatar.Response(), work, logger)

    assert (fail(NoFaceError('none')).error_code, fail(NoFaceError('none')).message) == (ErrorCode.NO_FACE, 'none')
    assert fail(RuntimeError('x' * 5000)).error_code == ErrorCode.INTERNAL
    assert len(fail(NoFaceError('ü' * 5000)).message.encode()) <= 1024
    good = answer(DeleteAvatar.Response(), lambda _: 'done', logger)
    assert good.success and good.message == 'done'


def test_shorten_cuts_between_characters():
    assert shorten('abc', 3) == 'abc'
    for limit in range(4, 12):
        assert len(shorten('üüüüüüüü', limit).encode()) <= limit


def test_list_message_is_bounded_and_sorted():
    many = [record(f'a{k:04d}', created_ns=k) for k in range(1030)]
    message = records_to_message(many, records_to_message([], _stamp()).stamp)
    assert len(message.avatars) == 1024
    assert [a.id for a in message.avatars] == sorted(a.id for a in message.avatars)
    assert message.avatars[0].id == 'a0006', 'the oldest are left out'


def _stamp():
    from builtin_interfaces.msg import Time

    return Time()


def test_texts_are_cut_to_the_message():
    message = records_to_message([record('a', consent='x' * 999, head_model_version='v' * 40)], _stamp()).avatars[0]
    assert len(message.consent.encode()) <= 256 and len(message.head_model_version.encode()) <= 16
    assert np.isnan(message.photo_psnr)


def test_choose():
    avatars = records_to_message([record('ann', 1), record('bob', 3), record('eve', 2)], _stamp()).avatars
    assert choose(avatars, '').id == 'bob'
    assert choose(avatars, 'eve').id == 'eve'
    assert choose(avatars, 'none') is None and choose([], '') is None


def test_calibration_duration():
    assert calibration_duration(0.0) == 2.0
    assert calibration_duration(1.5) == 1.5


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch):
    asked = []
    library = SimpleNamespace(mallopt=lambda option, size: asked.append((option, size)) or 1)
    monkeypatch.setattr(memory.ctypes, 'CDLL', lambda _: library)
    assert memory.keep_freed_memory()
    assert asked == [(-3, 32 << 20), (-1, 128 << 20), (-8, 2)]
    monkeypatch.setattr(memory.ctypes, 'CDLL', lambda _: SimpleNamespace())
    assert not memory.keep_freed_memory() and not memory.release_freed_memory()


def test_freed_memory_is_handed_back():
    """In a process of its own, where nothing else allocates."""
    code = """
import os
from sega_ros.io.memory import keep_freed_memory, process_memory, release_freed_memory

keep_freed_memory()
before = process_memory(os.getpid())
blocks = [bytearray(50_000) for _ in range(4000)]
blocks = blocks[-1:]  # lies on top of the others: what is below stays with the process
kept = process_memory(os.getpid())
release_freed_memory()
print(kept - before, process_memory(os.getpid()) - before)
"""
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    kept, left = map(float, found.split())
    assert kept > 100 and left < 50

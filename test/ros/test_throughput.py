"""The benchmark of the whole path: three real processes, and what is counted."""

import itertools
import math
import mmap
import os
import subprocess

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from sega_ros.avatar.store import AvatarStore
from sega_ros.io import write_png
from sega_ros.io.memory import process_memory
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message, stamp_to_ns
from sega_ros.nodes.fast_camera import stamp_of, stamped, there_and_back
from sega_ros.nodes.processes import MeasurementError
from sega_ros.nodes.throughput import Setup, measure
from sega_ros.synthetic.performer import Performer


def test_a_serialised_picture_gets_another_stamp_and_nothing_else_changes():
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    message = rgb_to_image_message(picture, stamp=ns_to_stamp(1), frame_id='camera')
    data = stamped(bytes(serialize_message(message)), 1_700_000_000_123_456_789)
    found = deserialize_message(data, Image)
    assert stamp_of(data) == stamp_to_ns(found.header.stamp) == 1_700_000_000_123_456_789
    message.header.stamp = found.header.stamp
    assert found == message
    with pytest.raises(ValueError, match='little-endian'):
        stamped(b'\x00\x00\x00\x00', 1)


def test_a_clip_is_played_there_and_back():
    assert list(itertools.islice(there_and_back(3), 9)) == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert list(itertools.islice(there_and_back(1), 3)) == [0, 0, 0]


def test_memory_of_a_process_grows_with_what_it_holds():
    before = process_memory(os.getpid())
    with mmap.mmap(-1, 20_000_000) as held:  # new pages, where an array might get freed ones
        held.write(b'1' * len(held))
        assert 15 < process_memory(os.getpid()) - before < 80
        peak = process_memory(os.getpid(), peak=True)
        assert peak >= process_memory(os.getpid()) - 1
    assert process_memory(os.getpid(), peak=True) >= peak - 1  # the kernel counts in batches
    with pytest.raises(OSError):
        process_memory(2**30)


def test_a_process_that_has_ended_holds_no_memory():
    with subprocess.Popen(['true']) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError, match=str(process.pid)):
            process_memory(process.pid)


@pytest.fixture(scope='module')
def frames(head, tmp_path_factory):
    performer = Performer(head, 0, size=(240, 320))
    path = tmp_path_factory.mktemp('frames') / 'frames.npy'
    np.save(path, np.stack([performer.frame(k / 30)[0] for k in range(4)]))
    return path


def test_the_whole_path_through_three_processes(frames, plain_avatar, tmp_path, monkeypatch):
    from sega_ros.nodes import throughput

    monkeypatch.setattr(throughput, '_SETTLE', 0.5)
    monkeypatch.setattr(throughput, '_MINUTE', 1.0)
    monkeypatch.setenv('ROS_DOMAIN_ID', str(102 + os.getpid() % 100))
    AvatarStore(tmp_path).save('bench', plain_avatar)
    shares = []
    found = measure(Setup('bench', str(tmp_path), frames, seconds=2.0, rate=40.0, size=64, detail=900), progress=shares.append)
    assert found.received >= 2 and found.fps == pytest.approx(found.received / found.seconds, rel=0.01)
    assert 0 <= found.drops <= found.sent and found.sent <= 41 * found.seconds
    assert 0 < found.latency_ms_p50 <= found.latency_ms_p95 <= found.latency_ms_p99 < 10_000
    assert 100 < found.memory_mb < 4000 and 100 < found.expression_bytes < 2000
    assert len(found.minutes) == 2 and all(m.keys() == {'fps', 'latency_ms_p95', 'memory_mb'} for m in found.minutes)
    assert found.start_seconds > 0 and not math.isnan(found.start_seconds) and shares[-1] == pytest.approx(1, abs=0.6)


def test_the_driver_beside_creations(monkeypatch, tmp_path, astronaut):
    """Two measurements of real processes, the second beside a builder at work."""
    from sega_ros.nodes import contention, throughput

    monkeypatch.setattr(throughput, '_SETTLE', 0.5)
    monkeypatch.setattr(contention, '_FRAMES', 2)
    monkeypatch.setenv('ROS_DOMAIN_ID', str(102 + os.getpid() % 100))
    write_png(tmp_path / 'photo.png', astronaut)
    found = contention.contention(tmp_path / 'photo.png', quality='preview', rate=20.0, seconds=4.0, nice=10)
    assert found.alone.received > 2 and found.beside.received > 2
    assert found.kept == pytest.approx(found.beside.fps / found.alone.fps, abs=0.001)
    assert all(0.5 < seconds < 300 for seconds in found.creation_seconds)


def test_an_avatar_that_is_not_there_ends_the_measurement(frames, tmp_path, monkeypatch):
    from sega_ros.nodes import processes

    monkeypatch.setattr(processes, '_START', 12.0)
    monkeypatch.setenv('ROS_DOMAIN_ID', str(102 + os.getpid() % 100))
    with pytest.raises(MeasurementError, match='first picture'):
        measure(Setup('nobody', str(tmp_path), frames, seconds=1.0, rate=20.0, size=64))

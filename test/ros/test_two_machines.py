"""Operator and robot in two network namespaces with a link of 256 kbit/s, 80 ms and 2 % loss between them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import link
import numpy as np
import pytest

from sega_ros.avatar.store import AvatarStore
from sega_ros.head import load_head
from sega_ros.synthetic.performer import Performer

if reason := link.why_not():
    pytest.skip(reason, allow_module_level=True)

ENDS = Path(__file__).with_name('far_end.py')
CUT, MEASURED = 5.0, 8.0  # seconds


def contents(path):
    return path.read_text() if path.exists() else ''


def pictures(path):
    """Receipts and stamps [N, 2], nanoseconds, of the avatar's pictures so far."""
    whole = contents(path).rpartition('\n')[0].splitlines()
    lines = (line.split() for line in whole if line.startswith('image '))
    return np.array([(int(at), int(stamp)) for _, at, stamp in lines], np.int64).reshape(-1, 2)


def wait_for(condition, what, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'{what}: not within {seconds} s'
        time.sleep(0.2)


def start(between, folder):
    """Both ends, running."""
    environment = os.environ | {'ROS_DOMAIN_ID': '91', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET',
                                'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}
    environment.pop('FASTRTPS_DEFAULT_PROFILES_FILE', None)
    ends = ((between.a, 'operator', [str(folder / 'frames.npy')]), (between.b, 'robot', []))
    return [subprocess.Popen(
        between.command(end, [sys.executable, str(ENDS), role, str(folder / role), str(folder / f'{role}.log'), *more]),
        env=environment, stdin=subprocess.PIPE) for end, role, more in ends]


def stop(processes):
    for process in processes:
        process.stdin.close()
    for process in processes:
        process.wait(60)


def test_a_robot_far_away(tmp_path, plain_avatar):
    """It fetches the avatar, follows the operator, idles while the link is cut, and comes back."""
    store, robot = AvatarStore(tmp_path / 'operator'), AvatarStore(tmp_path / 'robot')
    store.save('ann', plain_avatar)
    performer = Performer(load_head(), 0, size=(240, 320))
    np.save(tmp_path / 'frames.npy', np.stack([performer.frame(k / 30)[0] for k in range(20)]))
    log = tmp_path / 'robot.log'
    with link.Link(kbit=256, delay=0.08, loss=0.02) as between:
        processes = start(between, tmp_path)
        try:
            for end in ('operator', 'robot'):
                wait_for(lambda end=end: 'ready' in contents(tmp_path / f'{end}.log'), f'the {end}', 120)
            # Most of this is DDS telling both ends of all endpoints, some seconds' worth of such a link.
            wait_for(lambda: [e.avatar_id for e in robot.list()] == ['ann'], 'the avatar', 240)
            assert robot.sha256('ann') == store.sha256('ann')
            wait_for(lambda: len(pictures(log)) > 30, 'pictures', 60)
            time.sleep(3)
            before, sent = len(pictures(log)), between.forwarded[between.a]
            time.sleep(MEASURED)
            followed, kbit = pictures(log)[before:], (between.forwarded[between.a] - sent) * 8 / 1000 / MEASURED

            between.cut, cut = True, time.time_ns()
            time.sleep(CUT)
            between.cut, mended = False, time.time_ns()
            time.sleep(10)
        finally:
            stop(processes)
    latency = (followed[:, 0] - followed[:, 1]) / 1e6
    p50, p95 = np.percentile(latency, (50, 95))
    print(f'{len(followed) / MEASURED:.1f} pictures/s, latency p50 {p50:.0f} ms, p95 {p95:.0f} ms, {kbit:.0f} kbit/s')
    assert len(followed) / MEASURED > 20
    assert 80 < p50 < 500
    assert kbit < 200

    camera = np.array(contents(tmp_path / 'operator.log.camera').split(), np.int64)
    images = pictures(log)
    during = images[(images[:, 0] > cut + 1e9) & (images[:, 0] < mended)]
    assert len(during) / (CUT - 1) > 15, 'it idles'
    assert not np.isin(during[:, 1], camera).any() and len(set(during[:, 1])) > 0.9 * len(during), 'with stamps that go on'
    after = images[(images[:, 0] > mended) & (images[:, 1] > mended)]
    back = after[np.isin(after[:, 1], camera)]
    print(f'back {(back[0, 0] - mended) / 1e9:.1f} s after the link')
    assert (back[0, 0] - mended) / 1e9 < 8
    last = back[back[:, 0] > back[0, 0] + 2e9]
    assert len(last) > 20 and np.median(last[:, 0] - last[:, 1]) < 0.6e9, 'nothing old is left in the queue'

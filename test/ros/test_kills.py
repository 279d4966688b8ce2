"""kill -9 at random moments: files stay whole, the other node lives, and the killed one is soon back.

`SEGA_KILLS=50 pytest -s test/ros/test_kills.py` kills more often and prints how long it took to come back.

The nodes talk over UDP. What kill -9 leaves in Fast DDS's shared memory others may go on writing into for ever, and the new
process hears nothing (docs/on_your_robot.md): that is no property of these nodes, and came about once in a hundred kills.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.action import ActionClient
from ros_support import Camera
from sensor_msgs.msg import Image

from sega_ros.action import CreateAvatar as CreateAvatarAction
from sega_ros.avatar.store import AvatarStore
from sega_ros.errors import ErrorCode
from sega_ros.io.files import is_abandoned
from sega_ros.nodes import qos
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message, stamp_to_ns
from sega_ros.srv import DeleteAvatar, ListAvatars

ROOT = Path(__file__).resolve().parent.parent.parent
PROFILE = str(ROOT / 'config' / 'fastdds_udp.xml')
KILLS = int(os.environ.get('SEGA_KILLS', '10'))
BACK = 6.0  # seconds that a node may take; as many times longer as other programs want a core
SHORT = 1.0  # seconds until a call is sent again: the dead node looks alive to DDS for a while


class Process:
    """A node as a process of its own that is killed and started again."""

    def __init__(self, world, script, directory, *arguments):
        self.world, self.name, self.store = world, script, AvatarStore(directory)
        self._command = [sys.executable, '-X', 'faulthandler', str(ROOT / 'scripts' / script), '--ros-args',
                         '-p', 'autostart:=true', '-p', f'avatar_dir:={directory}', *arguments]
        self.process = None

    def start(self):
        """Start it; it configures and activates itself, as under a launch file that starts nodes again."""
        self.process = subprocess.Popen(self._command, env={**os.environ, 'ROS_DOMAIN_ID': str(self.world.domain),
                                                            'FASTRTPS_DEFAULT_PROFILES_FILE': PROFILE})

    def call(self, kind, name, request, timeout=60.0):
        """Call a service again and again until it answers."""
        client, end = self.world.helper.create_client(kind, name), time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                future, again = client.call_async(request), time.monotonic() + SHORT
                self.world.wait(lambda: future.done() or time.monotonic() > again, f'answer of {name}')
                if future.done():
                    return future.result()
                client.remove_pending_request(future)
        finally:
            self.world.helper.destroy_client(client)
        raise AssertionError(f'no answer of {name} within {timeout:g} s')

    @property
    def children(self):
        """Ids of the processes that it started."""
        pid = self.process.pid
        return [int(c) for c in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]

    def kill(self):
        """kill -9; its children have to follow by themselves."""
        children = self.children
        self.process.kill()
        self.process.wait()
        self.world.wait(lambda: not any(map(runs, children)), 'the end of the processes that it started')

    def check_files(self):
        """Every avatar can be loaded."""
        assert not self.store.damaged()
        return [self.store.load(entry.avatar_id) for entry in self.store.list()]


def runs(pid):
    """Whether a process computes: it is there and no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


class Robot:
    """Builder and driver with a directory each, a camera at 30 Hz, and somebody who watches the avatar."""

    def __init__(self, world, folder, seed):
        self.world, self.random, self.goal = world, random.Random(seed), None
        self.client = ActionClient(world.helper, CreateAvatarAction, 'create_avatar')
        self.builder = Process(world, 'avatar_builder', folder / 'builder')
        self.driver = Process(world, 'avatar_driver', folder / 'driver', '-p', 'width:=128', '-p', 'height:=128')
        self.images = world.collect(Image, 'avatar/image', qos.newest())
        self.camera = Camera(world, size=(240, 320))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._film, daemon=True)
        self._thread.start()

    def _film(self):
        while not self._over.wait(1 / 30):
            self.camera.send(90)

    def close(self):
        self._over.set()
        self._thread.join()
        self.client.destroy()
        for node in (self.builder, self.driver):
            if node.process is not None:
                node.process.send_signal(signal.SIGKILL)
                node.process.wait()

    def pictures_again(self):
        """Wait for a picture that was taken from now on."""
        now = self.world.helper.get_clock().now().nanoseconds
        self.world.wait(lambda: self.images and stamp_to_ns(self.images[-1].header.stamp) > now, 'a picture', 60)
        del self.images[:-1]

    def said_by(self, node):
        """The newest diagnostics of a node."""
        return self.world.reason(SimpleNamespace(get_name=lambda: node.name))

    def builder_answers(self):
        # Configured, but not yet active, it refuses.
        self.world.wait(lambda: self.builder.call(ListAvatars, 'list_avatars', ListAvatars.Request()).success, 'a list', 60)

    def check(self, node):
        """Wait until a node does its work; an error says how things stand, and the node where its threads are."""
        try:
            self.pictures_again() if node is self.driver else self.builder_answers()
        except AssertionError as error:
            standing = (f'{node.name}: status {node.process.poll()}, diagnostics {self.said_by(node)}, stored '
                        f'{sorted(p.name for p in node.store.directory.iterdir())}; camera runs: {self._thread.is_alive()}, '
                        f'is heard by {self.camera.publisher.get_subscription_count()}')
            node.process.send_signal(signal.SIGABRT)
            node.process.wait()
            raise AssertionError(f'{error}; {standing}') from error

    # --- what goes on when the blow falls: each returns when it has begun, and how many seconds it lasts --------------

    def creating(self, portrait, *, until='', longest=4.0):
        if self.goal is not None:  # of a blow at the driver
            self.goal.cancel_goal_async()
        goal, result = CreateAvatarAction.Goal(image=portrait, avatar_id='ann', replace=True, consent='public domain'), None
        while result is None or (result.done() and result.result().result.error_code == ErrorCode.BUSY):  # the one before
            self.goal, stages = self.accepted(goal)
            result = self.goal.get_result_async()
            self.world.wait(lambda: (until in stages if until else stages) or result.done(), f'stage {until}', 300)
        return longest

    def accepted(self, goal):
        """Send a goal until it is accepted; return its handle and the stages it goes through."""
        stages, end = [], time.monotonic() + 60.0
        while time.monotonic() < end:
            future = self.client.send_goal_async(goal, feedback_callback=lambda m: stages.append(m.feedback.stage))
            again = time.monotonic() + SHORT
            self.world.wait(lambda: future.done() or time.monotonic() > again, 'acceptance')
            if future.done():
                return future.result(), stages
        raise AssertionError('no goal was accepted')

    def writing(self, portrait):
        return self.creating(portrait, until='done', longest=0.1)

    def fetching(self, portrait):
        """The builder lists another version, which the driver copies."""
        store, k = self.builder.store, self.random.randrange(2**31)
        avatar = store.load('bob')
        store.save('bob', type(avatar)(**{**vars(avatar), 'background': np.float32([k / 2**31, 0, 0])}), replace=True)
        self.world.wait(lambda: [p for p in self.driver.store.directory.glob('.tmp-*') if not is_abandoned(p)]
                        or self.driver.store.sha256('bob') == store.sha256('bob'), 'the copying', 30)
        return 0.3

    def deleting(self, portrait):
        ann = next((e for e in self.builder.store.list() if e.avatar_id == 'ann'), None)
        if ann is None:
            self.builder.store.save('ann', self.builder.store.load('bob'))
        client = self.world.helper.create_client(DeleteAvatar, 'delete_avatar')
        self.world.wait(client.service_is_ready, 'delete_avatar')
        client.call_async(DeleteAvatar.Request(avatar_id='ann'))
        return 0.02

    def resting(self, portrait):
        return 1.0


@pytest.fixture
def robot(world, tmp_path, plain_avatar):
    AvatarStore(tmp_path / 'builder').save('bob', plain_avatar)
    made = Robot(world, tmp_path, seed=20251126)
    try:
        made.builder.start()
        made.driver.start()
        made.pictures_again()
        yield made
    finally:
        made.close()


@pytest.mark.timeout(120 + 90 * KILLS)
def test_killed_at_any_moment(robot, astronaut):
    portrait = rgb_to_image_message(astronaut, stamp=ns_to_stamp(0), frame_id='')
    load, stuck = os.getloadavg()[0], []
    took = {robot.builder.name: [], robot.driver.name: []}
    activities = [robot.creating, robot.writing, robot.fetching, robot.deleting, robot.resting]
    blows = [(*nodes, a) for nodes in ((robot.builder, robot.driver), (robot.driver, robot.builder)) for a in activities]
    robot.random.shuffle(blows)
    for victim, other, activity in itertools.islice(itertools.cycle(blows), KILLS):
        longest = activity(portrait)
        threading.Event().wait(robot.random.uniform(0, longest))  # the random moment itself
        victim.kill()
        for node in (victim, other):
            node.check_files()
        assert other.process.poll() is None
        robot.check(other)
        start = time.monotonic()
        victim.start()
        try:
            robot.check(victim)
        except AssertionError as error:  # as whoever restarts nodes would: once more, but not often
            stuck.append(f'{victim.name} killed while {activity.__name__}: {error}')
            print('not back, started once more:', stuck[-1])
            start = time.monotonic()
            victim.start()
            robot.check(victim)
        took[victim.name].append(time.monotonic() - start)
        print(f'{victim.name} killed while {activity.__name__}: back after {took[victim.name][-1]:.1f} s')
        assert not [p for p in victim.store.directory.glob('.tmp-*') if is_abandoned(p)], 'left behind'
    assert len(stuck) <= max(1, KILLS // 20), stuck
    load = max(load, *os.getloadavg())
    for name, seconds in took.items():
        if seconds:
            print(f'{name}: {len(seconds)} kills, back after {np.median(seconds):.1f} s (median), {max(seconds):.1f} s at most')
            assert np.median(seconds) < 1.5 * BACK * max(1.0, load / os.cpu_count())

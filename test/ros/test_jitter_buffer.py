"""avatar_driver with a jitter buffer on a small core: what is lost is interpolated, what is late is counted, and it is live."""

import threading

import pytest
from fake_core import FakeDriver, record, seen
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.convert import image_message_to_rgb, stamp_to_ns
from sega_ros.nodes.expressions import expression_to_message

START = 1_700_000_000_000_000_000  # the sender's clock has nothing to do with this machine's
FRAME = 40_000_000  # nanoseconds
EVERY = 5  # one in so many is lost


def jaw_at(k):
    """Radians; steps of the 8-bit picture that the small core draws."""
    return (k % 50) * 4 / 255


class Robot:
    """A driver that receives expressions, and a sender who loses some."""

    def __init__(self, world, **parameters):
        self.world = world
        self.node = world.add(AvatarDriver, {'width': 64, 'height': 32, 'source': 'expression', **parameters},
                              core=lambda _: FakeDriver(record('ann')))
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.images = world.collect(Image, 'avatar/image', 20)
        self._publisher = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
        world.wait(lambda: self.node.puppet and self.node._outputs.images_wanted, 'the avatar')
        world.wait(self._publisher.get_subscription_count, 'the subscription')
        self.sent, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def publish(self, k):
        self._publisher.publish(expression_to_message(seen(jaw_at(k), START + k * FRAME)))

    def _send(self):
        while not self._stop.wait(FRAME / 1e9):
            if self.sent % EVERY:
                self.publish(self.sent)
            self.sent += 1

    def shown(self):
        """Stamp over the interval, and jaw in steps of the picture, of what was shown."""
        return [((stamp_to_ns(m.header.stamp) - START) / FRAME, int(image_message_to_rgb(m)[0, 0, 0])) for m in self.images]


@pytest.fixture
def robot(world):
    with Robot(world, jitter_buffer=1.0) as made:
        yield made


def test_what_is_lost_is_interpolated(world, robot):
    """Sent were frames k, k + 2; the one between is made of them, with its stamp."""
    def between():
        return [(at, jaw) for at, jaw in robot.shown() if round(at) % EVERY == 0 and abs(at - round(at)) < 0.1 and round(at) % 50]

    for at, jaw in world.wait(lambda: len(between()) > 2 and between(), 'interpolated pictures'):
        assert abs(jaw - (round(at) % 50) * 4) <= 1
    for at, jaw in robot.shown():
        if at == round(at) and round(at) % EVERY:
            assert jaw == (round(at) % 50) * 4, 'what came is shown as it came'


def test_pictures_come_by_the_delay_later_and_in_order(world, robot):
    shown = world.wait(lambda: len(robot.shown()) > 10 and robot.shown(), 'pictures')
    stamps = [at for at, _ in shown]
    assert stamps == sorted(stamps)
    report = robot.node.statistics.report()
    assert report.received * FRAME > 0.9e9, 'a second of them was received before the first was shown'


def test_what_is_late_is_dropped_and_counted(world, robot):
    world.wait(lambda: len(robot.images) > 3, 'pictures')
    before = robot.node.statistics.report().late
    robot.publish(0)
    world.wait(lambda: robot.node.statistics.report().late > before, 'the late one')
    world.wait(lambda: int(world.reason(robot.node)[2]['late']) > before, 'diagnostics')


def test_another_rate(world):
    with Robot(world, jitter_buffer=0.5, jitter_buffer_rate=100.0) as robot:
        world.wait(lambda: sum(at != round(at) for at, _ in robot.shown()) > 10, 'pictures between the messages')


def test_it_is_switched_on_and_off_while_the_stream_goes_on(world):
    with Robot(world) as robot:
        world.wait(lambda: robot.images, 'pictures')
        assert robot.node._input._buffer is None
        for delay, made in ((0.1, True), (0.0, False)):
            robot.node.set_parameters([Parameter('jitter_buffer', value=delay)])
            world.wait(lambda made=made: (robot.node._input._buffer is not None) == made, 'the change')
            count = len(robot.images)
            world.wait(lambda count=count: len(robot.images) > count + 3, 'pictures')
        assert 'playout' not in {thread.name for thread in threading.enumerate()}


def test_a_cut_holds_and_idles_as_without(world):
    robot = Robot(world, **{'jitter_buffer': 0.2, 'idle.hold': 0.3, 'idle.ease': 0.2})
    with robot:
        world.wait(lambda: len(robot.images) > 5, 'pictures')
    last = robot.sent
    world.wait(lambda: any(at > last + 15 and jaw == 0 for at, jaw in robot.shown()), 'a neutral face, with stamps that go on')

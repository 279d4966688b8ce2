"""A subscription with a thread of its own: all messages in order, failures survived, a clean end."""

import threading

import rclpy
from std_msgs.msg import Int32

from sega_ros.nodes.reader import Reader


def test_messages_come_in_order_beside_the_executor(world):
    got, threads, problems = [], set(), []

    def callback(message):
        threads.add(threading.current_thread().name)
        if message.data == 3:
            raise ValueError('three')
        got.append(message.data)

    reader = Reader(world.helper, Int32, 'numbers', callback, 20, failed=problems.append)
    publisher = world.helper.create_publisher(Int32, 'numbers', 20)
    world.wait(publisher.get_subscription_count, 'the reader')
    for k in range(6):
        publisher.publish(Int32(data=k))
    world.wait(lambda: len(got) == 5, 'the numbers')
    assert got == [0, 1, 2, 4, 5] and threads == {'read'}
    assert [str(p) for p in problems] == ['three']
    reader.close()
    world.wait(lambda: publisher.get_subscription_count() == 0, 'the end of the subscription')
    assert not reader._thread.is_alive()


def test_shutdown_of_the_context_ends_the_thread(world):
    reader = Reader(world.helper, Int32, 'numbers', lambda _: None, 1, failed=lambda _: None)
    rclpy.try_shutdown(context=world.context)
    reader._thread.join(10.0)
    assert not reader._thread.is_alive()
    reader.close()

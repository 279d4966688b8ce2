"""Helper node + nodes under test + executor: wait until a condition or a deadline, never for a fixed time."""

import gc
import itertools
import os
import threading
import time
from collections.abc import Callable

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy._rclpy_pybind11 import RCLError
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter

from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message
from sega_ros.nodes.managed import make_executor

_COUNTER = itertools.count()
DEADLINE = 20.0  # seconds; generous, shared machines are slow


class World:
    """Owns a context, a helper node, and executors that spin in threads."""

    def __enter__(self):
        # A domain for each test: other sessions, and what an earlier test left to the garbage collector, are not heard.
        self.domain = 1 + (os.getpid() + next(_COUNTER)) % 100
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self._nodes, self._threads, self._executors, self._broken = [], [], [], []
        self.helper = rclpy.create_node('helper', context=self.context)
        self._spin(self.helper, make_executor(self.helper, self.context))
        self.diagnostics = self.collect(DiagnosticArray, '/diagnostics', 10)
        return self

    def __exit__(self, *_):
        # As the nodes' own main function does it: stop spinning, then destroy.
        rclpy.try_shutdown(context=self.context)
        for thread in self._threads:
            thread.join(5.0)
        for node in reversed(self._nodes):
            node.destroy_node()
        for executor in self._executors:
            executor.shutdown(timeout_sec=5.0)
        self._nodes, self._executors, self._threads, self.helper = [], [], [], None
        gc.collect()  # rclpy's nodes and contexts are cycles; a participant lives as long as they

    def _spin(self, node, executor):
        thread = threading.Thread(target=self._run, args=(executor,), daemon=True)
        self._nodes.append(node)
        self._executors.append(executor)
        self._threads.append(thread)
        thread.start()
        return node

    def _run(self, executor):
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            if isinstance(error, RCLError) and not executor.context.ok():
                return  # the context was closed while the wait set was built
            self._broken.append(error)
            raise

    def add(self, kind, parameters=None, **kwargs):
        """Make and spin a node; `parameters` are its overrides."""
        overrides = [Parameter(name, value=value) for name, value in (parameters or {}).items()]
        node = kind(context=self.context, parameter_overrides=overrides, **kwargs)
        return self._spin(node, make_executor(node, self.context))

    def end(self, node):
        """Stop spinning a node and destroy it, as its process would at its end."""
        k = self._nodes.index(node)
        self._executors[k].shutdown()
        self._threads[k].join(10.0)
        assert not self._threads[k].is_alive(), 'the executor spins on'
        node.destroy_node()
        for entries in (self._nodes, self._executors, self._threads):
            del entries[k]

    def wait(self, condition: Callable[[], object], what: str, timeout: float = DEADLINE):
        """Return the first true value of `condition`; fail after the deadline."""
        end, pause = time.monotonic() + timeout, threading.Event()
        while time.monotonic() < end:
            if value := condition():
                return value
            if self._broken:
                raise AssertionError(f'{what}: nobody spins a node any more') from self._broken[0]
            pause.wait(0.005)
        raise AssertionError(f'{what}: not within {timeout:g} s')

    def collect(self, kind, topic, profile):
        """Subscribe and return the growing list of messages."""
        messages = []
        self.helper.create_subscription(kind, topic, messages.append, profile)
        return messages

    def call(self, kind, name, request, timeout: float = DEADLINE):
        """Call a service and return the answer."""
        return self.call_async(kind, name, request, timeout)()

    def call_async(self, kind, name, request, timeout: float = DEADLINE):
        """Call a service; the returned function waits for the answer."""
        client = self.helper.create_client(kind, name)
        self.wait(client.service_is_ready, f'service {name}')
        future = client.call_async(request)

        def result():
            self.wait(future.done, f'answer of {name}', timeout)
            self.helper.destroy_client(client)
            return future.result()
        return result

    def send_goal(self, kind, name, goal, feedback=None):
        """Send a goal; return its accepted handle."""
        client = ActionClient(self.helper, kind, name)
        self.wait(client.server_is_ready, f'action {name}')
        # The client's view says nothing of the server's: feedback to a reader that it does not know yet is lost.
        topic = self.helper.resolve_topic_name(f'{name}/_action/feedback')
        self.wait(lambda: all(n.count_subscribers(topic) for n in self._nodes), f'feedback of {name}')
        future = client.send_goal_async(goal, feedback_callback=feedback)
        self.wait(future.done, 'acceptance of the goal')
        self._clients = [*getattr(self, '_clients', []), client]
        return future.result()

    def reason(self, node):
        """Return (level, reason, values) of the newest diagnostics of a node, or None."""
        for array in reversed(self.diagnostics):
            for status in array.status:
                if status.name.endswith(f': {node.get_name()}'):
                    return status.level[0], status.message, {v.key: v.value for v in status.values}
        return None


class Camera:
    """Publishes images like a camera: newest stamp, no waiting."""

    def __init__(self, world, topic='image', profile=None, size=(48, 64)):
        from sensor_msgs.msg import Image

        from sega_ros.nodes import qos

        self.world, self.size, self.sent = world, size, []
        self.publisher = world.helper.create_publisher(Image, topic, profile or qos.newest())

    def send(self, value=0, frame_id='camera', message=None, stamp_ns=None):
        """Publish one image filled with `value`, or a message, stamped now or as said; return its stamp in nanoseconds."""
        if stamp_ns is None:
            stamp_ns = self.world.helper.get_clock().now().nanoseconds
        image = np.full((*self.size, 3), value, np.uint8)
        message = message or rgb_to_image_message(image, stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)
        message.header.stamp = ns_to_stamp(stamp_ns)
        self.publisher.publish(message)
        self.sent.append(stamp_ns)
        return stamp_ns

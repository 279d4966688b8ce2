"""What the lifecycle nodes share: transitions that fail with a sentence, callback groups, and the main function."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, Node, TransitionCallbackReturn
from rclpy.node import Node as PlainNode
from rclpy.task import Future

from sega_ros.errors import NotActiveError, SegaError
from sega_ros.io.memory import keep_freed_memory

# For nodes whose services take long: one call, one action, and room for cancellation, parameters and diagnostics.
SERVICE_THREADS = 6
SHUTDOWN_SECONDS = 3.0  # launch sends SIGTERM after five


def in_thread(node: PlainNode, work: Callable[[Any, Any], Any]) -> Callable:
    """Return a service callback that runs `work(request, response)` beside the executor and answers when it is done.

    So a node with one executor thread receives images while a service works. `work` must not raise.
    """
    async def callback(request: Any, response: Any) -> Any:
        future = Future(executor=node.executor)
        threading.Thread(target=lambda: future.set_result(work(request, response)), daemon=True).start()
        return await future

    return callback


def make_executor(node: PlainNode, context: Context | None = None) -> Executor:
    """Return an executor with the threads that the node wants, the node added."""
    threads = getattr(node, 'executor_threads', 1)
    executor = MultiThreadedExecutor(threads, context=context) if threads > 1 else SingleThreadedExecutor(
        context=context)
    executor.add_node(node)
    return executor


class ManagedNode(Node):
    """Lifecycle node whose transitions are `configure`, `activate`, `deactivate` and `cleanup`.

    An exception in `configure` or `activate` is logged and answered with FAILURE; the node stays where it was.
    """

    # Every message costs a node with several executor threads 3 ms more, so those that handle images have one.
    executor_threads = 1

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name, **kwargs)
        self.group = ReentrantCallbackGroup()
        self.active = False

    def autostart(self) -> None:
        """Where the parameter `autostart` says so, configure and activate as soon as the node is spun.

        What starts a process again after a crash then need not know of lifecycles.
        """
        if not self.get_parameter('autostart').value:
            return

        def start() -> None:
            self.destroy_timer(timer)
            if self._state_machine.current_state[1] != 'unconfigured':  # somebody was faster
                return
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()

        timer = self.create_timer(0.0, start, self.group, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def configure(self) -> None:
        """Validate, load and create entities."""

    def activate(self) -> None:
        """Start."""

    def deactivate(self) -> None:
        """Stop; must not raise."""

    def cleanup(self) -> None:
        """Destroy what `configure` made; must not raise and must bear a half-done `configure`."""

    def require_active(self) -> None:
        """Raise NotActiveError unless the node is active."""
        if not self.active:
            raise NotActiveError(f'{self.get_name()} is not active; activate it (ros2 lifecycle set '
                                 f'{self.get_fully_qualified_name()} activate)')

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure; FAILURE with a logged reason leaves the node unconfigured."""
        return self._attempt('configure', self.configure, self.cleanup) or super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate; FAILURE with a logged reason leaves the node inactive."""
        result = super().on_activate(state)
        if result != TransitionCallbackReturn.SUCCESS:
            return result
        self.active = True
        failed = self._attempt('activate', self.activate, self.deactivate)
        if failed:
            self.active = False
            super().on_deactivate(state)
        return failed or TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and gate the publishers."""
        self.active = False
        self.deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy entities."""
        self.cleanup()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and destroy from any state."""
        self._end()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and destroy; the node can be configured again."""
        self._end()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop threads before the node goes."""
        self._end()
        super().destroy_node()

    def _end(self) -> None:
        if self.active:
            self.active = False
            self.deactivate()
        self.cleanup()

    def _attempt(self, name: str, work: Callable[[], None],
                 undo: Callable[[], None]) -> TransitionCallbackReturn | None:
        try:
            work()
        except SegaError as error:
            self.get_logger().error(f'{name} failed: {error}')
        except Exception as error:
            import traceback

            self.get_logger().error(f'{name} failed: {"".join(traceback.format_exception(error))}')
        else:
            return None
        undo()
        return TransitionCallbackReturn.FAILURE


def run_node(make: Callable[[], PlainNode], name: str, args: list[str] | None = None, *,
             foreground: Callable[[Any], None] | None = None) -> int:
    """Make a node, spin it until SIGINT or SIGTERM, and return the exit status.

    `foreground` is called with the node in the main thread, the executor then spins beside it; the end of either is the end.
    """
    keep_freed_memory()
    rclpy.init(args=args)
    node = executor = beside = None
    status = 0
    try:
        node = make()
        executor = make_executor(node)
        if foreground is None:
            executor.spin()
        else:
            beside = threading.Thread(target=_spin, args=(executor,), daemon=True)
            beside.start()
            foreground(node)
    except SegaError as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        status = 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        if rclpy.ok():
            raise  # otherwise the signal closed the context while the executor built its wait set
    finally:
        # A second Ctrl-C, or the launch system's, must not interrupt the clean end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # What can't be interrupted (a compilation, the building of a head model) must not hold up the end; whatever
        # it stores is stored atomically.
        deadline = threading.Timer(SHUTDOWN_SECONDS, os._exit, (status,))
        deadline.daemon = True
        deadline.start()
        rclpy.try_shutdown()
        if beside is not None:
            beside.join()
        if node is not None:
            node.destroy_node()
        if executor is not None:
            executor.shutdown(timeout_sec=SHUTDOWN_SECONDS)
    return status


def _spin(executor: Executor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass
    except RCLError:
        if rclpy.ok():
            raise  # otherwise the context was closed while the executor built its wait set

"""Subscription that is read by a thread of its own."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.event_handler import EventHandler, SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile


class _NotByExecutor(ReentrantCallbackGroup):
    """Keeps an executor away from a subscription, and from its events: with those it wakes at every message too."""

    def can_execute(self, entity: Any) -> bool:
        return False


class Reader:
    """Calls `callback` with each message of a topic, in a thread of its own and one after the other.

    For every message an executor of rclpy builds a wait set of all that the node has, two dozen services and timers
    included: 2 ms for each camera image. A wait set of one subscription is kept and costs next to nothing. `failed` is
    called with an exception of a callback, which doesn't stop the thread. Callbacks of `events` come in that thread too.
    With `raw`, messages are serialised bytes.
    """

    def __init__(self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile | int, *,
                 failed: Callable[[Exception], None], events: SubscriptionEventCallbacks | None = None,
                 raw: bool = False) -> None:
        self._node, self._callback, self._failed = node, callback, failed
        self._subscription = node.create_subscription(
            kind, topic, callback, profile, callback_group=_NotByExecutor(), event_callbacks=events, raw=raw)
        self._wake = GuardCondition(None, None, context=node.context)
        self._closed = False
        node.context.on_shutdown(self._on_shutdown)
        self._thread = threading.Thread(target=self._run, name='read', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Withdraw the subscription; the message at hand is finished."""
        self._on_shutdown()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._node.destroy_subscription(self._subscription)
        self._wake.destroy()

    def _on_shutdown(self) -> None:
        self._closed = True
        with suppress(InvalidHandle):  # the context outlives a closed reader
            self._wake.trigger()

    def _run(self) -> None:
        context = self._node.context.handle
        if context is None:
            return
        try:
            with ExitStack() as held, self._subscription.handle, self._wake.handle, context:
                events: Any = self._subscription.event_handlers  # rclpy's annotation is wrong
                for event in events:
                    held.enter_context(event)
                self._read(events)
        except (InvalidHandle, RCLError):
            if self._node.context.ok() and not self._closed:
                raise

    def _read(self, events: list[EventHandler]) -> None:
        source = self._subscription
        ready = rclpy_implementation.WaitSet(1, 1, 0, 0, 0, len(events), self._node.context.handle)
        while not self._closed:
            ready.clear_entities()
            ready.add_subscription(source.handle)
            ready.add_guard_condition(self._wake.handle)
            for event in events:
                event.add_to_wait_set(ready)
            ready.wait(-1)
            while not self._closed and (taken := source.handle.take_message(source.msg_type, source.raw)) is not None:
                self._attempt(self._callback, taken[0])
            for event in events:
                if not self._closed and event.is_ready(ready) and (news := event.take_data()):
                    self._attempt(event.callback, news)

    def _attempt(self, callback: Callable[[Any], None], news: Any) -> None:
        try:
            callback(news)
        except Exception as error:  # one bad message must not end the stream
            self._failed(error)

"""What a robot asks the machine that has the avatars: parts of files, which store it is, whether an avatar is still there."""

import threading
import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.callback_groups import CallbackGroup
from rclpy.client import Client
from rclpy.node import Node

from sega_ros.avatar.copies import is_store_id
from sega_ros.errors import CancelledError, ErrorCode
from sega_ros.srv import GetAvatar

STORE_PARAMETER = 'store_id'  # of avatar_builder
ANSWER, LOOK = 15.0, 0.1  # seconds to wait for an answer; between two looks at whether to go on

Stopped = Callable[[], bool]


class BuilderClient:
    """Client of `avatar_builder`. Not to be called by the executor's thread: every question waits for its answer."""

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        self._node = node
        self._parts = node.create_client(GetAvatar, 'get_avatar', callback_group=group)
        self._parameters = node.create_client(GetParameters, 'avatar_builder/get_parameters', callback_group=group)
        self.service = node.resolve_service_name('get_avatar')

    def destroy(self) -> None:
        """Withdraw the clients."""
        for client in (self._parts, self._parameters):
            self._node.destroy_client(client)

    def part(self, avatar_id: str, offset: int, length: int, stopped: Stopped) -> GetAvatar.Response | None:
        """Ask for a part of a file; None when no answer came. Waits for the other machine as long as it takes.

        Raises:
            CancelledError: `stopped` said so.
        """
        self._wait_for(self._parts, stopped)
        return self._ask(self._parts, GetAvatar.Request(avatar_id=avatar_id, offset=offset, length=length), stopped)

    def is_gone(self, avatar_id: str, stopped: Stopped) -> bool:
        """Whether the builder says that it has no such avatar; no answer is none. Waits and raises as `part`."""
        answer = self.part(avatar_id, 0, 1, stopped)
        return answer is not None and not answer.success and answer.error_code == ErrorCode.AVATAR_NOT_FOUND

    def store_id(self, stopped: Stopped, *, wait: bool = True) -> str:
        """Return the id of the builder's store; '' when it has none, or when it is not the only builder.

        With `wait` it waits as `part` does, otherwise for a moment.
        """
        if wait:
            self._wait_for(self._parameters, stopped)
        elif not self._parameters.wait_for_service(timeout_sec=1.0):
            return ''
        answer = self._ask(self._parameters, GetParameters.Request(names=[STORE_PARAMETER]), stopped)
        if answer is None or not self._is_alone():
            return ''
        values = [v.string_value for v in answer.values]
        return values[0] if values and is_store_id(values[0]) else ''

    def _is_alone(self) -> bool:
        """Whether one machine answers: with several, nobody knows whose list and whose answer it is."""
        return all(self._node.count_services(client.srv_name) == 1 for client in (self._parts, self._parameters))

    def _ask(self, client: Client, request: Any, stopped: Stopped) -> Any:
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        end = time.monotonic() + ANSWER
        try:
            while not done.wait(LOOK):
                _check(stopped)
                if time.monotonic() > end:
                    return None
        finally:
            if not future.done():
                client.remove_pending_request(future)
        return future.result()

    @staticmethod
    def _wait_for(client: Client, stopped: Stopped) -> None:
        while not client.service_is_ready():
            _check(stopped)
            time.sleep(LOOK)


def _check(stopped: Stopped) -> None:
    if stopped():
        raise CancelledError('the driver has something else to do')

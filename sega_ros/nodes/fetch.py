"""The driver's copy of an avatar that another machine has: asked for part by part, gone on with after an interruption."""

import threading
import time
from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup

from sega_ros.errors import CancelledError, HeadModelMismatchError, RequestError, StorageError
from sega_ros.msg import AvatarInfo
from sega_ros.nodes.core import Driver
from sega_ros.nodes.managed import ManagedNode
from sega_ros.srv import GetAvatar

# At 256 kbit/s a part takes half a second: expressions find their way in between.
PART = 16 * 1024
ANSWER, LOOK = 15.0, 0.1  # seconds to wait for a part; between two looks at whether to go on


class AvatarFetch:
    """Client of `get_avatar`."""

    def __init__(self, node: ManagedNode, core: Driver, group: CallbackGroup) -> None:
        self._node, self._core = node, core
        self._client = node.create_client(GetAvatar, 'get_avatar', callback_group=group)
        self.state = ''  # for the diagnostics; '' when nothing is fetched

    def destroy(self) -> None:
        """Withdraw the client."""
        self._node.destroy_client(self._client)

    def needed(self, avatar: AvatarInfo) -> bool:
        """Whether the file that `avatar` describes is another than the one stored here."""
        return self._core.stored_sha256(avatar.id) != avatar.sha256

    def __call__(self, avatar: AvatarInfo, stopped: Callable[[], bool]) -> None:
        """Copy the file; waits for the other machine as long as it takes. Not to be called by the executor's thread.

        Raises:
            CancelledError: `stopped` said so; what arrived is kept for the next time.
            HeadModelMismatchError: it would be of no use here.
        RequestError: the other machine refused.
            StorageError, AvatarDamagedError: see `avatar.receive`.
        """
        found, wanted = (avatar.head_model, avatar.head_model_version), (self._core.head_model, self._core.head_model_version)
        if found != wanted:
            raise HeadModelMismatchError(f'avatar {avatar.id!r} was made for head model {" ".join(found)}, loaded here is '
                                         f'{" ".join(wanted)}: it is not fetched; use the same head model on both machines')
        incoming = self._core.receive(avatar.id, size=avatar.size_bytes, sha256=avatar.sha256)
        self._node.get_logger().info(f'fetching avatar {avatar.id!r}: {avatar.size_bytes / 1e6:.1f} MB, '
                                     f'{incoming.received / 1e6:.1f} MB are here')
        try:
            while incoming.received < incoming.size:
                share = 100 * incoming.received / incoming.size
                self.state = f'fetching avatar {avatar.id!r}: {share:.0f} %'
                answer = self._ask(avatar.id, incoming.received, min(PART, incoming.size - incoming.received), stopped)
                if answer is None:
                    continue
                if not answer.success:
                    raise RequestError(f'avatar {avatar.id!r} could not be fetched: {answer.message}')
                if answer.sha256 != avatar.sha256:
                    raise StorageError(f'avatar {avatar.id!r} changed while it was fetched; the new one will be listed soon')
                incoming.add(answer.data.tobytes())
            incoming.finish()
        finally:
            self.state = ''

    def _ask(self, avatar_id: str, offset: int, length: int, stopped: Callable[[], bool]) -> GetAvatar.Response | None:
        """One part; None when no answer came, so that it is asked for again."""
        while not self._client.service_is_ready():
            self._pause(stopped)
        done = threading.Event()
        future = self._client.call_async(GetAvatar.Request(avatar_id=avatar_id, offset=offset, length=length))
        future.add_done_callback(lambda _: done.set())
        end = time.monotonic() + ANSWER
        try:
            while not done.wait(LOOK):
                if stopped():
                    raise CancelledError('the driver has something else to do')
                if time.monotonic() > end:
                    return None
        finally:
            if not future.done():
                self._client.remove_pending_request(future)
        return future.result()

    @staticmethod
    def _pause(stopped: Callable[[], bool]) -> None:
        if stopped():
            raise CancelledError('the driver has something else to do')
        time.sleep(LOOK)

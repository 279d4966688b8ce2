"""The driver's copy of an avatar that another machine has: asked for part by part, gone on with after an interruption."""

import time

from rclpy.node import Node

from sega_ros.avatar.copies import Origin
from sega_ros.errors import HeadModelMismatchError, RequestError, StorageError
from sega_ros.msg import AvatarInfo
from sega_ros.nodes.builder_client import BuilderClient, Stopped
from sega_ros.nodes.core import Driver
from sega_ros.nodes.limits import MEGABYTE
from sega_ros.srv import GetAvatar

# At 256 kbit/s a part takes half a second: expressions find their way in between.
PART = 16 * 1024


class AvatarFetch:
    """Copies files of a builder into the store."""

    def __init__(self, node: Node, core: Driver, builder: BuilderClient) -> None:
        self._node, self._core, self._builder = node, core, builder
        self.state = ''  # for the diagnostics; '' when nothing is fetched

    def needed(self, avatar: AvatarInfo) -> bool:
        """Whether the file that `avatar` describes is another than the one stored here."""
        return self._core.stored_sha256(avatar.id) != avatar.sha256

    def __call__(self, avatar: AvatarInfo, stopped: Stopped, *, limit: int) -> None:
        """Copy the file; waits for the other machine as long as it takes. Not to be called by the executor's thread.

        Args:
            avatar: as it is listed.
            stopped: asked again and again.
            limit: largest file, megabytes.

        Raises:
            CancelledError: `stopped` said so; what arrived is kept for the next time.
            HeadModelMismatchError: it would be of no use here.
            RequestError: too large, or the other machine refused, or sent something else than was asked for.
            StorageError, AvatarDamagedError: see `avatar.receive`.
        """
        found, wanted = (avatar.head_model, avatar.head_model_version), (self._core.head_model, self._core.head_model_version)
        if found != wanted:
            raise HeadModelMismatchError(f'avatar {avatar.id!r} was made for head model {" ".join(found)!r}, loaded here is '
                                         f'{" ".join(wanted)!r}: it is not fetched; use the same head model on both machines')
        if avatar.size_bytes > limit * MEGABYTE:
            raise RequestError(f'avatar {avatar.id!r}: found {avatar.size_bytes} bytes, limits.fetch allows {limit} MB; raise '
                               'the limit, or make a smaller avatar (sega distil)')
        if self._core.stored_sha256(avatar.id) and not any(copy.avatar_id == avatar.id for copy in self._core.copies()):
            raise StorageError(f'avatar {avatar.id!r} of this machine was made here and is not replaced by the one of that id '
                               'that another machine lists; delete or rename one of them')
        incoming = self._core.receive(avatar.id, size=avatar.size_bytes, sha256=avatar.sha256)
        self._node.get_logger().info(f'fetching avatar {avatar.id!r}: {avatar.size_bytes / 1e6:.1f} MB, '
                                     f'{incoming.received / 1e6:.1f} MB are here')
        try:
            while incoming.received < incoming.size:
                share = 100 * incoming.received / incoming.size
                self.state = f'fetching avatar {avatar.id!r}: {share:.0f} %'
                length = min(PART, incoming.size - incoming.received)
                answer = self._builder.part(avatar.id, incoming.received, length, stopped)
                if answer is not None:  # else it is asked for again
                    _check_part(avatar, answer, length)
                    incoming.add(answer.data.tobytes())
            incoming.finish(Origin(avatar.id, avatar.sha256, self._builder.store_id(stopped, wait=False), self._builder.service,
                                   time.time_ns()))
        finally:
            self.state = ''


def _check_part(avatar: AvatarInfo, answer: GetAvatar.Response, length: int) -> None:
    """Raise unless an answer is the part that was asked for: smaller ones would make a fetch last for ever."""
    if not answer.success:
        raise RequestError(f'avatar {avatar.id!r} could not be fetched; the answer was {answer.message!r}')
    if answer.sha256 != avatar.sha256:
        raise StorageError(f'avatar {avatar.id!r} changed while it was fetched; the new one will be listed soon')
    if len(answer.data) != length:
        raise RequestError(f'avatar {avatar.id!r}: asked for {length} bytes, {len(answer.data)} came; the other machine does not '
                           'serve avatars as it should')

"""Fetched avatars go when the machine they came from has deleted them."""

from collections.abc import Callable, Sequence

from sega_ros.msg import AvatarInfo
from sega_ros.nodes.builder_client import BuilderClient, Stopped
from sega_ros.nodes.core import Driver


class CopyFollower:
    """Compares the copies that are here with a list of avatars.

    That a list lacks an avatar proves nothing: it may be late, or another machine's. A copy is removed when the one builder
    that answers has the very store it was fetched from, and says itself that it has no such avatar.
    """

    def __init__(self, core: Driver, builder: BuilderClient, *, removed: Callable[[str], None]) -> None:
        """`removed` is called with the id of each copy that was."""
        self._core, self._builder, self._removed = core, builder, removed

    def __call__(self, listed: Sequence[AvatarInfo], stopped: Stopped) -> None:
        """Remove the copies that are gone; not to be called by the executor's thread.

        Raises:
            CancelledError: `stopped` said so.
            StorageError: a copy can't be removed.
        """
        ids = {avatar.id for avatar in listed}
        self._core.drop_parts(ids)
        missing = [origin for origin in self._core.copies() if origin.store and origin.avatar_id not in ids]
        if not missing:
            return
        store = self._builder.store_id(stopped)
        for origin in missing:
            if origin.store == store and self._builder.is_gone(origin.avatar_id, stopped) and self._core.remove_copy(origin):
                self._removed(origin.avatar_id)

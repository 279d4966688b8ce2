"""Which avatar a driver drives: it follows the list, loads and fetches, and lets go of what was deleted where it came from."""

import threading
from collections.abc import Callable
from contextlib import suppress

from rclpy.clock import Clock, ClockType

from sega_ros.errors import AvatarNotFoundError, CancelledError, SegaError
from sega_ros.msg import AvatarInfo, AvatarList
from sega_ros.nodes import qos
from sega_ros.nodes.builder_client import BuilderClient
from sega_ros.nodes.copies import CopyFollower
from sega_ros.nodes.core import Driver, Puppet
from sega_ros.nodes.fetch import AvatarFetch
from sega_ros.nodes.mailbox import Worker
from sega_ros.nodes.managed import ManagedNode
from sega_ros.nodes.parameters import Parameters
from sega_ros.nodes.records import choose, record_to_message

RETRY = 5.0  # seconds until an avatar that could not be loaded or fetched is tried again


class AvatarChoice:
    """The avatar at hand, and the threads that change it.

    Made when the node is configured; the threads run from `start` to `stop`. A picture never waits for the other machine:
    while a newer avatar is fetched, the one at hand is driven, or the one that is stored here.
    """

    def __init__(self, node: ManagedNode, core: Driver, settings: Parameters, *, loaded: Callable[[Puppet], None]) -> None:
        """Subscribe to `avatars`; `loaded` is called with each new puppet before it is driven."""
        self._node, self._core, self._settings, self._loaded = node, core, settings, loaded
        self.puppet: Puppet | None = None
        self.problem = ''  # why the wanted avatar is not driven
        self.listed: list[AvatarInfo] = []  # the newest list
        self.has_list = False
        self._asked: tuple[str, bool] = '', True  # avatar_id and fetch when they were last acted on
        self._builder = BuilderClient(node, node.group)
        self._fetch = AvatarFetch(node, core, self._builder)
        self.follower = CopyFollower(core, self._builder, removed=self._on_removed)
        self.loader: Worker[str] | None = None
        self.deletions: Worker[list[AvatarInfo]] | None = None
        self._loading, self._fetching = threading.Lock(), threading.Lock()
        self._subscription = node.create_subscription(AvatarList, 'avatars', self.on_avatars, qos.latched(),
                                                      callback_group=node.group)
        self._timer = node.create_timer(RETRY, self._retry, node.group, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def fetching(self) -> str:
        """What is being fetched, for the diagnostics; '' when nothing is."""
        return self._fetch.state

    def start(self) -> None:
        """Load the wanted avatar when there is one."""
        config = self._settings.value
        self.problem, self._asked = '', (config.avatar_id, config.fetch)
        self.loader = Worker('load', self._load_wanted, dropped=lambda: None, failed=self._load_failed)
        self.deletions = Worker('deletions', self._follow_deletions, dropped=lambda: None, failed=self._not_removed)
        known = self.listed or self._stored()  # a list may have come before the node was active
        self._follow(known)
        if self.puppet is None and not choose(known, config.avatar_id):
            what = f'avatar {config.avatar_id!r} is not stored yet' if config.avatar_id else 'no avatar is stored yet'
            self._node.get_logger().warning(f'{what}; waiting for one on {self._node.resolve_topic_name("avatars")} (create it '
                                            'with the create_avatar service, or sega create)')
        self._check_copies()

    def stop(self) -> None:
        """Stop the threads; the avatar stays at hand."""
        for worker in (self.deletions, self.loader):
            if worker is not None:
                worker.stop()
        self.deletions = self.loader = None

    def destroy(self) -> None:
        """Destroy what talks to other nodes, and forget the avatar."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_timer(self._timer)
        self._builder.destroy()
        self.puppet = None

    def select(self, avatar_id: str) -> Puppet:
        """Load another avatar, fetched first where that is needed; the old one stays when that fails.

        Raises:
            AvatarNotFoundError: no id, or no such avatar.
            SegaError: it can't be loaded or fetched.
        """
        if not avatar_id:
            raise AvatarNotFoundError('avatar id: found an empty one; name a stored avatar')
        return self._load(avatar_id)

    def on_parameters(self, avatar_id: str, fetch: bool) -> None:
        """Act on changed parameters."""
        loader, asked = self.loader, (avatar_id, fetch)
        if loader is not None and asked != self._asked:
            self._asked = asked
            loader.put(avatar_id)

    # --- the list ---------------------------------------------------------------------------------------------------

    def on_avatars(self, message: AvatarList) -> None:
        """Drive a new or changed avatar without a restart."""
        self.listed, self.has_list = list(message.avatars), True
        if self._node.active:
            self._follow(self.listed)
            self._check_copies()

    def _follow(self, avatars: list[AvatarInfo]) -> None:
        """Load the wanted avatar of a list unless it is the one at hand."""
        wanted, loader = choose(avatars, self._settings.value.avatar_id), self.loader
        if wanted is not None and loader is not None and not self._at_hand(wanted):
            loader.put(wanted.id)

    def _at_hand(self, avatar: AvatarInfo) -> bool:
        record = self.puppet.record if self.puppet else None
        return record is not None and (record.avatar_id, record.sha256) == (avatar.id, avatar.sha256)

    def _stored(self) -> list[AvatarInfo]:
        return [record_to_message(record) for record in self._core.list()]

    # --- loading ----------------------------------------------------------------------------------------------------

    def _load_wanted(self, avatar_id: str) -> None:
        """Load an avatar, '' is the newest, unless it is at hand."""
        listed = choose(self.listed or self._stored(), avatar_id)
        wanted = avatar_id or (listed.id if listed else '')
        if not wanted or (listed is not None and self._at_hand(listed)):
            self.problem = ''
            return
        if self.puppet is None and listed is not None and self._must_fetch(listed):
            self._load_stand_in()
        with suppress(CancelledError):  # there is something newer to load, or the node stops
            self._load(wanted)

    def _must_fetch(self, listed: AvatarInfo) -> bool:
        return self._settings.value.fetch and self._fetch.needed(listed)

    def _load_stand_in(self) -> None:
        """Load what is stored here, to be driven while what is wanted is fetched: of the id that is set, else the newest."""
        stored = choose(self._stored(), self._settings.value.avatar_id)
        if stored is not None:
            with suppress(SegaError):  # one that can't be loaded is no reason not to fetch
                self._drive(stored.id)

    def _load(self, avatar_id: str) -> Puppet:
        listed = next((a for a in self.listed if a.id == avatar_id), None)
        if listed is not None and self._must_fetch(listed):
            with self._fetching:
                self._fetch(listed, lambda: self._superseded(self.loader), limit=self._settings.value.limits.fetch)
        return self._drive(avatar_id)

    def _drive(self, avatar_id: str) -> Puppet:
        with self._loading:
            puppet = self._core.load(avatar_id)
            self._loaded(puppet)
            self.puppet, self.problem = puppet, ''
        self._node.get_logger().info(f'driving avatar {avatar_id!r}')
        return puppet

    def _superseded(self, worker: Worker | None) -> bool:
        return not self._node.active or worker is None or worker.waiting

    def _load_failed(self, error: Exception) -> None:
        problem = f"the wanted avatar can't be driven: {error}"
        if problem != self.problem:  # it is tried again and again
            self._node.get_logger().error(problem)
        self.problem = problem

    def _retry(self) -> None:
        """Try again what failed: a disk may have space again, a directory be back, a file be mended."""
        loader = self.loader
        if self.problem and loader is not None and not loader.waiting:
            loader.put(self._settings.value.avatar_id)

    # --- copies of avatars that were deleted ------------------------------------------------------------------------

    def _check_copies(self) -> None:
        """Have a worker see whether fetched avatars were deleted where they came from; only after a list has come."""
        deletions = self.deletions
        if deletions is not None and self.has_list and not self._settings.value.keep_fetched:
            deletions.put(self.listed)

    def _follow_deletions(self, listed: list[AvatarInfo]) -> None:
        with suppress(CancelledError):  # there is a newer list, or the node stops
            self.follower(listed, lambda: self._superseded(self.deletions))

    def _on_removed(self, avatar_id: str) -> None:
        """Let go of a copy that was removed; what is drawn of it ends with the frame at hand."""
        self._node.get_logger().info(f'avatar {avatar_id!r} was deleted where it was fetched from: the copy is removed')
        with self._loading:
            if self.puppet is not None and self.puppet.record.avatar_id == avatar_id:
                self.puppet = None
        self._follow(self.listed)

    def _not_removed(self, error: Exception) -> None:
        self._node.get_logger().error(f'fetched avatars could not be compared with their originals: {error}')

"""Lifecycle node that creates, keeps and hands out avatars."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType

from sega_ros.action import CreateAvatar as CreateAvatarAction
from sega_ros.avatar.store import check_avatar_id
from sega_ros.config import option
from sega_ros.errors import (
    CancelledError,
    ConfigError,
    ErrorCode,
    ImageError,
    NotActiveError,
    RequestError,
    SegaError,
    StorageError,
)
from sega_ros.io.images import MAX_PIXELS
from sega_ros.msg import AvatarList
from sega_ros.nodes import qos
from sega_ros.nodes.answers import answer, shorten
from sega_ros.nodes.builder_client import STORE_PARAMETER
from sega_ros.nodes.convert import compressed_message_to_rgb, image_message_to_rgb, rgb_to_jpeg_message
from sega_ros.nodes.core import AvatarRecord, Builder, Progress
from sega_ros.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Status
from sega_ros.nodes.jobs import OneJob
from sega_ros.nodes.limits import BuilderLimits, store_limit, within
from sega_ros.nodes.managed import SERVICE_THREADS, ManagedNode, run_node
from sega_ros.nodes.parameters import Parameters
from sega_ros.nodes.records import record_to_message, records_to_message
from sega_ros.nodes.sega_core import SegaBuilder
from sega_ros.srv import CreateAvatar, DeleteAvatar, GetAvatar, ListAvatars

QUALITIES = ('preview', 'standard', 'high')  # index: the QUALITY_ constants of the service
MAX_CONSENT = 256  # bytes
RESCAN = 2.0  # seconds; avatars that another program stores appear in the list after this time
FEEDBACK_INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class BuilderConfig:
    """Parameters of `avatar_builder`."""

    avatar_dir: str = option('', "Directory of the avatars; '' is the user's data directory", read_only=True)
    head: str = option('open', "Head model: 'open', or the path of a converted FLAME file", read_only=True)
    photo: str = option('', 'Photo of which an avatar is created when the node is activated; \'\' is none')
    avatar_id: str = option('default', 'Id of the avatar that is created from `photo`')
    quality: str = option('standard', 'Quality of the avatar that is created from `photo`', choices=QUALITIES)
    consent: str = option('', "What the person on `photo` agreed to; '' is recorded as not stated")
    replace: bool = option(False, 'Create the avatar from `photo` again when its id is already stored')
    bust: bool = option(True, 'Avatars have shoulders')
    distilled: bool = option(False, 'Make avatars for small robots: smaller files, a few linear images for the dynamic decoder')
    lighting: str = option('photo', "Light on avatars: the photo's, or soft and from the front", choices=('photo', 'neutral'))
    nice: int = option(10, 'How far creations stand back for other programs, as of the command nice', bounds=(0, 19),
                       read_only=True)
    threads: int = option(0, 'Threads of a creation; 0 leaves one core to other programs', bounds=(0, 256), read_only=True)
    autostart: bool = option(False, 'Configure and activate when the process starts, without being told to', read_only=True)
    limits: BuilderLimits = field(default_factory=BuilderLimits)


def make_core(config: BuilderConfig) -> Builder:
    """Return the real core."""
    return SegaBuilder(config.avatar_dir, config.head, store_limit(config.limits), nice=config.nice, threads=config.threads)


def request_image(request, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the photo of a request, uint8 RGB [H, W, 3].

    Raises:
        ImageError: none or two were given, or it can't be used.
    """
    raw, compressed = len(request.image.data) > 0 or request.image.width > 0, len(request.compressed_image.data) > 0
    if raw and compressed:
        raise ImageError('both image and compressed_image are filled; fill exactly one')
    if not raw and not compressed:
        raise ImageError('the image is empty (0 bytes in image and in compressed_image); send a photo')
    if compressed:
        return compressed_message_to_rgb(request.compressed_image, max_pixels=max_pixels)
    return image_message_to_rgb(request.image, max_pixels=max_pixels)


class AvatarBuilder(ManagedNode):
    """Creates avatars of photos, one at a time, and serves the directory they are stored in."""

    executor_threads = SERVICE_THREADS

    def __init__(self, *, core: Callable[[BuilderConfig], Builder] = make_core, **kwargs) -> None:
        """Declare parameters; `core` makes the core when the node is configured."""
        super().__init__('avatar_builder', **kwargs)
        self._make_core = core
        self.settings = Parameters(self, BuilderConfig, check=check_config)
        self._core: Builder | None = None
        self._job = OneJob()
        self._stage, self._fraction = '', 0.0  # of the running job
        self._entities: list[tuple[Callable, object]] = []
        self._action: ActionServer | None = None
        self._published: Sequence[AvatarRecord] | None = None
        self._problem = ''  # why the directory can't be read
        self._photo_problem = ''  # why there is no avatar of the `photo` parameter, which nobody gets an answer to
        self._damaged: Sequence[str] = ()
        self._diagnostics = Diagnostics(self, self.status, self.group)
        self.autostart()

    # --- transitions ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load the head model and offer the services."""
        self._core = self._make_core(self.settings.load())
        self._declare_store_id(self._core.store_id())
        publisher = self.create_publisher(AvatarList, 'avatars', qos.latched())
        self._list_publisher = publisher
        self._entities.append((self.destroy_publisher, publisher))
        for kind, name, callback in (
                (CreateAvatar, 'create_avatar', self.on_create), (ListAvatars, 'list_avatars', self.on_list),
                (DeleteAvatar, 'delete_avatar', self.on_delete), (GetAvatar, 'get_avatar', self.on_get)):
            service = self.create_service(kind, name, callback, callback_group=self.group)
            self._entities.append((self.destroy_service, service))
        if self._action is None:
            # Kept until the node ends: destroying an action server under a waiting executor stops that executor. In
            # the other states it answers like the services.
            self._action = ActionServer(self, CreateAvatarAction, 'create_avatar', self.on_goal,
                                        callback_group=self.group, cancel_callback=lambda _: CancelResponse.ACCEPT)
        timer = self.create_timer(RESCAN, self.publish_list, self.group, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._entities.append((self.destroy_timer, timer))

    def _declare_store_id(self, store_id: str) -> None:
        """Say which store this is: robots ask for it before they let copies of deleted avatars go."""
        if not self.has_parameter(STORE_PARAMETER):  # the directory can't change while the node is there
            self.declare_parameter(STORE_PARAMETER, store_id, ParameterDescriptor(
                description='Id of the directory of avatars, drawn once at random', read_only=True), ignore_override=True)

    def activate(self) -> None:
        """Publish the list and create the avatar of the `photo` parameter."""
        self._published = None
        self.publish_list()
        self.get_logger().info(f'ready: {len(self._published or ())} avatars are stored')
        config, core = self.settings.load(), self.require_core()
        core.open()
        if config.photo:
            self._create_configured(core, config)

    def deactivate(self) -> None:
        """Cancel the running job."""
        if self._core is not None:
            self._core.close()
        self._job.cancel()

    def cleanup(self) -> None:
        """Withdraw the services."""
        for destroy, entity in self._entities:
            destroy(entity)
        self._entities, self._core = [], None

    def destroy_node(self) -> None:
        """Cancel the running job and withdraw everything; the executor must not spin any more."""
        self._job.cancel()
        if self._action is not None:
            self._action.destroy()
            self._action = None
        super().destroy_node()

    def require_core(self) -> Builder:
        """Return the core of the active node; raise NotActiveError in the other states."""
        self.require_active()
        core = self._core
        if core is None:  # cleaned up between the two lines
            raise NotActiveError(f'{self.get_name()} is being cleaned up')
        return core

    # --- the list ---------------------------------------------------------------------------------------------------

    def publish_list(self) -> None:
        """Publish the list of avatars when it changed."""
        core = self._core
        if not self.active or core is None:
            return
        try:
            records, damaged = core.list(), core.damaged()
            self._problem = ''
        except StorageError as error:
            if self._problem != str(error):
                self.get_logger().error(str(error))
            self._problem = str(error)
            return
        for reason in set(damaged) - set(self._damaged):
            self.get_logger().warning(f'left out of the list: {reason}')
        self._damaged = damaged
        if records != self._published:
            self._list_publisher.publish(records_to_message(records, self.get_clock().now().to_msg()))
            self._published = records

    # --- creation ---------------------------------------------------------------------------------------------------

    def on_create(self, request: CreateAvatar.Request, response: CreateAvatar.Response) -> CreateAvatar.Response:
        """Answer when the avatar is stored."""
        def work(filled: CreateAvatar.Response) -> str:
            return self._create(request, filled, progress=lambda *_: None, cancelled=lambda: False)

        return answer(response, work, self.get_logger())

    def on_goal(self, goal: ServerGoalHandle) -> CreateAvatarAction.Result:
        """Run a goal of the action; its result carries the same error codes as the service."""
        def work(filled: CreateAvatarAction.Result) -> str:
            return self._create(goal.request, filled, progress=_Feedback(goal, self.get_clock()),
                                cancelled=lambda: goal.is_cancel_requested)

        result = answer(CreateAvatarAction.Result(), work, self.get_logger())
        if result.success:
            goal.succeed()
        elif result.error_code == ErrorCode.CANCELLED and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result

    def _create(self, request, filled, *, progress: Progress, cancelled: Callable[[], bool]) -> str:
        core, config = self.require_core(), self.settings.load()
        if request.quality >= len(QUALITIES):
            raise RequestError(f'quality: found {request.quality}, wanted 0 (preview), 1 (standard) or 2 (high)')
        check_consent(request.consent)

        def job(stopped: Callable[[], bool]) -> tuple[AvatarRecord, Sequence[str]]:
            core.check_free(request.avatar_id, replace=request.replace)
            image = request_image(request, config.limits.photo_pixels)
            return core.create(
                image, request.avatar_id, quality=QUALITIES[request.quality], replace=request.replace,
                consent=request.consent.strip() or 'not stated', bust=config.bust, lighting=config.lighting,
                distilled=config.distilled, progress=self._noting(progress),
                cancelled=within(config.limits.creation_time, lambda: stopped() or cancelled()))

        start = time.monotonic()
        record, warnings = self._job.start(f'the creation of {request.avatar_id[:64]!r}', job).result()
        self._photo_problem = ''
        filled.avatar = record_to_message(record)
        filled.warnings = [shorten(text, 256) for text in warnings][:16]
        self.publish_list()
        summary = f'avatar {record.avatar_id!r} stored in {time.monotonic() - start:.1f} s ({record.size} bytes)'
        self.get_logger().info('; '.join([summary, *warnings]))
        return summary

    def _create_configured(self, core: Builder, config: BuilderConfig) -> None:
        """Create the avatar of the `photo` parameter in the background; what goes wrong is logged."""
        if not config.replace and any(r.avatar_id == config.avatar_id for r in self._published or ()):
            self.get_logger().info(f'avatar {config.avatar_id!r} is stored already and kept; set replace to create it '
                                   'again')
            return

        def job(stopped: Callable[[], bool]) -> None:
            self._photo_problem = ''
            try:
                core.check_free(config.avatar_id, replace=config.replace)
                record, warnings = core.create(
                    core.read_photo(config.photo), config.avatar_id, quality=config.quality, replace=config.replace,
                    consent=config.consent.strip() or 'not stated', bust=config.bust, lighting=config.lighting,
                    distilled=config.distilled, progress=self._noting(self._log_progress),
                    cancelled=within(config.limits.creation_time, stopped))
                self.get_logger().info('; '.join([f'avatar {record.avatar_id!r} stored', *warnings]))
            except CancelledError as error:
                self.get_logger().info(str(error))
            except Exception as error:
                reason = str(error) if isinstance(error, SegaError) else f'{type(error).__name__}: {error}'
                self._photo_problem = f'no avatar of the photo: {reason}'
                self.get_logger().error(self._photo_problem)
            self.publish_list()

        self._job.start(f'the creation of {config.avatar_id!r}', job)

    def _noting(self, progress: Progress) -> Progress:
        """Return `progress` that also notes the stage for the diagnostics."""
        self._stage, self._fraction = 'starting', 0.0

        def note(stage: str, fraction: float, preview: np.ndarray | None = None) -> None:
            self._stage, self._fraction = stage, fraction
            progress(stage, fraction, preview)

        return note

    def _log_progress(self, stage: str, fraction: float, _: np.ndarray | None = None) -> None:
        self.get_logger().info(f'creating: {stage} ({100 * fraction:.0f} %)', throttle_duration_sec=2.0)

    # --- the directory ----------------------------------------------------------------------------------------------

    def on_list(self, _: ListAvatars.Request, response: ListAvatars.Response) -> ListAvatars.Response:
        """List the stored avatars."""
        def work(filled: ListAvatars.Response) -> str:
            filled.avatars = records_to_message(self.require_core().list(), self.get_clock().now().to_msg()).avatars
            return f'{len(filled.avatars)} avatars'

        return answer(response, work, self.get_logger())

    def on_delete(self, request: DeleteAvatar.Request, response: DeleteAvatar.Response) -> DeleteAvatar.Response:
        """Delete one avatar."""
        def work(_: DeleteAvatar.Response) -> str:
            self.require_core().delete(request.avatar_id)
            self.publish_list()
            return f'avatar {request.avatar_id!r} deleted'

        return answer(response, work, self.get_logger())

    def on_get(self, request: GetAvatar.Request, response: GetAvatar.Response) -> GetAvatar.Response:
        """Read a part of an avatar's file."""
        def work(filled: GetAvatar.Response) -> str:
            chunk = self.require_core().read_bytes(request.avatar_id, request.offset, request.length)
            filled.data.frombytes(chunk.data)
            filled.total_size, filled.sha256 = chunk.total_size, chunk.sha256
            return f'{len(chunk.data)} of {chunk.total_size} bytes'

        return answer(response, work, self.get_logger())

    # --- health -----------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the health for the diagnostics."""
        job = self._job.running
        values = {'job': job or 'none', 'stage': self._stage if job else 'none',
                  'progress': self._fraction if job else math.nan, 'avatars': len(self._published or ()),
                  'damaged files': len(self._damaged), 'directory': self.settings.value.avatar_dir or 'default'}
        if not self.active:
            return Status(WARN, 'not active', values)
        if problem := self._problem or self._photo_problem:
            return Status(ERROR, problem, values)
        if self._damaged:
            return Status(WARN, '; '.join(self._damaged)[:500], values)
        return Status(OK, f'busy with {job}' if job else 'ready', values)


class _Feedback:
    """Progress as feedback messages, at most ten a second beside every change of stage."""

    def __init__(self, goal: ServerGoalHandle, clock) -> None:
        self._goal, self._clock = goal, clock
        self._stage, self._sent = '', 0.0

    def __call__(self, stage: str, fraction: float, preview: np.ndarray | None = None) -> None:
        if stage == self._stage and time.monotonic() - self._sent < FEEDBACK_INTERVAL:
            return
        self._stage, self._sent = stage, time.monotonic()
        message = CreateAvatarAction.Feedback(stage=shorten(stage, 32), progress=float(min(max(fraction, 0.0), 1.0)))
        if preview is not None:
            message.preview = rgb_to_jpeg_message(preview, stamp=self._clock.now().to_msg(), frame_id='')
        self._goal.publish_feedback(message)


def check_consent(consent: str) -> None:
    """Raise ConfigError unless a file and a message can hold the statement of consent."""
    if len(consent.encode()) > MAX_CONSENT:
        raise ConfigError(f'consent: found {len(consent.encode())} bytes, at most {MAX_CONSENT} are stored; shorten it')


def check_config(config: BuilderConfig) -> None:
    """Raise ConfigError or AvatarIdError unless an avatar can be stored with these parameters."""
    check_consent(config.consent)
    check_avatar_id(config.avatar_id)


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    raise SystemExit(run_node(AvatarBuilder, 'avatar_builder', args))

"""Lifecycle node that tracks a face and renders the avatar with its expressions, or with those of another machine."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.parameter import Parameter

from sega_ros.avatar.detail import DetailControl
from sega_ros.avatar.idle import IdleConfig
from sega_ros.avatar.store import check_avatar_id
from sega_ros.config import option
from sega_ros.errors import ConfigError, NotActiveError, SegaError
from sega_ros.io.expression_fields import check_names
from sega_ros.msg import FlameExpression
from sega_ros.nodes.answers import answer
from sega_ros.nodes.avatar_choice import AvatarChoice
from sega_ros.nodes.calibration import Calibration, calibration_duration
from sega_ros.nodes.core import Driver, Puppet, ViewRequest
from sega_ros.nodes.diagnostics import WARN, Diagnostics, Status
from sega_ros.nodes.health import DriverState, driver_health
from sega_ros.nodes.hri import HriMirror
from sega_ros.nodes.inputs import CameraInput, ExpressionInput
from sega_ros.nodes.limits import DriverLimits, store_limit
from sega_ros.nodes.mailbox import Worker
from sega_ros.nodes.managed import ManagedNode, in_thread, run_node
from sega_ros.nodes.outputs import Outputs
from sega_ros.nodes.parameters import Parameters
from sega_ros.nodes.records import record_to_message
from sega_ros.nodes.sega_core import SegaDriver
from sega_ros.nodes.statistics import FrameStatistics
from sega_ros.srv import Calibrate, SelectAvatar
from sega_ros.types import FlameExpression as Expression

NEAREST = 0.1  # metres between viewpoint and head, see avatar.drive.View


@dataclass(frozen=True)
class DriverConfig:
    """Parameters of `avatar_driver`."""

    source: str = option('camera', "Where expressions come from: tracked on this node's camera images, or received",
                         choices=('camera', 'expression'), read_only=True)
    render: bool = option(True, 'Draw the avatar; without, images are tracked for another machine and nothing is decoded',
                          read_only=True)
    fetch: bool = option(True, 'Fetch avatars that another machine lists and that are not stored here')
    keep_fetched: bool = option(False, 'Keep fetched avatars when the machine they came from has deleted them')
    image_transport: str = option('raw', 'Kind of camera images: `image` or `image/compressed`',
                                  choices=('raw', 'compressed'), read_only=True)
    avatar_dir: str = option('', "Directory of the avatars; '' is the user's data directory", read_only=True)
    avatar_id: str = option('', "Avatar to drive; '' is the newest")
    head: str = option('open', "Head model: 'open', or the path of a converted FLAME file", read_only=True)
    device: str = option('auto', 'Where to render', choices=('auto', 'cpu', 'cuda'), read_only=True)
    view: str = option('frontal', "View of the avatar: steady; the operator's head pose, damped; the tracked camera; "
                       'or yaw, pitch and distance', choices=('frontal', 'follow', 'input', 'free'))
    width: int = option(512, "Width of the avatar image; the input's with view `input`", unit='px', bounds=(16, 4096))
    height: int = option(512, "Height of the avatar image; the input's with view `input`", unit='px',
                         bounds=(16, 4096))
    yaw: float = option(0.0, "Viewpoint of view `free`, towards the subject's left", unit='rad',
                        bounds=(-math.pi, math.pi))
    pitch: float = option(0.0, 'Viewpoint of view `free`, upwards', unit='rad', bounds=(-math.pi / 2, math.pi / 2))
    distance: float = option(0.0, "Distance of the viewpoint of view `free`; 0 is the view's own", unit='m',
                             bounds=(0.0, 10.0))
    background: str = option('', "Colour behind the avatar as #rrggbb; '' is the view's own")
    detail: int = option(0, 'Splats that are drawn, of those of the avatar; 0 draws all', bounds=(0, 200_000))
    frame_time: float = option(0.0, 'What binding and drawing one image may take: when it takes longer, fewer splats are drawn; '
                               '0 draws `detail` in any case', unit='ms', bounds=(0.0, 1000.0))
    camera_frame_id: str = option('', 'Optical frame id of the expression messages, at most 32 characters; '
                                  "'' takes the camera image's", read_only=True)
    driver_identity: str = option('auto', "Whose face shape the tracking assumes: the avatar's, one fitted to the "
                                  "first frames, or the avatar's where it fits", choices=('auto', 'avatar', 'fit'),
                                  read_only=True)
    avatar_frame_id: str = option('avatar_camera', 'Frame id of the avatar images', read_only=True)
    jitter_buffer: float = option(0.0, 'With source `expression`: time by which expressions are shown later, so that those that '
                                  'the network held up are in time and lost ones are interpolated; 0 shows each when it comes',
                                  unit='s', bounds=(0.0, 2.0))
    jitter_buffer_rate: float = option(0.0, "Expressions per second out of the jitter buffer; 0 is the sender's own", unit='Hz',
                                       bounds=(0.0, 240.0))
    jpeg_quality: int = option(90, 'Quality of the compressed avatar images', bounds=(1, 100))
    smoothing: float = option(1.0, 'How strongly what is tracked is smoothed: 0 not at all, 1 as a rule; more is steadier and '
                              'later', bounds=(0.0, 10.0))
    hri: bool = option(False, 'Mirror the tracked face under /humans/faces (ROS4HRI); needs hri_msgs and source camera',
                       read_only=True)
    autostart: bool = option(False, 'Configure and activate when the process starts, without being told to', read_only=True)
    idle: IdleConfig = field(default_factory=IdleConfig)
    limits: DriverLimits = field(default_factory=DriverLimits)


@dataclass(frozen=True)
class Frame:
    """What one picture is made of."""

    stamp: Time
    expression: Expression
    size: tuple[int, int] | None  # (H, W) of the camera image
    puppet: Puppet
    outputs: Outputs
    sent: bool = True  # False: nobody sent it, it fills a gap
    bound: Any = None  # what the puppet made of it, ready to be drawn
    seconds: float = 0.0  # that this took


def check_config(config: DriverConfig) -> None:
    """Raise ConfigError or AvatarIdError unless the parameters fit together."""
    if config.source == 'expression' and not config.render:
        raise ConfigError('render: false with source: expression leaves nothing to do; draw the avatar, or track a camera')
    if config.avatar_id:
        check_avatar_id(config.avatar_id)
    check_names('', '', config.camera_frame_id)
    if 0 < config.distance < NEAREST:
        raise ConfigError(f'distance: wanted 0 or {NEAREST:g} to 10 m, found {config.distance:g}')
    if config.view == 'input' and config.source != 'camera':
        raise ConfigError('view: input shows the avatar as the tracked camera sees it and needs source: camera; use '
                          'follow')
    if config.hri and config.source != 'camera':
        raise ConfigError('hri: true mirrors the face that this node tracks and needs source: camera; set it where the camera is')
    digits = config.background.removeprefix('#')
    if config.background and not (config.background.startswith('#') and len(digits) == 6
                                  and all(c in '0123456789abcdefABCDEF' for c in digits)):
        raise ConfigError(f'background: found {config.background!r}, wanted #rrggbb')


def make_core(config: DriverConfig) -> Driver:
    """Return the real core."""
    return SegaDriver(config.avatar_dir, config.head, config.device, config.driver_identity, render=config.render,
                      limit=store_limit(config.limits))


class AvatarDriver(ManagedNode):
    """Two workers beside the executor: one tracks the newest camera image and binds the avatar to it, one draws.

    These halves of a frame take about as long as each other. Messages of another machine are bound by a worker instead.
    """

    def __init__(self, *, core: Callable[[DriverConfig], Driver] = make_core, **kwargs) -> None:
        """Declare parameters; `core` makes the core when the node is configured."""
        super().__init__('avatar_driver', **kwargs)
        self._make_core = core
        self.settings = Parameters(self, DriverConfig, check=check_config, changed=self._on_parameters)
        self._core: Driver | None = None
        self._avatars: AvatarChoice | None = None
        self._detail = DetailControl(0)
        self._frame_problem, self._last_bad = '', False  # why the last bad frame was refused, and whether it was the last of all
        self._input: CameraInput | ExpressionInput | None = None
        self._outputs: Outputs | None = None
        self._hri: HriMirror | None = None
        self._binder: Worker[Frame] | None = None
        self._drawer: Worker[Frame] | None = None
        self._entities: list[tuple[Callable, object]] = []
        self.statistics = FrameStatistics()
        self._diagnostics = Diagnostics(self, self.status, self.group)
        self.autostart()

    # --- transitions ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load the head model and create the entities that exist in every state from now on."""
        config = self.settings.load()
        self._core = self._make_core(config)
        check_names(self._core.head_model, self._core.head_model_version)
        self._outputs = Outputs(self, expressions=config.source == 'camera', images=config.render)
        self._hri = HriMirror(self) if config.hri else None
        self._avatars = AvatarChoice(self, self._core, self.settings, loaded=self._on_loaded)
        select = self.create_service(SelectAvatar, '~/select_avatar', in_thread(self, self.on_select),
                                     callback_group=self.group)
        calibrate = self.create_service(Calibrate, '~/calibrate', in_thread(self, self.on_calibrate),
                                        callback_group=self.group)
        self._entities = [(self.destroy_service, select), (self.destroy_service, calibrate)]
        if config.source == 'camera':
            self._input = CameraInput(self, self._core, self.settings, self.statistics, self._outputs,
                                      render=self._hand_over, done=self._frame_done, failed=self._frame_failed, hri=self._hri)
        else:
            self._input = ExpressionInput(
                self, self.settings, self.statistics, render=self._hand_over, fill_in=partial(self._hand_over, sent=False),
                done=self._frame_done, failed=self._frame_failed, puppet=lambda: self.puppet)

    def activate(self) -> None:
        """Load the avatar when there is one, and start to listen."""
        config = self.settings.load()
        self._last_bad = False
        self._drawer = Worker('draw', self._draw, dropped=self.statistics.dropped, failed=self._frame_failed)
        if config.source == 'expression':  # a thread that reads must not be kept from it
            self._binder = Worker('bind', self._bind, dropped=self.statistics.dropped, failed=self._frame_failed)
        if self._avatars is None or self._input is None:
            raise NotActiveError('the node is not configured')
        self._avatars.start()
        self._input.start()

    def deactivate(self) -> None:
        """Stop listening and finish the frame at hand."""
        for part in (self._input, self._avatars, self._binder, self._drawer):
            if part is not None:
                part.stop()
        self._binder = self._drawer = None

    def cleanup(self) -> None:
        """Destroy what `configure` made and forget the avatar."""
        for destroy, entity in self._entities:
            destroy(entity)
        if self._input is not None:
            self._input.destroy()
        self._entities, self._input = [], None
        for made in (self._outputs, self._hri, self._avatars):
            if made is not None:
                made.destroy()
        self._outputs = self._hri = self._avatars = self._core = None

    # --- which avatar -----------------------------------------------------------------------------------------------

    @property
    def puppet(self) -> Puppet | None:
        """The avatar at hand."""
        return self._avatars.puppet if self._avatars else None

    def on_select(self, request: SelectAvatar.Request, response: SelectAvatar.Response) -> SelectAvatar.Response:
        """Drive another avatar; the old one stays when that fails."""
        def work(filled: SelectAvatar.Response) -> str:
            self.require_active()
            if (avatars := self._avatars) is None:
                raise NotActiveError(f'{self.get_name()} is being cleaned up')
            puppet = avatars.select(request.avatar_id)
            self.set_parameters([Parameter('avatar_id', value=request.avatar_id)])
            filled.avatar = record_to_message(puppet.record)
            return f'driving {request.avatar_id!r}'

        return answer(response, work, self.get_logger())

    def _on_parameters(self, config: DriverConfig) -> None:
        if self._avatars is not None:
            self._avatars.on_parameters(config.avatar_id, config.fetch)

    def _on_loaded(self, puppet: Puppet) -> None:
        self._detail = DetailControl(puppet.splats)

    # --- frames -----------------------------------------------------------------------------------------------------

    def _hand_over(self, message: FlameExpression, expression: Expression, size: tuple[int, int] | None, *,
                   sent: bool = True) -> bool:
        """Pass an expression on to be rendered and return whether it is needed.

        `size` (H, W) is the camera image's, if there is one.
        """
        outputs, puppet = self._outputs, self.puppet
        if self._drawer is None or outputs is None or puppet is None or not outputs.images_wanted:
            return False
        frame = Frame(message.header.stamp, expression, size, puppet, outputs, sent)
        if (binder := self._binder) is not None:
            binder.put(frame)
        else:
            self._bind(frame)
        return True

    def _bind(self, frame: Frame) -> None:
        config, size = self.settings.value, frame.size
        if config.view != 'input' or size is None:
            size = (config.height, config.width)
        view = ViewRequest(config.view, size, config.yaw, config.pitch, config.distance, config.background,
                           self._splats(config))
        start = time.perf_counter()
        bound = frame.puppet.bind(frame.expression, view)
        drawer = self._drawer
        if drawer is None:
            self.statistics.dropped()
        else:
            drawer.put(replace(frame, bound=bound, seconds=time.perf_counter() - start))

    def _splats(self, config: DriverConfig) -> int:
        return min(config.detail or self._detail.count, self._detail.count)

    def _draw(self, frame: Frame) -> None:
        start, config = time.perf_counter(), self.settings.value
        image = frame.puppet.draw(frame.bound)
        self._detail.update(frame.seconds + time.perf_counter() - start, config.frame_time / 1e3)
        frame.outputs.publish_image(image, frame.bound.camera, stamp=frame.stamp, frame_id=config.avatar_frame_id,
                                    jpeg_quality=config.jpeg_quality)
        self.statistics.published((self.get_clock().now().nanoseconds - frame.expression.stamp_ns) / 1e9)
        if frame.sent:
            self._frame_done()

    def _frame_done(self) -> None:
        self._last_bad = False

    def _frame_failed(self, error: Exception) -> None:
        if not self.context.ok():  # the process ends; publishers are closed under the workers
            return
        self.statistics.refused()
        known = isinstance(error, SegaError)
        self._frame_problem, self._last_bad = str(error) if known else f'{type(error).__name__}: {error}', True
        self.get_logger().error(f'frame refused: {self._frame_problem}', throttle_duration_sec=5.0)

    # --- calibration ------------------------------------------------------------------------------------------------

    def on_calibrate(self, request: Calibrate.Request, response: Calibrate.Response) -> Calibrate.Response:
        """Collect tracked frames for a while and take their mean as neutral."""
        def work(filled: Calibrate.Response) -> str:
            self.require_active()
            duration = calibration_duration(request.duration)
            if not isinstance(self._input, CameraInput):
                raise ConfigError('calibrate: this driver receives expressions (source: expression); calibrate the '
                                  'driver that tracks the camera')
            calibration = Calibration(duration)
            filled.frames = self._input.calibrate(calibration)
            return f'neutral taken from {filled.frames} frames'

        return answer(response, work, self.get_logger())

    # --- health -----------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the health for the diagnostics."""
        report, config, avatars = self.statistics.report(), self.settings.value, self._avatars
        puppet = avatars.puppet if avatars else None
        values = {
            'rate (Hz)': report.rate, 'input rate (Hz)': report.input_rate, 'latency p50 (ms)': 1e3 * report.latency_p50,
            'latency p95 (ms)': 1e3 * report.latency_p95, 'received': report.received, 'published': report.published,
            'dropped': report.dropped, 'refused': report.refused, 'unwanted': report.unwanted, 'late': report.late,
            'source': config.source, 'view': config.view, 'device': config.device,
            'splats': self._splats(config), 'avatar': puppet.record.avatar_id if puppet else 'none',
            'avatar sha256': puppet.record.sha256 if puppet else 'none'}
        source, outputs = self._input, self._outputs
        if not self.active or source is None or outputs is None or avatars is None:
            return Status(WARN, 'not active', values)
        level, reason = driver_health(DriverState(
            report, source.topic, source=config.source, avatar=puppet is not None, wanted=config.avatar_id,
            avatar_problem=avatars.problem, fetching=avatars.fetching,
            frame_problem=self._frame_problem, last_bad=self._last_bad, images_wanted=outputs.images_wanted,
            expressions_wanted=outputs.expressions_wanted, faceless=source.watch.faceless, still=source.watch.still))
        return Status(level, reason, {**values, 'face seen (s ago)': source.watch.faceless})


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    # The workers hand the interpreter to each other many times a frame; up to 5 ms of waiting each time adds up.
    sys.setswitchinterval(0.0001)
    raise SystemExit(run_node(AvatarDriver, 'avatar_driver', args))

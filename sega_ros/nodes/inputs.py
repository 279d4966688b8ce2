"""The two sources of expressions: a camera that this node tracks, or messages of another machine."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rclpy._rclpy_pybind11 import RCLError
from rclpy.event_handler import SubscriptionEventCallbacks
from sensor_msgs.msg import CompressedImage, Image

from sega_ros.avatar.idle import FaceHold, idle_expression, patience
from sega_ros.errors import BusyError, SegaError
from sega_ros.io.expression_fields import message_to_expression
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.calibration import Calibration
from sega_ros.nodes.camera_watch import CameraWatch
from sega_ros.nodes.convert import compressed_message_to_rgb, image_message_to_rgb, stamp_to_ns
from sega_ros.nodes.core import Driver, Puppet
from sega_ros.nodes.expressions import check_head_model, expression_to_message
from sega_ros.nodes.hri import HriMirror
from sega_ros.nodes.jitter import JitterBuffer
from sega_ros.nodes.limits import RateLimit
from sega_ros.nodes.mailbox import Worker
from sega_ros.nodes.managed import ManagedNode
from sega_ros.nodes.outputs import Outputs
from sega_ros.nodes.parameters import Parameters
from sega_ros.nodes.reader import Reader
from sega_ros.nodes.statistics import FrameStatistics
from sega_ros.types import FlameExpression as Expression

# message, what a receiver of that message reads from it, (H, W) of the camera image; returns whether it is rendered
Render = Callable[[FlameExpression, Expression, tuple[int, int] | None], bool]
Failed = Callable[[Exception], None]
Done = Callable[[], None]  # a frame was handled that need not be rendered
IDLE_RATE = 30.0  # pictures per second while the link is cut
_PAUSE = 5.0  # seconds: more is no stream's interval, but a cut


class CameraInput:
    """Tracks the newest camera image in a worker and hands the expression on."""

    def __init__(self, node: ManagedNode, core: Driver, parameters: Parameters, statistics: FrameStatistics,
                 outputs: Outputs, *, render: Render, done: Done, failed: Failed, hri: HriMirror | None = None) -> None:
        config = parameters.value
        self._node, self._parameters, self._statistics, self._outputs = node, parameters, statistics, outputs
        self._render, self._done, self._failed, self._hri = render, done, failed, hri
        self.watch = CameraWatch()
        self._compressed = config.image_transport == 'compressed'
        self.topic = node.resolve_topic_name('image') + ('/compressed' if self._compressed else '')
        self._tracker = core.make_tracker()
        self._hold, self._rate = FaceHold(config.idle), RateLimit()
        self._worker: Worker[Image | CompressedImage] | None = None
        self._reader: Reader | None = None
        self._calibration: Calibration | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Listen from now on."""
        self._tracker.reset()
        self.watch.restart()
        self._hold = FaceHold(self._parameters.value.idle)
        self._worker = Worker('track', self._track, dropped=self._statistics.dropped, failed=self._failed)
        self._subscribe()

    def stop(self) -> None:
        """Stop listening and finish the frame at hand."""
        while (reader := self._reader) is not None:
            reader.close()
            if self._reader is reader:  # it had not just subscribed again
                self._reader = None
        with self._lock:
            calibration, self._calibration = self._calibration, None
        if calibration is not None:
            calibration.cancel()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def destroy(self) -> None:
        """Release the tracker's networks and their threads."""
        self._tracker.close()

    def calibrate(self, calibration: Calibration) -> int:
        """Collect frames, take them as neutral and return their number; errors as `Calibration.wait`.

        Raises:
            BusyError: another calibration is running.
        """
        with self._lock:
            if self._calibration is not None:
                raise BusyError('a calibration is running already; wait for its end')
            # Frames for a calibration are taken without the one before.
            previous, self._tracker.calibration = self._tracker.calibration, None
            self._calibration = calibration
        try:
            return calibration.wait()
        except SegaError:
            self._tracker.calibration = previous
            raise
        finally:
            with self._lock:
                self._calibration = None

    def _subscribe(self) -> None:
        # `image/compressed` as image_transport names it: remapping `image` moves both.
        kind = CompressedImage if self._compressed else Image
        events = SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos)
        self._reader = Reader(self._node, kind, self.topic, self._on_image, qos.image_input(), failed=self._failed,
                              events=events)

    def _on_incompatible_qos(self, _) -> None:
        """Subscribe again: BEST_AVAILABLE is settled when a subscription is made, by the publishers known then."""
        with self._lock:
            if self._reader is None or not self._node.active:
                return
            self._node.get_logger().info(f'{self.topic}: a best-effort publisher appeared; subscribing again')
            self._reader.close()
            self._subscribe()

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._statistics.received()
        if not self._rate.passes(self._parameters.value.limits.rate):
            self._statistics.dropped()
            return
        self.watch.picture(message.data)
        worker = self._worker
        if worker is None or not self._wanted():
            self.watch.face(True)  # nobody looks for one
            self._statistics.unwanted()
            return
        worker.put(message)

    def _wanted(self) -> bool:
        try:
            return bool(self._outputs.images_wanted or self._outputs.expressions_wanted or self._calibration
                        or (self._hri and self._hri.wanted))
        except RCLError:  # the publishers are closed under this callback when the process is told to end
            if self._node.context.ok():
                raise
            return False

    def _track(self, message: Image | CompressedImage) -> None:
        config = self._parameters.value
        to_rgb = compressed_message_to_rgb if self._compressed else image_message_to_rgb
        image = to_rgb(message, max_pixels=config.limits.image_pixels)
        self._tracker.smoothing, self._hold.config = config.smoothing, config.idle
        frame_id = config.camera_frame_id or message.header.frame_id
        tracked = self._tracker.track(image, stamp_to_ns(message.header.stamp), frame_id)
        self.watch.face(tracked.face_present)
        self._collect(tracked)
        # What is rendered here is what a receiver of the message renders, to the last bit.
        sent = expression_to_message(self._hold.update(tracked))
        published = self._outputs.publish_expression(sent)
        height, width = image.shape[:2]
        drawn = self._render(sent, message_to_expression(sent), (height, width))
        if self._hri is not None:
            observe = partial(self._tracker.observe, tracked, (height, width)) if tracked.face_present else None
            published |= self._hri.publish(sent.header, tracked.confidence, (height, width), observe)
        if drawn:
            return
        self._done()
        if published:
            self._statistics.published((self._node.get_clock().now().nanoseconds - tracked.stamp_ns) / 1e9)
        else:
            self._statistics.unwanted()

    def _collect(self, tracked: Expression) -> None:
        calibration = self._calibration
        if calibration is not None and calibration.add(tracked, self._tracker.calibrate):
            with self._lock:
                self._calibration = None


class ExpressionInput:
    """Receives expressions that another machine tracked.

    While none come (the link is cut), the last is held, eased to neutral and followed by idle blinks, as for a lost face. With a
    jitter buffer they are shown later and evenly, some of them interpolated.
    """

    def __init__(self, node: ManagedNode, parameters: Parameters, statistics: FrameStatistics, *, render: Render,
                 fill_in: Render, done: Done, failed: Failed, puppet: Callable[[], Puppet | None]) -> None:
        """`fill_in` is `render` for frames that nobody sent."""
        self._node, self._parameters, self._statistics = node, parameters, statistics
        self._render, self._fill_in, self._done, self._failed, self._puppet = render, fill_in, done, failed, puppet
        self.watch = CameraWatch()
        self.topic = node.resolve_topic_name('expression')
        self._reader: Reader | None = None
        self._filler: threading.Thread | None = None
        self._buffer: JitterBuffer | None = None
        self._heard = threading.Condition()
        self._rate = RateLimit()
        self._last: tuple[Expression, float] | None = None  # shown, and when, by the monotonic clock
        self._interval = 0.0  # seconds between those shown, smoothed
        self._listening = False

    def start(self) -> None:
        """Listen from now on."""
        self._last, self._interval, self._listening = None, 0.0, True
        self.watch.restart()
        self._filler = threading.Thread(target=self._fill, name='silence', daemon=True)
        self._filler.start()
        self._reader = Reader(self._node, FlameExpression, 'expression', self._on_expression, qos.expression(),
                              failed=self._failed)

    def stop(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._buffered(wanted=False)
        with self._heard:
            self._listening = False
            self._heard.notify()
        if self._filler is not None:
            self._filler.join()
            self._filler = None

    def destroy(self) -> None:
        """Nothing is left to release."""

    def _fill(self) -> None:
        """Make expressions of the time in which none come."""
        while True:
            with self._heard:
                last, limit = self._last, patience(self._interval)
                silence = time.monotonic() - last[1] if last else 0.0
                if self._listening:  # else the notice of it came before this wait
                    self._heard.wait(None if last is None else max(limit - silence, 1 / IDLE_RATE))
                if not self._listening:
                    return
                silence = time.monotonic() - last[1] if last else 0.0
                if last is None or last is not self._last or silence < limit:
                    continue
            try:
                self._check(last[0])
                stamp, config = last[0].stamp_ns + round(silence * 1e9), self._parameters.value.idle
                config = replace(config, hold=max(config.hold, limit))
                idle = expression_to_message(idle_expression(last[0], stamp, config))
                self._fill_in(idle, message_to_expression(idle), None)
            except Exception as error:  # one bad frame must not end the filling; this one would fail again and again
                self._forget(last)
                self._failed(error)

    def _forget(self, last: tuple[Expression, float]) -> None:
        """Make nothing more of an expression that can't be drawn: it came while no avatar was there to compare it with."""
        with self._heard:
            if self._last is last:
                self._last = None

    def _check(self, expression: Expression) -> None:
        """Raise HeadModelMismatchError unless the avatar, once there is one, can be drawn with an expression."""
        puppet = self._puppet()
        if puppet is not None:
            check_head_model(expression, puppet.record.head_model, puppet.record.head_model_version, puppet.n_expression)

    def _on_expression(self, message: FlameExpression) -> None:
        self._statistics.received()
        if not self._rate.passes(self._parameters.value.limits.rate):
            self._statistics.dropped()
            return
        self.watch.face(message.face_present)
        expression = message_to_expression(message)
        self._check(expression)
        if (buffer := self._buffered(wanted=self._parameters.value.jitter_buffer > 0)) is not None:
            buffer.put(expression)
        else:
            self._show(message, expression)

    def _buffered(self, *, wanted: bool) -> JitterBuffer | None:
        """Return the buffer if one is wanted, made or closed when that changed. Called by the reading thread, or after it."""
        if wanted and self._buffer is None:
            self._buffer = JitterBuffer(self._pace, play=self._play, late=self._statistics.late, failed=self._failed)
        elif not wanted and self._buffer is not None:
            self._buffer.close()
            self._buffer = None
        return self._buffer

    def _pace(self) -> tuple[float, float]:
        config = self._parameters.value
        return config.jitter_buffer, config.jitter_buffer_rate

    def _play(self, expression: Expression) -> None:
        self._check(expression)  # another avatar may have come meanwhile
        message = expression_to_message(expression)  # what is rendered is what a message says
        self._show(message, message_to_expression(message))

    def _show(self, message: FlameExpression, expression: Expression) -> None:
        now = time.monotonic()
        with self._heard:
            if self._last is not None and (passed := now - self._last[1]) < _PAUSE:
                self._interval += 0.2 * (passed - self._interval) if self._interval else passed
            self._last = expression, now
            self._heard.notify()
        if not self._render(message, expression, None):
            self._done()
            self._statistics.unwanted()

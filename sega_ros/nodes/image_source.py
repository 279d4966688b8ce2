"""Small node that publishes a camera or a clip as images."""

import math
import threading
import time
from dataclasses import dataclass

import numpy as np
from rclpy._rclpy_pybind11 import RCLError
from rclpy.node import Node
from sensor_msgs.msg import Image

from sega_ros.config import option
from sega_ros.errors import CameraError, ConfigError, SegaError
from sega_ros.io import VideoReader
from sega_ros.io.expression_fields import MAX_FRAME_ID
from sega_ros.nodes import qos
from sega_ros.nodes.convert import rgb_to_image_message
from sega_ros.nodes.diagnostics import ERROR, OK, Diagnostics, Status
from sega_ros.nodes.managed import run_node
from sega_ros.nodes.parameters import Parameters

_DIGITS = 6  # of a camera's number, fewer
SILENT_AFTER = 2.0  # seconds without an image


@dataclass(frozen=True)
class SourceConfig:
    """Parameters of `image_source`."""

    source: str = option('0', 'Device number of a camera, or path of a clip', read_only=True)
    rate: float = option(0.0, "Images per second; 0 is the clip's or the camera's own. A camera is opened again when it changes",
                         unit='Hz', bounds=(0.0, 240.0))
    loop: bool = option(True, 'Play a clip again when it ends')
    width: int = option(0, "Width asked of a camera; 0 is the camera's own", unit='px', bounds=(0, 8192),
                        read_only=True)
    height: int = option(0, "Height asked of a camera; 0 is the camera's own", unit='px', bounds=(0, 8192),
                         read_only=True)
    frame_id: str = option('camera_optical_frame', 'Frame id of the images, at most 32 characters', read_only=True)
    retry: float = option(1.0, 'Pause before a camera that failed is opened again', unit='s', bounds=(0.1, 60.0))


class ImageSource(Node):
    """Publishes frames at their own rate and never waits for a subscriber; opens a lost camera again."""

    def __init__(self, **kwargs) -> None:
        """Declare parameters, advertise `image` and start to play.

        Raises:
            ConfigError: parameters that don't fit.
            CameraError: a clip that can't be opened (a camera is tried again instead).
        """
        super().__init__('image_source', **kwargs)
        self.settings = Parameters(self, SourceConfig)
        config = self.settings.load()
        if len(config.frame_id.encode()) > MAX_FRAME_ID:
            raise ConfigError(f'frame_id: found {config.frame_id!r}, at most {MAX_FRAME_ID} characters fit into '
                              'an expression message')
        number = config.source.isdecimal() and len(config.source) < _DIGITS
        self._source = int(config.source) if number else config.source
        # The path of a clip is not named in logs and diagnostics: people's names stand in paths.
        self._name = f'camera {self._source}' if number else 'the clip of parameter source'
        if isinstance(self._source, str):
            VideoReader(self._source, name=self._name).close()  # fails now, in the constructor, rather than in the log
        self._publisher = self.create_publisher(Image, 'image', qos.newest())
        self.published, self.finished, self._problem = 0, False, ''
        self._last, self._period = time.monotonic(), 0.0  # when an image was published, and seconds between two
        self._diagnostics = Diagnostics(self, self.status)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='source', daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        """Release the camera or clip."""
        self._stop.set()
        self._thread.join(5.0)
        super().destroy_node()

    def status(self) -> Status:
        """Return the health for the diagnostics."""
        silence = time.monotonic() - self._last
        values = {'source': self._name, 'published': self.published, 'rate (Hz)': 1 / self._period if self._period else math.nan}
        if self._problem:
            return Status(ERROR, self._problem, values)
        if not self.finished and silence > max(SILENT_AFTER, 3 * self._period):
            return Status(ERROR, f'nothing from {self._name} for {silence:.1f} s; check its cable', values)
        return Status(OK, 'the clip is over' if self.finished else 'playing', values)

    def _run(self) -> None:
        while not self._stop.is_set() and not self.finished:
            try:
                self._play()
            except RCLError:
                if self.context.ok():
                    raise
                return  # the signal that ends the process closed the publisher under this thread
            except SegaError as error:
                retry = self.settings.value.retry
                if self._problem != str(error):
                    self.get_logger().error(f'{error}; trying again every {retry:g} s')
                self._problem = str(error)
                self._stop.wait(retry)

    def _play(self) -> None:
        """Play to the end of the clip, or until the camera fails or is to have another rate."""
        config, is_camera = self.settings.value, isinstance(self._source, int)
        size = (config.height, config.width) if config.width and config.height else None
        with VideoReader(self._source, size=size, fps=config.rate or None, name=self._name) as reader:
            if self._problem:
                self.get_logger().info(f'{self._name}: back again')
            self._problem, due = '', time.monotonic()
            for image in reader:
                rate = self.settings.value.rate
                self._period = 1.0 / (rate or reader.fps)
                if is_camera and rate != config.rate:
                    return
                if not is_camera:  # a camera has its own pace
                    self._stop.wait(max(0.0, due - time.monotonic()))
                    due = max(due + self._period, time.monotonic() - 1.0)
                if self._stop.is_set():
                    return
                self._publish(image)
        if is_camera:
            raise CameraError(f'{self._name} stopped delivering; check its cable')
        self.finished = not self.settings.value.loop

    def _publish(self, image: np.ndarray) -> None:
        stamp = self.get_clock().now().to_msg()
        self._publisher.publish(rgb_to_image_message(image, stamp=stamp, frame_id=self.settings.value.frame_id))
        self.published += 1
        self._last = time.monotonic()


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    raise SystemExit(run_node(ImageSource, 'image_source', args))

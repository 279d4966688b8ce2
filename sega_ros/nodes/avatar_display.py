"""Node that shows the avatar on the robot's head display, full screen."""

import threading
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from sega_ros.config import option
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.convert import image_message_to_rgb
from sega_ros.nodes.diagnostics import Diagnostics, Status
from sega_ros.nodes.display_window import ROTATIONS, Window, WindowConfig
from sega_ros.nodes.managed import run_node
from sega_ros.nodes.parameters import Parameters
from sega_ros.nodes.reader import Reader
from sega_ros.nodes.showing import Showing, ShowingConfig

_LOOK = 0.02  # seconds between two looks at the keyboard while nothing comes


@dataclass(frozen=True)
class DisplayConfig(ShowingConfig):
    """Parameters of `avatar_display`."""

    screen: int = option(0, 'Number of the screen', bounds=(0, 15), read_only=True)
    fullscreen: bool = option(True, 'Fill the screen; otherwise a window', read_only=True)
    width: int = option(1024, 'Width of a window', unit='px', bounds=(64, 8192), read_only=True)
    height: int = option(600, 'Height of a window', unit='px', bounds=(64, 8192), read_only=True)
    rotation: int = option(0, 'Degrees clockwise by which the picture is turned', choices=ROTATIONS, read_only=True)
    vsync: bool = option(True, "Show pictures with the screen's refresh, so that none is torn", read_only=True)
    standby: str = option('', "Picture file for standby; '' is black", read_only=True)


class AvatarDisplay(Node):
    """Takes the newest picture; `run` shows it, in the process's main thread as SDL wants it."""

    def __init__(self, **kwargs) -> None:
        """Declare parameters, open the window and listen.

        Raises:
            ConfigError, DisplayError: see `display_window.Window`.
            ImageError: the standby picture can't be read.
        """
        super().__init__('avatar_display', **kwargs)
        self.settings = Parameters(self, DisplayConfig)
        config = self.settings.load()
        self._standby = None
        if config.standby:
            from sega_ros.io import read_image

            self._standby = read_image(config.standby)
        self.window = Window(WindowConfig(config.screen, config.rotation, config.fullscreen, (config.height, config.width),
                                          config.vsync), title='sega_ros avatar')
        self.get_logger().info(f'showing avatar/image on {self.window.mode}')
        self._changed = threading.Condition()
        self._picture: np.ndarray | None = None
        self.shown, self.showing = 0, Showing(self, 'avatar/image')
        failed = self.showing.failed
        self._readers = [
            Reader(self, Image, 'avatar/image', self._on_image, qos.image_input(), failed=failed),
            Reader(self, FlameExpression, 'expression', self.showing.on_expression, qos.expression(), failed=failed)]
        self._diagnostics = Diagnostics(self, self.status)

    def _on_image(self, message: Image) -> None:
        picture = image_message_to_rgb(message)
        with self._changed:
            self._picture = picture
            self.showing.picture_came()
            self._changed.notify()

    def run(self) -> None:
        """Show pictures until the window is closed or the context ends."""
        shown, standing_by = None, None
        while self.context.ok() and not self.window.wants_to_close():
            with self._changed:
                if self._picture is shown:
                    self._changed.wait(_LOOK)
                config = self.settings.value
                picture, stale = self._picture, self.showing.is_stale(config)
            if stale:
                if standing_by is not True:
                    self.window.show(self._standby)
                    standing_by = True
            elif picture is not shown or standing_by:
                self.window.show(picture, self.showing.badges(config))
                self.shown += 1
                shown, standing_by = picture, False

    def status(self) -> Status:
        """Return the health for the diagnostics."""
        return self.showing.status(self.settings.value, {'shown': self.shown, 'mode': self.window.mode})

    def destroy_node(self) -> None:
        """Stop listening and close the window."""
        for reader in self._readers:
            reader.close()
        self.window.close()
        super().destroy_node()


def main(args: list[str] | None = None) -> None:
    """Run the node: SDL wants the main thread."""
    raise SystemExit(run_node(AvatarDisplay, 'avatar_display', args, foreground=AvatarDisplay.run))

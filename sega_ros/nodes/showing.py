"""What the head display and the browser page have in common: standby, badges and health."""

import time
from dataclasses import dataclass

from rclpy.node import Node

from sega_ros.config import option
from sega_ros.errors import SegaError
from sega_ros.msg import FlameExpression
from sega_ros.nodes.diagnostics import ERROR, OK, Status

LOST, SYNTHETIC = 'NO FACE', 'SYNTHETIC'


@dataclass(frozen=True)
class ShowingConfig:
    """Parameters of every node that shows the avatar."""

    standby_after: float = option(2.0, 'Time without pictures after which standby is shown', unit='s', bounds=(0.1, 3600.0))
    badge_lost: bool = option(True, 'Say on the screen when the face is lost')
    badge_synthetic: bool = option(False, 'Say on the screen that the head is synthetic')


class Showing:
    """Knows when the last picture came, whether the face is lost and what was wrong with a picture; for any thread."""

    def __init__(self, node: Node, topic: str) -> None:
        """Watch the pictures of `topic`, as the node calls it."""
        self._node, self._topic = node, topic
        self._arrived, self._problem = float('-inf'), ''
        self.lost = False

    def picture_came(self) -> None:
        """Note that a picture can be shown."""
        self._arrived, self._problem = time.monotonic(), ''

    def on_expression(self, message: FlameExpression) -> None:
        """Note whether the face is lost."""
        self.lost = not message.face_present

    def failed(self, error: Exception) -> None:
        """Note, and log, that a message could not be used."""
        self._problem = str(error) if isinstance(error, SegaError) else f'{type(error).__name__}: {error}'
        self._node.get_logger().error(f'picture refused: {self._problem}', throttle_duration_sec=5.0)

    def is_stale(self, config: ShowingConfig) -> bool:
        """Whether the last picture is too old to be shown."""
        return time.monotonic() - self._arrived > config.standby_after

    def badges(self, config: ShowingConfig) -> tuple[str, ...]:
        """Return the short texts that belong on the picture."""
        return (LOST,) * (config.badge_lost and self.lost) + (SYNTHETIC,) * config.badge_synthetic

    def status(self, config: ShowingConfig, values: dict[str, object]) -> Status:
        """Return the health for the diagnostics, with the node's own figures."""
        values = {**values, 'face lost': self.lost}
        if self._problem:
            return Status(ERROR, self._problem, values)
        if self.is_stale(config):
            return Status(ERROR, f'nothing on {self._node.resolve_topic_name(self._topic)}; check avatar_driver', values)
        return Status(OK, 'showing', values)

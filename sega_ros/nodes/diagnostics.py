"""DiagnosticArray at 1 Hz on /diagnostics."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from sega_ros.nodes import qos
from sega_ros.nodes.answers import shorten

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
PERIOD = 1.0  # seconds


@dataclass(frozen=True)
class Status:
    """Health of a node: a level, its reason and figures."""

    level: bytes
    reason: str
    values: dict[str, object] = field(default_factory=dict)


def format_value(value: object) -> str:
    """Return a figure as text; floats with four digits, NaN as a dash."""
    if isinstance(value, float):
        return '-' if math.isnan(value) else f'{value:.4g}'
    return str(value)


class Diagnostics:
    """Publishes what `status` returns once a second, in every state of the node."""

    def __init__(self, node: Node, status: Callable[[], Status], group: CallbackGroup | None = None) -> None:
        self._node, self._status = node, status
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', qos.diagnostics())
        # Steady time: diagnostics go on when simulated time stands still.
        self._timer = node.create_timer(PERIOD, self.publish, group, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish the status now."""
        status = self._status()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        values = [KeyValue(key=key, value=shorten(format_value(value))) for key, value in status.values.items()]
        message.status = [DiagnosticStatus(
            level=status.level, name=f'{self._node.get_fully_qualified_name().lstrip("/")}: {self._node.get_name()}',
            message=shorten(status.reason), hardware_id='sega_ros', values=values)]
        self._publisher.publish(message)

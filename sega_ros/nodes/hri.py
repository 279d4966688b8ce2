"""Mirror of the tracked face for ROS4HRI (REP-155), where hri_msgs is installed."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecyclePublisher, Node
from std_msgs.msg import Header

from sega_ros.errors import ConfigError
from sega_ros.nodes import qos
from sega_ros.nodes.core import FaceObservation
from sega_ros.tracking.action_units import ActionUnits
from sega_ros.tracking.face_points import FacePoints

# Not a person: whoever this node tracks. Fixed, so that an SROS2 policy can name the topics.
FACE = 'operator'
TRACKED = '/humans/faces/tracked'


def hri_messages() -> Any:
    """Return the module with the message classes.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module('hri_msgs.msg')
    except ImportError as error:
        raise ConfigError(f'hri: true needs the ROS package hri_msgs ({error}): install ros-jazzy-hri-msgs, or build '
                          'github.com/ros4hri/hri_msgs (branch humble-devel) in your workspace, or leave hri at false'
                          ) from error


class HriMirror:
    """Publishes who is tracked and, where somebody subscribes, box, points and action units of the face."""

    def __init__(self, node: Node) -> None:
        """Create the publishers.

        Raises:
            ConfigError: hri_msgs is not installed.
        """
        self._node, self._msg = node, hri_messages()
        self._publishers: list[LifecyclePublisher] = []

        def publisher(kind: type, topic: str) -> LifecyclePublisher:
            self._publishers.append(node.create_lifecycle_publisher(kind, topic, qos.newest()))
            return self._publishers[-1]

        self._tracked = publisher(self._msg.IdsList, TRACKED)
        self._box = publisher(self._msg.NormalizedRegionOfInterest2D, f'/humans/faces/{FACE}/roi')
        self._points = publisher(self._msg.FacialLandmarks, f'/humans/faces/{FACE}/landmarks')
        self._units = publisher(self._msg.FacialActionUnits, f'/humans/faces/{FACE}/facs')

    def destroy(self) -> None:
        """Withdraw the publishers."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def wanted(self) -> bool:
        """Whether somebody subscribes to any of it."""
        return any(publisher.get_subscription_count() for publisher in self._publishers)

    def publish(self, header: Header, confidence: float, size: tuple[int, int],
                observe: Callable[[], FaceObservation] | None) -> bool:
        """Publish one frame of `size` (H, W) when somebody listens; return whether.

        `observe` tells more of the face in it, None: there is none.
        """
        if not self.wanted:
            return False
        self._tracked.publish(self._msg.IdsList(header=header, ids=[FACE] if observe else []))
        if observe is not None and any(p.get_subscription_count() for p in self._publishers[1:]):
            seen = observe()
            if seen.points is not None:
                self._box.publish(box_message(self._msg, seen.points, header, confidence))
                self._points.publish(points_message(self._msg, seen.points, header, confidence, size))
            self._units.publish(units_message(self._msg, seen.units, header, confidence))
        return True


def box_message(msg: Any, points: FacePoints, header: Header, confidence: float) -> Any:
    """Return NormalizedRegionOfInterest2D."""
    xmin, ymin, xmax, ymax = map(float, points.box)
    return msg.NormalizedRegionOfInterest2D(header=header, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, c=confidence)


def points_message(msg: Any, points: FacePoints, header: Header, confidence: float, size: tuple[int, int]) -> Any:
    """Return FacialLandmarks; what lies outside of the picture of `size` (H, W) has confidence 0."""
    landmarks = [msg.NormalizedPointOfInterest2D(x=x, y=y, c=confidence if inside else 0.0)
                 for (x, y), inside in zip(points.points.tolist(), points.inside, strict=True)]
    return msg.FacialLandmarks(header=header, landmarks=landmarks, height=size[0], width=size[1])


def units_message(msg: Any, units: ActionUnits, header: Header, confidence: float) -> Any:
    """Return FacialActionUnits; what an expression does not tell has confidence 0."""
    return msg.FacialActionUnits(header=header, intensity=units.intensity,
                                 confidence=np.where(units.told, confidence, 0).astype(np.float32))

"""What the driver publishes; nothing is made for nobody."""

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecyclePublisher, Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.convert import camera_to_message, rgb_to_image_message, rgb_to_jpeg_message
from sega_ros.types import Camera


class Outputs:
    """Lifecycle publishers of avatar images, their camera, and (with a camera) expressions."""

    def __init__(self, node: Node, *, expressions: bool, images: bool = True) -> None:
        self._node = node
        self._publishers: list[LifecyclePublisher] = []

        def publisher(kind: type, topic: str, profile: QoSProfile) -> LifecyclePublisher:
            self._publishers.append(node.create_lifecycle_publisher(kind, topic, profile))
            return self._publishers[-1]

        self._images = images
        if images:
            self._image = publisher(Image, 'avatar/image', qos.newest())
            self._jpeg = publisher(CompressedImage, 'avatar/image/compressed', qos.newest())
            self._camera_info = publisher(CameraInfo, 'avatar/camera_info', qos.newest())
        self._expression = publisher(FlameExpression, 'expression', qos.expression()) if expressions else None

    def destroy(self) -> None:
        """Withdraw the publishers."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def images_wanted(self) -> bool:
        """Whether somebody subscribes to the avatar's images."""
        return self._images and self._image.get_subscription_count() + self._jpeg.get_subscription_count() > 0

    @property
    def expressions_wanted(self) -> bool:
        """Whether somebody subscribes to the expressions."""
        return self._expression is not None and self._expression.get_subscription_count() > 0

    def publish_expression(self, message: FlameExpression) -> bool:
        """Publish a tracked expression when somebody listens; return whether."""
        if self._expression is None or not self.expressions_wanted:
            return False
        self._expression.publish(message)
        return True

    def publish_image(self, image: np.ndarray, camera: Camera, *, stamp: Time, frame_id: str,
                      jpeg_quality: int) -> None:
        """Publish a rendered frame, uint8 RGB [H, W, 3], raw and as JPEG as far as somebody subscribes."""
        self._camera_info.publish(camera_to_message(camera, stamp=stamp, frame_id=frame_id))
        if self._image.get_subscription_count():
            self._image.publish(rgb_to_image_message(image, stamp=stamp, frame_id=frame_id))
        if self._jpeg.get_subscription_count():
            self._jpeg.publish(rgb_to_jpeg_message(image, stamp=stamp, frame_id=frame_id, quality=jpeg_quality))

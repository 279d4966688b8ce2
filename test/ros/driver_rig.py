"""A driver on a small core, a camera in front of it and ears behind it."""

from diagnostic_msgs.msg import DiagnosticStatus
from fake_core import FakeDriver
from rclpy.lifecycle import TransitionCallbackReturn
from ros_support import Camera
from sensor_msgs.msg import Image

from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.convert import image_message_to_rgb, stamp_to_ns

SMALL = {'width': 64, 'height': 32}
LEVEL = {name: getattr(DiagnosticStatus, name)[0] for name in ('OK', 'WARN', 'ERROR')}


class Rig:
    """A driver, a camera in front of it and ears behind it."""

    def __init__(self, world, *records, parameters=None, listen=True, activate=True, **camera):
        self.world, self.core = world, FakeDriver(*records)
        self.node = world.add(AvatarDriver, {**SMALL, **(parameters or {})}, core=lambda _: self.core)
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        if activate:
            assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.images = world.collect(Image, 'avatar/image', 20) if listen else []  # deep: every frame is looked at
        self.camera = Camera(world, **camera) if camera.get('topic') != '' else None
        if listen:
            world.wait(lambda: self.node._outputs.images_wanted, 'the subscription')

    def ready(self):
        """Wait until the driver sees the camera and has its avatar; return the rig."""
        self.matched()
        self.loaded()
        return self

    def matched(self):
        self.world.wait(lambda: self.camera.publisher.get_subscription_count() > 0, 'the driver at the camera')

    def loaded(self, avatar_id='ann'):
        self.world.wait(lambda: self.node.puppet and self.node.puppet.record.avatar_id == avatar_id, 'the avatar')

    def frame(self, value=0, **options):
        """Send one image (see `Camera.send`) and return the avatar image with its stamp."""
        stamp = self.camera.send(value, **options)
        return self.world.wait(lambda: next((m for m in self.images if stamp_to_ns(m.header.stamp) == stamp), None),
                               f'the frame for {value}')

    @property
    def said(self):
        """Reason of the newest diagnostics, '' before the first."""
        found = self.world.reason(self.node)
        return found[1] if found else ''


def jaw(message):
    return int(image_message_to_rgb(message)[0, 0, 0])

"""The driver with its real core through its states: `lifecycle_alone.py DIRECTORY`, which holds an avatar."""

import os
import sys

# Before rclpy starts: other machines must not be heard.
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

from ros_support import Camera, World
from sensor_msgs.msg import Image
from test_lifecycle import cycled, until_a_picture

from sega_ros.nodes import qos
from sega_ros.nodes.avatar_driver import AvatarDriver


def main(directory):
    """Networks, head model and avatar are loaded anew in each round, which takes a second: fewer rounds."""
    with World() as world:
        pictures = world.collect(Image, 'avatar/image', qos.newest())
        node = world.add(AvatarDriver, {'avatar_dir': directory, 'width': 128, 'height': 128})
        camera = Camera(world, size=(480, 640))
        cycled(world, node, lambda: until_a_picture(world, pictures, lambda: camera.send(9), 120), rounds=16, growth=20.0)


if __name__ == '__main__':
    main(sys.argv[1])

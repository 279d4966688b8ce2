"""A ROS world of its own for every test."""

import os

# Before rclpy starts: other machines must not be heard.
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

import pytest
from ros_support import World


@pytest.fixture
def world():
    """Nodes of one test, spun by background threads until its end."""
    with World() as made:
        yield made

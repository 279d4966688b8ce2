"""A ROS world of its own for every test session."""

import os

# Before rclpy is imported: other programs on this machine, and other sessions of these tests, must not be heard.
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)

import pytest
from ros_support import World


@pytest.fixture
def world():
    """Nodes of one test, spun by background threads until its end."""
    with World() as made:
        yield made

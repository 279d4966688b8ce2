"""The operator's machine: tracks a camera, sends expressions and has the avatars. Nothing is drawn here.

    ros2 launch sega_ros operator.launch.py photo:=/home/me/me.jpg camera:=0

Arguments as of avatar.launch.py; robot.launch.py is the other end.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

AVATAR = str(Path(__file__).resolve().parent / 'avatar.launch.py')


def generate_launch_description() -> LaunchDescription:
    """Return the description that ros2 launch asks for."""
    return LaunchDescription([IncludeLaunchDescription(
        PythonLaunchDescriptionSource(AVATAR), launch_arguments={'source': 'camera', 'render': 'false'}.items())])

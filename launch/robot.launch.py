"""The robot: draws the avatar from the operator's expressions on its head display; it fetches it from the operator's machine.

    ros2 launch sega_ros robot.launch.py
    ros2 launch sega_ros robot.launch.py display:=false

Arguments as of avatar.launch.py; operator.launch.py is the other end.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

AVATAR = str(Path(__file__).resolve().parent / 'avatar.launch.py')


def generate_launch_description() -> LaunchDescription:
    """Return the description that ros2 launch asks for."""
    fixed = {'source': 'expression', 'builder': 'false', 'display': LaunchConfiguration('display'),
             'respawn': LaunchConfiguration('respawn')}
    return LaunchDescription([
        DeclareLaunchArgument('display', default_value='true', description='Show the avatar full screen on this machine'),
        DeclareLaunchArgument('respawn', default_value='true', description='Start a node again that ended (not the display)'),
        IncludeLaunchDescription(PythonLaunchDescriptionSource(AVATAR), launch_arguments=fixed.items())])

"""Play a bag into the real avatar_driver in simulated time, record what it publishes, and measure that.

    ros2 launch sega_ros replay.launch.py bag:=ride topic:=/camera/image_raw avatar_id:=me out:=out/ride_live

Needs `ros2 bag` (ros-jazzy-rosbag2). OUT/live is the recording, OUT/figures what `sega evaluate --protocol rendered` makes of it;
docs/evaluation.md says how these figures differ from those of `sega evaluate` alone.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown, matches_action
from launch.events.process import ShutdownProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetParameter
from launch_ros.event_handlers import OnStateTransition

SHARE = Path(get_package_share_directory('sega_ros'))
RECORDED = ('/avatar/image', '/expression', '/diagnostics')
DISCOVERY = 3.0  # seconds that player and recorder get to find the driver, and the last pictures to arrive


def declare_arguments() -> list[DeclareLaunchArgument]:
    """Return the launch arguments with their descriptions."""
    described = {
        'bag': (None, 'Bag with the driving images'),
        'topic': (None, 'Their topic; ending in /compressed for JPEG'),
        'avatar_id': (None, 'Stored avatar that is driven'),
        'out': (None, 'New folder for the recording and its figures'),
        'avatar_dir': ('', "Directory of the avatars; empty: the user's data directory"),
        'rate': ('1.0', 'How fast the bag is played; under 1 drops fewer frames'),
    }
    return [DeclareLaunchArgument(name, default_value=default, description=text) for name, (default, text) in described.items()]


def make_actions(context: LaunchContext) -> list:
    """Return driver, recorder and player, and what follows when the player is through."""
    names = ('bag', 'topic', 'avatar_id', 'out', 'rate', 'avatar_dir')
    bag, topic, avatar, out, rate, directory = (LaunchConfiguration(name).perform(context) for name in names)
    live, figures = Path(out) / 'live', Path(out) / 'figures'
    driver = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'avatar.launch.py')),
        launch_arguments={'camera': topic, 'view': 'input', 'builder': 'false', 'avatar_id': avatar,
                          'avatar_dir': directory}.items())
    record = ExecuteProcess(output='screen', cmd=[
        'ros2', 'bag', 'record', '-s', 'mcap', '-o', str(live), '--use-sim-time', '--topics', *RECORDED])
    play = ExecuteProcess(output='screen', cmd=[
        'ros2', 'bag', 'play', bag, '--topics', topic, '--clock', '--rate', rate, '--delay', str(DISCOVERY)])
    stored = ['--dir', directory] if directory else []
    measure = ExecuteProcess(
        cmd=['sega', 'evaluate', bag, '--topic', topic, '--protocol', 'rendered', '--rendered', str(live), '--rendered-topic',
             RECORDED[0], '--avatar', avatar, *stored, '--out', str(figures)], output='screen')
    stop = EmitEvent(event=ShutdownProcess(process_matcher=matches_action(record)))
    return [
        SetParameter('use_sim_time', True), driver,
        RegisterEventHandler(OnStateTransition(goal_state='active', entities=[record, play])),
        RegisterEventHandler(OnProcessExit(target_action=play, on_exit=[TimerAction(period=DISCOVERY, actions=[stop])])),
        RegisterEventHandler(OnProcessExit(target_action=record, on_exit=[measure])),
        RegisterEventHandler(OnProcessExit(target_action=measure, on_exit=[EmitEvent(event=Shutdown(reason='measured'))]))]


def generate_launch_description() -> LaunchDescription:
    """Return the description that ros2 launch asks for."""
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=make_actions)])

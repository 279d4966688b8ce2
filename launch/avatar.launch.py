"""Start avatar_builder and avatar_driver (and image_source for a device or a clip), configured and activated.

    ros2 launch sega_ros avatar.launch.py photo:=/home/me/me.jpg camera:=0

Names, remappings and one YAML; what the parameters mean is in `ros2 param describe`.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory('sega_ros'))
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
COMPRESSED = '/compressed'
RESPAWN_DELAY = 1.0  # seconds


def declare_arguments() -> list[DeclareLaunchArgument]:
    """Return the launch arguments with their descriptions."""
    described = {
        'photo': ('', 'Photo of which the avatar is created when it is not stored yet'),
        'camera': ('image', 'Driving images: a topic (ending in /compressed for JPEG), a device number, or a clip'),
        'avatar_id': ('', 'Avatar to create from photo and to drive; empty: "default" with a photo, else the newest'),
        'view': ('', 'frontal, follow, input or free; empty: as in params_file'),
        'device': ('', 'Where to render: auto, cpu or cuda; empty: as in params_file'),
        'source': ('camera', 'camera: track the images here; expression: render what another machine tracked'),
        'render': ('true', 'Draw the avatar; false: only track the images, for a robot that draws it'),
        'builder': ('true', 'Start the avatar builder; false: a robot that fetches its avatars from the operator'),
        'display': ('false', 'Show the avatar full screen on the screen of this machine'),
        'web': ('false', 'Show the avatar to browsers of this machine: true, or the port'),
        'avatar_dir': ('', "Directory of the avatars; empty: the user's data directory"),
        'quality': ('', 'preview, standard or high; empty: as in params_file'),
        'consent': ('', 'What the person on the photo agreed to; stored with the avatar'),
        'namespace': ('', 'Namespace of all nodes and topics'),
        'params_file': (str(SHARE / 'config' / 'avatar.yaml'), 'YAML with the parameters of the nodes'),
        'autostart': ('true', 'Configure and activate the nodes'),
        'respawn': ('false', 'Start a node again that ended (not the display), whatever the reason'),
        'fastdds_profile': (str(SHARE / 'config' / 'fastdds.xml'),
                            f'Fast DDS profile with a large shared-memory segment; an existing {PROFILES} wins'),
    }
    return [DeclareLaunchArgument(name, default_value=default, description=text)
            for name, (default, text) in described.items()]


def text_parameter(name: str) -> ParameterValue:
    """Return a launch argument as a string parameter; without the type, 0 or true would become another one."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def given(context: LaunchContext, *names: str) -> dict[str, ParameterValue]:
    """Return the launch arguments among `names` that are not empty, as parameters."""
    return {name: text_parameter(name) for name in names if LaunchConfiguration(name).perform(context)}


def web_port(context: LaunchContext) -> dict[str, int] | None:
    """Return the port of the browsers' page as parameter, empty for the node's own, or None where there is no page."""
    web = LaunchConfiguration('web').perform(context).lower()
    if web in ('false', '0'):
        return None
    if web not in ('true', '1') and not web.isdigit():
        raise ValueError(f'web: found {web!r}, wanted true, false or a port')
    return {} if web in ('true', '1') else {'port': int(web)}


def make_nodes(context: LaunchContext) -> list:
    """Return the nodes; `camera` decides whether an image source is one of them."""
    camera, source = (LaunchConfiguration(name).perform(context) for name in ('camera', 'source'))
    common = {'namespace': LaunchConfiguration('namespace'), 'package': 'sega_ros', 'output': 'screen'}
    params_file = LaunchConfiguration('params_file')
    again = {'respawn': IfCondition(LaunchConfiguration('respawn')).evaluate(context), 'respawn_delay': RESPAWN_DELAY}
    # The nodes see to it themselves: a node that was started again is sent no second event.
    autostart = {'autostart': IfCondition(LaunchConfiguration('autostart')).evaluate(context)}
    # Names of topics have no dots, names of clips have one.
    plays = source == 'camera' and (camera.isdigit() or '.' in camera)
    topic = 'image' if plays else camera.removesuffix(COMPRESSED)
    transport = 'compressed' if camera.endswith(COMPRESSED) and not plays else 'raw'

    # A robot has the operator's avatars, and no photos.
    creates = IfCondition(LaunchConfiguration('builder')).evaluate(context)
    builder = LifecycleNode(
        name='avatar_builder', executable='avatar_builder', **common, **again,
        parameters=[params_file, given(context, 'photo', 'avatar_id', 'avatar_dir', 'quality', 'consent'), autostart])
    avatar_id = given(context, 'avatar_id')
    if LaunchConfiguration('photo').perform(context) and not avatar_id:
        avatar_id = {'avatar_id': 'default'}
    draws = IfCondition(LaunchConfiguration('render')).evaluate(context)
    driver = LifecycleNode(  # a name of its own, as both ends may see each other's nodes
        name='avatar_driver' if draws else 'avatar_tracker', executable='avatar_driver', **common, **again,
        remappings=[('image', topic), ('image/compressed', topic + COMPRESSED)],
        parameters=[params_file, given(context, 'view', 'device', 'source', 'avatar_dir'), avatar_id,
                    {'image_transport': transport, 'render': draws}, autostart])
    actions = [builder, driver] if creates else [driver]
    if IfCondition(LaunchConfiguration('display')).evaluate(context):
        actions.append(Node(name='avatar_display', executable='avatar_display', **common, parameters=[params_file]))
    if (port := web_port(context)) is not None:
        actions.append(Node(name='avatar_web', executable='avatar_web', **common, **again, parameters=[params_file, port]))
    if plays:
        clip = camera if camera.isdigit() else str(Path(camera).expanduser())
        actions.append(Node(name='image_source', executable='image_source', **common, **again,
                            parameters=[params_file, {'source': ParameterValue(clip, value_type=str)}]))
    return actions


def generate_launch_description() -> LaunchDescription:
    """Return the description that ros2 launch asks for."""
    profile = SetEnvironmentVariable(
        PROFILES, EnvironmentVariable(PROFILES, default_value=LaunchConfiguration('fastdds_profile')))
    return LaunchDescription([*declare_arguments(), profile, OpaqueFunction(function=make_nodes)])

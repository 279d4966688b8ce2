"""What every node offers and uses: docs/ros_api.md is written from it, and tests hold it against the running nodes.

A new node or a new topic is an entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from rclpy.lifecycle import Node as LifecycleNode
from rclpy.qos import QoSProfile

from sega_ros.nodes import qos
from sega_ros.nodes.avatar_builder import AvatarBuilder, BuilderConfig
from sega_ros.nodes.avatar_display import AvatarDisplay, DisplayConfig
from sega_ros.nodes.avatar_driver import AvatarDriver, DriverConfig
from sega_ros.nodes.avatar_web import AvatarWeb, WebConfig
from sega_ros.nodes.hri import FACE, TRACKED
from sega_ros.nodes.image_source import ImageSource, SourceConfig


class Role(Enum):
    """What a node is to a name; the value is the word for it on the page."""

    PUBLISHES = 'publishes'
    SUBSCRIBES = 'subscribes'
    SERVES = 'service'
    CALLS = 'calls'
    ACTS = 'action'


@dataclass(frozen=True)
class Endpoint:
    """A topic, service or action at one node."""

    role: Role
    name: str  # relative, '~/...' or absolute
    type: str  # 'sensor_msgs/msg/Image'
    meaning: str
    qos: QoSProfile | None = None  # of topics that the node makes itself
    when: Mapping[str, Any] = field(default_factory=dict)  # parameters that must have these values
    on_demand: bool = False  # comes and goes while the node is active; `meaning` says with what


@dataclass(frozen=True)
class NodeApi:
    """A node: its class, its parameters and its endpoints without those that every such node has."""

    name: str
    summary: str
    kind: type
    config: type
    own: tuple[Endpoint, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)  # parameters that make it this node and not another

    @property
    def managed(self) -> bool:
        """Whether it is a lifecycle node."""
        return issubclass(self.kind, LifecycleNode)

    def endpoints(self, parameters: Mapping[str, Any]) -> tuple[Endpoint, ...]:
        """Return all that exists in the active node with these parameters."""
        values = {**vars(self.config()), **parameters, **self.fixed}
        common = EVERY_NODE + (LIFECYCLE if self.managed else ())
        return tuple(e for e in self.own + common if all(values[k] == v for k, v in e.when.items()))


_CAMERA, _DRAWS = {'source': 'camera'}, {'render': True}

EVERY_NODE = (
    Endpoint(Role.PUBLISHES, '/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray',
             'health once a second, in every state: level, a sentence, figures', qos.diagnostics()),
    Endpoint(Role.PUBLISHES, '/rosout', 'rcl_interfaces/msg/Log', 'the log'),
    Endpoint(Role.PUBLISHES, '/parameter_events', 'rcl_interfaces/msg/ParameterEvent', 'changed parameters'),
    *(Endpoint(Role.SERVES, f'~/{name}', f'rcl_interfaces/srv/{kind}', meaning) for name, kind, meaning in (
        ('describe_parameters', 'DescribeParameters', 'description, range, read-only'),
        ('get_parameter_types', 'GetParameterTypes', ''), ('get_parameters', 'GetParameters', ''),
        ('list_parameters', 'ListParameters', ''),
        ('set_parameters', 'SetParameters', 'refused with a reason where one does not fit'),
        ('set_parameters_atomically', 'SetParametersAtomically', 'all or none'))),
    Endpoint(Role.SERVES, '~/get_type_description', 'type_description_interfaces/srv/GetTypeDescription', ''),
)

LIFECYCLE = (
    Endpoint(Role.PUBLISHES, '~/transition_event', 'lifecycle_msgs/msg/TransitionEvent', 'every change of state'),
    *(Endpoint(Role.SERVES, f'~/{name}', f'lifecycle_msgs/srv/{kind}', meaning) for name, kind, meaning in (
        ('change_state', 'ChangeState', '`ros2 lifecycle set`'), ('get_state', 'GetState', '`ros2 lifecycle get`'),
        ('get_available_states', 'GetAvailableStates', ''), ('get_available_transitions', 'GetAvailableTransitions', ''),
        ('get_transition_graph', 'GetAvailableTransitions', ''))),
)

_BUILDER = (
    Endpoint(Role.PUBLISHES, 'avatars', 'sega_ros/msg/AvatarList', 'the stored avatars, when they change', qos.latched()),
    Endpoint(Role.SERVES, 'create_avatar', 'sega_ros/srv/CreateAvatar',
             'photo, id, quality, consent; answers when the avatar is stored'),
    Endpoint(Role.SERVES, 'list_avatars', 'sega_ros/srv/ListAvatars', 'the stored avatars'),
    Endpoint(Role.SERVES, 'delete_avatar', 'sega_ros/srv/DeleteAvatar', 'removes an avatar and all that was stored with it'),
    Endpoint(Role.SERVES, 'get_avatar', 'sega_ros/srv/GetAvatar',
             'a part of the file (up to 256 KiB), to copy an avatar to the robot'),
    Endpoint(Role.ACTS, 'create_avatar', 'sega_ros/action/CreateAvatar',
             'as the service, with progress and preview; can be cancelled; one job at a time'),
)

_DRIVER = (
    Endpoint(Role.SUBSCRIBES, 'image', 'sensor_msgs/msg/Image', "the operator's camera: rgb8, bgr8, rgba8, bgra8, mono8, yuv422; "
             'newest wins', qos.image_input(), {**_CAMERA, 'image_transport': 'raw'}),
    Endpoint(Role.SUBSCRIBES, 'image/compressed', 'sensor_msgs/msg/CompressedImage', 'the same as JPEG or PNG',
             qos.image_input(), {**_CAMERA, 'image_transport': 'compressed'}),
    Endpoint(Role.PUBLISHES, 'expression', 'sega_ros/msg/FlameExpression',
             "what was tracked, with the camera image's stamp; made when somebody subscribes", qos.expression(), _CAMERA),
    Endpoint(Role.SUBSCRIBES, 'expression', 'sega_ros/msg/FlameExpression', 'what another machine tracked', qos.expression(),
             {'source': 'expression'}),
    Endpoint(Role.PUBLISHES, 'avatar/image', 'sensor_msgs/msg/Image',
             "the avatar, rgb8, with the camera image's stamp; drawn when somebody subscribes", qos.newest(), _DRAWS),
    Endpoint(Role.PUBLISHES, 'avatar/image/compressed', 'sensor_msgs/msg/CompressedImage',
             'the same as JPEG; drawn when somebody subscribes', qos.newest(), _DRAWS),
    Endpoint(Role.PUBLISHES, 'avatar/camera_info', 'sensor_msgs/msg/CameraInfo', 'the camera it is seen by, with every picture',
             qos.newest(), _DRAWS),
    *(Endpoint(Role.PUBLISHES, name, f'hri_msgs/msg/{kind}', meaning, qos.newest(), {**_CAMERA, 'hri': True})
      for name, kind, meaning in (
          (TRACKED, 'IdsList', f'`{FACE}` while a face is tracked, with every image'),
          (f'/humans/faces/{FACE}/roi', 'NormalizedRegionOfInterest2D', 'its box'),
          (f'/humans/faces/{FACE}/landmarks', 'FacialLandmarks', 'its 70 points'),
          (f'/humans/faces/{FACE}/facs', 'FacialActionUnits', 'its action units ([ros4hri.md](ros4hri.md))'))),
    Endpoint(Role.SUBSCRIBES, 'avatars', 'sega_ros/msg/AvatarList',
             'a new or changed avatar is driven without a restart, and fetched when it is not stored here', qos.latched()),
    Endpoint(Role.CALLS, 'get_avatar', 'sega_ros/srv/GetAvatar',
             'fetches the parts of an avatar, and asks whether a fetched one is still there'),
    Endpoint(Role.CALLS, 'avatar_builder/get_parameters', 'rcl_interfaces/srv/GetParameters',
             "asks for the builder's read-only parameter `store_id`: whose copies the fetched avatars are"),
    Endpoint(Role.SERVES, '~/select_avatar', 'sega_ros/srv/SelectAvatar', 'drives another avatar'),
    Endpoint(Role.SERVES, '~/calibrate', 'sega_ros/srv/Calibrate', "takes the next seconds as the operator's neutral face"),
)

_DISPLAY = (
    Endpoint(Role.SUBSCRIBES, 'avatar/image', 'sensor_msgs/msg/Image', 'the picture that is shown', qos.image_input()),
    Endpoint(Role.SUBSCRIBES, 'expression', 'sega_ros/msg/FlameExpression', 'whether the face is lost, for the badge',
             qos.expression()),
)

_WEB = (
    Endpoint(Role.SUBSCRIBES, 'avatar/image/compressed', 'sensor_msgs/msg/CompressedImage',
             'handed on as it is; only while a browser looks', qos.image_input(), on_demand=True),
    Endpoint(Role.SUBSCRIBES, 'expression', 'sega_ros/msg/FlameExpression',
             'whether the face is lost, for the badge; only while a browser looks', qos.expression(), on_demand=True),
)

_SOURCE = (
    Endpoint(Role.PUBLISHES, 'image', 'sensor_msgs/msg/Image', 'rgb8, stamped when it was read; waits for nobody', qos.newest()),
)

NODES = (
    NodeApi('avatar_builder', 'Creates avatars of photos, keeps them, and hands them out.', AvatarBuilder, BuilderConfig,
            _BUILDER),
    NodeApi('avatar_driver', 'Tracks a face, or takes the expressions that another machine tracked, and draws the avatar.',
            AvatarDriver, DriverConfig, _DRIVER),
    NodeApi('avatar_tracker', "The operator's end of two machines: `avatar_driver` with `render: false`, under a name of its "
            'own. It only tracks.', AvatarDriver, DriverConfig, _DRIVER, {'render': False, 'source': 'camera'}),
    NodeApi('avatar_display', 'Shows the avatar full screen; Escape, q or closing the window ends it.', AvatarDisplay,
            DisplayConfig, _DISPLAY),
    NodeApi('avatar_web', 'Shows the avatar to browsers ([web.md](web.md)).', AvatarWeb, WebConfig, _WEB),
    NodeApi('image_source', 'Plays a camera device or a clip.', ImageSource, SourceConfig, _SOURCE),
)

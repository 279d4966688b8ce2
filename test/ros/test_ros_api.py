"""The described API is that of the running nodes: every name, type and QoS, no more and no less."""

import socket
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from fake_core import FakeBuilder, FakeDriver
from rclpy.action import get_action_server_names_and_types_by_node
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Empty

from sega_ros import config
from sega_ros.io import VideoWriter
from sega_ros.nodes.api import NODES, Role
from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_driver import AvatarDriver

BY_NAME = {api.name: api for api in NODES}
FAKES = {AvatarBuilder: FakeBuilder, AvatarDriver: FakeDriver}
VARIANTS = [('avatar_builder', {}), ('avatar_driver', {}), ('avatar_driver', {'source': 'expression'}),
            ('avatar_driver', {'image_transport': 'compressed'}), ('avatar_tracker', {}),
            ('avatar_tracker', {'image_transport': 'compressed'}),
            ('avatar_display', {'fullscreen': False}),
            ('avatar_web', {'port': 0}), ('image_source', {})]
HRI = [('avatar_driver', {'hri': True}), ('avatar_tracker', {'hri': True})]


@pytest.fixture(autouse=True)
def clip(monkeypatch, tmp_path):
    """No screen, and a clip for the image source."""
    import numpy as np

    monkeypatch.setenv('SDL_VIDEODRIVER', 'dummy')
    with VideoWriter(tmp_path / 'clip.mp4', size=(32, 32), fps=10) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    return str(tmp_path / 'clip.mp4')


def run(world, api, parameters):
    """The node with these parameters, active, under its name."""
    core = {'core': lambda _: FAKES[api.kind]()} if api.kind in FAKES else {}
    node = world.add(api.kind, {**parameters, **api.fixed}, cli_args=['--ros-args', '-r', f'__node:={api.name}'], **core)
    if api.managed:
        assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


def full(name, node):
    return name.replace('~', f'/{node}') if name[0] in '~/' else f'/{name}'


def wanted(api, parameters, *, demanded=True):
    """(role, full name, type) of everything described."""
    return {(e.role, full(e.name, api.name), e.type) for e in api.endpoints(parameters) if demanded or not e.on_demand}


@contextmanager
def demand(world, api, node, parameters):
    """Where there are endpoints on demand: they are not there yet, and come with a browser that looks."""
    if not any(e.on_demand for e in api.own):
        yield
        return
    world.wait(lambda: found(world.helper, api.name) == wanted(api, parameters, demanded=False), 'the API without a browser')
    address = urlsplit(node.server.address)
    with socket.create_connection((address.hostname, address.port)) as browser:
        browser.sendall(f'GET /mjpeg HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n'.encode())
        yield


def found(helper, name):
    """(role, full name, type) of everything that the graph knows of a node; an action's parts count as the action."""
    asked = ((Role.PUBLISHES, helper.get_publisher_names_and_types_by_node),
             (Role.SUBSCRIBES, helper.get_subscriber_names_and_types_by_node),
             (Role.SERVES, helper.get_service_names_and_types_by_node), (Role.CALLS, helper.get_client_names_and_types_by_node),
             (Role.ACTS, lambda *node: get_action_server_names_and_types_by_node(helper, *node)))
    return {(role, n, kind) for role, ask in asked for n, kinds in ask(name, '/') for kind in kinds if '/_action/' not in n}


@pytest.mark.parametrize(('name', 'parameters'), VARIANTS + HRI, ids=str)
def test_names_types_and_qos(world, clip, name, parameters):
    if parameters.get('hri'):
        pytest.importorskip('hri_msgs.msg')
    api = BY_NAME[name]
    parameters = {'source': clip} if name == 'image_source' else parameters
    node = run(world, api, parameters)
    with demand(world, api, node, parameters):
        try:
            world.wait(lambda: found(world.helper, name) == wanted(api, parameters), 'the described API')
        except AssertionError:
            assert found(world.helper, name) == wanted(api, parameters)
        made = {(role, e.topic_name): e.qos_profile for role, entities in (
            (Role.PUBLISHES, node.publishers), (Role.SUBSCRIBES, node.subscriptions)) for e in entities}
    described = {(e.role, full(e.name, name)): e.qos for e in api.endpoints(parameters) if e.qos is not None}
    assert described
    for key, profile in described.items():
        assert made[key] == profile, key


def test_every_endpoint_is_tried():
    for api in NODES:
        possible = {id(e) for e in api.own if all(api.fixed.get(k, v) == v for k, v in e.when.items())}
        tried = {id(e) for name, parameters in VARIANTS + HRI if name == api.name for e in api.endpoints(parameters)}
        assert possible <= tried, api.name


def test_conditions_name_parameters():
    for api in NODES:
        known = {o.name: o for o in config.options(api.config)}
        for e in api.own:
            for name, value in e.when.items():
                assert known[name].check(value) == value


def test_another_name_would_be_seen(world):
    api = BY_NAME['avatar_builder']
    node = run(world, api, {})
    node.create_publisher(Empty, 'secret', 1)
    extra = (Role.PUBLISHES, '/secret', 'std_msgs/msg/Empty')
    world.wait(lambda: found(world.helper, api.name) - wanted(api, {}) == {extra}, 'the new name')

"""The SROS2 policy names every interface of the running nodes, and nothing that does not exist."""

import xml.etree.ElementTree as ElementTree
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from fake_core import FakeBuilder, FakeDriver
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image

from sega_ros.nodes.avatar_builder import AvatarBuilder
from sega_ros.nodes.avatar_display import AvatarDisplay
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.avatar_web import AvatarWeb

POLICY = Path(__file__).resolve().parent.parent.parent / 'config' / 'sros2_policy.xml'
HRI = {'/humans/faces/tracked', *(f'/humans/faces/operator/{name}' for name in ('roi', 'landmarks', 'facs'))}
ACTION_TOPICS, ACTION_SERVICES = ('feedback', 'status'), ('cancel_goal', 'get_result', 'send_goal')


def allowed(node):
    """Return (published, subscribed, services) that the policy allows a node, as full names."""
    profile, = (p for p in ElementTree.parse(POLICY).getroot().iter('profile') if p.get('node') == node)

    def names(path):
        return {n.text.replace('~', f'/{node}') if n.text[0] in '~/' else f'/{n.text}' for n in profile.findall(path)}

    actions = names('actions[@execute]/action')
    return (names('topics[@publish]/topic') | {f'{a}/_action/{t}' for a in actions for t in ACTION_TOPICS},
            names('topics[@subscribe]/topic'),
            names('services[@reply]/service') | {f'{a}/_action/{s}' for a in actions for s in ACTION_SERVICES})


def used(helper, node):
    """Return the same of a running node."""
    def names(pairs):
        return {name for name, _ in pairs}
    return (names(helper.get_publisher_names_and_types_by_node(node, '/')),
            names(helper.get_subscriber_names_and_types_by_node(node, '/')),
            names(helper.get_service_names_and_types_by_node(node, '/')))


def requested(helper, node):
    """Return the services that a node calls, and those that the policy lets it call."""
    profile, = (p for p in ElementTree.parse(POLICY).getroot().iter('profile') if p.get('node') == node)
    return ({name for name, _ in helper.get_client_names_and_types_by_node(node, '/')},
            {f'/{n.text}' for n in profile.findall('services[@request]/service')})


def run(world, kind, core, parameters=None, **kwargs):
    node = world.add(kind, parameters, core=lambda _: core, **kwargs)
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    world.wait(lambda: f'/{node.get_name()}/get_state' in used(world.helper, node.get_name())[2], 'discovery')
    return node.get_name()


def test_builder(world):
    name = run(world, AvatarBuilder, FakeBuilder())
    world.wait(lambda: used(world.helper, name) == allowed(name), 'the names of the policy')


@pytest.mark.parametrize('parameters', [{}, {'source': 'expression'}, {'image_transport': 'compressed'}])
def test_driver(world, parameters):
    name = run(world, AvatarDriver, FakeDriver(), parameters)
    published, subscribed, services = world.wait(
        lambda: (u := used(world.helper, name)) and len(u[1]) == 2 and u, 'both subscriptions')
    may_publish, may_subscribe, may_reply = allowed(name)
    optional = HRI | ({'/expression'} if parameters.get('source') else set())
    assert published == may_publish - optional
    assert subscribed <= may_subscribe
    assert services == may_reply
    calls, may_call = requested(world.helper, name)
    assert calls == may_call == {'/get_avatar', '/avatar_builder/get_parameters'}


def test_tracker(world):
    name = run(world, AvatarDriver, FakeDriver(), {'render': False}, cli_args=['--ros-args', '-r', '__node:=avatar_tracker'])
    assert name == 'avatar_tracker'
    published, subscribed, services = world.wait(
        lambda: (u := used(world.helper, name)) and len(u[1]) == 2 and u, 'both subscriptions')
    may_publish, may_subscribe, may_reply = allowed(name)
    assert published == may_publish - HRI and services == may_reply and subscribed <= may_subscribe


def test_display(world, monkeypatch):
    monkeypatch.setenv('SDL_VIDEODRIVER', 'dummy')
    world.add(AvatarDisplay, {'fullscreen': False})
    world.wait(lambda: used(world.helper, 'avatar_display') == allowed('avatar_display'), 'the names of the policy')


def test_web(world):
    node = world.add(AvatarWeb, {'port': 0})
    with closing(HTTPConnection(node.server.address.split('/')[2])) as browser:
        browser.request('GET', '/mjpeg')
        world.wait(lambda: used(world.helper, 'avatar_web') == allowed('avatar_web'), 'the names of the policy')


def test_an_unlisted_name_would_be_seen(world):
    name = run(world, AvatarBuilder, FakeBuilder())
    node = next(n for n in world._nodes if n.get_name() == name)
    node.create_publisher(Image, 'secret', 1)
    world.wait(lambda: '/secret' in used(world.helper, name)[0] - allowed(name)[0], 'the new name')

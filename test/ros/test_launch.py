"""The launch file with the real launch packages, where they are installed."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip('launch_ros')

from launch import LaunchContext
from launch.actions import IncludeLaunchDescription
from launch_ros.actions import LifecycleNode, Node

FOLDER = Path(__file__).resolve().parent.parent.parent / 'launch'


def loaded_file(name):
    spec = importlib.util.spec_from_file_location(f'{name}_launch', FOLDER / f'{name}.launch.py')
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def module():
    return loaded_file('avatar')


def nodes(module, **arguments):
    context = LaunchContext()
    for argument in module.declare_arguments():
        context.launch_configurations[argument.name] = arguments.get(
            argument.name, ''.join(part.perform(context) for part in argument.default_value))
    return [a for a in module.make_nodes(context) if isinstance(a, Node)]


def test_arguments_are_described(module):
    found = {a.name: a.description for a in module.declare_arguments()}
    assert {'photo', 'camera', 'avatar_id', 'view', 'device', 'namespace', 'params_file', 'autostart'} <= found.keys()
    assert all(len(text) > 10 for text in found.values())


@pytest.mark.parametrize(('camera', 'count'), [('/front/image', 2), ('/front/image/compressed', 2), ('0', 3),
                                               ('clip.mp4', 3)])
def test_an_image_source_plays_devices_and_clips(module, camera, count):
    made = nodes(module, camera=camera)
    assert len(made) == count
    assert sum(isinstance(node, LifecycleNode) for node in made) == 2


def test_the_whole_description_loads(module):
    assert module.generate_launch_description().entities


def test_an_operator_does_not_draw_and_a_robot_creates_nothing(module):
    assert len(nodes(module, source='camera', render='false')) == 2
    assert len(nodes(module, source='expression', builder='false')) == 1
    assert len(nodes(module, source='expression', builder='false', display='true')) == 2


@pytest.mark.parametrize(('web', 'count'), [('false', 2), ('true', 3), ('8123', 3)])
def test_a_page_for_browsers(module, web, count):
    assert len(nodes(module, web=web)) == count


def test_a_port_that_is_none(module):
    with pytest.raises(ValueError, match="web: found 'yes'"):
        nodes(module, web='yes')


@pytest.mark.parametrize('name', ['operator', 'robot'])
def test_both_ends_are_the_one_description(module, name):
    *_, include = loaded_file(name).generate_launch_description().entities
    assert isinstance(include, IncludeLaunchDescription)
    assert {key for key, _ in include.launch_arguments} <= {a.name for a in module.declare_arguments()}

"""Every parameter of every node, set to anything: taken when it fits, refused with a sentence when it does not."""

import math

import pytest
from fake_core import FakeBuilder, FakeDriver
from fuzz_support import FUZZ
from hostile import REMEDY, VALUES
from hypothesis import given
from hypothesis import strategies as st
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_support import World

from sega_ros import config
from sega_ros.errors import ConfigError, SegaError
from sega_ros.nodes.avatar_builder import AvatarBuilder, BuilderConfig
from sega_ros.nodes.avatar_builder import check_config as check_builder
from sega_ros.nodes.avatar_display import DisplayConfig
from sega_ros.nodes.avatar_driver import AvatarDriver, DriverConfig
from sega_ros.nodes.avatar_driver import check_config as check_driver
from sega_ros.nodes.avatar_web import WebConfig
from sega_ros.nodes.image_source import SourceConfig

CONFIGS = {'builder': BuilderConfig, 'driver': DriverConfig, 'display': DisplayConfig, 'source': SourceConfig, 'web': WebConfig}
CHECKS = {'builder': check_builder, 'driver': check_driver}


def near(option):
    """Values in and just out of an option's range, and of other types."""
    strategies = [VALUES]
    if option.choices:
        strategies.append(st.sampled_from(option.choices))
    if option.bounds:
        low, high = option.bounds
        edge = [low, high, (low + high) / 2, math.nextafter(low, -math.inf), math.nextafter(high, math.inf), low - 1, high + 1]
        strategies.append(st.sampled_from([option.kind(v) for v in edge]))
    return st.one_of(strategies)


@pytest.mark.parametrize('name', CONFIGS)
@FUZZ
@given(data=st.data())
def test_values_are_checked(name, data):
    options = list(config.options(CONFIGS[name]))
    option = data.draw(st.sampled_from(options))
    value = data.draw(near(option))
    try:
        found = config.from_dict(CONFIGS[name], {option.name: value})
        CHECKS.get(name, lambda _: None)(found)
    except SegaError as error:
        assert REMEDY.search(str(error)) or 'zero byte' in str(error)
        return
    taken = config.flatten(config.to_dict(found))[option.name]
    assert type(taken) is option.kind and (not option.choices or taken in option.choices)
    if option.bounds:
        assert option.bounds[0] <= taken <= option.bounds[1]


@pytest.fixture(scope='module')
def nodes():
    with World() as world:
        made = {'builder': world.add(AvatarBuilder, core=lambda _: FakeBuilder()), 'driver': world.add(
            AvatarDriver, core=lambda _: FakeDriver())}
        for node in made.values():
            assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        yield made


def ros_parameter(name, value):
    """A parameter as a caller of set_parameters may send it, or None where ROS has no such type."""
    try:
        if isinstance(value, str):
            value = value.encode('utf-8', 'replace').decode().replace('\0', '')
        return Parameter(name, value=value)
    except (TypeError, ValueError):
        return None


@pytest.mark.parametrize('name', ['builder', 'driver'])
@FUZZ
@given(data=st.data())
def test_running_nodes_take_or_refuse(nodes, name, data):
    node = nodes[name]
    option = data.draw(st.sampled_from(list(config.options(CONFIGS[name]))))
    parameter = ros_parameter(option.name, data.draw(near(option)))
    if parameter is None:
        return
    before = config.flatten(config.to_dict(node.settings.value))
    result, = node.set_parameters([parameter])
    after = config.flatten(config.to_dict(node.settings.value))
    assert after == (before | {option.name: node.get_parameter(option.name).value} if result.successful else before)
    assert result.successful or result.reason
    assert node.settings.load() == node.settings.value and node.active
    node.status()
    assert node.set_parameters([Parameter(option.name, value=option.default)])[0].successful or option.read_only


def test_parameters_that_no_frame_could_be_drawn_with_are_refused():
    for changes, match in (({'distance': 0.05}, 'distance: wanted 0 or 0.1'), ({'avatar_id': '../x'}, 'avatar id'),
                           ({'camera_frame_id': 'x' * 33}, 'frame id')):
        with pytest.raises(SegaError, match=match):
            check_driver(config.from_dict(DriverConfig, changes))
    for changes, match in (({'avatar_id': ''}, 'avatar id'), ({'consent': 'x' * 257}, 'consent: found 257')):
        with pytest.raises(SegaError, match=match):
            check_builder(config.from_dict(BuilderConfig, changes))
    with pytest.raises(ConfigError, match='zero byte'):
        config.from_dict(BuilderConfig, {'photo': 'a\0b'})

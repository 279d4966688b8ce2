"""Parameters of all nodes: what can change does so while the node runs, the rest is refused, and nonsense always is."""

import numpy as np
import pytest
from driver_rig import Rig, jaw
from fake_core import FakeBuilder, FakeDriver, record
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from sega_ros import config
from sega_ros.io import VideoWriter
from sega_ros.nodes.avatar_builder import AvatarBuilder, BuilderConfig
from sega_ros.nodes.avatar_display import AvatarDisplay, DisplayConfig
from sega_ros.nodes.avatar_driver import AvatarDriver, DriverConfig
from sega_ros.nodes.avatar_web import AvatarWeb, WebConfig
from sega_ros.nodes.image_source import ImageSource, SourceConfig

# What a running node can't change: what it loaded, opened, or promised to others.
FIXED = {
    BuilderConfig: {'avatar_dir', 'head', 'nice', 'threads', 'autostart', 'limits.avatars', 'limits.store'},
    DriverConfig: {'source', 'render', 'image_transport', 'avatar_dir', 'head', 'device', 'camera_frame_id', 'driver_identity',
                   'avatar_frame_id', 'hri', 'autostart', 'limits.avatars', 'limits.store'},
    DisplayConfig: {'screen', 'fullscreen', 'width', 'height', 'rotation', 'vsync', 'standby'},
    SourceConfig: {'source', 'width', 'height', 'frame_id'},
    WebConfig: {'host', 'port', 'host_names', 'max_clients'},
}


def another(found):
    """A valid value of an option that is not its default."""
    if found.choices:
        return next(c for c in found.choices if c != found.default)
    if found.kind is bool:
        return not found.default
    if found.kind is str:
        return '#102030' if found.name == 'background' else 'other'
    low, high = found.bounds or (0, 100)
    return found.kind(low if found.default != low else high)


def nonsense(found):
    """Values that an option must never take."""
    if found.bounds:
        yield from (found.kind(found.bounds[0] - 1), found.kind(found.bounds[1] + 1))
    if found.kind is float:
        yield from (float('nan'), float('inf'))
    yield from (['a', 'list'], 5 if found.kind is str else 'text')
    if found.choices:
        yield found.kind(77)


def active(node):
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


@pytest.fixture
def clip(tmp_path):
    with VideoWriter(tmp_path / 'clip.mp4', size=(48, 64), fps=20) as writer:
        for k in range(10):
            writer.write(np.full((48, 64, 3), 20 * k, np.uint8))
    return str(tmp_path / 'clip.mp4')


@pytest.fixture(params=FIXED, ids=lambda kind: kind.__name__)
def node_and_kind(request, world, clip, monkeypatch):
    monkeypatch.setenv('SDL_VIDEODRIVER', 'dummy')
    make = {
        BuilderConfig: lambda: active(world.add(AvatarBuilder, core=lambda _: FakeBuilder())),
        DriverConfig: lambda: active(world.add(AvatarDriver, core=lambda _: FakeDriver(record('ann')))),
        DisplayConfig: lambda: world.add(AvatarDisplay, {'fullscreen': False, 'width': 64, 'height': 64}),
        SourceConfig: lambda: world.add(ImageSource, {'source': clip}),
        WebConfig: lambda: world.add(AvatarWeb, {'port': 0})}
    return make[request.param](), request.param


def test_every_parameter_changes_live_or_is_read_only(node_and_kind):
    node, kind = node_and_kind
    for found in config.options(kind):
        before = node.get_parameter(found.name).value
        result, = node.set_parameters([Parameter(found.name, value=another(found))])
        now = config.flatten(config.to_dict(node.settings.value))[found.name]
        if found.name in FIXED[kind]:
            assert not result.successful and 'read-only' in result.reason and now == before, found.name
        else:
            assert result.successful, f'{found.name}: {result.reason}'
            assert now == another(found) == node.get_parameter(found.name).value, found.name


def test_nonsense_is_refused_and_changes_nothing(node_and_kind):
    node, kind = node_and_kind
    before = node.settings.value
    for found in config.options(kind):
        for value in nonsense(found):
            result, = node.set_parameters([Parameter(found.name, value=value)])
            assert not result.successful and result.reason, f'{found.name} = {value!r}'
    assert node.settings.value == before


def test_changes_that_do_not_fit_together_are_refused_whole(world):
    node = active(world.add(AvatarDriver, {'source': 'expression'}, core=lambda _: FakeDriver()))
    result = node.set_parameters_atomically([Parameter('yaw', value=0.5), Parameter('view', value='input')])
    assert not result.successful and 'follow' in result.reason
    assert node.get_parameter('yaw').value == 0.0 and node.settings.value.yaw == 0.0


@pytest.mark.parametrize(('kind', 'core', 'name', 'value'), [
    (AvatarBuilder, FakeBuilder, 'avatar_id', '../x'), (AvatarBuilder, FakeBuilder, 'avatar_id', ''),
    (AvatarBuilder, FakeBuilder, 'consent', 'x' * 300), (AvatarDriver, FakeDriver, 'avatar_id', 'a b')])
def test_texts_that_cannot_be_stored_are_refused_at_once(world, kind, core, name, value):
    node = active(world.add(kind, core=lambda _: core()))
    result, = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful and name.replace('_', ' ') in result.reason
    wrong = world.add(kind, {name: value}, core=lambda _: core(), namespace='wrong')
    assert value == '' or wrong.trigger_configure() == TransitionCallbackReturn.FAILURE


def test_smoothing_and_idling_change_while_driving(world):
    rig = Rig(world, record('ann'))
    rig.matched()
    rig.loaded()
    rig.frame(200)
    assert rig.core.tracker.smoothing == 1.0
    rig.node.set_parameters([Parameter(name, value=value) for name, value in (
        ('smoothing', 3.0), ('idle.hold', 0.0), ('idle.ease', 0.05))])
    now = rig.camera.send(201)
    rig.frame(0, stamp_ns=now + 10**9)
    assert rig.core.tracker.smoothing == 3.0
    assert jaw(rig.frame(0, stamp_ns=now + 11 * 10**8)) == 0, 'neutral after a twentieth of a second'


def test_the_newest_avatar_is_driven_when_none_is_named_any_more(world):
    rig = Rig(world, record('ann'), record('bob', created_ns=5), parameters={'avatar_id': 'ann'})
    rig.loaded('ann')
    assert rig.node.set_parameters([Parameter('avatar_id', value='')])[0].successful
    rig.loaded('bob')


def test_a_clip_changes_its_rate_and_ends(world, clip):
    node = world.add(ImageSource, {'source': clip, 'rate': 5.0})
    world.wait(lambda: node.published > 1, 'images')
    assert node._period == pytest.approx(0.2)
    node.set_parameters([Parameter('rate', value=200.0)])
    world.wait(lambda: node._period == pytest.approx(0.005) and node.published > 30, 'more images')
    node.set_parameters([Parameter('loop', value=False)])
    world.wait(lambda: (r := world.reason(node)) and r[1] == 'the clip is over', 'the end')

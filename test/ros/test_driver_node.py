"""avatar_driver on a small core: sources, drops, avatars that come and go, calibration, health."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from driver_rig import LEVEL, SMALL, Rig, jaw
from fake_core import MODEL, VERSION, FakeDriver, record, seen
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sega_ros.errors import ConfigError, ErrorCode
from sega_ros.msg import AvatarList, FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.convert import (
    compressed_message_to_rgb,
    image_message_to_rgb,
    ns_to_stamp,
    rgb_to_image_message,
    stamp_to_ns,
)
from sega_ros.nodes.expressions import expression_to_message
from sega_ros.nodes.records import records_to_message
from sega_ros.srv import Calibrate, SelectAvatar


@pytest.fixture
def rig(world):
    return Rig(world, record('ann')).ready()


def test_output_keeps_the_stamp_and_follows(rig):
    for value in (10, 200, 30):
        message = rig.frame(value)
        assert jaw(message) == value
        assert (message.height, message.width, message.header.frame_id) == (32, 64, 'avatar_camera')


def test_camera_info_and_jpeg_only_when_wanted(world, rig):
    infos = world.collect(CameraInfo, 'avatar/camera_info', qos.newest())
    jpegs = world.collect(CompressedImage, 'avatar/image/compressed', qos.newest())
    world.wait(lambda: rig.node._outputs._jpeg.get_subscription_count(), 'JPEG subscription')
    world.wait(lambda: rig.node._outputs._camera_info.get_subscription_count(), 'camera_info subscription')
    message = rig.frame(99)
    world.wait(lambda: jpegs and infos, 'JPEG and camera info')
    assert compressed_message_to_rgb(jpegs[0]).shape == (32, 64, 3)
    assert (infos[0].width, infos[0].height) == (64, 32)
    assert infos[0].k[2] == pytest.approx(32) and infos[0].k[5] == pytest.approx(16)
    assert jpegs[0].header.stamp == infos[0].header.stamp == message.header.stamp


def test_expressions_are_published(world, rig):
    expressions = world.collect(FlameExpression, 'expression', qos.expression())
    world.wait(lambda: rig.node._outputs.expressions_wanted, 'expression subscription')
    stamp = rig.camera.send(51)
    found = world.wait(lambda: expressions and expressions[-1], 'expression')
    assert stamp_to_ns(found.header.stamp) == stamp
    assert (found.header.frame_id, found.head_model, found.head_model_version) == ('camera', MODEL, VERSION)
    assert found.face_present and found.jaw_pose[0] == pytest.approx(0.2)


def test_nothing_is_made_for_nobody(world):
    rig = Rig(world, record('ann'), listen=False)
    rig.matched()
    rig.loaded()
    for _ in range(3):
        rig.camera.send(5)
    world.wait(lambda: rig.node.statistics.report().unwanted >= 1, 'unwanted frames')
    assert rig.core.tracker.frames == 0 and not rig.core.views


def test_newest_frame_wins_and_drops_are_counted(world, rig):
    rig.frame(1)
    rig.core.gate.clear()
    rig.core.rendering.clear()
    rig.camera.send(2)
    world.wait(rig.core.rendering.is_set, 'the held frame')
    statistics = rig.node.statistics
    for value in range(3, 13):
        before = statistics.report().received
        rig.camera.send(value)
        world.wait(lambda before=before: statistics.report().received > before, 'reception')
    world.wait(lambda: statistics.report().dropped == 9, 'nine drops of ten frames')
    rig.core.gate.set()
    world.wait(lambda: len(rig.images) == 3, 'the newest frame')
    assert [jaw(m) for m in rig.images] == [1, 2, 12]
    report = statistics.report()
    assert report.received == report.published + report.dropped == 12


def test_idling_can_be_changed_while_it_runs(rig):
    """Two seconds after the face was seen it is eased to neutral as configured, or still held."""
    def shown(value, stamp_ns):
        message = rgb_to_image_message(np.full((48, 64, 3), value, np.uint8), stamp=ns_to_stamp(stamp_ns), frame_id='camera')
        rig.camera.publisher.publish(message)
        return jaw(rig.world.wait(lambda: next((m for m in rig.images if stamp_to_ns(m.header.stamp) == stamp_ns), None), 'it'))

    second = 1_000_000_000
    assert shown(200, second) == 200 and shown(0, 3 * second) == 0
    assert rig.node.set_parameters([Parameter('idle.hold', value=5.0)])[0].successful
    assert shown(200, 11 * second) == 200 and shown(0, 13 * second) == 200


def test_waits_for_an_avatar(world):
    rig = Rig(world)
    rig.matched()
    level, reason, _ = world.wait(lambda: (r := world.reason(rig.node)) and r[1].startswith('waiting') and r, 'reason')
    assert level == LEVEL['WARN'] and 'avatar' in reason
    rig.camera.send(9)
    publisher = world.helper.create_publisher(AvatarList, 'avatars', qos.latched())
    made = record('ann')
    rig.core.records['ann'] = made
    publisher.publish(records_to_message([made], ns_to_stamp(0)))
    rig.loaded()
    assert jaw(rig.frame(77)) == 77


def test_new_and_changed_avatars_are_loaded(world, rig):
    publisher = world.helper.create_publisher(AvatarList, 'avatars', qos.latched())

    def announce(*records):
        rig.core.records = {r.avatar_id: r for r in records}
        publisher.publish(records_to_message(records, ns_to_stamp(0)))

    announce(record('ann'), record('bob', created_ns=2))
    rig.loaded('bob')
    announce(record('ann'), record('bob', created_ns=3, sha='1' * 64))
    world.wait(lambda: rig.node.puppet.record.created_ns == 3, 'the changed avatar')
    assert image_message_to_rgb(rig.frame(1))[0, 1, 0] == 3


def test_select(world, rig):
    rig.core.records['bob'] = record('bob', created_ns=9)
    name = '/avatar_driver/select_avatar'
    answer = world.call(SelectAvatar, name, SelectAvatar.Request(avatar_id='bob'))
    assert answer.success and answer.avatar.id == 'bob'
    assert rig.node.get_parameter('avatar_id').value == 'bob'
    assert image_message_to_rgb(rig.frame(1))[0, 1, 0] == 9
    rig.core.records['eve'] = record('eve', model='flame2020')
    rig.core.damaged.add('old')
    for avatar_id, code in (('none', ErrorCode.AVATAR_NOT_FOUND), ('../x', ErrorCode.BAD_AVATAR_ID),
                            ('', ErrorCode.AVATAR_NOT_FOUND), ('x' * 65, ErrorCode.BAD_AVATAR_ID),
                            ('eve', ErrorCode.HEAD_MODEL_MISMATCH), ('old', ErrorCode.AVATAR_DAMAGED)):
        answer = world.call(SelectAvatar, name, SelectAvatar.Request(avatar_id=avatar_id))
        assert not answer.success and answer.error_code == code
    assert image_message_to_rgb(rig.frame(2))[0, 1, 0] == 9, 'the old avatar stays'


def test_damaged_avatar_is_told_and_another_one_helps(world):
    rig = Rig(world, record('ann'), parameters={'avatar_id': 'ann'}, activate=False)
    rig.core.damaged.add('ann')
    assert rig.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    found = world.wait(lambda: (r := world.reason(rig.node)) and 'damaged' in r[1] and r, 'diagnostics')
    assert found[0] == LEVEL['ERROR']
    rig.core.records['bob'] = record('bob')
    rig.node.set_parameters([Parameter('avatar_id', value='bob')])
    rig.loaded('bob')
    rig.matched()
    assert jaw(rig.frame(4)) == 4


def test_lost_face_holds_then_eases(world, rig):
    expressions = world.collect(FlameExpression, 'expression', qos.expression())
    world.wait(lambda: rig.node._outputs.expressions_wanted, 'expression subscription')
    rig.frame(200)
    held = rig.frame(0)
    assert jaw(held) == 200
    world.wait(lambda: len(expressions) == 2, 'expressions')
    assert not expressions[-1].face_present and expressions[-1].confidence == 0
    end = time.monotonic() + 10
    while jaw(rig.frame(0)) > 0:
        assert time.monotonic() < end, 'never neutral'
    assert jaw(rig.frame(120)) == 120


def test_bad_images_are_refused_and_the_stream_goes_on(world, rig):
    for bad in (Image(encoding='bayer_rggb8', width=2, height=2, step=2, data=[0] * 4),
                Image(encoding='rgb8', width=4, height=4, step=12, data=[0] * 20),
                Image(encoding='rgb8', width=20000, height=20000, step=60000), Image()):
        before = rig.node.statistics.report().refused
        rig.camera.send(message=bad)
        world.wait(lambda before=before: rig.node.statistics.report().refused == before + 1, 'refusal')
    rig.camera.send(5, frame_id='x' * 33)
    world.wait(lambda: rig.node.statistics.report().refused == 5, 'a frame id that is too long')
    assert jaw(rig.frame(8)) == 8


def test_camera_that_stops_and_returns(world, rig):
    rig.frame(3)
    silent = 'nothing on /image'
    level, reason, _ = world.wait(lambda: (r := world.reason(rig.node)) and silent in r[1] and r, 'silence')
    assert level == LEVEL['ERROR'] and 'check the camera' in reason
    assert jaw(rig.frame(4)) == 4
    world.wait(lambda: (rig.frame(5), world.reason(rig.node)[1] == 'driving')[1], 'driving again')


def test_best_effort_camera_that_appears_later(world):
    rig = Rig(world, record('ann'), profile=qos.newest(reliability=ReliabilityPolicy.BEST_EFFORT))
    rig.matched()
    rig.loaded()
    world.wait(lambda: (rig.camera.send(9), rig.images)[1], 'a frame of a best-effort camera')


def test_compressed_input(world):
    from sega_ros.nodes.convert import rgb_to_jpeg_message

    rig = Rig(world, record('ann'), parameters={'image_transport': 'compressed'})
    rig.loaded()
    publisher = world.helper.create_publisher(CompressedImage, 'image/compressed', qos.newest())
    world.wait(lambda: publisher.get_subscription_count(), 'subscription')
    image = np.full((16, 16, 3), 128, np.uint8)
    publisher.publish(rgb_to_jpeg_message(image, stamp=ns_to_stamp(5), frame_id='c'))
    world.wait(lambda: rig.images, 'frame')
    assert abs(jaw(rig.images[0]) - 128) <= 1 and stamp_to_ns(rig.images[0].header.stamp) == 5
    publisher.publish(CompressedImage(format='jpeg', data=b'\xff\xd8nonsense'))
    world.wait(lambda: rig.node.statistics.report().refused == 1, 'refusal')


def test_source_expression(world):
    rig = Rig(world, record('ann'), parameters={'source': 'expression'})
    rig.loaded()
    publisher = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
    world.wait(lambda: publisher.get_subscription_count(), 'subscription')
    publisher.publish(expression_to_message(seen(0.4, 1234)))
    world.wait(lambda: rig.images, 'frame')
    assert jaw(rig.images[0]) == 102 and stamp_to_ns(rig.images[0].header.stamp) == 1234
    wrong = expression_to_message(replace(seen(0.1), head_model='flame2020'))
    publisher.publish(wrong)
    level, reason, _ = world.wait(lambda: (r := world.reason(rig.node)) and 'flame2020' in r[1] and r, 'diagnostics')
    assert level == LEVEL['ERROR'] and "'fake 1'" in reason
    answer = world.call(Calibrate, '/avatar_driver/calibrate', Calibrate.Request())
    assert answer.error_code == ErrorCode.BAD_REQUEST


def sender(world, rig):
    publisher = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
    world.wait(lambda: publisher.get_subscription_count(), 'subscription')
    return lambda value, stamp: publisher.publish(expression_to_message(seen(value, stamp)))


def test_stops_while_an_idle_picture_fails(world):
    """As at the end of a process: publishers are closed under the thread that fills a silence."""
    rig = Rig(world, record('ann'), parameters={'source': 'expression'}, topic='')
    rig.loaded()
    source, filling = rig.node._input, threading.Event()

    def fill_in(*_):
        filling.set()
        world.wait(lambda: not source._listening, 'the wish to stop')
        raise ValueError('closed')

    source._fill_in = fill_in
    sender(world, rig)(0.4, 1)
    world.wait(filling.is_set, 'silence')
    stopping = threading.Thread(target=rig.node.trigger_deactivate, daemon=True)
    stopping.start()
    world.wait(lambda: not stopping.is_alive(), 'the stop')


def test_a_cut_link_holds_then_eases_to_neutral_and_comes_back(world):
    parameters = {'source': 'expression', 'idle.hold': 0.3, 'idle.ease': 0.2}
    rig = Rig(world, record('ann'), parameters=parameters, topic='')
    rig.loaded()
    send = sender(world, rig)
    for k in range(8):
        send(0.4, 33_000_000 * k)
        time.sleep(0.033)
    last = 33_000_000 * 7
    after = world.wait(lambda: [m for m in rig.images if stamp_to_ns(m.header.stamp) > last + 900_000_000], 'idle pictures')
    drawn = {stamp_to_ns(m.header.stamp) - last: jaw(m) for m in rig.images if stamp_to_ns(m.header.stamp) > last}
    assert all(v == 102 for t, v in drawn.items() if t < 290_000_000), 'held'
    assert any(t < 290_000_000 for t in drawn) and any(0 < v < 102 for v in drawn.values())
    assert jaw(after[0]) == 0, 'neutral'
    assert 15 < len(drawn) < 60, 'thirty a second'
    send(0.2, 5_000_000_000)
    back = world.wait(lambda: [m for m in rig.images if stamp_to_ns(m.header.stamp) == 5_000_000_000], 'the link again')
    assert jaw(back[0]) == 51


def test_a_slow_stream_is_no_cut(world):
    rig = Rig(world, record('ann'), parameters={'source': 'expression', 'idle.hold': 0.1}, topic='')
    rig.loaded()
    send = sender(world, rig)
    for k in range(6):
        send(0.4, 400_000_000 * k)
        time.sleep(0.4)
    world.wait(lambda: len(rig.images) >= 6, 'frames')
    stamps = [stamp_to_ns(m.header.stamp) for m in rig.images]
    assert {400_000_000 * k for k in range(6)} <= set(stamps)
    assert all(s % 400_000_000 == 0 for s in stamps if s > 800_000_000), 'nothing in between once the rate is known'


def test_views_are_live_parameters(world, rig):
    rig.node.set_parameters([Parameter('view', value='free'), Parameter('yaw', value=0.5)])
    rig.frame(1)
    assert (rig.core.views[-1].kind, rig.core.views[-1].yaw) == ('free', 0.5)
    rig.node.set_parameters([Parameter('view', value='input')])
    message = rig.frame(2)
    assert (message.height, message.width) == rig.camera.size


def test_an_operator_draws_nothing(world):
    rig = Rig(world, record('ann'), parameters={'render': False}, listen=False)
    rig.matched()
    rig.loaded()
    expressions = world.collect(FlameExpression, 'expression', qos.expression())
    world.wait(lambda: rig.node._outputs.expressions_wanted, 'the listener')
    rig.camera.send(102)
    world.wait(lambda: expressions, 'an expression')
    assert rig.core.views == [] and not world.helper.get_publishers_info_by_topic('/avatar/image')


def test_neither_tracking_nor_drawing_is_refused(world):
    node = world.add(AvatarDriver, {**SMALL, 'source': 'expression', 'render': False}, core=lambda _: FakeDriver())
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE


def test_detail_gives_way_to_the_frame_time(world, rig):
    rig.frame(1)
    assert rig.core.views[-1].detail == 30_000
    rig.node.set_parameters([Parameter('detail', value=20_000)])
    rig.frame(2)
    assert rig.core.views[-1].detail == 20_000
    world.wait(lambda: (r := world.reason(rig.node)) and r[2]['splats'] == '20000', 'diagnostics')
    rig.node.set_parameters([Parameter('detail', value=0), Parameter('frame_time', value=1e-6)])
    for k in range(10):
        rig.frame(k)
    assert 25_000 < rig.core.views[-1].detail < 29_200
    rig.node.set_parameters([Parameter('frame_time', value=0.0)])
    for k in range(2):
        rig.frame(k)
    assert rig.core.views[-1].detail == 30_000


@pytest.mark.parametrize(('name', 'value', 'match'), [
    ('view', 'sideways', 'wanted one of'), ('background', 'red', '#rrggbb'), ('yaw', 7.0, 'range'),
    ('source', 'expression', 'read-only')])
def test_bad_parameter_values_are_refused(rig, name, value, match):
    result, = rig.node.set_parameters([Parameter(name, value=value)])
    assert not result.successful and match in result.reason


@pytest.mark.parametrize('parameters', [
    {'camera_frame_id': 'x' * 33}, {'source': 'expression', 'view': 'input'}, {'background': 'blue'}, {'veiw': 'free'}])
def test_configure_refuses(world, parameters):
    node = world.add(AvatarDriver, parameters, core=lambda _: FakeDriver())
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE


def test_calibrate(world, rig):
    name = '/avatar_driver/calibrate'
    assert world.call(Calibrate, name, Calibrate.Request(duration=60.0)).error_code == ErrorCode.BAD_REQUEST
    assert world.call(Calibrate, name, Calibrate.Request(duration=0.5)).error_code == ErrorCode.NO_CAMERA
    waiting = world.call_async(Calibrate, name, Calibrate.Request(duration=0.5))
    world.wait(lambda: rig.node._input._calibration, 'start')
    assert world.call(Calibrate, name, Calibrate.Request()).error_code == ErrorCode.BUSY
    world.wait(lambda: (rig.frame(40), rig.core.tracker.calibration)[1], 'calibration')
    answer = waiting()
    assert answer.success and answer.frames == len(rig.core.tracker.calibration) > 1
    waiting = world.call_async(Calibrate, name, Calibrate.Request(duration=0.5))
    world.wait(lambda: rig.node._input._calibration, 'start')
    world.wait(lambda: (rig.frame(0), rig.node._input._calibration is None)[1], 'end')
    assert waiting().error_code == ErrorCode.NO_FACE
    assert rig.core.tracker.calibration, 'a failed calibration leaves the one before'


def test_autostart(world):
    """Without anybody's transitions; a node that can't be configured stays where it is."""
    node = world.add(AvatarDriver, {'autostart': True}, core=lambda _: FakeDriver(record('ann')))
    world.wait(lambda: node.active and node.puppet, 'the active node')
    tried = threading.Event()

    def broken(_):
        tried.set()
        raise ConfigError('no such head')

    bad = world.add(AvatarDriver, {'autostart': True}, core=broken)
    world.wait(tried.is_set, 'the attempt')
    world.wait(lambda: bad._state_machine.current_state[1] == 'unconfigured', 'the first state')
    assert not bad.active


def test_inactive_driver_answers_and_can_return(world, rig):
    assert rig.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    for kind, name in ((SelectAvatar, 'select_avatar'), (Calibrate, 'calibrate')):
        assert world.call(kind, f'/avatar_driver/{name}', kind.Request()).error_code == ErrorCode.NOT_ACTIVE
    assert rig.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert rig.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert rig.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    rig.loaded()
    rig.matched()
    world.wait(lambda: rig.node._outputs.images_wanted, 'the subscription')
    assert jaw(rig.frame(6)) == 6


def test_diagnostics_figures(world, rig):
    for value in range(1, 6):
        rig.frame(value)
    values = world.wait(lambda: (r := world.reason(rig.node)) and r[2]['published'] == '5' and r[2], 'figures')
    assert values['avatar'] == 'ann' and values['received'] == '5' and values['dropped'] == '0'
    assert 0 < float(values['latency p50 (ms)']) <= float(values['latency p95 (ms)'])
    assert float(values['rate (Hz)']) > 0

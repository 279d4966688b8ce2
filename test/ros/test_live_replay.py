"""Figures of a live node's pictures against those of the offline runner, on the same frames and avatar."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image

from sega_ros.avatar.create import create_avatar
from sega_ros.avatar.store import AvatarStore
from sega_ros.evaluation.replay.config import EvaluateConfig
from sega_ros.evaluation.replay.identity import Person
from sega_ros.evaluation.replay.recording import Source
from sega_ros.evaluation.replay.run import Job, evaluate
from sega_ros.io.bags import BagWriter
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_driver import AvatarDriver, DriverConfig, make_core
from sega_ros.nodes.convert import image_message_to_rgb, ns_to_stamp, rgb_to_image_message, stamp_to_ns
from sega_ros.synthetic.performer import Performer
from sega_ros.synthetic.person import make_person

START = 1_700_000_000_000_000_000
FRAMES, RATE = 40, 25.0


@pytest.fixture(scope='module')
def frames(head):
    performer = Performer(head, size=(256, 256), person=make_person(head, 3, texture_size=256))
    return [performer.frame(0.4 + k / RATE)[0] for k in range(FRAMES)]


@pytest.fixture(scope='module')
def avatar(head, embedding, frames):
    return create_avatar(frames[0], head=head, embedding=embedding, quality='preview')


def stamps():
    return [START + round(k * 1e9 / RATE) for k in range(FRAMES)]


def record_live(world, frames, avatar, folder):
    """Feed a driver node one frame after the other, each when the last one's picture is there; return the recorded bag."""
    AvatarStore(folder / 'avatars').save('me', avatar)
    config = DriverConfig(avatar_dir=str(folder / 'avatars'), driver_identity='avatar')
    node = world.add(AvatarDriver, {'avatar_id': 'me', 'view': 'input', 'driver_identity': 'avatar'},
                     core=lambda _: make_core(config))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    pictures = world.collect(Image, 'avatar/image', qos.newest())
    publisher = world.helper.create_publisher(Image, 'image', qos.newest())
    world.wait(lambda: publisher.get_subscription_count() and node.count_subscribers('avatar/image'), 'connections')
    send_first(world, publisher, frames[0], pictures)
    for stamp, image in zip(stamps()[1:], frames[1:], strict=True):
        publisher.publish(rgb_to_image_message(image, stamp=ns_to_stamp(stamp), frame_id='camera'))
        world.wait(lambda stamp=stamp: any(stamp_to_ns(p.header.stamp) == stamp for p in pictures), f'picture of {stamp}', 60)
    by_stamp = {stamp_to_ns(p.header.stamp): p for p in pictures}  # the first may have come twice
    with BagWriter(folder / 'live') as bag:
        for _, picture in sorted(by_stamp.items()):
            bag.write_image('/avatar/image', image_message_to_rgb(picture), stamp_ns=stamp_to_ns(picture.header.stamp),
                            frame_id='camera')
    return folder / 'live'


def send_first(world, publisher, image, pictures):
    """Send the first frame until its picture comes: the node may not know yet that somebody looks."""
    message = rgb_to_image_message(image, stamp=ns_to_stamp(START), frame_id='camera')
    for _ in range(20):
        publisher.publish(message)
        try:
            world.wait(lambda: pictures, 'the first picture', 3)
            return
        except AssertionError:
            continue
    raise AssertionError('the first picture: not within a minute')


def table(folder):
    with (folder / 'frames.csv').open() as file:
        return list(csv.DictReader(file))


def test_live_and_offline_figures_agree(world, tmp_path, head, embedding, frames, avatar):
    """The live tracker decides beside the stream whose shape to assume; once it has, the pictures are the same to a hair."""
    with BagWriter(tmp_path / 'ride') as bag:
        for stamp, image in zip(stamps(), frames, strict=True):
            bag.write_image('/camera/image', image, stamp_ns=stamp, frame_id='camera')
    live = record_live(world, frames, avatar, tmp_path)
    person = Person(avatar, {'kind': 'avatar', 'avatar': 'me'})
    offline, ride = EvaluateConfig(driver_identity='avatar', pictures='raw'), Source(tmp_path / 'ride')
    evaluate(Job(ride, tmp_path / 'offline', offline, person), head, embedding)
    recorded = Job(ride, tmp_path / 'figures', replace(offline, protocol='rendered'), person, rendered=Source(live))
    evaluate(recorded, head, embedding)
    summaries = [json.loads((tmp_path / name / 'summary.json').read_text()) for name in ('offline', 'figures')]
    assert [s['frames']['scored'] for s in summaries] == [FRAMES, FRAMES]
    ours, theirs = (np.array([float(r['psnr_face']) for r in table(tmp_path / name)]) for name in ('offline', 'figures'))
    settled = slice(FRAMES // 2, None)
    assert abs(ours[settled] - theirs[settled]).max() < 0.5  # dB: smoothing still remembers the first frames' shape a little
    assert abs(ours[settled].mean() - theirs[settled].mean()) < 0.1
    akd = [s['figures']['akd']['mean'] for s in summaries]
    assert abs(akd[0] - akd[1]) < 0.5  # px, the frames before the decision included

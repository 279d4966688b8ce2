"""Bags without ROS: what is written is read, by others too; what is damaged is refused with the reason."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_support import START, header, image_messages, raw_image, write_bag

from sega_ros.errors import ConfigError, RecordingError, StorageError
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.io.bag_types import bag_types
from sega_ros.io.bags import COMPRESSED, EXPRESSION, IMAGE, PICTURES, BagReader, BagWriter
from sega_ros.types import FlameExpression, FlameParams


@pytest.fixture
def frames():
    return [np.random.default_rng(k).integers(0, 255, (24, 36, 3)).astype(np.uint8) for k in range(5)]


def expression(seed=0, **changes):
    rng = np.random.default_rng(seed)
    params = replace(FlameParams.neutral(0, 51), expression=rng.normal(size=51).astype(np.float32),
                     jaw_pose=rng.normal(size=3).astype(np.float32), eyelids=np.float32([0.2, 0.7]))
    fields = dict(stamp_ns=START + 40_000_000 * seed, frame_id='camera', head_model='open', head_model_version='1',
                  face_present=True, confidence=0.75, params=params,
                  rotation=rotvec_to_rotmat(rng.normal(size=3)).astype(np.float32), translation=np.float32([0.1, -0.2, 0.8]),
                  focal_length=1.5)
    return FlameExpression(**(fields | changes))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compression', ['none', 'message', 'file'])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_pictures_of_every_storage(tmp_path, frames, storage, compression, encoding):
    if storage == 'mcap' and compression == 'file':
        pytest.skip('rosbags writes no file-compressed mcap: mcap compresses its chunks')
    path = write_bag(tmp_path / 'bag', image_messages(frames, encoding=encoding), storage=storage, compression=compression)
    with BagReader(path) as bag:
        topic = bag.choose_topic('', PICTURES)
        assert (topic.name, topic.kind, topic.count) == ('/camera/image', IMAGE, 5)
        read = list(bag.images(topic))
    assert [r.stamp_ns for r in read] == [START + 80_000_000 * k for k in range(5)]
    assert all(np.array_equal(r.image, f) and r.frame_id == 'camera' for r, f in zip(read, frames, strict=True))


def test_one_file_of_a_bag(tmp_path, frames):
    for storage, suffix in (('mcap', 'mcap'), ('sqlite3', 'db3')):
        folder = write_bag(tmp_path / storage, image_messages(frames), storage=storage)
        (file,) = folder.glob(f'*.{suffix}')
        with BagReader(file) as bag:
            assert len(list(bag.images(bag.choose_topic('/camera/image', PICTURES)))) == 5


def test_written_bags_are_read_as_they_were(tmp_path, frames):
    sent = [expression(k) for k in range(3)]
    with BagWriter(tmp_path / 'bag') as bag:
        for e, image in zip(sent, frames, strict=False):
            bag.write_expression('/expression', e)
            bag.write_image('/avatar/image', image, stamp_ns=e.stamp_ns, frame_id=e.frame_id)
            bag.write_jpeg('/avatar/image/compressed', image, stamp_ns=e.stamp_ns, frame_id=e.frame_id, quality=100)
    with BagReader(tmp_path / 'bag') as bag:
        assert {t.name: t.kind for t in bag.topics.values()} == {
            '/expression': EXPRESSION, '/avatar/image': IMAGE, '/avatar/image/compressed': COMPRESSED}
        read = list(bag.expressions(bag.choose_topic('', (EXPRESSION,))))
        images = list(bag.images(bag.choose_topic('/avatar/image', PICTURES)))
        jpegs = list(bag.images(bag.choose_topic('/avatar/image/compressed', PICTURES)))
    for e, r in zip(sent, read, strict=True):
        assert (r.stamp_ns, r.head_model, r.face_present, r.confidence) == (e.stamp_ns, e.head_model, True, 0.75)
        np.testing.assert_array_equal(r.params.expression, e.params.expression)
        np.testing.assert_allclose(r.rotation, e.rotation, atol=1e-6)
    assert all(np.array_equal(i.image, f) for i, f in zip(images, frames, strict=False))
    assert all(i.image.shape == (24, 36, 3) for i in jpegs)


def test_equal_input_gives_equal_files(tmp_path, frames):
    for name in ('a', 'b'):
        with BagWriter(tmp_path / name / 'bag') as bag:
            bag.write_expression('/expression', expression())
            bag.write_jpeg('/picture', frames[0], stamp_ns=START, frame_id='')
    assert (tmp_path / 'a/bag/bag.mcap').read_bytes() == (tmp_path / 'b/bag/bag.mcap').read_bytes()


def test_others_read_our_bags(tmp_path, frames):
    """The mcap project's reader opens them, and rclpy makes the generated classes of them."""
    make_reader = pytest.importorskip('mcap.reader', reason='the mcap package is not installed').make_reader
    serialization = pytest.importorskip('rclpy.serialization', reason='rclpy is not installed')
    from sensor_msgs.msg import Image

    from sega_ros.msg import FlameExpression as Generated

    sent = expression(1)
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_expression('/expression', sent)
        bag.write_image('/avatar/image', frames[0], stamp_ns=START, frame_id='camera')
    with (tmp_path / 'bag' / 'bag.mcap').open('rb') as file:
        found = {channel.topic: (schema.name, message.data) for schema, channel, message in make_reader(file).iter_messages()}
    assert found['/expression'][0] == EXPRESSION
    message = serialization.deserialize_message(found['/expression'][1], Generated)
    np.testing.assert_array_equal(np.array(message.expression, np.float32), sent.params.expression)
    assert message.head_model == 'open' and message.header.stamp.sec == START // 10**9
    image = serialization.deserialize_message(found['/avatar/image'][1], Image)
    assert bytes(image.data) == frames[0].tobytes() and (image.height, image.width) == (24, 36)


def test_type_hashes_are_those_of_the_generated_messages():
    found = [Path(p) / 'share/sega_ros/msg/FlameExpression.json' for p in (sys.prefix,)]
    if not found[0].is_file():
        pytest.skip('the interfaces are not built in this environment')
    hashes = {h['type_name']: h['hash_string'] for h in json.loads(found[0].read_text())['type_hashes']}
    assert bag_types().hash_rihs01(EXPRESSION) == hashes[EXPRESSION]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('share', [0.02, 0.5, 0.95])
def test_truncated_bags_are_refused(tmp_path, storage, share):
    big = [np.full((64, 96, 3), k, np.uint8) for k in range(40)]
    folder = write_bag(tmp_path / 'bag', image_messages(big), storage=storage)
    (file,) = [p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3')]
    file.write_bytes(file.read_bytes()[:int(share * file.stat().st_size)])
    with pytest.raises(RecordingError, match=r'(cannot be read as a bag|damaged after \d+ of).*reindex'):
        with BagReader(folder) as bag:
            list(bag.images(bag.choose_topic('', PICTURES)))


@pytest.mark.parametrize('seed', range(30))
def test_flipped_bytes_are_refused_or_read(tmp_path, frames, seed):
    storage = ('mcap', 'sqlite3')[seed % 2]
    folder = write_bag(tmp_path / 'bag', image_messages(frames), storage=storage)
    (file,) = [p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3')]
    data, rng = bytearray(file.read_bytes()), np.random.default_rng(seed)
    for at in rng.integers(0, len(data), 20):
        data[at] ^= int(rng.integers(1, 256))
    file.write_bytes(bytes(data))
    try:
        with BagReader(folder) as bag:
            assert all(i.image.ndim == 3 for i in bag.images(bag.choose_topic('', PICTURES)))
    except RecordingError as e:
        assert str(folder) in str(e)


def test_topics_are_named_when_one_is_missing(tmp_path, frames):
    messages = [*image_messages(frames), *image_messages(frames, topic='/other/image'),
                ('/text', 'std_msgs/msg/String', START, bag_types().types['std_msgs/msg/String']('hello'))]
    with BagReader(write_bag(tmp_path / 'bag', messages)) as bag:
        with pytest.raises(RecordingError, match=r'no topic /camera; there are: /camera/image \(sensor_msgs/msg/Image, 5\)'):
            bag.choose_topic('/camera', PICTURES)
        with pytest.raises(RecordingError, match='topic /text has type std_msgs/msg/String, wanted sensor_msgs'):
            bag.choose_topic('/text', PICTURES)
        with pytest.raises(RecordingError, match='several topics .* name one of'):
            bag.choose_topic('', PICTURES)
        with pytest.raises(RecordingError, match='no topic with messages of type sega_ros'):
            bag.choose_topic('', (EXPRESSION,))


def test_another_definition_of_our_message_is_refused(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg('std_msgs/Header header\nfloat32[] expression\n', EXPRESSION))
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/expression', EXPRESSION, typestore=store)
        message = store.types[EXPRESSION](header=header(START), expression=np.zeros(3, np.float32))
        writer.write(connection, START, store.serialize_cdr(message, EXPRESSION))
    with pytest.raises(RecordingError, match='another definition .*RIHS01_.*this version has RIHS01_'):
        BagReader(tmp_path / 'bag')


def test_unknown_types_do_no_harm(tmp_path, frames):
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg('float32 volts\n', 'robot/msg/Battery'))
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        battery = writer.add_connection('/battery', 'robot/msg/Battery', typestore=store)
        writer.write(battery, START, store.serialize_cdr(store.types['robot/msg/Battery'](12.0), 'robot/msg/Battery'))
        camera = writer.add_connection('/camera/image', IMAGE, typestore=store)
        for _, kind, stamp, message in image_messages(frames):
            writer.write(camera, stamp, store.serialize_cdr(message, kind))
    with BagReader(tmp_path / 'bag') as bag:
        assert len(list(bag.images(bag.choose_topic('', PICTURES)))) == 5


def test_bad_pictures_are_named(tmp_path, frames):
    message = raw_image(frames[0], START)
    message.step = 5
    with BagReader(write_bag(tmp_path / 'bag', [('/camera/image', IMAGE, START, message)])) as bag:
        with pytest.raises(RecordingError, match='topic /camera/image: image step: found 5 bytes'):
            list(bag.images(bag.choose_topic('', PICTURES)))


def test_camera_info_gives_the_focal_length(tmp_path, frames):
    types = bag_types().types
    roi = types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    info = types['sensor_msgs/msg/CameraInfo'](
        header=header(START), height=24, width=36, distortion_model='plumb_bob', d=np.zeros(5),
        k=np.float64([54, 0, 18, 0, 54, 12, 0, 0, 1]), r=np.eye(3).reshape(-1), p=np.zeros(12), binning_x=0, binning_y=0, roi=roi)
    messages = [('/camera/camera_info', 'sensor_msgs/msg/CameraInfo', START, info), *image_messages(frames)]
    with BagReader(write_bag(tmp_path / 'with', messages)) as bag:
        assert bag.focal_length(bag.choose_topic('', PICTURES)) == pytest.approx(1.5)
    with BagReader(write_bag(tmp_path / 'without', image_messages(frames))) as bag:
        assert bag.focal_length(bag.choose_topic('', PICTURES)) is None


def test_what_no_message_carries_is_refused(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag, pytest.raises(ConfigError, match='optical frame id'):
        bag.write_expression('/expression', expression(frame_id='x' * 33))
    with pytest.raises(StorageError, match='exists'):
        BagWriter(tmp_path / 'bag')
    with pytest.raises(RecordingError, match='no such bag'):
        BagReader(tmp_path / 'nothing')


_READ = """
import sys
from sega_ros.io.bags import PICTURES, BagReader
from sega_ros.io.memory import process_memory
import os
with BagReader(sys.argv[1]) as bag:
    topic = bag.choose_topic('', PICTURES)
    frames = bag.images(topic)
    next(frames)
    before = process_memory(os.getpid())
    count = 1 + sum(1 for _ in frames)
print(count, process_memory(os.getpid(), peak=True) - before)
"""


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_memory_stays_flat_over_a_large_bag(tmp_path, storage):
    """300 MB of pictures are read within 64 MB."""
    one = raw_image(np.zeros((720, 960, 3), np.uint8), START)
    messages = (('/camera/image', IMAGE, START + k, one) for k in range(150))
    folder = write_bag(tmp_path / 'bag', messages, storage=storage)
    done = subprocess.run([sys.executable, '-c', _READ, str(folder)], capture_output=True, text=True, check=True)
    count, grown = done.stdout.split()
    assert int(count) == 150 and float(grown) < 64

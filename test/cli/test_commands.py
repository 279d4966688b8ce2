"""`sega render` and `sega drive` on a stored avatar; what is written is read back with OpenCV."""

import json
import time

import cv2
import numpy as np
import pytest

from sega_ros.avatar.store import AvatarStore
from sega_ros.cli import main
from sega_ros.io import VideoReader, read_image


def run(capsys, *argv):
    status = main([str(a) for a in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def probe(path):
    capture = cv2.VideoCapture(str(path))
    keys = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
    return tuple(capture.get(k) for k in keys)


def test_render_a_picture(capsys, tmp_path, stored):
    out = tmp_path / 'side.png'
    status, text, _ = run(capsys, 'render', 'plain', '--dir', stored, '--yaw', '-30', '--size', '160x120', '--out', out,
                          '--background', 'blue', '--json')
    answer, image = json.loads(text), read_image(out)
    assert status == 0 and image.shape == (120, 160, 3) and (answer['width'], answer['height']) == (160, 120)
    assert (image[0, 0] == (0, 0, 255)).all() and (image != (0, 0, 255)).any(-1).mean() > 0.1


def test_yaw_shows_another_side(capsys, tmp_path, stored):
    images = []
    for yaw in ('0', '40'):
        status, *_ = run(capsys, 'render', 'plain', '--dir', stored, '--yaw', yaw, '--size', '96', '--out',
                         tmp_path / 'o.png')
        assert status == 0
        images.append(read_image(tmp_path / 'o.png').astype(int))
    assert np.abs(images[0] - images[1]).mean() > 2


def test_turntable(capsys, tmp_path, stored):
    out = tmp_path / 'turn.mp4'
    status, text, _ = run(capsys, 'render', 'plain', '--dir', stored, '--size', '96x64', '--seconds', '0.5', '--fps',
                          '20', '--out', out, '--json')
    assert status == 0 and json.loads(text)['frames'] == 10 and probe(out) == (10, 20, 64, 96)


def test_unknown_kind_of_file(capsys, tmp_path, stored):
    status, _, err = run(capsys, 'render', 'plain', '--dir', stored, '--out', tmp_path / 'o.gif')
    assert status == 1 and 'ending in .png' in err


@pytest.mark.parametrize(('view', 'size'), [
    ('input', (200, 240)), ('frontal', (96, 128)), ('follow', (96, 128)), ('free', (96, 128))])
def test_drive_keeps_count_and_rate(capsys, tmp_path, stored, performance, view, size):
    out = tmp_path / 'out.mp4'
    status, text, err = run(capsys, 'drive', 'plain', '--dir', stored, '--video', performance, '--out', out, '--view',
                            view, '--size', '128x96', '--driver-identity', 'fit', '--json')
    answer = json.loads(text)
    assert status == 0 and probe(out) == (12, 12.5, *size)
    assert answer['frames'] == 12 and answer['frames_without_face'] == 2 and answer['driver_identity'] == 'fit'
    assert 'no face in 2 of 12 frames' in answer['warnings'][0] and 'sega: warning' in err
    with VideoReader(out) as reader:
        frames = list(reader)
    assert frames[0].std() > 10 and np.abs(frames[9].astype(int) - frames[0]).mean() > 0.2


def test_a_failed_drive_leaves_no_clip(capsys, tmp_path, stored, performance):
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(performance.read_bytes()[:200])
    refusals = ((('--video', broken), 'out.mp4', 'NO_CAMERA'), (('--camera', '97'), 'out.mp4', 'NO_CAMERA'),
                (('--video', performance), 'out.txt', 'BAD_REQUEST'))
    for source, name, error in refusals:
        status, text, _ = run(capsys, 'drive', 'plain', '--dir', stored, *source, '--out', tmp_path / name, '--json')
        assert status == 1 and json.loads(text)['error'] == error
    assert not list(tmp_path.glob('out.*'))


def test_the_driving_clip_is_not_overwritten(capsys, stored, performance):
    before = performance.read_bytes()
    status, text, _ = run(capsys, 'drive', 'plain', '--dir', stored, '--video', performance, '--out', performance, '--json')
    assert status == 1 and json.loads(text)['error'] == 'BAD_REQUEST'
    assert performance.read_bytes() == before


def test_another_head_model_is_refused(capsys, tmp_path, plain_avatar):
    from dataclasses import replace

    from sega_ros.avatar.store import AvatarStore

    AvatarStore(tmp_path).save('old', replace(plain_avatar, head_model_version='0'))
    status, text, _ = run(capsys, 'render', 'old', '--dir', tmp_path, '--out', tmp_path / 'o.png', '--json')
    assert status == 1 and json.loads(text)['error'] == 'HEAD_MODEL_MISMATCH'


class StoppingCamera:
    """A camera of 20 Hz (each frame up to 10 ms early or late) that delivers some frames and then stops."""

    is_camera, source, size, fps, frame_count = True, 0, (200, 240), 20.0, None

    def __init__(self, clip, count):
        with VideoReader(clip) as reader:
            self._frames = list(reader)[:count]

    def __call__(self, source):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        start = time.monotonic()
        for k, frame in enumerate(self._frames):
            early = 0.01 if k % 2 else -0.01
            time.sleep(max(0.0, start + k / self.fps - early - time.monotonic()))
            yield frame

    def peek(self):
        return self._frames[0]


def test_camera_that_stops_keeps_what_it_sent(capsys, tmp_path, stored, performance, monkeypatch):
    monkeypatch.setattr('sega_ros.io.video.VideoReader', StoppingCamera(performance, 4))
    status, text, _ = run(capsys, 'drive', 'plain', '--dir', stored, '--camera', '0', '--seconds', '60', '--size', '64',
                          '--out', tmp_path / 'out.mp4', '--driver-identity', 'fit', '--json')
    answer = json.loads(text)
    assert status == 0 and answer['frames'] >= 4 and any('stopped after' in w for w in answer['warnings'])
    assert probe(tmp_path / 'out.mp4')[:2] == (answer['frames'], 20)


def test_create_from_a_photo_and_drive_it(capsys, tmp_path, performance):
    """The whole way once, at preview quality: photo -> file -> clip that shows the same person."""
    from sega_ros.avatar.store import AvatarStore
    from sega_ros.head import load_head
    from sega_ros.io import write_png
    from sega_ros.synthetic.performer import Performer
    from sega_ros.synthetic.person import make_person

    head = load_head()
    photo, _, _ = Performer(head, person=make_person(head, 0, texture_size=512)).frame(0.0)
    write_png(tmp_path / 'photo.png', photo)
    store = tmp_path / 'avatars'
    status, text, err = run(capsys, 'create', tmp_path / 'photo.png', '--name', 'seed-0', '--dir', store, '--quality',
                            'preview', '--consent', 'a synthetic person', '--json')
    answer = json.loads(text)
    assert status == 0 and 'creating' in err
    assert answer['bytes'] == (store / 'seed-0.safetensors').stat().st_size < 16_000_000
    assert answer['metadata']['consent'] == 'a synthetic person' and answer['metadata']['quality'] == 'preview'
    assert [e.avatar_id for e in AvatarStore(store).list()] == ['seed-0']
    status, text, _ = run(capsys, 'drive', 'seed-0', '--dir', store, '--video', performance, '--view', 'input',
                          '--out', tmp_path / 'out.mp4', '--json')
    assert status == 0 and json.loads(text)['driver_identity'] == 'avatar'
    assert probe(tmp_path / 'out.mp4') == (12, 12.5, 200, 240)
    with VideoReader(performance) as real, VideoReader(tmp_path / 'out.mp4') as rendered:
        real_frame, rendered_frame = real.read().astype(float), rendered.read().astype(float)
    face = slice(60, 130), slice(90, 150)  # inside of the face at this size
    error = np.sqrt(np.mean((real_frame[face] - rendered_frame[face]) ** 2))
    assert 20 * np.log10(255 / error) > 20


def test_create_says_when_consent_was_not_stated(capsys, tmp_path, monkeypatch, plain_avatar):
    given = {}

    def create_avatar(image, *, consent, **_):
        given['consent'] = consent
        return plain_avatar

    monkeypatch.setattr('sega_ros.avatar.create.create_avatar', create_avatar)
    from sega_ros.io import write_png

    write_png(tmp_path / 'photo.png', np.zeros((64, 64, 3), np.uint8))
    status, _, _ = run(capsys, 'create', tmp_path / 'photo.png', '--name', 'x', '--dir', tmp_path / 'store')
    assert status == 0 and given['consent'] == 'not stated'


def test_create_refuses_a_photo_without_a_face(capsys, tmp_path):
    from sega_ros.io import write_png

    write_png(tmp_path / 'grey.png', np.full((200, 300, 3), 128, np.uint8))
    status, text, err = run(capsys, 'create', tmp_path / 'grey.png', '--name', 'x', '--dir', tmp_path / 'store',
                            '--json')
    assert status == 1 and json.loads(text)['error'] == 'NO_FACE' and 'Traceback' not in err
    assert not list((tmp_path / 'store').glob('*'))


def test_fewer_splats(capsys, tmp_path, stored):
    for detail in ((), ('--detail', '500')):
        out = tmp_path / f'{len(detail)}.png'
        status, *_ = run(capsys, 'render', 'plain', '--dir', stored, '--size', '96', '--out', out, *detail)
        assert status == 0
    assert (read_image(tmp_path / '0.png') != read_image(tmp_path / '2.png')).any()


def test_distil(capsys, tmp_path, real_avatar):
    if real_avatar.branch is None:
        pytest.skip('no weights for this head model')
    AvatarStore(tmp_path).save('ann', real_avatar)
    status, text, _ = run(capsys, 'distil', 'ann', '--name', 'small', '--dir', tmp_path, '--bases', 4, '--json')
    answer = json.loads(text)
    assert status == 0 and answer['bases'] == 4 and answer['bytes'] < 0.6 * answer['bytes_before']
    assert answer['psnr'] > answer['static_psnr'] + 5 and answer['ms_after'] > 0
    status, text, _ = run(capsys, 'distil', 'small', '--name', 'smaller', '--dir', tmp_path, '--json')
    assert status == 1 and 'distilled already' in json.loads(text)['message']

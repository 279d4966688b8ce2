"""Replay evaluation: the whole of it on a small recording, twice, interrupted, by every protocol, with every bad input."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from bag_support import START, image_messages, write_bag

from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.errors import NoFaceError, RecordingError, RequestError
from sega_ros.evaluation.replay import run as running
from sega_ros.evaluation.replay.config import EvaluateConfig
from sega_ros.evaluation.replay.identity import Person
from sega_ros.evaluation.replay.many import Request, evaluate_all
from sega_ros.evaluation.replay.recording import Recording, Source, fingerprint
from sega_ros.evaluation.replay.run import Job, evaluate
from sega_ros.io import VideoReader, VideoWriter, write_png
from sega_ros.io.bags import PICTURES, BagReader, BagWriter
from sega_ros.synthetic.performer import Performer
from sega_ros.synthetic.person import make_person
from sega_ros.tracking.tracker import FaceTracker

RATE = 12.5
SMALL = EvaluateConfig(quality='preview', pictures='raw')


@pytest.fixture(scope='session')
def frames(head):
    """Ten frames of a synthetic person, 240 x 256; the eighth shows nobody."""
    performer = Performer(head, size=(240, 256), person=make_person(head, 3, texture_size=256))
    drawn = [performer.frame(0.4 + k / RATE)[0] for k in range(10)]
    drawn[7] = np.full_like(drawn[7], 120)
    return drawn


@pytest.fixture(scope='session')
def bag(tmp_path_factory, frames):
    return write_bag(tmp_path_factory.mktemp('bags') / 'ride', image_messages(frames, rate=RATE))


@pytest.fixture(scope='session')
def own(tmp_path_factory, head, embedding, bag):
    """Folder of a finished run of protocol self."""
    out = tmp_path_factory.mktemp('runs') / 'own'
    evaluate(Job(Source(bag), out, SMALL), head, embedding)
    return out


@pytest.fixture(scope='session')
def person(plain_avatar):
    return Person(plain_avatar, {'kind': 'avatar', 'avatar': 'plain'})


def rows(folder):
    with (folder / 'frames.csv').open() as file:
        return list(csv.DictReader(file))


def messages_of(folder):
    """Raw messages of a run's bag."""
    with BagReader(folder / 'bag') as reader:
        return [(c.topic, stamp, bytes(data)) for c, stamp, data in reader._reader.messages()]


def test_own_run_measures_all_but_the_identity(own, frames):
    table, summary = rows(own), json.loads((own / 'summary.json').read_text())
    identity = summary['identity']['frame']
    assert summary['identity']['kind'] == 'frame' and 0 <= identity < 7
    assert [r['frame'] for r in table] == [str(k) for k in range(10)]
    assert [int(r['stamp_ns']) for r in table] == [START + 80_000_000 * k for k in range(10)]
    assert [k for k, r in enumerate(table) if r['scored'] == '0'] == sorted({identity, 7})
    assert table[7]['driver_face'] == '0' and summary['frames'] == {
        'total': 10, 'scored': 8, 'driver_lost': 1, 'lost': 0, 'dropped': 0}
    assert summary['figures']['psnr_face']['mean'] > 20 and summary['figures']['akd']['mean'] < 6
    assert set(summary['masks']) == {'face', 'head', 'full'} and summary['missing'].keys() >= {'lpips', 'csim'}
    assert summary['recording']['width'] == 256 and summary['recording']['height'] == 240


def test_result_files(own):
    for name in ('frames.csv', 'summary.json', 'timing.csv', 'run.json', 'side_by_side.mp4'):
        assert (own / name).stat().st_size > 100, name
    with VideoReader(own / 'side_by_side.mp4') as clip:
        assert clip.size == (512, 1024) and len(list(clip)) == 10 and clip.fps == pytest.approx(RATE)
    run = json.loads((own / 'run.json').read_text())
    assert run['seconds'] > 0 and run['versions']['numpy'] and run['config']['quality'] == 'preview'
    assert not list(own.glob('*.part*')) and not (own / 'unfinished.json').exists()


def test_figures_are_those_of_an_independent_script(own, frames):
    """PSNR, SSIM and AKD computed here from the run's pictures, as anybody would."""
    import mediapipe as mp
    from skimage.metrics import structural_similarity

    with BagReader(own / 'bag') as reader:
        drawn = [p.image for p in reader.images(reader.choose_topic('', PICTURES))]
    table = rows(own)
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1) as mesh:
        def points(image):
            found = mesh.process(np.ascontiguousarray(image)).multi_face_landmarks
            return found and np.array([(p.x * image.shape[1], p.y * image.shape[0]) for p in found[0].landmark[:468]])

        # The window of the first frame, held: the person hardly moves.
        reference = points(frames[0])
        low, high = reference.min(0), reference.max(0)
        side = 2 * (high - low).max()
        corner = (low + high) / 2 - [0, 0.08 * side] - side / 2

        def cut(image):
            k = 512 / side
            matrix = np.float64([[k, 0, -corner[0] * k], [0, k, -corner[1] * k]])
            return cv2.warpAffine(image, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)

        found = {name: [] for name in ('psnr_face', 'ssim_face', 'akd')}
        for k, row in enumerate(table):
            if row['scored'] == '0':
                continue
            truth, image = cut(frames[k]), cut(drawn[k])
            seen, other = points(truth), points(image)
            mask = cv2.fillConvexPoly(np.zeros((512, 512), np.uint8), cv2.convexHull(seen.astype(np.int32)), 1) > 0
            error = (truth.astype(float) - image)[mask]
            grey = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (image, truth)]
            found['psnr_face'].append(10 * np.log10(255**2 / (error**2).mean()))
            found['ssim_face'].append(structural_similarity(*grey, full=True)[1][mask].mean())
            found['akd'].append(np.linalg.norm(seen - other, axis=1).mean())
    ours = {name: np.mean([float(r[name]) for r in table if r['scored'] == '1']) for name in found}
    assert ours['psnr_face'] == pytest.approx(np.mean(found['psnr_face']), abs=0.1)
    assert ours['ssim_face'] == pytest.approx(np.mean(found['ssim_face']), abs=0.005)
    assert ours['akd'] == pytest.approx(np.mean(found['akd']), abs=0.1)


def test_twice_the_same_bytes(tmp_path, head, embedding, bag, own):
    evaluate(Job(Source(bag), tmp_path / 'again', SMALL), head, embedding)
    for name in ('frames.csv', 'summary.json'):
        assert (tmp_path / 'again' / name).read_bytes() == (own / name).read_bytes()
    assert messages_of(tmp_path / 'again') == messages_of(own)


def test_an_interrupted_run_goes_on(tmp_path, head, embedding, bag, own, monkeypatch):
    """It measures what is left, and ends with the same bytes."""
    class Stop(BaseException):
        pass

    def stop(stage, share):
        if stage == 'frames' and share > 0.1 + 0.85 * 0.85:
            raise Stop

    job = Job(Source(bag), tmp_path / 'run', SMALL)
    with pytest.raises(Stop):
        evaluate(job, head, embedding, progress=stop)
    assert not (tmp_path / 'run' / 'frames.csv').exists()
    measured, compare = [], running.FrameJudge.compare
    monkeypatch.setattr(running.FrameJudge, 'compare', lambda *args: measured.append(1) or compare(*args))
    evaluate(job, head, embedding)
    assert 0 < len(measured) < 7
    for name in ('frames.csv', 'summary.json'):
        assert (tmp_path / 'run' / name).read_bytes() == (own / name).read_bytes()


def test_folders_are_not_mixed_up(tmp_path, head, embedding, bag, own):
    with pytest.raises(RequestError, match='holds a finished run'):
        evaluate(Job(Source(bag), own, SMALL), head, embedding)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('keep me')
    for overwrite in (False, True):
        with pytest.raises(RequestError, match=r'holds other files \(thesis.txt\)'):
            evaluate(Job(Source(bag), tmp_path / 'mine', SMALL, overwrite=overwrite), head, embedding)
    (tmp_path / 'half').mkdir()
    (tmp_path / 'half' / 'unfinished.json').write_text('{"key": "of another run"}')
    with pytest.raises(RequestError, match='unfinished run of other inputs'):
        evaluate(Job(Source(bag), tmp_path / 'half', SMALL), head, embedding)
    assert (tmp_path / 'mine' / 'thesis.txt').read_text() == 'keep me'


def test_recorded_pictures_are_measured_as_the_run_that_drew_them(tmp_path, head, embedding, bag, own):
    config = replace(SMALL, protocol='rendered')
    evaluate(Job(Source(bag), tmp_path / 'live', config, rendered=Source(own / 'bag', '/avatar/image')), head, embedding)
    ours, theirs = rows(own), rows(tmp_path / 'live')
    for a, b in zip(ours, theirs, strict=True):
        if a['scored'] == '1':
            assert abs(float(a['psnr_face']) - float(b['psnr_face'])) < 0.05
            assert abs(float(a['akd']) - float(b['akd'])) < 0.1
    assert sum(r['scored'] == '1' for r in theirs) == 9  # the identity frame is not known to the recording


def test_recorded_messages_draw_the_same_pictures(tmp_path, head, embedding, bag, person):
    """Protocol expression on the messages of a run of cross: byte for byte the pictures that run drew."""
    cross = replace(SMALL, protocol='cross', view='frontal', size=128)
    evaluate(Job(Source(bag), tmp_path / 'cross', cross, person), head, embedding)
    source = Source(tmp_path / 'cross' / 'bag', topic='', expression_topic='/expression')
    told = replace(cross, protocol='expression')
    evaluate(Job(replace(source, topic='/avatar/image'), tmp_path / 'told', told, person), head, embedding)
    pictures = []
    for name in ('cross', 'told'):
        with BagReader(tmp_path / name / 'bag') as reader:
            pictures.append([p.image for p in reader.images(reader.choose_topic('', PICTURES))])
    assert len(pictures[0]) == 10 and all(np.array_equal(a, b) for a, b in zip(*pictures, strict=True))


def test_cross_has_motion_but_no_likeness(tmp_path, head, embedding, bag, real_avatar):
    person = Person(real_avatar, {'kind': 'avatar', 'avatar': 'other'})
    summary = evaluate(Job(Source(bag), tmp_path / 'run', replace(SMALL, protocol='cross'), person), head, embedding)
    assert not {'psnr_face', 'ssim_head', 'akd'} & set(summary['figures'])
    assert {'aed', 'apd', 'eye_left', 'mouth', 'jitter'} <= set(summary['figures'])
    assert summary['frames']['scored'] == 9 and summary['protocol'] == 'cross'


def test_expression_bag_without_pictures(tmp_path, head, embedding, real_avatar):
    """A robot's recording: messages alone drive."""
    driver = AvatarDriver(real_avatar, head)
    with BagWriter(tmp_path / 'told') as writer:
        for k in range(3):
            writer.write_expression('/expression', replace(driver.neutral(), stamp_ns=START + k * 80_000_000, face_present=True))
    person = Person(real_avatar, {'kind': 'avatar', 'avatar': 'x'})
    config = replace(SMALL, protocol='expression', view='frontal', size=256)
    source = Source(tmp_path / 'told', expression_topic='/expression')
    summary = evaluate(Job(source, tmp_path / 'run', config, person), head, embedding)
    assert summary['frames']['total'] == 3 and summary['frames']['lost'] == 0 and summary['figures']['mouth']['count'] == 3
    with BagReader(tmp_path / 'run' / 'bag') as reader:
        drawn = next(iter(reader.images(reader.choose_topic('', PICTURES)))).image
    np.testing.assert_array_equal(drawn, driver.render(driver.neutral(), View('frontal', size=(256, 256))))


def test_realtime_drops_what_it_cannot_follow(tmp_path, head, embedding, frames, person, monkeypatch):
    """A driver that needs longer than a frame lasts skips frames, says how many, and measures the others."""
    import time

    track = FaceTracker.track

    def slow(self, *args, **kwargs):
        time.sleep(0.1)
        return track(self, *args, **kwargs)

    monkeypatch.setattr(FaceTracker, 'track', slow)
    fast = write_bag(tmp_path / 'fast', image_messages(frames, rate=50))
    config = replace(SMALL, protocol='cross', realtime=True, driver_identity='avatar')
    summary = evaluate(Job(Source(fast), tmp_path / 'run', config, person), head, embedding)
    assert summary['frames']['dropped'] > 0
    with BagReader(tmp_path / 'run' / 'bag') as reader:
        assert reader.topics['/expression'].count == 10 - summary['frames']['dropped']


def test_score_every(tmp_path, head, embedding, bag, person):
    config = replace(SMALL, protocol='cross', score_every=4)
    evaluate(Job(Source(bag), tmp_path / 'run', config, person), head, embedding)
    assert [r['frame'] for r in rows(tmp_path / 'run') if r['eye_left_driver']] == ['0', '4', '8']
    with BagReader(tmp_path / 'run' / 'bag') as reader:
        assert reader.topics['/expression'].count == 10


def test_clips_and_folders_are_recordings(tmp_path, frames):
    with VideoWriter(tmp_path / 'clip.mp4', size=(240, 256), fps=RATE) as writer:
        for image in frames:
            writer.write(image)
    (tmp_path / 'pictures').mkdir()
    for k, image in enumerate(frames):
        write_png(tmp_path / 'pictures' / f'{k:04d}.png', image)
    with Recording(Source(tmp_path / 'clip.mp4')) as clip, Recording(Source(tmp_path / 'pictures', fps=RATE)) as folder:
        assert clip.frame_count == folder.frame_count == 10
        for _ in range(2):  # every call starts anew
            a, b = list(clip.frames()), list(folder.frames())
            assert [f.stamp_ns for f in a] == [f.stamp_ns for f in b] == [80_000_000 * k for k in range(10)]
            assert all(np.array_equal(f.image, image) for f, image in zip(b, frames, strict=True))


def test_several_recordings_have_folders_of_their_own(tmp_path, head, embedding, bag, frames, stored_plain):
    messages = [*image_messages(frames[:3], topic='/a/image'), *image_messages(frames[:4], topic='/b/image')]
    two = write_bag(tmp_path / 'two', messages)
    request = Request([str(two)], str(tmp_path / 'out'), replace(SMALL, protocol='cross'), topics=('/a/image', '/b/image'),
                      avatar='plain', avatars=str(stored_plain))
    results = evaluate_all(request, head, embedding)
    assert [r.name for r in results] == ['two-a-image', 'two-b-image']
    assert [r.summary['frames']['total'] for r in results] == [3, 4]
    assert all((tmp_path / 'out' / r.name / 'summary.json').is_file() and r.name in r.text for r in results)
    with pytest.raises(RequestError, match="two recordings are called 'two'"):
        evaluate_all(replace(request, recordings=[str(two), str(two)], topics=()), head, embedding)


@pytest.fixture
def stored_plain(tmp_path, plain_avatar):
    from sega_ros.avatar.store import AvatarStore

    AvatarStore(tmp_path / 'avatars').save('plain', plain_avatar)
    return tmp_path / 'avatars'


def test_nobody_in_the_recording(tmp_path, head, embedding, person):
    grey = [np.full((64, 64, 3), 90, np.uint8)] * 3
    nobody = write_bag(tmp_path / 'bag', image_messages(grey))
    with pytest.raises(NoFaceError, match='none of the first 3 shows a usable face'):
        evaluate(Job(Source(nobody), tmp_path / 'a', SMALL), head, embedding)
    with pytest.raises(NoFaceError, match='no face in any of 3 frames'):
        evaluate(Job(Source(nobody), tmp_path / 'b', replace(SMALL, protocol='cross'), person), head, embedding)


def test_no_frames_no_file_no_sense(tmp_path, head, embedding, person, bag):
    empty = write_bag(tmp_path / 'empty', [])
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'text.txt').write_text('hello')
    for path, match in ((empty, 'no topic with messages'), (tmp_path / 'folder', 'neither a bag .* nor a folder with pictures'),
                        (tmp_path / 'text.txt', 'wanted a bag, a clip or a folder'), (tmp_path / 'gone', 'no such bag')):
        with pytest.raises(RecordingError, match=match):
            Recording(Source(path))
    for config, job, match in ((replace(SMALL, protocol='cross'), {}, 'protocol cross: give the avatar'),
                               (replace(SMALL, protocol='expression'), {}, 'protocol expression: give the avatar'),
                               (replace(SMALL, protocol='rendered'), {}, '--rendered names the bag'),
                               (replace(SMALL, protocol='expression', realtime=True), {'person': person}, '--realtime replays')):
        with pytest.raises(RequestError, match=match):
            evaluate(Job(Source(bag), tmp_path / 'out', config, **job), head, embedding)
    with pytest.raises(RecordingError, match='no topic with messages of type sega_ros/msg/FlameExpression'):
        config = replace(SMALL, protocol='expression', view='frontal')
        evaluate(Job(Source(bag), tmp_path / 'out', config, person), head, embedding)


def test_sizes_and_stamps_that_change_are_said(tmp_path, head, embedding, frames, person):
    mixed = [*frames[:3], *(cv2.resize(f, (320, 300)) for f in frames[3:5])]
    messages = list(image_messages(mixed))
    # Recorded in the reverse order of their stamps.
    back = [(t, k, START + 10**9 - 10**8 * i, m) for i, (t, k, _, m) in enumerate(messages)]
    summary = evaluate(Job(Source(write_bag(tmp_path / 'bag', back)), tmp_path / 'run', replace(SMALL, protocol='cross'), person),
                       head, embedding)
    assert summary['recording']['out_of_order'] == 4
    assert any('another size' in w for w in summary['warnings']) and any('stamp' in w for w in summary['warnings'])
    assert summary['frames']['total'] == 5


def test_truncated_bag_says_how_far_it_went(tmp_path, head, embedding, frames, person):
    folder = write_bag(tmp_path / 'bag', image_messages(frames * 3), storage='sqlite3')
    (file,) = folder.glob('*.db3')
    file.write_bytes(file.read_bytes()[:int(0.6 * file.stat().st_size)])
    with pytest.raises(RecordingError, match=r'(damaged after \d+ of 30 messages|cannot be read as a bag).*reindex'):
        evaluate(Job(Source(folder), tmp_path / 'out', replace(SMALL, protocol='cross'), person), head, embedding)


def test_fingerprint_is_of_names_and_bytes(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'x').write_bytes(b'123')
    first = fingerprint(tmp_path / 'a')
    assert first['bytes'] == 3 and first == fingerprint(tmp_path / 'a')
    (tmp_path / 'a' / 'x').rename(tmp_path / 'a' / 'y')
    assert fingerprint(tmp_path / 'a')['sha256'] != first['sha256']
    assert fingerprint(tmp_path / 'a' / 'y')['sha256'] == 'a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3'



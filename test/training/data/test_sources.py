"""Loaders of calibrated data: what is written in the real layouts comes back, and everything missing is named."""

import json
import shutil

import numpy as np
import pytest
from dataset_people import SERIALS, SIZE, clip_path, write_clip, write_multiview, write_nersemble

from sega_ros.camera import project
from sega_ros.errors import DatasetError
from sega_ros.training.data import clips
from sega_ros.training.data.clips import read_frames
from sega_ros.training.data.color import TERMS, check_color_matrix, correct_color
from sega_ros.training.data.multiview import MultiviewSource
from sega_ros.training.data.nersemble import NersembleSource
from sega_ros.training.data.views import check_pose, spread


@pytest.fixture(scope='module')
def nersemble(tmp_path_factory, truth):
    root = tmp_path_factory.mktemp('nersemble')
    write_nersemble(root, 17, truth)
    write_nersemble(root, 17, truth, sequence='BACKGROUND', mattes=False)
    return root


@pytest.fixture
def broken(nersemble, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(nersemble, tmp_path / 'copy')


@pytest.fixture(scope='module')
def multiview(tmp_path_factory, truth):
    root = tmp_path_factory.mktemp('multiview')
    write_multiview(root, 'anna', truth)
    return root


def test_nersemble_comes_back(nersemble, truth):
    source = NersembleSource(nersemble)
    assert source.people() == ['017'] and source.sequences('017') == ['BACKGROUND', 'EXP-1-head']
    assert source.cameras('017', 'EXP-1-head') == sorted(SERIALS) and source.frame_count('017', 'EXP-1-head') == 2
    frames = list(source.frames('017', 5))
    assert [f.name for f in frames] == ['EXP-1-head-00000', 'EXP-1-head-00001']  # BACKGROUND shows nobody
    point = np.array([0.4, -0.2, 1.3])
    for frame, wanted in zip(frames, truth.frames, strict=True):
        views = {v.name: v for v in wanted.views}
        for view in frame.views:
            other = views[view.name]
            assert view.image.shape == (*SIZE, 3) and (view.camera.height, view.camera.width) == SIZE
            assert np.abs(view.image.astype(int) - other.image).mean() < 3  # a clip is not lossless
            assert np.abs(view.alpha.astype(int) - other.alpha).mean() < 3
            assert np.allclose(project(point, view.camera)[0], project(point, other.camera)[0], atol=1e-2)


def test_nersemble_without_mattes_and_scaled_down(broken):
    shutil.rmtree(broken / '017/sequences/EXP-1-head/alpha_maps')
    [frame] = NersembleSource(broken, max_side=200).frames('017', 1)
    full = next(NersembleSource(broken).frames('017', 1)).views[0]
    view = frame.views[0]
    assert view.alpha is None and view.image.shape == (200, 137, 3)
    scale = [137 / 275, 200 / 401]
    point = np.array([0.4, -0.2, 1.3])
    assert np.allclose(project(point, view.camera)[0], project(point, full.camera)[0] * scale, atol=1e-3)


def test_moments_are_spread_over_the_sequences(nersemble, monkeypatch):
    """The first moment of the first sequence is neutral; the others are middles of parts."""
    monkeypatch.setattr(NersembleSource, 'sequences', lambda *_: ['BACKGROUND', 'EXP-1-head', 'EXP-2-eyes', 'FREE', 'HAIR'])
    monkeypatch.setattr(NersembleSource, 'frame_count', lambda *_: 100)
    monkeypatch.setattr(NersembleSource, 'load', lambda self, person, name, indices: [(name, i) for i in indices])
    source = NersembleSource(nersemble)
    assert list(source.frames('017', 1)) == [('EXP-1-head', 0)]
    assert list(source.frames('017', 2)) == [('EXP-1-head', 0), ('FREE', 50)]
    assert list(source.frames('017', 5)) == [
        ('EXP-1-head', 0), ('EXP-1-head', 99), ('EXP-2-eyes', 25), ('EXP-2-eyes', 75), ('FREE', 50)]


def test_intrinsics_per_serial_are_for_the_clip(broken, truth):
    """The benchmark's calibration: one matrix a camera, for the clip's own size."""
    path = broken / '017/calibration/camera_params.json'
    raw = json.loads(path.read_text())
    raw['intrinsics'] = {s: truth.frames[0].views[0].camera.K.tolist() for s in raw['world_2_cam']}
    path.write_text(json.dumps(raw))
    [frame] = NersembleSource(broken).frames('017', 1)
    assert np.allclose(frame.views[0].camera.K, truth.frames[0].views[0].camera.K, atol=1e-3)


def spoil_json(**changes):
    def spoil(folder):
        path = folder / 'calibration/camera_params.json'
        raw = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in {**raw, **changes}.items() if v is not None}))
    return spoil


def mirrored(folder):
    raw = json.loads((folder / 'calibration/camera_params.json').read_text())
    raw['world_2_cam'][SERIALS[1]][0] = [-v for v in raw['world_2_cam'][SERIALS[1]][0]]
    (folder / 'calibration/camera_params.json').write_text(json.dumps(raw))


def camera_missing(folder):
    raw = json.loads((folder / 'calibration/camera_params.json').read_text())
    del raw['world_2_cam'][SERIALS[2]]
    (folder / 'calibration/camera_params.json').write_text(json.dumps(raw))


def color_broken(folder):
    (folder / 'calibration/color_calibration.json').write_text(json.dumps({SERIALS[0]: [[1, 2], [3, 4]]}))


def alpha_of_other_size(folder):
    write_clip(clip_path(folder, 'EXP-1-head', SERIALS[0], kind='alpha_maps'), [np.zeros((64, 64, 3), np.uint8)] * 2)


@pytest.mark.parametrize(('spoil', 'match'), [
    (lambda f: shutil.rmtree(f / 'calibration'), 'camera_params.json: no such file; wanted the calibration of participant 017'),
    (lambda f: (f / 'calibration/camera_params.json').write_text('{'), 'cannot be read as JSON'),
    (lambda f: (f / 'calibration/camera_params.json').write_text('[]'), 'found a list'),
    (spoil_json(world_2_cam=None), r"participant 017: found the keys \['intrinsics'\], wanted"),
    (spoil_json(intrinsics=[[1, 2], [3, 4]]), 'intrinsics: wanted 3x3 finite numbers'),
    (spoil_json(intrinsics=[[900, 0, 9000], [0, 900, 200], [0, 0, 1]]), r'participant 017, .* principal point \(9000, 200\)'),
    (spoil_json(intrinsics=[[-900, 0, 130], [0, 900, 200], [0, 0, 1]]), r'wanted \[\[fx, 0, cx\]'),
    (mirrored, f'camera {SERIALS[1]}, world_2_cam: wanted a rigid motion'),
    (camera_missing, f'camera {SERIALS[2]}: is not in it'),
    (color_broken, f'camera {SERIALS[0]}: wanted a finite matrix of 3 rows'),
    (lambda f: shutil.rmtree(f / 'sequences'), 'participant 017: no sequences'),
    (lambda f: shutil.rmtree(f / 'sequences/EXP-1-head'), 'only BACKGROUND is there'),
    (lambda f: shutil.rmtree(f / 'sequences/EXP-1-head/images'), 'sequence EXP-1-head: no such folder'),
    (lambda f: [p.unlink() for p in (f / 'sequences/EXP-1-head/images').iterdir()], 'sequence EXP-1-head: no clips'),
    (lambda f: clip_path(f, 'EXP-1-head', SERIALS[0]).write_bytes(b'no clip'), f'camera {SERIALS[0]}: .*cannot be opened'),
    (alpha_of_other_size, 'alpha map of 64 x 64 px on a picture of 275 x 401'),
])
def test_what_nersemble_lacks_is_named(broken, spoil, match):
    spoil(broken / '017')
    with pytest.raises(DatasetError, match=match):
        list(NersembleSource(broken).frames('017', 2))


def test_a_clip_that_is_too_short_is_named(nersemble):
    with pytest.raises(DatasetError, match=r'017, sequence EXP-1-head, camera \d+: .*mp4: holds 2 frames, wanted frame 7'):
        NersembleSource(nersemble).load('017', 'EXP-1-head', [0, 7])


@pytest.mark.parametrize('source', [NersembleSource, MultiviewSource])
def test_roots_that_hold_nobody(tmp_path, source):
    with pytest.raises(DatasetError, match='no such folder'):
        source(tmp_path / 'none')
    (tmp_path / 'some').mkdir()
    with pytest.raises(DatasetError, match='no participant|nobody found'):
        source(tmp_path)


def test_unknown_people(nersemble, multiview):
    for source, person in ((NersembleSource(nersemble), '999'), (MultiviewSource(multiview), 'bert')):
        with pytest.raises(DatasetError, match=f"'{person}' is not there; found"):
            list(source.frames(person, 1))


def test_multiview_comes_back(multiview, truth):
    source = MultiviewSource(multiview)
    assert source.people() == ['anna'] and MultiviewSource(multiview / 'anna').people() == ['anna']
    frames = list(source.frames('anna', 9))
    assert [f.name for f in frames] == ['0000', '0001']
    for view, other in zip(frames[1].views, truth.frames[1].views, strict=True):
        assert view.name == other.name and np.array_equal(view.image, other.image) and np.array_equal(view.alpha, other.alpha)
        assert np.allclose(view.camera.viewmat, other.camera.viewmat) and np.allclose(view.camera.K, other.camera.K)
    assert len(list(source.frames('anna', 1))) == 1
    with pytest.raises(DatasetError, match='at least 1 a person'):
        list(source.frames('anna', 0))


def change_camera(**changes):
    def spoil(folder):
        raw = json.loads((folder / 'cameras.json').read_text())
        entry = raw['cameras'][SERIALS[0]]
        entry.update(changes)
        raw['cameras'][SERIALS[0]] = {k: v for k, v in entry.items() if v is not None}
        (folder / 'cameras.json').write_text(json.dumps(raw))
    return spoil


@pytest.mark.parametrize(('spoil', 'match'), [
    (lambda f: (f / 'cameras.json').unlink(), 'cameras.json: no such file'),
    (lambda f: (f / 'cameras.json').write_text('{"cameras": {}}'), 'person anna: no cameras in it'),
    (lambda f: (f / 'cameras.json').write_text('{"cameras": {"../x": {}}}'), 'wanted a plain file name'),
    (change_camera(K=None), f'camera {SERIALS[0]}: lacks K'),
    (change_camera(width=30.5), 'width and height: wanted whole pixels'),
    (change_camera(width=300), 'found 275 x 401 px, its calibration says 300 x 401'),
    (change_camera(world_to_camera=np.diag([2, 2, 2, 1]).tolist()), 'wanted a rigid motion'),
    (change_camera(K='wide'), 'wanted 3x3 finite numbers|wanted 3x3 numbers'),
    (lambda f: shutil.rmtree(f / 'images'), 'person anna: no frames'),
    (lambda f: [p.unlink() for p in (f / 'images/0001').iterdir()], 'frame 0001: no picture of any camera'),
    (lambda f: (f / 'images/0000' / f'{SERIALS[0]}.png').write_bytes(b'x'), f'frame 0000, camera {SERIALS[0]}: .*no picture'),
])
def test_what_a_multiview_folder_lacks_is_named(multiview, tmp_path, spoil, match):
    root = shutil.copytree(multiview, tmp_path / 'copy')
    spoil(root / 'anna')
    with pytest.raises(DatasetError, match=match):
        list(MultiviewSource(root).frames('anna', 2))


def test_a_camera_may_miss_a_frame(multiview, tmp_path):
    root = shutil.copytree(multiview, tmp_path / 'copy')
    (root / 'anna/images/0001' / f'{SERIALS[3]}.png').unlink()
    assert [len(f.views) for f in MultiviewSource(root).frames('anna', 2)] == [4, 3]


def test_colour_correction():
    """The identity changes nothing; a matrix acts on linear light; 8 terms are those of the textbook."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(correct_color(image, np.eye(3)), image)
    half = correct_color(np.full((1, 1, 3), 255, np.uint8), 0.5 * np.eye(3))
    assert half.tolist() == [[[188, 188, 188]]]  # sRGB of half the light
    assert TERMS[8] == ('r', 'g', 'b', 'rg', 'rb', 'gb', 'rgb', '') and all(len(t) == n for n, t in TERMS.items())
    matrix = np.zeros((3, 8))
    matrix[:, 6], matrix[1, 7] = 1, 0.5  # red * green * blue; green half a light more
    assert correct_color(np.full((1, 1, 3), 255, np.uint8), matrix)[0, 0].tolist() == [255, 255, 255]
    assert correct_color(np.zeros((1, 1, 3), np.uint8), matrix)[0, 0].tolist() == [0, 188, 0]
    with pytest.raises(DatasetError, match=r'found shape \[3, 6\]'):
        check_color_matrix(np.zeros((3, 6)).tolist(), name='x')


@pytest.mark.parametrize('indices', [[0], [0, 1, 30], [29, 60, 61, 119], [24], [3, 50, 118]])
def test_sought_frames_are_the_right_ones(clip, indices):
    """Every frame carries its number as two brightnesses; the encoder uses frames of both directions."""
    assert [number(f) for f in read_frames(clip, indices)] == indices


def test_a_sought_clip_that_is_too_short(clip, monkeypatch):
    with pytest.raises(DatasetError, match='holds 120 frames, wanted frame 120'):
        read_frames(clip, [0, 120])
    monkeypatch.setattr(clips, '_sought', lambda *_: None)  # a decoder that can't seek
    assert [number(f) for f in read_frames(clip, [5, 119])] == [5, 119]
    assert read_frames(clip, []) == []


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp('clip') / 'a.mp4'
    frames = np.zeros((120, 64, 48, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:32], frame[32:] = 15 * (i % 16), 15 * (i // 16)
    write_clip(path, list(frames))
    return path


def number(frame):
    return round(frame[4:28].mean() / 15) + 16 * round(frame[36:60].mean() / 15)


def test_spread_and_poses():
    assert spread(10, 3) in ([0, 4, 9], [0, 5, 9]) and spread(2, 5) == [0, 1] and spread(0, 3) == [] and spread(5, 1) == [0]
    with pytest.raises(DatasetError, match='last row'):
        check_pose(np.eye(4)[[3, 0, 1, 2]], name='x')

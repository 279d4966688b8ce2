"""The archive for the NeRSemble benchmark, from a tiny copy of its layout."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from sega_ros.camera import FRONTAL, project
from sega_ros.errors import DatasetError, RequestError
from sega_ros.evaluation.submission import (
    CAMERAS,
    PHOTO_SEQUENCE,
    RATE,
    TEST_SEQUENCES,
    load_cameras,
    load_tracking,
    write_submission,
)
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.io import VideoReader, VideoWriter

PERSON, FRAMES = '393', 2


@pytest.fixture(scope='module')
def flame(head):
    """A head that calls itself FLAME: all but the coefficients' meaning is like it."""
    return replace(head, name='flame2023')


def world_to_camera(k):
    pose = np.eye(4)
    pose[:3, :3] = FRONTAL @ rotvec_to_rotmat(np.array([0.0, 0.2 * k, 0.0]))
    pose[:3, 3] = 0.01 * k, 0.02, 1.1
    return pose


def tracking_arrays():
    turn = np.stack([rotvec_to_rotmat(np.array([0.0, 0.05 * t, 0.02])) for t in range(FRAMES)])
    return {
        'shape': np.zeros((1, 300)), 'expression': 0.1 * np.ones((FRAMES, 100)), 'rotation': np.zeros((FRAMES, 3)),
        'rotation_matrices': turn, 'translation': np.full((FRAMES, 3), 0.03), 'jaw': np.full((FRAMES, 3), [0.1, 0, 0]),
        'frames': np.arange(FRAMES), 'scale': np.array([[1.1]]), 'neck': np.zeros((FRAMES, 3)),
        'eyes': np.full((FRAMES, 6), [0, 0.1, 0, 0, 0.2, 0])}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / 'mono_flame_avatar'
    calibration = root / PERSON / 'calibration'
    calibration.mkdir(parents=True)
    K = [[1400.0, 0, 250], [0, 1400, 262], [0, 0, 1]]
    (calibration / 'camera_params.json').write_text(json.dumps({
        'world_2_cam': {s: world_to_camera(k).tolist() for k, s in enumerate(CAMERAS)}, 'intrinsics': dict.fromkeys(CAMERAS, K)}))
    clip = root / PERSON / 'sequences' / PHOTO_SEQUENCE / 'images' / f'cam_{CAMERAS[0]}.mp4'
    clip.parent.mkdir(parents=True)
    with VideoWriter(clip, size=(64, 64), fps=RATE) as writer:
        writer.write(np.full((64, 64, 3), 200, np.uint8))
    for name in TEST_SEQUENCES[:2]:
        folder = root / PERSON / 'sequences' / name / 'tracking'
        folder.mkdir(parents=True)
        np.savez(folder / 'flame2023_tracking.npz', **tracking_arrays())
    return root


def test_archive(root, tmp_path, flame, plain_avatar):
    photos, shares = [], []

    def make(photo):
        photos.append(photo)
        return replace(plain_avatar, head_model='flame2023')

    out = tmp_path / 'out' / 'submission.zip'
    count = write_submission(root, out, flame, make, people=[PERSON], sequences=TEST_SEQUENCES[:2],
                             progress=lambda stage, share: shares.append(share))
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / 'videos')
    assert count == 8 and sorted(names) == sorted(f'{PERSON}/{q}/cam_{s}.mp4' for q in TEST_SEQUENCES[:2] for s in CAMERAS)
    assert [p.shape for p in photos] == [(64, 64, 3)] and abs(int(photos[0].mean()) - 200) < 4 and shares == [0, 0.5]
    for name in (names[0], names[-1]):
        with VideoReader(tmp_path / 'videos' / name) as clip:
            frames = list(clip)
            assert clip.fps == pytest.approx(24.3, abs=0.01)
        assert [f.shape for f in frames] == [(512, 512, 3)] * FRAMES and all(f.std() > 20 for f in frames)
    assert [p.name for p in out.parent.iterdir()] == ['submission.zip']


def test_cameras_see_the_head_where_the_benchmark_puts_it(root, flame):
    """Its own way to the pixel: scale, turn and shift to the world, then the calibration."""
    arrays = tracking_arrays()
    tracking = load_tracking(root / PERSON / 'sequences' / 'FREE' / 'tracking' / 'flame2023_tracking.npz', flame)
    points = np.random.default_rng(0).normal(0, 0.08, (20, 3))
    for k, (serial, camera) in enumerate(load_cameras(root, PERSON).items()):
        assert serial == CAMERAS[k]
        for t in range(FRAMES):
            world = 1.1 * points @ arrays['rotation_matrices'][t].T + arrays['translation'][t]
            seen = world @ world_to_camera(k)[:3, :3].T + world_to_camera(k)[:3, 3]
            expected = seen[:, :2] / seen[:, 2:] * 1400 + [250, 262]
            posed = tracking.camera(t, camera)
            assert np.abs(project(points, posed)[0] - expected).max() < 0.01
            assert np.allclose(posed.viewmat[:3, :3] @ posed.viewmat[:3, :3].T, np.eye(3), atol=1e-5)
    params = tracking.params(1, flame)
    assert np.allclose(params.left_eye_pose, [0, 0.1, 0]) and np.allclose(params.right_eye_pose, [0, 0.2, 0])
    assert params.expression.shape == (flame.n_expression,) and np.allclose(params.expression, 0.1)


def test_everything_missing_is_named(root, tmp_path, flame):
    def make(photo):
        raise AssertionError('nothing is made before all is there')

    with pytest.raises(DatasetError, match=r'14 of 18 files are missing.*404/.*nersemble-benchmark-download'):
        write_submission(root, tmp_path / 'x.zip', flame, make, people=[PERSON, '404', '461'], sequences=TEST_SEQUENCES[:4])
    assert not (tmp_path / 'x.zip').exists()


def test_requests_are_checked(root, tmp_path, head, flame):
    with pytest.raises(RequestError, match="head model 'open'.*FLAME 2023"):
        write_submission(root, tmp_path / 'x.zip', head, None)
    with pytest.raises(RequestError, match='ending in .zip'):
        write_submission(root, tmp_path / 'x.tar', flame, None)


def test_damaged_data_are_refused(root, tmp_path, flame):
    path = root / PERSON / 'sequences' / 'FREE' / 'tracking' / 'flame2023_tracking.npz'
    np.savez(path, **tracking_arrays() | {'jaw': np.zeros((5, 3))})
    with pytest.raises(DatasetError, match=r'jaw \[5, 3\].*one length T'):
        load_tracking(path, flame)
    path.write_bytes(b'PK')
    with pytest.raises(DatasetError, match='no FLAME tracking'):
        load_tracking(path, flame)
    calibration = root / PERSON / 'calibration' / 'camera_params.json'
    raw = json.loads(calibration.read_text())
    del raw['world_2_cam'][CAMERAS[2]]
    calibration.write_text(json.dumps(raw))
    with pytest.raises(DatasetError, match=f'camera {CAMERAS[2]}: is missing'):
        load_cameras(root, PERSON)

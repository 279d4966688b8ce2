"""The file of one prepared person: comes back as written, refuses everything else, splits by identity."""

import io
import json
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest

from sega_ros.errors import DatasetError, HeadModelMismatchError
from sega_ros.training.data.capture_file import CaptureFolder, HeadTag, load_capture, save_capture, split_of
from sega_ros.types import Camera, Capture, FlameParams, Shot

TAG = HeadTag('open', '1', 'f' * 64)


def make_shot(rng, size):
    height, width = size
    ramp = np.linspace(40, 200, width, dtype=np.float32) + np.linspace(0, 30, height, dtype=np.float32)[:, None]
    image = np.stack([ramp, ramp[:, ::-1], 0.5 * ramp], -1).astype(np.uint8)
    camera = Camera(width, height, 300.25, 301.5, width / 2 + 0.3, height / 2, rng.normal(size=(4, 4)).astype(np.float32))
    params = FlameParams(*(rng.normal(size=n).astype(np.float32) for n in (6, 5, 3, 3, 3, 3, 2)))
    masks = rng.random((2, height, width)) < 0.5
    alpha = rng.integers(0, 256, (height, width), dtype=np.uint8)
    return Shot(image, alpha, *masks, rng.random(3).astype(np.float32), camera, params)


@pytest.fixture
def capture():
    rng = np.random.default_rng(0)
    shots = tuple(make_shot(rng, (33, 47)) for _ in range(3))
    return Capture('p_017', rng.normal(size=6).astype(np.float32), 0.005 * rng.normal(size=(20, 3)).astype(np.float32),
                   make_shot(rng, (60, 52)), shots)


def same(a, b):
    assert np.abs(a.image.astype(int) - b.image).max() <= 6 and a.image.dtype == b.image.dtype
    for name in ('alpha', 'head', 'face', 'background'):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype and np.array_equal(x, y), name
    for f in fields(Camera):
        assert np.array_equal(getattr(a.camera, f.name), getattr(b.camera, f.name)), f.name
    for f in fields(FlameParams):
        assert np.array_equal(getattr(a.params, f.name), getattr(b.params, f.name)), f.name


def test_round_trip(tmp_path, capture):
    path = tmp_path / 'p_017.npz'
    save_capture(path, capture, TAG)
    again = load_capture(path, TAG)
    assert again.name == capture.name and np.array_equal(again.shape, capture.shape)
    assert np.abs(again.v_offset - capture.v_offset).max() < 1e-5
    for a, b in zip((capture.photo, *capture.shots), (again.photo, *again.shots), strict=True):
        same(a, b)
    assert list(tmp_path.iterdir()) == [path]


def test_without_offset_and_shots(tmp_path, capture):
    save_capture(tmp_path / 'a.npz', replace(capture, v_offset=None, shots=()), TAG)
    again = load_capture(tmp_path / 'a.npz')
    assert again.v_offset is None and again.shots == ()


def test_usual_size(tmp_path, tracked, tag):
    """512 px photo and 12 shots of 256 px: about half a megabyte, from real file sizes scaled by their pixels."""
    capture, _ = tracked
    save_capture(tmp_path / 'a.npz', replace(capture, v_offset=None), tag)
    pixels = 256**2 + len(capture.shots) * 128**2
    assert (tmp_path / 'a.npz').stat().st_size / pixels * (512**2 + 12 * 256**2) < 0.7e6


def test_another_head_is_refused(tmp_path, capture):
    save_capture(tmp_path / 'a.npz', capture, TAG)
    for other in (replace(TAG, name='flame'), replace(TAG, version='2'), replace(TAG, fingerprint='0' * 64)):
        with pytest.raises(HeadModelMismatchError, match='belong to head open 1'):
            load_capture(tmp_path / 'a.npz', other)


def rewritten(path, **changes):
    with np.load(path) as archive:
        arrays = dict(archive)
    for key, value in changes.items():
        if value is None:
            del arrays[key]
        else:
            arrays[key] = value
    np.savez(path, **arrays)


@pytest.mark.parametrize(('changes', 'match'), [
    ({'meta': None}, "lacks 'meta'"),
    ({'expression': None}, "lacks 'expression'"),
    ({'meta': np.frombuffer(b'[1]', np.uint8)}, 'damaged'),
    ({'meta': np.frombuffer(json.dumps({'format': 99}).encode(), np.uint8)}, 'format 99, this version reads 1'),
    ({'image_ends': np.array([5, 3, 9, 12])}, 'does not agree with images'),
    ({'images': np.zeros(10, np.uint8)}, 'does not agree'),
    ({'masks': np.zeros(3, np.uint8)}, 'masks have 3 bytes'),
    ({'viewmats': np.full((4, 4, 4), np.nan, np.float32)}, 'viewmats .* wanted finite numbers'),
    ({'intrinsics': np.zeros((4, 6))}, 'masks have'),
    ({'v_offset': np.zeros(7, np.float16)}, r'v_offset has shape \[7\]'),
])
def test_damaged_content_is_refused(tmp_path, capture, changes, match):
    path = tmp_path / 'a.npz'
    save_capture(path, capture, TAG)
    rewritten(path, **changes)
    with pytest.raises(DatasetError, match=match):
        load_capture(path, TAG)


def test_hostile_arrays_run_no_code(tmp_path, capture):
    """An object array is a pickle: it is refused before anything in it runs."""
    ran = tmp_path / 'ran'

    class Hostile:
        def __reduce__(self):
            return ran.touch, ()

    path = tmp_path / 'a.npz'
    save_capture(path, capture, TAG)
    rewritten(path, shape=np.array([Hostile()], object))
    ran.unlink(missing_ok=True)
    with pytest.raises(DatasetError, match='not an .npz of plain arrays'):
        load_capture(path, TAG)
    assert not ran.exists()


def test_any_truncation_is_refused(tmp_path, capture):
    path = tmp_path / 'a.npz'
    save_capture(path, capture, TAG)
    data = path.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(DatasetError, match='damaged'):
            load_capture(path, TAG)
    with pytest.raises(DatasetError, match='no such file'):
        load_capture(tmp_path / 'none.npz')


def test_a_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    from sega_ros.training.data import capture_file

    monkeypatch.setattr(capture_file, '_MAX_UNPACKED', 1000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('meta.npy', bytes(100_000))
    (tmp_path / 'a.npz').write_bytes(buffer.getvalue())
    with pytest.raises(DatasetError, match='unpacks to 100000 bytes'):
        load_capture(tmp_path / 'a.npz')


def test_what_can_not_be_saved(tmp_path, capture):
    with pytest.raises(DatasetError, match=r"person '../x'"):
        save_capture(tmp_path / 'a.npz', replace(capture, name='../x'), TAG)
    small = replace(capture.photo, alpha=capture.photo.alpha[:-1])
    with pytest.raises(DatasetError, match=r'shot 0: alpha has shape \[59, 52\]'):
        save_capture(tmp_path / 'a.npz', replace(capture, photo=small), TAG)
    longer = replace(capture.photo, params=replace(capture.photo.params, expression=np.zeros(9, np.float32)))
    with pytest.raises(DatasetError, match='expression has several lengths'):
        save_capture(tmp_path / 'a.npz', replace(capture, photo=longer), TAG)
    assert not list(tmp_path.iterdir())


def test_split_is_by_identity_stable_and_disjoint(tmp_path, capture):
    names = [f'{i:03d}' for i in range(400)]
    splits = {name: split_of(name) for name in names}
    shares = [list(splits.values()).count(s) / len(names) for s in ('train', 'val', 'test')]
    assert np.allclose(shares, [0.9, 0.05, 0.05], atol=0.035)
    # Written down: a change would move people between training and test.
    assert [splits[n] for n in ('000', '007', '017', '040')] == ['train', 'test', 'train', 'val']
    small = replace(capture, shots=())
    chosen = [next(n for n in names if splits[n] == s) for s in ('train', 'val', 'test')]
    for name in chosen:
        save_capture(tmp_path / f'{name}.npz', replace(small, name=name), TAG)
    found = {s: CaptureFolder(tmp_path, TAG, split=s).names for s in ('train', 'val', 'test', 'all')}
    assert [found[s] for s in ('train', 'val', 'test')] == [(n,) for n in chosen]
    assert sorted(chosen) == list(found['all'])
    folder = CaptureFolder(tmp_path, TAG, split='val')
    assert len(folder) == 1 and folder[0].name == chosen[1]


def test_folder_errors(tmp_path):
    with pytest.raises(DatasetError, match='no such folder'):
        CaptureFolder(tmp_path / 'none', TAG)
    with pytest.raises(DatasetError, match='no prepared person'):
        CaptureFolder(tmp_path, TAG)
    with pytest.raises(DatasetError, match="split 'dev' is unknown"):
        CaptureFolder(tmp_path, TAG, split='dev')

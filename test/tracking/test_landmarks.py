"""Detection: one face, several, small ones, none; what can't be used is refused in words."""

import subprocess
import sys
import types

import cv2
import numpy as np
import pytest

from sega_ros.errors import ConfigError, ImageError
from sega_ros.tracking import mediapipe_graph
from sega_ros.tracking.landmarks import LandmarkDetector, TaskLandmarkDetector, _tiling, face_box, open_detector


@pytest.fixture(scope='module')
def portrait():
    from skimage import data

    return data.astronaut()  # public domain; its face is about 92 x 107 px around (225, 124)


@pytest.fixture(scope='module')
def still():
    with LandmarkDetector(static_image_mode=True) as detector:
        yield detector


@pytest.fixture
def stream():
    with LandmarkDetector() as detector:
        yield detector


def test_finds_the_face(still, portrait):
    [face] = still.detect(portrait)
    centre, side = face_box(face.points)
    assert face.points.shape == (478, 3) and (face.height, face.width) == (512, 512)
    assert centre == pytest.approx([225, 124], abs=4)
    assert side == pytest.approx(107, abs=5)
    assert face.confidence > 0.9


def test_landmarks_are_read_off_the_wire_as_off_the_fields():
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmark, NormalizedLandmarkList

    rng = np.random.default_rng(0)
    xyz = rng.standard_normal((7, 3)).astype(np.float32)
    xyz[2] = 0.0  # a coordinate of zero is on the wire too
    plain = NormalizedLandmarkList(landmark=[NormalizedLandmark(x=x, y=y, z=z) for x, y, z in xyz])
    wanted = xyz * np.float32([640, 480, 640])  # H != W
    assert np.array_equal(mediapipe_graph.landmarks_to_array(plain, 640, 480), wanted)
    for more in (NormalizedLandmark(visibility=0.5, x=1), NormalizedLandmark(x=1.0, y=2.0)):  # other fields, missing ones
        other = NormalizedLandmarkList(landmark=[*plain.landmark, more])
        assert np.array_equal(mediapipe_graph.landmarks_to_array(other, 640, 480)[:7], wanted)
    assert mediapipe_graph.landmarks_to_array(NormalizedLandmarkList(), 640, 480).shape == (0, 3)


def test_shifted_pictures_give_shifted_landmarks(still, portrait):
    moved = np.zeros((600, 700, 3), np.uint8)
    moved[60:572, 100:612] = portrait
    [a], [b] = still.detect(portrait), still.detect(moved)
    assert np.linalg.norm(b.points[:, :2] - a.points[:, :2] - [100, 60], axis=1).mean() < 1.0


def test_refining_lowers_the_scatter(still, portrait):
    """Average over regions: two crops of a picture agree better than single shots."""
    first, moved = portrait[:300, 50:400], portrait[3:310, 41:411]
    plain = [still.detect(p)[0] for p in (first, moved)]
    fine = [still.refine(p, f) for p, f in zip((first, moved), plain, strict=True)]
    off = [np.linalg.norm(b.points[:, :2] - a.points[:, :2] - [9, -3], axis=1).mean() for a, b in (plain, fine)]
    assert off[1] <= off[0]


def test_largest_face_comes_first(still, portrait):
    both = np.zeros((512, 900, 3), np.uint8)
    both[100:356, :256] = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    both[:, 388:] = portrait
    faces = still.detect(both)
    assert len(faces) == 2
    assert face_box(faces[0].points)[0] == pytest.approx([225 + 388, 124], abs=5)


def test_the_followed_face_is_kept_when_a_larger_one_appears(stream, portrait):
    face = portrait[20:240, 115:335]
    scene = np.zeros((420, 640, 3), np.uint8)
    scene[100:300, :200] = cv2.resize(face, (200, 200))
    [first] = stream.detect(scene)
    scene[10:410, 230:630] = cv2.resize(face, (400, 400))
    [kept] = stream.detect(scene)
    assert face_box(kept.points)[0] == pytest.approx(face_box(first.points)[0], abs=3)
    stream.reset()
    assert face_box(stream.detect(scene)[0].points)[0][0] > 230


def test_a_small_face_is_found_in_a_tile(still, stream, portrait):
    wide = np.zeros((1056, 1056, 3), np.uint8)
    wide[400:656, 400:656] = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    [face] = still.detect(wide)
    assert face_box(face.points)[0] == pytest.approx([512, 462], abs=4)
    # A stream looks at a few tiles per frame: it finds the face a little later.
    assert any(stream.detect(wide) for _ in range(30))


def test_lost_and_found(stream, portrait):
    assert stream.detect(portrait)
    assert stream.detect(np.full_like(portrait, 90)) == []
    assert stream.detect(portrait)


def test_following_a_still_picture_is_still(stream, portrait):
    points = np.stack([stream.detect(portrait)[0].points[:, :2] for _ in range(12)])
    assert np.linalg.norm(np.diff(points[4:], axis=0), axis=-1).max() < 0.1


@pytest.mark.parametrize(('image', 'message'), [
    (np.zeros((4, 4, 3), np.float32), r'wanted uint8 RGB \[H, W, 3\], found float32'),
    (np.zeros((4, 4), np.uint8), r'found uint8 \[4, 4\]'),
    (np.zeros((0, 5, 3), np.uint8), 'it is empty'),
    (np.broadcast_to(np.uint8(0), (20000, 20000, 3)), 'over the limit'),
    (None, 'found NoneType'),
])
def test_what_is_no_picture_is_refused(still, image, message):
    with pytest.raises(ImageError, match=message):
        still.detect(image)


def test_tiles_cover_the_picture():
    seen = np.zeros((700, 1000), bool)
    for top, left, height, width in _tiling(700, 1000, 0.5, 100):
        assert top >= 0 and left >= 0
        seen[top:top + height, left:left + width] = True
    assert seen.all()
    assert _tiling(200, 200, 0.5, 160) == []


def test_missing_task_file(tmp_path):
    with pytest.raises(ConfigError, match='no such file'):
        open_detector(tmp_path / 'face_landmarker.task')


def test_corrupt_task_file(tmp_path):
    path = tmp_path / 'face_landmarker.task'
    path.write_bytes(b'this is not a model')
    with pytest.raises(ConfigError, match='not a face_landmarker.task'):
        TaskLandmarkDetector(path)


def test_mediapipe_without_models_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mediapipe', types.SimpleNamespace(__version__='0.10.31'))
    with pytest.raises(ImportError, match=r'0\.10\.31 carries no models: .* face_landmarker\.task'):
        mediapipe_graph.import_mediapipe()


def test_the_plotting_library_waits_until_it_is_used():
    """In a process of its own: it takes longer to import than the rest of MediaPipe."""
    code = ("import sys; from sega_ros.tracking.mediapipe_graph import import_mediapipe; mp = import_mediapipe(); "
            "assert not any(name.startswith('matplotlib') for name in sys.modules); "
            "assert callable(mp.solutions.drawing_utils.plt.figure) and 'matplotlib.figure' in sys.modules")
    subprocess.run([sys.executable, '-c', code], check=True)


def test_missing_mediapipe_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mediapipe', None)
    with pytest.raises(ImportError, match='pip install'):
        mediapipe_graph.import_mediapipe()

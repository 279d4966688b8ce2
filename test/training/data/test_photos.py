"""Portraits of photographs: one crop convention, every unusable picture counted with its reason."""

import cv2
import numpy as np
import pytest

from sega_ros.errors import DatasetError, ImageError, RequestError
from sega_ros.io import write_png
from sega_ros.models.crop import cut_window, identity_crop, identity_square, window_camera
from sega_ros.training.data import photos
from sega_ros.training.data.photos import PhotoFolder
from sega_ros.types import Camera, Landmarks


def box(x0, y0, x1, y1):
    """Landmarks [478, 3] that span a box; the irises lie far outside and don't count."""
    rng = np.random.default_rng(0)
    points = np.zeros((478, 3), np.float32)
    points[:468, :2] = rng.uniform([x0, y0], [x1, y1], (468, 2))
    points[0, :2], points[1, :2], points[468:] = (x0, y0), (x1, y1), 1000
    return points


def test_the_square_is_the_convention():
    centre, side = identity_square(box(100, 60, 180, 160))
    assert np.isclose(side, 190) and np.allclose(centre, [140, 110 - 0.08 * 190])


@pytest.mark.parametrize('face', [40.0, 134.7, 300.0])
def test_the_crop_puts_the_square_where_it_belongs(face):
    """Enlarged, alike and reduced: a smooth picture lands where its coordinates say."""
    y, x = np.mgrid[:700, :900] + 0.5
    image = np.stack([x / 4, y / 4, 0 * x + 50], -1).astype(np.float32)
    corner = np.array([305.3, 290.8])
    landmarks = box(*corner, *(corner + face))
    crop = identity_crop(np.round(image).astype(np.uint8), np.ones((700, 900), np.float32), landmarks)
    assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
    centre, side = identity_square(landmarks)
    v, u = (np.mgrid[:256, :256] + 0.5) * side / 256
    wanted = np.stack([(centre[0] - side / 2 + u) / 4, (centre[1] - side / 2 + v) / 4], -1)
    inside = ((wanted > 1) & (wanted < [224, 174])).all(-1)
    assert inside.mean() > 0.6 and np.abs(crop[..., :2] - wanted)[inside].max() < 1.2


def test_nobody_and_nothing_are_grey():
    image = np.full((120, 100, 3), 250, np.uint8)
    alpha = np.zeros((120, 100), np.uint8)
    assert (identity_crop(image, alpha, box(30, 30, 70, 70)) == 128).all()
    alpha[:] = 255
    crop = identity_crop(image, alpha, box(0, 0, 40, 40), size=64)
    assert (crop[0, 0] == 128).all() and (crop[40, 40] == 250).all()  # outside of the picture, and the person
    half = identity_crop(image, np.full((120, 100), 0.5), box(30, 30, 70, 70), size=32)
    assert np.abs(half[16, 16].astype(int) - 189).max() <= 1


def test_what_can_not_be_cropped():
    image = np.zeros((50, 60, 3), np.uint8)
    with pytest.raises(ImageError, match='wanted uint8 RGB'):
        identity_crop(image, np.zeros((60, 50)), box(10, 10, 20, 20))
    with pytest.raises(RequestError, match='at least 468'):
        identity_crop(image, np.zeros((50, 60)), np.zeros((68, 2)))
    with pytest.raises(RequestError, match='at least a pixel'):
        identity_crop(image, np.zeros((50, 60)), np.zeros((478, 3)))


def test_window_and_camera_agree():
    """A bright spot lands where the window's camera projects its place to."""
    image = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(image, (210, 160), 6, (255, 255, 255), -1)
    camera = Camera(400, 300, 500, 510, 203, 148)
    ray = (np.array([210.5, 160.5]) - [203, 148]) / [500, 510]
    for side, size in ((180.4, 90), (70.3, 128)):
        centre = np.array([199.7, 152.2])
        window = cut_window(image, centre, side, size)[..., 0].astype(float)
        v, u = (np.mgrid[:size, :size] + 0.5) * window / window.sum()
        seen = window_camera(camera, centre, side, size)
        assert np.allclose([u.sum(), v.sum()], ray * [seen.fx, seen.fy] + [seen.cx, seen.cy], atol=0.1)


@pytest.fixture
def folder(tmp_path, astronaut):
    """One good portrait with turned EXIF in a nested folder, and one of each that is not usable."""
    from PIL import Image

    (tmp_path / 'a/b').mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.fromarray(np.rot90(astronaut)).save(tmp_path / 'a/b/good.JPG', exif=exif, quality=95)
    write_png(tmp_path / 'blank.png', np.full((200, 300, 3), 120, np.uint8))
    write_png(tmp_path / 'small.png', cv2.resize(astronaut, (240, 240), interpolation=cv2.INTER_AREA))
    (tmp_path / 'corrupt.png').write_bytes((tmp_path / 'blank.png').read_bytes()[:60])
    (tmp_path / 'notes.txt').write_text('not a picture')
    return tmp_path


def test_a_folder_of_photographs(folder, detector):
    found = PhotoFolder(folder, detector.detect)
    assert len(found) == 4
    portraits = list(found)
    assert [p.path.name for p in portraits] == ['good.JPG'] and portraits[0].image.shape == (256, 256, 3)
    assert found.report.used == 1 and dict(found.report.skipped) == {
        'cannot be read': 1, 'without a face': 1, 'with a face that is too small': 1}
    assert found.report.examples['cannot be read'] == [str(folder / 'corrupt.png')]
    assert '1 portraits, 3 skipped' in found.report.text()
    # Upright, the face where the convention puts it, grey behind.
    face = detector.detect(portraits[0].image)[0].points[:468, :2]
    low, high = face.min(0), face.max(0)
    assert abs(max(high - low) * 1.9 - 256) < 12 and np.abs((low + high) / 2 - [128, 128 + 0.08 * 256]).max() < 6
    assert np.abs(portraits[0].image[:8, :8].astype(int) - 128).max() < 12


def test_folders_without_portraits(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match='no such folder'):
        PhotoFolder(tmp_path / 'none', lambda image: [])
    with pytest.raises(DatasetError, match='no pictures in it'):
        PhotoFolder(tmp_path, lambda image: [])
    write_png(tmp_path / 'a.png', np.full((300, 300, 3), 90, np.uint8))
    with pytest.raises(DatasetError, match=r'not one of 1 pictures is usable: 0 portraits, 1 skipped \(1 without a face\)'):
        list(PhotoFolder(tmp_path, lambda image: []))
    monkeypatch.setattr(photos, 'make_portrait', lambda *a, **k: (None, 0.0))
    face = Landmarks(box(100, 100, 200, 200), 1.0, 300, 300)
    with pytest.raises(DatasetError, match='the person could not be cut out'):
        list(PhotoFolder(tmp_path, lambda image: [face]))

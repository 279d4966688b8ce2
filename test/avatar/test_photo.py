"""The identity photo: what is refused and in which words, the crop, its camera, bars, and the matte."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sega_ros.avatar import photo as photos
from sega_ros.avatar.photo import (
    CROP_SIZE,
    check_image,
    choose_face,
    face_yaw,
    letterbox,
    portrait_window,
    prepare_photo,
)
from sega_ros.camera import orbit_camera, pose_camera, project
from sega_ros.errors import FaceProfileError, FaceTooSmallError, ImageBlurredError, ImageError, NoFaceError, SegaError
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.tracking.matting import Matte, matte
from sega_ros.types import FlameParams, Landmarks


@pytest.fixture(scope='module')
def detect():
    with LandmarkDetector(static_image_mode=True, max_faces=5) as detector:
        yield detector.detect


@pytest.fixture(scope='module')
def portrait_at(head):
    """Draw a synthetic person as seen from `yaw` degrees, [360, 400, 3]."""
    from sega_ros.synthetic.person import draw_person, make_person

    person = make_person(head, 0, texture_size=256)
    params = FlameParams(person.shape, np.zeros(head.n_expression, np.float32))

    def draw(yaw):
        camera = orbit_camera(yaw=np.radians(yaw), distance=0.76, size=(360, 400))
        return draw_person(person, params, camera, background=np.full((360, 400, 3), 0.3, np.float32), samples=1)

    return draw


@pytest.fixture
def no_matting(monkeypatch):
    """Leave the matte out (seconds); what it was asked to do is returned."""
    asked = []

    def quick(image, inside=None):
        asked.append(inside)
        return Matte(inside.astype(np.float32), image.astype(np.float32) / 255)

    monkeypatch.setattr(photos, 'matte', quick)
    return asked


def shrunk(image, factor):
    """Scale `image` down and put it on a gray canvas of its old size."""
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    canvas = np.full_like(image, 120)
    canvas[: len(small), : small.shape[1]] = small
    return canvas


def face_at(x, y, side, size=(512, 512)):
    """Landmarks of a frontal face whose box is `side` px wide and high, centred on x, y."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.4, 0.4, (478, 3)) * side
    points[10], points[152] = (0, -side / 2, 0), (0, side / 2, 0)
    points[454], points[234], points[1] = (side / 2, 0, 0), (-side / 2, 0, 0), (0, 0, 0)
    return Landmarks((points + np.array([x, y, 0])).astype(np.float32), 1.0, size[1], size[0])


def seen_by(detect, image):
    return choose_face(detect(image), image)


# --- what is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('image', 'found'), [
    (np.zeros((5, 6, 3), np.float32), r'float32 \[5, 6, 3\]'), (np.zeros((5, 6), np.uint8), r'uint8 \[5, 6\]'),
    (np.zeros((5, 6, 4), np.uint8), r'uint8 \[5, 6, 4\]'), (np.zeros((0, 6, 3), np.uint8), r'uint8 \[0, 6, 3\]'),
    (np.zeros((5, 0, 3), np.uint8), r'uint8 \[5, 0, 3\]'), (np.zeros((2, 5, 6, 3), np.uint8), r'uint8 \[2, 5, 6, 3\]'),
    (None, 'NoneType'), ([[1, 2, 3]], 'list'),
])
def test_what_is_no_picture(image, found):
    def unreachable(_):
        raise AssertionError('nothing may look at it')

    for call in (check_image, lambda i: prepare_photo(i, unreachable)):
        with pytest.raises(ImageError, match=f'wanted uint8 RGB .H, W, 3., found {found}'):
            call(image)


def test_no_face(detect):
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    with pytest.raises(NoFaceError, match=r'no face found in the photo \(400x300\): use one with a frontal'):
        seen_by(detect, picture)


def test_several_faces_the_largest_is_used_with_a_warning(detect, astronaut):
    both = np.full((512, 900, 3), 120, np.uint8)
    both[100:356, :256] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    both[:, 388:] = astronaut
    face, warnings = seen_by(detect, both)
    assert warnings[0] == '2 faces found: the largest is used'
    assert face.points[:, 0].mean() == pytest.approx(225 + 388, abs=6)


def test_face_under_64_px_is_refused(detect, astronaut):
    with pytest.raises(FaceTooSmallError, match=r'the face spans 5\d px, at least 64 are needed: use a larger picture'):
        seen_by(detect, shrunk(astronaut, 0.5))


@pytest.mark.parametrize('factor', [0.63, 1.0])
def test_face_under_128_px_is_used_with_a_warning(detect, astronaut, factor):
    face, warnings = seen_by(detect, shrunk(astronaut, factor))
    size = np.ptp(face.points[:468, :2], axis=0).max()
    assert 64 <= size < 128
    assert warnings == [f'the face spans {size:.0f} px only: at 128 and more the avatar is sharper']


def test_large_face_gives_no_warning(detect, astronaut):
    assert seen_by(detect, cv2.resize(astronaut, (1024, 1024), interpolation=cv2.INTER_CUBIC))[1] == []


@pytest.mark.parametrize('yaw', [-60, 60])
def test_profile_is_refused(detect, portrait_at, yaw):
    with pytest.raises(FaceProfileError, match=r'turned by about [56]\d degrees, at most 36 work: look into the'):
        seen_by(detect, portrait_at(yaw))


@pytest.mark.parametrize('yaw', [-25, 25])
def test_a_turned_face_is_used(detect, portrait_at, yaw):
    face, _ = seen_by(detect, portrait_at(yaw))
    # The camera moves to the subject's left: the face turns to the picture's left, which is negative.
    assert np.degrees(face_yaw(face)) == pytest.approx(-yaw, abs=8)


def test_a_photo_that_is_not_upright_is_refused(detect, astronaut):
    turned = np.ascontiguousarray(np.rot90(astronaut, 2))
    face, _ = seen_by(detect, astronaut)
    flipped = replace(face, points=np.array([512, 512, 0]) - face.points * [1, 1, -1])
    with pytest.raises(FaceProfileError, match='tilted by .* turn the photo upright'):
        choose_face([flipped], turned)


@pytest.mark.parametrize('degrees', [-90, 60, 180])
def test_a_photo_that_lies_on_its_side_is_refused(degrees):
    upright = face_at(256, 256, 200)
    turn = np.radians(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = upright.points.copy()
    points[:, :2] = (points[:, :2] - 256) @ matrix.T + 256
    with pytest.raises(FaceProfileError, match=f'tilted by {abs(degrees)} degrees, at most 46 work: turn the photo'):
        choose_face([replace(upright, points=points)], np.zeros((512, 512, 3), np.uint8))


@pytest.mark.parametrize('factor', [1, 2])
def test_blurred_is_refused_at_any_resolution(detect, astronaut, factor):
    picture = cv2.resize(cv2.GaussianBlur(astronaut, (0, 0), 3), None, fx=factor, fy=factor)
    with pytest.raises(ImageBlurredError, match=r'is blurred \(sharpness \d+, at least 12 is needed\): use a sharper'):
        seen_by(detect, picture)


def test_slightly_soft_is_used(detect, astronaut):
    seen_by(detect, cv2.GaussianBlur(astronaut, (0, 0), 1.2))


@pytest.mark.parametrize('size', [(1, 1), (1, 300), (40, 2)])
def test_tiny_pictures_are_refused_in_words(detect, size):
    with pytest.raises(SegaError):
        prepare_photo(np.zeros((*size, 3), np.uint8), detect)


# --- the crop ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('side', [90, 223, 380.5])  # enlarged, about kept, shrunk
def test_crop_shows_the_photo_where_it_says(side):
    """A ramp tells where each pixel comes from; on the way no half pixel is lost."""
    y, x = np.mgrid[:1000, :900].astype(np.float32) + 0.5
    crop, origin, scale = photos.crop_image(np.stack([x, y, y], -1), face_at(430.3, 470.8, side, (1000, 900)),
                                       photos.CROP_SCALE, CROP_SIZE)
    assert crop.shape == (CROP_SIZE, CROP_SIZE, 3)
    assert scale == pytest.approx(CROP_SIZE / (photos.CROP_SCALE * side), rel=1e-5)
    middle = slice(156, 356)
    places = (np.arange(CROP_SIZE)[middle] + 0.5) / scale + origin[:, None]
    error = crop[middle, middle, :2] - np.stack(np.meshgrid(*places), -1)
    # OpenCV places a sample to 1/32 px and a shrunk picture to whole pixels of its size.
    assert np.abs(error.mean((0, 1))).max() < 0.15 and np.abs(error).max() < 0.7, 'photo pixels'


def prepare_without_checks(image, face):
    """`prepare_photo` for a face that is only claimed to be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, 'choose_face', lambda faces, _: (faces[0], []))
        return prepare_photo(image, lambda _: [face])


def test_crop_camera_sees_the_same_points(no_matting):
    """A point that the full photo shows at p appears in the crop at (p - origin) * scale."""
    rotation = orbit_camera(yaw=0.3, pitch=0.1).viewmat[:3, :3]
    camera = pose_camera(rotation, np.array([0.05, -0.02, 0.9]), 1.3, (480, 640))
    photo = prepare_without_checks(np.zeros((480, 640, 3), np.uint8), face_at(350, 210, 130, (480, 640)))
    crop = photo.crop_camera(camera)
    points = np.random.default_rng(0).normal(size=(50, 3)) * 0.1
    full, depth = project(points, camera)
    small, crop_depth = project(points, crop)
    np.testing.assert_allclose(small, (full - photo.origin) * photo.scale, atol=1e-6)
    np.testing.assert_array_equal(depth, crop_depth)
    assert (crop.width, crop.height) == (CROP_SIZE, CROP_SIZE)
    np.testing.assert_array_equal(crop.viewmat, camera.viewmat)


def test_landmarks_lie_on_the_crop_where_the_fit_puts_them(creation):
    """Real photo, real fit: the fitted head's landmarks, seen by the crop's camera, are the detected ones."""
    from sega_ros.head import load_head
    from sega_ros.head.skinning import Poser
    from sega_ros.tracking.embedding import landmark_embedding

    head, photo = load_head(), creation.parts.photo
    identity, embedding = creation.avatar.identity, landmark_embedding(head)
    vertices = Poser(head, identity.shape, v_offset=identity.v_offset).pose(creation.parts.fit.params)
    corners = vertices[head.faces[embedding.faces]]
    xy, _ = project((corners * embedding.barys[..., None]).sum(1), creation.avatar.photo_camera)
    seen = (photo.landmarks.points[:, :2] - photo.origin) * photo.scale
    miss = np.linalg.norm(xy - seen, axis=1)[embedding.valid]
    assert np.median(miss) < 2.0, 'crop pixels, of a face that spans 223'
    assert np.quantile(miss, 0.9) < 5.0


def test_outside_of_the_photo_is_marked(no_matting):
    image = np.full((300, 400, 3), 200, np.uint8)
    photo = prepare_without_checks(image, face_at(60, 250, 100, (300, 400)))
    rows, cols = np.flatnonzero(photo.inside.any(1)), np.flatnonzero(photo.inside.any(0))
    assert rows[-1] + 1 == pytest.approx((300 - photo.origin[1]) * photo.scale, abs=1)
    assert cols[0] == pytest.approx(-photo.origin[0] * photo.scale, abs=1)
    assert photo.inside[rows[0]:rows[-1] + 1, cols[0]:].all()
    np.testing.assert_array_equal(no_matting[0], photo.inside)


@pytest.mark.parametrize(('top', 'bottom'), [(0, 0), (40, 0), (0, 25), (40, 25)])
def test_letterbox(top, bottom):
    image = np.random.default_rng(0).integers(60, 255, (200, 120, 3), np.uint8)
    image[:top] = 5
    image[200 - bottom:] = 12
    assert letterbox(image) == (top and top + 4, bottom and bottom + 4)


def test_an_all_black_picture_has_no_bars():
    assert letterbox(np.zeros((20, 30, 3), np.uint8)) == (0, 0)


def test_bars_are_outside(no_matting):
    image = np.full((400, 400, 3), 180, np.uint8)
    image[:60], image[370:] = 0, 0
    photo = prepare_without_checks(image, face_at(200, 200, 150, (400, 400)))
    rows = np.flatnonzero(photo.inside.any(1)) / photo.scale + photo.origin[1]
    assert rows[0] == pytest.approx(64, abs=1.5) and rows[-1] == pytest.approx(366, abs=1.5)


@pytest.mark.parametrize(('person', 'wanted'), [
    ((100, 512), (64.16, 508)),  # top of the window, bottom
    ((100, 400), (64.16, 396)),  # the photo ends above the crop: so does the window
    ((300, 360), (356 - 0.55 * 512, 356)),  # little is seen: not too close
    ((0, 512), (0, 508)),
])
def test_portrait_window(creation, person, wanted):
    alpha = np.zeros((512, 512), np.float32)
    alpha[person[0]:person[1], 200:300] = 1
    x, y, side = portrait_window(replace(creation.parts.photo, alpha=alpha))
    assert (y, y + side) == pytest.approx(wanted, abs=0.01)
    assert x + side / 2 == pytest.approx(256, abs=0.01), 'the face stays in the middle'


def test_portrait_window_of_nobody(creation):
    empty = replace(creation.parts.photo, alpha=np.zeros((512, 512), np.float32))
    assert portrait_window(empty).tolist() == [0, 0, 512]


# --- the matte --------------------------------------------------------------------------------------------------------

def test_matte_of_the_real_photo(creation):
    photo = creation.parts.photo
    assert photo.alpha.shape == photo.inside.shape == (512, 512) and photo.color.shape == (512, 512, 3)
    for array in (photo.alpha, photo.color):
        assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    points = (photo.landmarks.points[:468, :2] - photo.origin) * photo.scale
    centre, half = (points.min(0) + points.max(0)) / 2, 0.3 * np.ptp(points, axis=0)
    (x0, y0), (x1, y1) = (centre - half).astype(int), (centre + half).astype(int)
    assert photo.alpha[y0:y1, x0:x1].min() > 0.97, 'the face is solid'
    assert photo.alpha[:20].max() < 0.05 and photo.alpha[:, 508:][:150].max() < 0.05, 'the flags are not hers'
    soft = (photo.alpha > 0.1) & (photo.alpha < 0.9)
    assert 0.002 < soft.mean() < 0.06, 'hair has a soft edge, and only the edge is soft'
    solid = photo.alpha > 0.99
    assert np.abs(photo.color - photo.image)[solid].mean() < 0.01
    assert photo.alpha[~photo.inside].max(initial=0) == 0


def test_foreground_does_not_carry_the_background(creation):
    """The person of the real photo before pure green: the matte is found again, and no green is in the colours."""
    photo = creation.parts.photo
    alpha = photo.alpha[::2, ::2, None]
    green = (photo.color[::2, ::2] * alpha + np.float32([0, 0.9, 0]) * (1 - alpha))
    again = matte((green * 255 + 0.5).astype(np.uint8))
    assert np.abs(again.alpha - alpha[..., 0]).mean() < 0.02
    edge = (again.alpha > 0.05) & (again.alpha < 0.95)
    def excess(c):
        return c[..., 1] - np.maximum(c[..., 0], c[..., 2])

    assert edge.sum() > 200
    assert np.quantile(excess(green)[edge], 0.9) > 0.2, 'in the picture itself the edge is green'
    assert np.quantile(excess(again.color)[edge], 0.9) < 0.08
    assert excess(again.color)[again.alpha > 0.02].mean() < 0.02

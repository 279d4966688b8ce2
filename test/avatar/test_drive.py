"""Driving a real avatar: a frame is a function of avatar, message and view; views; what expressions move."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.avatar.avatar import avatar_to_tensors, tensors_to_avatar
from sega_ros.avatar.drive import FOLLOW, AvatarDriver, View, driver_identity
from sega_ros.camera import FRONTAL, pose_camera, project
from sega_ros.errors import HeadModelMismatchError, RequestError
from sega_ros.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from sega_ros.head.skinning import Poser
from sega_ros.render import rasterize_arrays
from sega_ros.types import FlameParams, Region

SIZE = (224, 240)
HEIGHT, WIDTH = SIZE


@pytest.fixture(scope='module')
def driver(real_avatar, head):
    return AvatarDriver(real_avatar, head)


def turned(expression, yaw):
    """The same message with the head turned by `yaw` degrees."""
    turn = rotvec_to_rotmat(np.array([0.0, np.radians(yaw), 0.0]))
    return replace(expression, rotation=(FRONTAL @ turn).astype(np.float32),
                   translation=np.float32([0.01, 0.02, 0.7]), focal_length=1.5)


def acting(driver, **changes):
    """Return a message with parts of the neutral face changed; `units` are expression units by name."""
    expression = driver.neutral()
    values = expression.params.expression.copy()
    for name, value in changes.pop('units', {}).items():
        values[driver.head.expression_index(name)] = value
    changes = {k: np.asarray(v, np.float32) for k, v in changes.items()}
    return replace(expression, params=replace(expression.params, expression=values, **changes))


def random_message(driver, seed):
    rng = np.random.default_rng(seed)
    message = acting(driver, jaw_pose=[rng.uniform(0, 0.25), 0, 0], eyelids=rng.uniform(0, 1, 2),
                     left_eye_pose=[0, 0.2, 0], right_eye_pose=[0, 0.2, 0], neck_pose=rng.normal(size=3) * 0.1)
    values = rng.uniform(0, 0.7, driver.head.n_expression).astype(np.float32)
    message = replace(message, params=replace(message.params, expression=values))
    return turned(message, rng.uniform(-25, 25))


@pytest.fixture(scope='module')
def parts(driver, real_avatar, head):
    """Pixels [H, W] of view `frontal` that show a region of the neutral head, by name."""
    from sega_ros.avatar.texture import mesh_buffer

    camera = driver.camera(driver.neutral(), View(size=SIZE))
    identity = real_avatar.identity
    vertices = Poser(head, identity.shape, v_offset=identity.v_offset).pose(driver.neutral().params)
    buffer = mesh_buffer(head, vertices, camera)
    region = np.where(buffer.face >= 0, head.face_region[np.maximum(buffer.face, 0)], 0)
    xy, _ = project(vertices, camera)

    def around(regions, margin):
        used = np.unique(head.faces[np.isin(head.face_region, regions)])
        low, high = xy[used].min(0) - margin, xy[used].max(0) + margin
        rows, cols = np.mgrid[:HEIGHT, :WIDTH]
        return (cols >= low[0]) & (cols <= high[0]) & (rows >= low[1]) & (rows <= high[1])

    eyes, mouth = around([Region.EYELIDS], 6), around([Region.MOUTH, Region.TEETH], 0)
    left = np.mgrid[:HEIGHT, :WIDTH][1] > xy[:, 0].mean()  # the subject's left is the picture's right
    face = region == Region.FACE
    chin = face & (np.mgrid[:HEIGHT, :WIDTH][0] > np.flatnonzero(mouth.any(1))[0] - 8)
    return {'eyes': eyes, 'left': left, 'chin': chin, 'balls': region == Region.EYES, 'face': face,
            'still': ~(eyes | chin | face)}


def change(a, b):
    return np.abs(a.astype(int) - b).max(-1)


# --- a pure function --------------------------------------------------------------------------------------------------

def test_a_frame_depends_on_its_arguments_alone(driver, real_avatar, head):
    """Buffers are shared between calls (splats, lid colours): nothing of one frame may show in the next."""
    messages = [random_message(driver, k) for k in range(3)]
    messages += [acting(driver, eyelids=[1, 1]), acting(driver, eyelids=[0, 1]), driver.neutral()]
    views = [View('free', SIZE, yaw=0.4), View('follow', SIZE), View('frontal', (64, 96)), View('input', SIZE)]
    jobs = [(m, v) for m in messages for v in views]
    fresh = [AvatarDriver(real_avatar, head).render(*job) for job in (jobs[0], jobs[13], jobs[18], jobs[20])]
    first = [driver.render(*job) for job in jobs]
    order = np.random.default_rng(0).permutation(len(jobs))
    for k in order:
        np.testing.assert_array_equal(driver.render(*jobs[k]), first[k])
    for k, picture in zip((0, 13, 18, 20), fresh, strict=True):
        np.testing.assert_array_equal(picture, first[k], 'another driver gives the same bytes')


def test_an_earlier_frame_is_not_overwritten(driver):
    picture = driver.render(driver.neutral(), View(size=SIZE))
    copy = picture.copy()
    driver.render(acting(driver, eyelids=[1, 1], jaw_pose=[0.3, 0, 0]), View(size=SIZE))
    np.testing.assert_array_equal(picture, copy)


def test_driving_leaves_avatar_and_message_alone(driver, real_avatar):
    message = random_message(driver, 7)
    before = {k: v.copy() for k, v in avatar_to_tensors(real_avatar)[0].items()}
    params = {k: v.copy() for k, v in vars(message.params).items()}
    driver.render(message, View('follow', SIZE))
    for key, value in avatar_to_tensors(real_avatar)[0].items():
        np.testing.assert_array_equal(value, before[key], key)
    for key, value in vars(message.params).items():
        np.testing.assert_array_equal(value, params[key], key)


def test_the_stored_avatar_gives_nearly_the_same_picture(driver, real_avatar, head):
    stored = AvatarDriver(tensors_to_avatar(*avatar_to_tensors(real_avatar)), head)
    message = random_message(driver, 3)
    difference = change(driver.render(message, View(size=SIZE)), stored.render(message, View(size=SIZE)))
    assert difference.mean() < 0.3 and np.quantile(difference, 0.999) <= 6, 'half precision'


def test_who_and_when_plays_no_part(driver):
    message = random_message(driver, 4)
    other = replace(message, stamp_ns=123, frame_id='elsewhere', face_present=not message.face_present, confidence=0.1)
    np.testing.assert_array_equal(driver.render(message, View(size=SIZE)), driver.render(other, View(size=SIZE)))


# --- views ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('size', [(96, 160), (160, 96), (1, 1), (37, 53)])
@pytest.mark.parametrize('kind', ['frontal', 'follow', 'input', 'free'])
def test_every_view_has_the_size_asked_for(driver, kind, size):
    picture = driver.render(turned(driver.neutral(), 10), View(kind, size, yaw=0.3, pitch=0.1))
    assert picture.shape == (*size, 3) and picture.dtype == np.uint8
    camera = driver.camera(turned(driver.neutral(), 10), View(kind, size))
    assert (camera.height, camera.width) == size and camera.fx == camera.fy


def test_the_shorter_side_frames_the_person(driver):
    """Wide, tall and square views show the same middle."""
    square = driver.render(driver.neutral(), View(size=(128, 128)))
    wide = driver.render(driver.neutral(), View(size=(128, 256)))
    tall = driver.render(driver.neutral(), View(size=(256, 128)))
    assert change(wide[:, 64:192], square).mean() < 1
    assert change(tall[64:192], square).mean() < 1


def test_frontal_ignores_the_head_pose(driver):
    still = driver.render(driver.neutral(), View(size=SIZE))
    np.testing.assert_array_equal(driver.render(turned(driver.neutral(), 30), View(size=SIZE)), still)


@pytest.mark.parametrize('yaw', [-20, 25])
def test_follow_damps_the_head_pose(driver, yaw):
    message = turned(driver.neutral(), yaw)
    rotation = driver.camera(message, View('follow', SIZE)).viewmat[:3, :3].astype(np.float64)
    shown = np.degrees(rotmat_to_rotvec(FRONTAL.T @ rotation))
    np.testing.assert_allclose(shown, [0, FOLLOW * yaw, 0], atol=1e-3)
    neck = driver._neck
    places = [project(neck, driver.camera(m, View('follow', SIZE)))[0] for m in (message, turned(message, 0))]
    np.testing.assert_allclose(*places, atol=1e-3, err_msg='the neck stays in its place')


def test_follow_of_a_frontal_head_is_frontal(driver):
    straight = turned(driver.neutral(), 0)
    np.testing.assert_allclose(driver.camera(straight, View('follow', SIZE)).viewmat,
                               driver.camera(straight, View(size=SIZE)).viewmat, atol=1e-6)
    a, b = (driver.render(straight, View(kind, SIZE)) for kind in ('follow', 'frontal'))
    assert change(a, b).max() <= 1


def test_the_torso_joins_in_a_share_of_a_head_turn(driver):
    message = turned(driver.neutral(), 30)
    for kind in ('follow', 'input'):
        view = View(kind, SIZE)
        camera = driver.camera(message, view)
        torso = driver.torso_rotation(message, view, camera)
        np.testing.assert_allclose(torso @ torso.T, np.eye(3), atol=1e-5)
        head_turn, torso_turn = (np.linalg.norm(rotmat_to_rotvec(r)) for r in (
            camera.viewmat[:3, :3].astype(np.float64) @ FRONTAL.T,
            camera.viewmat[:3, :3].astype(np.float64) @ torso @ FRONTAL.T))
        assert 0.15 * head_turn < torso_turn < 0.6 * head_turn
    for kind in ('frontal', 'free'):
        np.testing.assert_array_equal(driver.torso_rotation(message, View(kind), camera), np.eye(3))


def test_input_reproduces_the_tracked_camera(driver):
    message = turned(driver.neutral(), 15)
    camera = driver.camera(message, View('input', (120, 200)))
    wanted = pose_camera(message.rotation, message.translation, 1.5, (120, 200))
    assert (camera.fx, camera.cx, camera.cy) == (wanted.fx, 100, 60) == (300, 100, 60)
    np.testing.assert_array_equal(camera.viewmat, wanted.viewmat)


def test_at_the_photo_s_pose_the_photo_comes_back(driver, creation, head):
    """The expression and the camera that the photo was taken with: the face is the photo's."""
    photo, camera = creation.parts.photo, creation.avatar.photo_camera
    message = replace(driver.neutral(), params=creation.parts.fit.params)
    splats = driver.splats(message, View('input', (512, 512)), camera)
    picture = rasterize_arrays(*splats, camera, background=creation.avatar.background)
    points = (photo.landmarks.points[:468, :2] - photo.origin) * photo.scale
    centre, half = (points.min(0) + points.max(0)) / 2, 0.35 * np.ptp(points, axis=0)
    (x0, y0), (x1, y1) = (centre - half).astype(int), (centre + half).astype(int)
    error = (picture / 255.0 - photo.image)[y0:y1, x0:x1]
    assert -10 * np.log10((error**2).mean()) > 28


def test_free_orbits(driver):
    """Yaw to the avatar's left shows more of the left cheek: its face moves to the picture's left."""
    pictures = {yaw: driver.render(driver.neutral(), View('free', SIZE, yaw=np.radians(yaw))) for yaw in (-30, 0, 30)}
    np.testing.assert_array_equal(pictures[0], driver.render(driver.neutral(), View(size=SIZE)))
    nose = driver._poser.rest[driver._poser.rest[:, 2].argmax()]
    x = {yaw: project(nose, driver.camera(driver.neutral(), View('free', SIZE, yaw=np.radians(yaw))))[0][0]
         for yaw in (-30, 0, 30)}
    assert x[30] < x[0] - 10 and x[-30] > x[0] + 10
    assert change(pictures[30], pictures[-30]).mean() > 10
    low, high = (driver.camera(driver.neutral(), View('free', SIZE, pitch=p)) for p in (-0.3, 0.3))
    assert project(nose, high)[0][1] > project(nose, low)[0][1] + 10, 'from above the nose points down'


def test_distance(driver, real_avatar):
    photo = real_avatar.photo_camera.viewmat
    usual = float((photo[:3, :3] @ driver._neck + photo[:3, 3])[2])
    near, far, default = (driver.render(driver.neutral(), View('free', SIZE, distance=d, background=(0, 1, 0)))
                          for d in (usual, 2 * usual, None))
    np.testing.assert_array_equal(near, default)
    covered = [(p != [0, 255, 0]).any(-1).mean() for p in (near, far)]
    assert 0.15 < covered[1] / covered[0] < 0.5, 'twice as far: about a quarter, less what the frame cut off'


def test_background(driver, real_avatar):
    own, green = (driver.render(driver.neutral(), View(size=SIZE, background=b)) for b in (None, (0, 1, 0)))
    np.testing.assert_allclose(own[0, 0], real_avatar.background * 255, atol=1)
    assert green[0, 0].tolist() == [0, 255, 0]
    middle = (slice(HEIGHT // 2 - 20, HEIGHT // 2), slice(WIDTH // 2 - 10, WIDTH // 2 + 10))
    assert change(own[middle], green[middle]).max() <= 2, 'the face is opaque'


# --- expressions ------------------------------------------------------------------------------------------------------

def test_an_open_jaw_moves_the_lower_face_only(driver, parts):
    shut, opened = (driver.render(m, View(size=SIZE)) for m in (driver.neutral(), acting(driver, jaw_pose=[0.3, 0, 0])))
    moved = change(opened, shut)
    assert np.quantile(moved[parts['chin']], 0.6) > 8
    # The dynamic decoder's expression feature is one for the whole face: a little of the jaw reaches the eyes.
    assert moved[parts['eyes']].mean() < 0.5 * moved[parts['chin']].mean() and moved[parts['eyes']].mean() < 12
    assert moved[parts['still']].mean() < 1.5, 'the neck under the chin moves a little'
    hair = parts['still'] & (np.mgrid[:HEIGHT, :WIDTH][0] < HEIGHT // 3)
    assert moved[hair].mean() < 0.1
    dark = [p[parts['chin']].max(-1).min() for p in (shut, opened)]
    assert dark[1] < dark[0] - 15, 'the mouth opens onto its dark inside'


def test_shut_lids_cover_the_eyes(driver, parts):
    """Where the open eye shows white and iris, the shut one shows skin."""
    opened, shut = (driver.render(acting(driver, eyelids=v), View(size=SIZE)) for v in ([0, 0], [1, 1]))
    moved = change(shut, opened)
    assert parts['balls'].sum() > 60
    assert np.median(moved[parts['balls']]) > 10
    assert moved[~parts['eyes']].mean() < 2, 'lids move hardly anything else'
    skin = np.median(shut[parts['face']], 0)
    iris = opened[parts['balls']].mean(-1) < 90  # dark
    assert iris.sum() > 15
    assert (shut[parts['balls']][iris].mean(-1) > 0.5 * skin.mean()).mean() > 0.75
    spread = [p[parts['balls']].astype(float).std(0).mean() for p in (opened, shut)]
    assert spread[1] < 0.7 * spread[0], 'skin is more even than an eye'


@pytest.mark.parametrize(('eyelids', 'left_moves'), [([1, 0], True), ([0, 1], False)])
def test_each_lid_is_its_own(driver, parts, eyelids, left_moves):
    moved = change(driver.render(acting(driver, eyelids=eyelids), View(size=SIZE)),
                   driver.render(driver.neutral(), View(size=SIZE)))
    left, right = (moved[parts['balls'] & side].mean() for side in (parts['left'], ~parts['left']))
    winner, loser = (left, right) if left_moves else (right, left)
    assert winner > 10 and loser < 0.15 * winner


def test_gaze_moves_the_iris(driver, parts):
    pictures = [driver.render(acting(driver, left_eye_pose=[0, yaw, 0], right_eye_pose=[0, yaw, 0]), View(size=SIZE))
                for yaw in (-0.35, 0.35)]
    assert change(*pictures)[~parts['eyes']].mean() < 0.5, 'gaze moves nothing else'
    cols = np.mgrid[:HEIGHT, :WIDTH][1]
    for side in (parts['left'], ~parts['left']):
        eye = parts['balls'] & side
        dark = [np.clip(110 - p[eye].mean(-1), 0, None) for p in pictures]
        x = [(cols[eye] * d).sum() / d.sum() for d in dark]
        assert x[1] > x[0] + 0.7, 'a turn to the subject\'s left moves the iris to the picture\'s right'


@pytest.mark.parametrize(('unit', 'where'), [('mouthSmileLeft', 'chin'), ('browInnerUp', 'face')])
def test_units_move_the_face_and_leave_the_rest(driver, parts, unit, where):
    moved = change(driver.render(acting(driver, units={unit: 1.0}), View(size=SIZE)),
                   driver.render(driver.neutral(), View(size=SIZE)))
    assert (moved[parts[where]] > 8).mean() > 0.04
    assert moved[parts['still']].mean() < 0.5


def test_extreme_messages_still_give_a_picture(driver):
    wild = acting(driver, jaw_pose=[1.5, 1, 1], eyelids=[3, -2], left_eye_pose=[3, 0, 0], neck_pose=[2, 2, 2])
    wild = replace(wild, params=replace(wild.params, expression=np.full(driver.head.n_expression, 4, np.float32)))
    for kind in ('frontal', 'follow', 'input', 'free'):
        assert driver.render(turned(wild, 170), View(kind, (48, 64))).shape == (48, 64, 3)


# --- what is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('arguments', 'words'), [
    ({'kind': 'side'}, "view 'side': wanted one of frontal, follow, input, free"),
    ({'size': (0, 10)}, r'wanted 1 to 4096 pixels a side, found 0x10 \(H, W\)'),
    ({'size': (10, 5000)}, 'found 10x5000'), ({'size': (-3, 10)}, 'found -3x10'),
    ({'size': (12.5, 10)}, 'wanted 1 to 4096 pixels'), ({'size': (10,)}, 'wanted 1 to 4096 pixels'),
    ({'distance': 0.0}, 'wanted 0.1 to 10 m, found 0.0'), ({'distance': 11}, 'found 11'),
    ({'distance': float('nan')}, 'found nan'), ({'yaw': float('nan')}, 'yaw and pitch.*found nan'),
    ({'pitch': float('inf')}, 'yaw and pitch.*inf'), ({'background': (0, 1)}, 'background: wanted RGB'),
    ({'background': (0, 0, float('nan'))}, 'background: wanted RGB'), ({'background': (0, 0, 255)}, 'background: wanted'),
])
def test_bad_views(arguments, words):
    with pytest.raises(RequestError, match=words):
        View(**arguments)


@pytest.mark.parametrize('changes', [{'head_model': 'flame2023'}, {'head_model_version': '0'}])
def test_another_head_model_is_refused(driver, real_avatar, head, changes):
    with pytest.raises(HeadModelMismatchError, match="expression message is for head model '.*use the same head model"):
        driver.render(replace(driver.neutral(), **changes), View(size=SIZE))
    with pytest.raises(HeadModelMismatchError, match='the avatar was made for head model'):
        AvatarDriver(replace(real_avatar, **changes), head)


def test_too_many_coefficients_are_refused(driver):
    message = replace(driver.neutral(), params=FlameParams(np.zeros(0, np.float32), np.zeros(400, np.float32)))
    with pytest.raises(RequestError, match=f'expression: the head has {driver.head.n_expression} coefficients, found 400'):
        driver.render(message, View(size=SIZE))


# --- whose shape is tracked -------------------------------------------------------------------------------------------

def test_driver_identity(real_avatar, head, astronaut):
    from sega_ros.tracking.embedding import landmark_embedding

    embedding = landmark_embedding(head)
    assert driver_identity(real_avatar, head, embedding, astronaut) is real_avatar.identity
    assert driver_identity(real_avatar, head, embedding, astronaut, choice='fit') is None
    nobody = np.full((64, 64, 3), 128, np.uint8)
    assert driver_identity(real_avatar, head, embedding, nobody) is None
    assert driver_identity(real_avatar, head, embedding, nobody, choice='avatar') is real_avatar.identity
    with pytest.raises(RequestError, match="driver identity 'me': wanted auto, avatar or fit"):
        driver_identity(real_avatar, head, embedding, astronaut, choice='me')

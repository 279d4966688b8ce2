"""The hair's hull: closed around the skull, inside of the outline, coloured by reflection."""

import numpy as np
import pytest

from sega_ros.avatar import hull as hulls
from sega_ros.avatar.hull import build_hull
from sega_ros.avatar.relief import head_centre
from sega_ros.camera import orbit_camera, project
from sega_ros.types import Region

SIZE = (360, 400)
BROWN, BLACK = np.float32([0.5, 0.3, 0.1]), np.float32([0.02, 0.02, 0.02])


def photo_of_hair(head, *, extra: float, bottom: float = 0.0):
    """Mask of hair `extra` metres thick around a head seen from the front, above `bottom`; its depth, camera and centre."""
    camera = orbit_camera(distance=1.2, size=SIZE, focal_length=2.4, target=np.array([0, 0.03, 0]))
    centre = head_centre(head)
    (middle,), depth = project(centre[None], camera)
    scalp = head.v_template[np.unique(head.faces[head.face_region == Region.SCALP])]
    rows, cols = np.mgrid[:SIZE[0], :SIZE[1]] + 0.5
    x, y = (cols - middle[0]) * depth[0] / camera.fx, (middle[1] - rows) * depth[0] / camera.fx
    a, b = np.abs(scalp[:, 0]).max() + extra, scalp[:, 1].max() - centre[1] + extra
    ellipse = (x / a) ** 2 + (y / b) ** 2
    face = (x / 0.07) ** 2 + ((y + centre[1] - 0.02) / 0.09) ** 2 < 1
    hair = (ellipse < 1) & ~face & (y + centre[1] > bottom)
    relief = depth[0] - 0.1 * np.sqrt(np.clip(1 - ellipse, 0, 1))
    return camera, centre, hair, relief.astype(np.float32)


@pytest.fixture(scope='module')
def made(head):
    camera, centre, hair, depth = photo_of_hair(head, extra=0.02)
    color = np.where(hair[..., None], BROWN, BLACK)
    return camera, centre, hair, build_hull(head, head.v_template, centre, camera, hair, color, depth)


def to_head(points, camera):
    return (points - camera.viewmat[:3, 3]) @ camera.viewmat[:3, :3]


def test_shapes_and_units(made):
    _, _, _, hull = made
    n = len(hull)
    assert 500 < n < 20_000
    assert hull.means.shape == hull.normals.shape == hull.colors.shape == (n, 3) and hull.spacing.shape == (n,)
    np.testing.assert_allclose(np.linalg.norm(hull.normals, axis=1), 1, atol=1e-6)
    assert 0.001 < np.median(hull.spacing) < 0.01 and hull.spacing.max() <= 2 * np.median(hull.spacing) + 1e-9


def test_it_closes_the_head_behind_and_lies_outside_of_the_skull(made, head):
    """Seen from the skull's centre every direction to the side, up and back meets the hull, beyond the scalp."""
    camera, centre, _, hull = made
    points = to_head(hull.means, camera) - centre
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    for wanted in ([0, 0, -1], [0, 1, -0.2], [0.9, 0.3, -0.3], [-0.9, 0.3, -0.3], [0.5, 0.5, -0.7]):
        wanted = np.array(wanted) / np.linalg.norm(wanted)
        assert (directions @ wanted).max() > np.cos(0.08), wanted
    scalp = head.v_template[np.unique(head.faces[head.face_region == Region.SCALP])] - centre
    reach = np.linalg.norm(scalp, axis=1)
    aim = scalp / reach[:, None]
    nearest = (directions @ aim.T).argmax(1)
    upper = points[:, 1] + centre[1] > 0.03
    assert (np.linalg.norm(points, axis=1)[upper] > reach[nearest][upper] - 0.002).mean() > 0.97


def test_normals_point_outwards(made):
    camera, centre, _, hull = made
    assert (((to_head(hull.means, camera) - centre) @ camera.viewmat[:3, :3].T * hull.normals).sum(1) > 0).all()


def test_it_stays_inside_of_the_outline(made):
    camera, _, hair, hull = made
    xy, _ = project(to_head(hull.means, camera), camera)
    cols, rows = np.floor(xy).astype(int).T
    filled = np.maximum.accumulate(hair, 1) & np.maximum.accumulate(hair[:, ::-1], 1)[:, ::-1]
    above = to_head(hull.means, camera)[:, 1] > 0.05
    assert filled[rows[above], cols[above]].mean() > 0.99


def test_colours_are_the_hair_s_alone(made):
    np.testing.assert_allclose(made[3].colors, np.broadcast_to(BROWN, made[3].colors.shape), atol=1e-6)


def test_texture_goes_on_by_reflection(head):
    """Rings in the photo's hair come back behind the silhouette as rings: not one smeared colour."""
    camera, centre, hair, depth = photo_of_hair(head, extra=0.03)
    rows, cols = np.mgrid[:SIZE[0], :SIZE[1]]
    (middle,), _ = project(centre[None], camera)
    stripes = 0.5 + 0.4 * np.sin(np.hypot(cols - middle[0], rows - middle[1]) / 2.0)
    hull = build_hull(head, head.v_template, centre, camera, hair, np.repeat(stripes[..., None], 3, 2).astype(np.float32), depth)
    behind = hull.means[:, 2] > hull.means[:, 2].mean()
    assert hull.colors[behind].std() > 0.15


def test_short_hair_ends_at_the_nape_and_long_hair_falls(head):
    def width_at_the_ears(bottom):
        camera, centre, hair, depth = photo_of_hair(head, extra=0.04, bottom=bottom)
        hull = build_hull(head, head.v_template, centre, camera, hair, np.ones((*SIZE, 3), np.float32), depth)
        points = to_head(hull.means, camera)
        return np.abs(points[np.abs(points[:, 1]) < 0.015, 0]).max()

    assert width_at_the_ears(-0.06) > width_at_the_ears(0.06) + 0.008


def test_no_hair_no_hull(head):
    camera, centre, hair, depth = photo_of_hair(head, extra=0.02)
    nothing = np.zeros_like(hair)
    assert build_hull(head, head.v_template, centre, camera, nothing, np.ones((*SIZE, 3), np.float32), depth) is None


def test_sectors_without_hair_take_a_mirror_image():
    wide = np.ones(12, bool)
    wide[4:6] = False
    np.testing.assert_array_equal(hulls._reflect_sectors(wide), [0, 1, 2, 3, 2, 7, 6, 7, 8, 9, 10, 11])


def test_reflected_angles_stay_where_hair_is_seen(head):
    """A photo that shows hair at the crown only still colours all of the hull with it."""
    camera, centre, hair, depth = photo_of_hair(head, extra=0.02, bottom=0.11)
    color = np.where(hair[..., None], BROWN, BLACK)
    hull = build_hull(head, head.v_template, centre, camera, hair, color, depth)
    np.testing.assert_allclose(hull.colors, np.broadcast_to(BROWN, hull.colors.shape), atol=1e-6)


def test_the_sphere_is_even():
    points = hulls._sphere(2000)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-12)
    from scipy.spatial import cKDTree

    distance = cKDTree(points).query(points, 2)[0][:, 1]
    assert distance.min() > 0.6 * distance.mean()


def test_skin_of_a_receding_hairline_does_not_go_on_at_the_sides(head):
    """In front a bald crown keeps its colour; the haired sides and the back beside it do not take it on."""
    camera, centre, hair, depth = photo_of_hair(head, extra=0.005)
    rows, cols = np.nonzero(hair)
    middle = int(np.median(cols))
    skin = hair & (np.abs(np.mgrid[:SIZE[0], :SIZE[1]][1] - middle) > 0.25 * np.ptp(cols)) & (
        np.mgrid[:SIZE[0], :SIZE[1]][0] < rows.min() + 0.5 * np.ptp(rows))
    color = np.where(skin[..., None], np.float32([0.9, 0.7, 0.6]), BROWN)
    plain, told = (build_hull(head, head.v_template, centre, camera, hair, color, depth, skin=s) for s in (None, skin))
    assert (plain.colors[:, 0] > 0.7).mean() > 0.15
    assert (told.colors[:, 0] > 0.7).mean() < 0.2 * (plain.colors[:, 0] > 0.7).mean()


def test_long_hair_hangs_from_the_outline_instead_of_following_the_neck(head):
    """Below the ears its sides stay as wide as the photo shows them, from the outline back to the nape."""
    camera, centre, hair, depth = photo_of_hair(head, extra=0.02)
    rows, cols = np.mgrid[:SIZE[0], :SIZE[1]]
    (middle,), z = project(centre[None], camera)
    metre = z[0] / camera.fx
    wide = 0.095 / metre
    beside = (np.abs(cols + 0.5 - middle[0]) < wide) & (np.abs(cols + 0.5 - middle[0]) > 0.065 / metre)
    low = (rows > middle[1]) & (rows < middle[1] + 0.16 / metre)
    hull = build_hull(head, head.v_template, centre, camera, hair | beside & low, np.ones((*SIZE, 3), np.float32), depth)
    points = to_head(hull.means, camera)
    hangs = (points[:, 1] < -0.05) & (points[:, 1] > -0.075)
    assert np.abs(points[hangs, 0]).max() == pytest.approx(0.095, abs=0.008)
    behind = hangs & (points[:, 2] < -0.12)
    assert behind.sum() > 30 and np.abs(points[behind, 0]).max() > 0.05, 'the nape is wide, too'
    np.testing.assert_allclose(np.linalg.norm(hull.normals, axis=1), 1, atol=1e-6)


def test_shades_of_hair_are_weaker_on_the_hull_and_strands_are_not():
    rng = np.random.default_rng(0)
    strands = 0.1 * rng.random((120, 120, 1))
    shade = np.where(np.arange(120)[:, None, None] < 60, 0.3, 0.6)
    color = (strands + shade * [1, 0.8, 0.6]).astype(np.float32)
    hair = np.zeros((120, 120), bool)
    hair[:, :100] = True
    even = hulls._evened(color, hair)
    np.testing.assert_array_equal(even[~hair], color[~hair])
    before, after = (float(np.ptp([c[:40, 20:80].mean(), c[80:, 20:80].mean()])) for c in (color, even))
    assert after < 0.4 * before
    assert even[:40, 20:80].std((0, 1)) == pytest.approx(color[:40, 20:80].std((0, 1)), rel=0.1)

"""Unwrapping a photo onto the texels: what it shows is taken, what it does not show is never background."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sega_ros.avatar.create import QUALITIES
from sega_ros.avatar.start import photo_start
from sega_ros.avatar.texture import (
    _eyeball_colors,
    _fill_mouth,
    _in_eye_openings,
    _limbus,
    _sampled,
    mouth_gap,
    tuck_in,
    unwrap,
    visible_texels,
)
from sega_ros.camera import project
from sega_ros.head.mesh import loose_parts
from sega_ros.models.binding import camera_centre
from sega_ros.models.uv import UvLayout
from sega_ros.types import Region

MAGENTA = np.float32([1, 0, 1])


@pytest.fixture(scope='module')
def scene(head, creation):
    """The real photo, the mesh laid over it and 96 x 96 texels."""
    parts = creation.parts
    layout, camera = UvLayout.build(head, 96), creation.avatar.photo_camera
    start = photo_start(layout, parts.identity, parts.fit.params, parts.photo, camera)
    return SimpleNamespace(head=head, photo=parts.photo, camera=camera, region=layout.region, table=start.table,
                           frames=start.frames, buffer=start.buffer)


def unwrapped(scene, photo):
    return unwrap(scene.head, scene.table, scene.region, scene.frames, photo, scene.camera, scene.buffer)


@pytest.fixture(scope='module')
def plain(scene):
    return unwrapped(scene, scene.photo)


def test_seen_texels_have_the_photo_s_colours(scene, plain):
    xy, _ = project(scene.frames.positions, scene.camera)
    skin = plain.seen & (scene.region == Region.FACE)
    cols, rows = xy[skin].astype(int).T
    assert skin.sum() > 500
    assert np.abs(plain.color[skin] - scene.photo.color[rows, cols]).mean() < 0.02


def test_any_number_of_places_is_sampled():
    """OpenCV takes fewer than 2**15 in a row; the finest atlas has more texels."""
    row, column = np.mgrid[:40, :60].astype(np.float32)
    ramp = np.stack([column + 0.5, row + 0.5, np.ones_like(row)], -1)
    xy = np.random.default_rng(0).uniform((1, 1), (59, 39), (100_000, 2))
    np.testing.assert_allclose(_sampled(ramp, xy), np.c_[xy, np.ones(len(xy))], atol=1 / 32)  # remap's places are 1/32 px apart


def test_a_photo_is_laid_out_on_the_finest_atlas(scene, creation):
    parts = creation.parts
    layout = UvLayout.build(scene.head, QUALITIES['high'].atlas)
    start = photo_start(layout, parts.identity, parts.fit.params, parts.photo, scene.camera)
    assert len(start.base.color) == len(layout.table) > 2**15 and start.base.seen.mean() > 0.2


def test_background_never_gets_onto_the_head(scene, plain):
    """Everything outside of the matte painted magenta: no texel changes its colour by it."""
    outside = scene.photo.alpha < 0.9
    marked = replace(scene.photo, image=np.where(outside[..., None], MAGENTA, scene.photo.image),
                     color=np.where(outside[..., None], MAGENTA, scene.photo.color))
    assert outside.mean() > 0.2
    found = unwrapped(scene, marked)
    np.testing.assert_array_equal(found.seen, plain.seen)
    assert np.abs(found.color - plain.color).max() < 1e-3
    assert np.abs(found.closed_lids - plain.closed_lids).max() < 1e-3


def test_every_texel_has_a_colour(scene, plain):
    for color in (plain.color, plain.closed_lids):
        assert color.shape == (len(scene.table), 3) and color.dtype == np.float32
        assert np.isfinite(color).all() and color.min() >= 0 and color.max() <= 1
    assert 0.15 < plain.seen.mean() < 0.8


def test_unseen_skin_of_the_face_is_skin(scene, plain):
    face = scene.region == Region.FACE
    seen, hidden = plain.color[face & plain.seen], plain.color[face & ~plain.seen]
    assert len(hidden) > 50
    low, high = np.quantile(seen, 0.002, 0) - 0.05, np.quantile(seen, 0.998, 0) + 0.05
    assert ((hidden > low) & (hidden < high)).all(-1).mean() > 0.98


def test_visible_texels_are_in_front_and_face_the_camera(scene):
    visible, xy = visible_texels(scene.frames, scene.camera, scene.buffer)
    assert (xy[visible] >= 0).all() and (xy[visible] < 512).all()
    to_eye = camera_centre(scene.camera.viewmat) - scene.frames.positions
    assert ((to_eye * scene.frames.rotmats[..., 2]).sum(-1)[visible] > 0).all()
    assert 0.15 < visible.mean() < 0.7
    nose = scene.frames.positions[:, 2].argmax()
    assert visible[nose]
    back = scene.frames.rotmats[:, 2, 2] < -0.5  # normals away from a face that looks along z
    assert back.sum() > 100 and not visible[back].any()


def test_what_lies_between_the_lids_is_eye(scene, plain):
    """Where the fit has a lid over it, the lid does not take its colour: it would stay there when the eye turns away."""
    visible, xy = visible_texels(scene.frames, scene.camera, scene.buffer)
    between = visible & _in_eye_openings(scene.photo, xy, 0.4)
    lids = between & (scene.region == Region.EYELIDS)
    assert (between & (scene.region == Region.EYES)).sum() > 10 and lids.sum() > 5
    assert not plain.seen[lids].any()
    assert not between[np.isin(scene.region, [Region.SCALP, Region.EARS, Region.NECK])].any()


def narrow_eye(*, light: bool):
    """An eye of 40 x 40 texels: a blue iris of 0.9, a band of it between the lids, in their shade, perhaps with a light."""
    x, y = np.meshgrid(np.linspace(-2, 2, 40), np.linspace(-2, 2, 40))
    ring = np.hypot(x, y).ravel()
    color = np.where(ring[:, None] < 0.9, [0.2, 0.3, 0.5], [0.5, 0.45, 0.45]).astype(np.float32)
    shown = np.abs(y.ravel()) < 0.6
    color[~shown] = 0.7, 0.4, 0.3  # lids
    spot = (np.hypot(x - 0.5, y) < 0.13).ravel()
    if light:
        color[spot] = 0.7
    return color, shown, ring, spot


@pytest.mark.parametrize('light', [False, True])
def test_an_eye_is_painted_whole(light):
    color, shown, ring, spot = narrow_eye(light=light)
    painted = _eyeball_colors(color, shown, ring, 0.6)
    iris = (ring > 0.5) & (ring < 0.75) & (~spot | (not light))
    np.testing.assert_allclose(painted[iris], np.tile([0.2, 0.3, 0.5], (iris.sum(), 1)), atol=0.03)
    assert painted[(ring < 0.2)].mean() < 0.5 * color[(ring < 0.2) & shown].mean(), 'a pupil, though the picture shows none'
    white = painted[(ring > 1.1) & (ring < 1.3)]
    assert white.mean() > 0.85 * 0.6, 'not as dark as in the shade'
    assert np.ptp(white, 1).max() < 0.1, 'no lid'
    if light:
        assert painted[spot].mean() > color[spot].mean() + 0.05


def test_the_edge_of_an_iris_is_found_where_there_is_contrast():
    color, shown, ring, _ = narrow_eye(light=False)
    assert _limbus(color.mean(1)[shown], ring[shown]) == pytest.approx(0.9, abs=0.05)
    assert _limbus(np.full(shown.sum(), 0.4), ring[shown]) == 0.93
    assert _limbus(np.zeros(0), np.zeros(0)) == 0.93


def test_shut_lids_are_brighter_than_the_lids_of_an_open_eye(scene, plain):
    """The crease's shade does not stay on a shut lid; elsewhere lids play no part."""
    lids = scene.region == Region.EYELIDS
    used = plain.closed_lids.any(-1)
    assert used[lids].mean() > 0.99
    assert plain.closed_lids[lids].mean() > plain.color[lids].mean()
    assert not used[np.isin(scene.region, [Region.EYES, Region.SCALP, Region.EARS, Region.NECK, Region.TEETH])].any()


def test_a_shut_mouth_gets_teeth_and_gums(scene, plain):
    """The astronaut's lips hide most of the teeth: white in front, dark behind."""
    teeth, inner = plain.color[scene.region == Region.TEETH], plain.color[scene.region == Region.MOUTH]
    assert teeth.mean() > inner.mean() + 0.1
    assert (inner[:, 0] > inner[:, 2] - 0.02).mean() > 0.9, 'gums and tongue are red'


def test_one_tooth_ends_where_the_next_begins(head):
    """Teeth that no photo shows: between the two in front it is darker than in the middle of each."""
    layout = UvLayout.build(head, 192)
    points = (head.v_template[layout.table.corners] * layout.table.bary[..., None]).sum(1)
    color, none = np.zeros((len(points), 3), np.float32), np.zeros(len(points), bool)
    _fill_mouth(layout.region, none, points, color, none, 1.0)
    teeth = layout.region == Region.TEETH
    front = teeth & (points[:, 2] > points[teeth, 2].max() - 0.004)
    gap, middle = front & (abs(points[:, 0]) < 0.0008), front & (abs(abs(points[:, 0]) - 0.004) < 0.001)
    assert gap.sum() > 3 and middle.sum() > 3
    assert color[gap].mean() < 0.85 * color[middle].mean()


def test_the_tongue_is_brighter_than_the_throat(scene, plain):
    """The tongue is a part of its own; its tip lies behind the lower teeth and gets light."""
    body, _ = loose_parts(scene.head.faces, len(scene.head.v_template))
    inner = scene.region == Region.MOUTH
    tongue = inner & ~body[scene.table.corners[:, 0]]
    points = (scene.head.v_template[scene.table.corners] * scene.table.bary[..., None]).sum(1)
    tip = tongue & (points[:, 2] > 0.02)
    throat = inner & (points[:, 2] < 0.0)
    assert tip.sum() > 5 and throat.sum() > 5
    assert plain.color[tip].mean() > 2 * plain.color[throat].mean()
    assert (plain.color[tip, 0] > plain.color[tip, 1]).all()


def test_lips_are_no_teeth(scene, plain):
    """A photo whose mouth is all lips: no tooth takes that red."""
    red = np.float32([0.7, 0.25, 0.25])
    rows, cols = np.mgrid[:scene.photo.alpha.shape[0], :scene.photo.alpha.shape[1]]
    xy, _ = project(scene.frames.positions[scene.region == Region.TEETH], scene.camera)
    low, high = xy.min(0) - 4, xy.max(0) + 4
    mouth = (cols > low[0]) & (cols < high[0]) & (rows > low[1]) & (rows < high[1])
    found = unwrapped(scene, replace(scene.photo, color=np.where(mouth[..., None], red, scene.photo.color)))
    teeth = found.color[scene.region == Region.TEETH]
    assert not found.seen[scene.region == Region.TEETH].any()
    assert (np.abs(teeth - red).max(1) > 0.1).all()


def test_mouth_gap(scene):
    from sega_ros.types import Landmarks

    points = scene.photo.landmarks.points.copy()
    width = np.ptp(points[:468, 0])
    points[13, :2], points[14, :2] = (200, 300), (200, 300 + 0.1 * width)
    assert mouth_gap(Landmarks(points, 1.0, 512, 512)) == pytest.approx(0.1, abs=1e-4)


def test_skin_beyond_the_matte_moves_inwards(scene):
    """Where the matte is narrower than the mesh, skin moves in; where it is not, nothing moves."""
    def moved(alpha):
        return tuck_in(scene.head, scene.table, scene.region, scene.frames, replace(scene.photo, alpha=alpha),
                       scene.camera)

    everything = moved(np.ones_like(scene.photo.alpha))
    assert everything.shape == (len(scene.table),) and not everything.any()
    narrow = scene.photo.alpha.copy()
    xy, _ = project(scene.frames.positions, scene.camera)
    face = scene.region == Region.FACE
    cut = xy[face, 0].min() + 12  # pixels off the subject's right cheek
    narrow[:, :int(cut)] = 0
    found = moved(narrow)
    beyond = face & (xy[:, 0] < cut - 4)
    far = face & (xy[:, 0] > np.median(xy[face, 0]))
    assert beyond.sum() > 5 and np.median(found[beyond]) > 0.001 and found.max() <= 0.0121
    assert np.median(found[far]) < 0.2 * np.median(found[beyond])
    assert not found[np.isin(scene.region, [Region.EYES, Region.MOUTH, Region.TEETH, Region.SCALP])].any()

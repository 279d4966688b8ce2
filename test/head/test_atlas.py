from dataclasses import replace

import numpy as np
import pytest

from sega_ros.errors import RequestError
from sega_ros.head.atlas import build_atlas, texel_head
from sega_ros.types import DYNAMIC_REGIONS, Region


@pytest.fixture(scope='module')
def atlas(head):
    return build_atlas(head, 192)


def test_face_and_lids_hold_most_of_the_area(atlas):
    counts, total = atlas.counts(), int(atlas.valid.sum())
    assert sum(counts.values()) == total
    assert total > 0.6 * atlas.valid.size
    assert (counts[Region.FACE] + counts[Region.EYELIDS]) / total >= 0.6
    assert min(counts.values()) > 250  # no region starves at 192


def test_no_two_triangles_share_a_texel(head):
    """Area of all triangles equals the area they cover, counted on a fine grid."""
    size = 1024
    a, b, c = (head.uvs[head.uv_faces[:, k]].astype(np.float64) * size for k in range(3))
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (area < 0).all()  # v points down: counter-clockwise triangles turn clockwise; none is turned over
    covered = build_atlas(head, size).valid.sum()
    assert covered == pytest.approx(-area.sum(), rel=2e-3)  # texels cut by a border count whole or not at all


def test_charts_stay_inside_and_apart(head):
    assert head.uvs.min() > 0 and head.uvs.max() < 1


def test_texels_are_square_on_the_face(head):
    """Stretch of each face triangle: the ratio of the two singular values of the surface-to-UV map."""
    face = np.isin(head.face_region, [Region.FACE, Region.EYELIDS])
    a, b, c = (head.v_template[head.faces[face, k]].astype(np.float64) for k in range(3))
    x = np.linalg.norm(b - a, axis=1)
    along = ((c - a) * (b - a)).sum(1) / x
    height = np.sqrt(np.maximum(((c - a) ** 2).sum(1) - along**2, 1e-12))
    edges = np.zeros((len(x), 2, 2))
    edges[:, 0, 0], edges[:, 0, 1], edges[:, 1, 1] = x, along, height
    p, q, r = (head.uvs[head.uv_faces[face, k]].astype(np.float64) for k in range(3))
    sigma = np.linalg.svd(np.stack([q - p, r - p], 2) @ np.linalg.inv(edges), compute_uv=False)
    weight = x * height
    stretch = sigma[:, 0] / sigma[:, 1]
    assert np.average(stretch, weights=weight) < 1.75  # 1 is square; changes of density cost the rest


def test_texels_lie_where_their_coordinates_say(head, atlas):
    uv = np.einsum('hwk,hwkc->hwc', atlas.bary, head.uvs[head.uv_faces[np.maximum(atlas.face, 0)]])
    rows, columns = np.nonzero(atlas.valid)
    np.testing.assert_allclose(uv[rows, columns] * 192, np.stack([columns, rows], 1) + 0.5, atol=1e-2)
    np.testing.assert_array_equal(atlas.region[atlas.valid], head.face_region[atlas.face[atlas.valid]])
    assert (atlas.region[~atlas.valid] == Region.NONE).all()


def test_dynamic_mask_is_face_mouth_and_eyes(atlas):
    np.testing.assert_array_equal(atlas.dynamic, np.isin(atlas.region, DYNAMIC_REGIONS) & atlas.valid)


def test_position_map_lies_on_the_head(head, atlas):
    points = atlas.points(head.v_template, head.faces)
    assert points.shape == (192, 192, 3)
    on = points[atlas.valid]
    assert (on >= head.v_template.min(0) - 1e-6).all() and (on <= head.v_template.max(0) + 1e-6).all()


def test_left_and_right_share_the_atlas_evenly(head):
    atlas = build_atlas(head, 256)
    points = atlas.points(head.v_template, head.faces)
    face = atlas.valid & np.isin(atlas.region, [Region.FACE, Region.EYELIDS])
    left, right = (points[face, 0] > 0).sum(), (points[face, 0] < 0).sum()
    assert left == pytest.approx(right, rel=0.01)


def test_atlas_is_cached_and_sized_height_first(head):
    atlas = build_atlas(head, (64, 96))
    assert atlas.size == (64, 96) and build_atlas(head, (64, 96)) is atlas
    with pytest.raises(ValueError, match='read-only'):
        atlas.face[0, 0] = 1


def test_silly_sizes_are_refused(head):
    with pytest.raises(RequestError, match=r'wanted 8 to 8192 texels, found 4x4'):
        build_atlas(head, 4)


def iris(head, atlas):
    """Texels of an atlas within 21 degrees of a pupil."""
    points, eyes = atlas.points(head.v_template, head.faces), atlas.region == Region.EYES
    found = 0
    for centre in (head.J_regressor @ head.v_template)[3:5]:
        ball = points[eyes & (points[..., 0] * centre[0] > 0)] - centre
        found += (ball[:, 2] > np.cos(np.radians(21)) * np.linalg.norm(ball, axis=1)).sum()
    return found


def test_texels_come_together_on_irises(head, atlas):
    own = texel_head(head)
    eyes = np.unique(head.uv_faces[head.face_region == Region.EYES])
    rest = np.setdiff1d(np.arange(len(head.uvs)), eyes)
    np.testing.assert_array_equal(own.uvs[rest], head.uvs[rest])
    spread = build_atlas(own, 192)
    assert spread is not atlas
    assert iris(head, spread) > 4 * iris(head, atlas)
    counts = [(a.region == Region.EYES).sum() for a in (spread, atlas)]
    assert abs(counts[0] - counts[1]) < 0.02 * counts[1]

    def areas(uvs):
        a, b, c = np.moveaxis(uvs[head.uv_faces[head.face_region == Region.EYES]].astype(np.float64), 1, 0)
        return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]

    assert (areas(own.uvs) * areas(head.uvs) > 0).all(), 'no triangle turns over'


def test_eyes_that_are_no_discs_stay(head):
    eyes = np.unique(head.uv_faces[head.face_region == Region.EYES])
    uvs = head.uvs.copy()
    uvs[eyes] = np.random.default_rng(0).random((len(eyes), 2))
    other = replace(head, uvs=uvs, version='shuffled')
    np.testing.assert_array_equal(texel_head(other).uvs, uvs)

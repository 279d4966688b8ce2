"""Filling colours over the surface: harmonic spreading and symmetry."""

import numpy as np
import pytest

from sega_ros.avatar.surface_fill import SurfaceFill, fill_by_symmetry, mirror_index
from sega_ros.head.atlas import build_atlas
from sega_ros.types import Region


class Patch:
    """Texels of the face, ears and neck, and the fill over them."""

    def __init__(self, head):
        atlas = build_atlas(head, 64)
        kinds = [Region.FACE, Region.EARS, Region.NECK]
        rows, cols = np.nonzero(np.isin(atlas.region, kinds))
        self.corners = head.faces[atlas.face[rows, cols]]
        self.bary = atlas.bary[rows, cols]
        self.points = (head.v_template[self.corners] * self.bary[..., None]).sum(1)
        self.fill = SurfaceFill(head, np.isin(head.face_region, kinds), self.corners, self.bary)
        self.mirror = mirror_index(self.points)


@pytest.fixture(scope='module')
def patch(head):
    return Patch(head)


def test_a_constant_spreads_as_itself(patch):
    known = patch.points[:, 0] > 0.03
    values = np.where(known[:, None], np.float32([0.7, 0.2, 0.4]), 9).astype(np.float32)
    found = patch.fill(values, known)
    assert found.shape == values.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, np.broadcast_to([0.7, 0.2, 0.4], found.shape), atol=1e-4)


def test_known_values_are_kept_and_no_value_is_invented(patch):
    """A harmonic function has its extremes where it is given, and follows what it is given."""
    known = np.random.default_rng(0).random(len(patch.points)) < 0.5
    smooth = (patch.points[:, 1:2] - patch.points[:, 1].min()) / np.ptp(patch.points[:, 1])
    found = patch.fill(smooth.astype(np.float32), known)
    assert np.abs(found - smooth)[known].mean() < 0.01
    assert np.abs(found - smooth)[~known].mean() < 0.02
    assert found.min() > -0.02 and found.max() < 1.02


def test_it_is_linear(patch):
    rng = np.random.default_rng(1)
    known = patch.points[:, 1] > 0
    a, b = rng.random((2, len(known), 2)).astype(np.float64)
    np.testing.assert_allclose(patch.fill(2 * a - b, known), 2 * patch.fill(a, known) - patch.fill(b, known), atol=1e-8)


def test_unknown_values_play_no_part(patch):
    known = patch.points[:, 0] > 0
    values = np.random.default_rng(2).random((len(known), 3)).astype(np.float32)
    other = np.where(known[:, None], values, 7).astype(np.float32)
    np.testing.assert_array_equal(patch.fill(values, known), patch.fill(other, known))


def test_nothing_known_gives_zeros(patch):
    found = patch.fill(np.ones((len(patch.points), 3), np.float32), np.zeros(len(patch.points), bool))
    assert found.shape == (len(patch.points), 3) and not found.any()


def test_mirror_is_the_other_side(patch):
    twice = patch.points[patch.mirror] * [-1, 1, 1]
    # The atlas samples both sides at places of their own: a texel's width is what they may miss each other by.
    assert np.median(np.linalg.norm(twice - patch.points, axis=1)) < 0.002
    assert np.linalg.norm(twice - patch.points, axis=1).max() < 0.02
    np.testing.assert_array_equal(mirror_index(np.float32([[1, 2, 3], [-1, 2, 3], [0, 5, 0]])), [1, 0, 2])


def test_symmetry_copies_details(patch):
    """A pattern on one side appears mirrored on the other; what was known stays to the last bit."""
    pattern = (0.5 + 0.3 * np.sin(300 * patch.points[:, 1:2]) * np.ones(3)).astype(np.float32)
    known = patch.points[:, 0] > -0.01
    found = fill_by_symmetry(np.where(known[:, None], pattern, 0).astype(np.float32), known, patch.mirror, patch.fill)
    np.testing.assert_array_equal(found[known], pattern[known])
    copied = ~known & known[patch.mirror]
    assert copied.sum() > 100
    assert np.abs(found - pattern)[copied].mean() < 0.05, 'the pattern depends on height alone: its own mirror image'


def test_the_lights_side_is_kept(patch):
    """One side lies in shade: what is filled there is shaded too."""
    shade = np.where(patch.points[:, :1] < 0, 0.5, 0.6) * np.ones(3)
    known = ~((patch.points[:, 0] < 0) & (np.abs(patch.points[:, 1]) < 0.03))
    found = fill_by_symmetry(np.where(known[:, None], shade, 0).astype(np.float32), known, patch.mirror, patch.fill)
    inner = ~known & known[patch.mirror]
    assert inner.sum() > 30
    assert np.median(found[inner]) == pytest.approx(0.5, abs=0.02), 'not 0.6, as on the lit side'


@pytest.mark.parametrize('known', ['none', 'all'])
def test_extremes(patch, known):
    values = np.full((len(patch.points), 3), 0.4, np.float32)
    mask = np.full(len(patch.points), known == 'all')
    found = fill_by_symmetry(values, mask, patch.mirror, patch.fill)
    np.testing.assert_array_equal(found, values if known == 'all' else np.zeros_like(values))

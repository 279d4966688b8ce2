"""Where on the networks' maps the texels are: on their grid, but for the eyeballs, which the texels lay out in their own way."""

import numpy as np

from sega_ros.head.atlas import build_atlas
from sega_ros.types import Region


def places_in_space(layout):
    table = layout.table
    return (layout.head.v_template[table.corners] * table.bary[..., None]).sum(1)


def test_texels_are_on_the_grid_but_for_the_eyeballs(layout):
    eyes = layout.region == Region.EYES
    at = (layout.xy.numpy() + 1) / 2 * layout.size - 0.5
    grid = np.stack([layout.table.cols, layout.table.rows], -1)
    np.testing.assert_allclose(at[~eyes], grid[~eyes], atol=1e-3)
    assert np.abs(at[eyes] - grid[eyes]).max() > 3


def test_the_networks_see_eyes_where_they_know_them(layout):
    """Maps of positions: each eye's texel shows in the networks' coordinates what lies there on the head."""
    atlas = build_atlas(layout.head, layout.size)
    points = places_in_space(layout)
    maps = layout.network_maps(points).transpose(1, 2, 0)
    wanted = atlas.points(layout.head.v_template, layout.head.faces)
    eyes = atlas.region == Region.EYES
    ball = wanted[..., 2] > np.quantile(wanted[eyes][:, 2], 0.6)  # the front
    assert np.linalg.norm(maps - wanted, axis=-1)[eyes & ball].max() < 0.003
    used = np.zeros(atlas.size, bool)
    used[layout.table.rows, layout.table.cols] = True
    rest = used & atlas.valid & ~eyes
    np.testing.assert_allclose(maps[rest], wanted[rest], atol=1e-6)
    assert not maps[~atlas.valid].any()

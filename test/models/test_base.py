"""How far the networks may go: bounds of their corrections."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sega_ros.models.base import added, corrected_shell, forms_only, held_texels, moved_only, reshaped
from sega_ros.models.closing import roughness
from sega_ros.models.uv import UvLayout
from sega_ros.types import GaussianMap, Region, Shell, Splats

GEOMETRY = ('offset', 'rotation', 'log_scale', 'opacity')


@pytest.fixture(scope='module')
def layout(head):
    return UvLayout.build(head)


def changes(count: int) -> GaussianMap:
    return GaussianMap(*(torch.full((count, *n), 0.001) for n in ((3,), (4,), (3,), (), (3,))))


def test_the_scalp_keeps_the_form_of_the_mesh_and_takes_colours(layout):
    held = held_texels(changes(len(layout.region)), torch.zeros(len(layout.region)), layout)
    scalp, face = (torch.from_numpy(layout.region == r) for r in (Region.SCALP, Region.FACE))
    assert scalp.any() and face.any()
    for name in GEOMETRY:
        assert not getattr(held, name)[scalp].any()
        assert getattr(held, name)[face].all()
    assert held.color[scalp].all()


def test_eyeballs_move_and_keep_their_looks(layout):
    change = changes(len(layout.region))
    looks = torch.from_numpy(reshaped(layout.region))
    found = moved_only(change, layout)
    eyes = torch.from_numpy(layout.region == Region.EYES)
    assert eyes.any() and torch.equal(eyes, ~looks)
    assert torch.equal(found.offset, change.offset)
    for name in (*GEOMETRY[1:], 'color'):
        assert not getattr(found, name)[eyes].any()
        assert torch.equal(getattr(found, name)[~eyes], getattr(change, name)[~eyes])
    whole = added(found, forms_only(change, layout))
    assert all(torch.equal(getattr(whole, name), getattr(change, name)) for name in GEOMETRY)
    assert torch.equal(whole.color, found.color)


def hair(count: int, bust: int) -> SimpleNamespace:
    """A square of hair of 10 cm, facing the photo's camera edge on, and a bust in the same place."""
    rng = np.random.default_rng(0)
    means = torch.from_numpy(np.c_[rng.uniform(-0.05, 0.05, (count + bust, 2)), np.zeros(count + bust)].astype(np.float32))
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(count + bust, 1)
    scales, opacities, colors = (torch.full((count + bust, *n), v) for n, v in (((3,), 0.002), ((), 0.9), ((3,), 0.5)))
    splats = Splats(means, quats, scales, opacities, colors)
    torso = np.r_[np.zeros(count), np.ones(bust)].astype(np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (count + bust, 1))
    shell = Shell(splats, normals, np.zeros((count + bust, 2), np.float32), torso)
    return SimpleNamespace(shell=shell, shell_cosine=np.zeros(count + bust), eye=np.float32([1, 0, 0]))


def test_hair_moves_together_and_the_bust_not_at_all():
    base = hair(2000, 200)
    raw = torch.zeros(2200, 6)
    raw[:, 0] = torch.from_numpy(np.random.default_rng(1).normal(size=2200).astype(np.float32))
    moved = (corrected_shell(base, raw).splats.means - base.shell.splats.means)[:, 2]
    assert not moved[2000:].any()
    alone = 0.018 * torch.tanh(raw[:2000, 0] * 0.01 / 0.018)
    assert 0 < moved[:2000].std() < 0.4 * alone.std()
    raw[:2000, 0], raw[2000:, 0] = 0.5, -50  # what the bust says does not count
    moved = (corrected_shell(base, raw).splats.means - base.shell.splats.means)[:2000, 2]
    np.testing.assert_allclose(moved, 0.018 * np.tanh(0.5 * 0.01 / 0.018), rtol=1e-4)


@pytest.mark.parametrize('count', [0, 1])
def test_people_with_hardly_any_hair(count):
    base = hair(count, 0)
    assert len(corrected_shell(base, torch.ones(count, 6)).splats.means) == count


def test_roughness_is_of_neighbours_not_of_shifts(layout):
    count = len(layout.region)
    assert float(roughness(torch.full((count, 3), 0.002), layout)) < 1e-6
    ripples = torch.zeros(count, 3)
    ripples[:, 2] = 0.001 * torch.from_numpy((layout.table.rows % 2).astype(np.float32))
    assert float(roughness(ripples, layout)) > 0.1
    assert float(roughness(0.1 * ripples, layout)) < 0.01 * float(roughness(ripples, layout))

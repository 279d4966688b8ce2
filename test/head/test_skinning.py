import dataclasses

import numpy as np
import pytest
import torch

from sega_ros.errors import RequestError
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.flame import export_flame
from sega_ros.head.skinning import HeadTensors, Poser, pose_mesh, skin
from sega_ros.types import FlameParams


def random_params(head, seed=0, eyelids=(0.3, 0.8)) -> FlameParams:
    rng = np.random.default_rng(seed)
    poses = {f'{n}_pose': rng.normal(0, 0.2, 3).astype(np.float32) for n in ('neck', 'jaw', 'left_eye', 'right_eye')}
    return FlameParams(rng.normal(size=head.n_shape).astype(np.float32),
                       rng.uniform(-0.2, 1, head.n_expression).astype(np.float32),
                       **poses, eyelids=np.array(eyelids, np.float32))


def to_tensors(params: FlameParams, dtype=torch.float32) -> dict[str, torch.Tensor]:
    return {f.name: torch.as_tensor(getattr(params, f.name)).to(dtype)[None] for f in dataclasses.fields(params)}


@pytest.fixture(scope='module')
def tensors(head):
    return HeadTensors.from_head(head)


@pytest.mark.parametrize('seed', range(3))
def test_fast_path_equals_torch(head, tensors, seed):
    params = random_params(head, seed)
    offset = np.random.default_rng(seed).normal(0, 1e-3, head.v_template.shape).astype(np.float32)
    by_torch = skin(tensors, **to_tensors(params), v_offset=torch.as_tensor(offset))[0].numpy()
    np.testing.assert_allclose(pose_mesh(head, params, v_offset=offset), by_torch, atol=2e-6)


@pytest.mark.parametrize('seed', range(2))
def test_equals_smplx(head, tmp_path_factory, seed):
    smplx = pytest.importorskip('smplx', reason="the independent answer; pip install 'sega_ros[flame]'")
    folder = tmp_path_factory.mktemp('flame')
    export_flame(head, folder)
    params = to_tensors(random_params(head, seed, eyelids=(0, 0)))
    padded = {k: torch.cat([params[k], torch.zeros(1, n - params[k].shape[1])], 1)
              for k, n in (('shape', 300), ('expression', 100))}
    model = smplx.FLAME(str(folder), num_betas=300, num_expression_coeffs=100)
    theirs = model(betas=padded['shape'], expression=padded['expression'], neck_pose=params['neck_pose'],
                   jaw_pose=params['jaw_pose'], leye_pose=params['left_eye_pose'], reye_pose=params['right_eye_pose'],
                   global_orient=torch.zeros(1, 3), transl=torch.zeros(1, 3)).vertices
    ours = skin(HeadTensors.from_head(head), **params)
    np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-5)


def test_neutral_is_the_template(head):
    posed = pose_mesh(head, FlameParams.neutral(head.n_shape, head.n_expression))
    np.testing.assert_allclose(posed, head.v_template, atol=1e-7)


def test_a_poser_is_reusable_and_leaves_its_rest_alone(head):
    params = random_params(head)
    poser = Poser(head, params.shape)
    rest = poser.rest.copy()
    first = poser.pose(params)
    poser.pose(random_params(head, 5))
    np.testing.assert_array_equal(poser.pose(params), first)
    np.testing.assert_array_equal(poser.rest, rest)


def test_the_posed_head_can_be_turned_into_a_buffer(head):
    params, pivot = random_params(head, 4), np.array([0.01, -0.1, 0.02])
    turn = rotvec_to_rotmat(np.array([0.3, -0.5, 0.2]))
    poser, buffer = Poser(head, params.shape), np.empty_like(head.v_template)
    wanted = (poser.pose(params) - pivot) @ turn.T + pivot
    assert poser.pose(params, turn=turn, pivot=pivot, out=buffer) is buffer
    np.testing.assert_allclose(buffer, wanted, atol=1e-6)


def test_missing_coefficients_count_as_zero(head):
    few = FlameParams(np.ones(3, np.float32), np.ones(2, np.float32))
    shape, expression = np.zeros(head.n_shape, np.float32), np.zeros(head.n_expression, np.float32)
    shape[:3], expression[:2] = 1, 1
    np.testing.assert_array_equal(pose_mesh(head, few), pose_mesh(head, FlameParams(shape, expression)))


def test_gradient_is_right_and_finite_at_rest(head):
    """Central differences in float64 along random directions; at the zero pose, where Rodrigues is singular."""
    tensors = HeadTensors.from_head(head, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    probe = torch.randn(1, *head.v_template.shape, generator=rng, dtype=torch.float64)
    inputs = {k: torch.zeros(1, n, dtype=torch.float64, requires_grad=True)
              for k, n in (('shape', 8), ('expression', 8), ('neck_pose', 3), ('jaw_pose', 3), ('left_eye_pose', 3),
                           ('right_eye_pose', 3), ('eyelids', 2))}
    (skin(tensors, **inputs) * probe).sum().backward()
    for name, value in inputs.items():
        direction = torch.randn(value.shape, generator=rng, dtype=torch.float64)
        shifted = [{**inputs, name: value.detach() + s * 1e-5 * direction} for s in (1, -1)]
        ends = [(skin(tensors, **each) * probe).sum() for each in shifted]
        slope = (ends[0] - ends[1]).item() / 2e-5
        assert slope == pytest.approx((value.grad * direction).sum().item(), rel=1e-5, abs=1e-7), name


def test_a_batch_is_its_rows(head, tensors):
    rows = [to_tensors(random_params(head, seed)) for seed in range(2)]
    batch = skin(tensors, **{k: torch.cat([r[k] for r in rows]) for k in rows[0]})
    for k, row in enumerate(rows):
        np.testing.assert_allclose(batch[k], skin(tensors, **row)[0], atol=1e-6)


def test_eyes_turn_about_their_centres(head):
    params = FlameParams(np.zeros(0), np.zeros(0), left_eye_pose=np.array([0.1, 0.3, 0], np.float32))
    moved = pose_mesh(head, params) - head.v_template
    eye = head.weights[:, 3] > 0.5
    centre = (head.J_regressor @ head.v_template)[3]
    radius = np.linalg.norm(head.v_template[eye] - centre, axis=1)
    turned = np.linalg.norm((head.v_template + moved)[eye] - centre, axis=1)
    np.testing.assert_allclose(turned, radius, atol=1e-6)
    assert np.abs(moved[eye]).max() > 2e-3 and np.abs(moved[~eye]).max() < 1e-6


def test_too_many_coefficients_are_refused(head, tensors):
    with pytest.raises(RequestError, match='expression: the head has 39 coefficients, found 60'):
        pose_mesh(head, FlameParams(np.zeros(0), np.ones(60)))
    arguments = to_tensors(FlameParams(np.zeros(400, np.float32), np.zeros(1, np.float32)))
    with pytest.raises(RequestError, match='shape: the head has 80 coefficients, found 400'):
        skin(tensors, **arguments)
    three_lids = FlameParams(np.zeros(1, np.float32), np.zeros(1, np.float32), eyelids=np.zeros(3, np.float32))
    arguments = to_tensors(three_lids)
    with pytest.raises(RequestError, match=r'eyelids: wanted shape \[1, 2\]'):
        skin(tensors, **arguments)

"""Poses a head: shape and expression offsets, lids, pose correctives, linear blend skinning.

Two implementations of one definition (smplx.lbs, which a test compares with): NumPy for the running driver, batched
torch for fitting and training. Sources: Li et al., "Learning a model of facial shape and expression from 4D scans",
2017; Loper et al., "SMPL", 2015.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.model import HeadModel
from sega_ros.types import FlameParams, check_shape


def pose_mesh(head: HeadModel, params: FlameParams, *, v_offset: np.ndarray | None = None) -> np.ndarray:
    """Vertices [V, 3] float32, metres, head frame.

    Args:
        params: `shape` and `expression` may be shorter than the head's (the rest is zero).
        v_offset: [V, 3] metres added to the template (personal geometry).

    Raises:
        RequestError: more coefficients than the head has, or a wrong shape.
    """
    return Poser(head, params.shape, v_offset=v_offset).pose(params)


class Poser:
    """Poses one identity again and again: what depends on the shape alone is computed once.

    Per frame only active expression columns and the vertices that they move are touched.
    """

    def __init__(self, head: HeadModel, shape: np.ndarray, *, v_offset: np.ndarray | None = None):
        """`shape` [<= S]; `v_offset` [V, 3] metres or None."""
        shape = _padded('shape', shape, head.n_shape)
        rest = head.v_template if v_offset is None else head.v_template + v_offset
        if v_offset is not None:
            check_shape('v_offset', v_offset, head.v_template.shape)
        active = np.flatnonzero(shape)
        if len(active):
            rest = rest + head.shapedirs[:, :, active] @ shape[active]
        self.rest = np.ascontiguousarray(rest, np.float32)  # [V, 3]
        self._head = head
        cached = _columns(head)
        self._moving, self._columns, self._regressor_columns = cached.moving, cached.columns, cached.regressor
        self._lid_vertices, self._lids = cached.lid_vertices, cached.lids
        self._posedirs = cached.posedirs
        self._joints = head.J_regressor @ self.rest  # [5, 3]

    def pose(self, params: FlameParams) -> np.ndarray:
        """Vertices [V, 3] float32 for expression, joints and lids of `params` (its shape is ignored)."""
        head = self._head
        vertices, joints = self.rest.copy(), self._joints.copy()
        expression = _padded('expression', params.expression, head.n_expression)
        active = np.flatnonzero(expression)
        if len(active):
            coefficients = expression[active]
            moved = coefficients @ (self._columns if len(active) == len(expression) else self._columns[active])
            vertices[self._moving] += moved.reshape(-1, 3)
            joints += (coefficients @ self._regressor_columns[active]).reshape(5, 3)
        closure = np.asarray(params.eyelids, np.float32)
        if closure.any():
            amounts = np.array([closure[0], closure[1], *(4 * closure * (1 - closure))], np.float32)
            vertices[self._lid_vertices] += (amounts @ self._lids).reshape(-1, 3)
        rotvecs = [np.zeros(3, np.float32), params.neck_pose, params.jaw_pose, params.left_eye_pose, params.right_eye_pose]
        rotations = rotvec_to_rotmat(np.asarray(rotvecs, np.float32))  # [5, 3, 3]
        if self._posedirs is not None:
            feature = (rotations[1:] - np.eye(3, dtype=np.float32)).ravel()
            vertices += (feature @ self._posedirs).reshape(-1, 3)
        return _blend(vertices, head.weights, _world_transforms(rotations, joints, head.parents))


def _blend(vertices, weights, transforms) -> np.ndarray:
    """Linear blend skinning as one matrix product per vertex with the blended [3, 4] transform."""
    blended = weights @ transforms.reshape(5, 12)  # [V, 12]
    rotation = blended.reshape(-1, 3, 4)
    return np.einsum('vij,vj->vi', rotation[:, :, :3], vertices) + rotation[:, :, 3]


def _world_transforms(rotations, joints, parents) -> np.ndarray:
    """Transforms [5, 3, 4] from the rest pose to the posed one."""
    world = np.zeros((5, 4, 4), np.float32)
    for j, parent in enumerate(parents):
        local = np.eye(4, dtype=np.float32)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        world[j] = local if parent < 0 else world[parent] @ local
    world[:, :3, 3] -= np.einsum('jab,jb->ja', world[:, :3, :3], joints)
    return world[:, :3]


def _padded(name: str, values, length: int) -> np.ndarray:
    from sega_ros.errors import RequestError

    values = np.asarray(values, np.float32).ravel()
    if len(values) > length:
        raise RequestError(f'{name}: the head has {length} coefficients, found {len(values)}')
    return values if len(values) == length else np.concatenate([values, np.zeros(length - len(values), np.float32)])


@dataclass(frozen=True)
class _Columns:
    """A head's arrays in the order the fast path reads them."""

    moving: np.ndarray  # vertices that any expression moves
    columns: np.ndarray  # [E, 3 moving]
    regressor: np.ndarray  # [E, 15] joints per expression
    lid_vertices: np.ndarray
    lids: np.ndarray  # [4, 3 lid vertices] closed left, right, arc left, right
    posedirs: np.ndarray | None  # [36, 3V]


_COLUMNS: dict[int, tuple[HeadModel, _Columns]] = {}  # the latest few heads, by identity


def _columns(head: HeadModel) -> _Columns:
    found = _COLUMNS.get(id(head))
    if found is not None and found[0] is head:
        return found[1]
    moving = np.flatnonzero(np.abs(head.exprdirs).max((1, 2), initial=0) > 0)
    columns = np.ascontiguousarray(head.exprdirs[moving].reshape(3 * len(moving), -1).T)
    lids = np.concatenate([head.eyelid_dirs, head.eyelid_arc])  # [4, V, 3]
    lid_vertices = np.flatnonzero(np.abs(lids).max((0, 2)) > 0)
    regressor = np.einsum('jv,vce->ejc', head.J_regressor, head.exprdirs, optimize=True).reshape(head.n_expression, 15)
    posedirs = np.ascontiguousarray(head.posedirs.reshape(-1, head.posedirs.shape[2]).T) if head.posedirs.shape[2] else None
    if len(_COLUMNS) >= 4:
        _COLUMNS.clear()
    _COLUMNS[id(head)] = (head, _Columns(
        moving, columns, regressor.astype(np.float32), lid_vertices, lids[:, lid_vertices].reshape(4, -1), posedirs))
    return _COLUMNS[id(head)][1]


@dataclass(frozen=True)
class HeadTensors:
    """A head model's arrays as torch tensors, for `skin`."""

    v_template: Tensor  # [V, 3]
    shapedirs: Tensor  # [V, 3, S]
    exprdirs: Tensor  # [V, 3, E]
    posedirs: Tensor  # [V, 3, 36 or 0]
    J_regressor: Tensor  # [5, V]
    weights: Tensor  # [V, 5]
    eyelid_dirs: Tensor  # [2, V, 3]
    eyelid_arc: Tensor  # [2, V, 3]
    parents: tuple[int, ...]

    @classmethod
    def from_head(cls, head: HeadModel, *, device='cpu', dtype=torch.float32) -> 'HeadTensors':
        """Copy a head model to a device."""
        names = ('v_template', 'shapedirs', 'exprdirs', 'posedirs', 'J_regressor', 'weights', 'eyelid_dirs', 'eyelid_arc')
        arrays = {n: torch.as_tensor(getattr(head, n)).to(device=device, dtype=dtype) for n in names}
        return cls(**arrays, parents=tuple(int(p) for p in head.parents))


def skin(
    head: HeadTensors, shape: Tensor, expression: Tensor, neck_pose: Tensor, jaw_pose: Tensor, left_eye_pose: Tensor,
    right_eye_pose: Tensor, eyelids: Tensor, *, v_offset: Tensor | None = None,
) -> Tensor:
    """Batched, differentiable vertices [B, V, 3] in metres.

    Args:
        shape: [B, s], s <= S; expression: [B, e], e <= E: missing coefficients are zero.
        neck_pose, jaw_pose, left_eye_pose, right_eye_pose: [B, 3] axis-angle, radians.
        eyelids: [B, 2] closure of left and right lid, 0 open to 1 closed.
        v_offset: [V, 3] or [B, V, 3] metres added to the template.

    Raises:
        RequestError: wrong shapes, or more coefficients than the head has.
    """
    batch = shape.shape[0]
    for name, value, width in (('neck_pose', neck_pose, 3), ('jaw_pose', jaw_pose, 3), ('left_eye_pose', left_eye_pose, 3),
                               ('right_eye_pose', right_eye_pose, 3), ('eyelids', eyelids, 2)):
        check_shape(name, value, (batch, width))
    check_shape('expression', expression, (batch, None))
    vertices = head.v_template + _offsets('shape', head.shapedirs, shape) + _offsets('expression', head.exprdirs, expression)
    if v_offset is not None:
        vertices = vertices + v_offset
    joints = torch.einsum('jv,bvc->bjc', head.J_regressor, vertices)
    vertices = vertices + torch.einsum('bl,lvc->bvc', eyelids, head.eyelid_dirs)
    vertices = vertices + torch.einsum('bl,lvc->bvc', 4 * eyelids * (1 - eyelids), head.eyelid_arc)
    poses = torch.stack([torch.zeros_like(neck_pose), neck_pose, jaw_pose, left_eye_pose, right_eye_pose], 1)
    rotations = rotvec_to_rotmat(poses)  # [B, 5, 3, 3]
    if head.posedirs.shape[2]:
        eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        vertices = vertices + torch.einsum('bk,vck->bvc', (rotations[:, 1:] - eye).flatten(1), head.posedirs)
    rotation, translation = _chain(rotations, joints, head.parents)
    rotation = torch.einsum('vj,bjxy->bvxy', head.weights, rotation)
    return torch.einsum('bvxy,bvy->bvx', rotation, vertices) + torch.einsum('vj,bjx->bvx', head.weights, translation)


def _offsets(name: str, dirs: Tensor, coefficients: Tensor) -> Tensor:
    from sega_ros.errors import RequestError

    count = coefficients.shape[1]
    if count > dirs.shape[2]:
        raise RequestError(f'{name}: the head has {dirs.shape[2]} coefficients, found {count}')
    return (coefficients @ dirs[:, :, :count].reshape(-1, count).T).reshape(len(coefficients), -1, 3)


def _chain(rotations: Tensor, joints: Tensor, parents) -> tuple[Tensor, Tensor]:
    """Rotations [B, 5, 3, 3] and translations [B, 5, 3] from the rest pose to the posed one."""
    turns, places = [rotations[:, 0]], [joints[:, 0]]
    for j, parent in enumerate(parents[1:], 1):
        turns.append(turns[parent] @ rotations[:, j])
        places.append(places[parent] + (turns[parent] @ (joints[:, j] - joints[:, parent])[..., None])[..., 0])
    turn, place = torch.stack(turns, 1), torch.stack(places, 1)
    return turn, place - (turn @ joints[..., None])[..., 0]

"""Poses a head: shape and expression offsets, lids, pose correctives, linear blend skinning.

Two implementations of one definition (smplx.lbs, which a test compares with): NumPy for the running driver, batched
torch for fitting and training. Sources: Li et al., "Learning a model of facial shape and expression from 4D scans",
2017; Loper et al., "SMPL", 2015.
"""

from dataclasses import dataclass
from functools import lru_cache

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

    Per frame only the expression units that move a vertex are touched there.
    """

    def __init__(self, head: HeadModel, shape: np.ndarray, *, v_offset: np.ndarray | None = None):
        """`shape` [<= S]; `v_offset` [V, 3] metres or None."""
        shape = _padded('shape', shape, head.n_shape)
        if v_offset is not None:
            check_shape('v_offset', v_offset, head.v_template.shape)
        rest = head.v_template if v_offset is None else head.v_template + v_offset
        active = np.flatnonzero(shape)
        if len(active):
            rest = rest + head.shapedirs[:, :, active] @ shape[active]
        self.rest = np.ascontiguousarray(rest, np.float32)  # [V, 3]
        self._head = head
        self._columns = cached = _columns(head)
        lids = np.concatenate([head.personal_eyelid_dirs(self.rest), head.eyelid_arc])  # [4, V, 3]
        self._lids = np.ascontiguousarray(lids[:, cached.lid_vertices].transpose(1, 0, 2), np.float32)
        self._joints = np.ascontiguousarray(head.J_regressor @ self.rest, np.float32)  # [5, 3]

    def pose(
        self, params: FlameParams, *, turn: np.ndarray | None = None, pivot: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Vertices [V, 3] float32 for expression, joints and lids of `params` (its shape is ignored).

        Args:
            params: one frame.
            turn: rotation [3, 3] of the posed head about `pivot` [3] (head frame); None leaves it.
            pivot: needed with `turn`.
            out: float32 [V, 3] to write to.
        """
        columns, vertices = self._columns, np.empty_like(self.rest) if out is None else out
        _kernels().pose_vertices(self.rest, columns.starts, columns.columns, columns.moves,
                                 *self.numbers(params, turn=turn, pivot=pivot), columns.lid_slot, self._lids, columns.weights,
                                 vertices)
        return vertices

    def numbers(
        self, params: FlameParams, *, turn: np.ndarray | None = None, pivot: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `pose` makes of its arguments: coefficients [C] of `directions`, and transforms [5, 3, 4] of the joints."""
        columns = self._columns
        expression = _padded('expression', params.expression, self._head.n_expression)
        rotvecs = np.zeros((5, 3), np.float32)
        rotvecs[1], rotvecs[2] = params.neck_pose, params.jaw_pose
        rotvecs[3], rotvecs[4] = params.left_eye_pose, params.right_eye_pose
        turn, pivot = (_EYE, _ORIGIN) if turn is None else (np.ascontiguousarray(turn, np.float64), pivot)
        return _kernels().frame_numbers(expression, np.asarray(params.eyelids, np.float32), rotvecs, columns.regressor,
                                        self._joints, columns.parents, columns.pose_entries, turn,
                                        np.asarray(pivot, np.float64))

    def directions(self) -> np.ndarray:
        """How each coefficient of `numbers` moves the vertices before the joints turn them, [V, 3, C] metres."""
        lids = np.zeros((len(self.rest), 3, 4), np.float32)
        lids[self._columns.lid_vertices] = self._lids.transpose(0, 2, 1)
        return np.concatenate([self._head.exprdirs, self._head.posedirs[:, :, self._columns.pose_entries], lids], 2)


_EYE, _ORIGIN = np.eye(3), np.zeros(3)


@lru_cache(maxsize=1)
def _kernels():
    from sega_ros.head import pose_kernel

    return pose_kernel


def _padded(name: str, values, length: int) -> np.ndarray:
    from sega_ros.errors import RequestError

    values = np.asarray(values, np.float32).ravel()
    if len(values) > length:
        raise RequestError(f'{name}: the head has {length} coefficients, found {len(values)}; use the same head model')
    return values if len(values) == length else np.concatenate([values, np.zeros(length - len(values), np.float32)])


@dataclass(frozen=True)
class _Columns:
    """A head's arrays in the order the fast path reads them, without what is zero (see `pose_vertices`)."""

    starts: np.ndarray  # [V + 1] int32: where each vertex's entries start
    columns: np.ndarray  # [K] int16: expression unit of an entry; pose corrective behind those
    moves: np.ndarray  # [K, 3] offset of the vertex with that coefficient
    pose_entries: np.ndarray  # entries of the 36 pose features that do anything
    regressor: np.ndarray  # [E, 15] joints per expression
    lid_vertices: np.ndarray
    lid_slot: np.ndarray  # [V] int32
    parents: np.ndarray  # [5] int64
    weights: np.ndarray  # [V, 5]


_COLUMNS: dict[int, tuple[HeadModel, _Columns]] = {}  # the latest few heads, by identity


def _columns(head: HeadModel) -> _Columns:
    found = _COLUMNS.get(id(head))
    if found is not None and found[0] is head:
        return found[1]
    entries = np.flatnonzero(np.abs(head.posedirs).max((0, 1), initial=0) > 0)
    dirs = np.concatenate([head.exprdirs, head.posedirs[:, :, entries]], 2).transpose(0, 2, 1)  # [V, E + pose entries, 3]
    moving = (dirs != 0).any(2)
    starts = np.concatenate([[0], np.cumsum(moving.sum(1))]).astype(np.int32)
    lids = np.abs(head.eyelid_dirs).max((0, 2)) + np.abs(head.eyelid_arc).max((0, 2))
    lid_vertices = np.union1d(np.flatnonzero(lids), head.eyelid_vertices).astype(np.int64)
    regressor = np.einsum('jv,vce->ejc', head.J_regressor, head.exprdirs, optimize=True).reshape(head.n_expression, 15)
    if len(_COLUMNS) >= 4:
        _COLUMNS.clear()
    _COLUMNS[id(head)] = (head, _Columns(
        starts, np.nonzero(moving)[1].astype(np.int16), np.ascontiguousarray(dirs[moving], np.float32), entries,
        regressor.astype(np.float32), lid_vertices, _slots(lid_vertices, len(dirs)),
        np.asarray(head.parents, np.int64), np.ascontiguousarray(head.weights, np.float32)))
    return _COLUMNS[id(head)][1]


def _slots(vertices: np.ndarray, n: int) -> np.ndarray:
    slots = np.full(n, -1, np.int32)
    slots[vertices] = np.arange(len(vertices))
    return slots


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
    eyelid_column_weights: Tensor  # [2, K, 4]
    eyelid_spread: Tensor  # [2, L, K]
    eyelid_columns: Tensor  # [2, K, 4] int64
    eyelid_vertices: Tensor  # [L] int64
    parents: tuple[int, ...]

    @classmethod
    def from_head(cls, head: HeadModel, *, device='cpu', dtype=torch.float32) -> 'HeadTensors':
        """Copy a head model to a device."""
        floats = ('v_template', 'shapedirs', 'exprdirs', 'posedirs', 'J_regressor', 'weights', 'eyelid_dirs',
                  'eyelid_arc', 'eyelid_column_weights', 'eyelid_spread')
        arrays = {n: torch.as_tensor(getattr(head, n)).to(device=device, dtype=dtype) for n in floats}
        for name in ('eyelid_columns', 'eyelid_vertices'):
            arrays[name] = torch.as_tensor(getattr(head, name)).to(device=device, dtype=torch.int64)
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
    rotvecs = {'neck_pose': neck_pose, 'jaw_pose': jaw_pose, 'left_eye_pose': left_eye_pose,
               'right_eye_pose': right_eye_pose}
    for name, value in rotvecs.items():
        check_shape(name, value, (batch, 3))
    check_shape('eyelids', eyelids, (batch, 2))
    check_shape('expression', expression, (batch, None))
    rest = head.v_template + _offsets('shape', head.shapedirs, shape)
    if v_offset is not None:
        rest = rest + v_offset
    vertices = rest + _offsets('expression', head.exprdirs, expression)
    joints = torch.einsum('jv,bvc->bjc', head.J_regressor, vertices)
    vertices = vertices + torch.einsum('bl,lvc->bvc', eyelids, head.eyelid_dirs) + _lids_meet(head, rest, eyelids)
    vertices = vertices + torch.einsum('bl,lvc->bvc', 4 * eyelids * (1 - eyelids), head.eyelid_arc)
    poses = torch.stack([torch.zeros_like(neck_pose), neck_pose, jaw_pose, left_eye_pose, right_eye_pose], 1)
    rotations = rotvec_to_rotmat(poses)  # [B, 5, 3, 3]
    if head.posedirs.shape[2]:
        eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        vertices = vertices + torch.einsum('bk,vck->bvc', (rotations[:, 1:] - eye).flatten(1), head.posedirs)
    rotation, translation = _chain(rotations, joints, head.parents)
    rotation = torch.einsum('vj,bjxy->bvxy', head.weights, rotation)
    return torch.einsum('bvxy,bvy->bvx', rotation, vertices) + torch.einsum('vj,bjx->bvx', head.weights, translation)


def _lids_meet(head: HeadTensors, rest: Tensor, eyelids: Tensor) -> Tensor:
    """`HeadModel.personal_eyelid_dirs` less the mean's, times the closure: [B, V, 3]."""
    change = (rest - head.v_template)[:, :, 1][:, head.eyelid_columns.flatten()].unflatten(1, head.eyelid_columns.shape)
    gap = (head.eyelid_column_weights * change).sum(-1)  # [B, 2, K]
    heights = -torch.einsum('bs,slk,bsk->bl', eyelids, head.eyelid_spread, gap)
    meet = torch.zeros_like(rest[:, :, 1]).index_add(1, head.eyelid_vertices, heights)
    return torch.stack([torch.zeros_like(meet), meet, torch.zeros_like(meet)], 2)


def _offsets(name: str, dirs: Tensor, coefficients: Tensor) -> Tensor:
    from sega_ros.errors import RequestError

    count = coefficients.shape[1]
    if count > dirs.shape[2]:
        raise RequestError(f'{name}: the head has {dirs.shape[2]} coefficients, found {count}; use the same head model')
    return (coefficients @ dirs[:, :, :count].reshape(-1, count).T).reshape(len(coefficients), -1, 3)


def _chain(rotations: Tensor, joints: Tensor, parents) -> tuple[Tensor, Tensor]:
    """Rotations [B, 5, 3, 3] and translations [B, 5, 3] from the rest pose to the posed one."""
    turns, places = [rotations[:, 0]], [joints[:, 0]]
    for j, parent in enumerate(parents[1:], 1):
        turns.append(turns[parent] @ rotations[:, j])
        places.append(places[parent] + (turns[parent] @ (joints[:, j] - joints[:, parent])[..., None])[..., 0])
    turn, place = torch.stack(turns, 1), torch.stack(places, 1)
    return turn, place - (turn @ joints[..., None])[..., 0]

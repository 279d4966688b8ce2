"""Binding of a Gaussian map to the posed head mesh (SEGA section 3; frames as in GaussianAvatars, with stretch).

Each texel of the UV atlas carries one Gaussian. Its frame is (tangent along u, bitangent, normal) of the posed surface; its
scales follow the stretch of the surface along u and v, so that a lid that unfolds or a cheek that widens stays closed.
"""

from dataclasses import dataclass
from functools import cached_property

import numba as nb
import numpy as np
import torch
from torch import Tensor

from sega_ros.geometry import rotmat_to_unitquat, unitquat_mul
from sega_ros.types import GaussianMap, Splats

# Splats whose surface faces away are culled before any backend; between these cosines of the angle between the
# surface normal and the direction to the camera they fade, so that nothing pops while a head turns.
FADE = (-0.25, -0.05)
# A surface may stretch this much before its splats stop growing with it (a lid unfolds about threefold).
STRETCH = (0.3, 3.0)


@dataclass(frozen=True)
class TexelTable:
    """Where the texels in use lie on the mesh: everything about binding that does not change from frame to frame."""

    rows: np.ndarray  # [T] texel row
    cols: np.ndarray  # [T] texel column
    corners: np.ndarray  # [T, 3] int32 vertex indices of the texel's triangle
    bary: np.ndarray  # [T, 3]
    grad_u: np.ndarray  # [T, 3] weights of the three corners that give dP/du (u per texel)
    grad_v: np.ndarray  # [T, 3] likewise dP/dv
    faces: np.ndarray  # [F, 3] int32, for vertex normals
    rest_stretch: np.ndarray  # [T, 2] lengths of dP/du and of dP/dv across it on the rest mesh, metres per texel

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, index: np.ndarray) -> 'TexelTable':
        """The texels `index` [K] of it."""
        own = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return TexelTable(**{k: v if k == 'faces' else v[index] for k, v in own.items()})

    @cached_property
    def index(self) -> tuple[Tensor, Tensor]:
        """Rows and columns as torch indices into a GaussianMap."""
        return torch.from_numpy(self.rows.astype(np.int64)), torch.from_numpy(self.cols.astype(np.int64))

    @cached_property
    def weights(self) -> np.ndarray:
        """What the running driver reads per texel: [8, T] float32.

        Weights of a triangle's two edges from its first corner, for the position, dP/du and dP/dv, then one over the rest
        lengths.
        """
        edges = [a[:, 1:] for a in (self.bary, self.grad_u, self.grad_v)]
        return np.ascontiguousarray(np.concatenate([*edges, 1 / np.maximum(self.rest_stretch, 1e-7)], 1).T, np.float32)


@dataclass(frozen=True)
class SurfaceFrames:
    """Frames of the texels on one posed mesh."""

    positions: np.ndarray  # [T, 3] metres
    rotmats: np.ndarray  # [T, 3, 3] columns tangent, bitangent, normal
    stretch: np.ndarray  # [T, 2] posed over rest length, along u and across


def texel_table(head, atlas, rest_vertices: np.ndarray, mask: np.ndarray | None = None) -> TexelTable:
    """Collect the valid texels of `atlas` (inside `mask` [H, W] when given); `rest_vertices` [V, 3] is the personal neutral mesh.

    Texels come in Morton order of their place in the atlas, so that neighbours on the surface are neighbours in memory.
    """
    use = atlas.valid if mask is None else atlas.valid & mask
    rows, cols = np.nonzero(use)
    order = np.argsort(_morton(rows, cols), kind='stable')
    rows, cols = rows[order].astype(np.int32), cols[order].astype(np.int32)
    face = atlas.face[rows, cols]
    height, width = atlas.face.shape
    uv = head.uvs[head.uv_faces[face]].astype(np.float64) * [width, height]  # [T, 3, 2] in texels
    edges = uv[:, 1:] - uv[:, :1]
    det = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    det = np.where(np.abs(det) < 1e-9, 1e-9, det)  # a triangle without area in UV gets no usable tangent either way
    # P(u, v) is linear on the triangle: solve for its gradient in terms of the corners.
    du = np.stack([edges[:, 1, 1], -edges[:, 0, 1]], -1) / det[:, None]
    dv = np.stack([-edges[:, 1, 0], edges[:, 0, 0]], -1) / det[:, None]
    grads = [np.concatenate([-(d.sum(1, keepdims=True)), d], 1).astype(np.float32) for d in (du, dv)]
    corners = np.ascontiguousarray(head.faces[face], np.int32)
    table = TexelTable(rows, cols, corners, np.ascontiguousarray(atlas.bary[rows, cols], np.float32), *grads,
                       np.ascontiguousarray(head.faces, np.int32), np.ones((len(rows), 2), np.float32))
    rest = surface_frames(table, rest_vertices)
    return TexelTable(**{**{k: getattr(table, k) for k in table.__dataclass_fields__}, 'rest_stretch': rest.stretch})


def _morton(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    code = np.zeros(len(rows), np.int64)
    for bit in range(12):
        code |= ((cols >> bit) & 1).astype(np.int64) << (2 * bit) | ((rows >> bit) & 1).astype(np.int64) << (2 * bit + 1)
    return code


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V, 3] of `vertices` [V, 3]; a vertex without triangles gets +z."""
    normals = np.empty_like(vertices)
    add_normals(vertices, faces, normals)
    return normals


@nb.njit(cache=True, nogil=True, fastmath={'contract', 'nsz', 'arcp'}, error_model='numpy')
def add_normals(vertices, faces, normals):
    """Write what `vertex_normals` returns into `normals` [V, 3]."""
    for v in range(normals.shape[0]):
        normals[v, 0], normals[v, 1], normals[v, 2] = 0, 0, 0
    for f in range(faces.shape[0]):
        # Unsigned indices need no check for negative ones.
        a, b, c = np.uintp(faces[f, 0]), np.uintp(faces[f, 1]), np.uintp(faces[f, 2])
        x, y, z = vertices[a, 0], vertices[a, 1], vertices[a, 2]
        ux, uy, uz = vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z
        vx, vy, vz = vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for v in range(normals.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        square = x * x + y * y + z * z
        if square > 1e-40:
            rate = 1 / np.sqrt(square)
            normals[v, 0], normals[v, 1], normals[v, 2] = x * rate, y * rate, z * rate
        else:
            normals[v, 2] = 1.0


@nb.njit(cache=True, inline='always')
def texel_frame(vertices, normals, corner, bary, gu, gv, frame):
    """Write position (0-2), tangent (3-5), bitangent (6-8), normal (9-11) and the two lengths (12, 13) into `frame`."""
    for k in range(3):
        p, n, du, dv = 0.0, 0.0, 0.0, 0.0
        for c in range(3):
            x = vertices[corner[c], k]
            p += bary[c] * x
            n += bary[c] * normals[corner[c], k]
            du += gu[c] * x
            dv += gv[c] * x
        frame[k], frame[9 + k], frame[3 + k], frame[6 + k] = p, n, du, dv
    length = np.sqrt(frame[9] ** 2 + frame[10] ** 2 + frame[11] ** 2) + 1e-20
    for k in range(9, 12):
        frame[k] /= length
    along = frame[3] * frame[9] + frame[4] * frame[10] + frame[5] * frame[11]
    for k in range(3):
        frame[3 + k] -= along * frame[9 + k]
    su = np.sqrt(frame[3] ** 2 + frame[4] ** 2 + frame[5] ** 2)
    if su < 1e-9:  # a collapsed triangle: any tangent will do, but it must be one
        frame[3], frame[4], frame[5] = 1.0 - frame[9] ** 2, -frame[9] * frame[10], -frame[9] * frame[11]
        if abs(frame[9]) > 0.9:
            frame[3], frame[4], frame[5] = -frame[10] * frame[9], 1.0 - frame[10] ** 2, -frame[10] * frame[11]
    length = np.sqrt(frame[3] ** 2 + frame[4] ** 2 + frame[5] ** 2) + 1e-20
    for k in range(3, 6):
        frame[k] /= length
    dvx, dvy, dvz = frame[6], frame[7], frame[8]
    frame[6] = frame[10] * frame[5] - frame[11] * frame[4]
    frame[7] = frame[11] * frame[3] - frame[9] * frame[5]
    frame[8] = frame[9] * frame[4] - frame[10] * frame[3]
    frame[12] = su
    frame[13] = abs(dvx * frame[6] + dvy * frame[7] + dvz * frame[8])


@nb.njit(cache=True, fastmath={'contract', 'nsz', 'arcp'})
def _surface_frames(vertices, normals, corners, bary, grad_u, grad_v, rest, low, high):
    n = corners.shape[0]
    positions = np.empty((n, 3), np.float32)
    rotmats = np.empty((n, 3, 3), np.float32)
    stretch = np.empty((n, 2), np.float32)
    frame = np.empty(14, np.float64)
    for t in range(n):
        texel_frame(vertices, normals, corners[t], bary[t], grad_u[t], grad_v[t], frame)
        for k in range(3):
            positions[t, k] = frame[k]
            rotmats[t, k, 0], rotmats[t, k, 1], rotmats[t, k, 2] = frame[3 + k], frame[6 + k], frame[9 + k]
        stretch[t, 0] = min(max(frame[12] / max(rest[t, 0], 1e-7), low), high)
        stretch[t, 1] = min(max(frame[13] / max(rest[t, 1], 1e-7), low), high)
    return positions, rotmats, stretch


def surface_frames(table: TexelTable, vertices: np.ndarray) -> SurfaceFrames:
    """Frames of the texels on the posed mesh `vertices` [V, 3] (metres, head frame)."""
    vertices = np.ascontiguousarray(vertices, np.float32)
    normals = vertex_normals(vertices, table.faces)
    first = not np.any(table.rest_stretch != 1)  # the rest mesh itself: keep its lengths as they are
    low, high = (0.0, np.inf) if first else STRETCH
    return SurfaceFrames(*_surface_frames(vertices, normals, table.corners, table.bary, table.grad_u, table.grad_v,
                                          table.rest_stretch, low, high))


def facing(positions: np.ndarray, normals: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Cosines [N] between unit `normals` [N, 3] at `positions` [N, 3] and the way to `eye` [3]; negative seen from behind."""
    to_eye = eye - positions
    return (to_eye * normals).sum(-1) / np.linalg.norm(to_eye, axis=-1)


def facing_fade(frames: SurfaceFrames, eye: np.ndarray) -> np.ndarray:
    """Opacity factors [T] in [0, 1]: 0 where the surface faces away from a camera centred at `eye` [3] (head frame)."""
    cosine = facing(frames.positions, frames.rotmats[..., 2], eye)
    x = np.clip((cosine - FADE[0]) / (FADE[1] - FADE[0]), 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32)


def camera_centre(viewmat: np.ndarray) -> np.ndarray:
    """Camera centre [3] in the head frame."""
    return -viewmat[:3, :3].T @ viewmat[:3, 3]


def gather(maps: GaussianMap, table: TexelTable) -> GaussianMap:
    """Texels [T, ...] of a Gaussian map [H, W, ...]."""
    return GaussianMap(*(getattr(maps, k)[table.index] for k in GaussianMap.__dataclass_fields__))


def bind(maps: GaussianMap, table: TexelTable, frames: SurfaceFrames, fade: np.ndarray | None = None) -> Splats:
    """Splats [T] of a Gaussian map [H, W, ...] on a posed surface: `bind_texels` of its texels in use."""
    return bind_texels(gather(maps, table), frames, fade)


def bind_texels(texels: GaussianMap, frames: SurfaceFrames, fade: np.ndarray | None = None) -> Splats:
    """Splats [T] of texels [T, ...] on a posed surface; differentiable in the texels (float32).

    Args:
        texels: raw Gaussian parameters, one texel a row.
        frames: their frames on the posed mesh.
        fade: opacity factor [T] of `facing_fade`; None keeps everything.
    """
    def there(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(texels.offset.device)

    return place_texels(activated(pack_texels(texels)), there(frames.positions), there(frames.rotmats), there(frames.stretch),
                        None if fade is None else there(fade))


def pack_texels(texels: GaussianMap) -> Tensor:
    """Columns [T, 14] of texels [T, ...], in the order of GaussianMap's fields."""
    return torch.cat([texels.offset, texels.rotation, texels.log_scale, texels.opacity[:, None], texels.color], 1)


def activated(raw: Tensor) -> Tensor:
    """Offset, unit rotation, scale (metres), opacity and colour [T, 14] of packed raw parameters [T, 14]."""
    offset, rotation, log_scale, opacity, color = raw.split([3, 4, 3, 1, 3], -1)
    return torch.cat([offset, torch.nn.functional.normalize(rotation, dim=-1), log_scale.exp(), torch.sigmoid(opacity),
                      color.clamp(0, 1)], -1)


def place_texels(local: Tensor, positions: Tensor, rotmats: Tensor, stretch: Tensor, fade: Tensor | None = None) -> Splats:
    """Splats [T] of `activated` parameters [T, 14] in frames as of `SurfaceFrames`; opacities times `fade` [T]."""
    offset, rotation, scales, opacity, color = local.split([3, 4, 3, 1, 3], -1)
    quats = unitquat_mul(rotmat_to_unitquat(rotmats), rotation)
    grow = torch.cat([stretch, stretch.prod(-1, keepdim=True).sqrt()], -1)
    opacities = opacity[..., 0] if fade is None else opacity[..., 0] * fade
    return Splats(positions + (rotmats @ offset[..., None]).squeeze(-1), quats, scales * grow, opacities, color)


def fuse(static: GaussianMap, dynamic: GaussianMap, dynamic_mask: Tensor) -> GaussianMap:
    """Take the dynamic map inside `dynamic_mask` [H, W] and the static map elsewhere (SEGA section 3.4)."""
    def pick(s, d):
        mask = dynamic_mask if s.dim() == 2 else dynamic_mask[..., None]
        return torch.where(mask, d, s)

    return GaussianMap(*(pick(getattr(static, k), getattr(dynamic, k)) for k in GaussianMap.__dataclass_fields__))

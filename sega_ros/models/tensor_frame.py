"""One frame in torch, on any device: what `FrameDecoder`, `bind_into` and `place_shell` do for the CPU.

All here hold constants only; no shape depends on data and nothing is copied from the host, so that a CUDA graph can record a
frame as a whole. What the camera does not see becomes transparent instead of being left out.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sega_ros.geometry import unitquat_mul
from sega_ros.head.atlas import build_atlas
from sega_ros.head.model import HeadModel
from sega_ros.models.base import COLOR_UNIT, FRAME_GROWTH, bounded_geometry, raw_units
from sega_ros.models.binding import FADE, STRETCH, TexelTable, activated, place_texels
from sega_ros.models.frame_decoder import Branch, fast_branch
from sega_ros.models.layers import fast_dtype, sample_at
from sega_ros.models.static_decoder import COARSE, split_maps
from sega_ros.types import Shell, Splats


class TensorDecoder:
    """Dynamic texels of one frame from the posed mesh."""

    def __init__(
        self, branch: Branch, head: HeadModel, rest: np.ndarray, *, xy: np.ndarray, reshaped: np.ndarray, device: torch.device,
        dtype: torch.dtype | None = None,
    ):
        """Prepare for the texels at `xy` [K, 2], of which those not `reshaped` [K] only move.

        Other arguments are as in `FrameDecoder`; `dtype` None is the device's fastest.
        """
        networks, basis = fast_branch(branch, dtype or fast_dtype(device))
        self._networks, self._basis = networks.to(device), basis.permute(0, 2, 3, 1).contiguous().to(device)  # [8, 96, 96, 23]
        self._units = torch.from_numpy(raw_units(FRAME_GROWTH)).to(device)
        atlas = build_atlas(head, COARSE)
        self._corners = torch.from_numpy(head.faces[np.maximum(atlas.face, 0)].astype(np.int64)).to(device)  # [48, 48, 3]
        self._bary = torch.from_numpy(np.float32(atlas.bary * atlas.dynamic[..., None])[..., None]).to(device)
        self._rest = torch.from_numpy(rest).to(device)
        self._looks = torch.from_numpy(reshaped).to(device)[:, None]
        self._xy = torch.from_numpy(np.float32(xy))[None].to(device)

    def __call__(self, vertices: Tensor, start: Tensor) -> Tensor:
        """Activated parameters [K, 14] for a posed mesh [V, 3] (head frame) and the texels' own raw ones `start` [K, 14]."""
        offsets = ((vertices - self._rest)[self._corners] * self._bary).sum(2)  # [48, 48, 3]
        maps, share, displacement = self._networks(offsets.permute(2, 0, 1)[None])
        maps = maps + (share @ self._basis.flatten(1)).view_as(maps)
        raw = split_maps(maps.permute(2, 0, 1)[None])
        geometry, color, moved = (sample_at(m, self._xy)[0] for m in (
            bounded_geometry(raw.geometry, self._units), COLOR_UNIT * raw.color, displacement[None]))
        return activated(start + torch.cat([geometry[:, :3] + moved, self._looks * geometry[:, 3:], self._looks * color], 1))


class TensorBinder:
    """Texels on the posed mesh."""

    def __init__(self, table: TexelTable, vertices: int, device: torch.device):
        """Take the texels in use on a mesh of so many vertices."""
        self._faces = torch.from_numpy(table.faces.astype(np.int64)).to(device)  # [F, 3]
        self._around = torch.from_numpy(_faces_around(table.faces, vertices)).to(device)  # [V, most]
        self._corners = torch.from_numpy(table.corners.astype(np.int64)).to(device)  # [T, 3]
        self._weights = torch.from_numpy(table.weights).to(device)[..., None]  # [8, T, 1]
        self._x, self._y, self._z = torch.eye(3, device=device)

    def __call__(self, vertices: Tensor, local: Tensor, eye: Tensor) -> Splats:
        """Splats [T] of `activated` parameters [T, 14] on `vertices` [V, 3] as seen from `eye` [3] (all head frame)."""
        positions, rotmats, stretch = self.frames(vertices)
        to_eye = eye - positions
        cosine = (to_eye * rotmats[..., 2]).sum(-1) / to_eye.norm(dim=-1)
        x = ((cosine - FADE[0]) / (FADE[1] - FADE[0])).clamp(0, 1)
        return place_texels(local, positions, rotmats, stretch, x * x * (3 - 2 * x))

    def normals(self, vertices: Tensor) -> Tensor:
        """`binding.vertex_normals` [V, 3]: gathered, as scattered sums come out in another order each time."""
        a, b, c = vertices[self._faces].unbind(1)
        areas = torch.linalg.cross(b - a, c - a)
        total = torch.cat([areas, torch.zeros_like(areas[:1])])[self._around].sum(1)
        square = total.square().sum(-1, keepdim=True)
        return torch.where(square > 1e-40, total * square.clamp_min(1e-40).rsqrt(), self._z)

    def frames(self, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions [T, 3], rotmats [T, 3, 3] and stretch [T, 2] of `binding.surface_frames`."""
        w = self._weights
        corner, b, c = vertices[self._corners].unbind(1)
        b, c = b - corner, c - corner
        n0, n1, n2 = self.normals(vertices)[self._corners].unbind(1)
        normal = normalize((1 - w[0] - w[1]) * n0 + w[0] * n1 + w[1] * n2, dim=-1, eps=1e-20)
        along, across = w[2] * b + w[3] * c, w[4] * b + w[5] * c
        along = along - (along * normal).sum(-1, keepdim=True) * normal
        length = along.norm(dim=-1, keepdim=True)
        # A collapsed triangle: any tangent will do, but it must be one.
        other = torch.where(normal[:, :1].abs() > 0.9, self._y, self._x)
        along = torch.where(length < 1e-9, other - (other * normal).sum(-1, keepdim=True) * normal, along)
        tangent = normalize(along, dim=-1, eps=1e-20)
        bitangent = torch.linalg.cross(normal, tangent)
        height = (across * bitangent).sum(-1, keepdim=True).abs()
        stretch = torch.cat([length * w[6], height * w[7]], 1).clamp(*STRETCH)
        return corner + w[0] * b + w[1] * c, torch.stack([tangent, bitangent, normal], -1), stretch


def _faces_around(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Triangles at each vertex [V, most] int64, in order; the rest of a row is F."""
    owner = faces.ravel()
    order = np.argsort(owner, kind='stable')
    count = np.bincount(owner, minlength=vertices)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    around = np.full((vertices, count.max()), len(faces), np.int64)
    around[owner[order], slot] = order // 3
    return around


class TensorShell:
    """Hair and bust."""

    def __init__(self, shell: Shell, pivot: np.ndarray, device: torch.device):
        """Take the shell and the point [3] (head frame) about which its torso turns."""
        splats = shell.splats.to(device)
        self._means, self._quats, self._scales = splats.means, splats.quats, splats.scales
        self._normals, fade, torso, self._pivot = (
            torch.from_numpy(np.float32(a)).to(device) for a in (shell.normals, shell.fade, shell.torso, pivot))
        self._torso, (self._low, self._high) = torso[:, None], fade.unbind(1)

    def __call__(self, opacities: Tensor, colors: Tensor, turn: Tensor, quat: Tensor, eye: Tensor) -> Splats:
        """Splats [N] with these `opacities` [N] and `colors` [N, 3], as seen from `eye` [3].

        Args:
            opacities, colors: before fading.
            turn: [3, 3] rotation of the torso, less the identity.
            quat: [4] the same rotation, unit quaternion wxyz.
            eye: head frame.
        """
        means = self._means + self._torso * ((self._means - self._pivot) @ turn.T)
        normals = self._normals + self._torso * (self._normals @ turn.T)
        to_eye = eye - means
        cosine = (to_eye * normals).sum(-1) / to_eye.norm(dim=-1)
        veil = ((cosine - self._low) / (self._high - self._low)).clamp(0, 1)
        # In between, the discs are nearly round: either orientation serves.
        quats = torch.where(self._torso > 0.5, unitquat_mul(quat.expand_as(self._quats), self._quats), self._quats)
        return Splats(means, quats, self._scales, opacities * veil, colors)

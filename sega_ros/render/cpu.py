"""CPU backend: the Numba kernels as an autograd function, and as a plain NumPy call for the running driver."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sega_ros.render import cpu_blend, cpu_project, cpu_project_backward, cpu_tiles
from sega_ros.render.constants import DEPTH_ALPHA_MIN
from sega_ros.types import Camera, Rendering, Splats


@dataclass(frozen=True)
class Frame:
    """What projecting and sorting found out about one view; the backward pass needs it again."""

    arrays: tuple  # means [N, 3], quats [N, 4], scales [N, 3], opacities [N], colors [N, 3], float32
    size: tuple[int, int]  # H, W
    cam: np.ndarray  # cpu_project.camera_vector
    records: np.ndarray  # [M, RECORD] float32
    ids: np.ndarray  # [M] int32
    pairs: np.ndarray  # [pairs] int32, records tile by tile, nearest first
    starts: np.ndarray  # [tiles] int64, into pairs
    ends: np.ndarray  # [tiles] int64

    @property
    def tiles_x(self) -> int:
        return -(-self.size[1] // cpu_blend.TILE)


def prepare(arrays: tuple, camera: Camera) -> Frame:
    """Project, sort and bin splats given as contiguous float32 arrays (fields of Splats)."""
    n, size = len(arrays[0]), (camera.height, camera.width)
    cam = cpu_project.camera_vector(camera)
    records = np.empty((n, cpu_project.RECORD), np.float32)
    rects, keys, ids = np.empty((n, 4), np.int32), np.empty(n, np.uint32), np.empty(n, np.int32)
    m = cpu_project.project_splats(*arrays, cam, size[1], size[0], cpu_blend.SHIFT, records, rects, keys, ids)
    rects, order = rects[:m], np.empty(m, np.int32)
    cpu_tiles.sort_by_key(keys[:m], order, np.empty(m, np.int32))
    tiles_y, tiles_x = -(-size[0] // cpu_blend.TILE), -(-size[1] // cpu_blend.TILE)
    starts = np.zeros(tiles_y * tiles_x + 1, np.int64)
    cpu_tiles.count_tiles(rects, tiles_x, starts[1:])
    np.cumsum(starts, out=starts)
    pairs, ends = np.empty(starts[-1], np.int32), starts[:-1].copy()
    cpu_tiles.fill_tiles(rects, order, tiles_x, 0, tiles_y, ends, pairs)
    return Frame(arrays, size, cam, records[:m], ids[:m], pairs, starts[:-1], ends)


def blend(frame: Frame, records: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image [H, W, 3] and alpha [H, W] of prepared splats over background [H, W, 3] or [1, 1, 3]."""
    image, alpha = np.empty((*frame.size, 3), np.float32), np.empty(frame.size, np.float32)
    cpu_blend.blend_tiles(
        records, frame.pairs, frame.starts, frame.ends, 0, len(frame.starts), frame.tiles_x, background, image, alpha
    )
    return image, alpha


def blend_backward(frame: Frame, records, image, alpha, v_image, v_alpha) -> np.ndarray:
    """Gradients [M, GRADIENT] of the records."""
    grads = np.zeros((len(records), cpu_blend.GRADIENT), np.float32)
    cpu_blend.blend_tiles_backward(
        records, frame.pairs, frame.starts, frame.ends, 0, len(frame.starts), frame.tiles_x,
        image, alpha, v_image, v_alpha, grads,
    )
    return grads


def depth_records(frame: Frame) -> np.ndarray:
    """Records that carry z in place of red: blended like a colour they give the sum of w z."""
    records = frame.records.copy()
    records[:, cpu_project.RED] = records[:, cpu_project.Z]
    records[:, cpu_project.GREEN : cpu_project.BLUE + 1] = 0
    return records


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, colors, background, camera, with_depth):
        arrays = tuple(_to_numpy(t) for t in (means, quats, scales, opacities, colors))
        back = _to_numpy(background).reshape((1, 1, 3) if background.dim() == 1 else background.shape)
        frame = prepare(arrays, camera)
        image, alpha = blend(frame, frame.records, back)
        depth_sum = blend(frame, depth_records(frame), np.zeros((1, 1, 3), np.float32))[0] if with_depth else None
        ctx.frame, ctx.saved, ctx.background_dim = frame, (image, alpha, depth_sum), background.dim()
        outputs = (torch.from_numpy(image), torch.from_numpy(alpha))
        return (*outputs, torch.from_numpy(depth_sum[..., 0].copy())) if with_depth else (*outputs, None)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_image, v_alpha, v_depth):
        frame, (image, alpha, depth_sum) = ctx.frame, ctx.saved
        v_image = np.zeros_like(image) if v_image is None else _to_numpy(v_image)
        v_alpha = np.zeros_like(alpha) if v_alpha is None else _to_numpy(v_alpha)
        grads = blend_backward(frame, frame.records, image, alpha, v_image, v_alpha)
        v_z = np.zeros(len(grads), np.float32)
        if depth_sum is not None and v_depth is not None:
            v_sum = np.zeros_like(image)
            v_sum[..., 0] = _to_numpy(v_depth)
            more = blend_backward(frame, depth_records(frame), depth_sum, alpha, v_sum, np.zeros_like(alpha))
            grads[:, :6] += more[:, :6]
            v_z = np.ascontiguousarray(more[:, 6])
        outputs = [np.zeros_like(a) for a in frame.arrays]
        cpu_project_backward.project_splats_backward(
            *frame.arrays[:4], frame.ids, frame.records, grads, v_z, frame.cam, *outputs
        )
        v_background = None
        if ctx.needs_input_grad[5]:
            v_background = v_image * (1 - alpha)[..., None]
            v_background = torch.from_numpy(v_background.sum((0, 1)) if ctx.background_dim == 1 else v_background)
        return (*(torch.from_numpy(v) for v in outputs), v_background, None, None)


def rasterize_cpu(splats: Splats, camera: Camera, *, background: Tensor, with_depth: bool = False) -> Rendering:
    """Render float32 CPU splats over `background` ([3] or [H, W, 3]); differentiable as the reference is."""
    image, alpha, depth_sum = _Rasterize.apply(
        splats.means, splats.quats, splats.scales, splats.opacities, splats.colors, background, camera, with_depth
    )
    depth = depth_sum / alpha.clamp_min(DEPTH_ALPHA_MIN) if with_depth else None
    return Rendering(image, alpha, depth)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy())

"""CPU backend: the Numba kernels as an autograd function, and as a plain NumPy call for the running driver."""

import threading

import numpy as np
import torch
from torch import Tensor

from sega_ros.errors import RequestError
from sega_ros.render import cpu_frame
from sega_ros.render.camera_check import check_camera
from sega_ros.render.constants import DEPTH_ALPHA_MIN
from sega_ros.types import Camera, Rendering, Splats, check_shape


def rasterize_cpu(
    splats: Splats, camera: Camera, *, background: Tensor, with_depth: bool = False, threads: int = 1
) -> Rendering:
    """Render float32 CPU splats over `background` ([3] or [H, W, 3]); differentiable as the reference is."""
    image, alpha, depth_sum = _Rasterize.apply(
        splats.means, splats.quats, splats.scales, splats.opacities, splats.colors, background,
        camera, with_depth, threads,
    )
    depth = depth_sum / alpha.clamp_min(DEPTH_ALPHA_MIN) if with_depth else None
    return Rendering(image, alpha, depth)


def rasterize_arrays(
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, colors: np.ndarray, camera: Camera,
    *, background: np.ndarray | None = None, out: np.ndarray | None = None, alpha: np.ndarray | None = None,
    dtype: type = np.uint8, threads: int = 1,
) -> np.ndarray:
    """Render NumPy splats (shapes as in Splats) without torch: image [H, W, 3] uint8, or float32 unclamped.

    `background` is RGB in [0, 1], [3] or [H, W, 3] float32; black without it. `out` [H, W, 3] and `alpha` [H, W]
    float32 receive the result when given; else the image is of `dtype`. Raises RequestError.
    """
    check_camera(camera)
    _check_threads(threads)
    n, size = len(means), (camera.height, camera.width)
    arrays = tuple(
        _as_float(name, array, shape) for name, array, shape in (
            ('means', means, (n, 3)), ('quats', quats, (n, 4)), ('scales', scales, (n, 3)),
            ('opacities', opacities, (n,)), ('colors', colors, (n, 3)),
        )
    )
    image = _target('out', out, (*size, 3), (np.uint8, np.float32)) if out is not None else np.empty((*size, 3), dtype)
    if image.dtype not in (np.uint8, np.float32):
        raise RequestError(f'dtype: wanted uint8 or float32, found {image.dtype}')
    alpha = _target('alpha', alpha, size, (np.float32,)) if alpha is not None else _NO_ALPHA
    background = np.zeros(3, np.float32) if background is None else background
    if not np.issubdtype(np.asarray(background).dtype, np.floating):
        raise RequestError('background: wanted floating RGB in [0, 1], found integers; divide bytes by 255')
    background = _as_float('background', background, (3,) if np.ndim(background) == 1 else (*size, 3))
    if not hasattr(_of_thread, 'workspace'):
        _of_thread.workspace = cpu_frame.Workspace()
    frame = cpu_frame.prepare(arrays, camera, _of_thread.workspace)
    cpu_frame.blend(frame, frame.records, _picture(background), image, alpha, threads=threads)
    return image


_of_thread = threading.local()
_NO_ALPHA = np.empty((0, 0), np.float32)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, colors, background, camera, with_depth, threads):
        _check_threads(threads)
        tensors = (means, quats, scales, opacities, colors)
        frame = cpu_frame.prepare(tuple(_to_numpy(t) for t in tensors), camera)
        image, alpha = np.empty((*frame.size, 3), np.float32), np.empty(frame.size, np.float32)
        cpu_frame.blend(frame, frame.records, _picture(_to_numpy(background)), image, alpha, threads=threads)
        outputs = [torch.from_numpy(image), torch.from_numpy(alpha), None]
        if with_depth:
            depth_sum = np.empty_like(image)
            black = np.zeros((1, 1, 3), np.float32)
            cpu_frame.blend(frame, cpu_frame.depth_records(frame), black, depth_sum, alpha, threads=threads)
            outputs[2] = torch.from_numpy(depth_sum[..., 0].copy())
        ctx.frame, ctx.threads, ctx.background_dim = frame, threads, background.dim()
        # Saved the official way, so that torch notices when one of them was changed in place before backward.
        ctx.save_for_backward(*tensors, *outputs)
        return tuple(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_image, v_alpha, v_depth):
        *tensors, image, alpha, depth_sum = ctx.saved_tensors
        arrays = tuple(_to_numpy(t) for t in tensors)
        image, alpha, v_image, v_alpha = (_to_numpy(t) for t in (image, alpha, v_image, v_alpha))
        frame, threads = ctx.frame, ctx.threads
        grads = cpu_frame.blend_backward(frame, frame.records, image, alpha, v_image, v_alpha, threads=threads)
        v_z = np.zeros(len(grads), np.float32)
        if depth_sum is not None:
            more = cpu_frame.blend_backward(
                frame, cpu_frame.depth_records(frame), _in_red(depth_sum), alpha, _in_red(v_depth),
                np.zeros_like(alpha), threads=threads,
            )
            grads[:, :6] += more[:, :6]
            v_z[:] = more[:, 6]
        v_splats = cpu_frame.project_backward(frame, arrays, grads, v_z)
        v_background = None
        if ctx.needs_input_grad[5]:
            v_background = v_image * (1 - alpha)[..., None]
            v_background = torch.from_numpy(v_background.sum((0, 1)) if ctx.background_dim == 1 else v_background)
        return (*(torch.from_numpy(v) for v in v_splats), v_background, None, None, None)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy())


def _in_red(values: Tensor) -> np.ndarray:
    """Values [H, W] as the first channel of an otherwise black picture [H, W, 3]."""
    picture = np.zeros((*values.shape, 3), np.float32)
    picture[..., 0] = values.detach().numpy()
    return picture


def _picture(background: np.ndarray) -> np.ndarray:
    return background.reshape(1, 1, 3) if background.ndim == 1 else background


def _as_float(name: str, array: np.ndarray, shape: tuple) -> np.ndarray:
    array = np.asarray(array)
    check_shape(name, array, shape)
    return np.ascontiguousarray(array, np.float32)


def _target(name: str, array: np.ndarray, shape: tuple, dtypes: tuple) -> np.ndarray:
    check_shape(name, array, shape)
    if array.dtype not in dtypes or not array.flags.c_contiguous or not array.flags.writeable:
        wanted = ' or '.join(np.dtype(d).name for d in dtypes)
        raise RequestError(f'{name}: wanted a writable, contiguous {wanted} array, found {array.dtype} {array.flags}')
    return array


def _check_threads(threads: int) -> None:
    if threads < 1:
        raise RequestError(f'threads: wanted 1 or more, found {threads}')

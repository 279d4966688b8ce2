"""The renderer's one entry: checks its arguments and picks a backend (STYLE: one contract, several backends)."""

from collections.abc import Callable

import torch
from torch import Tensor

from sega_ros.errors import BackendError, RequestError
from sega_ros.render.camera_check import check_camera
from sega_ros.types import Camera, Rendering, Splats, check_shape

BACKENDS = ('reference', 'cpu', 'cuda')


def rasterize(
    splats: Splats, camera: Camera, *, background: Tensor | None = None, backend: str | None = None,
    with_depth: bool = False, threads: int = 1,
) -> Rendering:
    """Render `splats` as `camera` sees them; differentiable in every splat parameter and in `background`.

    `background` is RGB [3] or a picture [H, W, 3], black without it. `backend` is one of BACKENDS; without it the
    splats' device and dtype decide: CUDA tensors go to gsplat, float32 on the CPU to the Numba kernels, all else to
    the reference. With `with_depth` the Rendering also carries the mean camera z per pixel. `threads` concerns the
    cpu backend only. Splats with a non-finite parameter are not drawn.

        rasterize(splats, orbit_camera(size=(480, 640))).image  # [480, 640, 3]

    Raises RequestError (shapes, dtypes, camera) and BackendError (the backend can't run here).
    """
    check_splats(splats)
    check_camera(camera)
    render = _renderer(backend or pick_backend(splats), splats)
    background = splats.means.new_zeros(3) if background is None else background
    if not background.dtype.is_floating_point:
        raise RequestError(f'background: wanted floating RGB in [0, 1], found {background.dtype}; divide bytes by 255')
    background = background.to(splats.means)
    check_shape('background', background, (3,) if background.dim() == 1 else (camera.height, camera.width, 3))
    options = {'threads': threads} if render.__name__ == 'rasterize_cpu' else {}
    return render(splats, camera, background=background, with_depth=with_depth, **options)


def pick_backend(splats: Splats) -> str:
    """Name the fastest backend that takes these tensors as they are."""
    if splats.means.dtype != torch.float32:
        return 'reference'
    return {'cpu': 'cpu', 'cuda': 'cuda'}.get(splats.means.device.type, 'reference')


def check_splats(splats: Splats) -> None:
    """Raise RequestError unless all fields have their shapes, one floating dtype and one device."""
    n, like = len(splats), splats.means
    shapes = {'means': (n, 3), 'quats': (n, 4), 'scales': (n, 3), 'opacities': (n,), 'colors': (n, 3)}
    for name, shape in shapes.items():
        tensor = getattr(splats, name)
        check_shape(f'splats.{name}', tensor, shape)
        if tensor.dtype != like.dtype or tensor.device != like.device:
            raise RequestError(
                f'splats.{name}: wanted {like.dtype} on {like.device} like splats.means, '
                f'found {tensor.dtype} on {tensor.device}'
            )
    if not like.dtype.is_floating_point:
        raise RequestError(f'splats: wanted a floating dtype, found {like.dtype}')


def _renderer(backend: str, splats: Splats) -> Callable[..., Rendering]:
    """Import a backend when first asked for (Numba and gsplat are slow to load)."""
    if backend not in BACKENDS:
        raise RequestError(f'backend: wanted one of {", ".join(BACKENDS)}, found {backend!r}')
    if backend == 'reference':
        from sega_ros.render.reference import rasterize_reference

        return rasterize_reference
    device, dtype = splats.means.device.type, splats.means.dtype
    if device != backend or dtype != torch.float32:
        raise BackendError(
            f'backend {backend!r} renders float32 tensors on {backend}, found {dtype} on {device}; '
            "move the splats with splats.to(...) or use backend='reference'"
        )
    if backend == 'cpu':
        from sega_ros.render.cpu import rasterize_cpu

        return rasterize_cpu
    from sega_ros.render.cuda import rasterize_cuda

    return rasterize_cuda

"""The renderer's one entry: checks its arguments and picks a backend (STYLE: one contract, several backends)."""

import torch
from torch import Tensor

from sega_ros.errors import BackendError, RequestError
from sega_ros.types import Camera, Rendering, Splats, check_shape

BACKENDS = ('reference', 'cpu', 'cuda')


def rasterize(
    splats: Splats, camera: Camera, *, background: Tensor | None = None, backend: str | None = None, with_depth: bool = False
) -> Rendering:
    """Render `splats` as `camera` sees them; differentiable in every splat parameter and in `background`.

    `background` is RGB [3] or a picture [H, W, 3], black without it. `backend` is one of BACKENDS; without it the
    splats' device and dtype decide: CUDA tensors go to gsplat, float32 on the CPU to the Numba kernels, all else to
    the reference. With `with_depth` the Rendering also carries the mean camera z per pixel.

        rasterize(splats, orbit_camera(size=(480, 640))).image  # [480, 640, 3]

    Raises RequestError (shapes, dtypes, camera) and BackendError (the backend can't run here).
    """
    _check(splats, camera)
    backend = backend or pick_backend(splats)
    if background is None:
        background = splats.means.new_zeros(3)
    background = background.to(splats.means)
    check_shape('background', background, (3,) if background.dim() == 1 else (camera.height, camera.width, 3))
    return _renderer(backend, splats)(splats, camera, background=background, with_depth=with_depth)


def pick_backend(splats: Splats) -> str:
    """Name the fastest backend that takes these tensors as they are."""
    if splats.means.dtype != torch.float32:
        return 'reference'
    return {'cpu': 'cpu', 'cuda': 'cuda'}.get(splats.means.device.type, 'reference')


def _renderer(backend: str, splats: Splats):
    """Import a backend when first asked for (Numba and gsplat are slow to load)."""
    if backend == 'reference':
        from sega_ros.render.reference import rasterize_reference

        return rasterize_reference
    if backend not in BACKENDS:
        raise RequestError(f'backend: wanted one of {", ".join(BACKENDS)}, found {backend!r}')
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


def _check(splats: Splats, camera: Camera) -> None:
    n = len(splats)
    for name, shape in (('means', (n, 3)), ('quats', (n, 4)), ('scales', (n, 3)), ('opacities', (n,)), ('colors', (n, 3))):
        tensor = getattr(splats, name)
        check_shape(f'splats.{name}', tensor, shape)
        if tensor.dtype != splats.means.dtype or tensor.device != splats.means.device:
            raise RequestError(
                f'splats.{name}: wanted {splats.means.dtype} on {splats.means.device} like splats.means, '
                f'found {tensor.dtype} on {tensor.device}'
            )
    if not splats.means.dtype.is_floating_point:
        raise RequestError(f'splats: wanted a floating dtype, found {splats.means.dtype}')
    check_camera(camera)


def check_camera(camera: Camera) -> None:
    """Raise RequestError unless the camera has a size, positive focal lengths and a finite viewmat."""
    check_shape('camera.viewmat', camera.viewmat, (4, 4))
    numbers = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy, *torch.as_tensor(camera.viewmat).flatten().tolist()])
    if camera.width < 1 or camera.height < 1 or camera.fx <= 0 or camera.fy <= 0 or not numbers.isfinite().all():
        raise RequestError(
            f'camera: wanted width, height, fx and fy above 0 and finite numbers, found {camera}'
        )

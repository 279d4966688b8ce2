"""CUDA backend: an adapter to gsplat (>= 1.5), loaded late because it compiles its kernels at first use."""

import importlib
import importlib.metadata

import numpy as np
import torch
from torch import Tensor

from sega_ros.errors import BackendError
from sega_ros.render.constants import BLUR, NEAR
from sega_ros.render.reference import drawable
from sega_ros.types import Camera, Rendering, Splats

GSPLAT_MIN = (1, 5)
_INSTALL = "pip install 'gsplat>=1.5'"


def rasterize_cuda(splats: Splats, camera: Camera, *, background: Tensor, with_depth: bool = False) -> Rendering:
    """Render float32 CUDA splats over `background` ([3] or [H, W, 3]) with gsplat.

    Raises BackendError when gsplat, a CUDA device or gsplat's compiled kernels are missing.
    """
    gsplat = load_gsplat()
    features, alpha, _ = gsplat.rasterization(**gsplat_arguments(splats, camera, with_depth=with_depth))
    features, alpha = features[0], alpha[0, ..., 0]  # [H, W, 3 or 4], [H, W]
    image = features[..., :3] + (1 - alpha)[..., None] * background
    return Rendering(image, alpha, features[..., 3] if with_depth else None)


def gsplat_arguments(splats: Splats, camera: Camera, *, with_depth: bool) -> dict:
    """Keyword arguments of `gsplat.rasterization` for one view.

    Undrawable splats are replaced by transparent ones: indexing them away would wait for the device, as would a copy to it
    that is not asked to be non-blocking.
    """
    device = splats.means.device
    ok = drawable(splats)
    neutral = torch.eye(1, 4, device=device)

    def there(matrix: np.ndarray) -> Tensor:
        return torch.as_tensor(matrix, dtype=torch.float32).to(device, non_blocking=True)[None]

    return {
        'means': torch.where(ok[:, None], splats.means, 0.0),
        'quats': torch.where(ok[:, None], splats.quats, neutral),
        'scales': torch.where(ok[:, None], splats.scales, 1.0),
        'opacities': torch.where(ok, splats.opacities, 0.0),
        'colors': torch.where(ok[:, None], splats.colors, 0.0),
        'viewmats': there(camera.viewmat),
        'Ks': there(camera.K),
        'width': camera.width,
        'height': camera.height,
        'near_plane': NEAR,
        'eps2d': BLUR,
        'packed': False,  # a head's splats are nearly all visible
        'render_mode': 'RGB+ED' if with_depth else 'RGB',
    }


def load_gsplat():
    """Import gsplat and make sure that it can run.

    Raises BackendError naming what is missing and how to install it.
    """
    try:
        gsplat = importlib.import_module('gsplat')
    except ImportError as e:
        raise BackendError(f"backend 'cuda' needs gsplat, which can't be imported ({e}): {_INSTALL}") from e
    version = importlib.metadata.version('gsplat')
    if tuple(int(v) for v in version.split('+')[0].split('.')[:2]) < GSPLAT_MIN:
        raise BackendError(f"backend 'cuda' needs gsplat 1.5 or newer, found {version}: {_INSTALL}")
    if not torch.cuda.is_available():
        built = f'PyTorch {torch.__version__} was built ' + ('with' if torch.version.cuda else 'without') + ' CUDA'
        raise BackendError(
            f"backend 'cuda' needs a CUDA device, and PyTorch sees none ({built}): install the NVIDIA driver and "
            "a CUDA build of PyTorch (https://pytorch.org/get-started), or use backend='cpu'"
        )
    if not _kernels():
        raise BackendError(
            f"backend 'cuda': gsplat {version} has no compiled kernels and can't build them: install the CUDA toolkit "
            f'(nvcc on PATH; PyTorch wants {torch.version.cuda}) and a C++ compiler, or a prebuilt gsplat wheel'
        )
    return gsplat


def _kernels() -> bool:
    try:
        return importlib.import_module('gsplat.cuda._backend')._C is not None
    except (ImportError, RuntimeError, OSError):  # torch's extension builder raises all three
        return False

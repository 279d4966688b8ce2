"""Gaussian splatting: one contract, three backends.

`reference` (plain PyTorch) defines what is right; `cpu` (Numba, forward and backward, no compiler needed) and `cuda`
(gsplat) are fast and agree with it to 1e-3. `rasterize` is for torch and gradients, `rasterize_arrays` for frames.
"""

from sega_ros.render.rasterize import BACKENDS, pick_backend, rasterize

__all__ = ['BACKENDS', 'pick_backend', 'rasterize', 'rasterize_arrays']


def rasterize_arrays(*args, **kwargs):
    """Render NumPy splats without torch, see `sega_ros.render.cpu.rasterize_arrays` (loads Numba at first use)."""
    from sega_ros.render.cpu import rasterize_arrays as render

    return render(*args, **kwargs)

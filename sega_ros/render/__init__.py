"""Gaussian splatting: one contract, three backends (DESIGN section 4)."""

from sega_ros.render.rasterize import BACKENDS, pick_backend, rasterize

__all__ = ['BACKENDS', 'pick_backend', 'rasterize']

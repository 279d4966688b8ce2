"""SEGA for telepresence robots: one photo becomes a drivable 3D Gaussian head (arXiv 2504.14373)."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)

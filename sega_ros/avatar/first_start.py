"""A machine's first start: a process beside the one that starts compiles half of what Numba has to.

Numba compiles one function at a time in a process, a driver's in 13 s; each process finds in the cache what another has put
there. The halves are about equal: the tracker's fit and the renderer here; in the process that starts the head model,
which is built once, and what binds splats to it.
"""

import os
import subprocess
import sys
import threading

import numpy as np

from sega_ros.render import rasterize_arrays
from sega_ros.render.cpu_frame import cpu_blend
from sega_ros.render.kernel_cache import is_cached
from sega_ros.tracking.frame_equations import KERNELS, load_kernels
from sega_ros.types import Camera


class KernelLoader:
    """Loads the tracker's fit, so that no frame waits for it, when it is in the cache; sees to it that it comes there."""

    def __init__(self) -> None:
        """Load it if it is there; else start the process beside, unless there is one core only."""
        self._process: subprocess.Popen | None = None
        self._lock, self._loaded = threading.Lock(), False
        if _compiled():
            self.load()
        elif len(os.sched_getaffinity(0)) > 1:
            print('compiling what tracks and draws faces, once: half a minute at most', file=sys.stderr, flush=True)
            self._process = subprocess.Popen([sys.executable, '-m', __name__], stdin=subprocess.DEVNULL, start_new_session=True)

    def load(self) -> None:
        """Wait for the process and load what it compiled; what it did not is compiled here. Does nothing the next time."""
        with self._lock:
            if self._loaded:
                return
            if self._process is not None:
                self._process.wait()
            load_kernels()
            self._loaded = True


def _compiled() -> bool:
    return all(map(is_cached, (cpu_blend.blend_tiles, *KERNELS)))


def compile_kernels() -> None:
    """Compile the tracker's fit and the renderer, or load them from the cache."""
    load_kernels()
    camera = Camera(16, 16, fx=16, fy=16, cx=8, cy=8)
    rasterize_arrays(np.array([[0, 0, 1]], np.float32), np.array([[1, 0, 0, 0]], np.float32), np.full((1, 3), 0.1, np.float32),
                     np.ones(1, np.float32), np.ones((1, 3), np.float32), camera)


if __name__ == '__main__':
    compile_kernels()

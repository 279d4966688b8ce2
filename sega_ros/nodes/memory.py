"""Memory of image size is kept for the next image; what a process holds."""

import ctypes
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MMAP_THRESHOLD = 32 << 20  # bytes; glibc's upper limit
_TRIM_THRESHOLD = 128 << 20


def keep_freed_memory() -> bool:
    """Let glibc reuse freed blocks of up to 32 MiB and keep up to 128 MiB of them; return whether it does.

    By default it hands a freed image back to the system and gets cleared pages for the next one: 0.4 ms for each copy of
    512 x 512 pixels, of which a frame needs about ten on its way through ROS.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD))


def process_memory(pid: int) -> float:
    """Return the resident set of a process in megabytes (10^6 bytes), as Linux counts it.

    Raises:
        OSError: there is no such process.
    """
    lines = Path(f'/proc/{pid}/status').read_text(encoding='ascii').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) * 1024 / 1e6

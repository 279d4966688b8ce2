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


def process_memory(pid: int, *, peak: bool = False) -> float:
    """Return the resident set of a process, or the largest it ever had, in megabytes (10^6 bytes), as Linux counts it.

    Raises:
        OSError: there is no such process, or it has ended.
    """
    kind = 'VmHWM' if peak else 'VmRSS'
    for line in Path(f'/proc/{pid}/status').read_text(encoding='ascii').splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f'process {pid} has ended: it holds no memory')

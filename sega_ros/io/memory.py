"""Memory of image size is kept for the next image; what a process holds."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_MMAP_THRESHOLD = 32 << 20  # bytes; glibc's upper limit
_TRIM_THRESHOLD = 128 << 20
_ARENAS = 2


def keep_freed_memory() -> bool:
    """Let glibc reuse freed blocks of up to 32 MiB and keep up to 128 MiB of them; return whether it does.

    By default it hands a freed image back to the system and gets cleared pages for the next one: 0.4 ms for each copy of
    512 x 512 pixels, of which a frame needs about ten on its way through ROS.

    All threads share two arenas: else every creation of an avatar, in a thread of its own, keeps 100 MB more.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(option, value) for option, value in (
        (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD), (_M_ARENA_MAX, _ARENAS)))


def release_freed_memory() -> bool:
    """Hand freed memory back to the system after work that needed much of it and is rare; return whether there was any."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):  # another C library
        return False


@dataclass(frozen=True)
class ProcessUse:
    """What a process holds."""

    memory_mb: float  # resident set, megabytes (10^6 bytes)
    threads: int
    handles: int  # open files, sockets and pipes


def process_use(pid: int) -> ProcessUse:
    """Return what a process holds now, as Linux counts it.

    Raises:
        OSError: there is no such process, or it has ended.
    """
    status = _status(pid)
    return ProcessUse(_megabytes(status, 'VmRSS', pid), int(status['Threads']), sum(1 for _ in Path(f'/proc/{pid}/fd').iterdir()))


def process_memory(pid: int, *, peak: bool = False) -> float:
    """Return the resident set of a process, or the largest it ever had, in megabytes (10^6 bytes), as Linux counts it.

    Raises:
        OSError: there is no such process, or it has ended.
    """
    return _megabytes(_status(pid), 'VmHWM' if peak else 'VmRSS', pid)


def _status(pid: int) -> dict[str, str]:
    lines = Path(f'/proc/{pid}/status').read_text(encoding='ascii').splitlines()
    return {name: value for name, _, value in (line.partition(':') for line in lines)}


def _megabytes(status: dict[str, str], kind: str, pid: int) -> float:
    if kind not in status:
        raise ProcessLookupError(f'process {pid} has ended: it holds no memory')
    return int(status[kind].split()[0]) * 1024 / 1e6

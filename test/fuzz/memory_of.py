"""Read files and print, one JSON line each, the peak of the process's memory meanwhile (MB over the start) and how it ended."""

import json
import os
import resource
import sys
from pathlib import Path

from sega_ros.avatar.store import check_avatar_file
from sega_ros.errors import SegaError
from sega_ros.head import load_head
from sega_ros.io import read_photo
from sega_ros.io.memory import process_memory

READERS = {'photo': read_photo, 'avatar': check_avatar_file, 'head': load_head}
ADDRESSES = 8 << 30  # bytes: whoever wants more gets a MemoryError, not the machine's last page


def peak_of(read, path: Path) -> tuple[float, str]:
    """Return the peak and 'read', or the name of the error."""
    Path('/proc/self/clear_refs').write_text('5')  # the peak counts from here
    before = process_memory(os.getpid())
    try:
        read(path)
        ending = 'read'
    except SegaError as error:
        ending = type(error).__name__
    return process_memory(os.getpid(), peak=True) - before, ending


def main() -> None:
    """Warm up, then measure."""
    for read in READERS.values():
        try:
            read(Path('/none'))
        except (SegaError, FileNotFoundError):
            pass
    import sega_ros.avatar.avatar  # noqa: F401  # torch and the kernels, which the readers load when first needed

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    for argument in sys.argv[1:]:
        kind, path = argument.split(':', 1)
        print(json.dumps(peak_of(READERS[kind], Path(path))), flush=True)


if __name__ == '__main__':
    main()

"""Where compiled CPU kernels are kept between processes."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def kernel_cache() -> Iterator[Path]:
    """Let Numba cache what is decorated inside in a folder of its own, named after the kernels' sources.

    Numba notices a change of the file that a function stands in, but not of the files it calls: a digest of all of
    them does. The folder is `$SEGA_CACHE_DIR/kernels`, else under the user's cache directory, so a read-only
    site-packages is fine. Where neither can be written, a private temporary folder serves this process.
    """
    import numba

    path = _writable(_cache_root() / 'kernels' / source_digest())
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(path)
    try:
        yield path
    finally:
        numba.config.CACHE_DIR = before


def is_cached(function: Callable) -> bool:
    """Whether a folder of Numba's holds any compiled form of a function that caches."""
    return any(Path(function.stats.cache_path).glob(f'*.{function.__name__}-*.nbi'))


def source_digest() -> str:
    """Digest of the kernels' sources and of Numba's version, 16 characters."""
    import numba

    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted([*Path(__file__).parent.glob('cpu*.py'), Path(__file__).with_name('constants.py')]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _cache_root() -> Path:
    if own := os.environ.get('SEGA_CACHE_DIR'):
        return Path(own)
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path.home() / '.cache') / 'sega_ros'


def _writable(path: Path) -> Path:
    # A shared, guessable temporary folder would let another user plant code: hence mkdtemp.
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError:
        return Path(tempfile.mkdtemp(prefix='sega_ros_kernels_'))

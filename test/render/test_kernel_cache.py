"""The kernel cache: where it lies, and that it survives a read-only place."""

import os
import subprocess
import sys
from pathlib import Path

from sega_ros.render.kernel_cache import _writable, kernel_cache, source_digest


def test_cache_lies_under_the_named_folder(monkeypatch, tmp_path):
    import numba

    monkeypatch.setenv('SEGA_CACHE_DIR', str(tmp_path))
    before = numba.config.CACHE_DIR
    with kernel_cache() as path:
        assert path == tmp_path / 'kernels' / source_digest()
        assert numba.config.CACHE_DIR == str(path)
    assert numba.config.CACHE_DIR == before


def test_unwritable_folder_falls_back_to_a_private_one(tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('')
    path = _writable(blocked / 'kernels')
    assert path.is_dir() and path.stat().st_mode & 0o077 == 0
    path.rmdir()


def test_importing_the_package_loads_no_kernels():
    code = 'import sys, sega_ros.render; print("numba" in sys.modules, "gsplat" in sys.modules)'
    env = os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])}
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, check=True).stdout
    assert out.split() == ['False', 'False']



"""What a first start compiles beside: what tracking and drawing call, found in the cache; without it if that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sega_ros.avatar import first_start
from sega_ros.avatar.store import AvatarStore

ROOT = Path(__file__).parents[2]


def _python(code, **environment):
    environment = os.environ | {'PYTHONPATH': str(ROOT)} | environment
    result = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, timeout=300,
                            check=False)
    assert result.returncode == 0, result.stderr
    return result


def test_a_process_fills_empty_caches(tmp_path):
    said = _python(
        'from sega_ros.avatar.first_start import KERNELS, KernelLoader, cpu_blend\n'
        'KernelLoader().load()\n'
        'for f in KERNELS:\n'
        '    assert f.stats.cache_hits and not f.stats.cache_misses, f\n'
        'assert not cpu_blend.blend_tiles.signatures\n'
        'second = KernelLoader()\n'
        'assert second._process is None and second._loaded',
        SEGA_CACHE_DIR=str(tmp_path / 'own'), NUMBA_CACHE_DIR=str(tmp_path / 'numba')).stderr
    assert said.count('compiling what tracks and draws faces') == (len(os.sched_getaffinity(0)) > 1)


def test_tracking_and_drawing_call_what_was_compiled(tmp_path, real_avatar):
    AvatarStore(tmp_path).save('ada', real_avatar)
    _python(
        'from pathlib import Path\n'
        'from skimage import data\n'
        'from sega_ros.avatar.drive import AvatarDriver, View\n'
        'from sega_ros.avatar.first_start import KERNELS, compile_kernels, cpu_blend\n'
        'from sega_ros.avatar.store import AvatarStore\n'
        'from sega_ros.head import load_head\n'
        'from sega_ros.render.cpu_frame import cpu_project, cpu_tiles\n'
        'from sega_ros.tracking.embedding import landmark_embedding\n'
        'from sega_ros.tracking.tracker import FaceTracker\n'
        'functions = [*KERNELS, cpu_blend.blend_tiles, cpu_project.project_splats, cpu_tiles.fill_tiles, cpu_tiles.sort_by_key]\n'
        'compile_kernels()\n'
        'before = [list(f.signatures) for f in functions]\n'
        'assert all(len(found) == 1 for found in before), before\n'
        'head = load_head()\n'
        f'driver = AvatarDriver(AvatarStore(Path({str(tmp_path)!r})).load("ada"), head)\n'
        'with FaceTracker(head, landmark_embedding(head)) as tracker:\n'
        '    for k in range(3):\n'
        '        expression = tracker.track(data.astronaut(), k * 33_000_000)\n'
        'assert expression.face_present\n'
        'driver.render(expression, View("frontal"))\n'
        'after = [list(f.signatures) for f in functions]\n'
        'assert after == before, (before, after)')


def test_a_process_that_fails_leaves_the_work_to_its_parent(monkeypatch, capfd):
    monkeypatch.setattr(first_start, '_compiled', lambda: False)
    monkeypatch.setattr(first_start.os, 'sched_getaffinity', lambda pid: {0, 1})
    monkeypatch.setattr(first_start.sys, 'executable', '/bin/false')
    calls = []
    monkeypatch.setattr(first_start, 'load_kernels', lambda: calls.append(None))
    loader = first_start.KernelLoader()
    assert not calls
    for _ in range(2):
        loader.load()
    assert len(calls) == 1
    assert 'once' in capfd.readouterr().err


@pytest.mark.parametrize('cores', [1, 2])
def test_one_core_compiles_nothing_beside(monkeypatch, cores):
    started = []
    monkeypatch.setattr(first_start, '_compiled', lambda: False)
    monkeypatch.setattr(first_start.os, 'sched_getaffinity', lambda pid: set(range(cores)))
    monkeypatch.setattr(first_start.subprocess, 'Popen', lambda *a, **k: started.append(a))
    first_start.KernelLoader()
    assert len(started) == cores - 1

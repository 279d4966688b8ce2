"""Creation, endurance, peers and plots of the benchmark: what is counted and shown; how fast is not tested."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sega_ros.evaluation import bench_creation, bench_path
from sega_ros.evaluation.bench_creation import CreationError, CreationTiming, creation_table
from sega_ros.evaluation.bench_device import DeviceTiming
from sega_ros.evaluation.bench_path import Endurance, Minute, PathError, PathTiming, endurance_text
from sega_ros.evaluation.bench_peers import PeerTiming, bench_peers, peer_table
from sega_ros.evaluation.bench_plot import endurance_png, figure_png
from sega_ros.evaluation.bench_render import RenderTiming
from sega_ros.evaluation.bench_stages import STAGES, StageTiming


def test_creation_is_measured_in_a_process_of_its_own(head):
    shares = []
    (row,) = bench_creation.bench_creation(head, repeats={'preview': 1}, progress=shares.append)
    assert row.what == 'preview' and row.repeats == 1 and shares == [1]
    assert 0 < row.inner_seconds < row.seconds == row.fastest_seconds
    assert 200 < row.memory_mb < 8000


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Let the command be a small program that holds some memory and prints a creation's answer."""
    def install(code):
        program = tmp_path / 'python'
        program.write_text(f'#!{sys.executable} -S\n{code}\n')
        program.chmod(0o755)
        monkeypatch.setattr(bench_creation.sys, 'executable', str(program))

    return install


def test_the_largest_memory_counts_and_only_that_of_the_command(fake, tmp_path):
    held = bytearray(600_000_000)  # ours, which a fork would hand on
    held[:: 4096] = b'1' * len(held[:: 4096])
    fake('import time; x = b"1" * 100_000_000; time.sleep(0.2); del x; time.sleep(0.2)\n'
         'print(\'{"metadata": {"create_seconds": 1.5}}\')')
    seconds, inner, memory = bench_creation._create(tmp_path / 'photo.png', 'preview')
    assert seconds >= 0.4 and inner == 1.5 and 100 < memory < 300


def test_a_failed_creation_says_so(fake, tmp_path):
    fake('print("no face"); raise SystemExit(1)')
    with pytest.raises(CreationError, match=r"standard ended with status 1 and said 'no face'"):
        bench_creation._create(tmp_path / 'photo.png', 'standard')


def test_creation_table_shows_budgets():
    text = creation_table([CreationTiming('standard', 23.04, 16.8, 18.1, 963.0, 3, 45.0, 3000.0),
                           CreationTiming('start', 5.5, 5.0, None, 800.0, 3, 6.0, 1000.0)])
    assert '| `sega create`, standard | 23.0 | 16.8 | 18.1 | <= 45 | 963 | <= 3000 | 3 |' in text
    assert '| 5.5 | 5.0 | - | <= 6 | 800 | <= 1000 | 3 |' in text


def test_the_start_is_a_median_and_the_first_is_once(monkeypatch, plain_avatar):
    answers = iter([(9.0, 700.0), (5.0, 720.0), (6.0, 710.0), (15.0, 900.0)])
    environments = []

    def measure(*args):
        environments.append(args[-1])
        for folder in environments[-1].values():
            assert Path(folder).parent.is_dir() and not Path(folder).exists()
        seconds, memory = next(answers)
        return {'start_seconds': seconds, 'memory_mb': memory}

    monkeypatch.setattr(bench_creation, 'measure', measure)
    usual, first = bench_creation.bench_start(plain_avatar, np.zeros((1, 8, 8, 3), np.uint8), repeats=3)
    assert (usual.seconds, usual.fastest_seconds, usual.memory_mb, usual.inner_seconds, usual.repeats) == (6, 5, 720, None, 3)
    assert (first.what, first.seconds, first.memory_mb, first.repeats, first.budget_seconds) == ('first start', 15, 900, 1, 20)
    assert [set(e) for e in environments] == [set()] * 3 + [{'SEGA_CACHE_DIR', 'NUMBA_CACHE_DIR'}]


def minutes(*values):
    return tuple(Minute(90.0, p95, memory) for p95, memory in values)


def test_endurance_compares_the_last_minute_with_the_second():
    found = Endurance.of(minutes((50.0, 700.0), (20.0, 800.0), (26.0, 801.0), (25.0, 808.0)))
    assert found.memory_ratio == pytest.approx(1.01) and found.latency_p95_ratio == pytest.approx(1.25)
    text = endurance_text(found)
    assert 'Minute 4 over minute 2: memory 1.010, latency (p95) 1.250' in text and '| 2 | 90.0 | 20.0 | 800.0 |' in text
    with pytest.raises(PathError, match='at least 3 minutes, found 2'):
        Endurance.of(minutes((1, 1), (1, 1)))


def test_endurance_is_one_run_of_whole_minutes(monkeypatch, plain_avatar):
    asked = {}
    answer = {'fps': 90.0, 'latency_ms_p50': 20.0, 'latency_ms_p95': 25.0, 'latency_ms_p99': 30.0, 'memory_mb': 800.0, 'drops': 3,
              'start_seconds': 5.0, 'minutes': [{'fps': 90.0, 'latency_ms_p95': 25.0, 'memory_mb': 800.0}] * 3}

    def measure(folder, seconds, size, busy, detail, progress):
        asked.update(seconds=seconds, size=size, busy=busy, detail=detail, frames=np.load(folder / 'frames.npy').shape)
        return answer

    monkeypatch.setattr(bench_path, 'measure', measure)
    row, found = bench_path.bench_endurance(plain_avatar, np.zeros((2, 8, 8, 3), np.uint8), minutes=3, progress=lambda s: None)
    assert asked == {'seconds': 180.0, 'size': 512, 'busy': 0, 'detail': 0, 'frames': (2, 8, 8, 3)}
    assert row.fps == 90 and len(found.minutes) == 3 and found.memory_ratio == 1


def test_a_failed_measurement_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_path.sys, 'executable', '/bin/false')
    with pytest.raises(PathError, match='said nothing'):
        bench_path.measure(tmp_path, 1.0, 64, 0, 0, lambda share: None)


def test_peers_draw_the_same_scene():
    rows = bench_peers(splats=400, size=32, seconds=0.0)
    ours, reference, gsplat = rows
    assert ours.forward_ratio == ours.forward_backward_ratio == 1 and ours.forward_ms > 0
    assert reference.forward_ratio == pytest.approx(reference.forward_ms / ours.forward_ms)
    assert (gsplat.forward_ms is None) == (not torch.cuda.is_available())


def test_peer_table():
    text = peer_table([PeerTiming('cpu', 30_000, 512, 2.0, 6.0, 1.0, 1.0),
                       PeerTiming('reference', 30_000, 512, 900.0, 3600.0, 450.0, 600.0),
                       PeerTiming('gsplat (CUDA)', 30_000, 512, None, None, None, None)])
    assert '| cpu | 2.00 | 6.00 | - |' in text
    assert '| reference | 900.00 | 3600.00 | 450 and 600 times as fast |' in text
    assert '| gsplat (CUDA) | not measured | not measured | - |' in text


def picture(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


STAGE_ROWS = tuple(StageTiming(s, 1.0, 2.0, 3.0, 1000.0, n, n // 2, 512, 1, 0, 900.0) for n in (5000, 30_042) for s in STAGES)
RENDER_ROWS = tuple(RenderTiming('cpu', n, n // 2, size, threads, n / 1e4 + size / 1e3, 0.1, 0.1, 0.1, 1.0, 2.0, 0.5, 1.0)
                    for n in (5000, 80_000) for size in (256, 512) for threads in (1, 2))
PATH_ROWS = (PathTiming(512, 0, 90.0, 23.0, 27.0, 30.0, 760.0, 10, 5.0),
             PathTiming(512, 1, 58.0, 41.0, 45.0, 60.0, 760.0, 20, 5.0))


def test_the_plot_shows_what_was_measured():
    full = picture(figure_png(STAGE_ROWS, RENDER_ROWS, PATH_ROWS))
    height, width = full.shape[:2]
    assert height > 600 and width > 1000
    for found in ((STAGE_ROWS, (), ()), ((), RENDER_ROWS, ()), ((), (), PATH_ROWS)):
        other = picture(figure_png(*found))
        assert other.shape == full.shape and (other < 128).any(-1).sum() < (full < 128).any(-1).sum()


def test_the_plot_of_endurance_follows_the_minutes():
    flat, rising = (picture(endurance_png(Endurance.of(minutes(*((25.0, 800.0 + k * growth) for k in range(5))))))
                    for growth in (0, 100))
    assert flat.shape == rising.shape and (flat != rising).any()


def test_json_of_all_parts_is_plain(tmp_path):
    from sega_ros.evaluation.bench import BenchReport, describe_machine, write_results
    from sega_ros.evaluation.bench_render import growth

    rows = (*RENDER_ROWS, RenderTiming('reference', 5000, 2500, 256, 1, *[float('nan')] * 4, 1.0, 2.0, float('nan'), 1.0))
    report = BenchReport(
        describe_machine(), path=PATH_ROWS, device=DeviceTiming('a GPU', 30_042, (480, 640), 0.5, 0.25, 1234.4),
        endurance=Endurance.of(minutes(*[(1.0, 2.0)] * 3)), stages=STAGE_ROWS, render=rows,
        growth=tuple(growth(rows)), peers=(PeerTiming('gsplat', 1, 1, None, None, None, None),),
        creation=(CreationTiming('start', 5.5, 5.0, None, 800.0, 3, 6.0, 1000.0),))
    files = write_results(report, tmp_path)
    assert [f.name for f in files] == ['bench.json', 'bench.md', 'bench.png', 'endurance.png']
    found = json.loads(files[0].read_text(), parse_constant=lambda name: pytest.fail(f'{name} is no JSON'))
    assert found['end_to_end']['fps'] == 90 and len(found['stages']) == len(STAGE_ROWS)
    assert found['render'][-1]['picture_ms'] is None and found['endurance']['memory_ratio'] == 1
    assert found['growth'][0].keys() == {'of', 'at', 'amount', 'cost'} and found['creation'][0]['budget_seconds'] == 6
    assert found['device']['size'] == [480, 640]
    text = files[1].read_text()
    assert 'On a GPU, 30,042 splats, 640 x 480: 1234 frames/s (pose, decode, bind 0.50 ms, draw and fetch 0.25 ms)' in text
    assert 'no worse than linear' in text and 'not measured' in text and 'Minute 3 over minute 2' in text

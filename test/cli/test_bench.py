"""The benchmark's own machinery; the figures themselves are never asserted."""

import json
import sys
import time
import types

import pytest

from sega_ros.errors import RequestError
from sega_ros.evaluation.bench import (
    BenchConfig,
    BenchReport,
    StageTiming,
    describe_machine,
    run_bench,
    stopwatch,
    write_results,
)


@pytest.fixture
def work(monkeypatch):
    """A module whose outer function calls its inner one."""
    module = types.ModuleType('bench_work')

    class Inner:
        def run(self):
            time.sleep(0.01)
            return 'done'

    module.Inner = Inner
    def outer():
        time.sleep(0.02)
        return module.Inner().run()

    module.outer = outer
    monkeypatch.setitem(sys.modules, 'bench_work', module)
    return module


def test_stopwatch_counts_nested_work_once_and_leaves_no_trace(work):
    before = work.outer, work.Inner.run
    with stopwatch({'outer': ('bench_work:outer',), 'inner': ('bench_work:Inner.run',)}) as spent:
        start = time.perf_counter()
        assert work.outer() == 'done'
        whole = time.perf_counter() - start
        assert spent['outer'] >= 0.02 and spent['inner'] >= 0.01
        assert spent['outer'] + spent['inner'] <= whole
    assert (work.outer, work.Inner.run) == before


def test_stopwatch_is_undone_after_an_error(work):
    before = work.outer
    with pytest.raises(ZeroDivisionError), stopwatch({'outer': ('bench_work:outer',)}):
        raise ZeroDivisionError
    assert work.outer is before


def test_unknown_parts_are_refused():
    with pytest.raises(RequestError, match='luck'):
        run_bench(BenchConfig(parts=('luck',)))


def test_results_are_written(tmp_path):
    report = BenchReport(describe_machine(), stages=(StageTiming('bind', 1.25, 2.5),), notes=('a note',))
    files = write_results(report, tmp_path / 'new')
    data = json.loads(files[0].read_text())
    assert data['stages'] == [{'stage': 'bind', 'p50': 1.25, 'p95': 2.5}] and data['machine']['cores'] >= 1
    assert '| bind | 1.25 | 2.50 |' in files[1].read_text() and 'a note' in files[1].read_text()


def test_the_whole_path_is_reported_first_and_as_end_to_end(tmp_path):
    from sega_ros.evaluation.bench_path import Bandwidth, PathTiming

    rows = (PathTiming(512, 0, 60.5, 30.0, 39.0, 45.0, 800.0, 12, 5.0),
            PathTiming(512, 1, 40.0, 40.0, 50.0, 60.0, 801.0, 20, 5.5))
    report = BenchReport(describe_machine(), path=rows, bandwidth=(Bandwidth('expression messages', 10_500.0),))
    data = json.loads(write_results(report, tmp_path)[0].read_text())
    assert data['end_to_end'] == {'fps': 60.5, 'latency_ms_p50': 30.0, 'latency_ms_p95': 39.0, 'latency_ms_p99': 45.0,
                                  'memory_mb': 800.0, 'drops': 12}
    assert len(data['path']) == 2 and data['bandwidth'][0]['bytes_per_second'] == 10_500.0
    text = report.text()
    assert '| 512 x 512, 1 busy process beside it | 40.0 | 40.0 | 50.0 | 60.0 | 801 | 5.5 |' in text
    assert '| expression messages | 10.5 |' in text


def test_a_failed_measurement_says_why(tmp_path, monkeypatch):
    from sega_ros.evaluation import bench_path

    monkeypatch.setattr(bench_path.sys, 'executable', '/bin/false')
    with pytest.raises(bench_path.PathError, match='said nothing'):
        bench_path._measure(tmp_path, 1.0, 64, 0)

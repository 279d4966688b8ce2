"""The benchmark's own machinery; the figures themselves are never asserted."""

import json
import sys
import time
import types

import pytest

from sega_ros.errors import RequestError
from sega_ros.evaluation.bench import BenchConfig, BenchReport, describe_machine, run_bench, write_results
from sega_ros.evaluation.stopwatch import replaced, stopwatch


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


def test_stopwatch_takes_an_object_and_a_name(work):
    inner = work.Inner()
    with stopwatch({'inner': ((inner, 'run'),)}) as spent:
        inner.run()
        found = spent['inner']
        work.Inner().run()
        assert spent['inner'] == found >= 0.01, 'that object only'


def test_replaced_is_undone_after_an_error(work):
    before = work.outer
    with pytest.raises(ZeroDivisionError), replaced(work, 'outer', None):
        assert work.outer is None
        raise ZeroDivisionError
    assert work.outer is before


def test_unknown_parts_are_refused():
    with pytest.raises(RequestError, match='luck'):
        run_bench(BenchConfig(parts=('luck',)))


@pytest.mark.parametrize('parts, minutes', [(('path',), 2), (('stages',), 10)])
def test_minutes_are_of_the_whole_path_and_three_or_more(parts, minutes):
    with pytest.raises(RequestError, match='minutes: wanted 3 or more of the part path'):
        run_bench(BenchConfig(parts=parts, minutes=minutes))


def test_parts_run_in_order_and_report_their_share(monkeypatch):
    from sega_ros.evaluation import bench

    for part in ('render', 'creation'):
        monkeypatch.setattr(bench._Bench, part, lambda self, share, part=part: share(0.5) or {part: ()})
    seen = []
    report = run_bench(BenchConfig(parts=('render', 'creation')), progress=lambda *row: seen.append(row))
    assert seen == [('render', 0.0), ('render', 0.25), ('creation', 0.5), ('creation', 0.75)]
    assert report.as_dict()['end_to_end'] is None


def test_without_ros_the_whole_path_is_not_measured(monkeypatch):
    from sega_ros.evaluation import bench

    monkeypatch.setattr(bench, 'find_spec', lambda name: None)
    report = run_bench(BenchConfig(parts=('path',)))
    assert report.path == () and 'Whole path: not measured, as rclpy is not installed.' in report.text()


def test_the_command_passes_its_options_on(monkeypatch, capsys, tmp_path):
    from sega_ros.cli import main
    from sega_ros.evaluation import bench

    asked = []

    def run(config, *, avatar, progress):
        asked.append(config)
        return BenchReport(describe_machine(), notes=('a note',))

    monkeypatch.setattr(bench, 'run_bench', run)
    assert main(['bench', '--only', 'path', '--minutes', '10', '--frames', '7', '--out', str(tmp_path), '--json']) == 0
    assert (asked[0].parts, asked[0].minutes, asked[0].frames) == (('path',), 10, 7)
    assert json.loads(capsys.readouterr().out)['files'] == [str(tmp_path / 'bench.json'), str(tmp_path / 'bench.md')]
    assert 'a note' in (tmp_path / 'bench.md').read_text()


def test_the_whole_path_is_reported_first_and_as_end_to_end(tmp_path):
    from sega_ros.evaluation.bench_path import Bandwidth, PathTiming

    rows = (PathTiming(512, 0, 60.5, 30.0, 39.0, 45.0, 800.0, 12, 5.0),
            PathTiming(512, 1, 40.0, 40.0, 50.0, 60.0, 801.0, 20, 5.5),
            PathTiming(256, 0, 80.0, 20.0, 25.0, 30.0, 790.0, 20, 5.5, detail=5000))
    report = BenchReport(describe_machine(), path=rows, bandwidth=(Bandwidth('expression messages', 10_500.0),))
    data = json.loads(write_results(report, tmp_path)[0].read_text())
    assert data['end_to_end'] == {'fps': 60.5, 'latency_ms_p50': 30.0, 'latency_ms_p95': 39.0, 'latency_ms_p99': 45.0,
                                  'memory_mb': 800.0, 'drops': 12}
    assert [row['detail'] for row in data['path']] == [0, 0, 5000] and data['bandwidth'][0]['bytes_per_second'] == 10_500.0
    text = report.text()
    assert '| 512 x 512, 1 busy process beside it | 40.0 | 40.0 | 50.0 | 60.0 | 801 | 5.5 |' in text
    assert '| 256 x 256, 5,000 splats | 80.0 | 20.0 | 25.0 | 30.0 | 790 | 5.5 |' in text
    assert '| expression messages | 10.5 |' in text

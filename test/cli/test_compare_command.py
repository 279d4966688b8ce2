"""`sega compare`; what it computes is tested in test/evaluation."""

import json

import pytest
from evaluation_runs import columns, write_run

from sega_ros.cli import main


@pytest.fixture
def runs(tmp_path):
    """Two runs of 10 s; B is 1 dB better."""
    table = columns(300)
    write_run(tmp_path / 'a', table, clip=0)
    write_run(tmp_path / 'b', {**table, 'psnr_face': table['psnr_face'] + 1}, clip=0)
    return str(tmp_path / 'a'), str(tmp_path / 'b')


def test_table_and_page(runs, tmp_path, capsys):
    assert main(['compare', *runs, '--out', str(tmp_path / 'out.html')]) == 0
    captured = capsys.readouterr()
    line = next(line for line in captured.out.splitlines() if line.startswith('psnr_face'))
    assert line.split()[-1] == 'better' and '+1 ' in line and '300' in line and captured.err == ''
    assert (tmp_path / 'out.html').read_text().startswith('<!doctype html>')


def test_json(runs, capsys):
    assert main(['compare', *runs, '--json', '--block', '0.5']) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer['ok'] and answer['block_frames'] == 15 and answer['out'] is None
    assert answer['figures']['psnr_face']['verdict'] == 'better' and answer['figures']['akd']['verdict'] == 'no difference'


def test_refusals(runs, tmp_path, capsys):
    other = str(write_run(tmp_path / 'c', columns(300), clip=0, sha256='0'))
    for argv, message in (([runs[0], other], 'the recordings differ'), ([runs[0], str(tmp_path)], 'not a finished run'),
                          ([*runs, '--out', 'a.pdf'], 'ending in .png or .html')):
        assert main(['compare', *argv, '--json']) == 1
        captured = capsys.readouterr()
        assert message in json.loads(captured.out)['message'] and 'Traceback' not in captured.err


def test_force_warns(runs, tmp_path, capsys):
    other = str(write_run(tmp_path / 'c', columns(300), clip=0, protocol='cross'))
    assert main(['compare', runs[0], other, '--force', '--json']) == 0
    answer = json.loads(capsys.readouterr().out)
    assert 'protocol differs' in answer['warnings'][0] and answer['mismatches']


@pytest.mark.parametrize('argv', [(), ('a',), ('a', 'b', 'c'), ('a', 'b', '--block', '0'), ('a', 'b', '--block', 'x')])
def test_wrong_usage(argv, capsys):
    assert main(['compare', *argv]) == 2 and 'usage: sega' in capsys.readouterr().err

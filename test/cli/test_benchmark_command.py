"""`sega benchmark`: what it makes, lists and refuses; the parts are tested in test/evaluation."""

import json

import numpy as np
import pytest

from sega_ros.cli import benchmark, main
from sega_ros.io import VideoWriter, read_image
from sega_ros.io.bags import PICTURES, BagReader

SMALL = ['--scenes', 'talking', '--seconds', '0.1', '--rate', '20', '--size', '96x64', '--jobs', '1']


def answer(capsys):
    return json.loads(capsys.readouterr().out)


def test_make_then_evaluate(tmp_path, capsys, monkeypatch):
    out = tmp_path / 'out'
    assert main(['benchmark', '--out', str(out), *SMALL, '--only-make', '--json']) == 0
    assert answer(capsys)['scenes'] == ['talking']
    with BagReader(out / 'set' / 'talking' / 'bag') as bag:
        assert [f.image.shape for f in bag.images(bag.choose_topic('', PICTURES))] == [(64, 96, 3)] * 2
    assert read_image(out / 'set' / 'talking' / 'contact.png').shape[1] == 4 * 48
    given = []

    def evaluator(args, head, embedding):
        def call(entry, folder, report):
            given.append((entry.name, entry.path, folder, args.quality, args.score_every))
            return {'frames': {'total': 2, 'scored': 1}, 'figures': {'psnr_face': {'mean': 31.5}}}

        return call

    monkeypatch.setattr(benchmark, '_evaluator', evaluator)
    before = (out / 'set' / 'talking' / 'truth.npz').stat().st_mtime_ns
    assert main(['benchmark', '--out', str(out), *SMALL, '--score-every', '3', '--json']) == 0
    told = answer(capsys)
    assert given == [('talking', out / 'set' / 'talking' / 'bag', out / 'results' / 'talking', 'standard', 3)]
    assert told['mean']['figures'] == {'psnr_face': 31.5} and told['refused'] == []
    assert (out / 'set' / 'talking' / 'truth.npz').stat().st_mtime_ns == before
    assert '| talking | 2 (1, 0) | 31.5 |' in (out / 'results' / 'summary.md').read_text()
    assert main(['benchmark', '--out', str(out), *SMALL, '--seed', '1', '--json']) == 1
    assert 'other settings' in answer(capsys)['message']


def test_the_real_runner(tmp_path, capsys):
    """A scene is made, an avatar of its first frame, and both kinds of figures come out."""
    pytest.importorskip('sega_ros.evaluation.replay.run')
    command = ['benchmark', '--out', str(tmp_path), '--scenes', 'talking', '--seconds', '0.2', '--jobs', '1',
               '--quality', 'preview', '--score-every', '2', '--json']
    assert main(command) == 0
    found = answer(capsys)['sequences']['talking']
    assert found['frames']['total'] == 6 and found['frames']['scored'] >= 2 and found['frames']['lost'] == 0
    assert found['figures']['psnr_face'] > 20 and found['figures']['akd'] < 10
    assert found['tracking']['found'] == 1 and found['tracking']['place_px'] < 20 and found['tracking']['pose_deg'] < 10
    written = (tmp_path / 'results' / 'talking' / 'summary.json').stat().st_mtime_ns
    assert main(command) == 0 and answer(capsys)['sequences']['talking'] == found
    assert (tmp_path / 'results' / 'talking' / 'summary.json').stat().st_mtime_ns == written
    assert main([*command, '--quality', 'standard']) == 1 and 'other options' in answer(capsys)['message']


def test_a_public_set_and_its_list(tmp_path, capsys, monkeypatch):
    root = tmp_path / 'hdtf'
    for name in ('RD_Radio11_000', 'WDA_BarackObama_000'):
        with VideoWriter(root / f'{name}.mp4', size=(16, 24), fps=25) as writer:
            writer.write(np.full((16, 24, 3), 100, np.uint8))
    (tmp_path / 'test.txt').write_text('WDA_BarackObama_000\n\n')
    monkeypatch.setattr(benchmark, '_evaluator', lambda *_: lambda entry, folder, report: {'frames': {}, 'figures': {}})
    command = ['benchmark', '--layout', 'hdtf', '--data', str(root), '--out', str(tmp_path / 'out'), '--json']
    assert main(command) == 0 and list(answer(capsys)['sequences']) == ['RD_Radio11_000', 'WDA_BarackObama_000']
    assert main([*command, '--list', str(tmp_path / 'test.txt')]) == 0
    assert list(answer(capsys)['sequences']) == ['WDA_BarackObama_000']
    assert main([*command, '--list', str(tmp_path / 'nowhere.txt')]) == 1
    assert 'one name a line' in answer(capsys)['message']


def test_refusals(tmp_path, capsys):
    for arguments, said in (
            ([], '--out is missing'), (['--layout', 'vfhq'], 'belong together'),
            (['--out', str(tmp_path / 'o'), '--scenes', 'talking,sleeping'], "found 'sleeping'"),
            (['--submission', str(tmp_path / 's.zip')], '--layout nersemble'),
            (['--layout', 'nersemble', '--data', str(tmp_path), '--submission', str(tmp_path / 's.zip')], 'FLAME 2023')):
        assert main(['benchmark', *arguments, '--json']) == 1
        assert said in answer(capsys)['message']
    assert not (tmp_path / 'o').exists()
    assert main(['benchmark', '--seed', '10000', '--out', 'x']) == 2

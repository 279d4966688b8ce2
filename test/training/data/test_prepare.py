"""Whole data sets in their real layouts: loader, tracking, file; resumable, and one bad person does not stop the rest."""

import json
import shutil

import numpy as np
import pytest
from dataset_people import SERIALS, clip_path, write_multiview, write_nersemble

from sega_ros.errors import DatasetError, StorageError
from sega_ros.training.data.capture_file import CaptureFolder, load_capture
from sega_ros.training.data.prepare import open_source, prepare
from sega_ros.training.data.track import TrackConfig

SMALL = TrackConfig(size=64, photo_size=96)


@pytest.fixture(scope='module')
def nersemble(tmp_path_factory, truth):
    """Participant 017 is whole, 018 has a clip without pictures."""
    root = tmp_path_factory.mktemp('nersemble')
    for participant in (17, 18):
        write_nersemble(root, participant, truth)
    clip_path(root / '018', 'EXP-1-head', '222200037').write_bytes(b'')
    return root


def test_nersemble_to_captures(nersemble, tmp_path, head, embedding, tag, tracked):
    out, told = tmp_path / 'out', []
    source = open_source(nersemble, 'nersemble')
    report = prepare(source, out, head, embedding, frames=2, config=SMALL, prefix='nersemble-',
                     progress=lambda *step: told.append(step))
    assert list(report.written) == ['nersemble-017'] and report.written['nersemble-017'].shots == 8
    assert 'participant 018, sequence EXP-1-head, camera 222200037' in report.failed['nersemble-018']
    assert '1 people written, 0 were there already, 1 failed' in report.text()
    assert told == [('017', 0.0), ('018', 0.5), ('', 1.0)]
    capture = load_capture(out / 'nersemble-017.npz', tag)
    assert capture.photo.image.shape == (96, 96, 3) and capture.shots[0].image.shape == (64, 64, 3)
    # As from the pictures before they became clips.
    wanted, _ = tracked
    for shot, k in zip(capture.shots, np.argsort(SERIALS), strict=False):
        assert np.abs(shot.camera.viewmat - wanted.shots[k].camera.viewmat).max() < 0.05

    stamp = (out / 'nersemble-017.npz').stat().st_mtime_ns
    again = prepare(source, out, head, embedding, frames=2, config=SMALL, prefix='nersemble-')
    assert again.present == ['nersemble-017'] and not again.written and list(again.failed) == ['nersemble-018']
    assert (out / 'nersemble-017.npz').stat().st_mtime_ns == stamp
    assert CaptureFolder(out, tag, split='all').names == ('nersemble-017',)


def test_a_damaged_capture_is_made_anew(tmp_path, truth, head, embedding, tag):
    write_multiview(tmp_path / 'in', 'anna', truth)
    shutil.rmtree(tmp_path / 'in/anna/images/0001')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/anna.npz').write_bytes(b'half a file')
    report = prepare(open_source(tmp_path / 'in', 'multiview'), tmp_path / 'out', head, embedding, frames=1, config=SMALL)
    assert list(report.written) == ['anna'] and len(load_capture(tmp_path / 'out/anna.npz', tag).shots) == 4


def test_nobody_worked(tmp_path, truth, head, embedding):
    folder = write_multiview(tmp_path / 'in', 'anna', truth)
    (folder / 'cameras.json').write_text('{}')
    shutil.copytree(folder, tmp_path / 'in/b c')
    source = open_source(tmp_path / 'in', 'multiview')
    with pytest.raises(DatasetError, match=r'(?s)not one of 2 people.*anna: .*no cameras in it.*b c: .*wanted a name'):
        prepare(source, tmp_path / 'out', head, embedding, config=SMALL)
    (tmp_path / 'file').touch()
    with pytest.raises(StorageError, match='cannot write .*file'):
        prepare(source, tmp_path / 'file', head, embedding, config=SMALL)
    with pytest.raises(DatasetError, match="format 'flame' is unknown"):
        open_source(tmp_path, 'flame')


def test_a_library_that_fails_costs_one_person_only(tmp_path, truth, head, embedding):
    class Source:
        def people(self):
            return ['bad', 'good']

        def frames(self, person, count):
            if person == 'bad':
                raise FloatingPointError('surprise')
            return iter(truth.frames[:count])

    report = prepare(Source(), tmp_path, head, embedding, frames=1, config=SMALL)
    assert report.failed == {'bad': 'FloatingPointError: surprise'} and list(report.written) == ['good']


def run_cli(capsys, *argv):
    from sega_ros.cli import main

    status = main([str(a) for a in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command(capsys, tmp_path, truth, tag):
    folder = write_multiview(tmp_path / 'in', 'anna', truth)
    shutil.copytree(folder, tmp_path / 'in/bert')
    (tmp_path / 'in/bert/cameras.json').unlink()
    argv = ('data', 'prepare', tmp_path / 'in', '--format', 'multiview', '--out', tmp_path / 'out', '--size', 64, '--frames', 1)
    status, out, err = run_cli(capsys, *argv, '--json')
    result = json.loads(out)
    assert status == 0 and list(result['written']) == ['anna'] and result['written']['anna']['shots'] == 4
    assert 'no such file' in result['failed']['bert'] and 'warning: bert' in err
    assert load_capture(tmp_path / 'out/anna.npz', tag).photo.image.shape == (128, 128, 3)
    status, out, _ = run_cli(capsys, *argv)
    assert status == 0 and '0 people written, 1 were there already, 1 failed' in out


def test_the_command_refuses(capsys, tmp_path):
    (tmp_path / 'in/anna/images').mkdir(parents=True)
    argv = ('data', 'prepare', tmp_path / 'in', '--format', 'multiview', '--out', tmp_path / 'out')
    for more, match in (((), 'not one of 1 people could be prepared'), (('--size', 8), '--size: wanted 32 to 1024'),
                        (('--frames', 0), '--frames: wanted 1 to 200')):
        status, _, err = run_cli(capsys, *argv, *more)
        assert status == 1 and match in err
    assert run_cli(capsys, *argv[:4], 'flame', '--out', 'x')[0] == 2

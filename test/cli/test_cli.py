"""The command line without avatars: help, usage, exit status, one JSON object, clear errors, quick start."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from sega_ros.cli import main
from sega_ros.cli.arguments import color, degrees, size
from sega_ros.cli.render import turntable
from sega_ros.io import write_png

COMMANDS = ('create', 'drive', 'render', 'head', 'data', 'train', 'reenact', 'compare', 'ablate', 'bench')


def run(capsys, *argv):
    """Exit status, standard output and standard error of a command in this process."""
    status = main([str(a) for a in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    write_png(path, np.full((80, 100, 3), 128, np.uint8))
    return path


def test_help_names_every_command(capsys):
    status, out, _ = run(capsys, '--help')
    assert status == 0 and all(f'sega {c}' in out for c in COMMANDS) and 'Exit status' in out


@pytest.mark.parametrize('command', [(c,) for c in COMMANDS] + [('head', a) for a in ('build', 'show', 'convert')])
def test_every_command_has_help(capsys, command):
    status, out, _ = run(capsys, *command, '--help')
    assert status == 0 and '--help' in out
    if command[0] != 'head' or len(command) == 1:
        assert 'example' in out


@pytest.mark.parametrize('argv', [
    (), ('create',), ('create', 'a.png'), ('paint',), ('create', 'a.png', '--name', 'x', '--quality', 'best'),
    ('drive', 'x', '--out', 'o.mp4'), ('drive', 'x', '--out', 'o.mp4', '--video', 'a.mp4', '--camera', '0'),
    ('drive', 'x', '--out', 'o.mp4', '--video', 'a.mp4', '--view', 'above'), ('render', 'x'),
    ('render', 'x', '--out', 'a.png', '--yaw', 'left'), ('render', 'x', '--out', 'a.png', '--yaw', '200'),
    ('render', 'x', '--out', 'a.png', '--size', '0'), ('render', 'x', '--out', 'a.png', '--size', '10x20x30'),
    ('render', 'x', '--out', 'a.png', '--distance', '-1'), ('render', 'x', '--out', 'a.png', '--background', 'sky'),
    ('head',), ('head', 'convert', 'a.pkl'), ('bench', '--frames', '0'), ('bench', '--only', 'luck'),
])
def test_wrong_usage_is_status_2(capsys, argv):
    status, out, err = run(capsys, *argv)
    assert status == 2 and out == '' and 'usage: sega' in err and 'Traceback' not in err


@pytest.mark.parametrize('avatar_id', ['a/b', '..', 'a' * 65])
def test_bad_ids(capsys, tmp_path, photo, avatar_id):
    for argv in (('create', photo, '--name', avatar_id), ('render', avatar_id, '--out', tmp_path / 'o.png'),
                 ('drive', avatar_id, '--video', 'v.mp4', '--out', tmp_path / 'o.mp4')):
        status, out, err = run(capsys, *argv, '--dir', tmp_path, '--json')
        answer = json.loads(out)
        assert status == 1 and answer['ok'] is False and answer['error'] == 'BAD_AVATAR_ID'
        assert len(err.splitlines()) == 1 and err.startswith('sega: error: avatar id')


def test_missing_avatar(capsys, tmp_path):
    status, out, err = run(capsys, 'render', 'nobody', '--dir', tmp_path, '--out', tmp_path / 'o.png')
    assert status == 1 and out == '' and "no avatar 'nobody'" in err and 'Traceback' not in err
    assert not (tmp_path / 'o.png').exists()


def test_damaged_avatar(capsys, tmp_path):
    (tmp_path / 'ann.safetensors').write_bytes(b'half a file')
    status, out, err = run(capsys, 'render', 'ann', '--dir', tmp_path, '--out', tmp_path / 'o.png', '--json')
    assert status == 1 and json.loads(out)['error'] == 'AVATAR_DAMAGED' and 'create or copy it again' in err


@pytest.mark.parametrize(('content', 'match'), [
    (None, 'check the path'), (b'', 'found 0 bytes'), (b'text', 'no picture'),
    (b'\x89PNG\r\n\x1a\n' + b'\0' * 40, 'damaged|no picture'),
])
def test_bad_photos(capsys, tmp_path, content, match):
    import re

    path = tmp_path / 'photo.jpg'
    if content is not None:
        path.write_bytes(content)
    status, out, err = run(capsys, 'create', path, '--name', 'ann', '--dir', tmp_path / 'store', '--json')
    assert status == 1 and json.loads(out)['error'] == 'BAD_IMAGE' and re.search(match, err)
    assert not list((tmp_path / 'store').glob('*')), 'nothing is left behind'


def test_taken_id_is_refused_before_any_work(capsys, tmp_path):
    (tmp_path / 'ann.safetensors').write_bytes(b'old')
    status, out, _ = run(capsys, 'create', 'no-such-photo.png', '--name', 'ann', '--dir', tmp_path, '--json')
    assert status == 1 and json.loads(out)['error'] == 'AVATAR_EXISTS'
    assert (tmp_path / 'ann.safetensors').read_bytes() == b'old'


def test_unwritable_store(capsys, tmp_path, photo):
    (tmp_path / 'file').write_bytes(b'')
    status, out, _ = run(capsys, 'create', photo, '--name', 'ann', '--dir', tmp_path / 'file', '--json')
    assert status == 1 and json.loads(out)['error'] == 'STORAGE'


def test_json_is_the_only_thing_on_stdout(tmp_path):
    """Also when a library prints, on Python's level and below it."""
    script = (
        "import os, sys\nfrom sega_ros.cli.output import Output\n"
        "with Output(True) as output:\n"
        "    print('chatter'); os.write(1, b'from C\\n')\n"
        "    output.warn('careful')\n"
        "    output.result({'value': float('nan'), 'text': 'for people'})\n")
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {'ok': True, 'value': None, 'warnings': ['careful']}
    assert {'chatter', 'from C', 'sega: warning: careful'} <= set(done.stderr.splitlines())


def test_start_is_quick_and_loads_nothing_heavy():
    script = (
        "import sys\nfrom sega_ros.cli import main\nmain(['--help'])\n"
        "heavy = {'numpy', 'torch', 'cv2', 'mediapipe', 'numba', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n")
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_interrupt_is_status_130(capsys, monkeypatch):
    from sega_ros.cli import head

    def interrupted(args, output):
        raise KeyboardInterrupt

    monkeypatch.setattr(head, 'run_build', interrupted)
    status, out, err = run(capsys, 'head', 'build')
    assert status == 130 and out == '' and 'interrupted' in err


def test_head_build_and_show(capsys, tmp_path):
    status, out, _ = run(capsys, 'head', 'build', '--json')
    built = json.loads(out)
    assert status == 0 and built['head_model'] == 'open' and built['vertices'] > 5000
    status, out, _ = run(capsys, 'head', 'show', '--out', tmp_path / 'sheet.png', '--json')
    shown = json.loads(out)
    from sega_ros.io import read_image

    image = read_image(tmp_path / 'sheet.png')
    assert status == 0 and image.shape == (shown['height'], shown['width'], 3) and image.std() > 20
    assert shown['fingerprint'] == built['fingerprint']


def test_head_convert_refuses_code(capsys, tmp_path):
    import os
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path / "ran"}',)

    (tmp_path / 'evil.pkl').write_bytes(pickle.dumps({'f': Evil()}))
    status, out, err = run(capsys, 'head', 'convert', tmp_path / 'evil.pkl', '--out', tmp_path / 'o.npz', '--json')
    assert status == 1 and json.loads(out)['error'] == 'HEAD_MODEL' and 'Traceback' not in err
    assert not (tmp_path / 'ran').exists() and not (tmp_path / 'o.npz').exists()


def test_arguments_are_read_in_people_s_units():
    assert degrees('90') == pytest.approx(math.pi / 2)
    assert size('640x480') == (480, 640) and size('512') == (512, 512)
    assert color('#ff8000') == (1.0, 128 / 255, 0.0) and color('white') == (1.0, 1.0, 1.0)


def test_turntable_loops():
    swing = turntable(0.1, 0.5, 40)
    assert max(swing) == pytest.approx(0.6, abs=1e-3) and min(swing) == pytest.approx(-0.4, abs=1e-3)
    assert abs(swing[0] - swing[-1]) < 0.1
    circle = turntable(0.0, math.pi, 36)
    steps = np.diff(np.unwrap(circle))
    assert np.allclose(steps, steps[0]) and steps[0] == pytest.approx(2 * math.pi / 36)

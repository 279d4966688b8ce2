"""`sega reenact` on a plain avatar; figures are tested in test/evaluation."""

import json

import numpy as np

from sega_ros.cli import main
from sega_ros.io import VideoWriter, read_image


def test_strip_of_two_avatars(tmp_path, capsys, stored, performance):
    out = tmp_path / 'strip.png'
    status = main(['reenact', 'plain', 'plain', '--dir', str(stored), '--video', str(performance), '--self', '--frames', '4',
                   '--cell', '96', '--out', str(out), '--json'])
    answer, image = json.loads(capsys.readouterr().out), read_image(out)
    assert status == 0 and image.shape == (3 * 96, 4 * 96, 3)
    assert len(answer['frames']) == 4 and answer['frames'] == sorted(answer['frames']) and 1 <= answer['frames'][0]
    assert answer['frames'][-1] < 10, 'the last two frames show nobody'
    assert answer['self']['frames'] == 4 and answer['self']['face_psnr'] > 5
    rows = image.reshape(3, 96, 4, 96, 3)
    assert all(rows[k].std() > 10 for k in range(3))


def test_strips_are_refused_with_a_reason(tmp_path, capsys, stored, performance):
    arguments = ['reenact', 'plain', '--dir', str(stored), '--video', str(performance), '--out']
    assert main([*arguments, str(tmp_path / 'strip.gif')]) == 1
    assert '.png' in capsys.readouterr().err
    empty = tmp_path / 'empty.mp4'
    with VideoWriter(empty, size=(64, 96), fps=10) as writer:
        for _ in range(3):
            writer.write(np.full((64, 96, 3), 128, np.uint8))
    arguments = ['reenact', 'plain', '--dir', str(stored), '--video', str(empty), '--out', str(tmp_path / 'strip.png')]
    assert main([*arguments, '--json']) == 1
    assert json.loads(capsys.readouterr().out)['error'] == 'NO_FACE'

"""Figures and frames of reenactment strips; the command itself is tested with the others."""

import numpy as np

from sega_ros.evaluation.reenact import choose_frames, face_hull, score_frames


def test_frames_are_spread_over_those_with_a_face():
    present = [True] * 3 + [False] * 4 + [True] * 4
    assert choose_frames(present, 3) == [0, 7, 10]
    assert choose_frames(present, 3, skip_first=True)[0] == 1
    assert choose_frames(present, 100) == [0, 1, 2, 7, 8, 9, 10]
    assert choose_frames([False] * 5, 3) == []


def test_hull():
    points = np.array([[10, 10], [50, 10], [30, 40]] * 156, float)
    mask = face_hull(points, (48, 64))
    assert mask[20, 30] and not mask[39, 12] and mask.shape == (48, 64)


def test_scores_of_known_errors(astronaut):
    same = score_frames([astronaut], [astronaut])
    assert same.face_psnr == 100 and same.akd == 0 and (same.frames, same.lost) == (1, 0)
    moved = np.roll(astronaut, 4, 1)
    shifted = score_frames([moved, np.zeros_like(astronaut)], [astronaut] * 2)
    # The face is 107 px wide and 130 high: 4 px are about 8 of a 512 px square twice as large.
    assert 6 < shifted.akd < 10 and shifted.lost == 1 and shifted.face_psnr < 30

"""The table over a set, and tracking scored against a scene's truth."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sega_ros.errors import ConfigError, NoFaceError, RecordingError, RequestError
from sega_ros.evaluation.benchmark import finished_summary, run_set
from sega_ros.evaluation.benchmark_set import SetConfig
from sega_ros.evaluation.layouts import Entry
from sega_ros.evaluation.scene_score import score_tracking
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.io.bag_writer import BagWriter
from sega_ros.types import FlameExpression, FlameParams


def summary(psnr, frames=4):
    return {'frames': {'total': frames, 'scored': frames - 1, 'lost': 1},
            'figures': {'psnr_face': {'mean': psnr, 'median': 0.0}, 'akd': {'mean': 2.0}, 'csim': {'mean': float('nan')}}}


def test_table_over_a_set(tmp_path):
    entries = [Entry(name, 'clip', tmp_path / f'{name}.mp4') for name in ('a', 'b', 'c')]
    seen, shares = [], []

    def evaluate(entry, folder, report):
        seen.append((entry.name, folder))
        report(0.5)
        if entry.name == 'b':
            raise NoFaceError('b.mp4: no frame\nshows a face')
        return summary(30.0 if entry.name == 'a' else 20.0)

    table = run_set(entries, tmp_path / 'out', evaluate, progress=lambda stage, share: shares.append(share))
    assert seen == [(n, tmp_path / 'out' / n) for n in ('a', 'b', 'c')] and shares == sorted(shares) and shares[-1] < 1
    assert table.mean == {'figures': {'psnr_face': 25.0, 'akd': 2.0}, 'tracking': {}}
    written = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert written['refused'] == ['b'] and written['sequences']['b'] == {'error': 'b.mp4: no frame shows a face'}
    assert written['sequences']['a']['frames'] == {'total': 4, 'scored': 3, 'lost': 1, 'driver_lost': 0}
    lines = (tmp_path / 'out' / 'summary.md').read_text().splitlines()
    assert lines[0] == '| sequence | frames (measured, lost) | psnr_face | akd |'
    assert lines[2:5] == ['| a | 4 (3, 1) | 30 | 2 |', '| c | 4 (3, 1) | 20 | 2 |', '| **mean** |  | 25 | 2 |']
    assert 'b: refused: b.mp4: no frame shows a face' in lines


def test_other_errors_stop_the_set(tmp_path):
    def evaluate(entry, folder, report):
        raise ConfigError('quality: wanted ...')

    with pytest.raises(ConfigError):
        run_set([Entry('a', 'clip', tmp_path / 'a.mp4')], tmp_path / 'out', evaluate)


def test_finished_sequences_are_taken_over(tmp_path):
    config = SetConfig()
    assert finished_summary(tmp_path, config) is None
    from sega_ros.config import to_dict

    (tmp_path / 'summary.json').write_text(json.dumps({'config': to_dict(config), 'figures': {}}))
    assert finished_summary(tmp_path, config)['figures'] == {}
    with pytest.raises(RequestError, match='other options'):
        finished_summary(tmp_path, replace(config, seed=1))


# Tracking against the truth


def expressions(count=40):
    for k in range(count):
        phase = 2 * np.pi * k / 20
        params = FlameParams(np.zeros(0, np.float32), np.zeros(5, np.float32),
                             jaw_pose=np.array([0.2 + 0.1 * np.sin(phase), 0, 0]), left_eye_pose=np.array([0.0, 0.1, 0.0]),
                             right_eye_pose=np.array([0.0, 0.1, 0.0]), eyelids=np.full(2, 0.3 + 0.1 * np.cos(phase)))
        yield FlameExpression(10**9 + k, 'camera', 'open', '1', True, 1.0, params, np.diag([1.0, -1.0, -1.0]),
                              np.array([0.0, 0.0, 0.6]), 1.1)


def write(path, topic, messages):
    with BagWriter(path) as bag:
        for message in messages:
            bag.write_expression(topic, message)
    return path


def test_errors_that_were_put_in_come_out(tmp_path):
    truth = list(expressions())
    truth[-4:] = [replace(t, face_present=False) for t in truth[-4:]]
    turn = rotvec_to_rotmat(np.array([0.0, np.radians(3.0), 0.0]))
    eye = np.array([0.0, 0.1 + np.radians(2.0), 0.0])

    def tracked(k, message):
        params = replace(message.params, left_eye_pose=eye, right_eye_pose=eye, eyelids=-message.params.eyelids)
        return replace(message, params=params, rotation=turn @ message.rotation, face_present=k not in (0, 1, 38, 39))

    scene = write(tmp_path / 'scene', '/truth/expression', truth)
    scores = score_tracking(write(tmp_path / 'run', '/expression', [tracked(k, t) for k, t in enumerate(truth)]), scene)
    assert scores['found'] == pytest.approx(34 / 36) and scores['false'] == pytest.approx(2 / 4)
    assert scores['pose_deg'] == pytest.approx(3.0, abs=0.01) and scores['gaze_deg'] == pytest.approx(2.0, abs=0.01)
    assert scores['jaw_r'] == pytest.approx(1.0, abs=1e-4) and scores['blink_r'] == pytest.approx(-1.0, abs=1e-4)
    # The face, 8 cm before the axis, goes sideways by its share of the turn.
    near = 0.6 - 0.08 * np.cos(np.radians(3))
    assert scores['place_px'] == pytest.approx(1.1 * 640 * 0.08 * np.sin(np.radians(3)) / near, rel=0.01)


def test_figures_that_say_nothing_are_left_out(tmp_path):
    still = [replace(t, params=replace(t.params, jaw_pose=np.zeros(3), eyelids=np.zeros(2))) for t in expressions()]
    scores = score_tracking(write(tmp_path / 'run', '/expression', still), write(tmp_path / 'scene', '/truth/expression', still))
    assert set(scores) == {'found', 'place_px', 'pose_deg', 'gaze_deg'} and scores['pose_deg'] < 0.1


def test_bags_of_other_recordings_are_refused(tmp_path):
    later = [replace(t, stamp_ns=t.stamp_ns + 10**6) for t in expressions()]
    run, scene = write(tmp_path / 'run', '/expression', later), write(tmp_path / 'scene', '/truth/expression', expressions())
    with pytest.raises(RecordingError, match='no frame of one stamp'):
        score_tracking(run, scene)


def test_the_table_scores_scenes(tmp_path):
    scene = write(tmp_path / 'scene', '/truth/expression', expressions())

    def evaluate(entry, folder, report):
        folder.mkdir(parents=True)
        write(folder / 'bag', '/expression', expressions())
        return summary(30.0)

    table = run_set([Entry('a', 'bag', scene, truth=tmp_path / 'truth.npz')], tmp_path / 'out', evaluate)
    assert table.rows[0].tracking['found'] == 1.0 and table.mean['tracking']['pose_deg'] < 0.1
    assert '| found |' in table.text()

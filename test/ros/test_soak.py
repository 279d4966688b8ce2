"""The endurance run: a short one of the real nodes, and nodes that go wrong, which it has to find out."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sega_ros.evaluation import soak as judgement
from sega_ros.evaluation import soak_plan
from sega_ros.evaluation.soak import Second, Soak, reasons
from sega_ros.nodes.processes import MeasurementError
from sega_ros.nodes.soak import Setup, main, soak, synthetic

ENDS = str(Path(__file__).with_name('soak_ends.py'))


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """A domain of its own, and so much going on that a short run has some of everything."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(102 + os.getpid() % 100))
    monkeypatch.setattr(soak_plan, '_PAUSE', (0.2, 0.6))
    monkeypatch.setattr(soak_plan, '_CUT', (0.3, 0.6))
    monkeypatch.setattr('sega_ros.nodes.soak._SAMPLE', 0.25)


@pytest.fixture(scope='module')
def plain_clips(tmp_path_factory):
    """What the small core takes for faces, and for none."""
    folder = tmp_path_factory.mktemp('clips')
    values = {'face': 90, 'other': 40, 'still': 90, 'empty': 0, 'cropped': 90}
    for name, value in values.items():
        np.save(folder / f'{name}.npy', np.full((2, 36 if name == 'cropped' else 48, 64, 3), value, np.uint8))
    return [folder / f'{name}.npy' for name in values]


def run(folder, clips, *, builder='right', driver='right', seconds=7.0):
    """Run nodes on a small core."""
    return soak(Setup(folder, clips, [np.full((8, 8, 3), 7, np.uint8)], seconds, seed=11, rate=30.0,
                      builder=(ENDS, 'builder', builder), driver=(ENDS, 'driver', driver)))


def test_nodes_that_are_right_pass(tmp_path, plain_clips):
    done = run(tmp_path, plain_clips)
    assert reasons(done) == []
    found = json.loads((tmp_path / 'soak.json').read_text())
    assert found['reasons'] == [] and found['fps'] > 5 and len(found['growth']) == 6, found
    assert set(found['events']) == set(soak_plan.KINDS) and all(of['OK'] for of in found['events'].values())
    assert (tmp_path / 'soak.png').stat().st_size > 10_000
    assert len((tmp_path / 'soak.csv').read_text().splitlines()) == len(done.seconds) + 1


def test_a_driver_that_leaks_is_found_out(tmp_path, plain_clips):
    found = ' '.join(reasons(run(tmp_path, plain_clips, driver='leaks', seconds=9.0)))
    assert all(f' {word} in the first third' in found for word in ('MB', 'threads', 'handles')), found
    assert 'avatar_builder' not in found


def test_a_driver_that_dies_is_found_out(tmp_path, plain_clips):
    done = run(tmp_path, plain_clips, driver='dies')
    assert 'status 3' in done.died and "'driver', 'dies'" in done.died
    assert done.died in reasons(done) and 0 < done.duration < 7


def test_a_driver_that_hangs_is_found_out(tmp_path, plain_clips, monkeypatch):
    monkeypatch.setattr(judgement, 'ANSWER', 5.0)
    found = reasons(run(tmp_path, plain_clips, driver='hangs'))
    assert len(found) == 1 and 'no picture for' in found[0]


def test_a_damaged_avatar_is_found_out(tmp_path, plain_clips):
    found = reasons(run(tmp_path, plain_clips, builder='damages', seconds=4.0))
    assert found and all(reason.startswith('damaged avatar: ') for reason in found)


def test_a_node_that_can_not_be_started_ends_it_with_a_sentence(tmp_path, plain_clips):
    setup = Setup(tmp_path, plain_clips, [], builder=('-c', 'raise SystemExit(4)'))
    with pytest.raises(MeasurementError, match='ended with status 4'):
        soak(setup)


def test_the_exit_status_tells(tmp_path, plain_clips, monkeypatch, capsys):
    good = Soak((Second(1.0, 1, 1.0, 1.0, 1.0, {}),), (), np.array([0.5]))
    monkeypatch.setattr('sega_ros.nodes.soak.synthetic', lambda folder: (plain_clips, []))
    for done, status in ((good, 0), (replace(good, damaged=('ann: half',)), 1)):
        monkeypatch.setattr('sega_ros.nodes.soak.soak', lambda setup, done=done: done)
        assert main(['--out', str(tmp_path)]) == status
        assert ('ann: half' in capsys.readouterr().out) == bool(status)


def test_the_real_nodes(tmp_path, head):
    """Start to end in well under a minute on an idle machine."""
    clips, photos = synthetic(tmp_path, frames=4, size=(240, 320))
    done = soak(Setup(tmp_path / 'soak', clips, photos[:1], 12.0, seed=1, rate=60.0))
    assert done.died == '' and done.damaged == () and done.refused == 0
    assert all(event.outcome in judgement.EXPECTED for event in done.events), done.events
    assert len(done.arrivals) > 12 and {event.kind for event in done.events} >= {'camera', 'select', 'view', 'detail'}
    assert 200 < done.seconds[-1].use['avatar_driver'].memory_mb < 4000

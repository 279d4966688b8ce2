"""The judgement on an endurance run: every check is seen to fail, and to let a good run pass."""

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from sega_ros.evaluation.soak import (
    MAX_GAP,
    Event,
    Second,
    Soak,
    growths,
    longest_gap,
    reasons,
    report,
    silences,
    summary,
    table,
)
from sega_ros.evaluation.soak_plan import CUTS, FACE, KINDS, SILENT, plan
from sega_ros.evaluation.soak_plot import soak_png
from sega_ros.io.memory import ProcessUse

LENGTH = 600


def good(length=LENGTH, change=lambda at, use: use):
    """A run at 50 pictures a second; `change` gets the time and what the driver holds."""
    rng = np.random.default_rng(0)
    seconds = tuple(Second(float(at), 50, 20.0, 30.0, 40.0, {
        'avatar_builder': ProcessUse(900.0 + rng.normal(0, 3), 30, 60),
        'avatar_driver': change(at, ProcessUse(700.0 + rng.normal(0, 3), 20 + int(at % 7 == 0), 50))})
        for at in range(1, length + 1))
    events = (Event(10.0, 'camera', SILENT, 0.0, 'OK'), Event(16.0, 'camera', FACE, 0.0, 'OK'),
              Event(20.5, 'select', 'ann', 0.2, 'OK'), Event(30.0, 'create', 'ann', 12.0, 'OK'),
              Event(33.0, 'create', 'bob', 0.1, 'BUSY'), Event(40.0, 'delete', 'bob', 0.1, 'AVATAR_NOT_FOUND'))
    arrivals = np.arange(0, length, 0.02)
    return Soak(seconds, events, arrivals[(arrivals < 10) | (arrivals > 16)])


def test_a_good_run_passes_though_memory_varies_and_the_camera_was_silent():
    run = good()
    assert reasons(run) == []
    found = summary(run)
    assert found['longest_gap_s'] == pytest.approx(0.02, abs=0.001) and found['latency_ms_p95'] == 30
    assert found['events']['create'] == {'OK': 1, 'BUSY': 1} and found['fps'] == pytest.approx(50 * 594 / 600, abs=0.1)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(('change', 'word'), [
    (lambda at, use: replace(use, memory_mb=use.memory_mb + 0.6 * at), 'MB'),
    (lambda at, use: replace(use, threads=use.threads + at // 60), 'threads'),
    (lambda at, use: replace(use, handles=use.handles + at // 60), 'handles')])
def test_what_grows_is_named(change, word):
    found = reasons(good(change=change))
    assert len(found) == 1 and found[0].startswith('avatar_driver grows') and word in found[0]


def test_memory_that_comes_and_goes_is_no_growth():
    """As the C library keeps freed memory: here nearly always in the last third, and never in the first."""
    assert reasons(good(change=lambda at, use: replace(use, memory_mb=use.memory_mb + 120 * (at > 300 and at % 50 > 7)))) == []


def test_what_grows_while_it_warms_up_is_no_growth():
    assert reasons(good(change=lambda at, use: replace(use, memory_mb=use.memory_mb - max(0, 300 - 3 * at)))) == []
    assert reasons(good(change=lambda at, use: replace(use, handles=use.handles + 20 * (at > 300)))), 'the same, later'


def test_a_run_of_seconds_says_nothing_of_growth():
    assert growths(good(8).seconds) == [] and growths(()) == []
    assert reasons(Soak((), (), np.zeros(0))) == []


def test_the_longest_gap_is_found_outside_of_silences_only():
    arrivals = np.array([0.1, 0.5, 1.0, 6.0, 6.5])
    assert longest_gap(arrivals, [], 7.0) == (5.0, 1.0)
    gap, since = longest_gap(arrivals, [(1.2, 5.2)], 7.0)
    assert (gap, since) == pytest.approx((0.8, 5.2))
    assert longest_gap(arrivals, [], 20.0) == (13.5, 6.5), 'at the end'
    assert longest_gap(np.zeros(0), [], 9.0) == (9.0, 0.0)


def test_pictures_that_stay_away_are_a_reason():
    run = good()
    cut = run.arrivals[(run.arrivals < 100) | (run.arrivals > 100.5 + MAX_GAP)]
    found = reasons(replace(run, arrivals=cut))
    assert len(found) == 1 and 'no picture for 3.' in found[0] and 'after 100.0 s' in found[0]
    after_silence = run.arrivals[(run.arrivals < 10) | (run.arrivals > 16.5 + MAX_GAP)]
    assert 'after 16.0 s' in reasons(replace(run, arrivals=after_silence))[0], 'the camera is back, the driver is not'


@pytest.mark.parametrize(('change', 'match'), [
    ({'damaged': ('ann: too short',)}, 'ann: too short'), ({'died': 'avatar_driver ended with status 1'}, 'status 1'),
    ({'refused': 3}, '3 camera images')])
def test_other_reasons(change, match):
    found = reasons(replace(good(), **change))
    assert len(found) == 1 and match in found[0]


@pytest.mark.parametrize('outcome', ['no answer', 'INTERNAL', 'STORAGE', 'AVATAR_DAMAGED', 'refused: out of range'])
def test_answers_that_no_right_node_gives_are_reasons(outcome):
    run = good()
    found = reasons(replace(run, events=(*run.events, Event(50.0, 'select', 'ann', 1.0, outcome))))
    assert len(found) == 1 and outcome in found[0] and '50.0 s' in found[0]


def test_silences():
    events = [Event(float(at), 'camera', clip, 0.0, 'OK') for at, clip in ((1, 'other'), (2, SILENT), (3, SILENT), (5, FACE),
                                                                           (8, SILENT))]
    assert silences([*events, Event(9.0, 'select', FACE, 0.1, 'OK')], 10.0) == [(2.0, 5.0), (8.0, 10.0)]


def test_a_plan_is_the_seeds_and_every_cut_ends():
    actions = list(plan(3, 1800.0))
    assert actions == list(plan(3, 1800.0)) != list(plan(4, 1800.0))
    assert all(a.at <= b.at for a, b in pairwise(actions)) and actions[-1].at <= 1800
    assert {a.kind for a in actions} == set(KINDS)
    shown = [dict(a.values)['clip'] for a in actions if a.kind == 'camera']
    assert set(shown[::2]) == set(CUTS) and set(shown[1::2]) == {FACE} and len(shown) % 2 == 0
    assert 10 < sum(a.kind == 'create' for a in actions) < 60


def test_table_and_plot_and_words():
    run = good(60)
    rows = list(csv.DictReader(io.StringIO(table(run))))
    assert len(rows) == 60 and rows[20]['events'] == 'select ann' and rows[20]['avatar_driver_handles'] == '50'
    picture = Image.open(io.BytesIO(soak_png(run)))
    assert picture.format == 'PNG' and picture.width > 1000
    assert 'avatar_driver | MB' in report(run) and 'FAILED' not in report(run)
    assert 'FAILED: it died' in report(replace(run, died='it died'))
    soak_png(Soak((), (), np.zeros(0), died='at once'))

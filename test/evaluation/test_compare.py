"""Comparing runs: intervals that cover what they should, verdicts, refusals."""

import json
import math

import numpy as np
import pytest
from evaluation_runs import columns, write_run
from scipy import stats

from sega_ros.errors import RequestError
from sega_ros.evaluation.replay.bootstrap import block_interval, block_length
from sega_ros.evaluation.replay.compare import CompareConfig, compare_runs
from sega_ros.evaluation.replay.compare_report import comparison_page, to_json_values, to_table, write_comparison
from sega_ros.evaluation.replay.finished import read_run
from sega_ros.io import read_image

PLAIN = {'resamples': 2000, 'confidence': 0.95}


def by_name(found):
    return {d.name: d for d in found.differences}


def run_of(folder, table=None, **changes):
    return read_run(write_run(folder, columns(900) if table is None else table, clip=0, **changes))


def correlated(rng, count, memory, trials):
    """Sequences [trials, count] around 0 whose neighbours are alike (AR(1) of unit variance)."""
    values = rng.standard_normal((trials, count))
    for k in range(1, count):
        values[:, k] = memory * values[:, k - 1] + math.sqrt(1 - memory**2) * values[:, k]
    return values


def coverage(values, block=None):
    """Share of sequences whose interval holds the true mean, 0."""
    found = [block_interval(v, block=block or max(30, block_length(v)), rng=np.random.default_rng(k), **PLAIN)
             for k, v in enumerate(values)]
    return np.mean([i.low <= 0 <= i.high for i in found])


def test_intervals_cover_the_true_mean():
    # 300 sequences: the share's standard error is 0.013 where it is 0.95.
    rng = np.random.default_rng(1)
    assert 0.91 < coverage(correlated(rng, 600, 0.8, 300)) < 0.985
    assert 0.91 < coverage(correlated(rng, 300, 0.0, 300)) < 0.985  # 10 blocks, where plain percentiles are too narrow


def test_blocks_as_short_as_a_frame_or_a_second_claim_too_much():
    slow = correlated(np.random.default_rng(5), 1800, 0.97, 200)  # a minute in which neighbours are alike for a second
    assert coverage(slow, block=1) < 0.4 and coverage(slow, block=30) < 0.8
    assert coverage(slow) > 0.85  # not 0.95: a minute is short for that


def test_block_length_follows_the_theory():
    # Politis and White's optimum for an AR(1) process, from its known spectrum: (1.5 (G / g)^2 K)^(1/3).
    memory, count = 0.8, 20_000
    slope, spectrum = 2 * memory / (1 - memory)**2, (1 + memory) / (1 - memory)
    optimum = (1.5 * (slope / spectrum)**2 * count)**(1 / 3)
    found = [block_length(v) for v in correlated(np.random.default_rng(2), count, memory, 20)]
    assert np.median(found) == pytest.approx(optimum, rel=0.15)


@pytest.mark.parametrize('values', [[1.0], [1.0, 2.0], [3.0] * 50, [1.0, -1.0] * 40, list(range(100))])
def test_block_length_of_odd_values(values):
    assert 1 <= block_length(np.array(values, float)) <= 3 * len(values)**0.5 + 1


def test_independent_frames_agree_with_scipy():
    values = np.random.default_rng(3).gamma(2, 1, 400)
    ours = block_interval(values, block=1, resamples=20_000, confidence=0.95, rng=np.random.default_rng(0))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method='percentile', rng=np.random.default_rng(1))
    spread = theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.08 * spread)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.08 * spread)


def test_blocks_go_round():
    # One value in a block of three lies over: each value is in as many blocks as any other, so resampled means are unbiased.
    values = np.r_[np.zeros(99), 100.0]
    found = block_interval(values, block=7, resamples=200_000, confidence=0.5, rng=np.random.default_rng(0))
    assert found.mean == 1.0 and found.low <= 1.0 <= found.high


def test_too_few_blocks_say_so():
    found = block_interval(np.arange(100.0), block=30, rng=np.random.default_rng(0), **PLAIN)
    assert found.mean == 49.5 and math.isnan(found.low) and math.isnan(found.high)


def test_a_run_against_itself(tmp_path):
    run = run_of(tmp_path / 'a')
    found = compare_runs(run, run)
    assert len(found.differences) >= 18
    for d in found.differences:
        assert (d.difference, d.low, d.high, d.verdict) == (0, 0, 0, 'no difference') and d.mean_a == d.mean_b
    assert set(found.left_out) == {'lpips', 'csim'} and 'needs weights' in found.left_out['lpips']


def test_known_differences(tmp_path):
    table = columns(900)
    changed = {k: v.copy() for k, v in table.items()}
    noise = np.random.default_rng(9).standard_normal(900)
    changed['psnr_face'] += 0.5 + 0.4 * noise
    changed['akd'] += 0.25
    changed['mouth'] = changed['mouth_driver'] + 0.0
    changed['apd'] += 0.2 * noise - 0.2 * noise.mean()
    a, b = run_of(tmp_path / 'a', table), run_of(tmp_path / 'b', changed)
    found = by_name(compare_runs(a, b))
    psnr = found['psnr_face']
    assert psnr.verdict == 'better' and psnr.low < 0.5 + 0.4 * noise.mean() < psnr.high and psnr.pairs == 900
    assert psnr.high - psnr.low == pytest.approx(2 * 2.05 * 0.4 * noise.std() / 30, rel=0.35)  # t of 29 blocks
    akd = found['akd']
    assert akd.verdict == 'worse' and akd.difference == pytest.approx(0.25, abs=1e-4) and 0.2499 < akd.low
    assert akd.low <= akd.high < 0.2501
    mouth = found['mouth']
    assert mouth.verdict == 'better' and mouth.mean_b == 0 and 'distance from the driver' in mouth.meaning
    assert found['apd'].verdict == 'no difference' and 'eye_left_driver' not in found
    back = by_name(compare_runs(b, a))
    assert back['psnr_face'].verdict == 'worse' and back['psnr_face'].low == pytest.approx(-psnr.high)


def test_only_frames_that_both_scored(tmp_path):
    table, other = columns(400), columns(400)
    other = {k: v[50:].copy() for k, v in other.items()}  # it begins later
    table['scored'][100:120] = other['scored'][300:310] = False
    table['psnr_face'][110] = other['psnr_face'][305] = 1e6  # would show in a mean
    other['akd'][:30] = np.nan
    other['lost'][:35] = True
    found = compare_runs(run_of(tmp_path / 'a', table), run_of(tmp_path / 'b', other))
    rows = by_name(found)
    assert found.paired == 320 and rows['psnr_face'].pairs == 320 and rows['akd'].pairs == 290
    assert rows['psnr_face'].difference == 0 and rows['psnr_face'].mean_a < 100
    assert rows['lost'].mean_b == pytest.approx(35 / 320) and rows['lost'].verdict in ('worse', 'no difference')


def test_blocks_last_as_long_where_few_frames_were_measured(tmp_path):
    table = columns(900)
    table['scored'] = np.arange(900) % 3 == 0
    found = compare_runs(run_of(tmp_path / 'a', table), run_of(tmp_path / 'b', table))
    assert (found.paired, found.block_frames) == (300, 10)


def test_repeated_stamps_pair_in_their_order(tmp_path):
    table = columns(300)
    table['stamp_ns'][100:200] = table['stamp_ns'][100]
    found = compare_runs(run_of(tmp_path / 'a', table), run_of(tmp_path / 'b', table))
    assert found.paired == 300 and all(d.difference == 0 for d in found.differences)


def test_short_runs_get_no_verdict(tmp_path):
    a, b = columns(60), columns(60, seed=1)
    found = compare_runs(run_of(tmp_path / 'a', a), run_of(tmp_path / 'b', b))
    psnr = by_name(found)['psnr_face']
    assert psnr.verdict == 'too short to tell' and math.isnan(psnr.low) and 'as many frames as 5 blocks have' in to_table(found)
    assert comparison_page(found)
    sure = by_name(compare_runs(run_of(tmp_path / 'c', a), run_of(tmp_path / 'd', b), CompareConfig(block=0.2)))['psnr_face']
    assert math.isfinite(sure.low)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'sha256': 'cd' * 32}, 'the recordings differ.*abababababab.*cdcdcdcdcdcd'),
    ({'topic': '/other'}, 'the topics differ.*/other'),
    ({'protocol': 'cross'}, r'protocol differs \(self, cross\)'),
    ({'view': 'frontal'}, r'view differs \(input, frontal\)'),
    ({'masks': {'face': 'a square'}}, 'masks differ.*a square'),
    ({'side': 300.0}, 'the windows differ.*400.*300'),
    ({'side': None}, 'the windows differ.*None'),
])
def test_runs_that_do_not_belong_together(tmp_path, changes, message):
    a, b = run_of(tmp_path / 'a'), run_of(tmp_path / 'b', **changes)
    with pytest.raises(RequestError, match=message + '.*--force'):
        compare_runs(a, b)
    found = compare_runs(a, b, force=True)
    assert len(found.mismatches) == 1 and 'Compared all the same' in to_table(found)


def test_all_mismatches_are_named_at_once(tmp_path):
    a, b = run_of(tmp_path / 'a'), run_of(tmp_path / 'b', sha256='0', protocol='cross', side=100.0)
    with pytest.raises(RequestError, match='recordings differ.*protocol differs.*windows differ'):
        compare_runs(a, b)


def test_nothing_in_common(tmp_path):
    table = columns(20)
    table['stamp_ns'] = table['stamp_ns'] + 1
    with pytest.raises(RequestError, match=r'share no frame that both scored \(900 and 20 scored\)'):
        compare_runs(run_of(tmp_path / 'a'), run_of(tmp_path / 'b', table))


def test_picture_and_page(tmp_path):
    table = columns(900)
    table['psnr_face'] = table['psnr_face'] + 0.3 + 0.1 * np.random.default_rng(2).standard_normal(900)
    found = compare_runs(run_of(tmp_path / '<b>a', columns(900)), run_of(tmp_path / 'b', table))
    write_comparison(found, tmp_path / 'out.png')
    assert read_image(tmp_path / 'out.png').shape[0] > 600
    write_comparison(found, tmp_path / 'out.html')
    page = (tmp_path / 'out.html').read_text()
    assert '&lt;b&gt;a' in page and '<b>a' not in page and '>better<' in page and '<svg' in page and 'src=' not in page
    with pytest.raises(RequestError, match=r'ending in \.png or \.html'):
        write_comparison(found, tmp_path / 'out.pdf')
    values = json.loads(json.dumps(to_json_values(found)))
    assert values['figures']['psnr_face']['verdict'] == 'better' and values['paired'] == 900


def test_unknown_and_zero_in_words(tmp_path):
    a = columns(60)
    b = {**a, 'akd': a['akd'] + np.random.default_rng(0).random(60)}
    text = to_table(compare_runs(run_of(tmp_path / 'a', a), run_of(tmp_path / 'b', b)))
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert '0 to 0' in lines['psnr_face'] and 'unknown' in lines['akd'] and 'unknown to' not in lines['akd']

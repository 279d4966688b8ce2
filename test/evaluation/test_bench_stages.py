"""Stages: what is timed, how the shared graph is split, and that nothing stays wrapped; how fast is not tested."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from sega_ros.avatar.drive import AvatarDriver
from sega_ros.evaluation import bench_stages as module
from sega_ros.evaluation.bench import BenchReport
from sega_ros.evaluation.bench_stages import (
    STAGES,
    StageTiming,
    bench_picture,
    bench_stages,
    busy_processes,
    driver_and_vae,
    one_thread,
    split_stages,
    stage_tables,
    stage_timing,
)
from sega_ros.models import frame_decoder
from sega_ros.models.frame_decoder import Branch
from sega_ros.models.sega import Sega
from sega_ros.synthetic.performer import Performer

INNER = STAGES[:-2]  # without other and whole path


@pytest.fixture(scope='module')
def avatar(plain_avatar, small_networks):
    """With a dynamic branch, untrained."""
    torch.manual_seed(0)
    model, static = Sega(small_networks), small_networks.static
    features, fine = torch.randn(1, static.features, 48, 48), torch.randn(1, static.fine_features, 96, 96)
    return replace(plain_avatar, branch=Branch.of_model(model, features, fine))


@pytest.fixture(scope='module')
def pictures(head):
    performer = Performer(head, 0, size=(240, 240))
    return np.stack([performer.frame(k / 30)[0] for k in range(2)])


def seconds(**known):
    """Two frames in which every stage takes a millisecond, but for those that are named."""
    names = [s for s in INNER if s != 'VAE']
    return {name: np.array([0.001, 0.001]) for name in names} | {k: np.array(v) for k, v in known.items()}


def test_the_graph_is_shared_out_as_the_vae_takes_of_it():
    found = split_stages(seconds(graph=[0.010, 0.014], VAE=[0.003, 0.003], **{'whole path': [0.030, 0.040]}))
    assert tuple(found) == STAGES
    np.testing.assert_allclose(found['VAE'], [0.0025, 0.0035])  # 3 of 12 ms
    np.testing.assert_allclose(found['dynamic decoder'], [0.001 + 0.0075, 0.001 + 0.0105])
    np.testing.assert_allclose(sum(found[s] for s in STAGES[:-1]), found['whole path'])
    np.testing.assert_allclose(found['other'], [0.030 - 0.019, 0.040 - 0.023])


def test_without_networks_vae_is_nothing():
    found = split_stages(seconds(VAE=[0.0, 0.0], **{'whole path': [0.02, 0.02]}))
    assert not found['VAE'].any() and (found['dynamic decoder'] == 0.001).all()


def test_percentiles_of_known_times():
    row = stage_timing('fit', np.arange(1, 102) / 1000, 30_000, 26_000, 512, 2, 1, 900.0)
    assert (row.p50, row.p95, row.p99) == pytest.approx((51, 96, 100)) and row.fps == pytest.approx(1000 / 51)
    assert (row.splats, row.drawn, row.size, row.threads, row.busy, row.memory_mb) == (30_000, 26_000, 512, 2, 1, 900.0)
    assert np.isnan(stage_timing('VAE', np.zeros(5), 1, 1, 64, 1, 0, 1.0).fps)


def test_the_vae_is_cut_out_of_the_very_graph(avatar, head):
    capture = frame_decoder.captured
    driver, vae = driver_and_vae(avatar, head)
    assert frame_decoder.captured is capture
    offsets = (0.003 * torch.randn(1, 3, 48, 48)).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        _, _, displacement = driver._decoder._branch(offsets)
        torch.testing.assert_close(vae(offsets), displacement, rtol=0, atol=1e-6)


def test_rows_for_every_condition_and_no_trace(avatar, head, embedding, pictures):
    before = AvatarDriver.splats, torch.get_num_threads()
    shares = []
    rows = bench_stages(avatar, head, embedding, pictures, frames=3, sizes=(64, 32), threads=(1, 2), busy=(0,),
                        progress=shares.append)
    assert (AvatarDriver.splats, torch.get_num_threads()) == before
    assert [r.stage for r in rows] == list(STAGES) * 4 and shares == [0, 0.25, 0.5, 0.75]
    assert [(r.size, r.threads) for r in rows[:: len(STAGES)]] == [(64, 1), (64, 2), (32, 1), (32, 2)]
    for k in range(4):
        group = rows[k * len(STAGES) : (k + 1) * len(STAGES)]
        assert all(0 < r.p50 <= r.p95 <= r.p99 for r in group if r.stage != 'other'), group
        assert all(0 < r.drawn < r.splats and r.memory_mb > 50 for r in group)
        assert sum(r.p50 for r in group if r.stage in INNER) > 0.3 * group[-1].p50, 'most of a frame is in some stage'
    text = stage_tables(rows)
    assert f'| VAE | {rows[3].p50:.2f} | {rows[3].p95:.2f} | {rows[3].p99:.2f} |' in text
    assert '64 x 64, one renderer thread' in text and text.count(f'{rows[0].splats:,} (') == 4


def test_levels_of_detail_are_set(plain_avatar, head, embedding, pictures, monkeypatch):
    chosen = []
    monkeypatch.setattr(AvatarDriver, 'detail', property(lambda self: 4000, lambda self, n: chosen.append(n)))
    rows = bench_stages(plain_avatar, head, embedding, pictures, frames=1, levels=(1000, 4000, 9000), sizes=(32,), threads=(1,),
                        busy=(0,))
    assert chosen == [4000, 1000], 'its own first, and none that it does not have'
    assert [r.splats for r in rows[:: len(STAGES)]] == [4000, 1000]
    assert rows[STAGES.index('VAE')].p50 == 0, 'an avatar without networks'


def test_a_denser_avatar_has_the_levels_above(plain_avatar, head, embedding, pictures, monkeypatch):
    chosen, made, many = [], [], replace(plain_avatar, metadata={})
    monkeypatch.setattr(AvatarDriver, 'detail', property(lambda self: 9000 if self.avatar is many else 4000,
                                                         lambda self, n: chosen.append((self.avatar is many, n))))
    rows = bench_stages(plain_avatar, head, embedding, pictures, frames=1, levels=(1000, 7000), sizes=(48, 32), threads=(1,),
                        busy=(0,), dense=lambda: made.append(1) or many)
    assert made == [1] and chosen == [(False, 4000)] * 2 + [(False, 1000)] * 2 + [(True, 7000)] * 2
    assert [r.splats for r in rows[:: len(STAGES)]] == [4000] * 2 + [1000] * 2 + [7000] * 2


def test_the_picture_by_itself(plain_avatar, head):
    ms = bench_picture(plain_avatar, head, repeats=3)
    assert ms > 0
    report = BenchReport({'processor': 'one', 'cores': 1, 'load': 0.0}, picture_ms=ms)
    assert f'{ms:.2f} ms' in report.text() and report.as_dict()['picture_ms'] == ms


def test_busy_processes_run_and_end(monkeypatch):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(module.subprocess, 'Popen', Popen)
    with pytest.raises(ZeroDivisionError), busy_processes(2):
        assert [p.poll() for p in started] == [None, None]
        raise ZeroDivisionError
    assert [p.poll() for p in started] == [-9, -9]


def test_one_thread_is_undone():
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_one_condition_needs_no_second_table():
    rows = [StageTiming(s, 1.25, 2.0, 3.0, 800.0, 30_000, 26_000, 512, 2, 1, 900.0) for s in STAGES]
    text = stage_tables(rows)
    assert '30,000 splats (26,000 drawn), 512 x 512, 2 renderer threads, 1 busy process beside it: 800 frames/s, 900 MB' in text
    assert '| whole path | 1.25 | 2.00 | 3.00 |' in text and 'All conditions' not in text

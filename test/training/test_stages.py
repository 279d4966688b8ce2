"""All stages end to end on a handful of small people: they run, learn something, stop, resume, and share work."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sega_ros.errors import DatasetError, ModelError, RequestError
from sega_ros.io.tensors import load_tensors
from sega_ros.models.arcface import ArcFace, ArcFaceConfig
from sega_ros.models.vgg import Vgg16
from sega_ros.models.weights import load_weights
from sega_ros.training.people import _BASES, PeopleFolder
from sega_ros.training.run import CHECKPOINT, RunConfig, learning_rate
from sega_ros.training.stages import WEIGHTS, train_stage


@pytest.fixture(scope='session')
def trained(tmp_path_factory, layout, embedding, tiny):
    """Folders of all three stages, each started from the one before."""
    out = tmp_path_factory.mktemp('runs')
    start = None
    figures = {}
    for stage in ('identity', 'static', 'dynamic'):
        figures[stage] = train_stage(stage, out / stage, layout, embedding, tiny, start=start)
        start = out / stage / WEIGHTS
    return out, figures


def average(folder: Path) -> dict[str, np.ndarray]:
    tensors, _ = load_tensors(folder / CHECKPOINT, 1 << 30)
    return {k: v for k, v in tensors.items() if k.startswith('average/')}


def test_every_stage_reports_its_figures(trained):
    _, figures = trained
    assert {'psnr', 'recognised', 'codes_used'} <= set(figures['identity'])
    for stage in ('static', 'dynamic'):
        assert 10 < figures[stage]['head_psnr'] < 40, figures[stage]
        assert 10 < figures[stage]['face_psnr'] < 40, figures[stage]


def test_a_stage_trains_its_own_part_and_no_other(trained):
    out, _ = trained
    models = {stage: load_weights(out / stage / WEIGHTS).state_dict() for stage in ('identity', 'static', 'dynamic')}

    def changed(before, after, prefix):
        keys = [k for k in models[before] if k.startswith(prefix)]
        return any(not torch.equal(models[before][k], models[after][k]) for k in keys)

    assert changed('identity', 'static', 'static.to_maps') and not changed('identity', 'static', 'identity.')
    assert not changed('identity', 'static', 'dynamic.') and not changed('identity', 'static', 'deformation.')
    assert changed('static', 'dynamic', 'dynamic.') and changed('static', 'dynamic', 'deformation.')
    assert not changed('static', 'dynamic', 'static.to_maps') and not changed('static', 'dynamic', 'identity.')
    assert changed('static', 'dynamic', 'static.to_features')


@pytest.mark.parametrize('stage', ['identity', 'static', 'dynamic'])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(stage, tmp_path, trained, layout, embedding, tiny):
    out, _ = trained
    start = {'identity': None, 'static': out / 'identity' / WEIGHTS, 'dynamic': out / 'static' / WEIGHTS}[stage]
    whole = average(out / stage)
    steps = []
    train_stage(stage, tmp_path, layout, embedding, tiny, start=start, report=lambda step, _: steps.append(step),
                should_stop=lambda: bool(steps))
    assert steps[-1] == 2
    train_stage(stage, tmp_path, layout, embedding, tiny, start=start, report=lambda step, _: steps.append(step))
    assert steps == [1, 2, 3, 4]
    for key, value in average(tmp_path).items():
        np.testing.assert_allclose(value, whole[key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_equal_seeds_give_equal_runs_and_others_do_not(tmp_path, trained, layout, embedding, tiny):
    out, _ = trained
    start = out / 'identity' / WEIGHTS
    other = replace(tiny, run=replace(tiny.run, seed=1))
    train_stage('static', tmp_path / 'same', layout, embedding, tiny, start=start)
    train_stage('static', tmp_path / 'other', layout, embedding, other, start=start)
    key = 'average/static.to_maps.weight'
    np.testing.assert_allclose(average(tmp_path / 'same')[key], average(out / 'static')[key], rtol=1e-4, atol=1e-7)
    assert not np.allclose(average(tmp_path / 'other')[key], average(out / 'static')[key], rtol=1e-3)


def test_the_loss_falls(tmp_path, trained, layout, embedding, tiny):
    out, _ = trained
    losses = []
    config = replace(tiny, run=RunConfig(steps=60, rate=3e-3, warm_up=2, log_every=1, check_every=100, save_every=100))
    train_stage('static', tmp_path, layout, embedding, config, start=out / 'identity' / WEIGHTS,
                report=lambda _, terms: losses.append(terms['photometric']))
    assert np.mean(losses[-9:]) < 0.95 * np.mean(losses[:9])  # each three times the same three people


def test_losses_in_networks_whose_weights_the_user_has(tmp_path, trained, layout, embedding, tiny):
    """They count in place of the identity encoder's features, and nothing of them is saved."""
    out, _ = trained
    torch.manual_seed(0)
    vgg, arcface = tmp_path / 'vgg16.safetensors', tmp_path / 'backbone.pth'
    save_file(Vgg16().state_dict(), vgg)
    torch.save(ArcFace(ArcFaceConfig((2, 2, 2, 2), (4, 4, 8, 8, 8), 16)).state_dict(), arcface)
    terms = {}
    for name, files in (('own', {}), ('users', {'perceptual_weights': str(vgg), 'identity_weights': str(arcface)})):
        config = replace(tiny, run=replace(tiny.run, steps=1), **files)
        train_stage('static', tmp_path / name, layout, embedding, config, start=out / 'identity' / WEIGHTS,
                    report=lambda _, found, name=name: terms.setdefault(name, found))
    assert terms['own']['photometric'] == pytest.approx(terms['users']['photometric'], rel=1e-5)  # before the first update
    for term in ('perceptual', 'identity'):
        assert 0 < terms['users'][term] != pytest.approx(terms['own'][term], rel=1e-3)
    for file in (WEIGHTS, CHECKPOINT):
        saved = [{k: v.shape for k, v in load_tensors(tmp_path / name / file, 1 << 30)[0].items()} for name in terms]
        assert saved[0] == saved[1], file
    with pytest.raises(ModelError, match='wanted torchvision'):
        train_stage('static', tmp_path / 'third', layout, embedding, replace(tiny, perceptual_weights=str(arcface)),
                    start=out / 'identity' / WEIGHTS)


def test_weights_of_a_stage_before_are_needed(tmp_path, layout, embedding, tiny):
    with pytest.raises(RequestError, match='needs the weights of stage identity'):
        train_stage('static', tmp_path, layout, embedding, tiny)
    with pytest.raises(RequestError, match="stage 'third': wanted one of"):
        train_stage('third', tmp_path, layout, embedding, tiny)


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path, trained, layout, embedding, tiny):
    out, _ = trained
    (tmp_path / CHECKPOINT).write_bytes((out / 'static' / CHECKPOINT).read_bytes())
    wider = replace(tiny, static=replace(tiny.static, width=16))
    with pytest.raises(DatasetError, match='checkpoint of another model'):
        train_stage('static', tmp_path, layout, embedding, wider, start=out / 'identity' / WEIGHTS)


def test_a_damaged_base_is_named(tmp_path, people_folder, layout, embedding):
    import shutil

    folder = tmp_path / 'people'
    shutil.copytree(people_folder, folder)
    people = PeopleFolder(folder, layout, embedding, split='train')
    name = people.capture(0).name
    (folder / _BASES / f'{name}.npz').write_bytes(b'nothing')
    with pytest.raises(DatasetError, match='delete it, it is made again'):
        people[0]
    (folder / _BASES / f'{name}.npz').unlink()
    assert people[0].base.color.shape[1] == 3


def test_the_rate_rises_and_falls():
    config = RunConfig(steps=100, rate=1.0, warm_up=10)
    rates = [learning_rate(config, k) for k in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 0.06


def test_two_processes_share_the_work(tmp_path, trained, tiny):
    """Under torchrun both processes end with the same weights, and other ones than one process alone."""
    from sega_ros.config import to_dict

    out, _ = trained
    config = tmp_path / 'tiny.yaml'
    config.write_text(json.dumps(to_dict(tiny)))
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--rdzv-backend', 'c10d',
               '--rdzv-endpoint', 'localhost:0', '-m', 'sega_ros.cli', 'train', 'static', '--out', str(tmp_path / 'run'),
               '--config', str(config), '--weights', str(out / 'identity' / WEIGHTS)]
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    both, alone = average(tmp_path / 'run'), average(out / 'static')
    assert any(not np.allclose(both[k], alone[k], rtol=1e-3) for k in both)
    assert load_weights(tmp_path / 'run' / WEIGHTS).config.static.width == 8


def test_what_is_saved_is_the_running_average(trained):
    out, _ = trained
    saved = load_weights(out / 'static' / WEIGHTS).state_dict()
    for key, value in average(out / 'static').items():
        np.testing.assert_allclose(saved[key.removeprefix('average/')].numpy(), value, rtol=2e-3, atol=1e-5, err_msg=key)

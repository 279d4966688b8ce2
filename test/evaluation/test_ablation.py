"""The ablation's own machinery, and the whole of it on two small people."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sega_ros.cli import main
from sega_ros.config import dump_yaml, from_dict, load_yaml
from sega_ros.errors import ConfigError, DatasetError, RequestError
from sega_ros.evaluation.ablation import CONFIG, RESULTS, VARIANTS, AblationConfig, check_variants, retrain
from sega_ros.evaluation.ablation_report import (
    Results,
    VariantResult,
    fine_tuning_gains,
    json_to_results,
    read_results,
    results_to_json,
    tables,
)
from sega_ros.evaluation.ablation_score import Row, held_out_captures
from sega_ros.evaluation.metrics import Scores
from sega_ros.io import read_image

SIZES = {'size': 64, 'photo_size': 128, 'texture_size': 128}
# Of these two seeds the first is in split train, the second in val.
TINY = {
    'train': {'first_seed': 600_010, 'people': 2, 'shots': 2, **SIZES},
    'test': {'people': 1, 'shots': 1, 'shown': 1, **SIZES},
    'budget': {'static_steps': 2, 'dynamic_steps': 2, 'shots': 1, 'warm_up': 1, 'checked': 1},
    'personalise': {'decoder_steps': 1, 'steps': 2},
}


def test_the_shipped_configuration_is_the_default():
    assert load_yaml(AblationConfig, CONFIG) == AblationConfig()


@pytest.mark.parametrize(('values', 'message'), [
    ({'budget': {'statik_steps': 3}}, 'budget.statik_steps: unknown'), ({'test': {'people': 0}}, 'test.people: wanted 1'),
    ({'train': {'shots': 'many'}}, 'train.shots: wanted int')])
def test_configurations_are_strict(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(AblationConfig, values)


def test_every_row_of_the_paper_is_there():
    assert [v.title for v in VARIANTS.values()] == [
        'full', 'no 2D prior', 'all static', 'all dynamic', 'no fine-tuning', 'no perceptual loss', 'no identity loss']
    with pytest.raises(RequestError, match="'fool'"):
        check_variants(['full', 'fool'])


def result(name: str, shift: float, modes=('feed_forward', 'personalised')) -> VariantResult:
    rows = [Row(person, mode, setting, Scores(20 + shift + k + (mode == 'personalised'), 30 + shift, 0.9, 0.1, 1.5, 0, 0.3, 1))
            for k, person in enumerate(('a', 'b')) for mode in modes for setting in ('both', 'view', 'expression')]
    return VariantResult(name, VARIANTS[name].title, 12.5, 1.25, 2.0, tuple(rows))


@pytest.fixture
def results():
    return Results({'seed': 0}, (result('full', 1.0), result('no_fine_tuning', 0.0, ('feed_forward',))))


def test_results_survive_json(results):
    again = json_to_results(results_to_json(results))
    assert again == results
    means = json.loads(results_to_json(results))['variants'][0]['means']
    assert means['personalised']['both']['head_psnr'] == pytest.approx(22.5)


def test_unknown_figures_are_null(results):
    rows = (replace(results.variants[0].rows[0], scores=Scores()),)
    text = results_to_json(replace(results, variants=(replace(results.variants[0], rows=rows),)))
    assert 'NaN' not in text and np.isnan(json_to_results(text).variants[0].rows[0].scores.head_psnr)


def test_tables_say_which_people_lost(results):
    text = tables(results)
    assert '| full | 22.50 | 31.00 | 0.900 | 0.1000 | 1.50 (0) | 0.300 (2) | 1.25 |' in text
    assert '| no fine-tuning | 20.50 |' in text and '| full | +1.00, +1.00 | +0.00, +0.00 | 0 of 2 |' in text
    assert fine_tuning_gains(results.variants[0], 'both').tolist() == [[1, 0], [1, 0]]
    assert fine_tuning_gains(results.variants[1], 'both').shape == (0, 2)


def test_the_table_is_printed(tmp_path, capsys, results):
    path = tmp_path / 'results.json'
    path.write_text(results_to_json(results))
    assert main(['ablate', '--results', str(path)]) == 0
    assert '| full | 22.50 |' in capsys.readouterr().out
    assert main(['ablate', '--results', str(path), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['variants'][0]['name'] == 'full'


def test_what_can_not_be_read_is_refused(tmp_path, capsys):
    with pytest.raises(DatasetError, match='no such file'):
        read_results(tmp_path / 'none.json')
    with pytest.raises(DatasetError, match='not what'):
        json_to_results('{"config": 3}')
    assert main(['ablate', '--retrain', '--variants', 'fool', '--out', str(tmp_path)]) == 1
    assert 'fool' in capsys.readouterr().err


def test_settings_keep_view_or_expression(head):
    config = from_dict(AblationConfig, TINY).test
    captures = held_out_captures(head, 900_000, config)
    photo = captures['both'].photo
    (view,), (expression,), (both,) = (captures[k].shots for k in ('view', 'expression', 'both'))
    assert view.params is photo.params and not np.allclose(view.camera.viewmat, photo.camera.viewmat)
    assert np.array_equal(expression.camera.viewmat, photo.camera.viewmat)
    assert expression.camera.fx / expression.camera.width == pytest.approx(photo.camera.fx / photo.camera.width)
    for shot in (expression, both):
        assert not np.allclose(shot.params.expression, photo.params.expression)
    again = held_out_captures(head, 900_000, config)
    assert all(np.array_equal(again[k].shots[0].image, captures[k].shots[0].image) for k in captures)


def test_two_variants_from_nothing_to_the_table(tmp_path, capsys, layout, embedding, small_weights):
    config, out, written = from_dict(AblationConfig, TINY), tmp_path / 'runs', tmp_path / 'tiny.yaml'
    written.write_text(dump_yaml(config))
    arguments = ['ablate', '--retrain', '--out', str(out), '--weights', str(small_weights), '--config', str(written)]
    assert main([*arguments, '--variants', 'all_static,all_dynamic']) == 0
    text = capsys.readouterr().out
    assert '| all static |' in text and '| all dynamic |' in text and '| full |' not in text
    results = read_results(out / 'results.json')
    for variant in results.variants:
        assert {(r.mode, r.setting) for r in variant.rows} == {
            (m, s) for m in ('feed_forward', 'personalised') for s in ('both', 'view', 'expression')}
        assert variant.minutes > 0 and variant.ms > 0 and all(8 < r.scores.head_psnr < 40 for r in variant.rows)
    figure = read_image(out / 'figure.png')
    assert figure.shape[0] == 3 * 64 and figure.std() > 20
    # What is done stays done; another budget must not be mixed in.
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob('weights.safetensors')}
    retrain(config, layout, embedding, out=out, data=out / 'data', weights=small_weights, variants=('no_fine_tuning',))
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert {v.name for v in read_results(out / 'results.json').variants} == {'all_static', 'all_dynamic', 'no_fine_tuning'}
    other = replace(config, seed=1)
    with pytest.raises(RequestError, match='another configuration'):
        retrain(other, layout, embedding, out=out, data=out / 'data', weights=small_weights)


@pytest.mark.parametrize('regions', ['face', 'all', 'none'])
def test_what_is_measured_is_what_was_trained(layout, embedding, head, small_weights, regions):
    """The feed-forward avatar, drawn by the driver, against the training's own rendering."""
    import torch

    from sega_ros.avatar.personalise import PersonaliseConfig
    from sega_ros.evaluation.ablation_score import Renderer, VariantScorer, open_driver
    from sega_ros.models.sega import Sega
    from sega_ros.models.weights import load_weights
    from sega_ros.training.decoders import render_frames
    from sega_ros.training.examples import FrameMaker, capture_start

    config = from_dict(AblationConfig, TINY).test
    capture = held_out_captures(head, 900_001, config)['both']
    torch.manual_seed(1)
    known = load_weights(small_weights).config
    model = Sega(replace(known, dynamic=replace(known.dynamic, regions=regions))).eval().requires_grad_(False)
    scorer = VariantScorer(layout, embedding, None, config, None)
    avatar = scorer.avatar(model, capture, PersonaliseConfig(decoder_steps=0, steps=0))
    image = Renderer(open_driver(avatar, head, regions))(capture.shots[0])
    base = capture_start(layout, embedding, capture).base
    with torch.no_grad():
        wanted, *_ = render_frames(model, layout, model.decode_person(base, layout),
                                  [FrameMaker(layout, embedding, capture, base)(capture.shots[0])])
    # Closed lids are kept in bytes and clipped, displacements end softly at the regions' edge: a few pixels differ a little.
    difference = np.abs(image / 255.0 - wanted[0].numpy())
    assert difference.mean() < 0.002 and np.percentile(difference, 99.5) < 0.03


@pytest.mark.skipif(not RESULTS.is_file(), reason='no results are committed')
def test_the_committed_results_are_complete_and_of_the_committed_configuration():
    results = read_results(RESULTS)
    assert [v.name for v in results.variants] == [*VARIANTS, 'shipped']
    assert from_dict(AblationConfig, results.config) == load_yaml(AblationConfig, CONFIG)
    people = {len({r.person for r in v.rows}) for v in results.variants}
    assert people == {results.config['test']['people']} and RESULTS.with_name('figure.png').is_file()

"""Results of the ablation: JSON, Markdown tables, and the figure."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import DatasetError
from sega_ros.evaluation.ablation_score import MODES, SETTINGS, Row
from sega_ros.evaluation.metrics import Scores, mean_scores
from sega_ros.io import atomic_write, read_image, write_png

_LABEL, _ROW = 190, 192  # px: width of the figure's first column, largest height of a row
_HEAD = ('variant', 'head PSNR dB', 'face PSNR dB', 'SSIM', 'feature dist.', 'AKD px (lost)', 'id. dist. (failed)',
         'ms per frame')


@dataclass(frozen=True)
class VariantResult:
    """One variant's figures."""

    name: str
    title: str
    minutes: float  # of training, all stages, as spent on the machine that did it
    ms: float  # CPU time to decode and place one frame, one thread
    draw_ms: float  # to rasterise it
    rows: tuple[Row, ...]

    @property
    def final(self) -> str:
        """The mode of its row in the table: fine-tuned if it ever is."""
        return 'personalised' if any(r.mode == 'personalised' for r in self.rows) else 'feed_forward'

    def mean(self, mode: str, setting: str) -> Scores | None:
        """Means over the people; None where nothing was measured."""
        found = [r.scores for r in self.rows if (r.mode, r.setting) == (mode, setting)]
        return mean_scores(found) if found else None


@dataclass(frozen=True)
class Results:
    """The whole ablation."""

    config: dict
    variants: tuple[VariantResult, ...]
    no_identity_distance: str = ''  # why there is none
    people: str = ''  # name of the folder that was trained on, where it was not the configuration's people


def results_to_json(results: Results) -> str:
    """Results with their means as JSON; unknown figures are null."""
    values = asdict(results)
    for variant, result in zip(values['variants'], results.variants, strict=True):
        variant['means'] = {mode: {s: asdict(m) for s in SETTINGS if (m := result.mean(mode, s))} for mode in MODES}
    return json.dumps(_rounded(values), indent=1, allow_nan=False) + '\n'


def _rounded(value):
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    if isinstance(value, float):
        return round(value, 7) if math.isfinite(value) else None
    return value


def json_to_results(text: str, *, name: str = 'results.json') -> Results:
    """Inverse of `results_to_json`.

    Raises:
        DatasetError: something else.
    """
    try:
        values = json.loads(text)
        return Results(values['config'], tuple(_variant(v) for v in values['variants']), values['no_identity_distance'],
                       values['people'])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f'{name}: not what "sega ablate --retrain" writes ({error!r}): make it again') from error


def _variant(values: dict) -> VariantResult:
    rows = tuple(Row(r['person'], r['mode'], r['setting'],
                     Scores(**{k: math.nan if v is None else float(v) for k, v in r['scores'].items()})) for r in values['rows'])
    return VariantResult(values['name'], values['title'], float(values['minutes']), float(values['ms']), float(values['draw_ms']),
                         rows)


def read_results(path: Path) -> Results:
    """Read `results.json`.

    Raises:
        DatasetError: no such file, or something else.
    """
    if not path.is_file():
        raise DatasetError(f'{path}: no such file; make it with "sega ablate --retrain", or name one with --results')
    return json_to_results(path.read_text(encoding='utf-8'), name=str(path))


def tables(results: Results) -> str:
    """Markdown: one table per setting, the feed-forward figures, and what fine-tuning did to each person."""
    parts = []
    for setting, title in SETTINGS.items():
        parts.append(f'**{title[0].upper()}{title[1:]}**\n\n' + _table(results, setting, None))
    parts.append('**Without fine-tuning, novel view and expression**\n\n' + _table(results, 'both', 'feed_forward'))
    if gains := _gains(results):
        parts.append('**What fine-tuning on the photo changes, person by person**\n\n' + gains)
    notes = [f'Identity distance: {results.no_identity_distance}.'] if results.no_identity_distance else []
    notes += [f'Trained on the people of {results.people}.'] if results.people else []
    return '\n\n'.join(parts + notes) + '\n'


def _table(results: Results, setting: str, mode: str | None) -> str:
    lines = [f'| {" | ".join(_HEAD)} |', '|---' * len(_HEAD) + '|']
    for v in results.variants:
        scores = v.mean(mode or v.final, setting)
        if scores is None or (mode == 'feed_forward' and v.final == mode):
            continue
        lines.append(
            f'| {v.title} | {_number(scores.head_psnr, 2)} | {_number(scores.face_psnr, 2)} | {_number(scores.ssim, 3)} '
            f'| {_number(scores.feature_distance, 4)} | {_number(scores.akd, 2)} ({scores.akd_lost:.0f}) '
            f'| {_number(scores.identity_distance, 3)} ({scores.identity_failed:.0f}) | {v.ms:.2f} |')
    return '\n'.join(lines)


def _number(value: float, digits: int) -> str:
    return f'{value:.{digits}f}' if math.isfinite(value) else 'n/a'


def _gains(results: Results) -> str:
    """Smallest and mean gain in dB over the people, at novel view and expression."""
    lines = ['| variant | head: least, mean dB | face: least, mean dB | people who lost |', '|---|---|---|---|']
    for v in results.variants:
        gains = fine_tuning_gains(v, 'both')
        if not len(gains):
            continue
        low, mean = gains.min(0), gains.mean(0)
        lines.append(f'| {v.title} | {low[0]:+.2f}, {mean[0]:+.2f} | {low[1]:+.2f}, {mean[1]:+.2f} '
                     f'| {(gains < 0).any(1).sum()} of {len(gains)} |')
    return '\n'.join(lines) if len(lines) > 2 else ''


def fine_tuning_gains(variant: VariantResult, setting: str) -> np.ndarray:
    """Gain in dB of fine-tuning on head and face [people, 2]."""
    by_mode = {mode: {r.person: r.scores for r in variant.rows if (r.mode, r.setting) == (mode, setting)} for mode in MODES}
    both = sorted(set(by_mode['personalised']) & set(by_mode['feed_forward']))
    after, before = by_mode['personalised'], by_mode['feed_forward']
    return np.array([[after[p].head_psnr - before[p].head_psnr, after[p].face_psnr - before[p].face_psnr] for p in both]
                    ).reshape(-1, 2)


def write_variant(folder: Path, result: VariantResult, pictures: np.ndarray, truth: np.ndarray) -> None:
    """Write one variant's figures and its row of the figure; `scores.json` comes last and says that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / 'pictures.png', pictures)
    write_png(folder / 'truth.png', truth)
    atomic_write(folder / 'scores.json', results_to_json(Results({}, (result,))).encode())


def read_variant(folder: Path) -> VariantResult:
    """Read what `write_variant` wrote."""
    return read_results(folder / 'scores.json').variants[0]


def write_results(results: Results, out: Path) -> None:
    """Write `results.json`, `table.md` and `figure.png` into `out`."""
    atomic_write(out / 'results.json', results_to_json(results).encode())
    atomic_write(out / 'table.md', tables(results).encode())
    if results.variants:
        rows = {'truth': read_image(out / results.variants[0].name / 'truth.png')}
        rows |= {v.title: read_image(out / v.name / 'pictures.png') for v in results.variants}
        write_png(out / 'figure.png', figure(rows))


def figure(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Rows of pictures uint8 [H, W, 3] of one size below each other, at most 192 px high, each with its title on the left."""
    shown = {title: _lowered(row) for title, row in rows.items()}
    return np.concatenate([np.concatenate([_label(title, len(row)), row], 1) for title, row in shown.items()])


def _lowered(row: np.ndarray) -> np.ndarray:
    import cv2

    share = _ROW / len(row)
    return row if share >= 1 else cv2.resize(row, (round(row.shape[1] * share), _ROW), interpolation=cv2.INTER_AREA)


def _label(text: str, height: int) -> np.ndarray:
    import cv2

    out = np.full((height, _LABEL, 3), 255, np.uint8)
    for k, line in enumerate(text.replace(' loss', '\nloss').splitlines()):
        cv2.putText(out, line, (10, height // 2 + 26 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.62, (20, 20, 20), 1, cv2.LINE_AA)
    return out

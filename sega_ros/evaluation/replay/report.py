"""The report of a finished run: one page, readable without this program, without the run's other files and offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.config import flatten
from sega_ros.errors import CameraError, ImageError
from sega_ros.evaluation.replay import report_plots, strips
from sega_ros.evaluation.replay.clip_frames import SmallClip, small_clip
from sega_ros.evaluation.replay.finished import CLIP, FinishedRun, read_run
from sega_ros.evaluation.replay.moments import PANELS, Moment, Moments, choose_moments
from sega_ros.evaluation.replay.page import number, render_page, svg
from sega_ros.evaluation.replay.report_text import (
    counts_text,
    figure_rows,
    identity_text,
    left_text,
    protocol_text,
    unscored_text,
    why_missing,
    window_text,
)
from sega_ros.io import atomic_write

REPORT = 'report.html'
CLIP_LIMIT = 27_000_000  # bytes: 36 MB in the page, which stays under 40
_STAGES = {'track_ms': 'tracking', 'bind_ms': 'decoding and binding', 'draw_ms': 'drawing', 'latency_ms': 'latency'}
_CAPTION = {'psnr_face': 'PSNR face {} dB', 'psnr_head': 'head {} dB', 'akd': 'AKD {} px', 'aed': 'AED {}',
            'identity_distance': 'identity distance {}'}
_FOLLOWED = {'eye_left': 'left eye', 'eye_right': 'right eye', 'mouth': 'mouth'}


def write_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a finished run; returns its path.

    Raises:
        RecordingError: the run is unfinished or damaged.
        StorageError: the folder can't be written.
    """
    path = Path(folder) / REPORT
    atomic_write(path, report_page(read_run(folder)))
    return path


def report_page(run: FinishedRun, *, limit: int = CLIP_LIMIT) -> bytes:
    """Return the page (HTML), whose clip has at most `limit` bytes before their encoding as text."""
    moments = choose_moments(run)
    pictures, clip, trouble = _pictures(run, moments, limit)
    summary = run.summary
    values = {
        'recording': summary['recording'], 'protocol': summary['protocol'], 'view': summary['view'],
        'protocol_meaning': protocol_text(run), 'identity': identity_text(summary['identity']),
        'pace': ', replayed at the recorded pace' if run.about.get('realtime') else '',
        'started': run.about.get('started', 'unknown'),
        'warnings': [*summary['warnings'], *filter(None, (unscored_text(run), trouble))], 'tiles': _tiles(run),
        'figures': figure_rows(run), 'counts': counts_text(run), 'correlations': _correlations(summary['correlations']),
        'window': window_text(run), 'masks': list(summary['masks'].items()), 'left': left_text(run),
        **_clip_values(clip, len(run.seconds)), **_plot_values(run, moments), **_strip_values(run, moments, pictures, clip),
        **_latency_values(run), 'inputs': summary['inputs'], 'config': list(flatten(summary['config']).items()),
        'about': [(k, v) for k, v in flatten(run.about).items() if not k.startswith('config.')]}
    return render_page('report.html', values, script='report.js')


def _pictures(run: FinishedRun, moments: Moments, limit: int) -> tuple[dict[int, str], SmallClip | None, str]:
    """Pictures by row, the clip for the page, and what is wrong with the run's clip ('' nothing)."""
    pictures: dict[int, str] = {}
    try:
        for row, uri in strips.pictures(run, moments.shown):
            pictures[row] = uri
        return pictures, small_clip(run.clip, [m.row for m in moments.shown], limit=limit), ''
    except (CameraError, ImageError) as e:
        return pictures, None, f'Pictures are missing here: {e}'


def _tiles(run: FinishedRun) -> list[tuple[str, str]]:
    frames, figures = run.summary['frames'], run.summary['figures']
    tiles = [(f'{frames["scored"]} of {frames["total"]}', 'frames scored'), (str(frames['lost']), 'faces lost in the pictures')]
    for name, label in (('psnr_face', 'dB PSNR over the face'), ('akd', 'px AKD'), ('aed', 'AED'),
                        ('identity_distance', 'identity distance')):
        if name in figures:
            tiles.append((number(figures[name]['mean']), f'{label}, mean'))
    latency = report_plots.drawn_latency(run)
    if len(latency):
        tiles.append((f'{np.percentile(latency, 95):.1f} ms', 'latency, p95'))
    return tiles


def _correlations(found: Mapping[str, float | None]) -> list[tuple[str, str]]:
    unknown = 'unknown: the driver hardly moves it, or too few frames show it'
    return [(label, number(v) if (v := found.get(name)) is not None else unknown) for name, label in _FOLLOWED.items()]


def _clip_values(clip: SmallClip | None, rows: int) -> dict[str, Any]:
    if clip is None:
        return {'clip': None, 'clip_note': f'No clip is in this page; {CLIP}, beside it, may be there.'}
    shown = sum(end - first for first, end in clip.passages)
    note = 'Frame for frame the whole run.' if shown == rows else (
        f'{shown} of {rows} frames are in this page: the first {clip.passages[0][1]} and passages around the frames shown below; '
        f'the whole run is in {CLIP}.')
    if not clip.original:
        note += f' Encoded anew at {clip.side} px a side, so that the page stays small; {CLIP} is finer.'
    uri = strips.data_uri('video/mp4', clip.data)
    return {'clip': {'uri': uri, 'fps': clip.fps, 'passages': clip.passages}, 'clip_note': note}


def _plot_values(run: FinishedRun, moments: Moments) -> dict[str, Any]:
    plots = []
    for panel in PANELS:
        drawn = report_plots.time_plot(run, panel, moments.marks[panel.column])
        plots.append({'title': panel.title, 'unit': panel.unit, 'svg': svg(drawn),
                      'why': '' if drawn else why_missing(run, panel.column)})
    condensed = '. Lines are means, bands go from the smallest to the largest value of neighbouring frames.'
    return {'plots': plots, 'grey_means': report_plots.grey_means(run),
            'condensed': condensed if report_plots.is_condensed(run) else ''}


def _strip_values(run: FinishedRun, moments: Moments, pictures: Mapping[int, str], clip: SmallClip | None) -> dict[str, Any]:
    played = clip.passages if clip else ()

    def entries(strip: str) -> list[dict[str, Any]]:
        return [_entry(run, m, pictures.get(m.row), playable=any(a <= m.row < b for a, b in played))
                for m in moments.strip(strip)]

    titles = {'worst': 'Worst', 'median': 'Median', 'best': 'Best'} if moments.ranking else {'median': 'Spread over the run'}
    found: list[tuple[str, list[dict[str, Any]]]] = [(title, entries(name)) for name, title in titles.items()]
    if marked := entries('marked'):
        found.append(('Other marked frames', marked))
    ranking = moments.ranking and f'Ranked by {moments.ranking.title}' + (
        f' ({moments.ranking.lines[0][1]})' if len(moments.ranking.lines) > 1 and not moments.ranking.follows else '') + '.'
    return {'strips': found, 'ranking': ranking or 'No frame has a figure that could rank it.',
            'picture_note': f'Frames of one strip are at least {moments.apart:.2g} s apart.' if moments.ranking else '',
            'has_heat': any(strips.has_heat(run, m.row) for m in moments.shown), 'gradient': strips.heat_gradient(),
            'heat_end': strips.HEAT_END}


def _entry(run: FinishedRun, moment: Moment, picture: str | None, *, playable: bool) -> dict[str, Any]:
    row = moment.row
    reasons = '; '.join(moment.reasons)
    known = [text.format(number(run.frames[name][row])) for name, text in _CAPTION.items() if np.isfinite(run.frames[name][row])]
    return {'frame': int(run.frames['frame'][row]), 'row': row, 'seconds': f'{run.seconds[row]:.2f}', 'picture': picture,
            'heat': strips.has_heat(run, row), 'playable': playable, 'reasons': reasons[0].upper() + reasons[1:],
            'figures': ', '.join(known) or 'no figure is known of it'}


def _latency_values(run: FinishedRun) -> dict[str, Any]:
    drawn = run.timing['latency_ms'] > 0
    latency = report_plots.drawn_latency(run)
    meaning = ('From when a frame was due until its picture was there.' if run.about.get('realtime')
               else 'What tracking, binding and drawing of a frame took together; frames did not wait for each other.')
    return {'latency': svg(report_plots.latency_plot(run)), 'latency_meaning': meaning,
            'slowest': f'{latency.max():.1f}' if len(latency) else '', 'memory': _memory(run),
            'stages': [(label, _percentiles(run.timing[name][drawn])) for name, label in _STAGES.items()]}


def _percentiles(values: np.ndarray) -> Sequence[str]:
    known = values[np.isfinite(values)]
    return [f'{v:.1f}' for v in np.percentile(known, report_plots.PERCENTILES)] if len(known) else ['unknown'] * 3


def _memory(run: FinishedRun) -> str:
    used = run.timing['rss_mb'][np.isfinite(run.timing['rss_mb'])]
    if not len(used):
        return 'Memory was not measured.'
    return (f'Memory of the process: {used[0]:.0f} MB at the first frame, {used[-1]:.0f} MB at the last, {used.max():.0f} MB at '
            'most.')

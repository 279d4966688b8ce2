"""Folders such as `sega evaluate` writes, with known figures and a clip whose frames carry their numbers."""

import json
import math
from dataclasses import fields

import numpy as np

from sega_ros.evaluation.replay.rows import FIGURES, FrameFigures
from sega_ros.evaluation.replay.window import MASKS
from sega_ros.io import VideoWriter

BITS = 16
CELL = 8  # px
MISSING = {'lpips': 'needs weights: give --lpips FILE', 'csim': 'needs weights: give --arcface FILE'}
DEGREES = {'psnr': 30.0, 'ssim': 0.9, 'ms_ssim': 0.95, 'identity_distance': 0.3, 'identity_failed': 0.0, 'eye': 0.3}


def columns(frames, *, fps=30.0, seed=0, **changes):
    """Columns of frames.csv of a good run; `changes` replace some."""
    rng = np.random.default_rng(seed)
    table = {'frame': np.arange(frames), 'stamp_ns': np.round(np.arange(frames) * 1e9 / fps).astype(int),
             'driver_face': np.ones(frames, bool), 'confidence': np.full(frames, 0.9), 'scored': np.ones(frames, bool),
             'lost': np.zeros(frames, bool)}
    for f in FIGURES:
        level = next((v for k, v in DEGREES.items() if f.name.startswith(k)), 2.0)
        table[f.name] = level + 0.05 * level * rng.standard_normal(frames)
    for name in MISSING:
        table[name] = np.full(frames, np.nan)
    return {**table, **changes}


def write_run(folder, table, *, clip=None, seed=0, fps=30.0, protocol='self', view='input', topic='', name='clip_a.mp4',
              sha256='ab' * 32, warnings=(), config=None, latency=None, side=400.0, masks=MASKS, about=None):
    """Write a finished run; `clip` is how many frames its clip has (default: one per row, none if 0)."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = len(table['frame'])
    names = [f.name for f in fields(FrameFigures)]
    rows = [','.join(_cell(table[n][k]) for n in names) for k in range(frames)]
    (folder / 'frames.csv').write_text('\n'.join([','.join(names), *rows]) + '\n')
    latency = np.random.default_rng(seed).gamma(20, 1, frames) if latency is None else latency
    times = [f'{k},{0.4 * t:.3f},{0.3 * t:.3f},{0.3 * t:.3f},{t:.3f},{600 + k % 7}.0' for k, t in enumerate(latency)]
    (folder / 'timing.csv').write_text('\n'.join(['frame,track_ms,bind_ms,draw_ms,latency_ms,rss_mb', *times]) + '\n')
    summary = {
        'format': 1, 'protocol': protocol, 'view': view, 'masks': masks, 'window': {'size': 512, 'side': side},
        'recording': {'name': name, 'topic': topic, 'frames': frames, 'width': 640, 'height': 480, 'out_of_order': 0},
        'identity': {'kind': 'frame', 'frame': 0, 'quality': 'standard'},
        'inputs': [{'name': name, 'bytes': 1234, 'sha256': sha256}],
        'frames': {'total': frames, 'scored': int(table['scored'].sum()), 'driver_lost': int((~table['driver_face']).sum()),
                   'lost': int(table['lost'].sum()), 'dropped': 0},
        'figures': {f.name: _totals(table[f.name], f.metadata['better']) for f in FIGURES if np.isfinite(table[f.name]).any()},
        'correlations': {'eye_left': 0.9, 'eye_right': None, 'mouth': 0.95}, 'missing': MISSING, 'warnings': list(warnings),
        'config': {'protocol': protocol, 'view': view, 'score_every': 1, **(config or {})}}
    (folder / 'summary.json').write_text(json.dumps(summary, sort_keys=True))
    (folder / 'run.json').write_text(json.dumps({
        'started': '2026-01-02T03:04:05Z', 'seconds': 12.5, 'versions': {'python': '3.11.2'}, 'machine': {'cores': 2},
        'peak_mb': 900.0, 'realtime': False, 'config': summary['config'], **(about or {})}))
    if clip is None or clip:
        write_clip(folder / 'side_by_side.mp4', frames if clip is None else clip, fps=fps)
    return folder


def write_clip(path, frames, *, fps=30.0):
    """A clip whose frames carry their number: on the left, and inverted on the right."""
    with VideoWriter(path, size=(2 * CELL, 2 * BITS * CELL), fps=fps) as writer:
        for k in range(frames):
            writer.write(numbered(k))


def numbered(number):
    """A picture [16, 256, 3] of a number in binary, inverted in its right half."""
    bits = np.repeat([(number >> b) & 1 for b in range(BITS)], CELL)
    line = np.where(np.r_[bits, 1 - bits], 220, 30).astype(np.uint8)
    return np.repeat(np.repeat(line[None, :, None], 2 * CELL, 0), 3, 2)


def read_number(left):
    """The number in the left half [H, W, 3] of a picture of any size."""
    places = ((np.arange(BITS) + 0.5) * left.shape[1] / BITS).astype(int)
    bits = left[left.shape[0] // 2, places].mean(-1) > 125
    return int((bits << np.arange(BITS)).sum())


def _totals(values, better):
    known = values[np.isfinite(values)]
    return {'mean': float(known.mean()), 'median': float(np.median(known)), 'count': len(known),
            'worst5': float(np.percentile(known, 95 if better == 'less' else 5))}


def _cell(value):
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(int(value))
    return '' if math.isnan(value) else f'{value:.6g}'

"""The render benchmark runs and reports what it measured; how fast is not tested."""

import torch

from sega_ros.evaluation.bench_render import bench_render, format_table, frontal_camera, surface_splats
from sega_ros.render import rasterize


def test_surface_covers_the_head_without_holes():
    splats = surface_splats(5000)
    assert 2000 < len(splats) < 3000, 'about half faces the camera'
    alpha = rasterize(splats, frontal_camera(128)).alpha
    filled = (alpha > 0.5).any(1).float().mean()
    assert 0.6 < filled < 0.8
    assert alpha[40:88, 50:78].min() > 0.5 and alpha[40:88, 50:78].mean() > 0.8


def test_rows_and_table():
    seen = []
    rows = bench_render(counts=(500,), sizes=(32,), threads=(1, 2), seconds=0.0, progress=seen.append)
    assert rows == seen or torch.isnan(torch.tensor(rows[-1].picture_ms))
    assert [(r.backend, r.threads) for r in rows] == [('cpu', 1), ('cpu', 2), ('reference', 1)]
    assert all(r.forward_backward_ms > 0 for r in rows)
    assert format_table(rows).count('\n') == 4

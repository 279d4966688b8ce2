"""The render benchmark runs and reports what it measured; how fast is not tested."""

import torch

from sega_ros.evaluation.bench_render import (
    RenderTiming,
    bench_render,
    format_table,
    frontal_camera,
    growth,
    growth_text,
    surface_splats,
)
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
    assert all(0 < phase < 100 for r in rows[:2] for phase in (r.project_ms, r.sort_ms, r.blend_ms))
    assert format_table(rows).count('\n') == 4


def test_growth_compares_the_ends_of_each_line():
    times = {(5000, 256): 0.5, (5000, 512): 1.0, (20_000, 256): 1.5, (20_000, 512): 8.0}
    rows = [RenderTiming('cpu', n, n // 2, size, 1, ms, *[0.1] * 6, 1.0) for (n, size), ms in times.items()]
    rows.append(RenderTiming('cpu', 80_000, 40_000, 512, 2, 99.0, *[0.1] * 6, 1.0))  # two threads are another matter
    found = [(g.of, g.at, g.amount, g.cost) for g in growth(rows)]
    assert found == [('splats', 256, 4.0, 3.0), ('splats', 512, 4.0, 8.0), ('pixels', 5000, 4.0, 2.0),
                     ('pixels', 20_000, 4.0, 8.0 / 1.5)]
    lines = growth_text(growth(rows)).splitlines()
    assert lines[0] == '- 4 times the splats at 256 x 256 cost 3.0 times the time: no worse than linear'
    assert lines[1] == '- 4 times the splats at 512 x 512 cost 8.0 times the time: WORSE than linear'

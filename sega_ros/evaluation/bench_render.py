"""Cost of rendering against splats, picture size and threads, on splats that lie as an avatar's do."""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch

from sega_ros.camera import orbit_camera
from sega_ros.evaluation.stopwatch import Target, stopwatch
from sega_ros.geometry import morton_order
from sega_ros.render import rasterize, rasterize_arrays
from sega_ros.types import Camera, Splats

SEMI_AXES = np.array([0.078, 0.115, 0.095])  # metres: an ellipsoid the size of a head
DISTANCE = 0.65  # metres: the head then fills 70 % of the picture's height
# Standard deviation over spacing: neighbours overlap enough that the surface has no holes.
SPREAD = 0.5
# What a picture is made in, and the functions of each phase; `sort` is the order by depth and the lists of the tiles.
PHASES: dict[str, tuple[Target, ...]] = {
    'project': ('sega_ros.render.cpu_project:project_splats',),
    'sort': ('sega_ros.render.cpu_tiles:sort_by_key', 'sega_ros.render.cpu_tiles:offsets_of',
             'sega_ros.render.cpu_tiles:fill_tiles'),
    'blend': ('sega_ros.render.cpu_frame:blend',),
}


@dataclass(frozen=True)
class RenderTiming:
    """One row of the table; times are medians in milliseconds."""

    backend: str
    splats: int  # on the whole surface
    visible: int  # facing the camera: what the renderer gets, as `bind` culls the others
    size: int  # px, square picture
    threads: int
    picture_ms: float  # rasterize_arrays, uint8: a frame of the running driver (cpu backend only, else nan)
    project_ms: float  # of it, each phase's own median
    sort_ms: float
    blend_ms: float
    forward_ms: float  # rasterize with gradients recorded
    forward_backward_ms: float
    fastest_picture_ms: float  # the least disturbed run, where other work shares the machine
    load: float  # the machine's one-minute load average when the row was measured


def surface_splats(n: int, *, seed: int = 0, spread: float = SPREAD) -> Splats:
    """Flat splats spread evenly over a head-sized ellipsoid, in Morton order; those facing a frontal camera only."""
    rng = np.random.default_rng(seed)
    i = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i  # Fibonacci lattice
    unit = np.stack([np.cos(turn) * np.sin(polar), np.cos(polar), np.sin(turn) * np.sin(polar)], 1)
    means, normals = unit * SEMI_AXES, unit / SEMI_AXES
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    x, y, z = SEMI_AXES**1.6
    area = 4 * np.pi * ((x * y + x * z + y * z) / 3) ** (1 / 1.6)  # Thomsen's formula, with 1.6 for its 1.6075
    spacing = np.sqrt(area / n)
    # The rotation that takes z to the normal, as an unnormalised quaternion.
    quats = np.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], np.zeros(n)], 1)
    scales = spacing * np.stack([*(spread * rng.uniform(0.7, 1.3, (2, n))), np.full(n, 0.1)], 1)
    to_camera = np.array([0, 0, DISTANCE]) - means
    order = morton_order(means)
    order = order[((normals * to_camera).sum(1) > 0)[order]]
    arrays = (means, quats, scales, rng.uniform(0.5, 0.99, n), rng.uniform(0, 1, (n, 3)))
    return Splats(*(torch.tensor(a[order], dtype=torch.float32) for a in arrays))


def bench_render(
    *, counts: Iterable[int] = (5_000, 20_000, 30_000, 80_000, 130_000), sizes: Iterable[int] = (256, 512, 1024),
    threads: Iterable[int] = (1, 2), backends: Iterable[str] = ('cpu', 'reference'), seconds: float = 0.5,
    device: str = 'cpu', progress: Callable[[RenderTiming], None] | None = None,
) -> list[RenderTiming]:
    """Time every combination for about `seconds` each; the reference only at its smallest (it takes seconds).

    With backend 'cuda' pass device='cuda'. Each finished row also goes to `progress`.
    """
    counts, sizes, rows = sorted(counts), sorted(sizes), []
    for backend in backends:
        slow = backend == 'reference'
        for n in counts[:1] if slow else counts:
            splats = surface_splats(n).to(device)
            for size in sizes[:1] if slow else sizes:
                for workers in threads if backend == 'cpu' else (1,):
                    rows.append(_measure(backend, n, splats, frontal_camera(size), workers, seconds))
                    if progress:
                        progress(rows[-1])
    return rows


def frontal_camera(size: int) -> Camera:
    """Return the camera of the benchmark: the ellipsoid fills 70 % of a square picture's height."""
    return orbit_camera(size=(size, size), distance=DISTANCE, focal_length=2.0)


def format_table(rows: Iterable[RenderTiming]) -> str:
    """Lay out the rows as a Markdown table."""
    head = ('backend, splats, visible, size, threads, picture ms (fastest), project, sort, blend, forward ms, '
            'forward + backward ms, load')
    lines = ['| ' + head.replace(', ', ' | ') + ' |', '|---' * 12 + '|']
    for r in rows:
        picture = '- | - | - | -' if np.isnan(r.picture_ms) else (
            f'{r.picture_ms:.2f} ({r.fastest_picture_ms:.2f}) | {r.project_ms:.2f} | {r.sort_ms:.2f} | {r.blend_ms:.2f}')
        lines.append(
            f'| {r.backend} | {r.splats} | {r.visible} | {r.size} | {r.threads} | {picture} | {r.forward_ms:.2f} '
            f'| {r.forward_backward_ms:.2f} | {r.load:.1f} |'
        )
    return '\n'.join(lines)


@dataclass(frozen=True)
class Growth:
    """How the cost of a picture grows, from the smallest to the largest that was measured, one thread."""

    of: str  # 'splats' or 'pixels'
    at: int  # px, size of the picture whose splats grow; splats of the picture whose size grows
    amount: float  # largest over smallest
    cost: float  # time of the largest over that of the smallest: at most `amount` is no worse than linear


def growth(rows: Iterable[RenderTiming]) -> list[Growth]:
    """Compare the ends of every line of the tables; lines with one point only are left out."""
    cpu = [r for r in rows if r.backend == 'cpu' and r.threads == 1]
    found = []
    for size in sorted({r.size for r in cpu}):
        line = sorted((r.splats, r.picture_ms) for r in cpu if r.size == size)
        found.append(Growth('splats', size, line[-1][0] / line[0][0], line[-1][1] / line[0][1]))
    for n in sorted({r.splats for r in cpu}):
        line = sorted((r.size**2, r.picture_ms) for r in cpu if r.splats == n)
        found.append(Growth('pixels', n, line[-1][0] / line[0][0], line[-1][1] / line[0][1]))
    return [g for g in found if g.amount > 1]


def growth_text(rows: Iterable[Growth]) -> str:
    """Say in a sentence each how the cost grows."""
    lines = []
    for g in rows:
        where = f'at {g.at} x {g.at}' if g.of == 'splats' else f'with {g.at:,} splats'
        lines.append(f'- {g.amount:.0f} times the {g.of} {where} cost {g.cost:.1f} times the time: '
                     f'{"no worse than" if g.cost <= g.amount else "WORSE than"} linear')
    return '\n'.join(lines)


def _measure(backend: str, n: int, splats: Splats, camera: Camera, threads: int, seconds: float) -> RenderTiming:
    picture, phases = [float('nan')], [float('nan')] * len(PHASES)
    if backend == 'cpu':
        picture, phases = _picture_times(splats, camera, threads, seconds)
    leaves = Splats(*(getattr(splats, f.name).clone().requires_grad_() for f in fields(Splats)))
    weight = torch.rand(camera.height, camera.width, 3, device=splats.means.device)

    def forward() -> torch.Tensor:
        return rasterize(leaves, camera, backend=backend, threads=threads).image

    def forward_backward() -> None:
        torch.autograd.grad(forward(), [getattr(leaves, f.name) for f in fields(Splats)], weight)

    cuda = splats.means.is_cuda
    return RenderTiming(
        backend, n, len(splats), camera.height, threads, statistics.median(picture), *phases,
        statistics.median(times_ms(forward, seconds, cuda=cuda)),
        statistics.median(times_ms(forward_backward, seconds, cuda=cuda)), min(picture), os.getloadavg()[0],
    )


def _picture_times(splats: Splats, camera: Camera, threads: int, seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds of the driver's pictures, and the medians of PHASES."""
    arrays = [getattr(splats, f.name).numpy() for f in fields(Splats)]
    out = np.empty((camera.height, camera.width, 3), np.uint8)
    seen: list[dict[str, float]] = []
    with stopwatch(PHASES) as spent:
        def draw() -> None:
            rasterize_arrays(*arrays, camera, out=out, threads=threads)
            seen.append(dict(spent))

        times = times_ms(draw, seconds)
    phases = [[1e3 * (after[name] - before[name]) for before, after in pairwise(seen[1:])] for name in PHASES]
    return times, [statistics.median(p) for p in phases]


def times_ms(run: Callable[[], object], seconds: float, *, cuda: bool = False) -> list[float]:
    """Milliseconds of repeated runs, at least five, after two to warm up (one compiles)."""
    times: list[float] = []
    for k in range(10_000):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
        if k >= 6 and sum(times) > seconds * 1e3:
            break
    return times[2:]


if __name__ == '__main__':
    torch.set_num_threads(1)
    print(format_table(bench_render()))

"""The renderer beside others that draw the same scene in the same run: the plain reference, and gsplat where there is CUDA."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import torch

from sega_ros.evaluation.bench_render import frontal_camera, surface_splats, times_ms
from sega_ros.render import rasterize
from sega_ros.types import Splats

SPLATS, SIZE = 30_000, 512
_NAMES = {'cpu': 'cpu (Numba, one thread)', 'reference': 'reference (PyTorch, float32, one thread)', 'cuda': 'gsplat (CUDA)'}


@dataclass(frozen=True)
class PeerTiming:
    """One renderer; medians in milliseconds, None where it can't run here."""

    renderer: str
    splats: int
    size: int  # px, square picture
    forward_ms: float | None
    forward_backward_ms: float | None
    forward_ratio: float | None  # time over that of our cpu renderer
    forward_backward_ratio: float | None


def bench_peers(*, splats: int = SPLATS, size: int = SIZE, seconds: float = 1.0) -> list[PeerTiming]:
    """Time float32 pictures, and pictures with gradients, for about `seconds` each and at least five times."""
    scene, rows = surface_splats(splats), []
    ours = _times(scene, size, 'cpu', seconds)
    for backend, name in _NAMES.items():
        if backend == 'cuda' and not torch.cuda.is_available():
            rows.append(PeerTiming(name, splats, size, None, None, None, None))
            continue
        found = ours if backend == 'cpu' else _times(scene, size, backend, seconds)
        rows.append(PeerTiming(name, splats, size, *found, *(f / o for f, o in zip(found, ours, strict=True))))
    return rows


def _times(scene: Splats, size: int, backend: str, seconds: float) -> tuple[float, float]:
    camera, cuda = frontal_camera(size), backend == 'cuda'
    device = 'cuda' if cuda else 'cpu'
    leaves = Splats(*(getattr(scene, f.name).to(device, copy=True).requires_grad_() for f in fields(Splats)))
    weight = torch.rand(size, size, 3, device=device)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return rasterize(leaves, camera, backend=backend).image

    def forward_backward() -> None:
        image = rasterize(leaves, camera, backend=backend).image
        torch.autograd.grad(image, [getattr(leaves, f.name) for f in fields(Splats)], weight)

    def median(run: Callable[[], object]) -> float:
        return statistics.median(times_ms(run, seconds, cuda=cuda))

    return median(forward), median(forward_backward)


def peer_table(rows: Iterable[PeerTiming]) -> str:
    """Return the rows as Markdown, the first, our own, as the measure."""
    rows = list(rows)
    scene = f'{rows[0].splats:,} splats, {rows[0].size} x {rows[0].size}'
    lines = [f'| {scene} | forward ms | forward + backward ms | the cpu renderer is |', '|---|---|---|---|']
    for r in rows:
        if r.forward_ms is None:
            lines.append(f'| {r.renderer} | not measured | not measured | - |')
            continue
        ratio = '-' if r is rows[0] else f'{r.forward_ratio:.3g} and {r.forward_backward_ratio:.3g} times as fast'
        lines.append(f'| {r.renderer} | {r.forward_ms:.2f} | {r.forward_backward_ms:.2f} | {ratio} |')
    return '\n'.join(lines)

"""Host side of the CPU backend: one view's visible splats, sorted and binned, and the passes over them."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from sega_ros.render.kernel_cache import kernel_cache
from sega_ros.types import Camera

with kernel_cache():
    from sega_ros.render import cpu_blend, cpu_project, cpu_project_backward, cpu_tiles

# Tile lists longer than this are made and used a few tile rows at a time: 64 MB instead of gigabytes when
# splats are absurdly large.
MAX_PAIRS = 1 << 24

# How blend_tiles stores a value: low, high, rate, shift.
AS_FLOAT = np.array([-3e38, 3e38, 1, 0], np.float32)
AS_UINT8 = np.array([0, 1, 255, 0.5], np.float32)


@dataclass(frozen=True)
class Frame:
    """What projecting and sorting found out about one view; the backward pass needs it again."""

    size: tuple[int, int]  # H, W
    cam: np.ndarray  # cpu_project.camera_vector
    records: np.ndarray  # [M, RECORD] float32
    tiles: np.ndarray  # [M, TILES] int32, the tiles of each record
    ids: np.ndarray  # [M] int32, splat of each record
    order: np.ndarray  # [M] int32, records by depth
    offsets: np.ndarray  # [tiles + 1] int64, where each tile's list starts if all lie in a row
    pairs: np.ndarray | None  # [pairs] int32: the lists; None when there are more than MAX_PAIRS

    @property
    def tiles_x(self) -> int:
        return -(-self.size[1] // cpu_blend.TILE)


def prepare(arrays: tuple, camera: Camera) -> Frame:
    """Project, sort and bin splats given as contiguous float32 arrays (the fields of Splats, in order)."""
    n, size = len(arrays[0]), (camera.height, camera.width)
    cam = cpu_project.camera_vector(camera)
    tiles_y, tiles_x = -(-size[0] // cpu_blend.TILE), -(-size[1] // cpu_blend.TILE)
    records, tiles = np.empty((n, cpu_project.RECORD), np.float32), np.empty((n, cpu_project.TILES), np.int32)
    keys, ids = np.empty(n, np.uint32), np.empty(n, np.int32)
    starts = np.zeros((tiles_y, tiles_x + 1), np.int32)
    m = cpu_project.project_splats(*arrays, cam, size[1], size[0], cpu_blend.TILE, records, tiles, keys, ids, starts)
    order = np.empty(m, np.int32)
    cpu_tiles.sort_by_key(keys[:m], order, np.empty(m, np.int32))
    offsets = np.empty(tiles_y * tiles_x + 1, np.int64)
    cpu_tiles.offsets_of(starts, offsets)
    pairs = None
    if offsets[-1] <= MAX_PAIRS:
        pairs = np.empty(offsets[-1], np.int32)
        cpu_tiles.fill_tiles(tiles, order, tiles_x, 0, tiles_y, offsets[:-1].copy(), pairs)
    return Frame(size, cam, records[:m], tiles[:m], ids[:m], order, offsets, pairs)


def blend(
    frame: Frame, records: np.ndarray, background: np.ndarray, image: np.ndarray, alpha: np.ndarray, *, threads: int = 1
) -> None:
    """Blend `records` into image [H, W, 3] (float32 or uint8) and alpha [H, W] over [H, W, 3] or [1, 1, 3]."""
    limits = AS_UINT8 if image.dtype == np.uint8 else AS_FLOAT

    def work(part: int, pairs, offsets, tile0, tile1) -> None:
        cpu_blend.blend_tiles(records, pairs, offsets, tile0, tile1, frame.tiles_x, background, limits, image, alpha)

    _over_tiles(frame, threads, work)


def blend_backward(frame: Frame, records, image, alpha, v_image, v_alpha, *, threads: int = 1) -> np.ndarray:
    """Gradients [M, GRADIENT] of the records; each thread sums in a buffer of its own, so runs repeat exactly."""
    grads = np.zeros((threads, len(records), cpu_blend.GRADIENT), np.float32)

    def work(part: int, pairs, offsets, tile0, tile1) -> None:
        cpu_blend.blend_tiles_backward(
            records, pairs, offsets, tile0, tile1, frame.tiles_x, image, alpha, v_image, v_alpha, grads[part]
        )

    _over_tiles(frame, threads, work)
    return grads[0] if threads == 1 else grads.sum(0)


def project_backward(frame: Frame, arrays: tuple, grads: np.ndarray, v_depths: np.ndarray) -> list[np.ndarray]:
    """Gradients of the splats' arrays from those of the records; zero for splats that were not drawn."""
    outputs = [np.zeros_like(a) for a in arrays]
    cpu_project_backward.project_splats_backward(
        *arrays[:4], frame.ids, frame.records, grads, v_depths, frame.cam, *outputs
    )
    return outputs


def depth_records(frame: Frame) -> np.ndarray:
    """Return records that carry z in place of red: blended like a colour they give the sum of w z."""
    records = frame.records.copy()
    records[:, cpu_project.RED] = records[:, cpu_project.Z]
    records[:, cpu_project.GREEN : cpu_project.BLUE + 1] = 0
    return records


def _over_tiles(frame: Frame, threads: int, work: Callable) -> None:
    """Run `work` over all tiles; each thread takes a contiguous share with about as many pairs as the others'."""
    for pairs, offsets, tile0, tile1 in _bands(frame):
        if threads == 1:
            work(0, pairs, offsets, tile0, tile1)
            continue
        # A tile costs something even when it is empty: as much as about two pairs.
        cost = (offsets[tile0 : tile1 + 1] - offsets[tile0]) + 2 * np.arange(tile1 - tile0 + 1)
        cuts = tile0 + np.searchsorted(cost, cost[-1] * np.arange(threads + 1) / threads)
        submit = _pool(threads, os.getpid()).submit
        jobs = [submit(work, p, pairs, offsets, cuts[p], cuts[p + 1]) for p in range(1, threads)]
        work(0, pairs, offsets, tile0, cuts[1])
        for job in jobs:
            job.result()


def _bands(frame: Frame) -> Iterator[tuple]:
    """Yield (pairs, offsets into them, first tile, end tile); one band unless the lists are too long."""
    tiles, tiles_x = len(frame.offsets) - 1, frame.tiles_x
    if frame.pairs is not None:
        yield frame.pairs, frame.offsets, 0, tiles
        return
    row, rows = 0, tiles // tiles_x
    at_row = frame.offsets[::tiles_x]
    while row < rows:
        end = max(row + 1, int(np.searchsorted(at_row, at_row[row] + MAX_PAIRS, 'right')) - 1)
        offsets = frame.offsets - at_row[row]
        pairs = np.empty(at_row[end] - at_row[row], np.int32)
        cpu_tiles.fill_tiles(frame.tiles, frame.order, tiles_x, row, end, offsets[:-1].copy(), pairs)
        yield pairs, offsets, row * tiles_x, end * tiles_x
        row = end


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    # Plain threads: the kernels release the GIL. Numba's pools spin (OpenMP) or die when two callers meet (workqueue).
    # One per process, because a fork copies the executor but not its threads.
    return ThreadPoolExecutor(threads - 1, thread_name_prefix='sega_render')

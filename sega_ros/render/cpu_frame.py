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

_KEEP = 1 << 24  # bytes: a larger array than this is not kept for the next frame

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
    offsets: np.ndarray  # [tiles + 1] int64, where each tile's list starts if all lie in a row; see `cpu_tiles.offsets_of`
    pairs: np.ndarray | None  # [>= pairs] int32: the lists; None when there are more than MAX_PAIRS

    @property
    def tiles_x(self) -> int:
        return -(-self.size[1] // cpu_blend.TILE)


class Workspace:
    """Arrays that frames rendered one after the other share: fresh memory costs a page fault per 4 kB.

    A Frame made in one is good until the next is.
    """

    def __init__(self):
        self._arrays: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Uninitialised array of a kind, with at least shape[0] rows."""
        array = self._arrays.get(name)
        if array is None or len(array) < shape[0] or array.shape[1:] != shape[1:]:
            rows = shape[0] + shape[0] // 8  # the number of visible splats changes from frame to frame
            array = np.empty((rows, *shape[1:]), dtype)
            if array.nbytes <= _KEEP:
                self._arrays[name] = array
        return array


def prepare(arrays: tuple, camera: Camera, workspace: Workspace | None = None) -> Frame:
    """Project, sort and bin splats given as contiguous float32 arrays (the fields of Splats, in order).

    The Frame's arrays are its own, or `workspace`'s.
    """
    n, size = len(arrays[0]), (camera.height, camera.width)
    take = Workspace().take if workspace is None else workspace.take
    cam = cpu_project.camera_vector(camera)
    tiles_y, tiles_x = -(-size[0] // cpu_blend.TILE), -(-size[1] // cpu_blend.TILE)
    records, tiles = take('records', (n, cpu_project.RECORD), np.float32), take('tiles', (n, cpu_project.TILES), np.int32)
    keys, ids = take('keys', (n,), np.uint32), take('ids', (n,), np.int32)
    starts = np.zeros((tiles_y, tiles_x + 1), np.int32)
    m = cpu_project.project_splats(*arrays, cam, size[1], size[0], cpu_blend.TILE, records, tiles, keys, ids, starts)
    order = take('order', (n,), np.int32)[:m]
    cpu_tiles.sort_by_key(keys[:m], order, take('spare', (n,), np.int32)[:m])
    offsets = np.empty(tiles_y * tiles_x + 1, np.int64)
    cpu_tiles.offsets_of(starts, offsets)
    pairs = None
    if offsets[-1] <= MAX_PAIRS:
        pairs = take('pairs', (int(offsets[-1]),), np.int32)
        _fill(tiles, order, offsets, tiles_x, (0, tiles_y), pairs)
    return Frame(size, cam, records[:m], tiles[:m], ids[:m], order, offsets, pairs)


def _fill(tiles, order, offsets, tiles_x: int, rows: tuple[int, int], pairs) -> None:
    ends = np.empty(len(offsets) - 1 + cpu_tiles.WIDTH, np.int64)
    cpu_tiles.fill_tiles(tiles, order, tiles_x, *rows, offsets, ends, pairs)


def blend(
    frame: Frame, records: np.ndarray, background: np.ndarray, image: np.ndarray, alpha: np.ndarray, *, threads: int = 1
) -> None:
    """Blend `records` into image [H, W, 3] (float32 or uint8) and alpha [H, W] over [H, W, 3] or [1, 1, 3].

    An alpha of another size is left alone.
    """
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
        # A tile costs something even when it is empty: as much as about two pairs, one of which is its spare place.
        cost = (offsets[tile0 : tile1 + 1] - offsets[tile0]) + np.arange(tile1 - tile0 + 1)
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
        _fill(frame.tiles, frame.order, offsets, tiles_x, (row, end), pairs)
        yield pairs, offsets, row * tiles_x, end * tiles_x
        row = end


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    # Plain threads: the kernels release the GIL. Numba's pools spin (OpenMP) or die when two callers meet (workqueue).
    # One per process, because a fork copies the executor but not its threads.
    return ThreadPoolExecutor(threads - 1, thread_name_prefix='sega_render')

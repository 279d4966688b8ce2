"""The layout of the UV space that the decoders work in: everything that depends on the head model alone."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from sega_ros.head.atlas import UvAtlas, build_atlas, texel_head
from sega_ros.head.model import HeadModel
from sega_ros.models.binding import SurfaceFrames, TexelTable, surface_frames, texel_table, vertex_normals
from sega_ros.models.static_decoder import COARSE, SIDE
from sega_ros.types import Region

_ONE_CHART = 3.0  # neighbours in UV that are more than so many times the texel's own size apart lie on different charts
NECK_CUT = -0.135  # metres over the head's origin: the mesh below is left to the bust


@dataclass(frozen=True)
class UvLayout:
    """Texels in use and the coarser maps of one head model. T texels."""

    head: HeadModel
    size: int  # texels of the atlas, square
    table: TexelTable  # on the mean identity
    region: np.ndarray  # [T] Region
    dynamic: Tensor  # [T] bool: decoded per frame
    xy: Tensor  # [T, 2] where on the networks' maps the texel is: right and down, -1 to 1
    middle: UvAtlas  # 96
    coarse: UvAtlas  # 48

    @classmethod
    def build(cls, head: HeadModel, size: int = 192) -> 'UvLayout':
        """Lay out an atlas of `size` texels; `table` fits the mean identity (see `for_identity`)."""
        own = texel_head(head)
        atlas = build_atlas(own, size)
        height = atlas.points(head.v_template, head.faces)[..., 1]
        cut = (atlas.region == Region.NECK) & (height < NECK_CUT)
        # The scalp lies under the hair of the shell and only backs it: a quarter of its texels does, twice as large.
        grid = np.add.outer(np.arange(size) % 2, np.arange(size) % 2) == 0
        thinned = (atlas.region == Region.SCALP) & ~grid
        table = texel_table(own, atlas, head.v_template, ~cut & ~thinned)
        return cls(head, size, table, atlas.region[table.rows, table.cols],
                   torch.from_numpy(atlas.dynamic[table.rows, table.cols]), torch.from_numpy(network_places(head, atlas, table)),
                   build_atlas(head, SIDE), build_atlas(head, COARSE))

    @cached_property
    def mean_frames(self) -> SurfaceFrames:
        """Frames of the texels on the mean identity's neutral mesh."""
        return surface_frames(self.table, self.head.v_template)

    @cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """Texels beside each other in UV [2, K], and those above each other [2, L], by index."""
        rows, cols = self.table.index
        number = np.full((self.size + 1, self.size + 1), -1)
        number[rows, cols] = np.arange(len(rows))
        beside, above = (np.stack([number[rows, cols], number[rows + down, cols + right]]) for down, right in ((0, 1), (1, 0)))
        return tuple(torch.from_numpy(pairs[:, pairs[1] >= 0]) for pairs in (beside, above))

    @cached_property
    def joined(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Those of `neighbours` that lie on one chart, and how far apart they are on the mean identity [K], metres; never 0."""
        out = []
        for axis, pairs in enumerate(self.neighbours):
            one, other = self.mean_frames.positions[pairs.numpy()]
            apart = np.linalg.norm(one - other, axis=-1).clip(1e-9)
            near = torch.from_numpy(apart < _ONE_CHART * self.table.rest_stretch[pairs[0].numpy(), axis])
            out.append((pairs[:, near], torch.from_numpy(apart)[near]))
        return tuple(out)

    def for_identity(self, rest: np.ndarray) -> TexelTable:
        """Return the table of a person whose neutral mesh is `rest` [V, 3]."""
        own = texel_head(self.head)
        atlas = build_atlas(own, self.size)
        mask = np.zeros(atlas.size, bool)
        mask[self.table.rows, self.table.cols] = True
        return texel_table(own, atlas, rest, mask)

    def offsets(self, vertices: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Posed offsets in UV [3, 48, 48], metres, head frame; 0 outside of the dynamic regions."""
        moved = self.coarse.points(vertices - rest, self.head.faces) * self.coarse.dynamic[..., None]
        return np.ascontiguousarray(moved.transpose(2, 0, 1), np.float32)

    def shape_maps(self, rest: np.ndarray) -> np.ndarray:
        """Position (decimetres), normal and validity [7, 96, 96] of a neutral mesh `rest` [V, 3]."""
        normals = vertex_normals(np.ascontiguousarray(rest, np.float32), np.ascontiguousarray(self.head.faces, np.int32))
        maps = [10 * self.middle.points(rest, self.head.faces), self.middle.points(normals, self.head.faces),
                self.middle.valid[..., None]]
        return np.ascontiguousarray(np.concatenate(maps, -1).transpose(2, 0, 1), np.float32)

    def network_maps(self, values: np.ndarray) -> np.ndarray:
        """Per-texel values [T, C] as maps [C, size, size] on the networks' coordinates, 0 elsewhere."""
        out, eyes = self.spread(values), np.flatnonzero(self.region == Region.EYES)
        out[:, self.table.rows[eyes], self.table.cols[eyes]] = 0
        (rows, cols), nearest = self._eye_pixels
        out[:, rows, cols] = values[eyes[nearest]].T
        return out

    @cached_property
    def _eye_pixels(self) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Pixels of the networks' maps that show eyeballs, and which of the eyes' texels is nearest to each."""
        rows, cols = np.nonzero(build_atlas(self.head, self.size).region == Region.EYES)
        places = (np.stack([cols, rows], -1) + 0.5) * 2 / self.size - 1
        nearest = cKDTree(self.xy[torch.from_numpy(self.region == Region.EYES)].numpy()).query(places)[1] if len(rows) else rows
        return (rows, cols), nearest

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Per-texel values [T, C] as maps [C, size, size] of the texels' own layout, 0 elsewhere."""
        out = np.zeros((values.shape[1], self.size, self.size), np.float32)
        out[:, self.table.rows, self.table.cols] = values.T
        return out


def network_places(head: HeadModel, atlas: UvAtlas, table: TexelTable) -> np.ndarray:
    """Where on the networks' maps the texels of `table` are [T, 2]: right and down, -1 to 1.

    `atlas` lays them out by `texel_head`, the networks' maps by the head's own coordinates: they differ on the eyeballs.
    """
    height, width = atlas.size
    places = (np.stack([table.cols, table.rows], -1) + 0.5) * 2 / np.array([width, height]) - 1
    eyes = np.flatnonzero(atlas.region[table.rows, table.cols] == Region.EYES)
    face = atlas.face[table.rows[eyes], table.cols[eyes]]
    places[eyes] = 2 * (head.uvs[head.uv_faces[face]] * table.bary[eyes, :, None]).sum(1) - 1
    return places.astype(np.float32)

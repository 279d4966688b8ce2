"""Regions of the open head's surface: from MakeHuman's painted masks, the parts and the lids' own motion."""

from dataclasses import dataclass

import numpy as np

from sega_ros.head import surface as sf
from sega_ros.head.makehuman import BaseMesh, load_uv_mask
from sega_ros.types import Region

_LID_SHARE = 0.12  # of the fastest lid vertex's way: from there on a triangle is lid


@dataclass(frozen=True)
class HeadRegions:
    """Masks over the triangles of the open head."""

    surface: sf.Surface
    base_region: np.ndarray  # [F] Region without lids
    lips: np.ndarray  # [F] bool
    anchor: np.ndarray  # [V] bool: skull and upper face, what rigid alignment looks at

    def faces(self, lid_dirs: np.ndarray) -> np.ndarray:
        """Region [F] of every triangle, given the lids' motion [2, V, 3]."""
        region = self.base_region.copy()
        speed = np.linalg.norm(lid_dirs, axis=2).max(0)
        moving = (speed > _LID_SHARE * speed.max())[self.surface.faces].any(1)
        region[moving & (region == Region.FACE)] = Region.EYELIDS
        return region

    def lip_sides(self, template: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Triangles [F] bool above and below the seam of the lips, and half the mouth's width (metres)."""
        near = self.lips | (self.base_region == Region.MOUTH) & (self.surface.part == sf.BAG)
        skin, bag = (np.unique(self.surface.faces[self.surface.part == p]) for p in (sf.SKIN, sf.BAG))
        opening = np.intersect1d(skin, bag)  # where the skin turns into the inside of the mouth
        corner = np.abs(template[opening, 0]).max()
        front = template[opening, 2].min()
        middle = template[self.surface.faces].mean(1)
        near |= (self.surface.part == sf.SKIN) & (np.abs(middle[:, 0]) < 1.6 * corner) & (middle[:, 2] > front - 0.01)
        near &= middle[:, 2] > front - 0.004
        upper = self._above_seam(template)
        return near & upper, near & ~upper, float(corner)

    def _above_seam(self, template: np.ndarray) -> np.ndarray:
        """[F] bool by a flood from the nose over the mesh, which the mouth's opening parts from the chin."""
        return _side_of_mouth(self.surface, template, self.lips)


def open_head_regions(base: BaseMesh, surface: sf.Surface, neutral: np.ndarray) -> HeadRegions:
    """Regions of the open head; `neutral` [V, 3] is the base mesh in decimetres, MakeHuman's frame."""
    middle_uv = surface.uv.mean(1)
    skin = surface.part == sf.SKIN
    masks = {n: load_uv_mask(base, n, middle_uv) & skin for n in ('face', 'lips', 'eyelids', 'ears')}
    masks = {n: m | m[_mirror_faces(surface)] for n, m in masks.items()}
    region = np.full(len(surface.faces), Region.SCALP, np.uint8)
    centre = neutral[surface.faces].mean(1)
    region[masks['face'] | masks['lips'] | masks['eyelids']] = Region.FACE
    region[_below_hairline(centre) & (region == Region.SCALP)] = Region.NECK
    region[masks['ears']] = Region.EARS
    for part, value in ((sf.NECK, Region.NECK), (sf.BAG, Region.MOUTH), (sf.TONGUE, Region.MOUTH), (sf.UPPER_TEETH, Region.TEETH),
                        (sf.LOWER_TEETH, Region.TEETH), (sf.LEFT_EYE, Region.EYES), (sf.RIGHT_EYE, Region.EYES)):
        region[surface.part == part] = value
    anchor = np.zeros(len(neutral), bool)
    anchor[np.unique(surface.faces[skin & (centre[:, 1] > 7.0)])] = True
    return HeadRegions(surface, region, masks['lips'], anchor)


def _mirror_faces(surface: sf.Surface) -> np.ndarray:
    """Index [F] of each triangle's twin (itself where none is found)."""
    index = {tuple(f): i for i, f in enumerate(np.sort(surface.faces, 1).tolist())}
    twins = np.sort(surface.mirror[surface.faces], 1).tolist()
    return np.array([index.get(tuple(t), i) for i, t in enumerate(twins)])


def _below_hairline(centre: np.ndarray) -> np.ndarray:
    """Skin without hair below ears and skull: a plane from under the ear lobes to the nape."""
    _, y, z = centre.T
    return y < 6.62 + 0.35 * np.clip(0.35 - z, -1.2, 0.55) * np.where(z > 0.35, 0.2, -1)


def _side_of_mouth(surface: sf.Surface, template: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """[F] bool: nearer to the nose than to the chin along the surface's edges."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import dijkstra

    faces = surface.faces
    a, b = faces.ravel(), np.roll(faces, -1, 1).ravel()
    length = np.linalg.norm(template[a] - template[b], axis=1)
    graph = sp.csr_matrix((length, (a, b)), shape=(len(template),) * 2)
    on_lips = np.zeros(len(template), bool)
    on_lips[np.unique(faces[lips])] = True
    middle = on_lips & (np.abs(template[:, 0]) < 1e-3)
    top = np.flatnonzero(middle)[np.argmax(template[middle, 1])]
    bottom = np.flatnonzero(middle)[np.argmin(template[middle, 1])]
    distance = dijkstra(graph, directed=False, indices=[top, bottom])
    return (distance[0] < distance[1])[faces].mean(1) > 0.5

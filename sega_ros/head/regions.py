"""Regions of the open head's surface: from MakeHuman's painted masks, its parts and the way to the eyes' opening."""

from dataclasses import dataclass

import numpy as np

from sega_ros.head import surface as sf
from sega_ros.head.makehuman import BaseMesh, load_uv_mask
from sega_ros.head.mesh import edge_distances, mirror_faces
from sega_ros.types import Region

_LID = 0.08  # decimetres along the skin from the eye's opening: upper lid up to its crease
_LID_SPEED = 0.25  # of the fastest lid vertex: what moves more belongs to the lid as well


@dataclass(frozen=True)
class HeadRegions:
    """Masks over the triangles and vertices of the open head."""

    surface: sf.Surface
    base_region: np.ndarray  # [F] Region without lids
    lips: np.ndarray  # [F] bool
    lid_way: np.ndarray  # [V] decimetres along the skin to the opening of an eye
    anchor: np.ndarray  # [V] bool: skull and upper face, what rigid alignment looks at

    def faces(self, lid_dirs: np.ndarray) -> np.ndarray:
        """Region [F] of every triangle, given the lids' motion [2, V, 3]."""
        region = self.base_region.copy()
        speed = np.linalg.norm(lid_dirs, axis=2).max(0)
        lid = (self.lid_way < _LID) | ((speed > _LID_SPEED * speed.max()) & (self.lid_way < 2 * _LID))
        region[lid[self.surface.faces].all(1) & (region == Region.FACE)] = Region.EYELIDS
        return region


def open_head_regions(base: BaseMesh, surface: sf.Surface, neutral: np.ndarray) -> HeadRegions:
    """Regions of the open head; `neutral` [V, 3] is the base mesh in decimetres, MakeHuman's frame."""
    middle_uv = surface.uv.mean(1)
    skin = surface.part == sf.SKIN
    twin = mirror_faces(surface.faces, surface.mirror)
    masks = {n: load_uv_mask(base, n, middle_uv) & skin for n in ('face', 'lips', 'eyelids', 'ears')}
    masks = {n: m | m[twin] for n, m in masks.items()}
    region = np.full(len(surface.faces), Region.SCALP, np.uint8)
    centre = neutral[surface.faces].mean(1)
    region[masks['face'] | masks['lips'] | masks['eyelids']] = Region.FACE
    region[_below_hairline(centre) & (region == Region.SCALP)] = Region.NECK
    region[masks['ears']] = Region.EARS
    for part, value in ((sf.NECK, Region.NECK), (sf.BAG, Region.MOUTH), (sf.TONGUE, Region.MOUTH),
                        (sf.UPPER_TEETH, Region.TEETH), (sf.LOWER_TEETH, Region.TEETH),
                        (sf.LEFT_EYE, Region.EYES), (sf.RIGHT_EYE, Region.EYES)):
        region[surface.part == part] = value
    anchor = np.zeros(len(neutral), bool)
    anchor[np.unique(surface.faces[skin & (centre[:, 1] > 7.0)])] = True
    _, left, right = sf.openings(surface, neutral)
    way = edge_distances(neutral, surface.faces[skin], np.concatenate([left, right]))
    return HeadRegions(surface, region, masks['lips'], way, anchor)


def _below_hairline(centre: np.ndarray) -> np.ndarray:
    """Skin without hair below ears and skull: a plane from under the ear lobes to the nape."""
    _, y, z = centre.T
    return y < 6.62 + 0.35 * np.clip(0.35 - z, -1.2, 0.55) * np.where(z > 0.35, 0.2, -1)

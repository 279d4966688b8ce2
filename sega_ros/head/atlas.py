"""UV atlas: which point of the surface each texel lies on, and what kind of surface that is."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from sega_ros.errors import RequestError
from sega_ros.head.model import ByIdentity, HeadModel
from sega_ros.raster import rasterize_triangles
from sega_ros.types import DYNAMIC_REGIONS, Region

_IRIS = 0.6  # radians from the pupil up to which an eyeball's texels lie close; an iris ends at 0.37


@dataclass(frozen=True, eq=False)
class UvAtlas:
    """Texel (row, column) is centred on uv = ((column + 0.5) / W, (row + 0.5) / H)."""

    face: np.ndarray  # [H, W] int32, -1 outside of every chart
    bary: np.ndarray  # [H, W, 3] float32, 0 outside
    region: np.ndarray  # [H, W] uint8 (types.Region)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.face.shape

    @cached_property
    def valid(self) -> np.ndarray:
        """[H, W] bool: texels that lie on the surface."""
        return self.face >= 0

    @cached_property
    def dynamic(self) -> np.ndarray:
        """[H, W] bool: texels decoded anew for each frame (face, mouth, teeth, eyes, lids)."""
        return np.isin(self.region, [int(r) for r in DYNAMIC_REGIONS]) & self.valid

    def counts(self) -> dict[Region, int]:
        """Texels per region."""
        return {r: int((self.region[self.valid] == r).sum()) for r in Region if r != Region.NONE}

    def points(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Position map [H, W, 3] of posed `vertices` [V, 3] (any per-vertex values [V, C] work); 0 outside."""
        return np.einsum('hwk,hwkc->hwc', self.bary, vertices[faces[np.maximum(self.face, 0)]])


def build_atlas(head: HeadModel, size: int | tuple[int, int]) -> UvAtlas:
    """Atlas of a head at a size in texels ((H, W), or one number for a square); the latest few are kept.

    Raises:
        RequestError: a size under 8 texels or over 8192.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not (8 <= height <= 8192 and 8 <= width <= 8192):
        raise RequestError(f'atlas size: wanted 8 to 8192 texels, found {height}x{width} (H, W)')
    return _build(ByIdentity(head), height, width)


@lru_cache(maxsize=8)
def _build(key: ByIdentity, height: int, width: int) -> UvAtlas:
    head = key.head
    pixels = np.c_[head.uvs * [width, height], np.zeros(len(head.uvs))]
    buffer = rasterize_triangles(pixels, head.uv_faces, height, width)
    region = np.where(buffer.face >= 0, head.face_region[np.maximum(buffer.face, 0)], Region.NONE).astype(np.uint8)
    for array in (buffer.face, buffer.bary, region):
        array.setflags(write=False)
    return UvAtlas(buffer.face, buffer.bary, region)


def texel_head(head: HeadModel) -> HeadModel:
    """Return `head` with the texture coordinates that the Gaussians are laid out by: its own, but for the eyeballs.

    There they leave the back of the ball, which nobody sees, and come together around the pupil: people are looked in the eye.
    Only charts that are discs about the pupil are changed, as the open head's are. Networks keep the head's own coordinates.
    """
    return _texel_head(ByIdentity(head))


@lru_cache(maxsize=4)
def _texel_head(key: ByIdentity) -> HeadModel:
    head, uvs = key.head, key.head.uvs.copy()
    for centre in (head.J_regressor @ head.v_template)[3:5]:
        faces = (head.face_region == Region.EYES) & (head.v_template[head.faces[:, 0], 0] * centre[0] > 0)
        corners, index = np.unique(head.uv_faces[faces], return_index=True)
        if len(corners) < 4:
            continue
        ball = head.v_template[head.faces[faces].ravel()[index]] - centre
        polar = np.arccos(np.clip(ball[:, 2] / np.linalg.norm(ball, axis=1), -1, 1))
        flat = head.uvs[corners] - head.uvs[corners[polar.argmin()]]
        radius = np.linalg.norm(flat, axis=1)
        order = np.argsort(polar)
        disc = (np.diff(radius[order]) > -1e-3 * radius.max()).all() and radius.argmin() == polar.argmin()
        if not disc:
            continue
        fine = np.linspace(0, polar.max(), 1000)
        share = np.cumsum(1 / (1 + (fine / _IRIS) ** 3))
        wanted = radius.max() * np.interp(polar, fine, (share - share[0]) / (share[-1] - share[0]))
        uvs[corners] += flat * (wanted / np.maximum(radius, 1e-9) - 1)[:, None]
    # A version of its own: fingerprints, by which atlases are cached, leave the open head's floats out.
    return replace(head, uvs=uvs, version=f'{head.version}, texels')

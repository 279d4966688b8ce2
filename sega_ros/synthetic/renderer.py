"""Draws a synthetic person: visibility, one shadow map, skin, eye, hair and cloth shading, anti-aliasing."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sega_ros.types import Camera

SHADOW_SIZE = 384  # px
_SHADOW_EXTENT = 0.36  # metres around the head that the shadow map covers


def _unit(x: float, y: float, z: float) -> np.ndarray:
    v = np.array([x, y, z], np.float32)
    return v / np.linalg.norm(v)


@dataclass(frozen=True)
class Lighting:
    """Three lights and a soft surrounding, fixed to the camera (x right, y down, z forward); linear RGB."""

    # Towards the key, fill and rim light, and their colours.
    directions: np.ndarray = field(default_factory=lambda: np.stack([
        _unit(-0.55, -0.62, -0.75), _unit(0.8, -0.1, -0.6), _unit(0.75, -0.45, 0.5)]))  # [3, 3]
    colors: np.ndarray = field(default_factory=lambda: np.array(
        [[1.12, 1.06, 0.99], [0.16, 0.18, 0.22], [0.30, 0.32, 0.35]], np.float32))  # [3, 3]
    ambient: np.ndarray = field(default_factory=lambda: np.array(
        [[0.33, 0.35, 0.38], [0.17, 0.14, 0.125]], np.float32))  # [2, 3] from above, from below
    sky: np.ndarray = field(default_factory=lambda: _unit(0, -1, 0))  # [3] towards the sky


@dataclass(frozen=True)
class Drawing:
    """A picture with its truth, pixel by pixel."""

    image: np.ndarray  # [H, W, 3] uint8 sRGB
    alpha: np.ndarray  # [H, W] uint8: share of the pixel that is person
    cloth: np.ndarray  # [H, W] uint8: share of the pixel that is clothes
    region: np.ndarray  # [H, W] uint8: Region of the head's surface at the pixel's first sample; NONE: hair, clothes, nothing


@dataclass(frozen=True)
class Scene:
    """What doesn't change from frame to frame: triangles, their materials, textures."""

    faces: np.ndarray  # [F, 3] int64
    attributes: np.ndarray  # [F, 3, 3] float32: u, v, cover at the corners
    material: np.ndarray  # [F] uint8, see `kernels`
    level: np.ndarray  # [F] float32 alpha test
    root: np.ndarray  # [F] float32 height above the scalp, [0, 1]
    casts: np.ndarray  # [F] bool: throws shadows
    region: np.ndarray  # [F] uint8: Region of the head's surface, NONE for hair and clothes
    skin: np.ndarray  # [S, S, 4] float32 linear RGB and gloss
    strands: np.ndarray  # [S', S'] float32
    hair_color: np.ndarray  # [3, 2, 3] float32 linear: root and tip of hair and beard; the glasses' frame twice
    cloth_color: np.ndarray  # [2, 3] float32 linear

    @cached_property
    def glass(self) -> np.ndarray:
        """Triangles [n, 3] of the lenses of glasses."""
        from sega_ros.synthetic import kernels

        return np.ascontiguousarray(self.faces[self.material == kernels.LENS])


def render(
    scene: Scene, points: np.ndarray, normals: np.ndarray, tangents: np.ndarray, occlusion: np.ndarray,
    camera: Camera, background: np.ndarray, lighting: Lighting, *, shadow_center: np.ndarray, samples: int = 2,
) -> Drawing:
    """Draw a scene.

    Args:
        scene: triangles and textures.
        points, normals, tangents: [V, 3] float32, camera frame.
        occlusion: [V] float32, ambient light that arrives.
        camera: intrinsics and size; its viewmat is already in `points`.
        background: [H, W, 3] float32, linear RGB.
        lighting: lights in the camera frame.
        shadow_center: [3] middle of what the shadow map covers, camera frame.
        samples: per pixel side.
    """
    from sega_ros.synthetic import kernels

    height, width = camera.height * samples, camera.width * samples
    xyz = np.empty_like(points)
    xyz[:, 0] = (points[:, 0] / points[:, 2] * camera.fx + camera.cx) * samples
    xyz[:, 1] = (points[:, 1] / points[:, 2] * camera.fy + camera.cy) * samples
    xyz[:, 2] = points[:, 2]
    inverse_depth = np.zeros((height, width), np.float32)
    face_at = np.empty((height, width), np.int32)
    kind_at = np.full((height, width), kernels.NOTHING, np.uint8)
    bary_at = np.empty((height, width, 3), np.float32)
    kernels.draw_triangles(
        xyz, scene.faces, scene.attributes, scene.level, scene.material, scene.strands, inverse_depth, face_at, kind_at,
        bary_at)
    matrix = _light_matrix(lighting.directions[0], shadow_center)
    shadow = np.full((SHADOW_SIZE, SHADOW_SIZE), np.inf, np.float32)
    kernels.draw_depth((points @ matrix[:, :3].T + matrix[:, 3]).astype(np.float32), scene.faces[scene.casts], shadow)
    linear = np.empty((height, width, 3), np.float32)
    kernels.shade(
        points, normals, tangents, occlusion, scene.faces, scene.attributes, scene.root, face_at, kind_at, bary_at,
        scene.skin, scene.hair_color, scene.cloth_color, lighting.directions, lighting.colors, lighting.ambient, lighting.sky,
        shadow, matrix, samples == 2, linear)
    if len(scene.glass):
        kernels.glaze(xyz, points, normals, scene.glass, lighting.directions, lighting.colors, inverse_depth, linear)
    out = np.empty((camera.height, camera.width, 3), np.uint8)
    alpha, cloth = np.empty(out.shape[:2], np.uint8), np.empty(out.shape[:2], np.uint8)
    kernels.finish(linear, kind_at, background, samples, tone_curve(), out, alpha, cloth)
    empty, first = (a[::samples, ::samples] for a in (kind_at == kernels.NOTHING, face_at))
    region = np.where(empty, 0, scene.region[np.where(empty, 0, first)]).astype(np.uint8)
    return Drawing(out, alpha, cloth, region)


def _light_matrix(direction: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Affine map [3, 4] from the camera frame to pixels and depth (metres along the light) of the shadow map."""
    forward = -direction / np.linalg.norm(direction)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    scale = SHADOW_SIZE / _SHADOW_EXTENT
    rows = np.stack([right * scale, down * scale, forward])
    offset = -rows @ center + np.array([SHADOW_SIZE / 2, SHADOW_SIZE / 2, 0.0])
    return np.c_[rows, offset].astype(np.float32)


def tone_curve() -> np.ndarray:
    """Return uint8 sRGB [4096] over linear light [0, 4): plain sRGB that rolls off above 0.7."""
    x = (np.arange(4096) + 0.5) / 1024
    knee = 0.7
    rolled = np.where(x < knee, x, knee + (1 - knee) * (1 - np.exp(-(x - knee) / (1 - knee))))
    return np.round(linear_to_srgb(rolled) * 255).astype(np.uint8)


def linear_to_srgb(linear):
    """Linear light to sRGB, both in [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_to_linear(srgb):
    """Turn sRGB to linear light, both in [0, 1] (IEC 61966-2-1)."""
    srgb = np.asarray(srgb, np.float64)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)

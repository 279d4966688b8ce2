"""Z-buffer triangle rasteriser: which triangle each pixel shows, and where on it.

Serves the UV atlas, visibility tests, back-projection of landmarks and plain shaded pictures; the splats have their
own renderers. Numba compiles it at first use and keeps the result on disk.
"""

from dataclasses import dataclass

import numba
import numpy as np

from sega_ros.errors import RequestError
from sega_ros.types import check_shape

# Pixel centres this close to an edge (in barycentric units) still count as inside, so shared edges leave no gaps.
_EDGE = 1e-6


@dataclass(frozen=True)
class TriangleBuffer:
    """What `rasterize_triangles` found; pixel (row, column) is centred on x = column + 0.5, y = row + 0.5."""

    face: np.ndarray  # [H, W] int32, -1 where there is no triangle
    bary: np.ndarray  # [H, W, 3] float32, sums to 1 on a triangle, 0 elsewhere
    depth: np.ndarray  # [H, W] float32, inf where there is no triangle

    def interpolate(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Per-vertex `values` [V, C] at each pixel: [H, W, C] float32, 0 outside."""
        corners = np.asarray(values, np.float32)[faces[np.maximum(self.face, 0)]]  # [H, W, 3, C]
        return np.einsum('hwk,hwkc->hwc', self.bary, corners)


@numba.njit(cache=True, nogil=True)
def _rasterize(vertices, faces, height, width, perspective, cull, face_out, bary_out, depth_out):
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = vertices[a, 0], vertices[a, 1], vertices[a, 2]
        bx, by, bz = vertices[b, 0], vertices[b, 1], vertices[b, 2]
        cx, cy, cz = vertices[c, 0], vertices[c, 1], vertices[c, 2]
        if perspective and (az <= 0.0 or bz <= 0.0 or cz <= 0.0):
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (cull and area > 0.0):
            continue
        left = max(0, int(np.floor(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.ceil(max(ax, bx, cx) - 0.5)))
        top = max(0, int(np.floor(min(ay, by, cy) - 0.5)))
        bottom = min(height - 1, int(np.ceil(max(ay, by, cy) - 0.5)))
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1.0 - u - v
                if u < -_EDGE or v < -_EDGE or w < -_EDGE:
                    continue
                if perspective:
                    u, v, w = u / az, v / bz, w / cz
                    z = 1.0 / (u + v + w)
                    u, v, w = u * z, v * z, w * z
                else:
                    z = u * az + v * bz + w * cz
                if z < depth_out[row, column]:
                    depth_out[row, column] = z
                    face_out[row, column] = f
                    bary_out[row, column, 0] = u
                    bary_out[row, column, 1] = v
                    bary_out[row, column, 2] = w


def rasterize_triangles(
    vertices_px: np.ndarray, faces: np.ndarray, height: int, width: int, *,
    perspective: bool = False, cull_backfaces: bool = False,
) -> TriangleBuffer:
    """Draw triangles into a z-buffer; the smallest depth wins, of equal depths the lower triangle index.

    Args:
        vertices_px: [V, 3] x and y in pixels (y down), depth in any unit.
        faces: [F, 3] vertex indices.
        height, width: size of the picture in pixels.
        perspective: depth is camera z and the picture a perspective one: barycentrics are corrected for it, and
            triangles with a corner at or behind the camera are left out.
        cull_backfaces: leave out triangles that face away (corners clockwise seen against y up, i.e. positive area
            in pixel coordinates).

    Raises:
        RequestError: wrong shapes, a size under one pixel, or indices outside of the vertices.
    """
    vertices = np.ascontiguousarray(vertices_px, np.float64)
    faces = np.ascontiguousarray(faces, np.int64)
    check_shape('vertices_px', vertices, (None, 3))
    check_shape('faces', faces, (None, 3))
    if height < 1 or width < 1:
        raise RequestError(f'picture size: wanted at least 1x1 pixels, found {height}x{width} (H, W)')
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise RequestError(f'faces: wanted indices in [0, {len(vertices)}), found {faces.min()} to {faces.max()}')
    face = np.full((height, width), -1, np.int32)
    bary = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    _rasterize(vertices, faces, height, width, perspective, cull_backfaces, face, bary, depth)
    return TriangleBuffer(face, bary, depth)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V, 3] of a mesh ([V, 3], [F, 3]); zero where a vertex has no area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.stack([
        np.bincount(faces.ravel(), np.repeat(face_normals[:, k], 3), minlength=len(vertices)) for k in range(3)
    ], 1)
    return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)).astype(np.float32)


def shade(
    vertices: np.ndarray, faces: np.ndarray, *, size: tuple[int, int], yaw: float = 0.0, pitch: float = 0.0,
    center: np.ndarray | None = None, extent: float = 0.3, colors: np.ndarray | None = None,
    background: float = 1.0,
) -> tuple[np.ndarray, TriangleBuffer]:
    """Plain shaded orthographic picture of a mesh in the head frame.

    Args:
        vertices, faces: [V, 3] metres (y up, z towards the viewer), [F, 3].
        size: (H, W) pixels.
        yaw, pitch: radians the viewer walks around the head, to the subject's left and up.
        center: [3] point shown in the middle (default: middle of the bounding box).
        extent: metres spanned by the picture's height.
        colors: [F, 3] RGB in [0, 1] per triangle (default light grey).

    Returns:
        image [H, W, 3] float32 RGB in [0, 1], and the buffer it was drawn from.
    """
    height, width = size
    vertices = np.asarray(vertices, np.float32)
    if center is None:
        center = (vertices.min(0) + vertices.max(0)) / 2
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    rotation = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    turned = (vertices - center) @ rotation.T
    scale = height / extent
    pixels = np.stack([width / 2 + scale * turned[:, 0], height / 2 - scale * turned[:, 1], -turned[:, 2]], 1)
    buffer = rasterize_triangles(pixels, faces, height, width)
    normals = buffer.interpolate(vertex_normals(turned, faces), faces)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-6)
    light = np.array([0.35, 0.5, 0.79])
    diffuse = np.abs(normals @ light)[..., None]
    base = np.full((len(faces), 3), 0.85, np.float32) if colors is None else np.asarray(colors, np.float32)
    image = base[np.maximum(buffer.face, 0)] * (0.25 + 0.75 * diffuse)
    image[buffer.face < 0] = background
    return image.astype(np.float32), buffer

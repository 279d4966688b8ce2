"""Where MediaPipe's landmarks lie on a head model: seen, not taken from a third party.

The head is rendered in several poses and identities, meshed by MediaPipe, and every landmark is put back on the
surface. A second round wears lips painted where the first one found them, as MediaPipe was trained on faces.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.camera import orbit_camera, project
from sega_ros.errors import HeadModelError
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import pose_mesh
from sega_ros.raster import TriangleBuffer, rasterize_triangles, vertex_normals
from sega_ros.tracking.landmark_model import JAW
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.tracking.surface import closest_points, grow_faces
from sega_ros.tracking.topology import (
    INNER_LIPS,
    LEFT_IRIS,
    LOWER_INNER_LIP,
    N_LANDMARKS,
    OUTER_LIPS,
    RIGHT_IRIS,
    UPPER_INNER_LIP,
)
from sega_ros.types import Camera, FlameParams, Region

SHIPPED = Path(__file__).parent  # the open head's embedding, written by scripts/write_landmarks.py
_FORMAT = 3  # part of the cache's file name; raised when the method changes
_SIZE = 512
_STABLE_PX = 8.0  # landmarks that scatter more than this in a 512 px picture have no place on the surface
_LIMBUS_M = 0.0059  # radius of the iris ring
HAIR = (0.16, 0.11, 0.08)
SKIN, LIP, BROW, SCLERA, IRIS, PUPIL = (
    (0.80, 0.62, 0.53), (0.68, 0.36, 0.34), (0.25, 0.17, 0.13), (0.93, 0.92, 0.91), (0.30, 0.20, 0.12), (0.03,) * 3)
_SKIN_REGIONS = Region.FACE, Region.EYELIDS, Region.SCALP, Region.EARS, Region.NECK
_INSIDE = (0.30, 0.10, 0.10)
_TEETH = (0.90, 0.88, 0.82)


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Place of each landmark on the surface."""

    faces: np.ndarray  # [478] int32
    barys: np.ndarray  # [478, 3] float32
    valid: np.ndarray  # [478] bool
    residual_px: np.ndarray  # [478] median reprojection error in 512 px pictures; nan where not valid

    @property
    def median_residual_px(self) -> float:
        """Median of the residuals of the valid landmarks."""
        return float(np.median(self.residual_px[self.valid]))

    def points(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Landmarks [478, 3] on the posed `vertices` [V, 3] of a mesh with triangles `faces` [F, 3]."""
        return np.einsum('pk,pkc->pc', self.barys, vertices[faces[self.faces]])


@dataclass(frozen=True)
class _View:
    """One rendered picture and what MediaPipe saw in it."""

    landmarks: np.ndarray  # [478, 2] px
    vertices_px: np.ndarray  # [V, 2]
    buffer: TriangleBuffer
    jaw: float  # radians


def plain_picture(
    head: HeadModel, params: FlameParams, camera: Camera, colors: np.ndarray, *, background: float = 0.45,
) -> tuple[np.ndarray, np.ndarray, TriangleBuffer]:
    """Render the head with vertex `colors` [V, 3] under a soft frontal light.

    Returns the picture (uint8 RGB [H, W, 3]), the projected vertices [V, 2] and the buffer.
    """
    vertices = pose_mesh(head, params)
    pixels, depth = project(vertices, camera)
    buffer = rasterize_triangles(np.concatenate([pixels, depth[:, None]], 1), head.faces, camera.height, camera.width,
                                 perspective=True)
    normals = buffer.interpolate(vertex_normals(vertices, head.faces), head.faces)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-6)
    light = np.array([0.25, 0.45, 0.86])
    shade = 0.35 + 0.65 * np.abs(normals @ light)
    image = buffer.interpolate(colors, head.faces) * shade[..., None]
    image[buffer.face < 0] = background
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), pixels, buffer


def vertex_colors(head: HeadModel, embedding: LandmarkEmbedding | None = None) -> np.ndarray:
    """Plain colours [V, 3]: skin, eyes, teeth; with an embedding also lips and brows."""
    colors = np.tile(np.float32(SKIN), (len(head.v_template), 1))
    for region, color in ((Region.MOUTH, _INSIDE), (Region.TEETH, _TEETH), (Region.EYES, SCLERA), (Region.SCALP, HAIR)):
        colors[np.unique(head.faces[head.face_region == region])] = color
    for centre, radius, vertices in eyeballs(head):
        axis = (head.v_template[vertices] - centre) / radius
        off = np.degrees(np.arccos(np.clip(axis[:, 2] / np.linalg.norm(axis, axis=1), -1, 1)))
        ring = np.degrees(np.arcsin(_LIMBUS_M / radius))
        colors[vertices[off < ring]] = IRIS
        colors[vertices[off < 0.42 * ring]] = PUPIL
    brow = brow_cover(head)[:, None]
    colors = (colors * (1 - brow) + np.float32(BROW) * brow).astype(np.float32)
    if embedding is not None:
        _paint(head, embedding, colors)
    return colors


def _paint(head: HeadModel, embedding: LandmarkEmbedding, colors: np.ndarray) -> None:
    """Colour the lips where their landmarks lie, seen from the front."""
    import cv2

    polygon = embedding.points(head.v_template, head.faces)[list(OUTER_LIPS)]
    contour = np.ascontiguousarray(polygon[:, :2], np.float32)
    skin = np.unique(head.faces[np.isin(head.face_region, _SKIN_REGIONS)])
    inside = np.unique(head.faces[head.face_region == Region.MOUTH])
    near = skin[np.abs(head.v_template[skin, 2] - polygon[:, 2].mean()) < 0.03]
    hit = [v for v in near if cv2.pointPolygonTest(contour, tuple(map(float, head.v_template[v, :2])), False) >= 0]
    colors[np.setdiff1d(hit, inside)] = LIP


def brow_cover(head: HeadModel) -> np.ndarray:
    """How much of each vertex is brow [V] in [0, 1].

    By anatomy, from the eyeballs: 38 mm long from above the inner corner of the eye, an arch 2 cm above the pupil.
    """
    v, cover = head.v_template.astype(np.float64), np.zeros(len(head.v_template))
    for centre, radius, _ in eyeballs(head):
        along = (v[:, 0] * np.sign(centre[0]) - abs(centre[0]) + 0.0175) / 0.038
        line = centre[1] + 0.0165 + 0.0078 * np.sin(np.pi * (0.12 + 0.62 * along)) - 0.0068 * along**2
        thick = 0.0034 * np.clip(1.1 - 0.7 * along**2, 0.2, 1)
        near = (along > -0.03) & (along < 1.03) & (v[:, 2] > centre[2] - radius)
        cover = np.maximum(cover, np.where(near, np.exp(-0.5 * ((v[:, 1] - line) / thick) ** 2), 0))
    return cover


def eyeballs(head: HeadModel) -> list[tuple[np.ndarray, float, np.ndarray]]:
    """Centre [3], radius and vertices of the left and the right eyeball, metres; empty when the head has none."""
    vertices = np.unique(head.faces[head.face_region == Region.EYES])
    centres = (head.J_regressor @ head.v_template)[3:5]
    out = []
    for joint, centre in zip((3, 4), centres, strict=True):
        own = vertices[head.weights[vertices, joint] > 0.5]
        if not len(own):
            return []
        out.append((centre, float(np.median(np.linalg.norm(head.v_template[own] - centre, axis=1))), own))
    return out


def _scenes(head: HeadModel) -> list[tuple[FlameParams, float, float]]:
    """Params, yaw and pitch (radians) of the renderings."""
    rng = np.random.default_rng(3)
    scenes = []
    jaws = np.array([[0.0, 0, 0], [0.12, 0, 0], [0.24, 0, 0]], np.float32)
    for identity in range(4):
        shape = (0.6 * rng.standard_normal(head.n_shape) if identity else np.zeros(head.n_shape)).astype(np.float32)
        poses = [FlameParams(shape, np.zeros(head.n_expression, np.float32), jaw_pose=jaw) for jaw in jaws]
        for yaw, pitch in ((0, 0), (-20, 0), (20, 0), (-10, 8), (10, -8)):
            scenes += [(p, np.radians(yaw), np.radians(pitch)) for p in poses]
    return scenes


def _look(
    head: HeadModel, colors: np.ndarray, detector: LandmarkDetector, report: Callable[[float], None],
) -> list[_View]:
    """Render and mesh every scene in which MediaPipe finds the face."""
    face = np.unique(head.faces[head.face_region == Region.FACE])
    target = tuple((head.v_template[face].min(0) + head.v_template[face].max(0)) / 2 * np.array([1, 1, 0]))
    views, scenes = [], _scenes(head)
    for i, (params, yaw, pitch) in enumerate(scenes):
        camera = orbit_camera(yaw=yaw, pitch=pitch, distance=1.2, size=(_SIZE, _SIZE), focal_length=3.4, target=target)
        image, pixels, buffer = plain_picture(head, params, camera, colors)
        found = detector.detect(image)
        if found:
            seen = detector.refine(image, found[0], samples=4)
            views.append(_View(seen.points[:, :2], pixels, buffer, float(params.jaw_pose[0])))
        report((i + 1) / len(scenes))
    if len(views) < len(scenes) / 2:
        raise HeadModelError(
            f'head {head.name}: MediaPipe found a face in {len(views)} of {len(scenes)} plain renderings, wanted '
            "at least half: does the file hold a head in FLAME's frame (y up, z out of the face)?")
    return views


def _place(head: HeadModel, views: list[_View]) -> LandmarkEmbedding:
    """Put every landmark on the surface: robust mean of where it was seen, then the nearest point nearby."""
    hits = np.full((len(views), N_LANDMARKS), -1)
    barys = np.zeros((len(views), N_LANDMARKS, 3))
    skin = np.isin(head.face_region, _SKIN_REGIONS)
    masks = [skin] * N_LANDMARKS
    for p in LEFT_IRIS + RIGHT_IRIS:
        masks[p] = head.face_region == Region.EYES
    for landmarks, allowed in _lip_faces(head):
        for p in landmarks:
            masks[p] = allowed
    for v, view in enumerate(views):
        for p in np.flatnonzero(_telling(view)):
            hits[v, p], barys[v, p] = _nearest_hit(view, view.landmarks[p], masks[p])
    faces = np.zeros(N_LANDMARKS, np.int32)
    places = np.tile(np.float32([1, 0, 0]), (N_LANDMARKS, 1))
    valid = np.zeros(N_LANDMARKS, bool)
    _place_irises(head, faces, places, valid)
    for p in range(N_LANDMARKS):
        rows = np.flatnonzero(hits[:, p] >= 0)
        if len(rows) < max(3, 0.15 * len(views)):
            continue
        seen = np.einsum('nk,nkc->nc', barys[rows, p], head.v_template[head.faces[hits[rows, p]]])
        middle = _geometric_median(seen)
        near = hits[rows, p][np.linalg.norm(seen - middle, axis=1) < 0.012]
        if not len(near):
            continue
        candidates = grow_faces(head.faces, near, rings=1)
        candidates = candidates[masks[p][candidates]]
        faces[p], places[p] = closest_points(middle[None], head.v_template, head.faces, candidates)[:2]
        valid[p] = True
    return _judge(head, views, faces, places, valid)


def _telling(view: _View) -> np.ndarray:
    """Mark the landmarks [478] that this view says something about.

    Closed lips hide the inner ones, and a wide-open mouth stretches the plain rendering's cheeks beyond what MediaPipe
    was trained on.
    """
    inner = np.isin(np.arange(N_LANDMARKS), INNER_LIPS)
    return inner & (view.jaw > 0) | ~inner & (view.jaw < 0.2)


def _lip_faces(head: HeadModel) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Inner-lip landmarks and the faces (mask [F]) on which they may lie: never the throat behind the lips."""
    lips = np.isin(head.face_region, (Region.FACE, Region.EYELIDS))
    of_jaw = head.weights[head.faces, JAW].mean(1) > 0.5
    corners = tuple(p for p in INNER_LIPS if p not in UPPER_INNER_LIP + LOWER_INNER_LIP)
    return [(UPPER_INNER_LIP, lips & ~of_jaw), (LOWER_INNER_LIP, lips & of_jaw), (corners, lips)]


def _nearest_hit(view: _View, point: np.ndarray, allowed: np.ndarray, reach: int = 10) -> tuple[int, np.ndarray]:
    """Face and barycentrics of the pixel nearest to `point` that shows an `allowed` face; -1 when none is near."""
    column, row = point.astype(int)
    top, left = max(row - reach, 0), max(column - reach, 0)
    window = view.buffer.face[top:row + reach + 1, left:column + reach + 1]
    rows, columns = np.nonzero((window >= 0) & allowed[np.maximum(window, 0)])
    if not len(rows):
        return -1, np.zeros(3)
    best = np.hypot(columns + left + 0.5 - point[0], rows + top + 0.5 - point[1]).argmin()
    at = rows[best] + top, columns[best] + left
    return int(view.buffer.face[at]), view.buffer.bary[at]


def _judge(head, views, faces, barys, valid) -> LandmarkEmbedding:
    """Median reprojection error of each landmark; what scatters is dropped."""
    corners = head.faces[faces]
    errors = np.stack([np.linalg.norm(
        np.einsum('pk,pkc->pc', barys, view.vertices_px[corners]) - view.landmarks, axis=1) for view in views])
    errors[~np.stack([_telling(view) for view in views])] = np.nan
    residual = np.nanmedian(errors, 0)
    valid = valid & (residual < _STABLE_PX)
    return LandmarkEmbedding(faces, barys, valid, np.where(valid, residual, np.nan).astype(np.float32))


def _place_irises(head: HeadModel, faces: np.ndarray, barys: np.ndarray, valid: np.ndarray) -> None:
    """Irises by geometry: pupil and limbus around the gaze axis (+z) on each eyeball."""
    for (centre, radius, vertices), iris in zip(eyeballs(head), (LEFT_IRIS, RIGHT_IRIS), strict=False):
        own = np.flatnonzero(np.isin(head.faces, vertices).all(1) & (head.face_region == Region.EYES))
        ring = _LIMBUS_M / radius
        # MediaPipe's order: pupil, then its picture's right, top, left, bottom for both eyes.
        directions = np.array([[0, 0, 1], [ring, 0, 0], [0, ring, 0], [-ring, 0, 0], [0, -ring, 0]])
        directions[1:, 2] = np.sqrt(1 - ring**2)
        for landmark, direction in zip(iris, directions, strict=True):
            point = centre + radius * direction
            faces[landmark], barys[landmark] = closest_points(point[None], head.v_template, head.faces, own)[:2]
            valid[landmark] = True


def _geometric_median(points: np.ndarray, iterations: int = 20) -> np.ndarray:
    """Weiszfeld's iteration [N, 3] -> [3]; a few wild points do not move it."""
    middle = np.median(points, 0)
    for _ in range(iterations):
        weight = 1 / np.maximum(np.linalg.norm(points - middle, axis=1), 1e-5)
        middle = weight @ points / weight.sum()
    return middle


def compute_embedding(head: HeadModel, *, progress: Callable[[float], None] | None = None) -> LandmarkEmbedding:
    """Embed the landmarks on `head`; some seconds.

    Raises:
        HeadModelError: MediaPipe does not see a face in it.
    """
    report = progress or (lambda _: None)
    with LandmarkDetector(static_image_mode=True, max_faces=1) as detector:
        first = _place(head, _look(head, vertex_colors(head), detector, lambda f: report(0.5 * f)))
        colors = vertex_colors(head, first)
        return _place(head, _look(head, colors, detector, lambda f: report(0.5 + 0.5 * f)))


def cache_directory() -> Path:
    """Directory of what was computed once: `$SEGA_CACHE_DIR`, else the user's cache."""
    own = os.environ.get('SEGA_CACHE_DIR')
    base = os.environ.get('XDG_CACHE_HOME')
    return Path(own) if own else (Path(base) if base else Path.home() / '.cache') / 'sega_ros'


def landmark_embedding(
    head: HeadModel, *, progress: Callable[[float], None] | None = None, cache_dir: str | Path | None = None,
) -> LandmarkEmbedding:
    """Embedding of `head`: the package's own, or the cache's; else it is computed, and a damaged cache file replaced."""
    cached = (Path(cache_dir) if cache_dir else cache_directory()) / embedding_file(head)
    for path in (SHIPPED / cached.name, cached):
        found = _read(path, len(head.faces))
        if found is not None:
            return found
    embedding = compute_embedding(head, progress=progress)
    write_embedding(cached, embedding)
    return embedding


def embedding_file(head: HeadModel) -> str:
    """Name of the file that holds the embedding of `head`, and of no other."""
    return f'landmarks-{_FORMAT}-{head.fingerprint[:16]}.npz'


def _read(path: Path, n_faces: int) -> LandmarkEmbedding | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = LandmarkEmbedding(*(file[key] for key in ('faces', 'barys', 'valid', 'residual_px')))
    except Exception:
        return None
    if found.faces.shape != (N_LANDMARKS,) or found.barys.shape != (N_LANDMARKS, 3) or found.faces.max() >= n_faces:
        return None
    return found


def write_embedding(path: Path, embedding: LandmarkEmbedding) -> None:
    """Write beside and rename: a reader sees the old file or the new one. A cache that can't be written is no error."""
    part = path.with_name(f'{path.stem}.{os.getpid()}.npz')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, faces=embedding.faces, barys=embedding.barys, valid=embedding.valid,
                 residual_px=embedding.residual_px)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()

"""A seeded synthetic person on the open head: geometry, look, hair and clothes, drawn for any pose and camera."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sega_ros.errors import RequestError
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.raster import vertex_normals
from sega_ros.synthetic import body, kernels
from sega_ros.synthetic.features import find_features
from sega_ros.synthetic.hair import SHELLS, Hair, grow_hair, shell_points, strand_texture
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.renderer import Lighting, Scene, render, srgb_to_linear
from sega_ros.synthetic.skin import paint
from sega_ros.types import Camera, FlameParams, Region

_SHAPE_SPREAD = 0.7  # standard deviations of identity: people, not caricatures


@dataclass(frozen=True)
class Person:
    """One synthetic identity, ready to be drawn."""

    head: HeadModel
    look: Look
    shape: np.ndarray  # [S]
    scene: Scene
    hair: Hair
    occlusion: np.ndarray  # [V] of the head, then shells, then shirt
    shirt: np.ndarray  # [V', 3] head frame at rest
    backdrop_seed: int

    @cached_property
    def poser(self) -> Poser:
        """Poses this identity."""
        return Poser(self.head, self.shape)


def make_person(head: HeadModel, seed: int, *, texture_size: int = 1536, look: Look | None = None) -> Person:
    """Make the person of `seed`; `look` replaces the drawn one.

    Raises:
        RequestError: `head` has no regions to paint (a FLAME head): use the open head.
    """
    if not {Region.MOUTH, Region.SCALP, Region.TEETH} <= set(np.unique(head.face_region)):
        raise RequestError(f'head model {head.name}: has no teeth, mouth or scalp to paint; use the open head')
    look = look or Look.draw(seed)
    rng = np.random.default_rng([seed, 3])
    shape = (rng.standard_normal(head.n_shape) * _SHAPE_SPREAD).clip(-1.8, 1.8).astype(np.float32)
    features = find_features(head)
    hair = grow_hair(head, look, features, seed=seed)
    skin = paint(head, look, features, size=texture_size, seed=seed)
    shirt_points, shirt_faces, shirt_uv = body.shirt()
    scene = _assemble(head, look, hair, skin, shirt_faces, shirt_uv, len(shirt_points), strand_texture(seed=seed))
    rest = Poser(head, shape).rest
    occlusion = np.concatenate([
        _occlusion(rest, head.faces), np.repeat(0.35 + 0.65 * hair.heights, len(hair.vertices)),
        np.full(len(shirt_points), 0.9)]).astype(np.float32)
    return Person(head, look, shape, scene, hair, occlusion, shirt_points, seed)


def _assemble(head, look, hair: Hair, skin, shirt_faces, shirt_uv, n_shirt: int, strands) -> Scene:
    """Concatenate head, shells and shirt into one list of triangles."""
    n_head, n_hair, n_shells = len(head.v_template), len(hair.vertices), SHELLS
    region = head.face_region
    shown = ~((region == Region.NECK) & body.hidden_neck(head.v_template)[head.faces].all(1))
    head_faces = head.faces[shown]
    of_region = np.full(max(Region) + 1, kernels.SKIN)
    of_region[Region.EYES], of_region[Region.MOUTH], of_region[Region.TEETH] = kernels.EYE, kernels.MOUTH, kernels.MOUTH
    head_uv = np.concatenate([head.uvs[head.uv_faces[shown]], np.ones((len(head_faces), 3, 1))], 2)
    # From the outermost shell inwards, so that the depth test drops most of the inner ones early.
    order = np.arange(n_shells)[::-1]
    shells = [hair.faces + n_head + k * n_hair for k in order]
    hair_uv = np.concatenate([hair.uv, hair.cover[hair.faces][..., None]], 2)
    cloth_uv = np.concatenate([shirt_uv, np.ones((*shirt_uv.shape[:2], 1))], 2)
    heights, n_group = hair.heights[order], len(hair.faces)
    faces = np.concatenate([head_faces, *shells, shirt_faces + n_head + n_shells * n_hair])
    n_h, n_c = len(head_faces), len(shirt_faces)
    zeros_h, zeros_c = np.zeros(n_h), np.zeros(n_c)
    casts = np.ones(len(faces), bool)
    casts[n_h : n_h + n_shells * n_group] = np.repeat((np.arange(n_shells) % 4 == 2), n_group)
    cloth = srgb_to_linear(look.cloth)
    return Scene(
        faces=np.ascontiguousarray(faces, np.int64),
        attributes=np.ascontiguousarray(np.concatenate([head_uv, *[hair_uv] * n_shells, cloth_uv]), np.float32),
        material=np.concatenate([of_region[region[shown]], np.full(n_shells * n_group, kernels.HAIR), np.full(n_c, kernels.CLOTH)]),
        level=np.concatenate([zeros_h, np.repeat(heights * 0.97, n_group), zeros_c]).astype(np.float32),
        root=np.concatenate([zeros_h, np.repeat(heights, n_group), zeros_c]).astype(np.float32),
        casts=casts, skin=skin, strands=strands, hair_color=srgb_to_linear(look.hair).astype(np.float32),
        cloth_color=np.stack([cloth * 0.75, cloth * 1.15]).astype(np.float32))


def _occlusion(points: np.ndarray, faces: np.ndarray, *, directions: int = 48, size: int = 256) -> np.ndarray:
    """Share [V] of the sky that each vertex sees, from depth maps in evenly spread directions."""
    k = np.arange(directions) + 0.5
    up, turn = 1 - 2 * k / directions, np.pi * (1 + 5**0.5) * k
    normals = vertex_normals(points, faces)
    seen, weight = np.zeros(len(points)), np.full(len(points), 1e-6)
    center = points.mean(0)
    scale = size / (2.05 * np.linalg.norm(points - center, axis=1).max())
    for y, a in zip(up, turn, strict=True):
        axis = np.array([np.sqrt(1 - y * y) * np.cos(a), y, np.sqrt(1 - y * y) * np.sin(a)])
        side = np.cross(axis, [0.0, 1.0, 0.0])
        side /= np.linalg.norm(side)
        frame = np.stack([side * scale, np.cross(axis, side) * scale, -axis])
        xyz = ((points - center) @ frame.T + [size / 2, size / 2, 0]).astype(np.float32)
        depth = np.full((size, size), np.inf, np.float32)
        kernels.draw_depth(xyz, faces.astype(np.int64), depth)
        pixel = xyz[:, :2].astype(int)
        free = xyz[:, 2] < depth[pixel[:, 1], pixel[:, 0]] + 0.004
        facing = np.maximum(normals @ axis, 0)
        seen += facing * free
        weight += facing
    return np.clip(0.15 + 0.85 * seen / weight, 0, 1)


def draw_person(
    person: Person, params: FlameParams, camera: Camera, *, rest_viewmat: np.ndarray | None = None,
    lighting: Lighting | None = None, background: np.ndarray | None = None, samples: int = 2,
) -> np.ndarray:
    """Return the picture of `person`, uint8 RGB [H, W, 3].

    Args:
        person: whom to draw.
        params: expression, joints and lids; the shape is the person's.
        camera: camera with the head's pose as its viewmat.
        rest_viewmat: [4, 4] pose of the shoulders (default: the head's).
        lighting: lights in the camera frame.
        background: [H, W, 3] float32 linear RGB (default: the person's backdrop).
        samples: per pixel side, for anti-aliasing.
    """
    head, hair = person.head, person.hair
    mesh = person.poser.pose(replace(params, shape=person.shape))
    normals = vertex_normals(mesh, head.faces)
    scalp, scalp_normals = mesh[hair.vertices], normals[hair.vertices]
    shells = shell_points(hair, scalp, scalp_normals, hair.flow)
    view, torso = camera.viewmat, camera.viewmat if rest_viewmat is None else rest_viewmat
    shirt = person.shirt
    shirt_normals = vertex_normals(shirt, person.scene.faces[-_count_shirt(person):] - (len(mesh) + len(shells)))
    points = np.concatenate([_moved(mesh, view), _moved(shells, view), _moved(shirt, torso)])
    all_normals = np.concatenate([
        normals @ view[:3, :3].T, np.tile(scalp_normals @ view[:3, :3].T, (SHELLS, 1)), shirt_normals @ torso[:3, :3].T])
    tangents = np.zeros_like(all_normals)
    tangents[len(mesh) : len(mesh) + len(shells)] = np.tile((hair.flow + 0.35 * scalp_normals) @ view[:3, :3].T, (SHELLS, 1))
    if background is None:
        background = body.backdrop(person.look.backdrop, (camera.height, camera.width), seed=person.backdrop_seed)
    middle = _moved(np.array([[0, 0, -0.02]]), view)[0]
    return render(person.scene, points.astype(np.float32), all_normals.astype(np.float32), tangents.astype(np.float32),
                  person.occlusion, camera, background, lighting or Lighting(), shadow_center=middle, samples=samples)


def _count_shirt(person: Person) -> int:
    return int((person.scene.material == kernels.CLOTH).sum())


def _moved(points: np.ndarray, viewmat: np.ndarray) -> np.ndarray:
    return points @ viewmat[:3, :3].T + viewmat[:3, 3]

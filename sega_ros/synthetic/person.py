"""A seeded synthetic person on the open head: geometry, look, hair and clothes, drawn for any pose and camera."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sega_ros.errors import RequestError
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.raster import vertex_normals
from sega_ros.synthetic import body, kernels
from sega_ros.synthetic.beard import grow_beard
from sega_ros.synthetic.features import Features, find_features, smoothstep
from sega_ros.synthetic.folds import Folds, find_folds, folded
from sega_ros.synthetic.glasses import Glasses, fit_glasses
from sega_ros.synthetic.hair import Curtain, Hair, grow_hair, hang_curtain, shell_points, strand_texture
from sega_ros.synthetic.look import STYLES, Look
from sega_ros.synthetic.renderer import Drawing, Lighting, Scene, render, srgb_to_linear
from sega_ros.synthetic.skin import LIP_DEPTH, paint
from sega_ros.synthetic.strands import grow_locks, measure_bust
from sega_ros.synthetic.traits import trait_shape
from sega_ros.types import Camera, FlameParams, Region

if TYPE_CHECKING:
    from sega_ros.synthetic.hand import Hand

_SHAPE_SPREAD = 0.7  # standard deviations of identity: people, not caricatures
_INSIDE = (Region.EYES, Region.MOUTH, Region.TEETH)  # throw no shadow
# Pose [4, 4] of a hand that is neither seen nor in any light's way: behind the camera, far below.
_AWAY = np.array([[1, 0, 0, 0], [0, 1, 0, 9], [0, 0, 1, -1], [0, 0, 0, 1]], np.float32)
_CUT = 1e-9  # alpha level at which a triangle shows wherever its cover is positive


@dataclass(frozen=True)
class Part:
    """Some triangles of a scene, all of the same kind. V vertices, F triangles."""

    points: int  # V
    faces: np.ndarray  # [F, 3] into the part's own vertices
    attributes: np.ndarray  # [F, 3, 3] u, v, cover
    material: np.ndarray  # [F]
    level: np.ndarray  # [F] alpha test
    root: np.ndarray  # [F] height above the scalp
    casts: np.ndarray  # [F] bool
    occlusion: np.ndarray  # [V]
    region: np.ndarray | int = Region.NONE  # [F] or one for all


@dataclass(frozen=True)
class Person:
    """One synthetic identity, ready to be drawn; the scene's parts are head, hair shells, hair curtain, glasses, shirt."""

    head: HeadModel
    look: Look
    shape: np.ndarray  # [S]
    poser: Poser  # poses this identity
    scene: Scene
    occlusion: np.ndarray  # [V] of all parts
    hairs: tuple[Hair, ...]  # on the scalp; a beard
    curtain: Curtain | None
    glasses: Glasses | None
    shirt: np.ndarray  # [V', 3] head frame at rest
    shirt_normals: np.ndarray  # [V', 3]
    seed: int
    v_offset: np.ndarray | None = None  # [V, 3] metres added to the head's template
    folds: Folds | None = None  # of the skin, with the expression
    hand: 'Hand | None' = None  # see `hand.with_hand`


def make_person(
    head: HeadModel, seed: int, *, texture_size: int = 1280, look: Look | None = None, v_offset: np.ndarray | None = None,
) -> Person:
    """Make the person of `seed`; `look` replaces the drawn one, `v_offset` [V, 3] (metres) is added to the template.

    Raises:
        RequestError: `head` has no regions to paint (a FLAME head): use the open head.
    """
    if not {Region.MOUTH, Region.SCALP, Region.TEETH} <= set(np.unique(head.face_region)):
        raise RequestError(f'head model {head.name}: has no teeth, mouth or scalp to paint; use the open head')
    look = look or Look.draw(seed)
    rng = np.random.default_rng([seed, 3])
    shape = (rng.standard_normal(head.n_shape) * _SHAPE_SPREAD).clip(-1.8, 1.8).astype(np.float32)
    if look.traits:
        shape = (shape + trait_shape(head, look.traits)).clip(-2.5, 2.5)
    poser = Poser(head, shape, v_offset=v_offset)
    rest = poser.rest
    features = find_features(head)
    neck = rest[np.unique(head.faces[head.face_region == Region.NECK])]
    shirt, shirt_faces, shirt_uv = body.shirt(neck, collar=look.collar)
    hairs, curtain = (grow_hair(head, look, features, seed=seed),), None
    if look.beard:
        hairs += (grow_beard(head, look, features, seed=seed),)
    deep = {'below': 0.035, 'slack': 0.007} if look.collar else {}
    parts = [_head_part(head, rest, features, body.neck_cover(rest, neck, **deep))]
    parts += map(_shell_part, hairs, (kernels.HAIR, kernels.BEARD))
    if look.style in STYLES:
        normals = vertex_normals(shirt, shirt_faces)
        bust = measure_bust(head, rest, shirt, normals, ears=STYLES[look.style].hangs)
        curtain = grow_locks(head, rest, look, bust, seed=seed)
        parts.append(_curtain_part(curtain, kernels.LOCK))
    elif look.hair_curtain:
        ears = rest[np.unique(head.faces[head.face_region == Region.EARS])]
        curtain = hang_curtain(look, float(np.abs(ears[:, 0]).mean()), seed=seed)
        parts.append(_curtain_part(curtain, kernels.HAIR))
    glasses = fit_glasses(head, rest, look.glasses, thickness=look.rim) if look.glasses else None
    if glasses:
        parts.append(_glasses_part(glasses))
    parts.append(_shirt_part(shirt, shirt_faces, shirt_uv))
    strands = strand_texture(seed=look.strands if look.strands >= 0 else seed)
    scene = _assemble(parts, look, paint(head, look, features, size=texture_size, seed=seed), strands)
    occlusion = np.concatenate([p.occlusion for p in parts]).astype(np.float32)
    folds = find_folds(head, look, size=texture_size, seed=seed) if look.folds else None
    normals = vertex_normals(shirt, shirt_faces)
    return Person(
        head, look, shape, poser, scene, occlusion, hairs, curtain, glasses, shirt, normals, seed, v_offset, folds)


def _head_part(head: HeadModel, rest: np.ndarray, features: Features, cover: np.ndarray) -> Part:
    region = head.face_region
    cut = np.isin(region, (Region.NECK, Region.SCALP))[:, None]
    above = np.where(cut, cover[head.faces], 1.0)
    shown = (above > 0).any(1)
    faces, above, region = head.faces[shown], above[shown], region[shown]
    material = np.full(max(Region) + 1, kernels.SKIN)
    material[[Region.EYES, Region.MOUTH, Region.TEETH]] = kernels.EYE, kernels.MOUTH, kernels.MOUTH
    material = material[region]
    front = head.v_template[faces].mean(1)[:, 2] > features.mouth[2] - LIP_DEPTH
    material[(region == Region.MOUTH) & front] = kernels.SKIN  # inner edge of the lips
    sky = _occlusion(rest, head.faces)
    # Measured behind closed lips; an open mouth lights the front teeth, the back ones stay dark.
    teeth = np.unique(head.faces[head.face_region == Region.TEETH])
    depth = rest[teeth, 2].max() - rest[teeth, 2]
    sky[teeth] = 0.2 + 0.8 * smoothstep(depth, 0.03, 0.006)
    uv = np.concatenate([head.uvs[head.uv_faces[shown]], above[..., None]], 2)
    # The neck ends along the shirt, by the alpha test that hair uses.
    level = np.where((above < 0).any(1), _CUT, 0.0)
    return Part(len(rest), faces, uv, material, level, np.zeros(len(faces)), ~np.isin(region, _INSIDE), sky, region)


def _shell_part(hair: Hair, material: int) -> Part:
    # From the outermost shell inwards, so that the depth test drops most of the inner ones early.
    shells = len(hair.heights)
    order = np.arange(shells)[::-1]
    faces = np.concatenate([hair.faces + k * len(hair.vertices) for k in order])
    attributes = np.concatenate([hair.uv, hair.cover[hair.faces][..., None]], 2)
    heights = np.repeat(hair.heights[order], len(hair.faces))
    return Part(
        shells * len(hair.vertices), faces, np.tile(attributes, (shells, 1, 1)), np.full(len(faces), material),
        heights * 0.97, heights, np.repeat(order == shells // 2, len(hair.faces)),
        np.repeat(0.35 + 0.65 * hair.heights, len(hair.vertices)))


def _curtain_part(curtain: Curtain, material: int) -> Part:
    n = len(curtain.faces)
    return Part(len(curtain.points), curtain.faces, curtain.attributes, np.full(n, material), -curtain.level * 0.97,
                curtain.root, curtain.casts, curtain.occlusion)


def _glasses_part(glasses: Glasses) -> Part:
    faces = np.concatenate([glasses.frame, glasses.lenses])
    material = np.repeat([kernels.FRAME, kernels.LENS], [len(glasses.frame), len(glasses.lenses)])
    return Part(len(glasses.points), faces, np.zeros((len(faces), 3, 3)), material, np.zeros(len(faces)), np.zeros(len(faces)),
                np.zeros(len(faces), bool), np.full(len(glasses.points), 0.9))


def _shirt_part(points: np.ndarray, faces: np.ndarray, uv: np.ndarray) -> Part:
    n = len(faces)
    attributes = np.concatenate([uv, np.ones((n, 3, 1))], 2)
    return Part(len(points), faces, attributes, np.full(n, kernels.CLOTH), np.zeros(n), np.zeros(n), np.ones(n, bool),
                np.full(len(points), 0.9))


def _assemble(parts: list[Part], look: Look, skin: np.ndarray, strands: np.ndarray) -> Scene:
    """Concatenate the parts into one list of triangles over one list of vertices."""
    starts = np.cumsum([0] + [p.points for p in parts])
    cloth = srgb_to_linear(look.cloth)
    beard = look.hair if look.beard_hair is None else look.beard_hair
    frame = np.zeros((2, 3)) if look.glasses_color is None else np.stack([look.glasses_color] * 2)

    def joined(name: str, dtype):
        return np.ascontiguousarray(np.concatenate([getattr(p, name) for p in parts]), dtype)

    return Scene(
        faces=np.concatenate([p.faces + start for p, start in zip(parts, starts[:-1], strict=True)]).astype(np.int64),
        attributes=joined('attributes', np.float32), material=joined('material', np.uint8),
        level=joined('level', np.float32), root=joined('root', np.float32), casts=joined('casts', bool),
        region=np.concatenate([np.broadcast_to(p.region, len(p.faces)) for p in parts]).astype(np.uint8),
        skin=skin, strands=strands,
        hair_color=srgb_to_linear(np.stack([look.hair, beard, frame])).astype(np.float32),
        cloth_color=np.stack([cloth * 0.9, cloth * 1.08]).astype(np.float32))


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
        side = np.cross([0.0, 1.0, 0.0], axis)
        side /= np.linalg.norm(side)
        frame = np.stack([side * scale, -np.cross(axis, side) * scale, -axis])
        xyz = ((points - center) @ frame.T + [size / 2, size / 2, 0]).astype(np.float32)
        depth = np.full((size, size), np.inf, np.float32)
        kernels.draw_depth(xyz, faces.astype(np.int64), depth)
        pixel = xyz[:, :2].astype(int)
        free = xyz[:, 2] < depth[pixel[:, 1], pixel[:, 0]] + 0.004
        facing = np.maximum(normals @ axis, 0)
        seen += facing * free
        weight += facing
    return np.clip(0.15 + 0.85 * seen / weight, 0, 1)


def draw_person(person: Person, params: FlameParams, camera: Camera, **options) -> np.ndarray:
    """Return the picture of `person`, uint8 RGB [H, W, 3]; see `draw_truth`."""
    return draw_truth(person, params, camera, **options).image


def draw_truth(
    person: Person, params: FlameParams, camera: Camera, *, rest_viewmat: np.ndarray | None = None,
    lighting: Lighting | None = None, background: np.ndarray | None = None, samples: int = 2,
    hand: np.ndarray | None = None,
) -> Drawing:
    """Draw `person`; the picture comes with its matte and the head's regions.

    Args:
        person: whom to draw.
        params: expression, joints and lids; the shape is the person's.
        camera: camera with the head's pose as its viewmat.
        rest_viewmat: [4, 4] pose of the shoulders (default: the head's).
        lighting: lights in the camera frame.
        background: [H, W, 3] float32 linear RGB (default: the person's backdrop).
        samples: per pixel side, for anti-aliasing.
        hand: [4, 4] from the hand's axes to the camera frame, for a person who has one; None: it is out of sight.
    """
    view = camera.viewmat
    torso = view if rest_viewmat is None else rest_viewmat
    mesh = person.poser.pose(replace(params, shape=person.shape))
    normals = vertex_normals(mesh, person.head.faces)
    points, directions, strands = [_moved(mesh, view)], [_turned(normals, view)], [np.zeros_like(mesh)]
    for hair in person.hairs:
        skin, skin_normals, shells = mesh[hair.vertices], normals[hair.vertices], len(hair.heights)
        points.append(_moved(shell_points(hair, skin, skin_normals, hair.flow), view))
        directions.append(np.tile(_turned(skin_normals, view), (shells, 1)))
        strands.append(np.tile(_turned(hair.flow + 0.35 * skin_normals, view), (shells, 1)))
    if person.curtain is not None:
        points.append(_moved(person.curtain.points, view))
        directions.append(_turned(person.curtain.normals, view))
        strands.append(_turned(person.curtain.flow, view))
    if person.glasses is not None:
        points.append(_moved(person.glasses.points, view))
        directions.append(_turned(person.glasses.normals, view))
        strands.append(np.zeros_like(person.glasses.points))
    points.append(_moved(person.shirt, torso))
    directions.append(_turned(person.shirt_normals, torso))
    strands.append(np.zeros_like(person.shirt))
    if person.hand is not None:
        pose = _AWAY if hand is None else hand
        points.append(_moved(person.hand.points, pose))
        directions.append(_turned(person.hand.normals, pose))
        strands.append(np.zeros_like(person.hand.points))
    if background is None:
        background = body.backdrop(person.look.backdrop, (camera.height, camera.width), seed=person.seed)
    middle = _moved(np.array([[0, 0, -0.02]]), view)[0]
    joined = [np.concatenate(x).astype(np.float32) for x in (points, directions, strands)]
    scene = person.scene
    if person.folds is not None:
        scene = replace(scene, skin=folded(scene.skin, person.folds, params.expression))
    return render(scene, joined[0], joined[1], joined[2], person.occlusion, camera, background,
                  lighting or Lighting(), shadow_center=middle, samples=samples)


def _moved(points: np.ndarray, viewmat: np.ndarray) -> np.ndarray:
    return points @ viewmat[:3, :3].T + viewmat[:3, 3]


def _turned(directions: np.ndarray, viewmat: np.ndarray) -> np.ndarray:
    return directions @ viewmat[:3, :3].T

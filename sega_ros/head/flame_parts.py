"""What FLAME lacks, made from its geometry: lids, regions, texture layout.

Regions are carried over from the open head, which is laid over FLAME's template by eyes and jaw.
"""

import numpy as np
from scipy.spatial import cKDTree

from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.lids import EyelidMotion, eyelid_motion, lid_fields
from sega_ros.head.mesh import arcs, boundary_loops, cut_open, edge_distances
from sega_ros.head.surface import fit_sphere
from sega_ros.head.uv_layout import DENSITY, Chart, layout_charts, smooth_density, tutte
from sega_ros.types import Region

_LEFT_EYE, _RIGHT_EYE = 3, 4  # joints
_LID_FADE = 0.9  # eyeball radii from the opening: where the blink has faded out


def complete(v_template: np.ndarray, faces: np.ndarray, weights: np.ndarray, uv) -> dict[str, np.ndarray]:
    """Fields of a `HeadModel` that FLAME's file does not have.

    Args:
        v_template: [V, 3] metres. faces: [F, 3]. weights: [V, 5].
        uv: texture coordinates and triangles, or None to generate them.
    """
    template = v_template.astype(np.float64)
    eye_of = [(weights[:, j] > 0.5)[faces].all(1) for j in (_LEFT_EYE, _RIGHT_EYE)]
    skin = faces[~(eye_of[0] | eye_of[1])]
    lids = lid_fields(tuple(_lids(template, skin, faces[eye]) for eye in eye_of))
    region = _regions(template, faces, eye_of, lids['eyelid_dirs'])
    uvs, uv_faces = uv if uv is not None else layout_charts(_charts(template, faces, eye_of, region))
    return {**lids, 'face_region': region, 'uvs': uvs.astype(np.float32), 'uv_faces': uv_faces.astype(np.int32)}


def _lids(template: np.ndarray, skin: np.ndarray, eye: np.ndarray) -> EyelidMotion:
    """Lids of one eye: the upper lid turns about the eyeball until it meets the lower one."""
    centre, radius = fit_sphere(template[np.unique(eye)])
    loops = boundary_loops(skin)
    loop = min(loops, key=lambda ring: np.linalg.norm(template[ring].mean(0) - centre))
    upper, lower = arcs(template, loop)
    way = edge_distances(template, skin, upper)
    fade = np.clip(1 - way / (_LID_FADE * radius), 0, 1)
    fade = fade * fade * (3 - 2 * fade)
    fade[edge_distances(template, skin, lower[1:-1]) < way] = 0
    height = np.arctan2(template[:, 1] - centre[1], np.maximum(template[:, 2] - centre[2], 0.2 * radius))
    order = np.argsort(template[lower, 0])
    goal = np.interp(template[:, 0], template[lower[order], 0], height[lower[order]])
    top = np.argsort(template[upper, 0])
    rim = np.interp(template[:, 0], template[upper[top], 0], height[upper[top]])
    turn = fade * np.maximum(rim - goal, 0)  # radians downwards
    rotvecs = turn[:, None] * np.array([1.0, 0, 0])
    arm = template - centre
    blink = np.einsum('vij,vj->vi', rotvec_to_rotmat(rotvecs), arm) - arm
    return eyelid_motion(template, skin, loop, blink, centre, radius)


def _regions(template, faces, eye_of, lid_dirs) -> np.ndarray:
    """Region [F] of the open head's nearest skin; eyes and lids from the mesh itself."""
    from sega_ros.head import load_head

    model = load_head()
    middle = template[faces].mean(1)
    eyes = np.stack([fit_sphere(template[np.unique(faces[eye])])[0] for eye in eye_of])
    ours = (model.J_regressor @ model.v_template)[[_LEFT_EYE, _RIGHT_EYE]]
    scale = np.linalg.norm(ours[0] - ours[1]) / np.linalg.norm(eyes[0] - eyes[1])
    laid = (middle - eyes.mean(0)) * scale + ours.mean(0)
    usable = ~np.isin(model.face_region, [Region.EYES, Region.TEETH])
    nearest = cKDTree(model.v_template[model.faces[usable]].mean(1)).query(laid)[1]
    region = model.face_region[usable][nearest].copy()
    region[region == Region.EYELIDS] = Region.FACE
    speed = np.linalg.norm(lid_dirs, axis=2).max(0)
    region[(speed > 0.15 * speed.max())[faces].any(1)] = Region.EYELIDS
    region[eye_of[0] | eye_of[1]] = Region.EYES
    return region


def _charts(template, faces, eye_of, region) -> list[Chart]:
    """Charts of a head without texture coordinates: skin cut open at the back, both eyes, any small piece left over."""
    density = smooth_density(faces, np.array([DENSITY.get(Region(r), 1.0) for r in range(9)])[region], len(template))
    skin = np.flatnonzero(~(eye_of[0] | eye_of[1]))
    pieces = _pieces(faces[skin])
    sizes = np.bincount(pieces)
    largest = int(sizes.argmax())
    charts = [_skin_chart(template, faces, density, skin[pieces == largest], (0, 0, 1, 0.82))]
    boxes = [(0.0, 0.82, 0.18, 1.0), (0.18, 0.82, 0.36, 1.0)]
    for eye, box in zip((eye_of[1], eye_of[0]), boxes, strict=True):
        charts.append(_disc_chart(template, faces, density, np.flatnonzero(eye), box))
    rest = [skin[pieces == k] for k in range(len(sizes)) if k != largest]
    for k, members in enumerate(rest):
        left, right = 0.36 + 0.64 * k / len(rest), 0.36 + 0.64 * (k + 1) / len(rest)
        charts.append(_disc_chart(template, faces, density, members, (left, 0.82, right, 1.0)))
    return charts


def _pieces(faces: np.ndarray) -> np.ndarray:
    """Label the connected piece [f] each triangle belongs to."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    used, local = np.unique(faces, return_inverse=True)
    local = local.reshape(-1, 3)
    a, b = local.ravel(), np.roll(local, -1, 1).ravel()
    graph = sp.coo_matrix((np.ones(len(a)), (a, b)), shape=(len(used),) * 2)
    labels = connected_components(graph, directed=False)[1]
    return np.unique(labels[local[:, 0]], return_inverse=True)[1]


def _skin_chart(template, faces, density, members, box) -> Chart:
    """Lay out the head's skin, cut from the crown down the back to the rim of the neck."""
    triangles = faces[members]
    used = np.unique(triangles)
    crown = used[np.argmax(template[used, 1] - 5 * np.abs(template[used, 0]))]
    loops = boundary_loops(triangles)
    rim = min(loops, key=lambda ring: template[ring, 1].mean())
    back = rim[np.argmin(template[rim, 2] + 5 * np.abs(template[rim, 0]))]
    return _flat(template, cut_open(template, triangles, int(crown), int(back)), density, members, box)


def _disc_chart(template, faces, density, members, box) -> Chart:
    """Lay out a piece with a border; one without is opened from its back towards its front."""
    triangles = faces[members]
    if not boundary_loops(triangles):
        used = np.unique(triangles)
        start, end = used[np.argmin(template[used, 2])], used[np.argsort(template[used, 2])[len(used) // 3]]
        return _flat(template, cut_open(template, triangles, int(start), int(end)), density, members, box)
    return _flat(template, (triangles, np.arange(len(template))), density, members, box)


def _flat(template, cut, density, members, box) -> Chart:
    corners, source = cut  # corners index into copies of the vertices, source says whose copy
    unique, corners = np.unique(corners, return_inverse=True)
    corners, points = corners.reshape(-1, 3), template[source[unique]]
    return Chart(members, corners, points, tutte(corners, points), density[members], box)

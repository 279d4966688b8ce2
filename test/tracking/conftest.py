"""A small random head that has everything a head model can have."""

import numpy as np
import pytest

from sega_ros.head.model import HeadModel


def random_head(seed: int = 0, n_vertices: int = 60, n_shape: int = 4, n_expression: int = 6) -> HeadModel:
    """Random numbers in the head model's format: no face, but every term of its equation is there."""
    rng = np.random.default_rng(seed)
    v, f = n_vertices, 80

    def normal(scale, *shape):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights = rng.random((v, 5)).astype(np.float32) ** 3
    regressor = rng.random((5, v)).astype(np.float32)
    return HeadModel(
        name='random', version='1', v_template=normal(0.08, v, 3), faces=rng.integers(0, v, (f, 3)).astype(np.int32),
        shapedirs=normal(0.005, v, 3, n_shape), exprdirs=normal(0.01, v, 3, n_expression),
        expression_names=tuple(f'unit{i}' for i in range(n_expression)), posedirs=normal(0.003, v, 3, 36),
        J_regressor=regressor / regressor.sum(1, keepdims=True), weights=weights / weights.sum(1, keepdims=True),
        parents=np.array([-1, 0, 1, 1, 1], np.int32), eyelid_dirs=normal(0.01, 2, v, 3),
        eyelid_arc=normal(0.003, 2, v, 3), uvs=np.zeros((3, 2), np.float32),
        uv_faces=np.zeros((f, 3), np.int32), face_region=np.ones(f, np.uint8))


@pytest.fixture(scope='session')
def tiny_head() -> HeadModel:
    return random_head()

"""Polynomials and the sort against NumPy."""

import numpy as np
import pytest

from sega_ros.render import cpu_frame
from sega_ros.render.cpu_math import exp2, log2


def test_exp2():
    x = np.linspace(-30, 20, 4001, dtype=np.float32)
    found = np.array([exp2(v) for v in x], np.float64)
    np.testing.assert_allclose(found, np.exp2(x.astype(np.float64)), rtol=3e-6)  # the polynomial's stated error


def test_log2():
    x = np.logspace(-3, 1, 4001, dtype=np.float32)
    found = np.array([log2(v) for v in x], np.float64)
    np.testing.assert_allclose(found, np.log2(x.astype(np.float64)), rtol=2e-7, atol=6e-7)
    assert log2(np.float32(1)) == 0


@pytest.mark.parametrize('high', [1, 2, 4095, 4096, 2**24, 2**32])
@pytest.mark.parametrize('n', [0, 1, 2, 1000])
def test_sort_is_stable_and_exact(n, high):
    keys = np.random.default_rng(n).integers(0, high, n, dtype=np.uint32)
    order = np.empty(n, np.int32)
    cpu_frame.cpu_tiles.sort_by_key(keys, order, np.empty(n, np.int32))
    assert np.array_equal(order, np.argsort(keys, kind='stable'))

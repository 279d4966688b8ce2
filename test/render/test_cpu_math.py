"""Polynomials, lane sums and the sort against NumPy."""

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from sega_ros.render import cpu_frame, cpu_lanes
from sega_ros.render.cpu_math import log2


@intrinsic
def _exp2_and_sums(typingctx, source, target):
    """target rows: 2^source, then the sums of source * 0 ... source * 7 and of source itself."""
    def codegen(context, b, signature, args):
        source, target = (context.make_array(signature.args[k])(context, b, args[k]).data for k in range(2))
        x = cpu_lanes.load_row(b, source, 0)
        cpu_lanes.store_row(b, target, 0, x.exp2())
        cpu_lanes.add_to(b, target, cpu_lanes.INDEX(64), cpu_lanes.sums(b, [x * float(k) for k in range(8)]))
        cpu_lanes.add_to(b, target, cpu_lanes.INDEX(72), cpu_lanes.total(x))
        return context.get_dummy_value()
    return types.none(source, target), codegen


@njit
def _run(x):
    source, target = cpu_frame.cpu_blend.aligned_lanes(1), cpu_frame.cpu_blend.aligned_lanes(2)
    source[:], target[:] = x, np.float32(0)
    _exp2_and_sums(source, target)
    return target


def test_lanes():
    x = np.linspace(-30, 20, 64, dtype=np.float32)
    found = _run(x).astype(np.float64)
    np.testing.assert_allclose(found[:64], np.exp2(x.astype(np.float64)), rtol=3e-6)  # the polynomial's stated error
    total = x.sum(dtype=np.float64)
    np.testing.assert_allclose(found[64:73], total * np.array([*range(8), 1]), rtol=1e-5, atol=1e-4)  # float32 sums
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    np.testing.assert_allclose(_run(x)[:64], np.exp2(x.astype(np.float64)), rtol=3e-6)


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

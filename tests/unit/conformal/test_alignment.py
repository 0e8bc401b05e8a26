"""Alignment thresholds: hand cases, edges, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal._alignment import align
from jaxcur.conformal._status import NAN_CALIBRATION, NAN_TEST, UNREACHABLE
from tests.helpers import assert_close

G = [0.9, 0.8, 0.4, 0.2]
ALIGNED = [1, 1, 0, 0]
TESTS = [0.95, 0.6, 0.3]


def test_threshold_by_hand():
    # Estimates at 0.95, 0.6, 0.3: 1/5 * 3, 1/5 * 3/2, 2/5 * 3/3.
    for level, threshold, estimate in ((0.35, 0.6, 0.3), (0.4, 0.3, 0.4)):
        result = align(G, ALIGNED, TESTS, level=level)
        assert_close(result.threshold, np.float32(threshold), rtol=0.0)
        assert_close(result.fdr_estimate, estimate, rtol=1e-6)
        assert result.selected.tolist() == [g >= threshold for g in TESTS]
        assert int(result.status) == 0
    nothing = align(G, ALIGNED, TESTS, level=0.25)
    assert not nothing.selected.any() and np.isinf(nothing.threshold)
    assert float(nothing.fdr_estimate) == 0.0


def test_edges(dtype):
    assert align(G, ALIGNED, np.zeros(0), level=0.3).selected.shape == (0,)
    assert not align([], [], TESTS, level=0.9).selected.any()
    assert align([], [], TESTS, level=1.0).selected.all()
    assert align(G, ALIGNED, TESTS, level=0.3).threshold.dtype == dtype
    assert int(align(G, ALIGNED, TESTS, level=0.1).status) == UNREACHABLE
    missing = align(G, ALIGNED, [np.nan, 0.6, 0.7], level=0.35)
    assert missing.selected.tolist() == [False, True, True]
    assert int(missing.status) == NAN_TEST
    hidden = align([0.9, 0.8, 0.4, np.nan], ALIGNED, TESTS, level=0.35)
    assert int(hidden.status) == NAN_CALIBRATION and not hidden.selected.any()
    # An aligned row without a prediction says nothing against anyone.
    harmless = align([np.nan, 0.8, 0.4, 0.2], ALIGNED, TESTS, level=0.35)
    assert harmless.selected.tolist() == [True, True, False]


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="hold 0 and 1 only, got 0.5 at row 1"):
        align(G, [1, 0.5, 0, 0], TESTS, level=0.1)
    with pytest.raises(ValueError, match="same length"):
        align(G, [1, 0], TESTS, level=0.1)
    with pytest.raises(ValueError, match="`level` must lie in"):
        align(G, ALIGNED, TESTS, level=-0.1)
    with pytest.raises(ValueError, match="`test_predictions` must have shape"):
        align(G, ALIGNED, [TESTS], level=0.1)


def test_jit_and_vmap():
    rng = np.random.default_rng(0)
    g = jnp.asarray(rng.random((3, 17)), jnp.float32)
    aligned = jnp.asarray(rng.random((3, 17)) < g)
    tests = jnp.asarray(rng.random((3, 8)), jnp.float32)
    run = jax.jit(jax.vmap(lambda *row: align(*row, level=0.4)))
    many = run(g, aligned, tests)
    for i in range(3):
        one = align(g[i], aligned[i], tests[i], level=0.4)
        assert many.selected[i].tolist() == one.selected.tolist()
        assert_close(many.threshold[i], one.threshold, rtol=0.0)
    assert many.num_selected.shape == (3,)
    # A label that is neither 0 nor 1 counts as not aligned when it cannot be checked.
    odd = jax.jit(lambda a: align(G, a, TESTS, level=0.35))(
        jnp.array([1.0, 0.5, 0.0, 0])
    )
    low = align(G, [1, 0, 0, 0], TESTS, level=0.35)
    assert odd.selected.tolist() == low.selected.tolist()

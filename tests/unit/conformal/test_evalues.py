"""E-values of selections, boosting and averaging."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal._auxiliary import auxiliary_sizes
from jaxcur.conformal._evalues import boost_e_values, derandomize, e_values
from jaxcur.conformal._pvalues import p_values
from tests.helpers import assert_close


def test_e_values_by_hand(dtype):
    e = e_values([0.05, 0.2, 0.9], [2, 2, 3], 0.3)
    # Bounds 0.3 * 2 / 3 = 0.2, met by 0.2 exactly; 0.3.
    assert_close(e, [5.0, 5.0, 0.0], rtol=1e-6)
    assert e.dtype == dtype
    assert_close(e_values([0.05], [1], 0.2, 0.5), [10.0], rtol=1e-6)
    assert_close(e_values([0.0], [1], 0.0), [0.0], rtol=0.0)
    assert e_values([], [], 0.1).shape == (0,)


def test_e_values_errors():
    for args, error, message in (
        (([0.1], [0], 0.1), ValueError, "`auxiliary_sizes` must be at least 1"),
        (([0.1], [1.0], 0.1), TypeError, "must be integers"),
        (([0.1], [1, 2], 0.1), ValueError, "same length"),
        (([np.nan], [1], 0.1), ValueError, "must not hold NaN"),
        (([0.1], [1], 1.1), ValueError, "`level` must lie in"),
        (([0.1], [1], 0.1, 0.0), ValueError, "`beta` must lie in"),
    ):
        with pytest.raises(error, match=message):
            e_values(*args)


def test_boosting_divides_by_the_draw():
    e = [8.0, 0.0, 2.0]
    assert_close(boost_e_values(e, xi=0.5), [16.0, 0.0, 4.0], rtol=0.0)
    assert_close(boost_e_values(e, xi=[0.5, 1.0, 0.25]), [16.0, 0.0, 8.0], rtol=0.0)
    key = jax.random.key(0)
    shared = np.asarray(boost_e_values(e, key=key))
    assert shared[0] == 4 * shared[2] and shared[0] >= 8
    each = np.asarray(boost_e_values(e, key=key, pruning="heterogeneous"))
    assert each[0] != 4 * each[2]
    for named, message in (
        ({}, "pass `key=jax.random.key"),
        ({"key": key, "xi": 0.5}, "not both"),
        ({"pruning": "deterministic", "key": key}, "'homogeneous', 'heterogeneous'"),
    ):
        with pytest.raises(ValueError, match=message):
            boost_e_values(e, **named)
    with pytest.raises(ValueError, match="nonnegative"):
        boost_e_values([-1.0], xi=0.5)


def test_averages_and_weights(dtype):
    runs = [[20.0, 0.0], [30.0, 8.0]]
    result = derandomize(runs, level=0.1)
    assert_close(result.e_values, [25.0, 4.0], rtol=1e-6)
    assert result.selected.tolist() == [True, False]
    assert result.e_values.dtype == dtype and int(result.num_selected) == 1
    weighted = derandomize(runs, level=0.1, weights=[1.0, 3.0])
    assert_close(weighted.e_values, [27.5, 6.0], rtol=1e-6)
    off = derandomize([[np.inf, 1.0], [30.0, 8.0]], level=0.1, weights=[0.0, 2.0])
    assert_close(off.e_values, [30.0, 8.0], rtol=1e-6)
    assert derandomize(np.zeros((2, 0)), level=0.1).selected.shape == (0,)
    # An average that meets m / (level k) on paper is accepted: three runs of 1/0.3.
    tie = derandomize(np.full((3, 1), 1 / 0.3), level=0.3)
    assert tie.selected.all()


def test_derandomize_errors():
    for args, message in (
        (((np.zeros((0, 2)),), {}), "at least one run"),
        ((([[-1.0]],), {}), "nonnegative"),
        ((([[np.nan]],), {}), "must not hold NaN"),
        ((([1.0],), {}), r"shape \(b, m\)"),
        ((([[1.0]],), {"weights": [0.0]}), "not all zero"),
        ((([[1.0]],), {"weights": [1.0, 1.0]}), "same length"),
    ):
        positional, named = args
        with pytest.raises(ValueError, match=message):
            derandomize(*positional, level=0.1, **named)


def test_jit_and_unusable_traced_weights():
    run = jax.jit(lambda e, w, level: derandomize(e, level=level, weights=w))
    e = jnp.array([[20.0, 0.0], [30.0, 8.0]])
    good = run(e, jnp.ones(2), jnp.float32(0.1))
    assert good.selected.tolist() == [True, False]
    bad = run(e, jnp.zeros(2), jnp.float32(0.1))
    assert not bad.selected.any() and np.isnan(bad.e_values).all()


@pytest.mark.guarantee
def test_derandomized_false_discovery_rate():
    """Ten random halves of one labelled set; one set of candidates."""
    n, m, splits, level, replications = 60, 10, 10, 0.3, 1500
    rng = np.random.default_rng(5)
    labels, labels_test = (rng.normal(size=(replications, k)) for k in (n, m))
    noise, noise_test = (rng.normal(size=(replications, k)) for k in (n, m))
    halves = np.stack([rng.permutation(n)[: n // 2] for _ in range(splits)])

    def run(y, x, x_test):
        scores = jnp.where(y > 0, jnp.inf, -x)

        def one(half):
            p = p_values(scores[half], -x_test)
            sizes = auxiliary_sizes(scores[half], -x_test, level=level / 2)
            return e_values(p, sizes, level / 2)

        return derandomize(jax.vmap(one)(halves), level=level).selected

    data = labels, labels + noise * 0.4, labels_test + noise_test * 0.4
    data = [jnp.asarray(a, jnp.float32) for a in data]
    selected = np.asarray(jax.jit(jax.vmap(run))(*data))
    false = selected & (labels_test <= 0)
    proportion = false.sum(1) / np.maximum(selected.sum(1), 1)
    error = proportion.std() / np.sqrt(replications)
    assert proportion.mean() <= level + 6 * error
    power = (selected & (labels_test > 0)).sum() / (labels_test > 0).sum()
    assert power > 0.3

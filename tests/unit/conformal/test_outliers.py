"""Outlier detection: hand cases, edges, AdaDetect, simulated false discovery rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal._outliers import ada_detect, detect_outliers
from jaxcur.conformal._status import NAN_CALIBRATION, NAN_TEST
from tests.helpers import assert_close


def test_p_values_count_null_scores_at_or_above():
    result = detect_outliers([1.0, 2.0, 3.0], [2.0, 4.0, 0.0], level=0.1)
    assert_close(result.p_values, [0.75, 0.25, 1.0], rtol=1e-6)
    assert not result.selected.any()
    assert float(result.null_share) == 1.0


def test_null_shares_by_hand():
    null, test = np.arange(9.0), [20.0, 20.0, 6.5, 3.5]
    # p = 0.1, 0.1, 0.3, 0.6.
    storey = detect_outliers(null, test, level=0.1, null_share="storey")
    assert_close(storey.null_share, 2 / (4 * 0.5), rtol=1e-6)
    quantile = detect_outliers(null, test, level=0.1, null_share="quantile")
    # k0 = 2 and the third smallest p-value is 0.3.
    assert_close(quantile.null_share, 3 / (4 * 0.7), rtol=1e-6)
    assert quantile.method == "quantile"
    # A p-value equal to the cutoff counts as null.
    at = detect_outliers(null, test, level=0.1, null_share="storey", cutoff=0.6)
    assert_close(at.null_share, 2 / (4 * 0.4), rtol=1e-6)
    # All p-values 1: no gap to divide by.
    none = detect_outliers(null, [-1.0, -1.0], level=0.1, null_share="quantile")
    assert np.isinf(none.null_share) and not none.selected.any()


@pytest.mark.parametrize("null_share", ["one", "storey", "quantile"])
def test_edges(null_share, dtype):
    empty = np.zeros(0)
    run = {"level": 0.2, "null_share": null_share}
    result = detect_outliers(np.arange(9.0), empty, **run)
    assert result.selected.shape == (0,) and result.p_values.dtype == dtype
    assert detect_outliers(empty, [1.0], **run).p_values.tolist() == [1.0]
    far = np.full(9, 50.0)
    assert detect_outliers(np.arange(9.0), far, **run).selected.all()
    missing = detect_outliers(np.arange(9.0), [np.nan, *far], **run)
    assert missing.selected.tolist() == [False] + [True] * 9
    assert int(missing.status) == NAN_TEST
    hidden = detect_outliers([np.nan, *np.arange(8.0)], far, **run)
    assert int(hidden.status) == NAN_CALIBRATION
    assert_close(hidden.p_values, np.full(9, 0.2), rtol=1e-6)
    assert not detect_outliers(np.arange(9.0), far, level=0.0).selected.any()


def test_errors_name_the_argument():
    for change, message in (
        ({"level": 2.0}, "`level` must lie in"),
        ({"cutoff": 1.0}, "`cutoff` must lie in"),
        ({"null_share": "half"}, "'one', 'storey', 'quantile'"),
    ):
        with pytest.raises(ValueError, match=message):
            detect_outliers([1.0], [2.0], **({"level": 0.1} | change))
    with pytest.raises(ValueError, match=r"`null_scores` must have shape \(n,\)"):
        detect_outliers([[1.0]], [2.0], level=0.1)


@pytest.mark.parametrize("null_share", ["one", "storey", "quantile"])
def test_jit_and_vmap(null_share):
    rng = np.random.default_rng(0)
    null = jnp.asarray(rng.normal(size=(3, 17)), jnp.float32)
    test = jnp.asarray(rng.normal(size=(3, 8)) + 2, jnp.float32)

    def run(null, test, level):
        return detect_outliers(null, test, level=level, null_share=null_share)

    many = jax.jit(jax.vmap(run, in_axes=(0, 0, None)))(null, test, jnp.float32(0.3))
    for i in range(3):
        one = run(null[i], test[i], 0.3)
        assert many.selected[i].tolist() == one.selected.tolist()
        assert_close(many.null_share[i], one.null_share, rtol=1e-6)
    assert many.num_selected.tolist() == [int(s.sum()) for s in many.selected]


class Means:
    """Squared distance to the mean of class 0, minus that to the mean of class 1."""

    def fit(self, features, target, weights=None, *, key=None):
        del weights, key
        zero = (1 - target)[:, None]
        one = target[:, None]
        return (features * zero).sum(0) / zero.sum(), (features * one).sum(
            0
        ) / one.sum()

    def predict(self, params, features):
        zero, one = params
        return ((features - zero) ** 2).sum(1) - ((features - one) ** 2).sum(1)


class Peeking(Means):
    """Marks the last rows it was trained on, which is where the test rows are."""

    def __init__(self, m):
        self.m = m

    def fit(self, features, target, weights=None, *, key=None):
        return features[-self.m :]

    def predict(self, params, features):
        return -jnp.min(((features[:, None] - params[None]) ** 2).sum(-1), axis=1)


def test_ada_detect_finds_a_shifted_cluster():
    rng = np.random.default_rng(1)
    null = rng.normal(size=(200, 2))
    test = rng.normal(size=(40, 2))
    test[:20] += 4
    result = ada_detect(Means(), null, test, level=0.2)
    assert np.asarray(result.selected)[:20].mean() > 0.9
    # Half of the null rows calibrate.
    assert_close(result.p_values * 101, np.round(result.p_values * 101), rtol=1e-5)
    adaptive = ada_detect(Means(), null, test, level=0.2, null_share="storey")
    assert int(adaptive.num_selected) >= int(result.num_selected)


def test_ada_detect_errors():
    null, test = np.zeros((4, 2)), np.zeros((3, 2))
    with pytest.raises(ValueError, match="`num_train` must lie in"):
        ada_detect(Means(), null, test, level=0.1, num_train=0)
    with pytest.raises(ValueError, match="`num_train` must lie in"):
        ada_detect(Means(), null, test, level=0.1, num_train=5)
    with pytest.raises(ValueError, match="same columns"):
        ada_detect(Means(), null, np.zeros((3, 1)), level=0.1)
    with pytest.raises(ValueError, match="`null_features` must have shape"):
        ada_detect(Means(), null[:, 0], test, level=0.1)

    class Wide(Means):
        def predict(self, params, features):
            return features

    with pytest.raises(ValueError, match="one number a row"):
        ada_detect(Wide(), null, test, level=0.1)


def false_discovery_rate(run, *, n, m, outliers, shift, replications=4000):
    rng = np.random.default_rng(11)
    null = rng.normal(size=(replications, n, 1))
    test = rng.normal(size=(replications, m, 1))
    test[:, :outliers] += shift
    data = jnp.asarray(null, jnp.float32), jnp.asarray(test, jnp.float32)
    selected = np.asarray(jax.jit(jax.vmap(run))(*data))
    proportion = selected[:, outliers:].sum(1) / np.maximum(selected.sum(1), 1)
    power = selected[:, :outliers].mean()
    return proportion.mean(), proportion.std() / np.sqrt(replications), power


@pytest.mark.guarantee
@pytest.mark.parametrize("null_share", ["one", "storey", "quantile"])
def test_false_discovery_rate_of_outliers(null_share):
    level, m, outliers = 0.3, 10, 4

    def run(null, test):
        return detect_outliers(
            null[:, 0], test[:, 0], level=level, null_share=null_share
        ).selected

    rate, error, power = false_discovery_rate(
        run, n=19, m=m, outliers=outliers, shift=2.5
    )
    bound = level * (m - outliers) / m if null_share == "one" else level
    assert rate <= bound + 6 * error
    assert power > 0.4


@pytest.mark.guarantee
def test_false_discovery_rate_of_ada_detect_needs_symmetry():
    def run(learner):
        return lambda null, test: (
            ada_detect(learner, null, test, level=0.3, num_train=10).selected
        )

    setting = {"n": 29, "m": 8, "outliers": 3, "shift": 3.0}
    rate, error, power = false_discovery_rate(run(Means()), **setting)
    assert rate <= 0.3 + 6 * error
    assert power > 0.3
    rate, error, _ = false_discovery_rate(run(Peeking(8)), **setting)
    assert rate > 0.3 + 6 * error

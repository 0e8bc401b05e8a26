"""Permutation tests: exact counts, ties, level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from jaxcur import stats
from tests.helpers import assert_close

N = 10


def shift(values):
    return jnp.mean(values[6:]) - jnp.mean(values[:6])


def test_p_value_counts_the_observed_statistic_too():
    rng = np.random.default_rng(0)
    values = rng.normal(size=N)
    orders = np.stack([rng.permutation(N) for _ in range(39)])
    found = stats.permutation_test(shift, values, permutations=orders)
    null = np.array([values[o][6:].mean() - values[o][:6].mean() for o in orders])
    observed = values[6:].mean() - values[:6].mean()
    assert_close(found.null, null.astype(np.float32), rtol=1e-4, atol=1e-6)
    assert_close(float(found.p_value), (1 + (null >= observed).sum()) / 40, rtol=1e-6)


def test_rounding_does_not_break_ties():
    """Swaps inside a group change the order of a sum and nothing else."""
    values = np.random.default_rng(1).normal(size=N) * 1e3 + 0.1
    rng = np.random.default_rng(2)
    within = np.stack(
        [
            np.concatenate([rng.permutation(6), 6 + rng.permutation(4)])
            for _ in range(99)
        ]
    )
    found = stats.permutation_test(shift, values, permutations=within)
    assert float(found.p_value) == 1


def test_trees_are_permuted_together_and_nan_counts_as_large():
    data = {"x": np.arange(6.0), "y": np.arange(6.0) ** 2}

    def statistic(data):
        # Only an intact pairing keeps this at 0.
        broken = jnp.sum((data["x"] ** 2 - data["y"]) ** 2)
        return jnp.where(data["x"][0] == 0, broken, jnp.nan)

    orders = np.array([[0, 2, 1, 3, 4, 5], [1, 0, 2, 3, 4, 5]])
    found = stats.permutation_test(statistic, data, permutations=orders)
    assert float(found.null[0]) == 0 and np.isnan(float(found.null[1]))
    assert float(found.p_value) == 1
    nothing = stats.permutation_test(
        lambda d: jnp.nan * d["x"][0], data, permutations=orders
    )
    assert np.isnan(float(nothing.p_value))


@pytest.mark.guarantee
def test_level_is_exact_and_a_test_without_the_observed_statistic_is_not():
    """19 permutations at 0.05; 4000 data sets, binomial bounds of about 1e-6."""
    replications, level = 4000, 0.05

    def one(key):
        draw, test = jax.random.split(key)
        values = jax.random.normal(draw, (N,))
        return stats.permutation_test(shift, values, num_resamples=19, key=test)

    keys = jax.random.split(jax.random.key(0), replications)
    found = jax.jit(jax.vmap(one))(keys)
    slack = 5 * np.sqrt(level * (1 - level) / replications)
    p_values = np.asarray(found.p_value, np.float64)
    assert abs((p_values <= level + 1e-6).mean() - level) < slack
    # Uniform on 1/20..1: smeared within its step it is uniform.
    smeared = p_values - np.random.default_rng(0).random(replications) / 20
    assert kstest(smeared, "uniform").pvalue > 0.01
    mutant = np.mean(np.asarray(found.null) >= np.asarray(found.statistic)[:, None], 1)
    # With 19 permutations it rejects at 0.05 exactly as often; the next step is wrong.
    assert (mutant <= 1 / 19 + 1e-6).mean() > 1 / 19 + slack


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either `key` or `permutations`"),
        ({"permutations": np.zeros((2, 3), int)}, "`permutations` must have shape"),
        ({"permutations": np.zeros((2, 4), int)}, "must hold 0..3 once"),
        ({"permutations": np.zeros((2, 4))}, "must be integers"),
        ({"key": 0, "num_resamples": 0}, "positive integer"),
    ],
)
def test_errors(options, message):
    if "key" in options:
        options = options | {"key": jax.random.key(0)}
    with pytest.raises(ValueError, match=message):
        stats.permutation_test(jnp.sum, np.zeros(4), **options)

"""Invariances of the debiased estimators on random tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxcur import debiased
from tests.helpers import assert_close

# One shape, so that one program serves every example.
N, P = 40, 3


@functools.cache
def program(design: str, tuning):
    """The estimator of one design and tuning, compiled for traced data."""

    @jax.jit
    def fit(X, y, guess, labeled, prob, weights):
        options = {"design": design, "power_tuning": tuning, "weights": weights}
        if design == "bernoulli":
            options["sampling_prob"] = prob
        result = debiased.ols(X, y, y_predicted=guess, labeled=labeled, **options)
        return result.estimate, result.covariance

    return fit


@st.composite
def tables(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = np.column_stack([np.ones(N), rng.normal(size=(N, P - 1))])
    y = rng.normal(size=N) + X @ rng.normal(size=P)
    quality = draw(st.sampled_from([0.0, 0.5, 1.0, -2.0]))
    shift = draw(st.floats(-100, 100))
    guess = quality * y + rng.normal(size=N) + shift
    # Between a quarter and three quarters of the rows: enough for three coefficients.
    count = draw(st.integers(N // 4, 3 * N // 4))
    labeled = np.zeros(N, bool)
    labeled[rng.permutation(N)[:count]] = True
    prob = rng.uniform(0.2, 1.0, size=N)
    weights = rng.integers(0, 3, size=N) if draw(st.booleans()) else np.ones(N)
    weights = np.where(labeled & (weights == 0), 1, weights)
    return X, y, guess, labeled, prob, weights.astype(float)


designs = st.sampled_from(["bernoulli", "srs"])
tunings = st.sampled_from([None, "optimal"])


def close(one, other, scale=1.0):
    for a, b in zip(one, other, strict=True):
        size = float(np.abs(np.asarray(b)).max()) + 1e-12
        assert_close(a, b, rtol=1e-6, atol=1e-7 * size * scale)


@given(tables(), designs, tunings)
def test_row_order_does_not_matter(table, design, tuning):
    with jax.enable_x64(True):
        fit = program(design, tuning)
        order = np.random.default_rng(0).permutation(N)
        close(fit(*(a[order] for a in table)), fit(*table))


@given(tables(), designs, tunings)
def test_gold_entries_without_label_are_ignored(table, design, tuning):
    X, y, guess, labeled, prob, weights = table
    with jax.enable_x64(True):
        fit = program(design, tuning)
        missing = np.where(labeled, y, np.nan)
        close(fit(X, missing, guess, labeled, prob, weights), fit(*table))


@given(tables(), designs)
def test_predictions_of_the_truth_give_full_data(table, design):
    X, y, _, labeled, prob, weights = table
    with jax.enable_x64(True):
        estimate, _ = program(design, None)(X, y, y, labeled, prob, weights)
        root = np.sqrt(weights)[:, None]
        expected = np.linalg.lstsq(root * X, root[:, 0] * y)[0]
        assert_close(estimate, expected, rtol=1e-8, atol=1e-9)


@given(tables(), designs, tunings)
def test_covariances_are_symmetric_and_not_negative(table, design, tuning):
    with jax.enable_x64(True):
        _, covariance = program(design, tuning)(*table)
        covariance = np.asarray(covariance)
        size = np.abs(covariance).max()
        assert_close(covariance, covariance.T, rtol=1e-9, atol=1e-10 * size)
        if design == "bernoulli":
            # A sum of squares; the centred form for a fixed number is a difference.
            assert np.linalg.eigvalsh(covariance)[0] > -1e-9 * size


@given(tables(), tunings)
def test_a_constant_added_to_predictions_moves_only_what_it_must(table, tuning):
    # With a fixed number of labels the correction of the intercept moment has mean
    # exactly zero, so a constant cancels in the mean.
    X, y, guess, labeled, _, _ = table
    with jax.enable_x64(True):

        def mean(shift):
            return debiased.mean(
                jnp.asarray(y),
                y_predicted=jnp.asarray(guess + shift),
                labeled=jnp.asarray(labeled),
                power_tuning=tuning,
            )

        one, other = mean(0.0), mean(50.0)
        assert_close(one.estimate, other.estimate, rtol=1e-7, atol=1e-8)
        assert_close(one.covariance, other.covariance, rtol=1e-6, atol=1e-12)

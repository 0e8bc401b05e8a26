"""Sampling probabilities under a budget: hand-computed cases, edges, errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased
from tests.helpers import assert_close


def test_probabilities_follow_importance_until_they_reach_one(dtype):
    importance = jnp.asarray([0.1, 0.4, 0.5, 5.0], dtype)
    found = debiased.annotation_probabilities(importance, budget=2.0, min_prob=0.05)
    assert found.dtype == dtype
    assert_close(found, np.array([0.1, 0.4, 0.5, 1.0]), rtol=1e-6)


def test_costs_enter_by_their_root(x64):
    found = debiased.annotation_probabilities(
        [1.0, 1.0], budget=1.5, costs=[1.0, 4.0], min_prob=0.0
    )
    # kappa (1, 1/2), and 1 kappa + 4 kappa / 2 = 1.5.
    assert_close(found, np.array([0.5, 0.25]), rtol=1e-12)


def test_no_importance_is_uniform_and_leftover_money_goes_to_the_rest(dtype):
    zeros = jnp.zeros(4, dtype)
    assert_close(
        debiased.annotation_probabilities(zeros, budget=2), np.full(4, 0.5), rtol=1e-7
    )
    found = debiased.annotation_probabilities(
        jnp.asarray([0, 0, 1, 2], dtype), budget=3, costs=[1, 2, 1, 1], min_prob=0.1
    )
    assert_close(found, np.array([1 / 3, 1 / 3, 1, 1]), rtol=1e-6)


@pytest.mark.parametrize(("budget", "expected"), [(0.4, 0.1), (4, 1.0)])
def test_budget_at_its_bounds(dtype, budget, expected):
    importance = jnp.asarray([1.0, 2.0, 3.0, 4.0], dtype)
    found = debiased.annotation_probabilities(importance, budget=budget, min_prob=0.1)
    assert_close(found, np.full(4, expected), rtol=1e-6)


def test_mixing_moves_towards_uniform(x64):
    plain = debiased.annotation_probabilities([1.0, 3.0], budget=1, min_prob=0.01)
    mixed = debiased.annotation_probabilities(
        [1.0, 3.0], budget=1, min_prob=0.01, mixing=0.4
    )
    assert_close(mixed, 0.6 * plain + 0.4 * 0.5, rtol=1e-12)


def test_a_million_rows_meet_the_budget_in_float32():
    rng = np.random.default_rng(0)
    importance = rng.lognormal(sigma=2, size=10**6).astype(np.float32)
    found = debiased.annotation_probabilities(importance, budget=1e5)
    assert found.dtype == jnp.float32
    assert_close(np.asarray(found, float).sum(), 1e5, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30, 3e38])
def test_extreme_importance(scale):
    importance = np.float32(scale) * np.array([0.25, 0.5, 1.0], np.float32)
    found = debiased.annotation_probabilities(importance, budget=0.7, min_prob=0.0)
    assert_close(found, np.array([0.1, 0.2, 0.4]), rtol=1e-6)


def test_invalid_input_under_jit_gives_nan():
    rule = jax.jit(debiased.annotation_probabilities)
    good = jnp.array([1.0, 2.0, 3.0])
    assert not np.isnan(rule(good, budget=1.0, min_prob=0.1)).any()
    for bad, budget, floor in [
        (good, 0.2, 0.1),
        (good, 3.1, 0.1),
        (good, jnp.nan, 0.1),
        (good, 1.0, -0.1),
        (good, 1.0, 1.1),
        (good.at[0].set(jnp.nan), 1.0, 0.1),
        (good.at[0].set(-1.0), 1.0, 0.1),
        (good.at[0].set(jnp.inf), 1.0, 0.1),
    ]:
        assert np.isnan(rule(bad, budget=budget, min_prob=floor)).all()
    assert np.isnan(rule(good, budget=1.0, costs=jnp.array([1.0, 0.0, 1.0]))).all()
    assert np.isnan(rule(good, budget=1.0, mixing=1.5)).all()


def test_budgets_and_floors_do_not_retrace():
    rule = jax.jit(
        chex.assert_max_traces(n=1)(
            lambda psi, budget, floor: debiased.annotation_probabilities(
                psi, budget=budget, min_prob=floor
            )
        )
    )
    for budget, floor in [(1.0, 0.1), (2.0, 0.2)]:
        rule(jnp.array([1.0, 2.0, 3.0]), budget, floor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.2, "min_prob": 0.1}, "`budget` must lie between .* = 0.3 and"),
        ({"budget": 3.1}, "`budget` must lie between"),
        ({"budget": float("nan")}, "`budget` must lie between"),
        ({"budget": [1.0]}, "`budget` must be a scalar"),
        ({"budget": 1.0, "min_prob": -0.1}, "`min_prob` must lie in"),
        ({"budget": 1.0, "mixing": 1.1}, "`mixing` must lie in"),
        ({"budget": 1.0, "costs": [1.0, 0.0, 1.0]}, "`costs` must be finite and pos"),
        ({"budget": 1.0, "costs": [1.0, 2.0]}, "must have the same length"),
    ],
)
def test_errors_of_options(options, message):
    with pytest.raises(ValueError, match=message):
        debiased.annotation_probabilities([1.0, 2.0, 3.0], **options)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_errors_of_importance(bad):
    with pytest.raises(ValueError, match="`importance` must be finite and nonneg"):
        debiased.annotation_probabilities([1.0, bad], budget=1)
    with pytest.raises(ValueError, match="`uncertainty` must be finite and nonneg"):
        debiased.uncertainty_probabilities([1.0, bad], budget=1)


def test_errors_of_shape():
    with pytest.raises(ValueError, match="at least one row"):
        debiased.annotation_probabilities(np.zeros(0), budget=0)
    with pytest.raises(ValueError, match=r"must have shape \(n,\)"):
        debiased.annotation_probabilities(np.ones((2, 2)), budget=1)


def test_proportional_rule_by_hand(dtype):
    uncertainty = jnp.asarray([0.0, 0.2, 0.2, 0.4], dtype)
    found = debiased.uncertainty_probabilities(uncertainty, budget=1, mixing=0.2)
    assert_close(found, np.array([0.05, 0.25, 0.25, 0.45]), rtol=1e-6)
    # What clipping cuts off is not spent elsewhere.
    clipped = debiased.uncertainty_probabilities(uncertainty, budget=3)
    assert_close(clipped, np.array([0, 0.75, 0.75, 1]), rtol=1e-6)
    uniform = debiased.uncertainty_probabilities(0 * uncertainty, budget=1)
    assert_close(uniform, np.full(4, 0.25), rtol=1e-7)


@pytest.mark.parametrize("rule", ["optimal", "proportional"])
def test_mixing_trusts_a_good_importance_and_not_a_bad_one(rule):
    residuals = np.array([0.1, -1.0, 2.0, 0.1, 0.3])
    good = debiased.choose_mixing(abs(residuals), residuals, budget=0.5, rule=rule)
    bad = debiased.choose_mixing(1 / abs(residuals), residuals, budget=0.5, rule=rule)
    assert (float(good), float(bad)) == pytest.approx((0.01, 1.0))
    # Nothing to choose between: the safest.
    equal = debiased.choose_mixing(np.ones(5), residuals, budget=0.5, rule=rule)
    assert float(equal) == 1.0


def test_mixing_weights_replicate_rows(x64):
    importance, residuals = np.array([1.0, 2.0, 1.0]), np.array([1.5, 1.0, 1.0])
    once = debiased.choose_mixing(
        importance, residuals, budget=0.6, weights=[1.0, 2.0, 0.0], min_prob=0.01
    )
    prob = np.array([0.15, 0.3])
    grid = np.arange(1, 101) / 100
    mixed = (1 - grid[:, None]) * prob + grid[:, None] * 0.2
    values = residuals[0] ** 2 / mixed[:, 0] + 2 * residuals[1] ** 2 / mixed[:, 1]
    assert_close(once, grid[np.argmin(values)], rtol=1e-12)
    assert 0.01 < once < 1


def test_errors_of_mixing():
    with pytest.raises(ValueError, match="`rule` must be one of"):
        debiased.choose_mixing([1.0], [1.0], budget=1, rule="best")
    with pytest.raises(ValueError, match='need rule="optimal"'):
        debiased.choose_mixing([1.0], [1.0], budget=1, costs=[1.0], rule="proportional")
    with pytest.raises(ValueError, match="same length"):
        debiased.choose_mixing([1.0], [1.0, 2.0], budget=1)
    with pytest.raises(ValueError, match="`residuals` must be finite"):
        debiased.choose_mixing([1.0], [np.nan], budget=1)
    nan = jax.jit(debiased.choose_mixing)(
        jnp.ones(2), jnp.array([1.0, jnp.nan]), budget=1.0
    )
    assert np.isnan(nan)

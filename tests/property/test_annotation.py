"""Relations that hold for every choice of rows to annotate."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings

from jaxcur import debiased
from tests.helpers import assert_close

# A ladder of sizes: every new shape costs a compilation.
SIZES = st.sampled_from([1, 4, 17])
SHARES = st.floats(0.0, 1.0, width=32)


@pytest.fixture(autouse=True, scope="module")
def float64():
    """Optimality is checked to more digits than float32 has."""
    with jax.enable_x64(True):
        yield


@st.composite
def problems(draw, zeros: bool = True):
    """Importance, costs, smallest probability and a feasible budget."""
    n = draw(SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.0, 0.5, 3.0, 30.0]))
    importance = np.exp(spread * rng.standard_normal(n))
    if zeros:
        importance[rng.random(n) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0.0
    costs = np.exp(draw(st.sampled_from([0.0, 2.0])) * rng.standard_normal(n))
    min_prob = draw(st.sampled_from([0.0, 1e-3, 0.1, 0.5]))
    share = draw(SHARES)
    budget = costs.sum() * (min_prob + share * (1 - min_prob))
    return importance, costs, min_prob, budget


def probabilities(problem, **options):
    importance, costs, min_prob, budget = problem
    return np.asarray(
        debiased.annotation_probabilities(
            importance, budget=budget, costs=costs, min_prob=min_prob, **options
        )
    )


def variance(importance, prob):
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(importance == 0, 0.0, importance**2 / prob)
    return terms.sum()


@given(problems(), SHARES)
def test_budget_and_bounds(problem, mixing):
    _, costs, min_prob, budget = problem
    prob = probabilities(problem, mixing=mixing)
    assert ((prob >= min_prob) & (prob <= 1)).all()
    assert_close(costs @ prob, budget, rtol=1e-6, atol=1e-12)


@given(problems())
def test_first_order_conditions_of_the_optimum(problem):
    # The problem is convex, so these conditions certify the optimum: the gain of money
    # psi^2 / (c pi^2) is one number between the bounds, no less at 1, no more below.
    importance, costs, min_prob, _ = problem
    prob = probabilities(problem)
    wants = (importance > 0) & (prob > 0)
    gain = np.log(importance[wants]) * 2 - np.log(costs[wants] * prob[wants] ** 2)
    at_top, at_bottom = prob[wants] >= 1, prob[wants] <= min_prob * (1 + 1e-12)
    between = ~at_top & ~at_bottom
    levels = gain[between]
    if levels.size:
        assert np.ptp(levels) < 1e-8
    least = levels.max() if levels.size else gain[at_bottom].max(initial=-np.inf)
    assert (gain[at_top] >= least - 1e-8).all()
    if levels.size:
        assert (gain[at_bottom] <= levels.min() + 1e-8).all()


@given(problems(), st.integers(0, 2**32 - 1))
def test_no_other_feasible_design_is_better(problem, seed):
    importance, costs, min_prob, budget = problem
    best = variance(importance, probabilities(problem))
    uniform = np.full(costs.shape, budget / costs.sum())
    assert best <= variance(importance, uniform) * (1 + 1e-9)
    rng = np.random.default_rng(seed)
    other = np.exp(rng.standard_normal(costs.size))
    rival = probabilities((other, costs, min_prob, budget))
    assert best <= variance(importance, rival) * (1 + 1e-9)


@settings(max_examples=20)
@given(problems(), st.sampled_from([1e-12, 0.3, 1e9]))
def test_scale_of_the_importance_does_not_matter(problem, scale):
    importance, *rest = problem
    scaled = probabilities((importance * scale, *rest))
    assert_close(scaled, probabilities(problem), rtol=1e-9, atol=1e-12)


@settings(max_examples=20)
@given(problems(), st.integers(0, 2**32 - 1))
def test_permuted_rows_give_permuted_probabilities(problem, seed):
    importance, costs, *rest = problem
    order = np.random.default_rng(seed).permutation(costs.size)
    moved = probabilities((importance[order], costs[order], *rest))
    assert_close(moved, probabilities(problem)[order], rtol=1e-9, atol=1e-12)


@settings(max_examples=20)
@given(problems())
def test_more_important_rows_of_one_cost_are_no_less_likely(problem):
    importance, costs, min_prob, budget = problem
    flat = np.ones_like(costs)
    prob = probabilities((importance, flat, min_prob, budget * flat.size / costs.sum()))
    assert (np.diff(prob[np.argsort(importance)]) >= -1e-12).all()


@settings(max_examples=20)
@given(problems(zeros=False))
def test_default_floor_bounds_the_weights(problem):
    importance, costs, _, budget = problem
    assume(budget > 1e-9)
    prob = np.asarray(
        debiased.annotation_probabilities(importance, budget=budget, costs=costs)
    )
    assert (prob >= 0.1 * budget / costs.sum() * (1 - 1e-12)).all()
    assert_close(costs @ prob, budget, rtol=1e-6)


@settings(max_examples=20)
@given(problems(), SHARES)
def test_proportional_rule(problem, mixing):
    importance, costs, _, budget = problem
    n = costs.size
    money = n * budget / costs.sum()
    prob = np.asarray(
        debiased.uncertainty_probabilities(importance, budget=money, mixing=mixing)
    )
    share = money / n
    mean = importance.mean()
    relative = importance / mean if mean > 0 else np.ones(n)
    plain = (1 - mixing) * share * relative + mixing * share
    assert_close(prob, np.clip(plain, 0, 1), rtol=1e-9, atol=1e-12)
    assert prob.sum() <= money * (1 + 1e-9)


@settings(max_examples=20)
@given(problems(), st.integers(0, 2**32 - 1))
def test_mixing_is_the_best_of_the_grid(problem, seed):
    importance, costs, min_prob, budget = problem
    assume(budget > 1e-6)
    residuals = np.random.default_rng(seed).standard_normal(costs.size)
    tau = float(
        debiased.choose_mixing(
            importance, residuals, budget=budget, costs=costs, min_prob=min_prob
        )
    )
    plain = probabilities(problem)
    values = {
        t: variance(abs(residuals), (1 - t) * plain + t * budget / costs.sum())
        for t in np.arange(1, 101) / 100
    }
    found = min(values, key=lambda t: abs(t - tau))
    assert abs(found - tau) < 1e-12
    assert values[found] <= min(values.values()) * (1 + 1e-9)


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.floats(0, 9), st.sampled_from([0.5, 1.0, 4])),
        min_size=4,
        max_size=4,
    ),
    SHARES,
    st.booleans(),
)
def test_allocation_of_strata(strata, share, is_priced):
    sizes = np.array([s for s, _, _ in strata])
    std_devs = np.array([s for _, s, _ in strata])
    costs = np.array([c for _, _, c in strata]) if is_priced else np.ones(4)
    least = np.minimum(sizes, 2)
    assume(sizes.sum() > 0)
    budget = costs @ least + share * (costs @ (sizes - least))
    counts = np.asarray(
        debiased.neyman_allocation(
            sizes, std_devs, budget=budget, costs=costs if is_priced else None
        )
    )
    assert ((counts >= least) & (counts <= sizes)).all()
    assert costs @ counts <= budget * (1 + 1e-6)
    if not is_priced:
        assert counts.sum() in (int(budget), round(budget))
    # Rounding moves a count by less than one from the best real allocation, which a
    # bisection in NumPy finds here.
    rates = sizes * std_devs / np.sqrt(costs)
    if (rates > 1e-9).sum() == (sizes > 0).sum():
        low, high = 0.0, 1e12
        for _ in range(200):
            kappa = (low + high) / 2
            spent = costs @ np.clip(kappa * rates, least, sizes)
            low, high = (kappa, high) if spent < budget else (low, kappa)
        ideal = np.clip(high * rates, least, sizes)
        assert (np.abs(counts - ideal) < 1 + 1e-6).all()


def test_transformations_of_the_probabilities():
    importance = jnp.asarray([[0.1, 0.4, 0.5, 5.0], [1.0, 1.0, 0.0, 2.0]])
    budgets = jnp.asarray([2.0, 3.0])

    def rule(psi, budget):
        return debiased.annotation_probabilities(psi, budget=budget, min_prob=0.05)

    loop = [rule(psi, budget) for psi, budget in zip(importance, budgets)]
    assert_close(jax.vmap(rule)(importance, budgets), jnp.stack(loop), rtol=1e-12)
    assert_close(jax.jit(rule)(importance[0], 2.0), loop[0], rtol=1e-12)
    step = 1e-6
    slope = jax.jacobian(rule)(importance[0], 2.0)
    for i in range(4):
        nudge = step * np.eye(4)[i]
        ahead, behind = (
            rule(importance[0] + nudge, 2.0),
            rule(importance[0] - nudge, 2.0),
        )
        assert_close(slope[:, i], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)

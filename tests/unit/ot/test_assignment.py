"""Assignments against SciPy, ties, shapes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxcur import ot
from tests.helpers import assert_close


@pytest.mark.parametrize(("n", "m"), [(9, 9), (6, 11), (11, 6), (1, 4), (4, 1)])
def test_jax_and_host_find_the_least_cost(n, m, dtype):
    rng = np.random.default_rng(0)
    solve = jax.jit(lambda cost: ot.assignment(cost, method="jax"))
    for trial in range(20):
        cost = rng.normal(size=(n, m))
        if trial % 2:
            cost = np.round(2 * cost)
        cost = cost.astype(dtype)
        rows, columns = linear_sum_assignment(cost)
        best = cost[rows, columns].sum()
        for found, value in (solve(cost), ot.assignment(cost)):
            assert_close(float(value), float(best), rtol=1e-5, atol=1e-5)
            used = np.asarray(found)
            assert (used >= 0).sum() == min(n, m)
            assert len(set(used[used >= 0].tolist())) == min(n, m)


def test_large_problem_agrees_with_scipy():
    cost = np.random.default_rng(1).random((300, 300)).astype(np.float32)
    found, value = ot.assignment(cost, method="jax")
    columns, best = ot.assignment(cost)
    assert (np.asarray(found) == np.asarray(columns)).all()
    assert_close(float(value), float(best), rtol=1e-6)


def test_batches_and_costs_that_are_not_finite():
    costs = np.random.default_rng(2).random((3, 9, 9)).astype(np.float32)
    costs[1, 0, 0] = np.nan
    found, values = jax.jit(jax.vmap(lambda c: ot.assignment(c)))(costs)
    assert np.isnan(float(values[1])) and (np.asarray(found)[1] == -1).all()
    for k in (0, 2):
        assert_close(float(values[k]), float(ot.assignment(costs[k])[1]), rtol=1e-5)


def test_derivative_marks_the_chosen_pairs():
    cost = np.random.default_rng(3).random((5, 5)).astype(np.float32)
    columns, _ = ot.assignment(cost)
    slope = jax.grad(lambda c: ot.assignment(c)[1])(jnp.asarray(cost))
    assert_close(slope, np.eye(5, dtype=np.float32)[np.asarray(columns)], rtol=1e-6)


@pytest.mark.parametrize(
    ("cost", "options", "message"),
    [
        (np.zeros(3), {}, "`cost` must have shape"),
        (np.zeros((0, 3)), {}, "must not be empty"),
        (np.full((2, 2), np.inf), {}, "must be finite"),
        (np.zeros((2, 2)), {"method": "fast"}, "`method` must be one of"),
    ],
)
def test_errors(cost, options, message):
    with pytest.raises(ValueError, match=message):
        ot.assignment(cost, **options)

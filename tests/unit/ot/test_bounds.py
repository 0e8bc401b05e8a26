"""Certified bounds against exact assignments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxcur import ot

SIZE = 12


def costs(count, seed=0):
    """Random problems of several kinds: flat, clustered, with ties, signed."""
    rng = np.random.default_rng(seed)
    out = rng.random((count, SIZE, SIZE))
    out[1::4] = rng.integers(0, 4, size=out[1::4].shape)
    points = rng.normal(size=(2, count, SIZE, 2))
    distances = ((points[0][:, :, None] - points[1][:, None]) ** 2).sum(-1)
    out[2::4] = distances[2::4]
    out[3::4] = 10 * out[3::4] - 5
    return out


@jax.jit
def bounds(costs, epsilon):
    def one(cost):
        result = ot.sinkhorn_matrix(cost, epsilon=epsilon, max_steps=60)
        return jnp.stack(ot.certified_bounds(result, cost))

    return jax.lax.map(one, costs)


def exact(cost):
    rows, columns = linear_sum_assignment(cost)
    return cost[rows, columns].sum() / SIZE


def test_bounds_enclose_two_hundred_exact_values_whatever_epsilon(dtype):
    """Also for solves cut short: sixty steps do not converge at the smallest."""
    problems = costs(200).astype(dtype)
    values = np.array([exact(cost.astype(np.float64)) for cost in problems])
    gaps = []
    for epsilon in (1.0, 0.1, 0.01):
        lower, upper = np.asarray(bounds(problems, epsilon), np.float64).T
        assert (lower <= values).all() and (values <= upper).all()
        gaps.append((upper - lower).mean())
        # At the optimum the plan costs at most epsilon log n more than the least.
        if epsilon == 0.1:
            assert (upper - values).max() <= 0.1 * np.log(SIZE) + 0.05
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < gaps[0] / 10


def test_bounds_of_an_unbalanced_result_are_refused():
    cost = np.ones((3, 3))
    result = ot.sinkhorn_matrix(cost, epsilon=1.0, rho_a=1.0)
    with pytest.raises(ValueError, match="must be balanced"):
        ot.certified_bounds(result, cost)

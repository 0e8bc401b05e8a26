"""Inverses of triangular factors, short and long ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.learners import _triangular
from jaxcur.learners._triangular import inverse_of_lower
from tests.helpers import assert_close


def factor(d, seed=0):
    rows = np.random.default_rng(seed).normal(size=(2 * d, d)) * np.logspace(0, 3, d)
    return np.linalg.cholesky(rows.T @ rows)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("d", [1, 7, _triangular._FEW + 1])
def test_it_is_the_inverse_whatever_the_scale_of_a_column(d):
    lower = factor(d)
    scale = np.abs(np.linalg.inv(lower)).max(axis=1, keepdims=True)
    found = np.asarray(inverse_of_lower(jnp.asarray(lower)))
    assert_close(found / scale, np.linalg.inv(lower) / scale, rtol=0, atol=1e-12)
    assert not np.triu(found, 1).any()


@pytest.mark.usefixtures("x64")
def test_derivative_and_batch():
    lower = jnp.asarray(factor(4))

    def total(matrix):
        return jnp.sum(jnp.sin(inverse_of_lower(jnp.tril(matrix))))

    direction = np.tril(np.random.default_rng(1).normal(size=(4, 4)))
    slope = np.vdot(np.asarray(jax.grad(total)(lower)), direction)
    ends = [float(total(lower + h * direction)) for h in (1e-6, -1e-6)]
    assert_close(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)
    both = jax.vmap(inverse_of_lower)(jnp.stack([lower, 2 * lower]))
    assert_close(both[1], np.asarray(both[0]) / 2, rtol=1e-12)

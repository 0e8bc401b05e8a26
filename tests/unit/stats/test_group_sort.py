"""Sorting inside groups."""

import jax.numpy as jnp
import numpy as np

from jaxcur.stats import group_sort


def test_orders_by_group_then_value_then_position(dtype):
    rng = np.random.default_rng(0)
    groups = rng.choice(np.array([-(2**31), -3, 0, 7, 2**31 - 1]), 64).astype(np.int32)
    values = rng.choice([-1.0, 0.0, 2.0, np.inf], 64).astype(dtype)
    expected = np.lexsort((np.arange(64), values, groups))
    found_groups, found_values, order = group_sort(
        jnp.asarray(groups), jnp.asarray(values)
    )
    assert order.tolist() == expected.tolist()
    assert found_groups.tolist() == groups[expected].tolist()
    assert found_values.tolist() == values[expected].tolist()
    assert found_values.dtype == dtype and order.dtype == jnp.int32


def test_signed_zeros_tie_and_nan_goes_last():
    values = jnp.array([jnp.nan, 0.0, -0.0, -1.0])
    order = group_sort(jnp.zeros(4, jnp.int32), values)[2]
    assert order.tolist() == [3, 1, 2, 0]


def test_empty():
    empty = group_sort(jnp.zeros(0, jnp.int32), jnp.zeros(0))
    assert all(part.shape == (0,) for part in empty)

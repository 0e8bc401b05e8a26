"""The comparison helper must be able to fail."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import assert_close, load_reference


@pytest.mark.parametrize(
    ("actual", "desired"),
    [
        (1.0, 1.0),
        (jnp.array([1.0, jnp.nan, jnp.inf]), [1.0, float("nan"), float("inf")]),
        (np.array([1.0, 2.0]), jnp.array([1.0, 2.0 + 1e-7])),
        ((jnp.ones(2), 3), (np.ones(2), 3)),
        ({"a": jnp.zeros(1)}, {"a": [0.0]}),
        (jnp.array([True, False]), [True, False]),
        (jnp.array([0.5], jnp.bfloat16), [0.5]),
    ],
)
def test_assert_close_accepts_equal_values(actual, desired):
    assert_close(actual, desired, rtol=1e-5)


@pytest.mark.parametrize(
    ("actual", "desired"),
    [
        (1.0, 1.1),
        (jnp.ones(3), 1.0),
        (jnp.ones((3, 1)), np.ones(3)),
        (float("nan"), 1.0),
        (float("inf"), -float("inf")),
        ((1.0, 2.0), (1.0, 2.1)),
        ((1.0,), (1.0, 2.0)),
        ({"a": 1.0}, {"b": 1.0}),
        (jnp.array([True]), [False]),
    ],
)
def test_assert_close_refuses_other_values(actual, desired):
    with pytest.raises(AssertionError):
        assert_close(actual, desired, rtol=1e-5)


def test_load_reference_names_what_there_is():
    with pytest.raises(FileNotFoundError, match="no reference data 'nothing.json'"):
        load_reference("nothing.json")

"""Levels are the decimal numbers people write."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcur import _base
from tests.helpers import assert_close


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        np.float16(0.1),
        np.float32(0.1),
        np.float64(0.1),
        jnp.float32(0.1),
        np.array(0.1),
        "0.1",
        Fraction(1, 10),
    ],
)
def test_a_tenth_is_a_tenth_in_every_precision(value):
    assert _base.exact_fraction(value) == Fraction(1, 10)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1, 1), (1e-5, Fraction(1, 100_000)), (1e-20, Fraction(1, 10**20))],
)
def test_whole_numbers_and_exponents(value, expected):
    assert _base.exact_fraction(value) == expected


@given(st.integers(0, 10**6))
def test_six_decimals_are_exact(millionths):
    assert _base.exact_fraction(millionths / 10**6) == Fraction(millionths, 10**6)


def test_nan_is_not_a_level():
    with pytest.raises(ValueError, match="nan"):
        _base.exact_fraction(float("nan"))


@pytest.mark.parametrize("value", [0.1, np.float32(0.1), jnp.float32(0.1)])
def test_float64_of_a_short_decimal_is_that_decimal(value):
    with jax.enable_x64(True):
        assert float(_base.decimal_float64(value)) == 0.1


@given(st.integers(0, 10**6))
def test_a_traced_single_precision_level_is_read_as_the_decimal(millionths):
    level = np.float32(millionths / 10**6)
    with jax.enable_x64(True):
        read = float(jax.jit(_base.decimal_float64)(level))
    # XLA multiplies by the rounded reciprocal of 1e6, so the last bit may differ.
    assert_close(read, millionths / 10**6, rtol=2.3e-16)


@pytest.mark.parametrize("traced", [False, True])
def test_float64_of_a_level_that_is_no_short_decimal_is_kept(traced):
    with jax.enable_x64(True):
        read = jax.jit(_base.decimal_float64) if traced else _base.decimal_float64
        # Multiplying and dividing by 1e6 may cost the last bit under tracing.
        assert_close(read(1 / 3), 1 / 3, rtol=4e-16)
        assert_close(read(float("nan")), float("nan"), rtol=0)
        assert_close(read(1), 1.0, rtol=0)

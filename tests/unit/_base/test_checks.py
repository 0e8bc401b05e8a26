"""Checks at the boundary: conversion, messages, silence under tracing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import _base


def test_is_concrete_tells_a_traced_value():
    seen = []
    jax.jit(lambda x: (seen.append(_base.is_concrete(x)), x)[1])(1.0)
    assert seen == [False]
    assert _base.is_concrete(1.0, np.ones(2), jnp.ones(2))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], "float32"),
        (np.array([True, False]), "float32"),
        (np.array([1.0], np.float16), "float32"),
        (jnp.array([1.0], jnp.bfloat16), "float32"),
        (np.array([1.0], np.float32), "float32"),
        (np.array([1.0], np.float64), "float32"),
    ],
)
def test_as_float_gives_single_precision_by_default(value, expected):
    (array,) = _base.as_float(scores=value)
    assert array.dtype == jnp.dtype(expected)


@pytest.mark.usefixtures("x64")
def test_as_float_keeps_each_precision_when_64_bit_is_on():
    (single,) = _base.as_float(scores=np.ones(2, np.float32))
    (double,) = _base.as_float(scores=np.ones(2, np.float64))
    assert (single.dtype, double.dtype) == (jnp.float32, jnp.float64)


def test_as_float_finds_a_common_dtype():
    first, second = _base.as_float(scores=np.ones(2, np.int32), test=np.ones(1, "f4"))
    assert first.dtype == second.dtype == jnp.float32


def test_as_float_drops_weak_types():
    (array,) = _base.as_float(level=0.1)
    assert not array.weak_type


@pytest.mark.parametrize("value", [["a", "b"], np.array([None]), np.array([1j])])
def test_as_float_refuses_what_is_not_real(value):
    with pytest.raises(TypeError, match="`scores` must hold real numbers"):
        _base.as_float(scores=value)


def test_as_float_refuses_complex_jax_arrays():
    with pytest.raises(TypeError, match="`scores` must hold real numbers"):
        _base.as_float(scores=jnp.array([1j]))


def test_as_float_refuses_ragged_lists():
    with pytest.raises(ValueError, match="`scores` must be a rectangular array"):
        _base.as_float(scores=[[1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), "`x` must have shape (n,), got ()"),
        ((3, 1), "got (3, 1); drop the last axis with `x[:, 0]`"),
        ((3, 2), "got (3, 2); map over a leading axis with jax.vmap"),
    ],
)
def test_check_rank_says_what_to_do(shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        _base.check_rank("x", jnp.ones(shape), 1)


def test_check_rank_accepts_the_right_rank():
    _base.check_rank("x", jnp.ones(3), 1)
    _base.check_rank("x", jnp.ones((2, 3)), 2, "(k, n)")


def test_check_same_length_names_both():
    with pytest.raises(ValueError, match=r"`a` and `b` .* \(2,\) and \(3,\)"):
        _base.check_same_length("a", jnp.ones(2), "b", jnp.ones(3))
    _base.check_same_length("a", jnp.ones(2), "b", jnp.ones((2, 5)))


def test_check_choice_lists_the_options():
    with pytest.raises(ValueError, match="`method` must be one of 'a', 'b', got 'c'"):
        _base.check_choice("method", "c", ("a", "b"))
    _base.check_choice("method", "a", ("a", "b"))


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_check_unit_interval_refuses(value):
    with pytest.raises(ValueError, match=r"`level` must lie in \[0, 1\]"):
        _base.check_unit_interval("level", value)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, np.float32(0.5), jnp.array(0.5)])
def test_check_unit_interval_accepts(value):
    _base.check_unit_interval("level", value)


def test_check_unit_interval_open_ends():
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        _base.check_unit_interval("level", 0.0, open_low=True)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        _base.check_unit_interval("level", 1.0, open_high=True)


def test_check_unit_interval_wants_a_scalar():
    with pytest.raises(ValueError, match=r"must be a scalar, got shape \(2,\)"):
        _base.check_unit_interval("level", [0.1, 0.2])


def test_value_checks_are_silent_while_tracing():
    @jax.jit
    def traced(level, scores):
        _base.check_unit_interval("level", level)
        _base.check_no_nan("scores", scores)
        return level

    assert float(traced(2.0, jnp.array([jnp.nan]))) == 2.0


def test_check_no_nan_counts():
    with pytest.raises(ValueError, match="`scores` must not hold NaN, got 2 of 3"):
        _base.check_no_nan("scores", jnp.array([jnp.nan, 1.0, jnp.nan]))
    _base.check_no_nan("scores", jnp.array([jnp.inf, 1.0]))
    _base.check_no_nan("scores", jnp.zeros(0))

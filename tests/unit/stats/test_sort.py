import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import stats

SPECIAL = [3.0, -np.inf, np.nan, -0.0, 1e-45, 0.0, -1e-45, np.inf, -2.0, -np.nan, 1e30]


def test_sort_places_nan_last_and_treats_signed_zeros_alike(dtype):
    values = jnp.asarray(SPECIAL, dtype)
    out = np.asarray(stats.sort(values))
    assert np.array_equal(out, np.sort(np.asarray(values)), equal_nan=True)
    assert not np.signbit(out[out == 0]).any()
    assert out.dtype == dtype.name


def test_argsort_is_stable_across_signed_zeros_and_ties(dtype):
    values = jnp.asarray([0.0, -0.0, 1.0, 0.0, -1.0, 1.0], dtype)
    assert np.asarray(stats.argsort(values)).tolist() == [4, 0, 1, 3, 2, 5]
    assert stats.argsort(values).dtype == jnp.int32


def test_sort_with_order_agrees_with_both(dtype):
    values = jnp.asarray(np.random.default_rng(0).normal(size=(4, 33)), dtype)
    ordered, order = stats.sort_with_order(values)
    assert np.array_equal(ordered, np.sort(np.asarray(values), axis=-1))
    assert np.array_equal(order, np.argsort(np.asarray(values), axis=-1))


@pytest.mark.parametrize("fraction", [1.0, 1e-38, 1e30])
def test_sort_matches_numpy_at_every_scale(fraction):
    draws = np.random.default_rng(1).normal(size=257).astype(np.float32)
    values = (draws * np.float32(fraction)).astype(np.float32)
    assert np.array_equal(stats.sort(values), np.sort(values))


def test_counts_match_numpy_search_including_specials(dtype):
    values = np.sort(np.asarray([1.0, 2.0, 2.0, 5.0, np.inf], dtype.name))
    queries = np.asarray([0.0, 2.0, 3.0, np.inf, -np.inf, np.nan], dtype.name)
    at_most = np.asarray(stats.count_at_most(values, queries)).tolist()
    below = np.asarray(stats.count_below(values, queries)).tolist()
    assert at_most == [0, 3, 3, 5, 0, 5]
    assert below == [0, 1, 3, 4, 0, 5]


def test_counts_among_no_values_are_zero():
    assert np.asarray(stats.count_at_most([], [1.0, 2.0])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("ties", "expected"),
    [("max", [3, 1, 3]), ("min", [2, 1, 2]), ("ordinal", [2, 1, 3])],
)
def test_ranks_by_tie_rule(ties, expected):
    assert np.asarray(stats.ranks([3.0, 1.0, 3.0], ties=ties)).tolist() == expected


def test_ranks_reject_an_unknown_tie_rule():
    with pytest.raises(ValueError, match="`ties` must be one of 'max', 'min'"):
        stats.ranks([1.0], ties="average")  # type: ignore[arg-type]


def test_sorting_text_is_refused_by_name():
    with pytest.raises(TypeError, match="`values` must hold real numbers"):
        stats.sort(np.asarray(["a", "b"]))


def test_half_precision_is_computed_in_float32():
    values = jnp.asarray([2.0, 1.0], jnp.bfloat16)
    assert stats.sort(values).dtype == jnp.float32


def test_sort_under_jit_and_vmap_equals_eager():
    values = np.random.default_rng(2).normal(size=(5, 17)).astype(np.float32)
    expected = np.argsort(values, axis=-1)
    assert np.array_equal(jax.jit(jax.vmap(stats.argsort))(values), expected)

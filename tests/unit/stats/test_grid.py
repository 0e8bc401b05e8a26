from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import stats
from jaxcur._base import exact_fraction

LEVELS = [0.05, 0.1, 0.15, 0.2, 0.3, 0.7, 1.0, 0.0, 1 / 3, 0.123456789012345]


def by_definition(level: float, n: int, m: int) -> list[int]:
    exact = Fraction(repr(level))
    return [min(int(exact * k * (n + 1) / m), n + 1) for k in range(1, m + 1)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("n", "m"), [(0, 3), (9, 1), (49, 30), (999, 100)])
def test_thresholds_are_exact_for_a_concrete_level(level, n, m):
    thresholds = np.asarray(stats.grid_thresholds(level, n, m))
    assert thresholds.tolist() == by_definition(level, n, m)


@pytest.mark.parametrize("level", LEVELS[:-2])
@pytest.mark.parametrize(("n", "m"), [(9, 1), (49, 30), (999, 100), (99_999, 1000)])
def test_thresholds_of_a_traced_decimal_level_are_exact(level, n, m, dtype):
    traced = jax.jit(stats.grid_thresholds, static_argnums=(1, 2))
    found = np.asarray(traced(jnp.asarray(level, dtype), n, m))
    assert found.tolist() == by_definition(level, n, m)


def test_thresholds_need_more_than_64_bits_for_long_decimals():
    level, n, m = 0.1234567890123457, 10**6, 10**4
    found = np.asarray(stats.grid_thresholds(level, n, m))
    assert found.tolist() == by_definition(level, n, m)


def test_a_level_is_read_in_its_own_precision():
    assert exact_fraction(np.float32(0.1)) == Fraction(1, 10)
    assert exact_fraction(jnp.asarray(0.1, jnp.float32)) == Fraction(1, 10)
    assert exact_fraction(0.1) == Fraction(1, 10)
    assert exact_fraction(Fraction(1, 3)) == Fraction(1, 3)


def test_nan_level_accepts_nothing():
    nan = float("nan")
    assert np.asarray(stats.grid_thresholds(nan, 9, 3)).tolist() == [0, 0, 0]
    traced = jax.jit(stats.grid_thresholds, static_argnums=(1, 2))(jnp.nan, 9, 3)
    assert np.asarray(traced).tolist() == [0, 0, 0]


def test_cutoff_by_counting_equals_the_step_up_rule():
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks = rng.integers(1, 18, size=13)
        thresholds = np.asarray(stats.grid_thresholds(0.3, 16, 13))
        passed = [k for k in range(1, 14) if np.sum(ranks <= thresholds[k - 1]) >= k]
        selected = ranks <= (thresholds[passed[-1] - 1] if passed else 0)
        cutoff = int(stats.grid_cutoff(jnp.asarray(ranks), jnp.asarray(thresholds), 16))
        assert (selected == (ranks <= cutoff)).all()
        counts = np.bincount(ranks - 1, minlength=17)
        assert stats.grid_cutoff_exact(counts, 0.3) == cutoff


def test_exact_cutoff_survives_counts_beyond_32_bits():
    # rank 1 holds 3e9 of 3e10 rows; at level 0.1 with n = 0 equality decides.
    counts = np.asarray([0, 3 * 10**9, 27 * 10**9])
    # n + 1 = 3, rank 2: 2 * 3e10 <= level * 3 * 3e9 fails below level 20/3.
    assert stats.grid_cutoff_exact(counts, 0.9) == 0
    counts = np.asarray([10**10, 2 * 10**10, 0])
    # rank 1: 1 * 3e10 <= level * 3 * 1e10 holds with equality at level 1 only.
    assert stats.grid_cutoff_exact(counts, 1.0) == 3
    assert stats.grid_cutoff_exact(np.asarray([10**10, 0, 2 * 10**10]), 0.999) == 0

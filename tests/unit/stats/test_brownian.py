"""Distribution functions and tails of the maximum and the range of Brownian motion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxcur import stats
from tests.helpers import assert_close


def maximum_tail(x: float) -> float:
    k = np.arange(60)
    return 4 * float(np.sum((-1.0) ** k * special.ndtr(-(2 * k + 1) * x)))


def range_tail(x: float) -> float:
    k = np.arange(1, 60)
    return 8 * float(np.sum((-1.0) ** (k - 1) * k * special.ndtr(-k * x)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("tail", "series"),
    [
        (stats.brownian_maximum_tail, maximum_tail),
        (stats.brownian_range_tail, range_tail),
    ],
)
def test_tails_are_accurate_relative_to_themselves(tail, series) -> None:
    points = np.array([1.0, 1.4999, 1.5, 1.5001, 2.0, 3.0, 8.0, 20.0, 35.0])
    assert_close(tail(points), [series(x) for x in points], rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("cdf", "tail"),
    [
        (stats.brownian_maximum_cdf, stats.brownian_maximum_tail),
        (stats.brownian_range_cdf, stats.brownian_range_tail),
    ],
)
def test_cdf_and_tail_are_complements_on_both_sides_of_the_split(cdf, tail) -> None:
    points = np.linspace(0.02, 4, 400)
    assert_close(cdf(points) + tail(points), np.ones(400), rtol=1e-14)
    assert np.all(np.diff(np.asarray(cdf(points))) >= 0)


@pytest.mark.usefixtures("x64")
def test_both_series_agree_where_they_meet() -> None:
    # 1 - tail by the other series, just below the split.
    for cdf, tail, split in (
        (stats.brownian_maximum_cdf, maximum_tail, 1.0),
        (stats.brownian_range_cdf, range_tail, 1.5),
    ):
        x = split * (1 - 1e-9)
        assert_close(cdf(x), 1 - tail(x), rtol=1e-13)


def test_ends_of_the_line(dtype) -> None:
    points = jnp.array([-1.0, 0.0, jnp.inf, jnp.nan], dtype)
    for cdf, tail in (
        (stats.brownian_maximum_cdf, stats.brownian_maximum_tail),
        (stats.brownian_range_cdf, stats.brownian_range_tail),
    ):
        assert_close(cdf(points), jnp.array([0, 0, 1, jnp.nan], dtype), rtol=0)
        assert_close(tail(points), jnp.array([1, 1, 0, jnp.nan], dtype), rtol=0)
        assert cdf(points).dtype == dtype


def test_the_derivative_is_a_density() -> None:
    for cdf in (stats.brownian_maximum_cdf, stats.brownian_range_cdf):
        slope = jax.vmap(jax.grad(cdf))(jnp.array([0.01, 0.5, 1.0, 1.5, 3.0]))
        assert bool(jnp.all(jnp.isfinite(slope) & (slope >= 0)))
        assert slope[2] > 0.1

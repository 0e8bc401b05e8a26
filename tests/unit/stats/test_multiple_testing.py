import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats as scipy_stats

from jaxcur import stats


def chosen(mask) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def test_bh_hand_computed_case():
    p = [0.01, 0.02, 0.03, 0.04, 0.9]
    assert chosen(stats.benjamini_hochberg(p, 0.05)) == [0, 1, 2, 3]
    assert chosen(stats.benjamini_hochberg(p, 0.04)) == []


def test_bh_steps_up_over_a_p_value_that_fails_on_its_own():
    # 0.03 > 0.05/3 and 0.04 > 0.1/3, yet 0.045 <= 0.05 takes all three along.
    assert chosen(stats.benjamini_hochberg([0.03, 0.045, 0.04], 0.05)) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_bh_and_adjusted_p_values_agree_with_scipy(seed, x64):
    p = np.random.default_rng(seed).beta(0.4, 1.0, size=64)
    for ours, theirs in (("bh", "bh"), ("by", "by")):
        adjusted = np.asarray(stats.adjust_p_values(p, method=ours))
        expected = scipy_stats.false_discovery_control(p, method=theirs)
        np.testing.assert_allclose(adjusted, expected, rtol=1e-12)
    for level in (0.05, 0.2):
        expected = scipy_stats.false_discovery_control(p) <= level
        assert (np.asarray(stats.benjamini_hochberg(p, level)) == expected).all()


@pytest.mark.parametrize("method", ["bonferroni", "holm", "hochberg"])
def test_family_wise_adjustments_by_definition(method, x64):
    p = np.asarray([0.01, 0.04, 0.03, 0.04, 0.5])
    m, order = p.size, np.argsort(p)
    raw = p[order] * (m - np.arange(m))
    expected = np.empty(m)
    if method == "bonferroni":
        expected[:] = p * m
    elif method == "holm":
        expected[order] = np.maximum.accumulate(raw)
    else:
        expected[order] = np.minimum.accumulate(raw[::-1])[::-1]
    expected = np.minimum(expected, 1)
    # Tied p-values share the value of the better (hochberg) or worse (holm) place.
    ties = p == 0.04
    expected[ties] = (
        expected[ties].min() if method == "hochberg" else expected[ties].max()
    )
    found = np.asarray(stats.adjust_p_values(p, method=method))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_mask_equals_removal():
    p = np.asarray([0.01, 0.02, 0.9, 0.03, 0.001], np.float32)
    mask = np.asarray([True, True, False, True, False])
    masked = np.asarray(stats.benjamini_hochberg(p, 0.04, mask=mask))
    assert not masked[~mask].any()
    assert (masked[mask] == np.asarray(stats.benjamini_hochberg(p[mask], 0.04))).all()


def test_nothing_and_everything():
    p = [0.0, 0.5, 1.0]
    for procedure in (stats.benjamini_hochberg, stats.quantile_bh, stats.storey_bh):
        assert chosen(procedure(p, 0.0)) == []
        assert procedure([], 0.1).shape == (0,)
    assert chosen(stats.benjamini_hochberg(p, 1.0)) == [0, 1, 2]
    assert chosen(stats.e_bh([np.inf, 5.0], 0.0)) == []
    assert stats.e_bh([], 0.1).shape == (0,)
    assert stats.adjust_p_values([]).shape == (0,)


def test_e_bh_accepts_an_infinite_e_value_and_exact_ties(dtype):
    e = jnp.asarray([np.inf, 0.0, 10.0], dtype)
    assert chosen(stats.e_bh(e, 0.1)) == [0]
    # m / (level k) = 15 for k = 2 of m = 3 at level 0.1.
    assert chosen(stats.e_bh(jnp.asarray([15.0, 15.0, 0.0], dtype), 0.1)) == [0, 1]
    for m, level, k in ((100, 0.1, 7), (101, 0.15, 3), (500, 0.3, 49)):
        tied = jnp.where(jnp.arange(m) < k, m / (level * k), 0.0).astype(dtype)
        assert len(chosen(stats.e_bh(tied, level))) == k


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.benjamini_hochberg([0.1], 1.5), "`level` must lie in"),
        (lambda: stats.benjamini_hochberg([0.1], float("nan")), "`level` must lie in"),
        (lambda: stats.benjamini_hochberg([1.1], 0.1), "`p_values` must lie in"),
        (lambda: stats.benjamini_hochberg([np.nan], 0.1), "must not hold NaN"),
        (lambda: stats.benjamini_hochberg([[0.1]], 0.1), r"must have shape \(m,\)"),
        (lambda: stats.benjamini_hochberg([0.1], [0.1]), "`level` must be a scalar"),
        (lambda: stats.benjamini_hochberg([0.1], 0.1, mask=[True] * 2), "same length"),
        (lambda: stats.storey_bh([0.1], 0.1, cutoff=1.0), "`cutoff` must lie in"),
        (lambda: stats.e_bh([-1.0], 0.1), "`e_values` must lie in"),
        (lambda: stats.adjust_p_values([0.1], method="x"), "`method` must be one of"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_nan_is_never_rejected_and_nan_level_rejects_nothing():
    bh = jax.jit(stats.benjamini_hochberg)
    assert chosen(bh(jnp.asarray([0.001, jnp.nan]), 0.5)) == [0]
    assert chosen(bh(jnp.asarray([0.001, 0.2]), jnp.nan)) == []
    adjusted = jax.jit(stats.adjust_p_values)(jnp.asarray([0.001, jnp.nan]))
    assert np.isnan(adjusted).all()

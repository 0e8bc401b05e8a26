"""The conformal order statistic: exact ranks, groups, weights, edges, errors."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal import conformal_quantile
from jaxcur.conformal._quantile import quantile_rank, read_coverage

SCORES = np.arange(1.0, 10.0)  # n = 9: rank k is score k


def test_rank_is_exact_at_every_tenth(dtype):
    found = [float(conformal_quantile(SCORES, coverage=i / 10)) for i in range(11)]
    assert found == [-np.inf, *SCORES.tolist(), np.inf]


def test_rank_is_exact_for_a_traced_coverage(dtype):
    quantile = jax.jit(lambda c: conformal_quantile(SCORES, coverage=c))
    found = [float(quantile(i / 10)) for i in range(11)]
    assert found == [-np.inf, *SCORES.tolist(), np.inf]


@pytest.mark.parametrize("traced", [False, True])
def test_rank_matches_rational_arithmetic(dtype, traced):
    counts = np.array([0, 1, 2, 8, 9, 19, 99, 999, 9_999, 99_999, 10**6 - 1])

    def rank(coverage):
        return quantile_rank(read_coverage(coverage, 10**6), counts)

    rank = jax.jit(rank) if traced else rank
    for text in ("0.001", "0.05", "0.1", "0.3", "0.333", "0.7", "0.9", "0.95", "0.999"):
        coverage = Fraction(text)
        expected = [-(-coverage * (int(n) + 1) // 1) for n in counts]
        assert rank(np.asarray(float(text), dtype)).tolist() == expected


def test_plain_float_arithmetic_would_get_ranks_wrong():
    # The reason for the exact rank: these ceilings are one too large in float64.
    wrong = [
        (n, c)
        for n in range(200)
        for c in (0.55, 0.7, 0.85, 0.9, 0.95)
        if np.ceil(c * (n + 1)) != -(-Fraction(str(c)) * (n + 1) // 1)
    ]
    assert wrong
    for n, c in wrong:
        exact = -(-Fraction(str(c)) * (n + 1) // 1)
        assert int(quantile_rank(read_coverage(c, n), n)) == exact


def test_rounded_difference_of_decimals_means_the_decimal():
    # 1 - 0.7 is 0.30000000000000004; the fourth of nine scores would be one too many.
    assert conformal_quantile(SCORES, coverage=1 - 0.7) == 3.0


def test_too_few_scores_give_infinity():
    assert conformal_quantile(SCORES, coverage=0.91) == np.inf
    assert conformal_quantile([], coverage=0.5) == np.inf
    assert conformal_quantile([], coverage=0.0) == -np.inf


def test_missing_score_counts_as_infinite():
    scores = np.array([np.nan, 1.0, 2.0])
    assert conformal_quantile(scores, coverage=0.5) == 2.0
    assert conformal_quantile(scores, coverage=0.75) == np.inf


def test_groups_have_their_own_thresholds():
    groups = (np.array([0, 0, 0, 7, 7, 7, 7, -5, -5]), np.array([-5, 7, 0, 3]))
    found = conformal_quantile(SCORES, coverage=0.75, groups=groups)
    # Group 7 has four rows: the fourth of 4. Group 0 has three: the third. Group -5
    # has two, too few. Group 3 is unknown.
    assert found.tolist() == [np.inf, 7.0, 3.0, np.inf]
    assert (
        conformal_quantile(SCORES, coverage=0, groups=groups).tolist() == [-np.inf] * 4
    )


def test_groups_of_the_empty_calibration_set():
    groups = (np.zeros(0, int), np.array([0, 1]))
    assert conformal_quantile([], coverage=0.5, groups=groups).tolist() == [np.inf] * 2


@pytest.mark.parametrize("labels", [np.array([2**31]), np.array([-(2**31) - 1])])
def test_group_labels_must_fit(labels):
    with pytest.raises(ValueError, match="must fit 32-bit integers"):
        conformal_quantile([1.0], coverage=0.5, groups=(labels, labels))


def brute_weighted(scores, weights, own, coverage) -> float:
    """Smallest score whose share reaches the coverage, in rational arithmetic."""
    if coverage == 0:
        return -np.inf
    total = sum(weights) + own
    for score in sorted(scores):
        at_most = sum(w for s, w in zip(scores, weights, strict=True) if s <= score)
        if at_most >= coverage * total:
            return score
    return np.inf


def test_weighted_thresholds_match_the_definition(dtype):
    rng = np.random.default_rng(0)
    for coverage in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9):
        scores = rng.integers(0, 6, 17).astype(float)
        tenths, own = rng.integers(0, 5, 17), rng.integers(0, 20, 8)
        tenths[0] += 1
        found = conformal_quantile(
            scores.astype(dtype),
            coverage=coverage,
            calibration_weights=tenths.astype(dtype),
            test_weights=own.astype(dtype),
        )
        expected = [
            brute_weighted(scores, tenths.tolist(), int(w), Fraction(str(coverage)))
            for w in own
        ]
        assert found.tolist() == expected


def test_weighted_groups_match_each_group_alone():
    rng = np.random.default_rng(1)
    scores, weights = rng.normal(size=17), rng.integers(1, 5, 17)
    groups, own = rng.integers(0, 3, 17), rng.integers(0, 3, 8)
    test_groups = rng.integers(0, 3, 8)
    found = conformal_quantile(
        scores,
        coverage=0.6,
        groups=(groups, test_groups),
        calibration_weights=weights,
        test_weights=own,
    )
    for j in range(8):
        inside = groups == test_groups[j]
        alone = conformal_quantile(
            scores[inside],
            coverage=0.6,
            calibration_weights=weights[inside],
            test_weights=own[j : j + 1],
        )
        assert found[j] == alone[0]


def test_equal_weights_are_no_weights(dtype):
    for coverage in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0):
        plain = conformal_quantile(SCORES, coverage=coverage)
        weighted = conformal_quantile(
            SCORES,
            coverage=coverage,
            calibration_weights=np.full(9, 0.1, dtype),
            test_weights=np.full(1, 0.1, dtype),
        )
        assert weighted.tolist() == [float(plain)]


@pytest.mark.parametrize("n", [19, 99])
def test_ties_of_the_weight_share_survive_rounding(dtype, n):
    scores = np.arange(1.0, n + 1)
    for percent in range(5, 100, 5):
        found = conformal_quantile(
            scores,
            coverage=percent / 100,
            calibration_weights=np.full(n, 0.1, dtype),
            test_weights=np.full(1, 0.1, dtype),
        )
        assert found[0] == percent * (n + 1) // 100


def test_tiny_coverage_stays_inside_the_group():
    found = conformal_quantile(
        SCORES,
        coverage=1e-15,
        groups=([0] * 5 + [1] * 4, [1, 0]),
        calibration_weights=np.ones(9),
        test_weights=np.ones(2),
    )
    assert found.tolist() == [6.0, 1.0]


def test_weights_without_calibration_rows():
    found = conformal_quantile(
        [], coverage=0.5, calibration_weights=[], test_weights=[1.0, 0.0]
    )
    assert found.tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": -0.1}, "`coverage` must lie in"),
        ({"coverage": 1.1}, "`coverage` must lie in"),
        ({"coverage": np.nan}, "`coverage` must lie in"),
        ({"coverage": [0.5, 0.6]}, "`coverage` must be a scalar"),
        ({"groups": np.zeros(9, int)}, "`groups` must be a pair"),
        ({"groups": ([0], [0])}, "`groups\\[0\\]` and `calibration_scores`"),
        ({"test_weights": [1.0]}, "`calibration_weights` is missing"),
        ({"calibration_weights": np.ones(9)}, "`test_weights` is missing"),
        (
            {"calibration_weights": np.zeros(9), "test_weights": [1.0]},
            "`calibration_weights` must not all be zero",
        ),
        (
            {"calibration_weights": -np.ones(9), "test_weights": [1.0]},
            "`calibration_weights` must be finite and nonnegative",
        ),
        (
            {"calibration_weights": np.ones(9), "test_weights": [np.inf]},
            "`test_weights` must be finite and nonnegative",
        ),
        (
            {"calibration_weights": np.ones(8), "test_weights": [1.0]},
            "`calibration_weights` and `calibration_scores`",
        ),
    ],
)
def test_invalid_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        conformal_quantile(SCORES, **({"coverage": 0.5} | options))


def test_scores_must_be_a_vector():
    with pytest.raises(ValueError, match="`calibration_scores` must have shape"):
        conformal_quantile(SCORES[:, None], coverage=0.5)


def test_group_labels_must_be_integers():
    with pytest.raises(TypeError, match="`groups\\[1\\]` must hold integers"):
        conformal_quantile(SCORES, coverage=0.5, groups=(np.zeros(9, int), [0.5]))


def test_invalid_values_give_nan_under_jit():
    quantile = jax.jit(lambda c: conformal_quantile(SCORES, coverage=c))
    assert jnp.isnan(jnp.stack([quantile(c) for c in (-0.1, 1.1, jnp.nan)])).all()
    weighted = jax.jit(
        lambda w: conformal_quantile(
            SCORES, coverage=0.5, calibration_weights=w, test_weights=jnp.ones(1)
        )
    )
    assert jnp.isnan(weighted(-jnp.ones(9))).all()
    assert jnp.isnan(weighted(jnp.zeros(9))).all()

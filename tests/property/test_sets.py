"""Relations that hold for every input of sets, quantiles and risk control."""

from fractions import Fraction

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from scipy.stats import beta

from jaxcur.conformal import (
    absolute_residual_scores,
    aps_scores,
    aps_set,
    conformal_quantile,
    cqr_interval,
    cqr_scores,
    lac_scores,
    lac_set,
    raps_scores,
    raps_set,
    risk_control,
    split_interval,
)
from jaxcur.stats import clopper_pearson, weighted_quantile

# A ladder of sizes: every new shape costs a compilation.
SIZES = st.sampled_from([1, 3, 17])
COVERAGES = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 0.95, 1.0])
FLOATS = st.floats(-100, 100, width=32)
TIED = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0])
SPECIAL = st.sampled_from([np.inf, -np.inf, np.nan])


@st.composite
def score_vectors(draw, special: bool = False):
    elements = draw(st.sampled_from([FLOATS, TIED]))
    if special:
        elements = st.one_of(elements, SPECIAL)
    return draw(hnp.arrays(np.float32, draw(SIZES), elements=elements))


@st.composite
def tables(draw, rows: int = 3):
    """Probabilities that are multiples of 1/16: ties are frequent and sums exact."""
    counts = draw(hnp.arrays(np.int32, (rows, 4), elements=st.integers(0, 4)))
    counts[:, 3] += 16 - np.minimum(counts.sum(axis=1), 16)
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(
        np.float32
    )


def integers(n: int, seed: int, high: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, n).astype(np.int32)


def exact_threshold(scores, coverage) -> float:
    """The definition in rational arithmetic."""
    rank = -(-Fraction(str(coverage)) * (scores.size + 1) // 1)
    clean = np.sort(np.where(np.isnan(scores), np.inf, scores))
    if rank == 0:
        return -np.inf
    return np.inf if rank > scores.size else float(clean[rank - 1])


@given(score_vectors(special=True), COVERAGES)
def test_threshold_is_the_definition(scores, coverage):
    found = conformal_quantile(scores, coverage=coverage)
    assert float(found) == exact_threshold(scores, coverage)


@given(score_vectors(), COVERAGES, st.integers(0, 99))
def test_threshold_ignores_the_order_of_the_rows(scores, coverage, seed):
    shuffled = np.random.default_rng(seed).permutation(scores)
    found = conformal_quantile(shuffled, coverage=coverage)
    assert found == conformal_quantile(scores, coverage=coverage)


@given(score_vectors(special=True), st.tuples(COVERAGES, COVERAGES).map(sorted))
def test_threshold_grows_with_the_coverage(scores, pair):
    low, high = (conformal_quantile(scores, coverage=c) for c in pair)
    assert low <= high


@given(score_vectors(special=True), COVERAGES, st.integers(-(2**31), 2**31 - 1))
def test_one_group_is_no_group(scores, coverage, label):
    groups = (np.full(scores.size, label), np.array([label]))
    found = conformal_quantile(scores, coverage=coverage, groups=groups)
    assert found[0] == conformal_quantile(scores, coverage=coverage)


@given(score_vectors(special=True), COVERAGES, st.integers(0, 99))
def test_each_group_stands_alone(scores, coverage, seed):
    groups = integers(scores.size, seed, 3)
    found = conformal_quantile(
        scores, coverage=coverage, groups=(groups, np.array([0, 1, 2, 9]))
    )
    expected = [exact_threshold(scores[groups == g], coverage) for g in (0, 1, 2, 9)]
    assert found.tolist() == expected


@given(score_vectors(), COVERAGES, st.integers(0, 99), st.sampled_from([0.1, 3, 1024]))
def test_weights_matter_only_up_to_a_constant(scores, coverage, seed, factor):
    weights = integers(scores.size, seed, 4) + np.float32(1)
    own = integers(3, seed + 1, 4).astype(np.float32)
    one, other = (
        conformal_quantile(
            scores,
            coverage=coverage,
            calibration_weights=weights * np.float32(c),
            test_weights=own * np.float32(c),
        )
        for c in (1, factor)
    )
    # 0.1 is not a float: a share within a rounding of the coverage may move by a row.
    if factor == 0.1:
        total = (weights.sum() + own)[:, None]
        shares = np.cumsum(weights[np.argsort(scores)])[None, :] / total
        assume(np.abs(shares - coverage).min() > 1e-6)
    assert one.tolist() == other.tolist()


@given(score_vectors(), COVERAGES, st.integers(0, 99))
def test_integer_weights_are_repeated_rows(scores, coverage, seed):
    weights = integers(scores.size, seed, 4)
    assume(weights.sum() > 0)
    found = conformal_quantile(
        scores, coverage=coverage, calibration_weights=weights, test_weights=[1]
    )
    repeated = np.repeat(scores, weights)
    assert found[0] == exact_threshold(repeated, coverage)


@given(tables(), tables(), st.tuples(COVERAGES, COVERAGES).map(sorted))
def test_sets_are_nested_in_the_coverage(calibration, probs, pair):
    labels = np.array([0, 1, 3])
    lac = lac_scores(calibration, labels)
    aps = aps_scores(calibration, labels, uniforms=0.25)
    raps = raps_scores(calibration, labels, penalty=0.125, uniforms=0.25)
    makers = (
        lambda c: lac_set(lac, probs, coverage=c),
        lambda c: aps_set(aps, probs, coverage=c, uniforms=0.75),
        lambda c: raps_set(raps, probs, coverage=c, penalty=0.125, uniforms=0.75),
    )
    for make in makers:
        small, large = (np.asarray(make(c)) for c in pair)
        assert not (small & ~large).any()


@given(score_vectors(), st.tuples(COVERAGES, COVERAGES).map(sorted))
def test_intervals_are_nested_in_the_coverage(scores, pair):
    center = np.array([-1.0, 0.0, 5.0], np.float32)
    for make in (
        lambda c: split_interval(np.abs(scores), center, coverage=c),
        lambda c: cqr_interval(scores, center - 1, center + 1, coverage=c),
    ):
        small, large = (make(c) for c in pair)
        assert (small[0] >= large[0]).all() and (small[1] <= large[1]).all()


@given(tables(), COVERAGES, st.booleans(), st.floats(0, 1, width=32))
def test_a_set_holds_the_classes_whose_score_is_low_enough(
    probs, coverage, randomize, draw
):
    scores = np.array([0.25, 0.5, 0.875], np.float32)
    options = {"uniforms": draw} if randomize else {}
    found = aps_set(scores, probs, coverage=coverage, randomize=randomize, **options)
    limit = exact_threshold(scores, coverage)
    for y in range(4):
        own = aps_scores(probs, np.full(3, y), randomize=randomize, **options)
        assert (np.asarray(own) <= limit).tolist() == found[:, y].tolist()


@given(tables(), st.floats(0, 1, width=32), COVERAGES)
def test_deterministic_sets_take_the_most_probable_classes(probs, limit, coverage):
    found = np.asarray(
        aps_set(np.full(3, limit), probs, coverage=coverage, randomize=False)
    )
    for row, members in zip(probs, found, strict=True):
        inside, outside = row[members], row[~members]
        assert inside.size == 0 or outside.size == 0 or inside.min() >= outside.max()


@given(score_vectors(), st.integers(0, 99))
def test_shift_and_scale_of_labels_carry_over(scores, seed):
    rng = np.random.default_rng(seed)
    predictions, labels = rng.integers(-8, 8, (2, scores.size)).astype(np.float32)
    one = absolute_residual_scores(predictions, labels)
    other = absolute_residual_scores(4 * predictions + 2, 4 * labels + 2)
    assert (4 * one).tolist() == other.tolist()
    one = cqr_scores(predictions - 1, predictions + 1, labels)
    other = cqr_scores(predictions - 1 + 8, predictions + 1 + 8, labels + 8)
    assert one.tolist() == other.tolist()


@given(score_vectors(), st.integers(0, 99), st.sampled_from([0.1, 0.25, 0.5, 0.75]))
def test_weighted_quantile_invariances(values, seed, q):
    weights = integers(values.size, seed, 4)
    weights[0] += 1
    found = weighted_quantile(values, weights, q)
    assert found in values[weights > 0]
    order = np.random.default_rng(seed).permutation(values.size)
    assert weighted_quantile(values[order], weights[order], q) == found
    assert weighted_quantile(values, weights * 0.125, q) == found
    doubled = weighted_quantile(np.tile(values, 2), np.tile(weights, 2), q)
    assert doubled == found
    assert weighted_quantile(values, weights, q / 2) <= found


@given(st.integers(0, 64), st.integers(0, 64), st.sampled_from([0.5, 0.9, 0.99]))
def test_clopper_pearson_brackets_the_rate(k, rest, level):
    n = k + rest
    lower, upper = clopper_pearson(k, n, level)
    rate = k / n if n else 0.5
    assert 0 <= lower <= rate <= upper <= 1
    wider = clopper_pearson(k, n, 0.999)
    assert wider[0] <= lower and upper <= wider[1]
    if 0 < k:
        expected = beta.ppf((1 - level) / 2, k, rest + 1)
        np.testing.assert_allclose(lower, expected, rtol=1e-6)


@given(
    hnp.arrays(np.int32, (3, 4), elements=st.integers(0, 4)),
    st.tuples(COVERAGES, COVERAGES).map(sorted),
)
def test_chosen_setting_is_bolder_for_larger_levels(steps, pair):
    losses = np.cumsum(steps, axis=1)[:, ::-1] / 16
    low, high = (risk_control(losses, level=c, bound=1) for c in pair)
    expected = [
        next(
            (j for j in range(4) if Fraction(losses[:, j].sum()) + 1 <= 4 * level),
            -1,
        )
        for level in (Fraction(str(c)) for c in pair)
    ]
    assert [int(low.index), int(high.index)] == expected
    if low.index >= 0:
        assert 0 <= high.index <= low.index


# Coverage with few rows, counted. Six standard errors leave a chance of 2e-9 of a
# false alarm for each side.


def counted(misses: np.ndarray) -> tuple[float, float]:
    """Mean and six standard errors of the share of misses, at most those of 1/2."""
    return float(np.mean(misses)), 6 * 0.5 / np.sqrt(misses.size)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.75, 0.9])
def test_nine_rows_cover_exactly_k_tenths(coverage):
    replications, n = 20_000, 9
    scores = np.random.default_rng(0).exponential(size=(replications, n + 1))
    scores = scores.astype(np.float32)
    quantile = jax.vmap(lambda row: conformal_quantile(row, coverage=coverage))
    covered = scores[:, n] <= quantile(jnp.asarray(scores[:, :n]))
    rate, radius = counted(np.asarray(covered))
    exact = np.ceil(round(coverage * 10, 9)) / 10
    assert abs(rate - exact) < radius
    # The rank one lower or higher would be caught.
    assert radius < 0.1 / 2


def test_coverage_of_one_calibration_set_is_beta_distributed():
    # The k-th of n uniform scores is Beta(k, n + 1 - k): DKW at 2 exp(-2 r^2 N) = 1e-9.
    replications, n, coverage, k = 4000, 19, 0.8, 16
    scores = np.random.default_rng(1).uniform(size=(replications, n))
    found = jax.vmap(lambda row: conformal_quantile(row, coverage=coverage))(
        jnp.asarray(scores, jnp.float32)
    )
    exact = beta.cdf(np.sort(np.asarray(found)), k, n + 1 - k)
    grid = np.arange(1, replications + 1) / replications
    assert np.abs(exact - grid).max() < np.sqrt(np.log(2e9) / (2 * replications))


def test_randomised_classes_are_covered_exactly():
    # Right or wrong probabilities, ties included: with randomised scores coverage is
    # k/(n + 1) exactly, and class by class in the class-conditional form.
    replications, n, coverage = 20_000, 9, 0.75
    rng = np.random.default_rng(2)
    table = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32)
    rows = rng.integers(0, 2, (replications, n + 1))
    labels = np.where(rng.uniform(size=rows.shape) < 0.7, 0, 2).astype(np.int32)
    draws = rng.uniform(size=rows.shape).astype(np.float32)

    def holds(rows, labels, draws):
        probs = jnp.asarray(table)[rows]
        scores = aps_scores(probs, labels, uniforms=draws)
        found = aps_set(scores[:n], probs[n:], coverage=coverage, uniforms=draws[n])
        by_class = aps_set(
            scores[:n],
            probs[n:],
            coverage=coverage,
            uniforms=draws[n],
            calibration_labels=labels[:n],
        )
        return found[0, labels[n]], by_class[0, labels[n]]

    marginal, conditional = jax.jit(jax.vmap(holds))(rows, labels, draws)
    rate, radius = counted(np.asarray(marginal))
    assert abs(rate - 0.8) < radius
    for y in (0, 2):
        rate, radius = counted(np.asarray(conditional)[labels[:, n] == y])
        assert rate > coverage - radius


def test_covariate_shift_is_covered_with_weights_and_not_without():
    # Scores grow with x; test rows have density proportional to x^2 on {1, 2, 3, 4}.
    replications, n, coverage = 20_000, 19, 0.75
    rng = np.random.default_rng(3)
    x = rng.integers(1, 5, (replications, n + 1))
    x[:, n] = rng.choice([1, 2, 3, 4], replications, p=np.array([1, 4, 9, 16]) / 30)
    scores = (x * rng.exponential(size=x.shape)).astype(np.float32)
    weights = (x**2).astype(np.float32)

    def holds(scores, weights):
        limit = conformal_quantile(
            scores[:n],
            coverage=coverage,
            calibration_weights=weights[:n],
            test_weights=weights[n:],
        )
        plain = conformal_quantile(scores[:n], coverage=coverage)
        return scores[n] <= limit[0], scores[n] <= plain

    weighted, plain = jax.jit(jax.vmap(holds))(scores, weights)
    rate, radius = counted(np.asarray(weighted))
    assert rate > coverage - radius
    rate, radius = counted(np.asarray(plain))
    assert rate < coverage - radius


def test_risk_is_controlled_and_nearly_attained():
    # Losses 1{U > j/20}: the exact expected loss at the chosen setting is known.
    replications, n, level = 20_000, 9, 0.3
    rng = np.random.default_rng(4)
    draws = rng.uniform(size=(replications, n + 1)).astype(np.float32)
    settings = np.arange(21, dtype=np.float32) / 20
    found = jax.jit(
        jax.vmap(
            lambda u: (
                risk_control(
                    u[:n, None] > settings[None, :], level=level, bound=1
                ).index
            )
        )
    )(draws)
    assert (found >= 0).all()
    losses = draws[:, n] > settings[np.asarray(found)]
    rate, radius = counted(losses)
    assert level - 0.06 < rate < level + radius

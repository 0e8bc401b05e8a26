"""The neighbours of conformal selection against brute force in exact rationals."""

from fractions import Fraction

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from jaxcur import stats
from jaxcur.conformal._alignment import align
from jaxcur.conformal._conditional import conditional_bounds, conditional_p_values
from jaxcur.conformal._evalues import boost_e_values, derandomize, e_values
from jaxcur.conformal._multi import combine_conditions, select_pairs
from jaxcur.conformal._outliers import detect_outliers
from jaxcur.conformal._prune import prune
from jaxcur.conformal._score_risk import score_mdr, score_sdr
from jaxcur.conformal._selection import select
from tests.helpers import assert_close

# Few shapes, so that each program is compiled once.
SHAPES = ((1, 1), (2, 3), (8, 3), (17, 8))
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0)


@st.composite
def risk_problems(draw, weighted):
    """Losses in quarters, scores with many ties, small whole weights."""
    n, m = draw(st.sampled_from(SHAPES))
    quarters = st.sampled_from(((0, 4), (0, 0, 0, 4), (0, 0, 1), (0, 1, 2, 3, 4)))
    losses = draw(st.lists(st.sampled_from(draw(quarters)), min_size=n, max_size=n))
    losses = [Fraction(loss, 4) for loss in losses]
    top = draw(st.sampled_from((3, 40)))
    scores = draw(st.lists(st.integers(0, top), min_size=n, max_size=n))
    tests = draw(st.lists(st.integers(0, top), min_size=m, max_size=m))
    weights = [Fraction(1)] * n
    own = [Fraction(1)] * m
    if weighted:
        whole = st.integers(0, 5)
        weights = [Fraction(draw(whole)) for _ in range(n - 1)] + [Fraction(2)]
        own = [Fraction(draw(whole)) for _ in range(m)]
    level, gamma = draw(st.sampled_from(LEVELS)), draw(st.sampled_from(LEVELS))
    if draw(st.booleans()):
        gamma = level
    return losses, scores, tests, weights, own, level, gamma


def infimum_by_search(problem, j, method, losses_of_own):
    """min over the given own losses of E_j(l), by scanning every threshold."""
    losses, scores, tests, weights, own, _, gamma = problem
    n, m = len(scores), len(tests)
    gamma = Fraction(str(gamma))
    total = sum(weights) + own[j]
    if total == 0:
        return 0
    candidates = sorted(set(scores) | set(tests))
    calibration = {
        t: sum(weights[i] * losses[i] for i in range(n) if scores[i] <= t)
        for t in candidates
    }
    share = {
        t: Fraction(1 + sum(tests[k] <= t for k in range(m) if k != j), m)
        if method == "sdr"
        else Fraction(1)
        for t in candidates
    }
    if losses_of_own == "all":
        breakpoints = {Fraction(0), Fraction(1)}
        for t in candidates:
            if tests[j] <= t and own[j] > 0:
                level_here = gamma * share[t] * total - calibration[t]
                breakpoints.add(min(max(level_here / own[j], Fraction(0)), Fraction(1)))
    else:
        breakpoints = set(losses_of_own)
    best = None
    for own_loss in breakpoints:
        accepted = [
            t
            for t in candidates
            if calibration[t] + own_loss * own[j] * (tests[j] <= t)
            <= gamma * share[t] * total
        ]
        if not accepted or tests[j] > accepted[-1]:
            return 0
        bottom = calibration[accepted[-1]] + own_loss * own[j]
        value = float("inf") if bottom == 0 else total / bottom
        best = value if best is None else min(best, value)
    return best


def e_bh_exact(values, level):
    level, m = Fraction(str(level)), len(values)
    chosen = 0
    for k in range(1, m + 1):
        if sum(value * level * k >= m for value in values) >= k:
            chosen = k
    return [chosen > 0 and value * level * chosen >= m for value in values]


def floats(values):
    return np.array([float(value) for value in values])


def arguments(problem, weighted):
    losses, scores, tests, weights, own, level, gamma = problem
    named = {"level": level, "gamma": gamma}
    if weighted:
        named["calibration_weights"] = floats(weights)
        named["test_weights"] = floats(own)
    return (floats(losses), floats(scores), floats(tests)), named


@pytest.mark.parametrize("weighted", [False, True])
def test_sdr_is_the_infimum_over_every_loss(weighted):
    @given(risk_problems(weighted))
    def check(problem):
        values = [
            infimum_by_search(problem, j, "sdr", "all") for j in range(len(problem[2]))
        ]
        positional, named = arguments(problem, weighted)
        result = score_sdr(*positional, **named)
        assert_close(result.e_values, floats(values), rtol=1e-6)
        assert result.selected.tolist() == e_bh_exact(values, problem[5])

    check()


@pytest.mark.parametrize("weighted", [False, True])
def test_mdr_selects_where_the_infimum_reaches_the_level(weighted):
    @given(risk_problems(weighted))
    def check(problem):
        tests, level = problem[2], Fraction(str(problem[5]))
        every = [infimum_by_search(problem, j, "mdr", "all") for j in range(len(tests))]
        ends = [infimum_by_search(problem, j, "mdr", (0, 1)) for j in range(len(tests))]
        positional, named = arguments(problem, weighted)
        result = score_mdr(*positional, **named)
        assert_close(result.infimum, floats(every), rtol=1e-6)
        assert_close(result.e_values, floats(ends), rtol=1e-6)
        assert result.selected.tolist() == [value * level >= 1 for value in every]

    check()


def test_sdr_in_float64_agrees_to_the_last_digits(x64):
    @given(risk_problems(True))
    def check(problem):
        values = [
            infimum_by_search(problem, j, "sdr", "all") for j in range(len(problem[2]))
        ]
        positional, named = arguments(problem, True)
        assert_close(
            score_sdr(*positional, **named).e_values, floats(values), rtol=1e-13
        )

    check()


@given(risk_problems(True), st.sampled_from((0.5, 3.0, 1024.0)))
def test_weights_matter_only_up_to_a_factor(problem, factor):
    positional, named = arguments(problem, True)
    scaled = dict(named)
    for name in ("calibration_weights", "test_weights"):
        scaled[name] = named[name] * factor
    for method in (score_mdr, score_sdr):
        left, right = method(*positional, **named), method(*positional, **scaled)
        assert left.selected.tolist() == right.selected.tolist()
        assert_close(left.e_values, right.e_values, rtol=1e-6)


@given(risk_problems(False))
def test_equal_weights_are_no_weights(problem):
    positional, named = arguments(problem, False)
    ones = {
        "calibration_weights": np.ones(len(problem[1])),
        "test_weights": np.ones(len(problem[2])),
    }
    for method in (score_mdr, score_sdr):
        left, right = method(*positional, **named), method(*positional, **named, **ones)
        assert left.selected.tolist() == right.selected.tolist()
        assert_close(left.e_values, right.e_values, rtol=1e-6)


@given(risk_problems(False))
def test_risk_control_sees_only_the_order_of_scores(problem):
    (losses, scores, tests), named = arguments(problem, False)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(len(scores)), rng.permutation(len(tests))
    for method in (score_mdr, score_sdr):
        plain = method(losses, scores, tests, **named)
        moved = method(
            losses[rows], np.exp(scores / 8)[rows], np.exp(tests / 8)[columns], **named
        )
        assert np.asarray(plain.selected)[columns].tolist() == moved.selected.tolist()
        assert_close(np.asarray(plain.e_values)[columns], moved.e_values, rtol=1e-6)


@given(risk_problems(False))
def test_larger_losses_and_lower_levels_never_add_to_mdr(problem):
    (losses, scores, tests), named = arguments(problem, False)
    level = named["level"]
    base = np.asarray(score_mdr(losses, scores, tests, level=level).selected)
    worse = score_mdr(np.minimum(losses + 0.25, 1.0), scores, tests, level=level)
    stricter = score_mdr(losses, scores, tests, level=level / 2)
    assert (np.asarray(worse.selected) <= base).all()
    assert (np.asarray(stricter.selected) <= base).all()


@given(risk_problems(False))
def test_binary_losses_select_within_conformal_selection(problem):
    # Conformal selection is e-BH on the value at loss 1, which bounds the infimum.
    losses, scores, tests, *_, level, _ = problem
    binary = np.array([float(loss > 0) for loss in losses])
    result = score_sdr(binary, floats(scores), floats(tests), level=level)
    clip = np.where(binary > 0, floats(scores), np.inf)
    chosen = select(clip, floats(tests), level=level)
    assert (np.asarray(result.selected) <= np.asarray(chosen.selected)).all()


@given(
    st.sampled_from((1, 2, 3, 8, 17, 64)),
    st.floats(0.01, 0.5),
    st.sampled_from(("dkwm", "simes")),
)
def test_conditional_p_values_are_monotone_and_no_smaller(n, delta, method):
    p = np.arange(1, n + 2) / (n + 1)
    adjusted = np.asarray(conditional_p_values(p, n, method=method, delta=delta))
    bounds = np.asarray(conditional_bounds(n, method=method, delta=delta))
    assert (np.diff(adjusted) >= 0).all() and (np.diff(bounds) >= 0).all()
    assert (bounds >= p * (1 - 1e-6) - 1 / (n + 1)).all() and (bounds <= 1).all()
    # The floor in floating point can only step to the next larger bound.
    assert (adjusted >= bounds * (1 - 1e-6)).all()
    smaller = np.asarray(conditional_bounds(n, method=method, delta=delta / 2))
    assert (smaller >= bounds * (1 - 1e-6)).all()


@st.composite
def score_pairs(draw):
    n, m = draw(st.sampled_from(SHAPES))
    values = st.integers(-3, 12)
    left = draw(st.lists(values, min_size=n, max_size=n))
    right = draw(st.lists(values, min_size=m, max_size=m))
    return np.array(left, float), np.array(right, float)


@given(score_pairs(), st.sampled_from(LEVELS))
def test_outliers_are_selection_with_the_sign_changed(pair, level):
    null, test = pair
    result = detect_outliers(null, test, level=level)
    flipped = select(-null, -test, level=level)
    assert result.selected.tolist() == flipped.selected.tolist()
    ranks = 1 + (null[None, :] >= test[:, None]).sum(1)
    assert_close(result.p_values, ranks / (null.size + 1), rtol=1e-6)


@given(score_pairs(), st.sampled_from(LEVELS), st.sampled_from((0.25, 0.5, 0.8)))
def test_adaptive_outliers_match_exact_rationals(pair, level, cutoff):
    null, test = pair
    n, m = null.size, test.size
    p = [Fraction(1 + int((null >= t).sum()), n + 1) for t in test]
    alpha, bar = Fraction(str(level)), Fraction(str(cutoff))
    share = Fraction(1 + sum(value >= bar for value in p)) / (m * (1 - bar))
    result = detect_outliers(
        null, test, level=level, null_share="storey", cutoff=cutoff
    )
    assert_close(result.null_share, float(share), rtol=1e-6)
    largest = max(
        (
            k
            for k in range(1, m + 1)
            if sum(v <= alpha * k / (share * m) for v in p) >= k
        ),
        default=0,
    )
    expected = [largest > 0 and v <= alpha * largest / (share * m) for v in p]
    assert result.selected.tolist() == expected


@given(score_pairs(), st.sampled_from(LEVELS), st.integers(0, 2**17 - 1))
def test_alignment_threshold_matches_its_definition(pair, level, bits):
    g, g_test = pair
    n, m = g.size, g_test.size
    aligned = np.array([(bits >> i) & 1 for i in range(n)])
    best = None
    for tau in sorted(set(g_test)):
        bad = 1 + int(((aligned == 0) & (g >= tau)).sum())
        estimate = Fraction(bad, n + 1) * m / max(1, int((g_test >= tau).sum()))
        if estimate <= Fraction(str(level)):
            best = (tau, estimate)
            break
    result = align(g, aligned, g_test, level=level)
    if best is None:
        assert not result.selected.any() and np.isinf(result.threshold)
    else:
        assert float(result.threshold) == best[0]
        assert result.selected.tolist() == (g_test >= best[0]).tolist()
        assert_close(result.fdr_estimate, float(best[1]), rtol=1e-6)


@given(score_pairs(), st.sampled_from(LEVELS))
def test_one_condition_is_plain_selection(pair, level):
    calibration, test = pair
    plain = select(calibration, test, level=level).selected.tolist()
    pairs = select_pairs(calibration[None], test[None], level=level)
    assert pairs.selected.tolist() == plain
    holds = calibration > 2
    for how in ("all", "any"):
        scores = combine_conditions(calibration[None], holds[None], test[None], how=how)
        clip = np.where(holds, np.inf, calibration)
        assert_close(scores.calibration, clip.astype(np.float32), rtol=0.0)
        assert_close(scores.test, test.astype(np.float32), rtol=0.0)


@st.composite
def sized_p_values(draw):
    m = draw(st.sampled_from((1, 3, 8)))
    ranks = draw(st.lists(st.integers(1, 20), min_size=m, max_size=m))
    sizes = draw(st.lists(st.integers(1, m), min_size=m, max_size=m))
    return np.array(ranks) / 20, np.array(sizes)


@given(
    sized_p_values(),
    st.sampled_from(LEVELS),
    st.sampled_from((1.0, 0.9, 0.5)),
    st.sampled_from((None, 0.125, 0.5, 1.0)),
)
def test_e_bh_on_e_values_is_pruning(case, level, beta, xi):
    p, sizes = case
    e = e_values(p, sizes, level, beta)
    if xi is None:
        expected = prune(p, sizes, level=level, beta=beta, pruning="deterministic")
    else:
        expected = prune(p, sizes, level=level, beta=beta, pruning="homogeneous", xi=xi)
        e = boost_e_values(e, xi=xi)
    assert stats.e_bh(e, level).tolist() == expected.tolist()


@given(sized_p_values(), st.sampled_from(LEVELS), st.sampled_from((1, 2, 5)))
def test_averaging_equal_runs_changes_nothing(case, level, copies):
    p, sizes = case
    e = np.asarray(e_values(p, sizes, level))
    result = derandomize(np.tile(e, (copies, 1)), level=level)
    assert_close(result.e_values, e, rtol=1e-6)
    assert result.selected.tolist() == stats.e_bh(e, level).tolist()


@given(risk_problems(False))
def test_vmap_over_levels_is_a_loop(problem):
    (losses, scores, tests), _ = arguments(problem, False)
    levels = jnp.array([0.1, 0.2, 0.5], jnp.float32)
    for method in (score_mdr, score_sdr):
        many = jax.vmap(lambda a, f=method: f(losses, scores, tests, level=a))(levels)
        for i, level in enumerate((0.1, 0.2, 0.5)):
            one = method(losses, scores, tests, level=level)
            assert many.selected[i].tolist() == one.selected.tolist()
            assert_close(many.e_values[i], one.e_values, rtol=1e-6)

"""Relations that hold for every input of the selection functions."""

from fractions import Fraction

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from jaxcur import conformal, stats

# A ladder of sizes: every new shape costs a compilation.
SIZES = st.sampled_from([(1, 1), (3, 8), (8, 3), (17, 17)])
LEVELS = st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])
FLOATS = st.floats(-100, 100, width=32)
TIED = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0])


@st.composite
def worlds(draw, special: bool = False):
    n, m = draw(SIZES)
    elements = draw(st.sampled_from([FLOATS, TIED]))
    if special:
        elements = st.one_of(elements, st.sampled_from([np.inf, -np.inf, np.nan]))
    scores = draw(hnp.arrays(np.float32, n, elements=elements))
    tests = draw(hnp.arrays(np.float32, m, elements=elements))
    return scores, tests


def weights(shape: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(0, 4, shape)
    drawn[0] += 1
    return drawn


def exact_selection(scores, tests, level) -> np.ndarray:
    """BH on deterministic p-values in rational arithmetic, by the definition."""
    n, m = scores.size, tests.size
    clean = np.where(np.isnan(scores), -np.inf, scores)
    p = [
        Fraction(1) if np.isnan(t) else Fraction(1 + int(np.sum(clean <= t)), n + 1)
        for t in tests
    ]
    alpha = Fraction(str(level))
    passed = [k for k in range(1, m + 1) if sum(x <= alpha * k / m for x in p) >= k]
    bar = alpha * passed[-1] / m if passed else Fraction(-1)
    return np.asarray([x <= bar for x in p]) & ~np.isnan(tests)


def exact_sizes(scores, tests, w, w_test, level, strict) -> list[int]:
    """Auxiliary sizes by the definition, one candidate and one comparison at a time."""
    m = tests.size
    alpha = Fraction(str(level))

    def before(a, b):
        return a < b if strict else a <= b

    sizes = []
    for j in range(m):
        total = int(w.sum() + w_test[j])
        p = [
            Fraction(
                int(sum(wi for wi, v in zip(w, scores) if before(v, tests[i])))
                + int(w_test[j]) * before(tests[j], tests[i]),
                total,
            )
            for i in range(m)
        ]
        p[j] = Fraction(0)
        sizes.append(
            max(k for k in range(m + 1) if sum(x <= alpha * k / m for x in p) >= k)
        )
    return sizes


@given(worlds(special=True), LEVELS)
def test_selection_equals_the_definition_in_exact_arithmetic(world, level):
    scores, tests = world
    result = conformal.select(scores, tests, level=level)
    assert (np.asarray(result.selected) == exact_selection(scores, tests, level)).all()
    if not np.isnan(tests).any():
        below = np.asarray(result.p_values <= result.threshold)
        assert (below == np.asarray(result.selected)).all()


@given(worlds(special=True), LEVELS)
def test_streamed_selection_equals_selection(world, level):
    scores, tests = world
    state = conformal.RankHistogram.init(scores).update(tests)
    result = conformal.select(scores, tests, level=level)
    assert (np.asarray(state.select(tests, level)) == np.asarray(result.selected)).all()


@given(worlds(), LEVELS, st.booleans())
def test_auxiliary_sizes_equal_brute_force(world, level, strict):
    scores, tests = world
    ones, ones_test = np.ones(scores.size, int), np.ones(tests.size, int)
    expected = exact_sizes(scores, tests, ones, ones_test, level, strict)
    found = conformal.auxiliary_sizes(scores, tests, level=level, strict=strict)
    assert np.asarray(found).tolist() == expected


@given(worlds(), LEVELS, st.booleans(), st.integers(0, 99))
def test_weighted_auxiliary_sizes_equal_brute_force(world, level, strict, seed):
    scores, tests = world
    w, w_test = weights(scores.size, seed), weights(tests.size, seed + 100)
    found = conformal.auxiliary_sizes(
        scores,
        tests,
        level=level,
        strict=strict,
        calibration_weights=w,
        test_weights=w_test,
    )
    expected = exact_sizes(scores, tests, w, w_test, level, strict)
    assert np.asarray(found).tolist() == expected


@given(worlds(), LEVELS, st.sampled_from([0.3, 1.0, 7.0]))
def test_equal_weights_change_nothing(world, level, scale):
    scores, tests = world
    equal = {
        "calibration_weights": np.full(scores.size, scale, np.float32),
        "test_weights": np.full(tests.size, scale, np.float32),
    }
    plain = conformal.p_values(scores, tests)
    weighted = conformal.p_values(scores, tests, **equal)
    np.testing.assert_allclose(weighted, plain, rtol=1e-6)
    sizes = conformal.auxiliary_sizes(scores, tests, level=level)
    same = conformal.auxiliary_sizes(scores, tests, level=level, **equal)
    assert (np.asarray(sizes) == np.asarray(same)).all()


@given(worlds(), LEVELS)
def test_one_model_pruned_is_benjamini_hochberg(world, level):
    """With one model, deterministic p-values and <=, every pruning gives the BH set."""
    scores, tests = world
    p = conformal.p_values(scores, tests)
    sizes = conformal.auxiliary_sizes(scores, tests, level=level)
    expected = np.asarray(conformal.select(scores, tests, level=level).selected)
    for xi in (1.0, 0.37):
        found = conformal.prune(p, sizes, level=level, pruning="homogeneous", xi=xi)
        assert (np.asarray(found) == expected).all()


@given(worlds(), LEVELS, st.integers(0, 99))
def test_weights_on_another_scale_change_nothing(world, level, seed):
    scores, tests = world
    w, w_test = weights(scores.size, seed), weights(tests.size, seed + 1)
    result = [
        conformal.select(
            scores,
            tests,
            level=level,
            calibration_weights=scale * w,
            test_weights=scale * w_test,
            xi=0.6,
        )
        for scale in (1, 0.125)
    ]
    assert (np.asarray(result[0].selected) == np.asarray(result[1].selected)).all()
    np.testing.assert_allclose(result[0].p_values, result[1].p_values, rtol=1e-6)


@given(worlds(), LEVELS, st.integers(0, 99))
def test_order_and_monotone_transforms(world, level, seed):
    scores, tests = world
    rng = np.random.default_rng(seed)
    base = np.asarray(conformal.select(scores, tests, level=level).selected)
    order = rng.permutation(tests.size)
    shuffled = conformal.select(rng.permutation(scores), tests[order], level=level)
    assert (np.asarray(shuffled.selected) == base[order]).all()
    # Replace every score by the cube of its place among the distinct values.
    joint = np.concatenate([scores, tests]) + 0.0
    values = np.unique(joint, return_inverse=True)[1].astype(np.float32) ** 3
    moved = conformal.select(values[: scores.size], values[scores.size :], level=level)
    assert (np.asarray(moved.selected) == base).all()


@given(worlds(), LEVELS, LEVELS)
def test_selected_sets_grow_with_the_level(world, one, other):
    scores, tests = world
    low, high = sorted((one, other))
    small = np.asarray(conformal.select(scores, tests, level=low).selected)
    large = np.asarray(conformal.select(scores, tests, level=high).selected)
    assert (large | ~small).all()


@given(worlds(), st.integers(0, 99))
def test_p_values_lie_on_their_grid(world, seed):
    scores, tests = world
    p = np.asarray(conformal.p_values(scores, tests), float)
    ranks = p * (scores.size + 1)
    np.testing.assert_allclose(ranks, np.round(ranks), atol=1e-4)
    assert (p > 0).all() and (p <= 1).all()
    uniforms = 1 - np.random.default_rng(seed).uniform(size=tests.size)
    drawn = np.asarray(conformal.p_values(scores, tests, uniforms=uniforms))
    assert (drawn <= p + 1e-6).all() and (drawn > 0).all()


@given(hnp.arrays(np.float32, 17, elements=st.floats(0, 1, width=32)), LEVELS)
def test_bh_agrees_with_adjusted_p_values(p, level):
    found = np.asarray(stats.benjamini_hochberg(p, level))
    adjusted = np.asarray(stats.adjust_p_values(p))
    # XLA flushes subnormal numbers (below 1.2e-38) to zero.
    assert (adjusted >= p - np.finfo(np.float32).tiny).all()
    # Away from exact equality the two must say the same; at it, rounding may differ.
    clear = np.abs(adjusted - level) > 1e-5 * level
    assert ((adjusted <= level) == found)[clear].all()

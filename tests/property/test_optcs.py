"""Relations that hold for every input of OptCS."""

from fractions import Fraction

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import numpy as np
from hypothesis import assume, given

from jaxcur import conformal, stats

# A ladder of sizes (K, n, m): every new shape costs a compilation.
SIZES = st.sampled_from([(1, 1, 1), (2, 17, 8), (4, 3, 17)])
LEVELS = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])
BETAS = st.sampled_from([1.0, 0.9, 0.75, 0.5])
# Multiples of 1/16 make xi * R exact, so that a tie of the mathematics is one here.
XI = st.integers(1, 16).map(lambda k: k / 16)
FLOATS = st.floats(-100, 100, width=32)
TIED = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0])
SPECIAL = st.one_of(TIED, st.sampled_from([np.inf, -np.inf, np.nan]))


@st.composite
def worlds(draw, elements=None, sizes=SIZES):
    num_models, n, m = draw(sizes)
    if elements is None:
        elements = draw(st.sampled_from([FLOATS, TIED]))
    scores = draw(hnp.arrays(np.float32, (num_models, n), elements=elements))
    tests = draw(hnp.arrays(np.float32, (num_models, m), elements=elements))
    return scores, tests


def run(world, level, pruning="deterministic", **options):
    return conformal.optcs_msel(*world, level=level, pruning=pruning, **options)


def mask(array) -> np.ndarray:
    return np.asarray(array)


def is_subset(small, large) -> bool:
    return bool((mask(large) | ~mask(small)).all())


def exact(scores, tests, level, beta, xi):
    """First step and selection by the definition, in exact arithmetic."""
    num_models, n = scores.shape
    m = tests.shape[1]
    level, beta = Fraction(str(level)), Fraction(str(beta))
    best = [(0, None)] * m
    for v, t in zip(scores, tests):
        below = [int(np.sum(v <= x)) for x in t]
        for j in range(m):
            auxiliary = sorted(
                Fraction(0 if i == j else below[i] + int(t[j] <= t[i]), n + 1)
                for i in range(m)
            )
            size = max(
                r
                for r in range(1, m + 1)
                if r == 1 or auxiliary[r - 1] <= level * r / m
            )
            if size > best[j][0]:
                best[j] = (size, Fraction(below[j] + 1, n + 1))
    first = [p <= beta * level * size / m for size, p in best]
    if level == 0:
        first = [False] * m
    work = [beta * Fraction(x) * size for x, (size, _) in zip(xi, best)]
    inside = [w for w, passed in zip(work, first) if passed]
    cut = max(
        (r for r in range(1, m + 1) if sum(w <= r for w in inside) >= r), default=0
    )
    return first, [passed and w <= cut for w, passed in zip(work, first)]


@given(worlds(), LEVELS, BETAS, st.data())
def test_selection_equals_the_definition(world, level, beta, data):
    m = world[1].shape[1]
    xi = data.draw(st.lists(XI, min_size=m, max_size=m))
    result = run(world, level, "heterogeneous", xi=np.asarray(xi), beta=beta)
    first, selected = exact(*world, level, beta, xi)
    assert mask(result.first_step).tolist() == first
    assert mask(result.selected).tolist() == selected


@given(worlds(SPECIAL), LEVELS, BETAS, XI)
def test_prunings_are_nested(world, level, beta, shared):
    """Deterministic within each randomised one, all within the first step."""
    m = world[1].shape[1]
    each = (np.arange(m) % 7 + 1) / 7
    dtm = run(world, level, beta=beta)
    homo = run(world, level, "homogeneous", xi=shared, beta=beta)
    hete = run(world, level, "heterogeneous", xi=each, beta=beta)
    assert is_subset(dtm.selected, homo.selected)
    assert is_subset(dtm.selected, hete.selected)
    for result in (dtm, homo, hete):
        assert is_subset(result.selected, dtm.first_step)
        assert (mask(result.first_step) == mask(dtm.first_step)).all()


@given(worlds(), LEVELS, XI, XI)
def test_a_smaller_shared_draw_selects_no_less(world, level, one, other):
    low, high = sorted((one, other))
    more = run(world, level, "homogeneous", xi=low)
    less = run(world, level, "homogeneous", xi=high)
    assert is_subset(less.selected, more.selected)


@given(worlds(SPECIAL), LEVELS, XI)
def test_one_model_is_benjamini_hochberg_for_every_pruning(world, level, shared):
    scores, tests = world
    # At level 1 alone a candidate without a score counts as rejected in the sizes of
    # the others (its p-value is 1), although it is never selected.
    assume(level < 1 or not np.isnan(tests).any())
    expected = conformal.select(scores[0], tests[0], level=level).selected
    m = tests.shape[1]
    for pruning, xi in (
        ("deterministic", None),
        ("homogeneous", shared),
        ("heterogeneous", (np.arange(m) % 5 + 1) / 5),
    ):
        result = run((scores[:1], tests[:1]), level, pruning, xi=xi)
        assert (mask(result.selected) == mask(expected)).all()
        assert (mask(result.first_step) == mask(expected)).all()


@given(worlds(SPECIAL), LEVELS, st.integers(0, 99))
def test_order_of_candidates_and_of_calibration_rows(world, level, seed):
    scores, tests = world
    rng = np.random.default_rng(seed)
    order = rng.permutation(tests.shape[1])
    xi = rng.integers(1, 17, tests.shape[1]) / 16
    base = run(world, level, "heterogeneous", xi=xi)
    # Only the set of scores of a model matters: every model gets an order of its own.
    shuffled = (rng.permuted(scores, axis=1), tests[:, order])
    other = run(shuffled, level, "heterogeneous", xi=xi[order])
    for name in (
        *("selected", "first_step", "p_values", "auxiliary_sizes"),
        *("chosen_model", "e_values"),
    ):
        left, right = getattr(other, name), getattr(base, name)
        assert (mask(left) == mask(right)[order]).all(), name
    assert int(other.status) == int(base.status)


@given(worlds(), LEVELS, st.integers(0, 99))
def test_order_of_models(world, level, seed):
    """Sizes do not depend on it, nor does anything where no two models tie."""
    scores, tests = world
    order = np.random.default_rng(seed).permutation(len(scores))
    base, other = run(world, level), run((scores[order], tests[order]), level)
    assert (mask(base.auxiliary_sizes) == mask(other.auxiliary_sizes)).all()
    sizes = np.stack(
        [conformal.auxiliary_sizes(v, t, level=level) for v, t in zip(scores, tests)]
    )
    assert (sizes.max(axis=0) == mask(base.auxiliary_sizes)).all()
    assert (sizes.argmax(axis=0) == mask(base.chosen_model)).all()
    is_alone = (sizes == sizes.max(axis=0)).sum(axis=0) == 1
    for name in ("p_values", "first_step"):
        left, right = mask(getattr(base, name)), mask(getattr(other, name))
        assert (left == right)[is_alone].all()
    back = order[mask(other.chosen_model)]
    assert (back == mask(base.chosen_model))[is_alone].all()


@given(worlds(SPECIAL), LEVELS, XI)
def test_a_duplicated_model_changes_nothing(world, level, shared):
    scores, tests = world
    base = run(world, level, "homogeneous", xi=shared)
    twice = (np.concatenate([scores] * 2), np.concatenate([tests] * 2))
    other = run(twice, level, "homogeneous", xi=shared)
    for left, right in zip(jax.tree.leaves(base), jax.tree.leaves(other)):
        assert (mask(left) == mask(right)).all()


@given(worlds(), LEVELS)
def test_one_more_model_never_lowers_a_size(world, level):
    scores, tests = world
    fewer = run((scores[:1], tests[:1]), level).auxiliary_sizes
    more = run(world, level).auxiliary_sizes
    assert (mask(more) >= mask(fewer)).all()
    m = tests.shape[1]
    assert (1 <= mask(fewer)).all() and (mask(more) <= m).all()


@given(worlds(), LEVELS, XI)
def test_increasing_maps_of_a_model_change_nothing(world, level, shared):
    """Models on scales of their own: only the order within a model matters."""
    scores, tests = world
    n = scores.shape[1]
    moved = np.empty((len(scores), n + tests.shape[1]), np.float32)
    for k, joint in enumerate(np.concatenate([scores, tests], axis=1) + 0.0):
        place = np.unique(joint, return_inverse=True)[1]
        moved[k] = (place + 1.0) ** (k % 3 + 1) - 7 * k
    base = run(world, level, "homogeneous", xi=shared)
    other = run((moved[:, :n], moved[:, n:]), level, "homogeneous", xi=shared)
    for left, right in zip(jax.tree.leaves(base), jax.tree.leaves(other)):
        assert (mask(left) == mask(right)).all()


# One size, because the programs for float64 are compiled for this test alone.
@given(worlds(sizes=st.just((2, 17, 8))), LEVELS, BETAS, st.integers(0, 99))
def test_pruning_is_e_bh_on_boosted_e_values(world, level, beta, seed):
    m = world[1].shape[1]
    xi = np.random.default_rng(seed).integers(1, 17, m) / 16
    with jax.enable_x64(True):
        scores, tests = (side.astype(np.float64) for side in world)
        for pruning, draw in (
            ("deterministic", np.ones(m)),
            ("homogeneous", np.full(m, xi[0])),
            ("heterogeneous", xi),
        ):
            result = run((scores, tests), level, pruning, beta=beta, xi=draw)
            e_values = np.asarray(result.e_values) / draw
            expected = stats.e_bh(e_values, level)
            assert (mask(result.selected) == mask(expected)).all()


@given(worlds(), LEVELS, BETAS, XI)
def test_selection_is_prune_on_p_values_and_sizes(world, level, beta, shared):
    result = run(world, level, "homogeneous", beta=beta, xi=shared)
    again = conformal.prune(
        result.p_values,
        result.auxiliary_sizes,
        level=level,
        pruning="homogeneous",
        beta=beta,
        xi=shared,
    )
    assert (mask(result.selected) == mask(again)).all()


@given(worlds(), LEVELS, BETAS)
def test_e_values_mark_the_first_step(world, level, beta):
    result = run(world, level, beta=beta)
    e_values, first = mask(result.e_values), mask(result.first_step)
    assert (first == (e_values > 0)).all()
    assert np.isfinite(e_values).all()
    m = world[1].shape[1]
    scaled = e_values * beta * level * mask(result.auxiliary_sizes)
    np.testing.assert_allclose(scaled[first], m, rtol=1e-5)
    # In the first step p <= 1 / e.
    p = mask(result.p_values)[first]
    assert (p * e_values[first] <= 1 + 1e-5).all()


@given(worlds(), LEVELS)
def test_bh_after_optcs_and_the_naive_choice_are_what_they_say(world, level):
    scores, tests = world
    n, m = scores.shape[1], tests.shape[1]
    result = run(world, level)
    p = [Fraction(round(x * (n + 1)), n + 1) for x in mask(result.p_values).tolist()]
    alpha = Fraction(str(level))
    passed = [k for k in range(1, m + 1) if sum(x <= alpha * k / m for x in p) >= k]
    expected = [bool(passed) and x <= alpha * passed[-1] / m for x in p]
    assert mask(conformal.bh_after_optcs(result)).tolist() == expected
    sets = [
        mask(conformal.select(v, t, level=level).selected)
        for v, t in zip(scores, tests)
    ]
    largest = max(range(len(sets)), key=lambda k: (sets[k].sum(), -k))
    naive = conformal.naive_best_of_k(scores, tests, level=level)
    assert (mask(naive) == sets[largest]).all()

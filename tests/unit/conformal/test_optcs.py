"""OptCS with several models: cases by hand, edges, errors."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import conformal
from tests.helpers import assert_close

PRUNINGS = ("homogeneous", "heterogeneous", "deterministic")
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 19)).astype(np.float32)
TESTS = (RNG.normal(size=(3, 6)) - 1.5).astype(np.float32)


def chosen(mask) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def whole(array) -> list[int]:
    return np.asarray(array).tolist()


def optcs(scores, tests, level, **options):
    options = {"pruning": "deterministic", **options}
    return conformal.optcs_msel(scores, tests, level=level, **options)


def by_definition(scores, tests, level, xi=1, beta=1):
    """The procedure as it is defined, in exact arithmetic, one candidate at a time."""
    num_models, n = scores.shape
    m = tests.shape[1]
    level, beta = Fraction(str(level)), Fraction(str(beta))
    xi = [Fraction(float(x)) for x in np.broadcast_to(xi, m)]
    sizes = np.zeros((num_models, m), int)
    ranks = np.zeros((num_models, m), int)
    for k in range(num_models):
        for j in range(m):
            bag = np.append(scores[k], tests[k, j])
            p = [Fraction(int(np.sum(bag <= t)), n + 1) for t in tests[k]]
            ranks[k, j] = p[j] * (n + 1)
            p[j] = Fraction(0)
            accepted = [
                r for r in range(1, m + 1) if sum(x <= level * r / m for x in p) >= r
            ]
            sizes[k, j] = max(accepted)
    model = sizes.argmax(axis=0)
    best = sizes.max(axis=0)
    first, weights = [], []
    for j in range(m):
        p = Fraction(int(ranks[model[j], j]), n + 1)
        first.append(p <= beta * level * int(best[j]) / m)
        weights.append(beta * xi[j] * int(best[j]))
    inside = [w for w, passed in zip(weights, first) if passed]
    cut = max(
        (r for r in range(1, m + 1) if sum(w <= r for w in inside) >= r), default=0
    )
    selected = [passed and w <= cut for w, passed in zip(weights, first)]
    return model.tolist(), best.tolist(), first, selected


def test_two_models_by_hand():
    # Model 0, n = 4: t = (0.5, 2.5) has ranks 1 and 3. Model 1: t = (0.4, 0.3), ranks
    # 1 and 1. Level 1/2, m = 2: a p-value passes at r = 1 up to rank 1 (0.5 * 5 / 2),
    # at r = 2 up to rank 2.
    # Model 0, candidate 0 in the bag: the other has rank 4 of 5, so R = 1. Candidate 1
    # in the bag: the other keeps rank 0 + 0 (1 is not below 0.5), so R = 2.
    # Model 1, candidate 0 in the bag: the other, smaller, has rank 0: R = 2; candidate
    # 1 in the bag: the other gains one, rank 1 <= 2: R = 2.
    calibration = [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]
    test = [[0.5, 2.5], [0.4, 0.3]]
    per_model = [
        whole(conformal.auxiliary_sizes(v, t, level=0.5))
        for v, t in zip(calibration, test)
    ]
    assert per_model == [[1, 2], [2, 2]]
    result = optcs(calibration, test, 0.5)
    # Candidate 1 is a tie between the models, which goes to model 0: rank 3 there, not
    # at most 2.
    assert whole(result.chosen_model) == [1, 0]
    assert whole(result.auxiliary_sizes) == [2, 2]
    assert_close(result.p_values, np.asarray([0.2, 0.6], np.float32), rtol=1e-6)
    assert chosen(result.first_step) == [0]
    # One candidate with R = 2: #{R <= 1} = 0, #{R <= 2} = 1 < 2, nothing remains.
    assert chosen(result.selected) == []
    assert_close(result.e_values, np.asarray([2.0, 0.0], np.float32), rtol=1e-6)
    # A draw of at most 1/2 brings xi * R down to 1.
    assert chosen(optcs(calibration, test, 0.5, pruning="homogeneous", xi=0.5).selected)
    assert not chosen(
        optcs(calibration, test, 0.5, pruning="homogeneous", xi=0.51).selected
    )


@pytest.mark.parametrize("beta", [1.0, 0.9, 0.6, 0.5])
@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 1.0])
def test_every_output_equals_the_definition(level, beta):
    rng = np.random.default_rng(int(100 * level))
    for ties in (False, True):
        scores = rng.normal(size=(3, 19))
        tests = rng.normal(size=(3, 6)) - 1
        if ties:
            scores, tests = np.round(scores), np.round(tests)
        # Multiples of 1/16: exact in floating point, so that ties are ties.
        xi = rng.integers(1, 17, 6) / 16
        for pruning, draw in (
            ("deterministic", 1),
            ("heterogeneous", xi),
            ("homogeneous", xi[0]),
        ):
            model, sizes, first, selected = by_definition(
                scores.astype(np.float32), tests.astype(np.float32), level, draw, beta
            )
            result = conformal.optcs_msel(
                scores, tests, level=level, beta=beta, pruning=pruning, xi=draw
            )
            assert whole(result.chosen_model) == model
            assert whole(result.auxiliary_sizes) == sizes
            assert whole(result.first_step) == first
            assert whole(result.selected) == selected


def test_pruning_with_beta_keeps_an_exact_tie():
    # Level 1: every size is m = 5 and beta * R = 0.6 * 5 = 3 exactly, while float32
    # holds a number above 0.6. Three candidates have p <= 0.6.
    scores = np.arange(1.0, 10.0)[None]
    tests = np.asarray([[0.5, 0.6, 0.7, 8.5, 8.6]])
    result = optcs(scores, tests, 1.0, beta=0.6)
    assert whole(result.auxiliary_sizes) == [5] * 5
    assert chosen(result.first_step) == [0, 1, 2]
    assert chosen(result.selected) == [0, 1, 2]
    same = conformal.prune(
        result.p_values,
        result.auxiliary_sizes,
        level=1.0,
        beta=0.6,
        pruning="deterministic",
    )
    assert whole(result.selected) == whole(same)


def test_ties_between_models_go_to_the_lowest_index():
    result = optcs(np.stack([SCORES[0]] * 3), np.stack([TESTS[0]] * 3), 0.3)
    assert whole(result.chosen_model) == [0] * 6


def test_the_model_that_promises_more_is_chosen():
    good, bad = np.arange(19.0), np.arange(19.0)
    calibration = np.stack([bad, good])
    test = np.stack([np.full(6, 10.5), np.full(6, -1.0)])
    result = optcs(calibration, test, 0.2)
    assert whole(result.chosen_model) == [1] * 6
    assert chosen(result.selected) == list(range(6))


@pytest.mark.parametrize("pruning", PRUNINGS)
@pytest.mark.parametrize("level", [0.1, 0.35, 0.5])
def test_one_model_is_benjamini_hochberg(pruning, level):
    for scores, tests in zip(SCORES, TESTS):
        expected = conformal.select(scores, tests, level=level)
        result = conformal.optcs_msel(
            scores[None], tests[None], level=level, pruning=pruning, xi=0.7
        )
        assert whole(result.selected) == whole(expected.selected)
        assert whole(result.first_step) == whole(expected.selected)
        assert_close(result.p_values, expected.p_values, rtol=1e-6)


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_level_zero_selects_nothing_and_level_one_everything(pruning):
    nothing = optcs(SCORES, TESTS, 0.0, pruning=pruning, xi=1e-6)
    assert chosen(nothing.selected) == chosen(nothing.first_step) == []
    assert whole(nothing.e_values) == [0.0] * 6
    # Sizes stay what they are: auxiliary p-values can be 0.
    assert whole(nothing.auxiliary_sizes) == by_definition(SCORES, TESTS, 0)[1]
    everything = optcs(SCORES, TESTS, 1.0, pruning=pruning, xi=1.0)
    assert chosen(everything.selected) == list(range(6))
    assert whole(everything.auxiliary_sizes) == [6] * 6
    assert_close(everything.e_values, np.ones(6, np.float32), rtol=1e-6)


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_no_candidates(pruning):
    result = optcs(SCORES, np.zeros((3, 0)), 0.2, pruning=pruning, xi=np.ones(0))
    for leaf in (result.selected, result.p_values, result.chosen_model):
        assert leaf.shape == (0,)
    assert result.auxiliary_sizes.shape == result.e_values.shape == (0,)
    assert int(result.num_selected) == 0
    assert result.message == "ok"


def test_no_calibration_rows():
    none = np.zeros((3, 0))
    assert whole(optcs(none, TESTS, 0.9).p_values) == [1.0] * 6
    assert chosen(optcs(none, TESTS, 0.9).selected) == []
    assert chosen(optcs(none, TESTS, 1.0).selected) == list(range(6))


def test_one_candidate_has_size_one():
    result = optcs(SCORES, TESTS[:, :1], 0.3)
    assert whole(result.auxiliary_sizes) == [1]
    assert whole(result.chosen_model) == [0]


def test_all_scores_equal_give_p_value_one():
    result = optcs(np.zeros((2, 9)), np.zeros((2, 4)), 0.5)
    assert whole(result.p_values) == [1.0] * 4
    assert chosen(result.selected) == []


def test_signed_zeros_tie():
    one = optcs([[0.0, 1.0, 2.0]], [[-0.0, -1.0]], 0.5)
    other = optcs([[-0.0, 1.0, 2.0]], [[0.0, -1.0]], 0.5)
    assert whole(one.p_values) == whole(other.p_values) == [0.5, 0.25]


def test_infinite_scores():
    scores = np.asarray([[1.0, np.inf, np.inf]])
    result = optcs(scores, [[np.inf, -np.inf, 5.0]], 0.9)
    assert whole(result.p_values) == [1.0, 0.25, 0.5]
    assert result.message == "ok"


@pytest.mark.parametrize("level", [0.4, 1.0])
def test_nan_candidate_has_p_value_one_and_is_never_selected(level):
    tests = TESTS.copy()
    tests[:, 2] = np.nan
    result = optcs(SCORES, tests, level, pruning="homogeneous", xi=0.01)
    assert float(result.p_values[2]) == 1.0
    assert not bool(result.selected[2]) and not bool(result.first_step[2])
    assert float(result.e_values[2]) == 0.0
    assert "test scores are NaN" in result.message
    # The others are as if its score were +inf.
    tests[:, 2] = np.inf
    expected = optcs(SCORES, tests, level, pruning="homogeneous", xi=0.01)
    others = [0, 1, 3, 4, 5]
    assert whole(result.first_step[np.asarray(others)]) == whole(
        expected.first_step[np.asarray(others)]
    )


def test_nan_in_calibration_counts_as_minus_infinity():
    scores, minus = SCORES.copy(), SCORES.copy()
    scores[:, 4], minus[:, 4] = np.nan, -np.inf
    result, expected = optcs(scores, TESTS, 0.5), optcs(minus, TESTS, 0.5)
    assert whole(result.p_values) == whole(expected.p_values)
    assert whole(result.auxiliary_sizes) == whole(expected.auxiliary_sizes)
    assert whole(result.selected) == whole(expected.selected)
    assert "calibration scores are NaN" in result.message
    assert expected.message == "ok"


def test_a_level_out_of_reach_is_reported():
    # 19 rows: no p-value is below 1/20.
    result = optcs(SCORES, np.full((3, 6), -99.0), 0.049)
    assert chosen(result.selected) == []
    assert "below 1/(n + 1)" in result.message
    assert optcs(SCORES, TESTS, 0.05).message == "ok"


def test_a_traced_level_outside_the_unit_interval_is_reported():
    sweep = jax.jit(lambda a: optcs(SCORES, TESTS, a))
    for level in (-0.1, 1.5, np.nan, np.inf):
        result = sweep(level)
        assert chosen(result.selected) == chosen(result.first_step) == []
        assert result.message == "level is not in [0, 1]: nothing is selected"
        assert whole(result.e_values) == [0.0] * 6


@pytest.mark.parametrize("beta", [1.0, 0.9, 0.6])
def test_a_traced_level_and_beta_select_the_same(beta):
    program = jax.jit(lambda a, b: optcs(SCORES, TESTS, a, beta=b))
    for level in (0.05, 0.1, 0.15, 0.3, 0.45, 0.6, 1.0):
        traced = program(level, beta)
        given = optcs(SCORES, TESTS, level, beta=beta)
        for name in ("selected", "first_step", "auxiliary_sizes", "chosen_model"):
            assert whole(getattr(traced, name)) == whole(getattr(given, name)), name


def test_a_full_first_step_can_prune_to_nothing():
    calibration = [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]
    result = optcs(calibration, [[0.5, 2.5], [0.4, 0.3]], 0.5)
    assert chosen(result.first_step) == [0] and chosen(result.selected) == []
    # That is the procedure, and nothing to report.
    assert result.message == "ok"


@pytest.mark.parametrize("pruning", ["homogeneous", "heterogeneous"])
def test_key_and_draw(pruning):
    key = jax.random.key(3)
    first = optcs(SCORES, TESTS, 0.4, pruning=pruning, key=key)
    again = optcs(SCORES, TESTS, 0.4, pruning=pruning, key=key)
    assert whole(first.selected) == whole(again.selected)
    shape = () if pruning == "homogeneous" else (6,)
    xi = 1 - jax.random.uniform(key, shape)
    replayed = optcs(SCORES, TESTS, 0.4, pruning=pruning, xi=xi)
    assert whole(first.selected) == whole(replayed.selected)
    with pytest.raises(ValueError, match=f"{pruning} pruning is randomised"):
        optcs(SCORES, TESTS, 0.4, pruning=pruning)
    with pytest.raises(ValueError, match="`key` or `xi`, not both"):
        optcs(SCORES, TESTS, 0.4, pruning=pruning, key=key, xi=0.5)
    with pytest.raises(ValueError, match=r"`xi` must be a scalar or have shape \(6,\)"):
        optcs(SCORES, TESTS, 0.4, pruning=pruning, xi=np.ones(5))


def test_different_keys_differ():
    # Level 0.4 is one where the draw matters: some candidate is in for one key only.
    masks = {
        tuple(
            whole(
                optcs(
                    SCORES, TESTS, 0.4, pruning="homogeneous", key=jax.random.key(s)
                ).selected
            )
        )
        for s in range(20)
    }
    assert len(masks) > 1


def test_deterministic_pruning_needs_no_draw_and_ignores_one():
    plain = optcs(SCORES, TESTS, 0.4)
    for extra in ({"key": jax.random.key(0)}, {"xi": 0.2}):
        assert whole(optcs(SCORES, TESTS, 0.4, **extra).selected) == whole(
            plain.selected
        )


@pytest.mark.parametrize("xi", [np.nan, -1.0, 0.0, 1.5])
def test_a_draw_outside_the_unit_interval_is_refused(xi):
    """A draw that is NaN or not positive would select without regard to the sizes."""
    with pytest.raises(ValueError, match="`xi`"):
        optcs(SCORES, TESTS, 0.4, pruning="homogeneous", xi=xi)


@pytest.mark.parametrize(
    ("scores", "tests", "options", "message"),
    [
        (SCORES[0], TESTS, {}, r"`calibration_scores` must have shape \(K, n\)"),
        (SCORES, TESTS[0], {}, r"`test_scores` must have shape \(K, m\)"),
        (SCORES[:2], TESTS, {}, "one row per model, got 2 and 3 models"),
        (SCORES[:0], TESTS[:0], {}, "one row per model, got 0 and 0 models"),
        (SCORES, TESTS, {"level": 1.1}, r"`level` must lie in \[0, 1\], got 1.1"),
        (SCORES, TESTS, {"level": -0.1}, r"`level` must lie in \[0, 1\]"),
        (SCORES, TESTS, {"level": float("nan")}, r"`level` must lie in \[0, 1\]"),
        (SCORES, TESTS, {"level": [0.1, 0.2]}, "`level` must be a scalar"),
        (SCORES, TESTS, {"beta": 0.0}, r"`beta` must lie in \(0, 1\]"),
        (SCORES, TESTS, {"beta": 1.2}, r"`beta` must lie in \(0, 1\]"),
        (SCORES, TESTS, {"pruning": "none"}, "`pruning` must be one of 'homogeneous'"),
    ],
)
def test_bad_input_names_the_argument(scores, tests, options, message):
    options = {"level": 0.3, **options}
    with pytest.raises(ValueError, match=message):
        optcs(scores, tests, **options)


def test_text_is_no_score():
    with pytest.raises(TypeError, match="`calibration_scores` must hold real numbers"):
        optcs([["a"]], [[1.0]], 0.3)


def test_integers_are_promoted():
    result = optcs(np.arange(18).reshape(2, 9), np.asarray([[-1, 4], [0, 3]]), 0.5)
    assert result.p_values.dtype == result.e_values.dtype == jnp.float32
    assert result.chosen_model.dtype == result.auxiliary_sizes.dtype == jnp.int32


def test_e_values_are_the_size_upside_down():
    for beta in (1.0, 0.5):
        result = optcs(SCORES, TESTS, 0.5, beta=beta)
        expected = np.where(
            result.first_step, 6 / (beta * 0.5 * np.asarray(result.auxiliary_sizes)), 0
        )
        assert_close(result.e_values, expected.astype(np.float32), rtol=1e-6)
        assert bool(result.first_step.any())


def test_naive_best_of_k_is_the_largest_selection():
    level = 0.4
    each = [
        np.asarray(conformal.select(v, t, level=level).selected)
        for v, t in zip(SCORES, TESTS)
    ]
    counts = [mask.sum() for mask in each]
    found = conformal.naive_best_of_k(SCORES, TESTS, level=level)
    assert whole(found) == whole(each[int(np.argmax(counts))])
    assert len(set(counts)) > 1
    # Equal counts: the first model.
    calibration = [[1.0, 2.0, 3.0]] * 2
    tie = conformal.naive_best_of_k(calibration, [[0.0, 9.0], [9.0, 0.0]], level=0.5)
    assert whole(tie) == [True, False]
    assert conformal.naive_best_of_k(SCORES, TESTS[:, :0], level=0.4).shape == (0,)
    with pytest.raises(ValueError, match="`level`"):
        conformal.naive_best_of_k(SCORES, TESTS, level=2.0)
    with pytest.raises(ValueError, match="one row per model"):
        conformal.naive_best_of_k(SCORES[:2], TESTS, level=0.2)


def test_naive_best_of_k_breaks_the_rate_that_optcs_keeps():
    """Thirty scores of pure noise: nothing can be told apart, all candidates null."""
    rng = np.random.default_rng(0)
    replications, level = 300, 0.2
    scores = rng.normal(size=(replications, 30, 29)).astype(np.float32)
    tests = rng.normal(size=(replications, 30, 8)).astype(np.float32)
    xi = 1 - rng.uniform(size=replications)

    def one(v, t, x):
        result = conformal.optcs_msel(v, t, level=level, xi=x)
        naive = conformal.naive_best_of_k(v, t, level=level)
        return result.selected.any(), naive.any()

    # All null: the false discovery proportion is 1 as soon as anything is selected.
    ours, naive = jax.jit(jax.vmap(one))(scores, tests, xi)
    error = np.sqrt(level * (1 - level) / replications)
    assert float(ours.mean()) <= level + 6 * error
    assert float(naive.mean()) > level + 6 * error
    # Homogeneous pruning comes near the level; selecting nothing at all would not.
    assert float(ours.mean()) >= level / 3


def test_bh_after_optcs_is_benjamini_hochberg_on_its_p_values():
    result = optcs(SCORES, TESTS, 0.5)
    p = np.sort(np.asarray(result.p_values, float))
    k = max((i + 1 for i in range(6) if p[i] <= 0.5 * (i + 1) / 6 + 1e-9), default=0)
    expected = np.asarray(result.p_values) <= (p[k - 1] if k else -1)
    assert whole(conformal.bh_after_optcs(result)) == whole(expected)


def test_the_result_is_a_pytree_that_stacks():
    batch = jax.vmap(lambda v, t: optcs(v, t, 0.4))(
        np.stack([SCORES, SCORES[::-1]]), np.stack([TESTS, TESTS[::-1]])
    )
    assert batch.selected.shape == (2, 6)
    assert batch.num_selected.shape == (2,)
    assert batch.method == "optcs"
    assert jax.tree.map(lambda leaf: leaf, batch).method == "optcs"
    assert whole(batch.num_selected) == whole(batch.selected.sum(axis=1))

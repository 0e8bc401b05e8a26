"""Behaviour of selection at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import conformal

SCORES = np.asarray([3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0, 5.0, 3.5], np.float32)
TESTS = np.asarray([0.5, 3.0, 0.7, 8.0], np.float32)


def chosen(mask) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def test_select_by_hand():
    # n = 9: p = 0.1, 0.5 (1, 1.5, 2, 3 at or below), 0.1, 0.9; BH at 0.2 with m = 4.
    result = conformal.select(SCORES, TESTS, level=0.2)
    np.testing.assert_allclose(result.p_values, [0.1, 0.5, 0.1, 0.9], rtol=1e-6)
    assert chosen(result.selected) == [0, 2]
    assert float(result.threshold) == pytest.approx(0.1)
    assert int(result.num_selected) == 2
    assert result.message == "ok"


def test_no_candidates():
    result = conformal.select(SCORES, [], level=0.1)
    assert result.selected.shape == result.p_values.shape == (0,)
    assert float(result.threshold) == 0.0
    assert conformal.p_values(SCORES, []).shape == (0,)
    assert conformal.auxiliary_sizes(SCORES, [], level=0.1).shape == (0,)
    weights = {"calibration_weights": np.ones(9), "test_weights": np.ones(0)}
    weighted = conformal.select(
        SCORES, [], level=0.1, pruning="deterministic", **weights
    )
    assert weighted.selected.shape == (0,)


def test_no_calibration_rows():
    assert np.asarray(conformal.p_values([], TESTS)).tolist() == [1.0] * 4
    uniforms = np.asarray([0.25, 0.5, 0.75, 1.0], np.float32)
    drawn = conformal.p_values([], TESTS, uniforms=uniforms)
    assert np.asarray(drawn).tolist() == uniforms.tolist()
    assert chosen(conformal.select([], TESTS, level=0.9).selected) == []
    assert chosen(conformal.select([], TESTS, level=1.0).selected) == [0, 1, 2, 3]


def test_level_zero_selects_nothing_and_level_one_everything():
    for kwargs in ({}, {"uniforms": 0.5}):
        assert (
            chosen(conformal.select(SCORES, TESTS, level=0.0, **kwargs).selected) == []
        )
        everything = conformal.select(SCORES, TESTS, level=1.0, **kwargs)
        assert chosen(everything.selected) == [0, 1, 2, 3]
    weights = {"calibration_weights": np.ones(9), "test_weights": np.ones(4)}
    weighted = conformal.select(
        SCORES, TESTS, level=0.0, pruning="deterministic", **weights
    )
    assert chosen(weighted.selected) == []


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan"), float("inf")])
def test_level_outside_the_unit_interval(level):
    for call in (conformal.select, conformal.auxiliary_sizes):
        with pytest.raises(ValueError, match=r"`level` must lie in \[0, 1\]"):
            call(SCORES, TESTS, level=level)
    result = jax.jit(lambda a: conformal.select(SCORES, TESTS, level=a))(level)
    assert chosen(result.selected) == []
    assert result.message == "level is not in [0, 1]: nothing is selected"


def test_all_scores_equal_give_p_value_one():
    ones = np.ones(5, np.float32)
    assert np.asarray(conformal.p_values(ones, ones)).tolist() == [1.0] * 5


def test_signed_zeros_tie():
    assert float(conformal.p_values([0.0, 1.0], [-0.0])[0]) == pytest.approx(2 / 3)
    assert float(conformal.p_values([-0.0, 1.0], [0.0])[0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("kwargs", [{}, {"uniforms": 0.01}])
def test_nan_candidate_has_p_value_one_and_is_never_selected(kwargs):
    tests = np.asarray([np.nan, 0.5, -np.nan], np.float32)
    for level in (0.5, 1.0):
        result = conformal.select(SCORES, tests, level=level, **kwargs)
        assert float(result.p_values[0]) == float(result.p_values[2]) == 1.0
        assert chosen(result.selected) == [1]
        assert "test scores are NaN" in result.message


def test_nan_candidate_with_weights_has_p_value_one_and_is_never_selected():
    result = conformal.select(
        SCORES,
        np.asarray([np.nan, 0.5], np.float32),
        level=1.0,
        calibration_weights=np.ones(9),
        test_weights=np.ones(2),
        xi=0.1,
        uniforms=0.01,
    )
    assert float(result.p_values[0]) == 1.0
    assert chosen(result.selected) == [1]


def test_nan_calibration_score_counts_against_every_candidate():
    scores = np.asarray([np.nan, 2.0, 3.0], np.float32)
    assert float(conformal.p_values(scores, [1.0])[0]) == 0.5
    minus_infinity = np.asarray([-np.inf, 2.0, 3.0], np.float32)
    assert float(conformal.p_values(minus_infinity, [1.0])[0]) == 0.5
    result = conformal.select(scores, [1.0], level=0.5)
    assert "calibration scores are NaN" in result.message


def test_infinite_scores():
    scores = np.asarray([1.0, np.inf, np.inf], np.float32)
    p = np.asarray(conformal.p_values(scores, [np.inf, -np.inf, 5.0])).tolist()
    assert p == [1.0, 0.25, 0.5]


def test_level_below_the_smallest_p_value_is_reported():
    result = conformal.select(SCORES, TESTS, level=0.09)
    assert chosen(result.selected) == []
    assert "below 1/(n + 1)" in result.message
    assert int(conformal.select(SCORES, TESTS, level=0.1).status) == 0
    # Randomised p-values reach below 1/(n + 1): no such status.
    assert int(conformal.select(SCORES, TESTS, level=0.09, uniforms=0.5).status) == 0


def test_single_null_candidate_attains_the_level():
    # n = 9, m = 1, level 0.1: selected exactly when the candidate is the smallest.
    assert chosen(conformal.select(SCORES, [0.9], level=0.1).selected) == [0]
    assert chosen(conformal.select(SCORES, [1.0], level=0.1).selected) == []


def test_integer_scores_are_promoted():
    result = conformal.select(np.arange(9), np.asarray([-1, 4]), level=0.5)
    assert result.p_values.dtype == jnp.float32
    assert chosen(result.selected) == [0]


def test_batches_come_by_vmap():
    scores = np.stack([SCORES, SCORES[::-1]])
    tests = np.stack([TESTS, TESTS[::-1]])
    batch = jax.vmap(lambda s, t: conformal.select(s, t, level=0.2))(scores, tests)
    assert batch.selected.shape == (2, 4)
    assert np.asarray(batch.num_selected).tolist() == [2, 2]


BAD_INPUT = [
    (lambda: conformal.select(SCORES[:, None], TESTS, level=0.1), "calibration_scores"),
    (lambda: conformal.select(SCORES, TESTS[None], level=0.1), "test_scores"),
    (lambda: conformal.select(SCORES, TESTS, level=[0.1]), "level"),
    (lambda: conformal.select(SCORES, TESTS, level=0.1, pruning="x"), "pruning"),
    (
        lambda: conformal.select(SCORES, TESTS, level=0.1, randomize_p_values=True),
        "uniforms",
    ),
    (
        lambda: conformal.select(
            SCORES, TESTS, level=0.1, key=jax.random.key(0), uniforms=0.5
        ),
        "not both",
    ),
    (
        lambda: conformal.select(SCORES, TESTS, level=0.1, uniforms=np.ones(3)),
        "uniforms",
    ),
    (
        lambda: conformal.p_values(SCORES, TESTS, key=jax.random.key(0), uniforms=0.5),
        "not both",
    ),
    (
        lambda: conformal.p_values(SCORES, TESTS, calibration_weights=np.ones(9)),
        "test_weights",
    ),
    (
        lambda: conformal.p_values(
            SCORES, TESTS, calibration_weights=np.ones(8), test_weights=np.ones(4)
        ),
        "same length",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD_INPUT)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (-1.0, "nonnegative"),
        (np.inf, "finite"),
        (np.nan, "finite"),
        (0.0, "all be zero"),
    ],
)
def test_unusable_weights(bad, message):
    weights = np.where(np.arange(9) == 3, bad, 0.0).astype(np.float32)

    def call(w):
        return conformal.select(
            SCORES,
            TESTS,
            level=0.5,
            calibration_weights=w,
            test_weights=np.ones(4, np.float32),
            pruning="deterministic",
        )

    with pytest.raises(ValueError, match=f"`calibration_weights` must.*{message}"):
        call(weights)
    traced = jax.jit(call)(weights)
    assert np.isnan(traced.p_values).all()
    assert chosen(traced.selected) == []
    assert "weights are negative" in traced.message


def test_a_weight_of_zero_for_a_candidate_is_legal():
    p = conformal.p_values(
        [1.0, 2.0],
        [0.0, 1.5],
        calibration_weights=[1.0, 3.0],
        test_weights=[0.0, 0.0],
    )
    np.testing.assert_allclose(p, [0.0, 0.25], rtol=1e-6)


def test_weighted_selection_needs_a_draw_unless_deterministic():
    weights = {"calibration_weights": np.ones(9), "test_weights": np.ones(4)}
    for pruning in ("homogeneous", "heterogeneous"):
        with pytest.raises(ValueError, match="pass `key=jax.random.key"):
            conformal.select(SCORES, TESTS, level=0.2, pruning=pruning, **weights)
        with pytest.raises(ValueError, match="not both"):
            conformal.select(
                SCORES,
                TESTS,
                level=0.2,
                pruning=pruning,
                xi=0.5,
                key=jax.random.key(0),
                **weights,
            )
    result = conformal.select(
        SCORES, TESTS, level=0.2, key=jax.random.key(0), **weights
    )
    assert result.method == "weighted"
    assert chosen(result.selected) == [0, 2]


def test_same_key_same_selection_and_uniforms_are_never_zero():
    key = jax.random.key(3)
    first = conformal.select(SCORES, TESTS, level=0.3, randomize_p_values=True, key=key)
    again = conformal.select(SCORES, TESTS, level=0.3, randomize_p_values=True, key=key)
    assert (first.p_values == again.p_values).all()
    assert (first.p_values > 0).all()


def test_changing_level_or_scores_does_not_recompile():
    from jaxcur.conformal._selection import _select_on_grid

    conformal.select(SCORES, TESTS, level=0.1)
    before = _select_on_grid._cache_size()
    for level in (0.2, np.float32(0.3), jnp.asarray(0.4), 1):
        conformal.select(SCORES + 1, TESTS, level=level)
    assert _select_on_grid._cache_size() == before


def test_documented_levels_are_stored_as_given():
    assert float(conformal.select(SCORES, TESTS, level=0.3).level) == np.float32(0.3)

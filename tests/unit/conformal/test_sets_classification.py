"""LAC, APS and RAPS sets on cases worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal import (
    aps_scores,
    aps_set,
    lac_scores,
    lac_set,
    raps_scores,
    raps_set,
)
from tests.helpers import assert_close

# Quarters and eighths: every sum below is exact in float32.
PROBS = np.array([[0.25, 0.625, 0.125], [0.125, 0.125, 0.75]])
SCORES = np.array([0.25, 0.875, 0.5])


def test_lac_scores(dtype):
    found = lac_scores(PROBS.astype(dtype), np.array([1, 0]))
    assert found.dtype == dtype and found.tolist() == [0.375, 0.875]


def test_lac_set():
    # k = 2 of (0.25, 0.5, 0.875): classes with p >= 0.5.
    assert lac_set(SCORES, PROBS, coverage=0.5).tolist() == [
        [False, True, False],
        [False, False, True],
    ]


def test_aps_scores_are_the_mass_up_to_the_class():
    # Order of the first row: class 1, 0, 2; of the second: 2, then 0 before 1.
    table = np.repeat(PROBS, 3, axis=0)
    labels = np.tile([0, 1, 2], 2)
    found = aps_scores(table, labels, randomize=False)
    assert found.tolist() == [0.875, 0.625, 1.0, 0.875, 1.0, 0.75]
    found = aps_scores(table, labels, uniforms=1.0)
    assert found.tolist() == [0.625, 0.0, 0.875, 0.75, 0.875, 0.0]
    found = aps_scores(table, labels, uniforms=np.full(6, 0.5))
    assert found.tolist() == [0.75, 0.3125, 0.9375, 0.8125, 0.9375, 0.375]


def test_aps_set_uses_one_draw_a_row():
    found = aps_set([0.75], PROBS, coverage=0.5, uniforms=np.array([0.5, 1.0]))
    assert found.tolist() == [[True, True, False], [True, False, True]]
    found = aps_set([0.75], PROBS, coverage=0.5, randomize=False)
    assert found.tolist() == [[False, True, False], [False, False, True]]


def test_raps_adds_the_penalty_beyond_the_free_classes():
    table = np.repeat(PROBS[:1], 3, axis=0)
    found = raps_scores(table, [0, 1, 2], penalty=0.5, k_reg=1, randomize=False)
    assert found.tolist() == [1.375, 0.625, 2.0]
    found = raps_scores(table, [0, 1, 2], penalty=0.5, k_reg=2, randomize=False)
    assert found.tolist() == [0.875, 0.625, 1.5]


def test_raps_without_a_penalty_is_aps():
    draws = np.array([0.25, 0.75])
    found = raps_set(SCORES, PROBS, coverage=0.5, penalty=0, uniforms=draws)
    expected = aps_set(SCORES, PROBS, coverage=0.5, uniforms=draws)
    assert found.tolist() == expected.tolist()


def test_scores_under_the_right_probabilities_are_uniform():
    # 20 000 uniforms: a distribution function is within 0.0327 of its estimate except
    # with probability 2 exp(-2 n r^2) = 1e-18; ties in the probabilities included.
    n = 20_000
    table = np.tile([[0.2, 0.2, 0.5, 0.1]], (n, 1))
    rng = np.random.default_rng(0)
    labels = rng.choice(4, n, p=table[0])
    found = np.sort(aps_scores(table, labels, uniforms=rng.uniform(size=n)))
    grid = np.arange(1, n + 1) / n
    assert np.abs(found - grid).max() < 0.0327


def test_scores_do_not_depend_on_the_other_rows():
    # Calibration and test rows are scored in different batches; a last-bit difference
    # would break ties between equal rows.
    rng = np.random.default_rng(1)
    table = rng.dirichlet(np.ones(17), 64).astype(np.float32)
    labels, draws = rng.integers(0, 17, 64), rng.uniform(size=64).astype(np.float32)

    def score(rows):
        return raps_scores(
            table[rows], labels[rows], penalty=0.1, uniforms=draws[rows]
        ).tolist()

    together = score(slice(None))
    assert score(slice(0, 1)) == together[:1]
    assert score(slice(5, 13)) == together[5:13]
    assert score(slice(3, 20)) == together[3:20]


@pytest.mark.parametrize(
    "make_set",
    [
        lambda *a, **k: lac_set(*a, **k),
        lambda *a, **k: aps_set(*a, uniforms=0.5, **k),
        lambda *a, **k: raps_set(*a, uniforms=0.5, **k),
    ],
)
class TestEverySet:
    def test_extremes(self, make_set):
        assert not make_set(SCORES, PROBS, coverage=0).any()
        assert make_set(SCORES, PROBS, coverage=0.76).all()
        assert make_set(SCORES, PROBS, coverage=1).all()
        assert make_set([], PROBS, coverage=0.5).all()

    def test_missing_calibration_score_only_enlarges(self, make_set):
        scores = np.array([0.25, np.nan, 0.5])
        assert make_set(scores, PROBS, coverage=0.75).all()
        known = make_set(SCORES, PROBS, coverage=0.5)
        assert make_set(scores, PROBS, coverage=0.5).tolist() == known.tolist()

    def test_missing_probability_gives_every_class(self, make_set):
        table = PROBS.copy()
        table[0, 2] = np.nan
        found = make_set([0.1], table, coverage=0.5)
        assert found[0].all() and not found[1].all()

    def test_groups(self, make_set):
        found = make_set(SCORES, PROBS, coverage=0.5, groups=([0, 1, 0], [1, 5]))
        alone = make_set(SCORES[1:2], PROBS, coverage=0.5)
        assert found[0].tolist() == alone[0].tolist()
        assert found[1].all()

    def test_class_conditional(self, make_set):
        found = make_set(SCORES, PROBS, coverage=0.5, calibration_labels=[0, 1, 0])
        class_0 = make_set(SCORES[[0, 2]], PROBS, coverage=0.5)
        class_1 = make_set(SCORES[[1]], PROBS, coverage=0.5)
        assert found[:, 0].tolist() == class_0[:, 0].tolist()
        assert found[:, 1].tolist() == class_1[:, 1].tolist()
        assert found[:, 2].all()

    def test_equal_weights_are_no_weights(self, make_set):
        weights = {"calibration_weights": np.ones(3), "test_weights": np.ones(2)}
        labels = {"calibration_labels": [0, 1, 0]}
        for options in ({}, labels):
            plain = make_set(SCORES, PROBS, coverage=0.6, **options)
            found = make_set(SCORES, PROBS, coverage=0.6, **options, **weights)
            assert found.tolist() == plain.tolist()

    def test_unknown_weight_at_a_test_row_gives_every_class(self, make_set):
        weights = {"calibration_weights": np.ones(3), "test_weights": [1, 100]}
        found = make_set(SCORES, PROBS, coverage=0.5, **weights)
        plain = make_set(SCORES, PROBS, coverage=0.5)
        assert found[0].tolist() == plain[0].tolist() and found[1].all()

    def test_no_rows_and_no_classes(self, make_set):
        assert make_set(SCORES, np.zeros((0, 3)), coverage=0.5).shape == (0, 3)
        assert make_set(SCORES, np.zeros((2, 0)), coverage=0.5).shape == (2, 0)

    def test_invalid_coverage_gives_every_class_under_jit(self, make_set):
        found = jax.jit(lambda c: make_set(SCORES, PROBS, coverage=c))
        assert found(1.5).all() and found(jnp.nan).all()

    @pytest.mark.parametrize(
        ("probs", "options", "message"),
        [
            (PROBS[0], {}, "`probs` must have shape"),
            (PROBS * 10, {}, "`probs` must lie in \\[0, 1\\].*softmax"),
            (PROBS, {"coverage": 1.5}, "`coverage` must lie in"),
            (PROBS, {"groups": ([0, 0, 0], [0])}, "`groups\\[1\\]` must have one"),
            (
                PROBS,
                {"groups": ([0, 0, 0], [0, 0]), "calibration_labels": [0, 0, 0]},
                "either `groups` or `calibration_labels`",
            ),
            (PROBS, {"calibration_labels": [0]}, "`calibration_labels` and"),
            (PROBS, {"test_weights": [1.0, 1.0]}, "`calibration_weights` is missing"),
        ],
    )
    def test_invalid_input_is_named(self, make_set, probs, options, message):
        with pytest.raises(ValueError, match=message):
            make_set(SCORES, probs, **({"coverage": 0.5} | options))


@pytest.mark.parametrize("score", [lac_scores, aps_scores, raps_scores])
class TestEveryScore:
    @staticmethod
    def options(score):
        return {} if score is lac_scores else {"uniforms": 0.5}

    def test_missing_probability_gives_a_missing_score(self, score):
        table = PROBS.copy()
        table[0] = np.nan
        found = score(table, [0, 0], **self.options(score))
        assert jnp.isnan(found[0]) and not jnp.isnan(found[1])

    @pytest.mark.parametrize("label", [-1, 3])
    def test_unknown_class(self, score, label):
        with pytest.raises(ValueError, match="`labels` must lie in 0..2"):
            score(PROBS, [0, label], **self.options(score))
        found = jax.jit(lambda y: score(PROBS, y, **self.options(score)))(
            jnp.array([0, label])
        )
        assert jnp.isnan(found[1]) and not jnp.isnan(found[0])

    def test_labels_must_be_integers(self, score):
        with pytest.raises(TypeError, match="`labels` must hold integers"):
            score(PROBS, [0.0, 1.0], **self.options(score))


@pytest.mark.parametrize("function", [aps_set, raps_set])
def test_randomised_sets_need_a_draw(function):
    with pytest.raises(ValueError, match="randomised: pass `key="):
        function(SCORES, PROBS, coverage=0.5)
    with pytest.raises(ValueError, match="either `key` or `uniforms`"):
        function(SCORES, PROBS, coverage=0.5, key=jax.random.key(0), uniforms=0.5)
    with pytest.raises(ValueError, match="takes neither"):
        function(SCORES, PROBS, coverage=0.5, randomize=False, uniforms=0.5)
    with pytest.raises(ValueError, match="`uniforms` must lie in"):
        function(SCORES, PROBS, coverage=0.5, uniforms=1.5)


def test_key_and_its_draw_give_the_same_scores():
    key = jax.random.key(3)
    draws = 1 - jax.random.uniform(key, (2,))
    found = aps_scores(PROBS, [0, 1], key=key)
    assert_close(found, aps_scores(PROBS, [0, 1], uniforms=draws), rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1.0}, "`penalty` must be finite and >= 0"),
        ({"penalty": np.nan}, "`penalty` must be finite and >= 0"),
        ({"k_reg": -1}, "`k_reg` must be finite and >= 0"),
        ({"penalty": [0.1, 0.2]}, "`penalty` must be a scalar"),
    ],
)
def test_invalid_regularisation_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        raps_set(SCORES, PROBS, coverage=0.5, uniforms=0.5, **options)
    with pytest.raises(ValueError, match=message):
        raps_scores(PROBS, [0, 1], uniforms=0.5, **options)

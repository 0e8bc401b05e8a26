"""Learned moments: against a loop over folds, and where they must change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased, learners
from jaxcur.debiased._recalibrated import recalibrated
from tests.helpers import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::jaxcur.debiased.InferenceWarning")

N = 240
RNG = np.random.default_rng(31)
X = RNG.normal(size=N)
Y = 1 + 0.5 * X + X**2 + 0.3 * RNG.normal(size=N)
GUESS = X + 0.3 * RNG.normal(size=N)
LABELED = RNG.permutation(N) < 90
SEEN = np.where(LABELED, Y, np.nan)
FOLDS = np.arange(N) % 3
FEATURES = np.column_stack([X, X**2, X**3])


def level(theta, record):
    return record["y"][None] - theta


def line(theta, record):
    x = jnp.stack([jnp.ones_like(record["x"]), record["x"]])
    return x * (record["y"] - x @ theta)


LEVEL = ({"y": SEEN}, {"y": GUESS})
LINE = ({"x": X, "y": SEEN}, {"x": X, "y": GUESS})
COMMON = dict(learner=learners.Ridge(0.0), folds=FOLDS, affine=True)


def learned(features, target):
    """Least squares with a constant on the labelled rows of the other folds."""
    x = np.column_stack([np.ones(N), features])
    out = np.zeros(N)
    for fold in range(3):
        train = LABELED & (FOLDS != fold)
        beta = np.linalg.lstsq(x[train], target[train])[0]
        out[FOLDS == fold] = x[FOLDS == fold] @ beta
    return out


@pytest.mark.parametrize("rule", [None, "optimal"])
def test_a_mean_is_debiased_by_what_was_learned(rule, x64):
    result = recalibrated(
        level,
        *LEVEL,
        features=FEATURES,
        labeled=LABELED,
        init=jnp.zeros(1),
        power_tuning=rule,
        **COMMON,
    )
    guess = learned(np.column_stack([GUESS, FEATURES]), np.where(LABELED, Y, 0))
    expected = debiased.mean(
        SEEN, y_predicted=guess, labeled=LABELED, power_tuning=rule
    )
    assert_close(result.estimate, expected.estimate, rtol=1e-9)
    assert_close(result.covariance, expected.covariance, rtol=1e-8)
    assert_close(result.power_tuning, expected.power_tuning, rtol=1e-8)
    if rule is None:
        by_hand = guess.mean() + (Y - guess)[LABELED].mean()
        assert_close(result.estimate, [by_hand], rtol=1e-9)


def one_step(weights, prob):
    """First fit, learned influence of both coefficients, the plain step, in NumPy."""
    x = np.column_stack([np.ones(N), X])
    own = np.where(LABELED, weights / prob, 0)
    gram = (x * own[:, None]).T @ x
    beta = np.linalg.solve(gram, x.T @ (own * np.where(LABELED, Y, 0)))
    gain = np.linalg.inv(gram / own.sum())
    gold = x * np.where(LABELED, Y - x @ beta, 0)[:, None] @ gain
    guess = x * (GUESS - x @ beta)[:, None] @ gain
    features = np.column_stack([guess, FEATURES])
    s = np.column_stack([learned(features, gold[:, j]) for j in (0, 1)])
    total = weights @ s + own @ (gold - s * LABELED[:, None])
    return beta + total / weights.sum()


@pytest.mark.parametrize("survey", [False, True])
def test_the_step_of_a_regression_by_hand(survey, x64):
    weights = RNG.uniform(0.5, 2, N) if survey else np.ones(N)
    result = recalibrated(
        line,
        *LINE,
        features=FEATURES,
        labeled=LABELED,
        init=jnp.zeros(2),
        power_tuning=None,
        weights=weights,
        **COMMON,
    )
    # Lambda = 1 divides by the debiased sum of weights, which is that of all rows.
    assert_close(result.estimate, one_step(weights, LABELED.mean()), rtol=1e-9)


def test_all_rows_labeled_is_least_squares_with_hc0(x64):
    every = np.ones(N, bool)
    result = recalibrated(
        line,
        {"x": X, "y": Y},
        LINE[1],
        features=FEATURES,
        labeled=every,
        init=jnp.zeros(2),
        power_tuning=None,
        **COMMON,
    )
    x = np.column_stack([np.ones(N), X])
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ Y
    scores = x * (Y - x @ beta)[:, None]
    assert_close(result.estimate, beta, rtol=1e-10)
    assert_close(result.covariance, bread @ scores.T @ scores @ bread, rtol=1e-9)


def test_units_of_a_covariate_do_not_matter(x64):
    options = dict(labeled=LABELED, init=jnp.zeros(2), power_tuning=None, **COMMON)
    one = recalibrated(line, *LINE, features=FEATURES, **options)
    scaled = ({"x": 1e4 * X, "y": SEEN}, {"x": 1e4 * X, "y": GUESS})
    other = recalibrated(line, *scaled, features=FEATURES, **options)
    assert_close(other.estimate, one.estimate / jnp.array([1, 1e4]), rtol=1e-8)
    assert_close(other.std_error, one.std_error / jnp.array([1, 1e4]), rtol=1e-8)


def test_a_good_learner_shortens_the_intervals_of_a_bad_surrogate(x64):
    options = dict(labeled=LABELED, init=jnp.zeros(1))
    better = recalibrated(level, *LEVEL, features=FEATURES, **options, **COMMON)
    # The residual sd given x is 0.3, that of y 1.5: with 90 of 240 labelled, against
    # labelled rows alone, sqrt((0.3^2 / 90 + 1.5^2 / 240) / (1.5^2 / 90)), near 0.65.
    gold = float(better.diagnostics.gold_std_error[0])
    assert float(better.std_error[0]) < 0.8 * gold
    # The mean of all gold labels is within the noise of labelling: four deviations of
    # a learned residual, generously of sd 0.6.
    assert abs(float(better.estimate[0]) - Y.mean()) < 4 * 0.6 / np.sqrt(90)


def test_no_prediction_depends_on_the_own_label_of_a_row(x64):
    """With Lambda = 1 a change of one label moves the mean by what enters directly."""
    options = dict(
        features=FEATURES,
        labeled=LABELED,
        init=jnp.zeros(1),
        power_tuning=None,
        **COMMON,
    )
    row = int(np.flatnonzero(LABELED)[0])
    changed = SEEN.copy()
    changed[row] += 50
    base = recalibrated(level, *LEVEL, **options)
    moved = recalibrated(level, {"y": changed}, LEVEL[1], **options)
    # Rows of other folds learn from it; those of its own fold must not.
    shift = np.where(np.arange(N) == row, 50.0, 0)
    features = np.column_stack([GUESS, FEATURES])
    through = learned(features, np.where(LABELED, Y, 0) + shift)
    through -= learned(features, np.where(LABELED, Y, 0))
    assert_close(through[FOLDS == FOLDS[row]], np.zeros(N // 3), rtol=0, atol=1e-9)
    expected = 50 / LABELED.sum() + through.mean() - through[LABELED].mean()
    assert_close(float(moved.estimate[0] - base.estimate[0]), expected, rtol=1e-8)


BAD = {
    "rank": (dict(features=X), r"`features` must have shape \(N, d\)"),
    "rows": (dict(features=FEATURES[:5]), "`features` must have 240 rows"),
    "axis": (dict(axis_name="rows"), "`axis_name` is not for `recalibrated`"),
    "draw": (dict(folds=None), "pass `key=jax.random.key"),
    "labels": (dict(labeled=np.zeros(N, bool)), "no labelled rows"),
}


@pytest.mark.parametrize("changes, message", list(BAD.values()), ids=list(BAD))
def test_bad_arguments_are_named(changes, message, x64):
    options = dict(labeled=LABELED, init=jnp.zeros(1), **COMMON) | changes
    with pytest.raises(ValueError, match=message):
        recalibrated(level, *LEVEL, **options)


def test_more_moments_than_parameters_are_refused(x64):
    def twice(theta, record):
        return jnp.stack([record["y"] - theta[0], record["x"] * record["y"]])

    with pytest.raises(ValueError, match="as many moments as parameters, got 2 for 1"):
        recalibrated(twice, *LINE, labeled=LABELED, init=jnp.zeros(1), **COMMON)


def test_a_first_fit_that_fails_is_returned_with_nan(x64):
    observed = {"x": np.zeros(N), "y": SEEN}
    predicted = {"x": np.zeros(N), "y": GUESS}
    with pytest.warns(debiased.InferenceWarning, match="did not converge"):
        result = recalibrated(
            line, observed, predicted, labeled=LABELED, init=jnp.zeros(2), **COMMON
        )
    assert not bool(result.converged)
    assert np.isnan(np.asarray(result.std_error)).all()


@pytest.mark.slow  # compiles everything once more
def test_everything_is_one_program_under_jit(x64):
    options = dict(
        features=FEATURES, labeled=LABELED, init=jnp.zeros(1), power_tuning=None
    )
    eager = recalibrated(level, *LEVEL, **options, **COMMON)

    @jax.jit
    def compiled(y):
        result = recalibrated(level, {"y": y}, LEVEL[1], **options, **COMMON)
        return result.estimate, result.std_error

    estimate, error = compiled(SEEN)
    assert_close(estimate, eager.estimate, rtol=1e-9)
    assert_close(error, eager.std_error, rtol=1e-9)

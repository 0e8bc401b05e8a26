"""Predict-then-debias and the score bootstrap, against loops in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased
from jaxcur.debiased._bootstrap import predict_then_debias
from jaxcur.debiased._score_bootstrap import score_bootstrap
from tests.helpers import assert_close

N, B = 200, 60
RNG = np.random.default_rng(23)
X = RNG.normal(size=N)
Y = 1 + 2 * X + RNG.normal(size=N)
GUESS = Y + 2 + 0.5 * X + 0.6 * RNG.normal(size=N)
PI = RNG.uniform(0.2, 0.6, N)
LABELED = RNG.uniform(size=N) < PI
SEEN = np.where(LABELED, Y, np.nan)
SURVEY = RNG.uniform(0.5, 1.5, N)
DRAW = RNG.multinomial(N, np.full(N, 1 / N), B).astype(float)


def line(record, weights):
    """Weighted least squares of y on (1, x)."""
    x = jnp.stack([jnp.ones_like(record["x"]), record["x"]], axis=1)
    gram = (x * weights[:, None]).T @ x
    return jnp.linalg.solve(gram, x.T @ (weights * record["y"]))


def line_on_host(record, weights):
    x = np.stack([np.ones_like(record["x"]), record["x"]], axis=1)
    return np.linalg.solve((x * weights[:, None]).T @ x, x.T @ (weights * record["y"]))


OBSERVED, PREDICTED = {"x": X, "y": SEEN}, {"x": X, "y": GUESS}
DESIGN = dict(labeled=LABELED, sampling_prob=PI, weights=SURVEY)


def by_hand(power_tuning):
    """Estimate, covariance and replicates by a loop over resamples."""
    rows = LABELED
    parts = []
    for v in np.concatenate([np.ones((1, N)), DRAW]):
        own = (v * SURVEY / PI)[rows]
        gold = line_on_host({"x": X[rows], "y": Y[rows]}, own)
        guess = line_on_host({"x": X[rows], "y": GUESS[rows]}, own)
        parts.append((gold, guess - line_on_host({"x": X, "y": GUESS}, v * SURVEY)))
    gold, gap = (np.array(part) for part in zip(*parts))
    joint = np.cov(np.hstack([gold, gap])[1:], rowvar=False)
    both, own = joint[:2, 2:], joint[2:, 2:]
    matrix = {
        "optimal": lambda: both @ np.linalg.inv(own),
        "scalar": lambda: np.trace(both) / np.trace(own) * np.eye(2),
        "per_coordinate": lambda: np.diag(np.diag(both) / np.diag(own)),
        None: lambda: np.eye(2),
        0.3: lambda: 0.3 * np.eye(2),
    }[power_tuning]()
    values = gold - gap @ matrix.T
    return values[0], np.cov(values[1:], rowvar=False), values[1:], matrix


@pytest.mark.parametrize("rule", ["optimal", "scalar", "per_coordinate", None, 0.3])
def test_given_resamples_agree_with_a_loop(rule, x64):
    result = predict_then_debias(
        line, OBSERVED, PREDICTED, power_tuning=rule, resample_weights=DRAW, **DESIGN
    )
    estimate, covariance, replicates, matrix = by_hand(rule)
    assert_close(result.estimate, estimate, rtol=1e-9)
    assert_close(result.covariance, covariance, rtol=1e-8, atol=1e-14)
    assert_close(result.replicates, replicates, rtol=1e-9)
    assert_close(result.power_tuning, matrix, rtol=1e-8, atol=1e-10)
    assert int(result.num_failed) == 0
    low, high = np.quantile(replicates, [0.05, 0.95], axis=0)
    percentile = result.conf_int(0.9, method="percentile")
    assert_close(percentile, np.column_stack([low, high]), rtol=1e-9)
    basic = result.conf_int(0.9, method="basic")
    expected = np.column_stack([2 * estimate - high, 2 * estimate - low])
    assert_close(basic, expected, rtol=1e-9)


def test_optimal_tuning_has_the_least_variance_of_the_replicates(x64):
    errors = {
        rule: np.asarray(
            predict_then_debias(
                line,
                OBSERVED,
                PREDICTED,
                power_tuning=rule,
                resample_weights=DRAW,
                **DESIGN,
            ).std_error
        )
        for rule in ("optimal", None, 0.0)
    }
    assert (errors["optimal"] <= errors[None]).all()
    assert (errors["optimal"] <= errors[0.0]).all()


def test_an_estimator_on_the_host_gives_the_same(x64):
    options = dict(resample_weights=DRAW, **DESIGN)
    one = predict_then_debias(line, OBSERVED, PREDICTED, **options)
    other = predict_then_debias(
        line_on_host, OBSERVED, PREDICTED, is_traceable=False, **options
    )
    assert_close(other.estimate, one.estimate, rtol=1e-9)
    assert_close(other.covariance, one.covariance, rtol=1e-8, atol=1e-14)
    with pytest.raises(TypeError, match="runs on the host and cannot be traced"):
        jax.jit(
            lambda y: (
                predict_then_debias(
                    line_on_host,
                    {"x": X, "y": y},
                    PREDICTED,
                    is_traceable=False,
                    **options,
                ).estimate
            )
        )(SEEN)


def test_all_rows_labeled_is_the_estimator_itself(x64):
    result = predict_then_debias(
        line,
        {"x": X, "y": Y},
        PREDICTED,
        labeled=np.ones(N, bool),
        weights=SURVEY,
        resample_weights=DRAW,
    )
    everyone = line_on_host({"x": X, "y": Y}, SURVEY)
    assert_close(result.estimate, everyone, rtol=1e-11)
    assert_close(result.std_error, result.gold_std_error, rtol=1e-11)


@pytest.mark.parametrize(
    "resampling", ["multinomial", pytest.param("exponential", marks=pytest.mark.slow)]
)
def test_standard_errors_agree_with_the_sandwich(resampling, x64):
    result = predict_then_debias(
        line,
        OBSERVED,
        PREDICTED,
        power_tuning=None,
        num_resamples=800,
        resampling=resampling,
        key=jax.random.key(1),
        **DESIGN,
    )
    # The standard deviation of 800 draws is within 2.5 percent of the truth, two
    # standard errors 5; the sandwich of 80 labels differs in the second order. Two
    # separate fits have the influence of the moment form where X is known.
    X2 = np.column_stack([np.ones(N), X])
    w = SURVEY * LABELED / PI
    score = lambda y, beta, weight: X2 * (weight * (y - X2 @ beta))[:, None]  # noqa: E731
    fits = [
        (Y, w, 1.0),
        (GUESS, w, -1.0),
        (GUESS, SURVEY, 1.0),
    ]
    influence = np.zeros((N, 2))
    for y, weight, sign in fits:
        bread = np.linalg.inv((X2 * weight[:, None]).T @ X2)
        beta = bread @ X2.T @ (weight * y)
        influence += sign * score(y, beta, weight) @ bread
    expected = np.sqrt(np.sum(influence**2, axis=0))
    assert_close(result.std_error, expected, rtol=0.12)


def test_clusters_are_resampled_as_a_whole(x64):
    clusters = np.repeat(np.arange(N // 5), 5)
    shared = RNG.normal(size=N // 5)[clusters]
    observed = {"x": X, "y": np.where(LABELED, Y + 3 * shared, np.nan)}
    predicted = {"x": X, "y": GUESS + 3 * shared}
    options = dict(
        num_resamples=800, key=jax.random.key(2), power_tuning=None, **DESIGN
    )
    alone = predict_then_debias(line, observed, predicted, **options)
    whole = predict_then_debias(
        line, observed, predicted, clusters=10 * clusters, **options
    )
    assert_close(whole.estimate, alone.estimate, rtol=1e-12)
    # A shared shift of sd 3 in clusters of 5: about sqrt(5) in the constant.
    assert float(whole.std_error[0]) > 1.5 * float(alone.std_error[0])


def test_resamples_are_reproducible_and_differ_between_keys(x64):
    options = dict(num_resamples=800, power_tuning=None, **DESIGN)
    one, again, other = (
        predict_then_debias(
            line, OBSERVED, PREDICTED, key=jax.random.key(seed), **options
        ).replicates
        for seed in (3, 3, 4)
    )
    assert_close(one, again, rtol=0)
    assert not np.allclose(one, other)


def fragile(record, weights):
    """Fails unless the first row of its data is drawn."""
    mean = jnp.sum(weights * record["y"]) / jnp.sum(weights)
    return jnp.where(weights[0] > 0, mean, jnp.nan)


def test_failed_resamples_are_counted_and_too_many_give_nan(x64):
    draw = np.ones((40, N))
    labels = np.arange(N) < 50
    draw[0, 0] = 0
    data = ({"y": Y}, {"y": GUESS})
    with pytest.warns(debiased.InferenceWarning, match="1 of 40 resamples"):
        few = predict_then_debias(
            fragile, *data, labeled=labels, power_tuning=None, resample_weights=draw
        )
    assert int(few.num_failed) == 1
    assert np.isfinite(np.asarray(few.conf_int(method="percentile"))).all()
    draw[:3, 0] = 0
    with pytest.warns(debiased.InferenceWarning, match="3 of 40 resamples"):
        many = predict_then_debias(
            fragile, *data, labeled=labels, power_tuning=None, resample_weights=draw
        )
    assert np.isnan(np.asarray(many.std_error)).all()
    assert np.isnan(np.asarray(many.conf_int(method="percentile"))).all()


BAD = {
    "neither": (dict(), "pass `key=jax.random.key"),
    "both": (
        dict(key=jax.random.key(0), resample_weights=DRAW),
        "either `key` or `resample_weights`",
    ),
    "shape": (dict(resample_weights=DRAW[:, :3]), r"\(num_resamples, 200\)"),
    "negative": (dict(resample_weights=-DRAW), "`resample_weights` must be nonneg"),
    "count": (dict(key=jax.random.key(0), num_resamples=1), "at least 2, got 1"),
    "how": (
        dict(key=jax.random.key(0), resampling="wild"),
        "`resampling` must be one of 'multinomial'",
    ),
    "one-cluster": (
        dict(key=jax.random.key(0), clusters=np.zeros(N, int)),
        "single cluster",
    ),
    "prob": (dict(key=jax.random.key(0), sampling_prob=0.0), "`sampling_prob` must"),
    "tuning": (dict(resample_weights=DRAW, power_tuning="best"), "`power_tuning`"),
}


@pytest.mark.parametrize("changes, message", list(BAD.values()), ids=list(BAD))
def test_bad_arguments_are_named(changes, message, x64):
    with pytest.raises(ValueError, match=message):
        predict_then_debias(line, OBSERVED, PREDICTED, **(DESIGN | changes))


def test_bad_records_are_named(x64):
    options = dict(key=jax.random.key(0), **DESIGN)
    with pytest.raises(ValueError, match="`predicted` must be finite, 1 rows"):
        bad = np.where(np.arange(N) == 4, np.nan, GUESS)
        predict_then_debias(line, OBSERVED, {"x": X, "y": bad}, **options)
    with pytest.raises(ValueError, match="`observed` must be finite where `labeled`"):
        bad = {"x": X, "y": np.full(N, np.nan)}
        predict_then_debias(line, bad, PREDICTED, **options)
    with pytest.raises(ValueError, match="the same structure"):
        predict_then_debias(line, {"x": X}, PREDICTED, **options)
    with pytest.raises(ValueError, match="leading axis 200"):
        predict_then_debias(line, OBSERVED, {"x": X, "y": GUESS[:5]}, **options)


def test_studentized_intervals_need_replicate_errors(x64):
    result = predict_then_debias(
        line, OBSERVED, PREDICTED, power_tuning=None, resample_weights=DRAW, **DESIGN
    )
    with pytest.raises(ValueError, match="use 'basic'"):
        result.conf_int(method="studentized")
    one_sided = result.conf_int(alternative="larger")
    assert np.isinf(np.asarray(one_sided[:, 1])).all()
    assert_close(
        result.p_value("larger") + result.p_value("smaller"), np.ones(2), rtol=1e-12
    )


# --- the bootstrap of scores


def level(theta, y):
    return y[None] - theta


STRATA = np.arange(N) % 2


def test_score_replicates_of_a_mean_by_hand(x64):
    options = dict(labeled=LABELED, strata=STRATA)
    fit = debiased.estimate(
        level, SEEN, GUESS, init=jnp.zeros(1), affine=True, **options
    )
    result = score_bootstrap(
        level, SEEN, GUESS, result=fit, resample_weights=DRAW, **options
    )
    theta, lam = float(fit.estimate[0]), float(fit.power_tuning[0, 0])
    gap = np.where(LABELED, Y - theta - lam * (GUESS - theta), 0)
    adjusted, w = lam * (GUESS - theta), np.zeros(N)
    for stratum in (0, 1):
        inside = STRATA == stratum
        prob = LABELED[inside].mean()
        w[inside] = LABELED[inside] / prob
        # The number of labels is fixed: only what deviates from the mean gap is noise.
        mean = gap[inside & LABELED].mean()
        adjusted[inside] += w[inside] * (gap[inside] - mean) + mean
    influence = adjusted / np.sum(w - (w - 1) * lam)
    replicates = theta + DRAW @ influence
    assert_close(result.replicates[:, 0], replicates, rtol=1e-10)
    centred = influence - (DRAW @ influence)[:, None] / N
    errors = np.sqrt(np.sum(DRAW * centred**2, axis=1))
    assert_close(result.replicate_std_error[:, 0], errors, rtol=1e-10)
    t = np.quantile((replicates - theta) / errors, [0.975, 0.025])
    scale = replicates.std(ddof=1)
    interval = result.conf_int(method="studentized")
    assert_close(interval, [list(theta - t * scale)], rtol=1e-9)


@pytest.mark.parametrize(
    "design", ["stratified", pytest.param("clusters", marks=pytest.mark.slow)]
)
def test_score_covariance_agrees_with_the_analytic_one(design, x64):
    """A raw biased surrogate, where a design that is ignored shows."""
    options = {
        "stratified": {"strata": STRATA},
        "clusters": {"sampling_prob": PI, "clusters": np.arange(N) // 4},
    }[design]
    options["labeled"] = LABELED
    guess = GUESS + 5
    fit = debiased.estimate(
        level, SEEN, guess, init=jnp.zeros(1), affine=True, power_tuning=None, **options
    )
    result = score_bootstrap(
        level,
        SEEN,
        guess,
        result=fit,
        num_resamples=2000,
        key=jax.random.key(5),
        **options,
    )
    # Monte Carlo: 1 / sqrt(4000) is 1.6 percent; ddof another one.
    assert_close(result.std_error, fit.std_error, rtol=0.06)
    low, high = np.asarray(result.conf_int(method="percentile"))[0]
    assert_close(
        [low, high],
        list(np.asarray(fit.conf_int())[0]),
        rtol=0,
        atol=0.3 * float(fit.std_error[0]),
    )


def test_over_identified_equations_are_refused(x64):
    fit = debiased.estimate(
        level,
        SEEN,
        GUESS,
        labeled=LABELED,
        strata=STRATA,
        init=jnp.zeros(1),
        affine=True,
    )
    wide = dataclasses.replace(fit, power_tuning=jnp.eye(2))
    with pytest.raises(ValueError, match="as many moments as parameters, got 2 for 1"):
        score_bootstrap(
            level, SEEN, GUESS, result=wide, labeled=LABELED, key=jax.random.key(0)
        )

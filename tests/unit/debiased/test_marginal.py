"""Average marginal effects, against the joint sandwich written out in NumPy."""

import jax
import numpy as np
import pytest

from jaxcur import debiased
from jaxcur.debiased._marginal import average_marginal_effects
from tests.helpers import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::jaxcur.debiased.InferenceWarning")

N = 160
RNG = np.random.default_rng(11)
X = np.column_stack([np.ones(N), RNG.normal(size=N), RNG.integers(0, 2, N)])
ETA = X @ [-0.3, 0.8, 0.6]
Y = (RNG.uniform(size=N) < 1 / (1 + np.exp(-ETA))).astype(float)
GUESS = np.where(RNG.uniform(size=N) < 0.85, Y, 1 - Y)
PI = RNG.uniform(0.4, 0.9, N)
LABELED = RNG.uniform(size=N) < PI
SEEN = np.where(LABELED, Y, np.nan)
W = LABELED / PI


def expit(x):
    return 1 / (1 + np.exp(-x))


MEANS = {
    "logistic": (expit, lambda e: expit(e) * expit(-e)),
    "poisson": (np.exp, np.exp),
}


def newton(mean, slope, outcome):
    beta = np.zeros(3)
    for _ in range(60):
        eta = X @ beta
        hessian = (X * slope(eta)[:, None]).T @ X
        beta = beta + np.linalg.solve(hessian, X.T @ (outcome - mean(eta)))
    return beta


def effects(mean, slope, beta):
    """Of the continuous column 1 and of the step in column 2, per row."""
    rest = X[:, :2] @ beta[:2]
    return np.column_stack(
        [slope(X @ beta) * beta[1], mean(rest + beta[2]) - mean(rest)]
    )


def joint_sandwich(mean, slope, beta, outcome):
    """Covariance of (beta, effects) with derivatives by central differences."""
    own = effects(mean, slope, beta)
    step = 1e-5
    slopes = np.column_stack(
        [
            (effects(mean, slope, beta + d) - effects(mean, slope, beta - d)).mean(
                axis=0
            )
            / (2 * step)
            for d in step * np.eye(3)
        ]
    )
    hessian = (X * slope(X @ beta)[:, None]).T @ X / N
    scores = X * (outcome - mean(X @ beta))[:, None]
    moved = scores @ np.linalg.inv(hessian).T
    influence = own - own.mean(axis=0) + moved @ slopes.T
    delta_only = moved @ slopes.T
    return influence.T @ influence / N**2, delta_only.T @ delta_only / N**2


@pytest.mark.parametrize(
    "model, columns",
    [
        ("logistic", (2, 1)),
        pytest.param("poisson", None, marks=pytest.mark.slow),  # as many programs again
    ],
)
def test_effects_of_gold_labels_and_their_covariance(model, columns, x64):
    result = average_marginal_effects(
        X,
        Y,
        model=model,
        columns=columns,
        discrete=[2],
        y_predicted=GUESS,
        labeled=np.ones(N, bool),
    )
    mean, slope = MEANS[model]
    beta = newton(mean, slope, Y)
    order = slice(None) if columns is None else slice(None, None, -1)
    expected = effects(mean, slope, beta).mean(axis=0)[order]
    assert_close(result.estimate, expected, rtol=1e-8)
    covariance, delta_only = joint_sandwich(mean, slope, beta, Y)
    covariance = covariance[order, order]
    delta_only = delta_only[order, order]
    # Central differences in the reference leave about 1e-9.
    assert_close(result.covariance, covariance, rtol=1e-7, atol=1e-12)
    assert not np.allclose(np.diag(covariance), np.diag(delta_only), rtol=1e-3)
    assert bool(result.converged)


def test_effects_of_debiased_outcomes(x64):
    result = average_marginal_effects(
        X,
        SEEN,
        columns=(2, 1),
        discrete=[2],
        y_predicted=GUESS,
        labeled=LABELED,
        sampling_prob=PI,
        power_tuning=None,
    )
    pseudo = GUESS + np.where(LABELED, (Y - GUESS) / PI, 0)
    mean, slope = MEANS["logistic"]
    beta = newton(mean, slope, pseudo)
    expected = effects(mean, slope, beta).mean(axis=0)[::-1]
    assert_close(result.estimate, expected, rtol=1e-8)
    covariance, _ = joint_sandwich(mean, slope, beta, pseudo)
    assert_close(result.covariance, covariance[::-1, ::-1], rtol=1e-7, atol=1e-12)


def test_optimal_tuning_concerns_the_coefficients(x64):
    options = dict(y_predicted=GUESS, labeled=LABELED, sampling_prob=PI)
    result = average_marginal_effects(X, SEEN, columns=(2, 1), discrete=[2], **options)
    fit = debiased.logistic(X, SEEN, **options)
    # Covariates are known everywhere: averages over units take all of them.
    expected = effects(*MEANS["logistic"], np.asarray(fit.estimate)).mean(axis=0)
    assert_close(result.estimate, expected[::-1], rtol=1e-8)
    assert_close(result.power_tuning[:3, :3], fit.power_tuning, rtol=1e-12)
    assert_close(result.power_tuning[3:], np.eye(5)[3:], rtol=0)
    assert int(result.num_steps) == int(fit.num_steps)


@pytest.mark.slow  # the stacked equation solved by Newton takes long to compile
def test_predicted_covariates_are_tuned_in_the_stacked_equation(x64):
    noisy = X + np.column_stack([0 * Y, 0.3 * RNG.normal(size=N), 0 * Y])
    seen = np.where(LABELED[:, None], X, np.nan)
    seen[:, [0, 2]] = X[:, [0, 2]]
    options = dict(X_predicted=noisy, labeled=LABELED, sampling_prob=PI)
    plain = average_marginal_effects(
        seen, Y, discrete=[2], power_tuning=None, **options
    )
    fit = debiased.logistic(seen, Y, power_tuning=None, **options)
    beta = np.asarray(fit.estimate)

    def effects_of(x):
        rest = x[:, :2] @ beta[:2]
        p = expit(x @ beta)
        steps = expit(rest + beta[2]) - expit(rest)
        return np.column_stack([p * (1 - p) * beta[1], steps])

    gold, guess = effects_of(X) * W[:, None], effects_of(noisy) * (1 - W)[:, None]
    assert_close(plain.estimate, (gold + guess).mean(axis=0), rtol=1e-8)
    tuned = average_marginal_effects(seen, Y, discrete=[2], **options)
    assert bool(tuned.converged)
    assert not np.allclose(tuned.power_tuning[3:], np.eye(5)[3:], atol=0.1)


BAD = {
    "constant": (dict(columns=[0]), "`columns` must name columns of `X` that vary"),
    "outside": (dict(columns=[3]), "`columns` must name.*from 0 to 2, got 3"),
    "discrete": (dict(discrete=[1]), "`discrete` names column 1, which is not 0 or 1"),
    "stray": (dict(columns=[1], discrete=[2]), "`discrete` must be among `columns`"),
    "empty": (dict(columns=[]), "`columns` is empty"),
    "model": (dict(model="probit"), "`model` must be one of 'logistic', 'poisson'"),
}


@pytest.mark.parametrize("changes, message", list(BAD.values()), ids=list(BAD))
def test_wrong_columns_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        average_marginal_effects(X, SEEN, y_predicted=GUESS, labeled=LABELED, **changes)


def test_columns_are_needed_under_jit():
    with pytest.raises(ValueError, match="pass `columns`"):
        jax.jit(
            lambda x: average_marginal_effects(x, Y, y_predicted=GUESS, labeled=LABELED)
        )(X)


def test_separation_warns_and_has_no_standard_error(x64):
    outcome = (X[:, 1] > 0).astype(float)
    with pytest.warns(debiased.InferenceWarning, match="separates the labels"):
        result = average_marginal_effects(
            X,
            outcome,
            columns=(2, 1),
            discrete=[2],
            y_predicted=outcome,
            labeled=LABELED,
            sampling_prob=PI,
            power_tuning=None,
        )
    assert not bool(result.converged)
    assert np.isnan(np.asarray(result.std_error)).all()

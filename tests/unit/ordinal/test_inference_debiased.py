import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ordinal
from tests.helpers import assert_close
from tests.unit.ordinal.problem import K, N, P, probabilities, sample

pytestmark = pytest.mark.usefixtures("x64")
Z = 1.959963984540054
POINTS = np.array([[1.0, -3.0], [2.0, -1.0]])
COMMON = {"num_classes": K, "points": POINTS, "correct_bias": False}


def flat(intercepts, coefficients):
    return np.concatenate([intercepts, np.asarray(coefficients).T.ravel()])


def test_without_a_penalty_it_is_the_fit_with_its_standard_errors():
    X, y = sample()
    found = ordinal.debiased_intervals(X, y, **COMMON)
    fit = ordinal.fit(X, y, num_classes=K)
    errors = ordinal.standard_errors(fit, X, y)
    assert int(found.status) == 0
    assert_close(found.coefficients, fit.coefficients, rtol=1e-7)
    assert_close(found.intercepts, fit.intercepts, rtol=1e-7)
    assert_close(found.covariance, errors.covariance, rtol=1e-5)
    half = Z * np.asarray(errors.coefficients)
    ends = np.stack([fit.coefficients - half, fit.coefficients + half], axis=-1)
    assert_close(found.coefficients_interval, ends, rtol=1e-5)
    rare = ordinal.rare_probability_interval(fit, POINTS, errors)
    assert_close(found.rare_interval, rare.interval, rtol=1e-5)
    assert_close(found.rare_probability, rare.estimate, rtol=1e-7)
    # One logit: the ends of the last boundary, mirrored.
    tail = 1 / (1 + np.exp(np.asarray(found.predictors_interval)[:, -1, ::-1]))
    assert_close(found.rare_interval, tail, rtol=1e-7)


@pytest.mark.parametrize("regularization", [0.02, 0.3])
def test_five_steps_undo_the_shrinkage(regularization):
    X, y = sample()
    fit = ordinal.fit(X, y, num_classes=K)
    found = ordinal.debiased_intervals(X, y, regularization=regularization, **COMMON)
    assert not np.allclose(found.penalised.coefficients, fit.coefficients, rtol=0.05)
    assert_close(found.coefficients, fit.coefficients, rtol=1e-3, atol=1e-3)


def row_losses(theta, X, y):
    """-log P(y_i) by parameters (alpha, B boundary by boundary)."""
    alpha, beta = theta[: K - 1], theta[K - 1 :].reshape(K - 1, P).T
    below = jax.nn.sigmoid(alpha + jnp.asarray(X) @ beta)
    edges = jnp.pad(below, ((0, 0), (1, 0)))
    edges = jnp.pad(edges, ((0, 0), (0, 1)), constant_values=1.0)
    return -jnp.log(jnp.diff(edges, axis=1)[jnp.arange(N), y])


def half_trace(theta, X, y):
    """Half the trace of information^-1 times the squared scores."""
    information = jax.hessian(lambda t: jnp.sum(row_losses(t, X, y)))(theta)
    scores = jax.jacfwd(row_losses)(theta, X, y)
    return jnp.trace(jnp.linalg.solve(information, scores.T @ scores)) / 2


@pytest.mark.parametrize("correct", [False, True])
def test_one_step_is_newtons_by_automatic_differentiation(correct):
    X, y = sample()
    options = {**COMMON, "num_steps": 1, "correct_bias": correct}
    found = ordinal.debiased_intervals(X, y, regularization=0.02, **options)
    penalised = found.penalised
    start = jnp.asarray(flat(penalised.intercepts, penalised.coefficients))

    @jax.jit
    def derivatives(theta):
        def loss(theta):
            return jnp.sum(row_losses(theta, X, y))

        slope = jax.grad(loss)(theta)
        if correct:
            slope = slope + jax.grad(half_trace)(theta, X, y)
        return slope, jax.hessian(loss)(theta)

    slope, hessian = derivatives(start)
    expected = start - np.linalg.solve(hessian, slope)
    ours = flat(found.intercepts, found.coefficients)
    assert_close(ours, expected, rtol=1e-7)
    assert_close(found.covariance, np.linalg.inv(hessian), rtol=1e-7)


def test_differences_are_steps_between_boundaries():
    X, y = sample()
    found = ordinal.debiased_intervals(X, y, regularization=0.02, **COMMON)
    beta = np.asarray(found.coefficients)
    assert_close(
        found.differences, np.diff(beta, axis=1, prepend=0.0), rtol=0, atol=1e-12
    )
    covariance = np.asarray(found.covariance)
    first, second = K - 1, K - 1 + P
    variance = (
        covariance[first, first]
        + covariance[second, second]
        - 2 * covariance[first, second]
    )
    width = np.diff(np.asarray(found.differences_interval))[0, 1, 0]
    assert_close(width, 2 * Z * np.sqrt(variance), rtol=1e-8)
    parallel = ordinal.debiased_intervals(
        X, y, regularization=0.02, penalty=ordinal.Parallel(), **COMMON
    )
    assert np.all(np.asarray(parallel.differences)[:, 1:] == 0)
    assert np.all(np.asarray(parallel.differences_interval)[:, 1:] == 0)


def test_sandwich_and_clusters():
    X, y = sample()
    plain = ordinal.debiased_intervals(X, y, kind="sandwich", **COMMON)
    fit = ordinal.fit(X, y, num_classes=K)
    expected = ordinal.standard_errors(fit, X, y, kind="sandwich")
    assert_close(plain.covariance, expected.covariance, rtol=1e-5)
    own = ordinal.debiased_intervals(
        X, y, kind="cluster", clusters=np.arange(N) * 7, **COMMON
    )
    assert_close(own.covariance, plain.covariance, rtol=1e-8)


def test_collinear_columns_give_nan_and_a_status():
    X, y = sample()
    X[:, 1] = 2 * X[:, 0]
    found = ordinal.debiased_intervals(X, y, regularization=0.05, **COMMON)
    assert int(found.status) == 4
    for leaf in (found.coefficients, found.rare_interval, found.differences_interval):
        assert np.all(np.isnan(leaf))
    assert np.all(np.isfinite(found.penalised.coefficients))


def test_a_constant_column_is_nothing():
    X, y = sample()
    X[:, 1] = 5.0
    found = ordinal.debiased_intervals(X, y, regularization=0.05, **COMMON)
    assert int(found.status) == 0
    assert np.all(np.asarray(found.coefficients)[1] == 0)
    # Not estimated: no interval, where one of no width would look certain.
    assert np.all(np.isnan(found.coefficients_interval[1]))
    assert np.all(np.isnan(found.differences_interval[1]))
    assert np.all(np.isfinite(found.coefficients_interval[0]))
    assert np.all(np.isfinite(found.rare_interval))
    errors = ordinal.standard_errors(ordinal.fit(X, y, num_classes=K), X, y)
    assert np.all(np.isnan(errors.coefficients[1]))
    assert np.all(np.asarray(errors.coefficients)[0] > 0)


@pytest.mark.slow
def test_it_works_under_jit_and_vmap():
    X, y = sample()

    def interval(weights):
        found = ordinal.debiased_intervals(
            X, y, weights=weights, regularization=0.02, **COMMON
        )
        return found.rare_interval

    ones = jnp.ones((2, N)).at[1, :5].set(0.0)
    both = jax.jit(jax.vmap(interval))(ones)
    assert_close(both[0], interval(ones[0]), rtol=1e-6)
    assert not np.allclose(both[0], both[1])


def test_misuse():
    X, y = sample()
    with pytest.raises(ValueError, match="`points` must have shape"):
        ordinal.debiased_intervals(X, y, num_classes=K, points=POINTS[:, :1])
    with pytest.raises(ValueError, match="belong together"):
        ordinal.debiased_intervals(X, y, num_classes=K, kind="cluster")
    with pytest.raises(ValueError, match="`num_steps`"):
        ordinal.debiased_intervals(X, y, num_classes=K, num_steps=0)
    with pytest.raises(ValueError, match="`confidence_level`"):
        ordinal.debiased_intervals(X, y, num_classes=K, confidence_level=95.0)


def test_the_probability_above_the_last_boundary():
    X, y = sample()
    found = ordinal.debiased_intervals(X, y, **COMMON)
    probs = probabilities(
        np.asarray(found.intercepts), np.asarray(found.coefficients), POINTS
    )
    assert_close(found.rare_probability, probs[:, -1], rtol=1e-10)

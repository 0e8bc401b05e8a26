"""jit, vmap, grad, dtypes and invariances of the debiased estimators."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased
from tests.helpers import assert_close

N = 300


@functools.cache
def world():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(N), rng.normal(size=(N, 2))])
    eta = X @ [0.3, 0.8, -0.4]
    y = {
        "ols": eta + rng.normal(size=N),
        "logistic": (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(float),
        "poisson": rng.poisson(np.exp(eta)).astype(float),
        "gamma": rng.gamma(2.0, np.exp(eta) / 2),
        "multinomial": rng.integers(0, 3, N),
        "ordered_logit": np.clip(np.round(eta + rng.logistic(size=N)), 0, 2),
    }
    guess = {k: np.where(rng.random(N) < 0.2, np.roll(v, 1), v) for k, v in y.items()}
    return X, y, guess, rng.random(N) < 0.4


def call(name, X, y, guess, labeled, **options):
    options |= {"y_predicted": guess, "labeled": labeled}
    if name == "gamma":
        return debiased.glm(X, y, family="gamma", **options)
    if name in ("multinomial", "ordered_logit"):
        options["num_classes"] = 3
        X = X[:, 1:] if name == "ordered_logit" else X
    return getattr(debiased, name)(X, y, **options)


# The classes of models; the rest differ from these in a formula only.
NAMES = ["ols", "logistic", "ordered_logit"]
NAMES += [pytest.param(name, marks=pytest.mark.slow) for name in ("poisson", "gamma")]
NAMES += [pytest.param("multinomial", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", NAMES)
def test_jit_with_traced_labels_equals_eager(name, x64):
    dtype = jnp.dtype(jnp.float64)
    X, y, guess, labeled = world()
    y, guess = y[name].astype(dtype), guess[name].astype(dtype)
    prob = np.full(N, 0.4, dtype)
    eager = call(name, X, y, guess, labeled, sampling_prob=prob)
    compiled = jax.jit(functools.partial(call, name))(
        *map(jnp.asarray, (X, y, guess, labeled)), sampling_prob=jnp.asarray(prob)
    )
    assert eager.estimate.dtype == compiled.estimate.dtype == dtype
    rtol = 1e-9
    assert_close(compiled.estimate, eager.estimate, rtol=rtol, atol=1e-11)
    assert_close(compiled.std_error, eager.std_error, rtol=rtol)
    assert_close(
        compiled.diagnostics.gold_std_error,
        eager.diagnostics.gold_std_error,
        rtol=rtol,
    )


@pytest.mark.parametrize("name", ["ols", "logistic", "poisson"])
def test_float32_is_close_to_float64(name):
    X, y, guess, labeled = world()
    args = (X, y[name], guess[name], labeled)
    single = call(name, *(np.float32(a) for a in args[:3]), labeled)
    with jax.enable_x64(True):
        double = call(name, *args)
        assert_close(single.estimate, double.estimate, rtol=2e-3, atol=2e-4)
        assert_close(single.std_error, double.std_error, rtol=2e-3)


@pytest.mark.parametrize("name", ["ols", "logistic"])
def test_vmap_over_replications_equals_a_loop(name, x64):
    X, y, guess, _ = world()
    masks = np.random.default_rng(1).random((3, N)) < 0.4

    def one(labeled):
        return call(name, X, y[name], guess[name], labeled, sampling_prob=0.4)

    stacked = jax.jit(jax.vmap(one))(jnp.asarray(masks))
    for row, mask in enumerate(masks):
        single = one(mask)
        assert_close(stacked.estimate[row], single.estimate, rtol=1e-9)
        assert_close(stacked.covariance[row], single.covariance, rtol=1e-8)
    assert stacked.std_error.shape == (3, 3)
    assert stacked.conf_int().shape == (3, 3, 2)
    assert stacked.p_value().shape == (3, 3)
    assert stacked.conf_int(reference="t").shape == (3, 3, 2)


def test_vmap_over_outcomes_shares_the_covariates(x64):
    X, y, guess, labeled = world()
    ys, gs = (np.stack([d["ols"], d["poisson"]]) for d in (y, guess))
    both = jax.vmap(
        lambda a, b: debiased.ols(X, a, y_predicted=b, labeled=jnp.asarray(labeled))
    )(jnp.asarray(ys), jnp.asarray(gs))
    for row in range(2):
        alone = debiased.ols(X, ys[row], y_predicted=gs[row], labeled=labeled)
        assert_close(both.estimate[row], alone.estimate, rtol=1e-10)


def test_gradient_of_an_estimate_by_finite_differences(x64):
    X, y, guess, labeled = world()

    def slope(shift):
        moved = jnp.asarray(guess["ols"]) * (1 + shift)
        result = debiased.ols(
            X,
            y["ols"],
            y_predicted=moved,
            labeled=jnp.asarray(labeled),
            sampling_prob=0.4,
        )
        return result.estimate[1] + result.std_error[2]

    step = 1e-5
    numeric = (slope(step) - slope(-step)) / (2 * step)
    assert_close(jax.grad(slope)(0.0), numeric, rtol=1e-6)


@pytest.mark.parametrize("tuning", [None, "optimal", "scalar", "per_coordinate"])
@pytest.mark.parametrize("name", ["ols", "logistic"])
def test_equivariance_under_a_change_of_basis(name, tuning, x64):
    if tuning in ("scalar", "per_coordinate"):
        # One number for several coefficients depends on which they are: rescaled
        # columns, not mixed ones, leave "per_coordinate" unchanged.
        C = np.diag([2.0, 0.01, 300.0])
        if tuning == "scalar":
            C = 5 * np.eye(3)
    else:
        C = np.array([[1.0, 0.5, 0.0], [0.0, 100.0, 0.0], [0.3, 0.0, 0.02]])
    X, y, guess, labeled = world()
    options = {"sampling_prob": 0.4, "power_tuning": tuning}
    base = call(name, X, y[name], guess[name], labeled, **options)
    moved = call(name, X @ C, y[name], guess[name], labeled, **options)
    inverse = np.linalg.inv(C)
    assert_close(moved.estimate, inverse @ np.asarray(base.estimate), rtol=1e-8)
    expected = inverse @ np.asarray(base.covariance) @ inverse.T
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert_close(np.asarray(moved.covariance) / scale, expected / scale, rtol=1e-7)


@pytest.mark.parametrize("name", ["ols", "logistic"])
def test_row_order_and_cluster_names_do_not_matter(name, x64):
    X, y, guess, labeled = world()
    clusters = np.arange(N) % 11
    base = call(
        name, X, y[name], guess[name], labeled, sampling_prob=0.4, clusters=clusters
    )
    order = np.random.default_rng(2).permutation(N)
    moved = call(
        name,
        X[order],
        y[name][order],
        guess[name][order],
        labeled[order],
        sampling_prob=0.4,
        clusters=1000 - 7 * clusters[order],
    )
    assert_close(moved.estimate, base.estimate, rtol=1e-9)
    assert_close(moved.covariance, base.covariance, rtol=1e-8)


def test_affine_recoding_of_the_outcome(x64):
    X, y, guess, labeled = world()
    base = debiased.ols(X, y["ols"], y_predicted=guess["ols"], labeled=labeled)
    recoded = debiased.ols(
        X, 3 * y["ols"] - 2, y_predicted=3 * guess["ols"] - 2, labeled=labeled
    )
    shift = np.array([2.0, 0, 0])
    assert_close(recoded.estimate, 3 * np.asarray(base.estimate) - shift, rtol=1e-9)
    assert_close(recoded.covariance, 9 * np.asarray(base.covariance), rtol=1e-9)


def test_blocks_of_rows_sum_to_the_whole(x64):
    # More rows than two blocks, and a remainder.
    rng = np.random.default_rng(4)
    n = 10_001
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = X @ [1.0, 2.0] + rng.normal(size=n)
    guess, labeled, pi = y + rng.normal(size=n), rng.random(n) < 0.3, 0.3
    result = debiased.ols(
        X, y, y_predicted=guess, labeled=labeled, sampling_prob=pi, power_tuning=None
    )
    w = labeled / pi
    pseudo = guess + w * (y - guess)
    # With the outcome alone predicted the plain estimator is OLS of pseudo-outcomes.
    expected = np.linalg.lstsq(X, pseudo)[0]
    assert_close(result.estimate, expected, rtol=1e-10)
    e = pseudo - X @ expected
    bread = np.linalg.inv(X.T @ X)
    meat = (X * (e * e)[:, None]).T @ X
    assert_close(result.covariance, bread @ meat @ bread, rtol=1e-10)


def test_float32_keeps_four_digits_in_a_million_rows():
    rng = np.random.default_rng(5)
    n = 1_000_000
    # Values far from zero: single precision has seven digits, their sum of squares
    # leaves four without refinement.
    X = np.column_stack([np.ones(n), 10 + rng.normal(size=n)])
    y = X @ [1.0, 0.5] + rng.normal(size=n)
    guess, labeled = y + 0.5 * rng.normal(size=n), rng.random(n) < 0.1
    options = {"labeled": labeled, "sampling_prob": 0.1}
    single = debiased.ols(
        X.astype(np.float32),
        y.astype(np.float32),
        y_predicted=guess.astype(np.float32),
        **options,
    )
    with jax.enable_x64(True):
        double = debiased.ols(X, y, y_predicted=guess, **options)
        assert_close(single.estimate, double.estimate, rtol=1e-4)
        assert_close(single.std_error, double.std_error, rtol=1e-3)

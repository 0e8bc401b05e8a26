import jax
import numpy as np
import pytest

from jaxcur import ordinal
from tests.helpers import assert_close
from tests.unit.ordinal.problem import K, N, probabilities, sample

pytestmark = pytest.mark.usefixtures("x64")
B = 30
POINTS = np.array([[1.0, -3.0], [2.0, -1.0]])
# At 30 resamples the order statistics are interior only for wide tails.
TAILS = [0.1, 0.9]
COMMON = {
    "num_classes": K,
    "regularization": 0.01,
    "points": POINTS,
    "confidence_level": 0.8,
}


def test_weights_given_are_replayed_and_intervals_are_quantiles():
    X, y = sample()
    drawn = np.random.default_rng(0).exponential(size=(B, N))
    drawn[3] = 1.0
    drawn[5, y == 2] = 0.0
    found = ordinal.bootstrap(X, y, resample_weights=drawn, **COMMON)
    assert_close(found.coefficients[3], found.result.coefficients, rtol=1e-6)
    one = ordinal.fit(X, y, num_classes=K, regularization=0.01, weights=drawn[7])
    assert_close(found.coefficients[7], one.coefficients, rtol=1e-8)
    assert_close(found.intercepts[7], one.intercepts, rtol=1e-8)
    # The resample without class 2 has no fit: NaN, counted, and in no quantile.
    assert np.asarray(found.status).tolist() == [0] * 5 + [3] + [0] * 24
    assert int(found.num_left_out) == 1
    assert np.all(np.isnan(found.coefficients[5]))
    kept = np.delete(np.arange(B), 5)
    slopes = np.asarray(found.coefficients)[kept]
    ends = np.moveaxis(np.quantile(slopes, TAILS, axis=0, method="weibull"), 0, -1)
    assert_close(found.coefficients_interval, ends, rtol=1e-10)
    estimate = np.asarray(found.result.coefficients)[..., None]
    assert_close(found.coefficients_basic, 2 * estimate - ends[..., ::-1], rtol=1e-10)
    rare = np.stack(
        [
            probabilities(alpha, beta, POINTS)[:, -1]
            for alpha, beta in zip(np.asarray(found.intercepts)[kept], slopes)
        ]
    )
    odds = np.quantile(np.log(rare / (1 - rare)), TAILS, axis=0, method="weibull").T
    assert_close(found.rare_interval, 1 / (1 + np.exp(-odds)), rtol=1e-9)
    center = np.asarray(found.rare_probability)
    mirrored = 2 * np.log(center / (1 - center))[:, None] - odds[:, ::-1]
    assert_close(found.rare_basic, 1 / (1 + np.exp(-mirrored)), rtol=1e-8)


@pytest.mark.parametrize("kind", ["bayesian", "pairs"])
def test_a_key_draws_what_it_says(kind):
    X, y = sample()
    key = jax.random.key(0)
    found = ordinal.bootstrap(X, y, key=key, num_resamples=B, kind=kind, **COMMON)
    one = jax.random.fold_in(key, 4)
    if kind == "pairs":
        rows = np.asarray(jax.random.randint(one, (N,), 0, N))
        weights = np.bincount(rows, minlength=N).astype(float)
    else:
        weights = np.asarray(jax.random.exponential(one, (N,)))
    fit = ordinal.fit(X, y, num_classes=K, regularization=0.01, weights=weights)
    assert_close(found.coefficients[4], fit.coefficients, rtol=1e-7)
    assert int(found.num_left_out) == int(np.sum(np.asarray(found.status) == 3))


def test_misuse():
    X, y = sample()
    with pytest.raises(ValueError, match="and not both"):
        ordinal.bootstrap(X, y, **COMMON)
    with pytest.raises(ValueError, match="and not both"):
        ordinal.bootstrap(
            X, y, key=jax.random.key(0), resample_weights=np.ones((2, N)), **COMMON
        )
    with pytest.raises(ValueError, match="'bayesian', 'pairs'"):
        ordinal.bootstrap(X, y, key=jax.random.key(0), kind="rows", **COMMON)
    with pytest.raises(ValueError, match=r"\(num_resamples, 60\)"):
        ordinal.bootstrap(X, y, resample_weights=np.ones(N), **COMMON)
    with pytest.raises(ValueError, match="at least 0"):
        ordinal.bootstrap(X, y, resample_weights=-np.ones((2, N)), **COMMON)

"""One world per estimand, with a machine that is right about nine times in ten.

Its errors depend on the covariates, so that predictions taken for labels mislead.
Truths are the parameters of the laws that draw the data.
"""

from functools import partial
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import expit

from jaxcur import debiased
from jaxcur.guarantees._debiased_problem import (
    Problem,
    Size,
    draw_labels,
    first_rows,
)

MEAN = 0.3
LINEAR = np.array([1.0, 0.5, -1.0])
LOGISTIC = np.array([-0.5, 0.7, -0.7])
POISSON = np.array([0.3, 0.4, -0.4])
CLASSES = 3
MULTINOMIAL = np.array([[0.3, 0.7], [-0.3, -0.5]])
ORDERED = np.array([0.8, -0.8, 0.6])
IV = np.array([1.0, 0.5])
NORMAL = np.array([0.5, 0.2])
QUANTILE = 0.7
SLOPES = np.array([1.0, -0.5])
PERIODS = 50
NORMAL_LAW = NormalDist()


def split_keys(key: Array, count: int) -> list[Array]:
    return [jax.random.fold_in(key, i) for i in range(count)]


def covariates(key: Array, rows: int) -> Array:
    """A constant, a normal variable and a balanced two-valued one, (rows, 3)."""
    first, second = jax.random.split(key)
    x1 = jax.random.normal(first, (rows,))
    x2 = jnp.where(jax.random.uniform(second, (rows,)) < 0.5, -0.5, 0.5)
    return jnp.stack([jnp.ones(rows), x1, x2], 1)


def flipped(key: Array, y: Array, x: Array) -> Array:
    """A binary label, wrong at 6 % where x <= 0 and at 18 % elsewhere."""
    wrong = jax.random.uniform(key, y.shape) < jnp.where(x > 0, 0.18, 0.06)
    return jnp.where(wrong, 1 - y, y)


def binary_mean(key: Array, rows: int) -> tuple[Array, Array]:
    """Covariate and label with P(label) = MEAN, both (rows,)."""
    x, e = jax.random.normal(key, (2, rows))
    cut = NORMAL_LAW.inv_cdf(1 - MEAN)
    return x, ((x + e) / np.sqrt(2) > cut).astype(x.dtype)


def mean(key: Array, size: Size) -> Problem:
    """Share of a class; a simple random sample is labelled."""
    data, machine = split_keys(key, 2)
    x, y = binary_mean(data, size.rows)
    guess = flipped(machine, y, x)
    return Problem(
        debiased.mean, {"y": y}, {"y": guess}, first_rows(size), np.array([MEAN])
    )


def linear_outcome(key: Array, X: Array) -> Array:
    """Heteroskedastic, with coefficients LINEAR."""
    e = jax.random.normal(key, X.shape[:1]) * (0.6 + 0.4 * jnp.abs(X[:, 1]))
    return X @ LINEAR.astype(X.dtype) + e


def graded(guess: Array, size: Size) -> Array:
    """Probabilities of a label from a quarter of the average to seven times that."""
    return size.share * (0.25 + 1.5 * expit(1.5 * (guess - 1)))


def ols(key: Array, size: Size) -> Problem:
    """Outcome predicted with correlation 0.8; likely labels where it looks large."""
    keys = split_keys(key, 4)
    X = covariates(keys[0], size.rows)
    y = linear_outcome(keys[1], X)
    noise = jax.random.normal(keys[2], y.shape)
    guess = 0.8 * y + 0.3 + 0.4 * X[:, 1] + 0.6 * noise
    design = draw_labels(keys[3], graded(guess, size), size.rows)
    return Problem(debiased.ols, {"X": X, "y": y}, {"y": guess}, design, LINEAR)


def ols_covariate(key: Array, size: Size) -> Problem:
    """The covariate is predicted, the outcome known."""
    keys = split_keys(key, 3)
    X = covariates(keys[0], size.rows)
    y = linear_outcome(keys[1], X)
    guess = X[:, 1] + 0.2 + 0.6 * jax.random.normal(keys[2], y.shape)
    machine = {"X": X.at[:, 1].set(guess)}
    return Problem(debiased.ols, {"X": X, "y": y}, machine, first_rows(size), LINEAR)


def binary_regression(key: Array, rows: int) -> tuple[Array, Array]:
    """Covariates (rows, 3) and labels of a logistic model."""
    keys = split_keys(key, 2)
    X = covariates(keys[0], rows)
    prob = expit(X @ LOGISTIC.astype(X.dtype))
    y = (jax.random.uniform(keys[1], (rows,)) < prob).astype(X.dtype)
    return X, y


def logistic(key: Array, size: Size) -> Problem:
    """Outcome predicted with accuracy 0.88; a simple random sample is labelled."""
    data, machine = split_keys(key, 2)
    X, y = binary_regression(data, size.rows)
    guess = {"y": flipped(machine, y, X[:, 1])}
    return Problem(
        debiased.logistic, {"X": X, "y": y}, guess, first_rows(size), LOGISTIC
    )


def counts(key: Array, mu: Array, most: int = 16) -> Array:
    """Poisson counts with means well below `most`, by inversion."""
    u = jax.random.uniform(key, mu.shape)
    term = jnp.exp(-mu)
    below, y = term, jnp.zeros_like(mu)
    for k in range(1, most):
        y += u > below
        term = term * mu / k
        below += term
    return y


def poisson(key: Array, size: Size) -> Problem:
    """Counts; one prediction in five is a count of another text."""
    keys = split_keys(key, 5)
    u = jax.random.uniform(keys[0], (size.rows, 2), minval=-1.5, maxval=1.5)
    X = jnp.concatenate([jnp.ones((size.rows, 1)), u], 1)
    y = counts(keys[1], jnp.exp(X @ POISSON.astype(X.dtype)))
    other = counts(keys[2], jnp.full_like(y, 2.0))
    swapped = jax.random.uniform(keys[3], y.shape) < 0.2
    design = draw_labels(keys[4], size.share, size.rows)
    guess = {"y": jnp.where(swapped, other, y)}
    return Problem(debiased.poisson, {"X": X, "y": y}, guess, design, POISSON)


def gamma(key: Array, size: Size) -> Problem:
    """Positive outcome of shape 2, predicted up to a factor."""
    keys = split_keys(key, 3)
    X = covariates(keys[0], size.rows)
    u = jax.random.uniform(keys[1], (2, size.rows), minval=1e-6)
    y = jnp.exp(X @ POISSON.astype(X.dtype)) * -jnp.mean(jnp.log(u), axis=0)
    factor = 0.2 + 0.2 * X[:, 1] + 0.3 * jax.random.normal(keys[2], y.shape)
    guess = {"y": y * jnp.exp(factor)}
    fit = partial(debiased.glm, family="gamma")
    return Problem(fit, {"X": X, "y": y}, guess, first_rows(size), POISSON)


def _classes(key: Array, rows: int) -> tuple[Array, Array]:
    keys = split_keys(key, 2)
    X = jnp.stack([jnp.ones(rows), jax.random.normal(keys[0], (rows,))], 1)
    logits = jnp.pad(X @ MULTINOMIAL.T.astype(X.dtype), ((0, 0), (0, 1)))
    return X, jax.random.categorical(keys[1], logits)


def _reclassified(key: Array, y: Array, x: Array) -> Array:
    """Another class at 6 % where x <= 0, at 18 % elsewhere: the next one."""
    wrong = jax.random.uniform(key, y.shape) < jnp.where(x > 0, 0.18, 0.06)
    return jnp.where(wrong, (y + 1) % CLASSES, y)


def multinomial(key: Array, size: Size) -> Problem:
    """Three classes, predicted with accuracy 0.88."""
    data, machine = split_keys(key, 2)
    X, y = _classes(data, size.rows)
    guess = {"y": _reclassified(machine, y, X[:, 1])}
    fit = partial(debiased.multinomial, num_classes=CLASSES)
    truth = MULTINOMIAL.reshape(-1)
    return Problem(fit, {"X": X, "y": y}, guess, first_rows(size), truth)


def shares(key: Array, size: Size) -> Problem:
    """Shares of three classes; labels are more likely for one predicted class."""
    keys = split_keys(key, 3)
    x, e = jax.random.normal(keys[0], (2, size.rows))
    y = jnp.searchsorted(jnp.asarray(_SHARE_CUTS, x.dtype), (x + e) / np.sqrt(2))
    guess = _reclassified(keys[1], y, x)
    prob = size.share * jnp.asarray([0.7, 0.9, 1.5])[guess]
    design = draw_labels(keys[2], prob, size.rows)
    fit = partial(debiased.category_shares, num_classes=CLASSES)
    return Problem(fit, {"y": y}, {"y": guess}, design, SHARES)


SHARES = np.array([0.3, 0.5, 0.2])
_SHARE_CUTS = [NORMAL_LAW.inv_cdf(c) for c in np.cumsum(SHARES)[:-1]]


def ordered_logit(key: Array, size: Size) -> Problem:
    """Three ordered classes; the machine gives probabilities."""
    keys = split_keys(key, 3)
    x = jax.random.normal(keys[0], (size.rows, 1))
    u = jax.random.uniform(keys[1], (2, size.rows), minval=1e-6, maxval=1 - 1e-6)
    logistic_noise = jnp.log(u[0]) - jnp.log1p(-u[0])
    y = jnp.searchsorted(
        jnp.asarray(ORDERED[1:], x.dtype), ORDERED[0] * x[:, 0] + logistic_noise
    )
    seen = _reclassified(keys[2], y, x[:, 0])
    trust = (0.6 + 0.35 * u[1])[:, None]
    hit = jax.nn.one_hot(seen, CLASSES)
    guess = {"y": trust * hit + (1 - trust) / CLASSES}
    fit = partial(debiased.ordered_logit, num_classes=CLASSES)
    return Problem(fit, {"X": x, "y": y}, guess, first_rows(size), ORDERED)


def iv(key: Array, size: Size) -> Problem:
    """One endogenous covariate, two instruments for it; the outcome is predicted."""
    keys = split_keys(key, 2)
    z1, z2, u, v, noise = jax.random.normal(keys[0], (5, size.rows))
    x = 0.7 * z1 + 0.5 * z2 + 0.6 * u + 0.4 * v
    y = IV[0] + IV[1] * x + u
    guess = {"y": 0.9 * y + 0.3 * z1 + 0.4 * noise}
    one = jnp.ones(size.rows)
    gold = {
        "X": jnp.stack([one, x], 1),
        "y": y,
        "instruments": jnp.stack([one, z1, z2], 1),
    }
    return Problem(debiased.iv, gold, guess, first_rows(size), IV)


def _normal_moment(theta: Array, record: dict[str, Array]) -> Array:
    """Mean and log variance."""
    gap = record["y"] - theta[0]
    return jnp.stack([gap, gap * gap * jnp.exp(-theta[1]) - 1])


def _normal_fit(y: Array, y_predicted: Array, **options: Any) -> Any:
    return debiased.estimate(
        _normal_moment, {"y": y}, {"y": y_predicted}, init=np.zeros(2), **options
    )


def user_moment(key: Array, size: Size) -> Problem:
    """Mean and log variance of a normal outcome, written as a moment."""
    e, noise = jax.random.normal(key, (2, size.rows))
    y = NORMAL[0] + np.exp(NORMAL[1] / 2) * e
    guess = {"y": 0.7 * y + 0.4 + 0.5 * noise}
    return Problem(_normal_fit, {"y": y}, guess, first_rows(size), NORMAL)


def quantile(key: Array, size: Size) -> Problem:
    """A quantile of a skewed outcome."""
    e, noise = jax.random.normal(key, (2, size.rows))
    y = jnp.exp(0.6 * e)
    guess = {"y": jnp.exp(0.6 * (0.8 * e + 0.3 + 0.5 * noise))}
    fit = partial(debiased.quantile, q=QUANTILE)
    truth = np.exp([0.6 * NORMAL_LAW.inv_cdf(QUANTILE)])
    return Problem(fit, {"y": y}, guess, first_rows(size), truth)


def fixed_effects(key: Array, size: Size) -> Problem:
    """Units and periods, with covariates that depend on both."""
    keys = split_keys(key, 4)
    units = size.rows // PERIODS
    unit = np.arange(size.rows) // PERIODS
    period = np.arange(size.rows) % PERIODS
    effect = jax.random.normal(keys[0], (units,))[unit]
    effect = effect + jax.random.normal(keys[1], (PERIODS,))[period]
    e1, e2, e, noise = jax.random.normal(keys[2], (4, size.rows))
    X = jnp.stack([e1 + 0.5 * effect, e2], 1)
    y = X @ SLOPES.astype(X.dtype) + effect + e
    guess = {"y": 0.8 * y + 0.3 * e1 + 0.5 * noise}
    design = draw_labels(keys[3], size.share, size.rows)
    gold = {"X": X, "y": y, "groups": np.stack([unit, period], 1)}
    return Problem(debiased.fixed_effects, gold, guess, design, SLOPES)

"""Three ways to the probability of a rare last class, over many simulated samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import data, ordinal

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 1_500, 6, 4
INTERCEPTS = np.array([0.0, 3.0, 5.0])
SIZE = 0.7
NUM_FOLDS = 5
METHODS = ("binary logistic", "proportional odds", "PRESTO")
LOGISTIC, PROPORTIONAL, PRESTO = range(3)

# Strengths, from one that leaves nothing but intercepts in any of the samples here.
_STRENGTHS = 0.1 * 0.02 ** np.linspace(0, 1, 8)
# Differences of boundaries are zero, all else is free: the proportional odds model.
_ENORMOUS = np.full(len(_STRENGTHS), 10.0)

# Fits at a time, a multiple of what one sample needs.
_CHUNK = 35

# Patients: the classes are cut from the score of progression, the last one rare.
CUTS = (100.0, 180.0, 280.0)
COVARIATES = ("bmi", "bp", "s1", "s3", "s5", "age")
NUM_TRAIN = 295


class Worlds(NamedTuple):
    """Samples and the truth about them.

    Attributes:
        X: shape (worlds, n, p).
        y: shape (worlds, n).
        coefficients: shape (worlds, p, 3).
        rare: shape (worlds, n), true probability of the last class.
    """

    X: np.ndarray
    y: np.ndarray
    coefficients: np.ndarray
    rare: np.ndarray


class Fits(NamedTuple):
    """Intercept (...,) and slopes (..., p) of the last boundary, by method."""

    intercept: np.ndarray
    slopes: np.ndarray

    def rare(self, X: np.ndarray) -> np.ndarray:
        """Probability of the last class, rows of `X` on the last axis."""
        eta = np.einsum("...np,...p->...n", X, self.slopes)
        return 1 / (1 + np.exp(eta + self.intercept[..., None]))


class Found(NamedTuple):
    """What the methods say about every sample.

    Attributes:
        fits: of shape (3, samples).
        coefficients: shape (samples, p, 3), all boundaries of PRESTO.
        strengths: shape (samples,), what cross-validation chose for PRESTO.
    """

    fits: Fits
    coefficients: np.ndarray
    strengths: np.ndarray


def draw_worlds(seed: int, count: int) -> Worlds:
    """Coefficients and rows drawn anew for every world.

    The first boundary has each coefficient with probability one half, and from one
    boundary to the next each changes with probability one half, up or down.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[np.ndarray, ...]] = []
    while len(found) < count:
        first = SIZE * (rng.random(NUM_FEATURES) < 0.5)
        steps = SIZE * rng.choice([-1, 0, 0, 1], size=(NUM_FEATURES, NUM_CLASSES - 2))
        beta = np.cumsum(np.column_stack([first, steps]), axis=1)
        X = rng.uniform(-1, 1, size=(NUM_ROWS, NUM_FEATURES))
        eta = INTERCEPTS + X @ beta
        y = (rng.logistic(size=(NUM_ROWS, 1)) > eta).sum(axis=1)
        # Boundaries must not cross anywhere in the cube, and every class must occur.
        valid = (np.diff(INTERCEPTS) >= np.abs(steps).sum(axis=0)).all()
        # Twice, so that every fold leaves one to learn from.
        if valid and np.bincount(y, minlength=NUM_CLASSES).min() >= 2:
            found.append((X, y, beta, 1 / (1 + np.exp(eta[:, -1]))))
    return Worlds(*(np.stack(part) for part in zip(*found, strict=True)))


def patients() -> tuple[np.ndarray, np.ndarray]:
    """Six standardised measurements of the bundled patients, and their class."""
    bundled = data.load_diabetes()
    places = [bundled.feature_names.index(name) for name in COVARIATES]
    X = bundled.features[:, places]
    return (X - X.mean(axis=0)) / X.std(axis=0), np.digitize(bundled.progression, CUTS)


@jax.jit
def _paths(
    X: Array, y: Array, weights: Array, first: Array, strengths: Array
) -> tuple[Array, Array]:
    """Fits of every weighting: (fits, strengths, 3) and (fits, strengths, p, 3).

    All fits of this chapter are one program, which compiles once: a fold or a resample
    is a vector of weights, and proportional odds an enormous penalty on differences.
    """

    def one(arguments: tuple[Array, ...]) -> tuple[Array, Array]:
        features, response, mass, multiplier, values = arguments
        fits = ordinal.path(
            features,
            response,
            num_classes=NUM_CLASSES,
            penalty=ordinal.Presto(first=multiplier),
            weights=mass,
            regularizations=values,
        )
        return fits.intercepts, fits.coefficients

    return jax.lax.map(one, (X, y, weights, first, strengths))


@jax.jit
def _binary(X: Array, y: Array, weights: Array) -> tuple[Array]:
    """Logistic regression of "not the last class", (fits, 1 + p), by Newton steps."""

    def one(arguments: tuple[Array, ...]) -> Array:
        features, response, mass = arguments
        design = jnp.concatenate([jnp.ones((features.shape[0], 1)), features], axis=1)
        below = (response < NUM_CLASSES - 1).astype(design.dtype)

        def step(_: int, theta: Array) -> Array:
            p = jax.nn.sigmoid(design @ theta)
            # A trace of ridge keeps a separated sample finite.
            score = design.T @ (mass * (below - p)) - 1e-3 * theta
            weighted = design * (mass * p * (1 - p))[:, None]
            information = weighted.T @ design + 1e-3 * jnp.eye(design.shape[1])
            move = jnp.linalg.solve(information, score)
            return theta + move * jnp.minimum(1, 4 / jnp.max(jnp.abs(move)))

        return jax.lax.fori_loop(0, 15, step, jnp.zeros(design.shape[1]))

    return (jax.lax.map(one, (X, y, weights)),)


def _in_chunks(
    program: Callable[..., tuple[Array, ...]], *tables: np.ndarray
) -> list[np.ndarray]:
    """Apply a program to so many entries at a time that one shape serves all."""
    total = len(tables[0])
    parts: list[tuple[Array, ...]] = []
    for start in range(0, total, _CHUNK):
        wanted = np.arange(start, start + _CHUNK) % total
        chunk = [
            jnp.asarray(t[wanted], jnp.int32 if t.dtype.kind == "i" else jnp.float32)
            for t in tables
        ]
        parts.append(program(*chunk))
    return [np.concatenate(column)[:total] for column in zip(*parts, strict=True)]


def _best(y: np.ndarray, held: np.ndarray, alpha: np.ndarray, eta: np.ndarray) -> int:
    """Position of the largest strength of least Brier score on rows held out.

    Args:
        y: shape (n,).
        held: shape (folds, n), rows that a fold leaves out.
        alpha: shape (folds, strengths, 3).
        eta: shape (folds, strengths, n, 3), without intercepts.
    """
    below = 1 / (1 + np.exp(-(eta + alpha[:, :, None])))
    probs = np.diff(below, axis=-1, prepend=0.0, append=1.0)
    truth = np.arange(NUM_CLASSES) == y[:, None]
    losses = ((probs - truth) ** 2).sum(axis=-1)
    scores = np.einsum("fsn,fn->fs", losses, held) / held.sum(axis=1, keepdims=True)
    return int(scores.mean(axis=0).argmin())


def _padded(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of weight zero up to the common shape, so that one program serves all."""
    lack = NUM_ROWS - X.shape[1]
    weights = np.pad(np.ones(y.shape), ((0, 0), (0, lack)))
    return (
        np.pad(X, ((0, 0), (0, lack), (0, 0))),
        np.pad(y, ((0, 0), (0, lack))),
        weights,
    )


def fit_all(seed: int, X: np.ndarray, y: np.ndarray) -> Found:
    """Every method on every sample.

    Args:
        seed: draws the folds.
        X: shape (samples, n, p).
        y: shape (samples, n).
    """
    rng = np.random.default_rng(seed)
    X, y, present = _padded(X, y)
    samples, n = y.shape
    folds = np.empty((samples, n), int)
    for s in range(samples):  # stratified: the rows of a class are dealt out in turn
        order = np.lexsort((rng.random(n), y[s], -present[s]))
        folds[s, order] = np.arange(n) % NUM_FOLDS
    held = folds[:, None, :] == np.arange(NUM_FOLDS)[:, None]
    train = np.where(held, 0, present[:, None, :])
    weights = np.concatenate([train, present[:, None], present[:, None]], axis=1)
    each = NUM_FOLDS + 2
    strengths = np.tile(_STRENGTHS, (samples, each, 1))
    strengths[:, -1] = _ENORMOUS
    first = np.ones((samples, each))
    first[:, -1] = 0
    rows = np.repeat(np.arange(samples), each)
    alpha, beta = _in_chunks(
        _paths,
        X[rows],
        y[rows],
        weights.reshape(-1, n),
        first.reshape(-1),
        strengths.reshape(len(rows), -1),
    )
    alpha = alpha.reshape(samples, each, *alpha.shape[1:])
    beta = beta.reshape(samples, each, *beta.shape[1:])
    best = np.empty(samples, int)
    for s in range(samples):
        out = held[s] & (present[s] > 0)
        eta = np.einsum("np,fspk->fsnk", X[s], beta[s, :NUM_FOLDS])
        best[s] = _best(y[s], out, alpha[s, :NUM_FOLDS], eta)
    pick = np.arange(samples)
    [binary] = _in_chunks(_binary, X, y, present)
    intercept = [binary[:, 0], alpha[:, -1, 0, -1], alpha[pick, -2, best, -1]]
    slopes = [binary[:, 1:], beta[:, -1, 0, :, -1], beta[pick, -2, best, :, -1]]
    chosen = beta[pick, -2, best]
    return Found(Fits(np.stack(intercept), np.stack(slopes)), chosen, _STRENGTHS[best])


def resample(
    seed: int, X: np.ndarray, y: np.ndarray, strength: float, count: int
) -> Fits:
    """Logistic and PRESTO on one sample under random weights: the Bayesian bootstrap.

    Returns:
        Fits of shape (2, count): binary logistic, then PRESTO at the strength given.
    """
    weights = np.random.default_rng(seed).exponential(size=(count, len(y)))
    tables = np.tile(X, (count, 1, 1)), np.tile(y, (count, 1)), weights
    strengths = np.full((count, len(_STRENGTHS)), strength)
    alpha, beta = _in_chunks(_paths, *tables, np.ones(count), strengths)
    [binary] = _in_chunks(_binary, *tables)
    return Fits(
        np.stack([binary[:, 0], alpha[:, -1, -1]]),
        np.stack([binary[:, 1:], beta[:, -1, :, -1]]),
    )


class Scores(NamedTuple):
    """Errors of the last class on patients that were left out, shape (3, splits)."""

    brier: np.ndarray
    logloss: np.ndarray


def on_patients(seed: int, count: int) -> Scores:
    """Fit on two thirds of the patients, drawn at random, and score the others."""
    X, y = patients()
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(len(y)) for _ in range(count)])
    train, test = order[:, :NUM_TRAIN], order[:, NUM_TRAIN:]
    found = fit_all(seed, X[train], y[train])
    probs = found.fits.rare(np.broadcast_to(X[test], (len(METHODS), *X[test].shape)))
    truth = y[test] == NUM_CLASSES - 1
    surprise = -np.log(np.where(truth, probs, 1 - probs))
    return Scores(((probs - truth) ** 2).mean(axis=-1), surprise.mean(axis=-1))

"""Soup and prediabetes: random splits, predictions of the last class, and metrics.

The published figures rest on a metric that pairs the bins of sorted predictions with
the predictions in their original order. It is here as `as_coded`, and nowhere else in
the project; the other metrics are those that the paper describes.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import data, ordinal
from paper_repro.presto import _fits

TEST_SHARE, NUM_FOLDS = 0.1, 5
# The published grid: 100 strengths from the largest down to 1e-4 of it.
STEP = 1e-4 ** (1 / 99)
RTOL = 1e-6
CUTOFFS = tuple(range(30, 70, 5))
METHODS = ("PRESTO", "PRESTO as published", "Logit", "PO")
METRICS = ("as coded", "plain", "debiased", "bin mean", "Brier")


@dataclasses.dataclass(frozen=True)
class Table:
    """One data set of a study.

    Attributes:
        name: of the study.
        x: (n, p).
        y: (n,), classes, the rare one last.
        num_classes: how many.
        num_strengths: how many of the published grid, from the top.
        num_splits: published number of splits.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    num_classes: int
    num_strengths: int
    num_splits: int


def tables() -> list[Table]:
    """Soup, reversed so that `sure: reference` comes last, and eight cutoffs.

    Raises:
        jaxcur.data.DownloadError: a file is not there.
    """
    soup, patients = data.load_soup(), data.load_prediabetes()
    # Below a hundredth boundaries of the soups cross, and nothing is ever selected.
    found = [Table("soup", soup.features, 6 - soup.sureness, 6, 50, 350)]
    for cutoff in CUTOFFS:
        y = patients.classes(cutoff)
        found.append(Table(f"prediabetes {cutoff}", patients.features, y, 3, 100, 49))
    return found


def as_coded(probs: Array, events: Array) -> Array:
    """The released metric: rates of sorted bins against predictions as they come."""
    n = probs.shape[0]
    num_bins = max(round(n / 100), 10)
    sizes = np.full(num_bins, n // num_bins) + (np.arange(num_bins) < n % num_bins)
    bins = np.repeat(np.arange(num_bins), sizes)
    hits = events[jnp.argsort(probs)]
    rates = jnp.zeros(num_bins, probs.dtype).at[bins].add(hits) / sizes
    return jnp.mean((probs - rates[bins]) ** 2)


def metrics(probs: Array, events: Array) -> Array:
    """In the order of `METRICS`, (5,)."""
    right = [
        ordinal.binned_squared_calibration_error(probs, events, variant=variant)
        for variant in ("plain", "debiased", "bin_mean")
    ]
    score = jnp.mean((probs - events) ** 2)
    return jnp.stack([as_coded(probs, events), *right, score])


def split(y: np.ndarray, number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows of a split, every class in both; both in random order."""
    rng = np.random.default_rng([seed, number])
    size = round(TEST_SHARE * len(y))
    classes = np.unique(y)
    for _ in range(1000):
        order = rng.permutation(len(y))
        test, train = order[:size], order[size:]
        if all(np.isin(classes, y[rows]).all() for rows in (test, train)):
            return train, test
    raise ValueError("no split has every class on both sides")


@jax.jit(static_argnames=("num_classes", "num_strengths"))
def _splits(x, y, test_x, test_y, *, num_classes, num_strengths):
    def one(rows: tuple) -> dict[str, Array]:
        x, y, new, truth = rows
        options = {"num_classes": num_classes, "rtol": RTOL}
        shares = _fits.grid(num_strengths, STEP ** (num_strengths - 1), x.dtype)
        path = _fits.presto_path(x, y, shares, relative=True, **options)
        # Rows come in random order: the folds are a plain random split.
        scores, status = _fits.fold_scores(
            x,
            y,
            jnp.arange(x.shape[0]),
            path.strengths,
            num_folds=NUM_FOLDS,
            **options,
        )
        right, released = _fits.largest_minimiser(scores)
        by_logit, logit_status = _fits.logit_rare(x, y, new, **options)
        by_odds, odds_status = _fits.odds_rare(x, y, new, **options)

        def predicted(intercepts: Array, at: Array) -> Array:
            return _fits.rare_from(intercepts[at], path.coefficients[at], new)

        probs = [
            predicted(path.intercepts, right),
            predicted(path.returned, released),
            by_logit,
            by_odds,
        ]
        events = (truth == num_classes - 1).astype(x.dtype)
        return {
            "metrics": jnp.stack([metrics(p, events) for p in probs]),
            "selected": jnp.stack([right, released]),
            "status": jnp.stack([jnp.max(path.status), status]),
            "other_status": jnp.stack([logit_status, odds_status]),
            "chosen_status": path.status[right],
            "crossing": path.crossing[right],
        }

    return jax.lax.map(one, (x, y, test_x, test_y))


def splits(table: Table, indices: Any) -> dict[str, np.ndarray]:
    """Results of the splits with these numbers, each with leading axis (r,).

    `metrics` has shape (r, methods, metrics). A split depends on its number alone.
    """
    pairs = [split(table.y, int(number)) for number in indices]
    train = np.stack([pair[0] for pair in pairs])
    test = np.stack([pair[1] for pair in pairs])
    with jax.enable_x64(True):
        x = jnp.asarray(table.x, jnp.float64)
        y = jnp.asarray(table.y, jnp.int32)
        found = _splits(
            x[train],
            y[train],
            x[test],
            y[test],
            num_classes=table.num_classes,
            num_strengths=table.num_strengths,
        )
        return {name: np.asarray(value) for name, value in found.items()}

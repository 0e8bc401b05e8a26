"""Pools of digits against a target: certified costs, tests, and what moves where."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxcur import ot
from jaxcur._base import import_extra

NUM_CLASSES = 10
# Squared distances of images: two of one class are some 2 apart, of two classes 4.
EPSILONS = (1.0, 0.5, 0.2, 0.1, 0.05)
TEST_EPSILON = 3.0
# On the halved scale of the dataset distance.
LABEL_EPSILON = 1.0
SAME, LARGE, UPSIDE, RELABELED = range(4)
NAMES = (
    "the same mix",
    "few 5s to 9s",
    "a third upside down",
    "a third relabeled",
)
# Of the digits 5 to 9 one in that many stays.
THINNED = 5
# What rounding leaves of a share.
_NOTHING = 1e-7


class Pool(NamedTuple):
    """Images (n, 64) with pixels in [0, 1], their labels, and which are odd ones."""

    images: np.ndarray
    labels: np.ndarray
    turned: np.ndarray


class Measured(NamedTuple):
    """What transport says of one pool and the target.

    Attributes:
        lower: shape (epsilons,), certified bounds of the cost without entropy.
        upper: shape (epsilons,).
        converged: shape (epsilons,).
        moved: shape (20, 10), mass from class to class, at the least epsilon; rows 10
            and later are the images that are upside down.
        divergence: Sinkhorn divergence.
        p_value: of its permutation test.
        labeled: dataset distance, which sees labels.
    """

    lower: np.ndarray
    upper: np.ndarray
    converged: np.ndarray
    moved: np.ndarray
    divergence: float
    p_value: float
    labeled: float


class Study(NamedTuple):
    """The pools, the target, and a `Measured` of each pool, in the order of NAMES."""

    pools: tuple[Pool, ...]
    target: Pool
    measured: tuple[Measured, ...]
    num_resamples: int


def deal(seed: int, n: int) -> tuple[tuple[Pool, ...], Pool]:
    """Four pools of n images each, and a target of n others."""
    datasets = import_extra("sklearn.datasets", "sklearn")
    X, y = datasets.load_digits(return_X_y=True)
    X, y = np.asarray(X / 16, np.float32), np.asarray(y, np.int32)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    target, rest = order[:n], order[n:]
    kept = (y[rest] < 5) | (rng.random(len(rest)) < 1 / THINNED)
    same, few = rest[:n], rest[kept][:n]
    third = rng.permutation(n) < n // 3
    # Pixels run along rows: backwards is half a turn.
    turned = np.where(third[:, None], X[same][:, ::-1], X[same])
    relabeled = np.where(third, rng.integers(0, NUM_CLASSES, n), y[same])
    none = np.zeros(n, bool)
    pools = (
        Pool(X[same], y[same], none),
        Pool(X[few], y[few], none),
        Pool(turned, y[same], third),
        Pool(X[same], relabeled.astype(np.int32), none),
    )
    return pools, Pool(X[target], y[target], none)


@jax.jit
def _transport(pool: Pool, target: Pool, epsilon: Array) -> tuple[Array, ...]:
    result = ot.sinkhorn(pool.images, target.images, epsilon=epsilon)
    lower, upper = ot.certified_bounds(result, pool.images, target.images)
    rows = jax.nn.one_hot(pool.labels + NUM_CLASSES * pool.turned, 2 * NUM_CLASSES)
    columns = jax.nn.one_hot(target.labels, NUM_CLASSES)
    moved = ot.apply_plan(result, pool.images, target.images, columns)
    return lower, upper, result.converged, rows.T @ moved


@jax.jit
def _labeled(pool: Pool, target: Pool) -> Array:
    return ot.otdd(
        pool.images,
        pool.labels,
        target.images,
        target.labels,
        num_classes=NUM_CLASSES,
        epsilon=LABEL_EPSILON,
        label_cost="means",
    )


@functools.partial(jax.jit, static_argnames=("num_resamples",))
def _tested(
    pool: Pool, target: Pool, key: Array, *, num_resamples: int
) -> tuple[Array, Array]:
    found = ot.two_sample_test(
        pool.images,
        target.images,
        epsilon=TEST_EPSILON,
        num_resamples=num_resamples,
        key=key,
    )
    return found.statistic, found.p_value


def study(seed: int, n: int, num_resamples: int) -> Study:
    """Deal the pools and measure each."""
    pools, target = deal(seed, n)
    key = jax.random.key(seed)

    def solves(pool: Pool) -> list[Any]:
        return jax.block_until_ready([_transport(pool, target, e) for e in EPSILONS])

    def test(pool: Pool) -> tuple[Array, Array]:
        return _tested(pool, target, key, num_resamples=num_resamples)

    # Most of the time is compilation, of one program while another is compiled. New
    # labels change what sees labels only.
    seen = pools[:RELABELED]
    with ThreadPoolExecutor(2) as threads:
        distances = threads.map(lambda pool: _labeled(pool, target), pools)
        tests = threads.map(test, seen)
        costs = threads.map(solves, seen)
    measured = []
    for (statistic, p_value), ways in zip(tests, costs, strict=True):
        lower, upper, converged, moved = (
            np.stack(part) for part in zip(*ways, strict=True)
        )
        measured.append(
            Measured(
                lower=lower,
                upper=upper,
                converged=converged,
                moved=np.where(moved[-1] > _NOTHING, moved[-1], 0),
                divergence=float(statistic),
                p_value=float(p_value),
                labeled=0.0,
            )
        )
    measured.append(measured[SAME])
    measured = [
        one._replace(labeled=float(distance))
        for one, distance in zip(measured, distances, strict=True)
    ]
    return Study(pools, target, tuple(measured), num_resamples)

"""Replicates of a metric over resampled rows."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.calibration._binned import (
    debiased_squared_error,
    error_of_sums,
    expected_calibration_error,
    squared_debiased,
)
from jaxcur.calibration._bins import BinSums, width_index
from jaxcur.calibration._sums import ratio, safe_sqrt, segment_totals

# Numbers held at once.
_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric and its options, hashable, so that its programs are found again."""

    function: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]
    by_name: bool

    def __call__(self, probs: Any, labels: Any, weights: Any) -> Array:
        """The metric of weighted rows."""
        options = dict(self.options)
        if self.by_name:
            return self.function(probs, labels, weights=weights, **options)
        return self.function(probs, labels, weights, **options)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def as_metric(metric: Any) -> Metric:
    """A `Metric` of any callable (probs, labels, weights)."""
    if not callable(metric):
        raise TypeError(
            "`metric` must be a function of (probs, labels, weights), got "
            f"{type(metric).__name__}"
        )
    function, options = metric, {}
    if isinstance(metric, functools.partial) and not metric.args:
        if all(_is_hashable(value) for value in metric.keywords.values()):
            function, options = metric.func, metric.keywords
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Metric(function, tuple(sorted(options.items())), False)
    by_name = "weights" in signature.parameters
    given = (None,) * (2 if by_name else 3)
    try:
        signature.bind(*given, **options, **({"weights": None} if by_name else {}))
    except TypeError as error:
        raise TypeError(
            "`metric` must be a function of (probs, labels, weights), because a "
            f"resample of the rows is a vector of weights, got one of {signature}"
        ) from error
    return Metric(function, tuple(sorted(options.items())), by_name)


def _chunks(num_resamples: int, n: int) -> tuple[int, int]:
    size = int(min(max(_CHUNK // n, 1), num_resamples))
    return size, -(-num_resamples // size)


@functools.partial(jax.jit, static_argnames=("metric", "num_resamples"))
def replicates(
    metric: Metric,
    probs: Any,
    labels: Any,
    weights: Array,
    resample_weights: Array | None,
    key: Array | None,
    *,
    num_resamples: int,
) -> Array:
    """The metric over each resample of the rows, (num_resamples,).

    Resample b counts how often each of n draws with replacement is row i, or takes the
    counts given; the metric sees them as factors of the weights.
    """
    n = weights.shape[0]
    size, count = _chunks(num_resamples, n)

    def one(b: Array) -> Array:
        if resample_weights is None:
            assert key is not None
            drawn = jax.random.randint(jax.random.fold_in(key, b), (n,), 0, n)
            times = jnp.zeros_like(weights).at[drawn].add(1)
        else:
            times = resample_weights[jnp.minimum(b, num_resamples - 1)]
        return metric(probs, labels, times * weights)

    places = jnp.arange(size * count, dtype=jnp.int32).reshape(count, size)
    return jax.lax.map(jax.vmap(one), places).reshape(-1)[:num_resamples]


@functools.partial(jax.jit, static_argnames=("metric",))
def influence(metric: Metric, probs: Any, labels: Any, weights: Array) -> Array:
    """Derivative of the metric in the multiplicity of each row, mean 0, (n,)."""
    gradient = jax.grad(lambda w: metric(probs, labels, w))(weights)
    own = gradient * weights
    return own - jnp.mean(own)


_BINNED = {
    expected_calibration_error: {
        "num_bins": 15,
        "binning": "width",
        "weighting": "mass",
        "norm": 1,
        "closed": "left",
        "debias": False,
        "edges": None,
    },
    debiased_squared_error: {"num_bins": 15, "binning": "width", "closed": "left"},
}


def binned_options(metric: Metric) -> dict[str, Any] | None:
    """Options of a metric over bins of fixed edges; None for any other metric."""
    defaults = _BINNED.get(metric.function)
    if defaults is None:
        return None
    given = dict(metric.options)
    options = {**defaults, **given}
    known = given.keys() <= defaults.keys()
    fixed = options["binning"] == "width" and options.get("edges") is None
    return options if known and fixed else None


def error_of(metric: Metric, options: dict[str, Any], sums: BinSums) -> Array:
    """A metric over bins of fixed edges from the sums of each bin."""
    if metric.function is debiased_squared_error:
        return squared_debiased(sums)
    return error_of_sums(sums, options["weighting"], options["norm"], options["debias"])


@functools.partial(jax.jit, static_argnames=("num_bins", "closed", "num_resamples"))
def resampled_sums(
    f: Array,
    y: Array,
    key: Array,
    *,
    num_bins: int,
    closed: str,
    num_resamples: int,
) -> BinSums:
    """Sums of each bin over resamples of the rows, each (num_resamples, m).

    Rows are grouped in cells of one bin and one outcome. How many of the n draws fall
    into each cell is multinomial: that is drawn, and with it the weight and the
    outcomes of every bin have exactly the distribution that drawing rows gives them.
    The sum of the forecasts of the N draws of a cell has N times the cell's mean as
    mean and N times its variance as variance; the normal with these takes its place.
    Forecasts of a cell differ by less than the width of a bin, so that this part of the
    noise is small to begin with.
    """
    n, m = f.shape[0], num_bins
    cell = 2 * width_index(f, m, closed) + (y > 0.5).astype(jnp.int32)
    count = segment_totals(jnp.ones_like(f), cell, 2 * m)
    center = ratio(segment_totals(f, cell, 2 * m), count)
    spread = ratio(segment_totals((f - center[cell]) ** 2, cell, 2 * m), count)
    key_counts, key_noise = jax.random.split(key)
    shape = (num_resamples, 2 * m)
    # Releases differ in whether a `shape` includes the cells: none is passed.
    times = jnp.full(num_resamples, n, f.dtype)
    shares = jnp.broadcast_to(count / n, shape)
    drawn = jax.random.multinomial(key_counts, times, shares, dtype=f.dtype)
    noise = jax.random.normal(key_noise, shape, f.dtype)
    total = drawn * center + safe_sqrt(drawn * spread) * noise
    drawn = drawn.reshape(num_resamples, m, 2)
    forecast = jnp.sum(total.reshape(num_resamples, m, 2), axis=2)
    outcome = drawn[..., 1]
    total = jnp.full(num_resamples, n, f.dtype)
    weight = jnp.sum(drawn, axis=2)
    return BinSums(weight, forecast - outcome, forecast, outcome, total)


@functools.partial(jax.jit, static_argnames=("num_bins", "closed"))
def product_sums(
    f: Array, y: Array, resample_weights: Array, *, num_bins: int, closed: str
) -> BinSums:
    """Sums of each bin for given multiplicities (b, n): one product, each (b, m)."""
    index = width_index(f, num_bins, closed)
    own = index[:, None] == jnp.arange(num_bins, dtype=jnp.int32)
    own = own.astype(f.dtype)
    table = jnp.concatenate([own, own * f[:, None], own * y[:, None]], axis=1)
    sums = jnp.matmul(resample_weights, table, precision="highest")
    weight, forecast, outcome = jnp.split(sums, 3, axis=1)
    total = jnp.sum(weight, axis=1)
    return BinSums(weight, forecast - outcome, forecast, outcome, total)

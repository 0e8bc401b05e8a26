"""Drawing the rows to label, and how many to draw from each stratum."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Int, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_same_length,
    is_concrete,
    resolve_uniforms,
)
from jaxcur.debiased._budget import spend_budget

_SLACK = 1e-6


def sample_labels(
    sampling_prob: Real[ArrayLike, " n"],
    *,
    scheme: Literal["bernoulli", "systematic"] = "bernoulli",
    key: Array | None = None,
    uniforms: Real[ArrayLike, "..."] | None = None,
) -> Bool[Array, " n"]:
    """Draw which rows to label, row i with probability pi_i.

    "bernoulli" labels rows independently, so the number of labels is random.
    "systematic" shuffles the rows, lays their probabilities end to end and labels the
    rows under the points u, u + 1, u + 2, ...: the number of labels is sum(pi), up or
    down to a whole number, and every row still has exactly its pi. Its variance is
    estimated as if the labels were independent, which errs on the safe side when the
    total is fixed.

    Guarantee: P(row i is labeled) = pi_i, to 1e-12. Verified by:
    tests/unit/debiased/test_label_sampling.py.

    Args:
        sampling_prob: shape (n,), in [0, 1].
        scheme: "bernoulli" or "systematic".
        key: random key.
        uniforms: the draw instead of a key, in [0, 1]. "bernoulli": shape (n,).
            "systematic": shape (n + 1,), the start and then the order of the rows; a
            scalar is the start and keeps the order given, which is safe only when that
            order is unrelated to the labels.

    Returns:
        shape (n,), bool: the `labeled` of the estimators. A NaN probability under
        tracing is never drawn.

    Raises:
        ValueError: a probability outside [0, 1] or NaN, wrong shapes, an unknown
            scheme, both or neither of `key` and `uniforms`.

    Transformations: jit, vmap. Not differentiable.
    Cost: O(n) for "bernoulli", a sort for "systematic".

    Source: Madow, "On the theory of systematic sampling, II", Annals of Mathematical
    Statistics 1949.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> prob = jnp.full(1000, 0.1)
        >>> labeled = debiased.sample_labels(
        ...     prob, scheme="systematic", key=jax.random.key(0)
        ... )
        >>> int(labeled.sum())
        100
    """
    check_choice("scheme", scheme, ("bernoulli", "systematic"))
    (prob,) = as_float(sampling_prob=sampling_prob)
    check_rank("sampling_prob", prob, 1)
    _check_probabilities(prob)
    n = prob.shape[0]
    shape = (n,) if scheme == "bernoulli" else (n + 1,)
    with jax.enable_x64(True):
        draw = _draw(uniforms, key, shape)
        # The caller's own precision: float32 would round a float64 list first.
        if is_concrete(sampling_prob):
            prob = jnp.asarray(np.asarray(sampling_prob, np.float64))
        prob = prob.astype(jnp.float64)
        if scheme == "bernoulli":
            return (draw <= prob) & (prob > 0)
        return _systematic(prob, jnp.broadcast_to(draw, shape))


def sample_strata(
    strata: Int[ArrayLike, " n"],
    counts: Int[ArrayLike, " h"],
    *,
    key: Array | None = None,
    uniforms: Real[ArrayLike, " n"] | None = None,
) -> Bool[Array, " n"]:
    """Draw a simple random sample without replacement from each stratum.

    One stratum, `strata = 0` everywhere, is a simple random sample of all rows. The
    probability of a row is `counts[h] / size_h`; estimators that are told
    `design="stratified"` and `strata` use it when none is given.

    Guarantee: within stratum h every set of counts[h] rows is equally likely, up to
    ties of 64-bit draws. Verified by: tests/unit/debiased/test_label_sampling.py.

    Args:
        strata: shape (n,), whole numbers in [0, h).
        counts: shape (h,), how many rows to draw, at most the size of the stratum:
            from `neyman_allocation`.
        key: random key.
        uniforms: shape (n,), the draw instead of a key, in [0, 1]; the rows with the
            smallest numbers in their stratum are taken.

    Returns:
        shape (n,), bool. Under tracing, a count above the size of its stratum takes the
        whole stratum, and rows outside [0, h) are never drawn.

    Raises:
        ValueError: strata outside [0, h), counts that are negative or above the size
            of their stratum, wrong shapes, both or neither of `key` and `uniforms`.

    Transformations: jit, vmap. Not differentiable.
    Cost: two sorts, O(n log n).

    Source: Cochran, Sampling Techniques, 1977, chapter 5.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> strata = jnp.array([0, 0, 0, 0, 1, 1])
        >>> labeled = debiased.sample_strata(strata, [3, 1], key=jax.random.key(0))
        >>> print(labeled[:4].sum(), labeled[4:].sum())
        3 1
    """
    groups = _whole("strata", strata)
    wanted = _whole("counts", counts)
    num_strata = wanted.shape[0]
    if is_concrete(groups, wanted):
        host, ask = np.asarray(groups), np.asarray(wanted)
        if ((host < 0) | (host >= num_strata)).any():
            raise ValueError(
                f"`strata` must lie in [0, {num_strata}), the length of `counts`; "
                f"got values in [{host.min()}, {host.max()}]"
            )
        have = np.bincount(host, minlength=num_strata)
        for h in np.flatnonzero((ask < 0) | (ask > have)):
            raise ValueError(
                f"`counts[{h}]` must lie between 0 and the {have[h]} rows of stratum "
                f"{h}, got {ask[h]}"
            )
    n = groups.shape[0]
    with jax.enable_x64(True):
        draw = jnp.broadcast_to(_draw(uniforms, key, (n,)), (n,))
        return _take_smallest(groups, wanted, draw)


def neyman_allocation(
    sizes: Int[ArrayLike, " h"],
    std_devs: Real[ArrayLike, " h"],
    *,
    budget: float | Array,
    costs: Real[ArrayLike, " h"] | None = None,
    min_per_stratum: int = 2,
) -> Int[Array, " h"]:
    """How many rows to label in each stratum.

    n_h proportional to N_h S_h / sqrt(c_h), between `min_per_stratum` and N_h, with
    sum c_h n_h = budget; rounded down, and what is left buys one row more where the
    fractional part was largest, as far as the budget reaches.

    Guarantee: before rounding no allocation within the bounds and the budget has a
    smaller variance sum N_h^2 S_h^2 / n_h. After it, the budget is never exceeded, and
    without `costs` the counts sum to the whole part of the budget exactly.
    Verified by: tests/property/test_annotation.py.

    Args:
        sizes: shape (h,), whole numbers N_h >= 0 of rows in each stratum.
        std_devs: shape (h,), standard deviations S_h within strata, of the label minus
            its prediction when there is one; finite and nonnegative.
        budget: scalar, what the labels may cost: their number when `costs` is None.
        costs: shape (h,), positive and finite, cost of one label; None is 1.
        min_per_stratum: static, smallest count; a stratum with fewer rows is labeled
            whole. Two is what a variance within the stratum needs.

    Returns:
        shape (h,), int32. For invalid input under tracing, -1 everywhere.

    Raises:
        ValueError: a budget below the cost of the smallest counts or above the cost of
            labeling everything; sizes that are negative or not whole; std_devs or
            costs out of range; wrong shapes.

    Transformations: jit, vmap; budget may be traced. Not differentiable.
    Cost: 60 passes and one sort over the strata.

    Source: Neyman, JRSS 1934; Cochran, Sampling Techniques, 1977, section 5.5.

    Example:
        >>> from jaxcur import debiased
        >>> debiased.neyman_allocation([500, 300, 3], [1.0, 3.0, 9.0], budget=100)
        Array([35, 63,  2], dtype=int32)
    """
    size = _whole("sizes", sizes)
    if costs is None:
        costs = np.ones(size.shape, np.float32)
    spread, price = as_float(std_devs=std_devs, costs=costs)
    for name, array in (("std_devs", spread), ("costs", price)):
        check_rank(name, array, 1, "(h,)")
        check_same_length(name, array, "sizes", size)
    if np.ndim(budget) != 0:
        raise ValueError(f"`budget` must be a scalar, got shape {np.shape(budget)}")
    if min_per_stratum < 0:
        raise ValueError(f"`min_per_stratum` must be >= 0, got {min_per_stratum}")
    _check_strata(size, spread, price, budget, min_per_stratum)
    with jax.enable_x64(True):
        values = (_double(value) for value in (size, spread, price, budget))
        return _neyman(*values, jnp.float64(min_per_stratum))


def _double(value: Any) -> Array:
    if is_concrete(value):
        value = np.asarray(value, np.float64)
    return jnp.asarray(value, jnp.float64)


def _whole(name: str, value: Any) -> Array:
    """A vector of whole numbers as int32."""
    array = value if isinstance(value, Array) else np.asarray(value)
    if array.dtype.kind not in "iu":
        host = np.asarray(array) if is_concrete(array) else None
        if host is None or array.dtype.kind != "f" or (host != np.floor(host)).any():
            raise ValueError(
                f"`{name}` must hold whole numbers, got dtype {array.dtype}"
            )
    result = jnp.asarray(array, jnp.int32)
    check_rank(name, result, 1, "(n,)" if name == "strata" else "(h,)")
    return result


def _check_probabilities(prob: Array) -> None:
    if not is_concrete(prob):
        return
    host = np.asarray(prob)
    bad = ~((host >= 0) & (host <= 1))
    if bad.any():
        raise ValueError(
            "`sampling_prob` must lie in [0, 1], "
            f"got {host[bad][0]} and {bad.sum()} such of {host.size}"
        )


def _check_strata(
    size: Array, spread: Array, price: Array, budget: Any, least: int
) -> None:
    if not is_concrete(size, spread, price, budget):
        return
    have, s, c = (np.asarray(a, np.float64) for a in (size, spread, price))
    for name, values, good in (
        ("sizes", have, have >= 0),
        ("std_devs", s, np.isfinite(s) & (s >= 0)),
        ("costs", c, np.isfinite(c) & (c > 0)),
    ):
        if not good.all():
            raise ValueError(f"`{name}` is out of range: got {values[~good][0]:g}")
    low, high = c @ np.minimum(have, least), c @ have
    if not low * (1 - _SLACK) <= float(budget) <= high * (1 + _SLACK):
        raise ValueError(
            f"`budget` must lie between {low:g}, the cost of {least} labels in every "
            f"stratum, and {high:g}, the cost of labeling everything; got {budget}"
        )


def _draw(uniforms: Any, key: Any, shape: tuple[int, ...]) -> Array:
    """Float64 uniforms on (0, 1], also in a program that is otherwise float32.

    Float32 draws sit on a grid of 2^-23, which would miss a probability of 1e-5 by up
    to one percent of it. Call under `jax.enable_x64(True)`.
    """
    if uniforms is not None or key is None:
        return resolve_uniforms(
            "uniforms", uniforms, key, shape, jnp.float64, purpose="sampling labels"
        )
    bits = jax.random.bits(key, (2, *shape), jnp.uint32).astype(jnp.float64)
    return (bits[0] * 2.0**32 + (bits[1] + 1)) * 2.0**-64


@jax.jit
def _systematic(prob: Array, draw: Array) -> Array:
    n = prob.shape[0]
    order = stats.argsort(draw[1:])
    ends = jnp.cumsum(jnp.where(jnp.isnan(prob), 0.0, prob)[order])
    # A sum of decimals that is whole on paper should give a whole number of labels.
    nearest = jnp.round(ends)
    ends = jnp.where(jnp.abs(ends - nearest) <= 1e-12 * (1 + ends), nearest, ends)
    points = jnp.floor(ends - draw[0]) + 1
    before = jnp.concatenate([jnp.zeros(1, points.dtype), points[:-1]])
    return jnp.zeros(n, bool).at[order].set(points > before)


@jax.jit
def _take_smallest(strata: Array, counts: Array, draw: Array) -> Array:
    n, num_strata = strata.shape[0], counts.shape[0]
    if n == 0 or num_strata == 0:
        return jnp.zeros(n, bool)
    groups, _, order = stats.group_sort(strata, draw)
    first = jnp.searchsorted(groups, jnp.arange(num_strata, dtype=groups.dtype))
    inside = (groups >= 0) & (groups < num_strata)
    safe = jnp.where(inside, groups, 0)
    place = jnp.arange(n, dtype=first.dtype) - first[safe]
    return jnp.zeros(n, bool).at[order].set(inside & (place < counts[safe]))


@jax.jit
def _neyman(
    size: Array, spread: Array, price: Array, budget: Array, least: Array
) -> Array:
    low = jnp.minimum(size, least)
    legal = jnp.all((size >= 0) & jnp.isfinite(spread) & (spread >= 0))
    legal &= jnp.all(jnp.isfinite(price) & (price > 0))
    legal &= budget >= jnp.sum(price * low) * (1 - _SLACK)
    legal &= budget <= jnp.sum(price * size) * (1 + _SLACK)
    safe_price = jnp.where(legal, price, 1.0)
    low, high = jnp.where(legal, low, 0.0), jnp.where(legal, size, 0.0)
    rates = jnp.where(legal, size * spread / jnp.sqrt(safe_price), 0.0)
    shares = spend_budget(rates, safe_price, low, high, jnp.where(legal, budget, 0.0))
    nearest = jnp.round(shares)
    is_whole = jnp.abs(shares - nearest) <= 1e-9 * jnp.maximum(nearest, 1.0)
    shares = jnp.where(is_whole, nearest, shares)
    whole = jnp.floor(shares)
    left = budget * (1 + 1e-9) - jnp.sum(safe_price * whole)
    order = stats.argsort(whole - shares)

    def buy(left: Array, h: Array) -> tuple[Array, Array]:
        takes = (safe_price[h] <= left) & (whole[h] < high[h])
        return jnp.where(takes, left - safe_price[h], left), takes

    _, takes = jax.lax.scan(buy, left, order)
    counts = whole + jnp.zeros_like(whole).at[order].set(takes.astype(whole.dtype))
    return jnp.where(legal, counts, -1.0).astype(jnp.int32)

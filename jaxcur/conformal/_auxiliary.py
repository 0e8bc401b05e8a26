"""Auxiliary selection sizes for every candidate at once.

For candidate j put j into the calibration bag, give it p-value 0, recompute the others'
p-values against that bag, and count what Benjamini-Hochberg selects: R_j. Done by its
definition this costs m selections. Moving j to the front of the sorted list shifts the
candidates below it by one place and adds j's weight to those above it, so two running
maxima over the sorted list answer for all j together. The derivation is in
docs/math/selection.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur import stats
from jaxcur._base import check_unit_interval, decimal_float64
from jaxcur.conformal._pvalues import (
    WeightedSums,
    Weights,
    checked_scores,
    checked_weights,
    conservative,
    weighted_sums,
)

# Relative slack of weighted comparisons, in float64: far above rounding, far below any
# difference between distinct sums of weights that matters.
SLACK = 1e-12


def running_max(values: Array) -> Array:
    """Maximum so far; an associative scan is several times faster than `cummax`."""
    return jax.lax.associative_scan(jnp.maximum, values)


def block_places(ordered: Array, *, strict: bool) -> Array:
    """Place (1..m) each candidate takes in its block of tied scores, in sorted order.

    The first place of the block under "<=", the last under "<" (`strict`): then exactly
    the candidates after it gain the weight of j.
    """
    m = ordered.shape[0]
    keys = stats.order_keys(ordered)
    place = jnp.arange(1, m + 1, dtype=jnp.int32)
    changes = keys[1:] != keys[:-1]
    edge = jnp.ones(1, bool)
    if strict:
        is_last = jnp.concatenate([changes, edge])
        flipped = jnp.where(is_last, place, m)[::-1]
        return jax.lax.associative_scan(jnp.minimum, flipped)[::-1]
    is_first = jnp.concatenate([edge, changes])
    return running_max(jnp.where(is_first, place, 0))


def unweighted_sizes(
    calibration: Array, test: Array, thresholds: Array, *, strict: bool
) -> tuple[Array, Array]:
    """Sizes and calibration counts of every candidate, int32 (m,).

    Only the candidates are sorted: where each calibration score falls among them, as a
    histogram, gives all counts, and what a candidate needs depends on its place alone.
    """
    m = test.shape[0]
    if m == 0:
        empty = jnp.zeros(0, jnp.int32)
        return empty, empty
    ordered = stats.sort(test)
    before, up_to = stats.count_below, stats.count_at_most
    falls = (up_to if strict else before)(ordered, conservative(calibration))
    histogram = jnp.zeros(m + 1, jnp.int32).at[falls].add(1)[:m]
    counts = jax.lax.associative_scan(jnp.add, histogram)
    # The place (1..m) a candidate takes in its block of ties, first under <= and last
    # under <: then exactly those after it gain its weight.
    places = up_to(ordered, test) if strict else before(ordered, test) + 1
    r = jnp.arange(1, m + 1, dtype=jnp.int32)
    above = jnp.max(jnp.where(counts + 1 <= thresholds, r, 0))
    accepted = jnp.concatenate([jnp.ones(1, bool), counts[:-1] <= thresholds[1:]])
    below = running_max(jnp.where(accepted, r, 0))
    sizes = jnp.where(above > places, above, below[places - 1])
    return sizes, counts[places - 1]


def _min_tree(values: Array) -> Array:
    """Heap-ordered tree of minima over a power-of-two padding of `values`."""
    size = 1 << max(values.shape[0] - 1, 0).bit_length()
    level = jnp.pad(values, (0, size - values.shape[0]), constant_values=jnp.inf)
    levels = [level]
    while level.shape[0] > 1:
        level = jnp.minimum(level[0::2], level[1::2])
        levels.append(level)
    return jnp.concatenate([jnp.zeros_like(level), *levels[::-1]])


def _last_at_most(tree: Array, start: Array, bars: Array) -> Array:
    """Largest index <= start (0-based) whose value is <= bar; one is known to exist."""
    leaves = tree.shape[0] // 2
    depth = leaves.bit_length()
    node = leaves + start
    found = tree[node] <= bars

    def climb(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        node, found = state
        left = jnp.maximum(node - 1, 0)
        hit = (node % 2 == 1) & (tree[left] <= bars)
        moved = jnp.where(hit, left, jnp.maximum(node // 2, 1))
        return jnp.where(found, node, moved), found | hit

    def descend(_: int, node: Array) -> Array:
        right = jnp.minimum(2 * node + 1, tree.shape[0] - 1)
        child = jnp.where(tree[right] <= bars, right, right - 1)
        return jnp.where(node < leaves, child, node)

    node, _ = jax.lax.fori_loop(0, depth, climb, (node, found))
    return jax.lax.fori_loop(0, depth, descend, node) - leaves


def weighted_sizes(
    test: Array, sums: WeightedSums, weights: Weights, level: Any, *, strict: bool
) -> Array:
    """Sizes of every candidate with weights, int32 (m,)."""
    m = test.shape[0]
    if m == 0:
        return jnp.zeros(0, jnp.int32)
    ordered, order = stats.sort_with_order(test)
    places = block_places(ordered, strict=strict)
    with jax.enable_x64(True):
        own = weights.test[order].astype(jnp.float64)
        below = (sums.below if strict else sums.at_most)[order]
        total = sums.total
        target = decimal_float64(level)
        r = jnp.arange(1, m + 1, dtype=jnp.float64)
        share = target * r / m * (1 + SLACK)
        # After j (r > place): below_r + w_j <= share_r (total + w_j), solved for w_j.
        room = jnp.where(share < 1, 1 - share, 1.0)
        most = jnp.where(share < 1, (share * total - below) / room, jnp.inf)
        from_right = jax.lax.associative_scan(jnp.maximum, most[::-1])[::-1]
        above = m - jnp.searchsorted(from_right[::-1], own, side="left")
        # Up to j (r <= place): below_{r-1} <= share_r (total + w_j), solved for w_j.
        positive = jnp.where(share > 0, share, 1.0)
        shifted = jnp.concatenate([jnp.zeros(1, jnp.float64), below[:-1]])
        least = jnp.where(share > 0, shifted / positive - total, jnp.inf)
        least = least.at[0].set(-jnp.inf)
        before = _last_at_most(_min_tree(least), places - 1, own) + 1
        sizes = jnp.where(above > places, above, before).astype(jnp.int32)
    return jnp.zeros_like(sizes).at[order].set(sizes)


@jax.jit(static_argnames=("strict",))
def _plain(calibration: Array, test: Array, thresholds: Array, strict: bool) -> Array:
    return unweighted_sizes(calibration, test, thresholds, strict=strict)[0]


@jax.jit(static_argnames=("strict",))
def _weighted(
    calibration: Array, test: Array, weights: Weights, level: Array, strict: bool
) -> Array:
    sums = weighted_sums(calibration, test, weights)
    return weighted_sizes(test, sums, weights, level, strict=strict)


def auxiliary_sizes(
    calibration_scores: Real[ArrayLike, " n"],
    test_scores: Real[ArrayLike, " m"],
    *,
    level: float | Array,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
    strict: bool = False,
) -> Int[Array, " m"]:
    """How many candidates BH selects when candidate j joins the calibration bag.

    R_j is the size of the Benjamini-Hochberg set on the auxiliary p-values

        p_l^(j) = (sum_i w_i 1{V_i <= t_l} + w_{n+j} 1{t_j <= t_l}) / (W + w_{n+j})

    for l != j and p_j^(j) = 0. It measures how promising the score is while treating
    candidate j like the calibration rows; that symmetry is what lets R_j drive a choice
    of model or of threshold without losing FDR control.

    Args:
        calibration_scores: shape (n,); smaller is stronger evidence for selecting.
        test_scores: shape (m,).
        level: scalar in [0, 1].
        calibration_weights: shape (n,), or None for weight one.
        test_weights: shape (m,), or None.
        strict: False compares with <=, to be paired with deterministic p-values; True
            with <, to be paired with randomised ones.

    Returns:
        shape (m,), int32, between 1 and m.

    Raises:
        ValueError: level outside [0, 1], wrong shapes, unusable weights.

    Transformations: jit, vmap over scores, models and levels (the sorts do not depend
        on the level and are shared).
    Cost: O((n + m) log(n + m)) time and O(n + m) memory for all m sizes together; exact
        integer comparisons without weights, float64 sums with them.

    Source: the weighted form from Jin and Candes, Biometrika 2025; the fast formulas
        are derived in docs/math/selection.md.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.auxiliary_sizes([1.0, 2.0, 3.0], [0.5, 2.5], level=0.5)
        Array([1, 2], dtype=int32)
    """
    check_unit_interval("level", level)
    calibration, test = checked_scores(calibration_scores, test_scores)
    weights = checked_weights(calibration, test, calibration_weights, test_weights)
    if weights is not None:
        with jax.enable_x64(True):
            target = decimal_float64(level)
            return _weighted(calibration, test, weights, target, strict)
    thresholds = stats.grid_thresholds(level, calibration.shape[0], test.shape[0])
    return _plain(calibration, test, thresholds, strict)

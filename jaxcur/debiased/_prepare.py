"""From arguments to rows: the design that drew the labels, checked once."""

import itertools
import warnings
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import check_choice, is_concrete
from jaxcur.debiased._blocks import LabeledRows, Rows
from jaxcur.debiased._fit import reducer
from jaxcur.debiased._sums import Sizes

DesignName = Literal["bernoulli", "srs", "stratified"]
DESIGNS = ("bernoulli", "srs", "stratified")


class InferenceWarning(UserWarning):
    """The estimate is computed as asked, but there is reason to look twice."""


def warn(message: str) -> None:
    """Warn the caller of a public function."""
    warnings.warn(message, InferenceWarning, stacklevel=2)


class Prepared(NamedTuple):
    """Rows with their design.

    Attributes:
        rows: all rows.
        labeled: labelled rows, gathered where the mask is concrete.
        sizes: strata and clusters (static).
        signs: of the cluster terms (static).
        num_rows: scalar.
        num_labeled: scalar.
        expected_labels: scalar, sum of the probabilities.
        labels_variance: scalar, variance of the number of labels.
        is_usable: scalar bool, False for values that an eager call refuses.
    """

    rows: Rows
    labeled: LabeledRows
    sizes: Sizes
    signs: tuple[int, ...]
    num_rows: Array
    num_labeled: Array
    expected_labels: Array
    labels_variance: Array
    is_usable: Array


def prepare(
    observed: Any,
    predicted: Any,
    *,
    labeled: Any,
    sampling_prob: Any = None,
    design: DesignName | None = None,
    strata: Any = None,
    clusters: Any = None,
    weights: Any = None,
    normalize_prob: bool = False,
    axis_name: str | None = None,
    dtype: Any = None,
) -> Prepared:
    """Check the design and split the rows into their two roles.

    `observed` and `predicted` are pytrees of float arrays with leading axis N and the
    same structure; entries of `observed` without a label may be anything.
    """
    leaves = jax.tree.leaves(predicted)
    n = leaves[0].shape[0]
    dtype = leaves[0].dtype if dtype is None else dtype
    if n == 0:
        raise ValueError("no rows: every argument has length 0")
    # Vectors of the design are small work: in NumPy, where they are concrete, nothing
    # has to be compiled for their length.
    concrete = is_concrete(labeled, sampling_prob, strata, clusters, weights)
    xp: Any = np if concrete and axis_name is None else jnp
    reduce = reducer(axis_name)
    mask = _as_mask(xp, labeled, n)
    scheme = resolve_design(design, sampling_prob, strata)
    weight = _as_weights(xp, weights, n, dtype)
    present = weight > 0
    if weights is not None:
        mask = mask & present
        # A row that is not there must not poison the sums with NaN.
        there = jnp.asarray(present)
        observed, predicted = (
            jax.tree.map(lambda leaf: jnp.where(_like(there, leaf), leaf, 0), tree)
            for tree in (observed, predicted)
        )
    if xp is np and not mask.any():
        raise ValueError("no labelled rows: `labeled` is False everywhere")
    ids, num_strata = _as_strata(scheme, strata, n)
    ids = xp.asarray(ids)

    def total(values: Any) -> Any:
        return reduce(xp.sum(values).astype(dtype))

    def per_stratum(values: Any) -> Any:
        if num_strata <= 1:
            return total(values)[None]
        if xp is np:
            return np.bincount(ids, values, num_strata).astype(dtype)
        return reduce(jax.ops.segment_sum(values.astype(dtype), ids, num_strata))

    def of_rows(values: Any) -> Any:
        return values[ids] if num_strata > 1 else values[0]

    num_rows, num_labeled = total(present), total(mask)
    is_usable = num_labeled > 0
    if sampling_prob is None or scheme != "bernoulli":
        counts, labels = per_stratum(present), per_stratum(mask)
        check_strata(scheme, counts, labels)
        fraction = labels / xp.maximum(counts, 1)
    if sampling_prob is None:
        prob = xp.broadcast_to(of_rows(fraction), (n,))
        prob = xp.where(prob > 0, prob, xp.ones_like(prob))
    else:
        prob = _as_prob(
            xp, sampling_prob, n, dtype, present if weights is not None else None
        )
        if xp is np and ((prob == 1) & present & ~mask).any():
            count = int(((prob == 1) & present & ~mask).sum())
            raise ValueError(
                "`sampling_prob` is 1 in rows without a label: a row chosen with "
                f"certainty has one; {count} rows contradict it"
            )
        # A sum, so that every device of a mapped axis knows of the rows of the others.
        is_usable = is_usable & (total(~((prob > 0) & (prob <= 1))) == 0)
    expected = total(prob * present)
    labels_variance = total(prob * (1 - prob) * present)
    if scheme != "bernoulli":
        labels_variance = 0 * labels_variance
    if normalize_prob:
        prob = prob * (num_labeled / expected)

    if normalize_prob and clusters is None:
        # The rescaling couples all rows; the clustered form of the variance counts it.
        clusters = np.arange(n)
    terms, sizes, signs = _as_clusters(clusters, n)
    for values, count in ((ids, num_strata), *zip(terms, sizes)):
        if not is_concrete(values):
            # Sums by group leave out a label that is out of range.
            bad = reduce(jnp.sum((values < 0) | (values >= count), dtype=jnp.int32))
            is_usable &= bad == 0
    strata_count = num_strata if scheme != "bernoulli" or normalize_prob else 0
    excess = weight
    if terms:
        mean_prob = per_stratum(prob * present) / xp.maximum(per_stratum(present), 1)
        excess = (mask - prob * present) / of_rows(mean_prob)
    weight, prob, excess = (
        jnp.asarray(v).astype(dtype) for v in (weight, prob, excess)
    )
    terms = tuple(map(jnp.asarray, terms))
    rows = Rows(predicted, weight, prob, excess, jnp.asarray(ids), terms)
    chosen = _gather_labeled(observed, mask, rows)
    return Prepared(
        rows,
        chosen,
        Sizes(strata_count, sizes, sampling_prob is None and num_strata <= 1),
        signs,
        *map(
            jnp.asarray, (num_rows, num_labeled, expected, labels_variance, is_usable)
        ),
    )


def _like(mask: Array, leaf: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (leaf.ndim - 1))


def _check_length(name: str, shape: tuple[int, ...], n: int) -> None:
    if shape != (n,):
        raise ValueError(f"`{name}` must have shape ({n},) like the rows, got {shape}")


def _as_mask(xp: Any, labeled: Any, n: int) -> Any:
    mask = xp.asarray(labeled)
    _check_length("labeled", mask.shape, n)
    if mask.dtype == bool:
        return mask
    if is_concrete(mask) and not np.isin(np.asarray(mask), (0, 1)).all():
        raise ValueError(
            "`labeled` must be boolean, True where the row has its gold label; got "
            f"values other than 0 and 1 of dtype {mask.dtype}"
        )
    return mask == 1


def resolve_design(design: Any, prob: Any, strata: Any) -> str:
    if design is None:
        if strata is not None:
            return "stratified"
        return "srs" if prob is None else "bernoulli"
    check_choice("design", design, DESIGNS)
    if design == "stratified" and strata is None:
        raise ValueError(
            "`strata` is needed for design='stratified': the stratum of every row, (n,)"
        )
    if design != "stratified" and strata is not None:
        raise ValueError(
            f"`strata` is used by design='stratified' only, got {design!r}"
        )
    return design


def _as_weights(xp: Any, weights: Any, n: int, dtype: Any) -> Any:
    if weights is None:
        return xp.ones((n,), dtype)
    weight = xp.asarray(weights).astype(dtype)
    _check_length("weights", weight.shape, n)
    if is_concrete(weight):
        host = np.asarray(weight)
        bad = ~(np.isfinite(host) & (host >= 0))
        if bad.any():
            raise ValueError(
                f"`weights` must be finite and nonnegative, {bad.sum()} rows are not"
            )
        if not (host > 0).any():
            raise ValueError("`weights` must not all be zero: no rows are left")
    return weight


def _as_prob(xp: Any, sampling_prob: Any, n: int, dtype: Any, present: Any) -> Any:
    prob = xp.asarray(sampling_prob).astype(dtype)
    if prob.ndim:
        _check_length("sampling_prob", prob.shape, n)
    if is_concrete(prob):
        host = np.asarray(prob)
        bad = ~((host > 0) & (host <= 1))
        if present is not None and prob.ndim and is_concrete(present):
            bad &= np.asarray(present)
        if bad.any():
            raise ValueError(
                "`sampling_prob` must lie in (0, 1]: the known probability that the "
                f"row was labelled; {int(bad.sum())} of {bad.size} values are 0, above "
                "1, negative or NaN"
            )
    prob = xp.broadcast_to(prob, (n,))
    return prob if present is None else xp.where(present, prob, xp.ones_like(prob))


def as_ids(name: str, ids: Any, n: int) -> tuple[Any, int]:
    """Integer labels as 0..count-1, and their count; a NumPy array where concrete.

    Traced labels are taken as they are, in 0..n-1, and the count is n.
    """
    array = ids if isinstance(ids, jax.Array) else np.asarray(ids)
    if array.shape != (n,):
        raise ValueError(f"`{name}` must have shape ({n},), got {array.shape}")
    if not is_concrete(array):
        return jnp.asarray(array).astype(jnp.int32), n
    host = np.asarray(array)
    if host.dtype.kind == "f" and not np.isfinite(host).all():
        raise ValueError(f"`{name}` must not hold NaN; drop or label these rows")
    values, inverse = np.unique(host, return_inverse=True)
    return inverse.reshape(-1).astype(np.int32), len(values)


def _as_strata(design: str, strata: Any, n: int) -> tuple[Any, int]:
    if design != "stratified":
        return np.zeros((n,), np.int32), 1
    return as_ids("strata", strata, n)


def check_strata(design: str, counts: Array, labels: Array) -> None:
    if not is_concrete(counts, labels) or design == "bernoulli":
        return
    n, m = np.asarray(counts), np.asarray(labels)
    if (few := (n > 0) & (m == 0)).any():
        raise ValueError(
            f"{int(few.sum())} strata have no labelled rows; merge them with others, "
            "because nothing is known about their labels"
        )
    if (few := (m == 1) & (n > 1)).any():
        where = "strata have" if design == "stratified" else "sample has"
        raise ValueError(
            f"{int(few.sum())} {where} one labelled row, which leaves the variance "
            "unknown; label at least two, or merge strata"
        )


def _as_clusters(
    clusters: Any, n: int
) -> tuple[tuple[Array, ...], tuple[int, ...], tuple[int, ...]]:
    if clusters is None:
        return (), (), ()
    array = clusters if isinstance(clusters, jax.Array) else np.asarray(clusters)
    if array.ndim == 2 and array.shape[1] > 1:
        if not is_concrete(array):
            raise ValueError(
                "`clusters` with several ways must be concrete; form them outside jit"
            )
        host = np.asarray(array)
        if host.shape[0] != n:
            raise ValueError(f"`clusters` must have {n} rows, got shape {host.shape}")
        ways = [
            (subset, host[:, list(subset)])
            for size in range(1, host.shape[1] + 1)
            for subset in itertools.combinations(range(host.shape[1]), size)
        ]
    else:
        ways = [((0,), array.reshape(array.shape[0]) if array.ndim == 2 else array)]
    terms, sizes, signs = [], [], []
    for subset, values in ways:
        if values.ndim == 2:
            _, joint = np.unique(values, axis=0, return_inverse=True)
            values = joint.reshape(-1)
        ids, count = as_ids("clusters", values, n)
        if len(subset) == 1 and count == 1 and n > 1:
            raise ValueError(
                "`clusters` has a single cluster: its sum of moments is zero at the "
                "estimate and says nothing about the variance"
            )
        terms.append(ids)
        sizes.append(count)
        signs.append(1 if len(subset) % 2 else -1)
    return tuple(terms), tuple(sizes), tuple(signs)


def _gather_labeled(observed: Any, mask: Any, rows: Rows) -> LabeledRows:
    n = mask.shape[0]
    # The same array on both sides is a variable that needs no label.
    pairs = zip(jax.tree.leaves(observed), jax.tree.leaves(rows.record), strict=True)
    known = tuple(seen is guess for seen, guess in pairs)
    if is_concrete(mask, *jax.tree.leaves((observed, rows))):
        places = np.flatnonzero(np.asarray(mask))
        # A ladder of lengths, so that samples of similar size share a program.
        size = max(16, 1 << int(np.ceil(np.log2(max(len(places), 1)))))
        if size < n // 2:
            index = np.zeros(size, np.int32)
            index[: len(places)] = places
            there = np.arange(size) < len(places)
            return _take(known, observed, rows, jnp.asarray(index), jnp.asarray(there))
    return _labeled(known, observed, rows, jnp.asarray(mask))


@partial(jax.jit, static_argnames=("known",))
def _take(
    known: tuple[bool, ...], observed: Any, rows: Rows, index: Array, there: Array
) -> LabeledRows:
    taken, base = jax.tree.map(lambda leaf: leaf[index], (observed, rows))
    # The padding repeats the first row, whose observed entries may be missing.
    return _labeled(known, taken, base, there)


@partial(jax.jit, static_argnames=("known",))
def _labeled(
    known: tuple[bool, ...], observed: Any, rows: Rows, mask: Array
) -> LabeledRows:
    seen, structure = jax.tree.flatten(observed)
    guess = jax.tree.leaves(rows.record)
    filled = [
        b if same else jnp.where(_like(mask, a), a, b)
        for same, a, b in zip(known, seen, guess, strict=True)
    ]
    return LabeledRows(
        jax.tree.unflatten(structure, filled),
        rows.record,
        jnp.where(mask, rows.weight, 0),
        rows.prob,
        rows.strata,
        rows.clusters,
    )

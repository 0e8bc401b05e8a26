"""Errors of calibration of several classes, by bins."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur.calibration._binned import (
    OPTIONS,
    Binning,
    Closed,
    Norm,
    binned_error,
    check_options,
    error_of_sums,
    sums_of,
)
from jaxcur.calibration._bins import (
    bin_index,
    bin_sums,
)
from jaxcur.calibration._inputs import check_multiclass, top_label_of
from jaxcur.calibration._sums import safe_sqrt


@functools.partial(jax.jit, static_argnames=(*OPTIONS, "present_only"))
def _classwise(
    p: Array,
    c: Array,
    w: Array | None,
    *,
    num_bins: int,
    binning: str,
    closed: str,
    weighting: str,
    norm: Any,
    debias: bool,
    present_only: bool,
) -> Array:
    k = p.shape[1]
    classes = jnp.arange(k, dtype=c.dtype)

    def one(column: Array, label: Array) -> Array:
        y = (c == label).astype(p.dtype)
        sums = sums_of(column, y, w, None, num_bins, binning, closed)
        return error_of_sums(sums, weighting, norm, debias)

    errors = jax.vmap(one, in_axes=(1, 0))(p, classes)
    present = jnp.ones(k, bool)
    if present_only:
        mass = jnp.ones(c.shape, p.dtype) if w is None else w
        present = jax.ops.segment_sum(mass, c, k) > 0
    if norm == "max":
        return jnp.max(jnp.where(present, errors, 0))
    share = present.astype(p.dtype)
    share = share / jnp.sum(share)
    if norm == 2:
        return safe_sqrt(jnp.sum(share * errors**2))
    return jnp.sum(share * errors)


def classwise_calibration_error(
    probs: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "width",
    weighting: Literal["mass", "uniform"] = "mass",
    norm: Norm = 1,
    closed: Closed = "left",
    debias: bool = False,
    present_only: bool = False,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Calibration error of each class on its own, averaged over classes.

    ( (1/k) sum_c ECE_{p,c}^p )^(1/p), where ECE_{p,c} is that of the probability of
    class c for the event that the label is c; the largest of them for norm "max". With
    `debias` and norm 2 each class is clipped at 0 before the mean is taken.

    Heuristic: no finite-sample guarantee.

    Args:
        probs: shape (n, k), rows that sum to 1.
        labels: shape (n,), classes 0..k-1.
        num_bins: number of bins. Static.
        binning: "width" or "mass", for each class on its own. Static.
        weighting: "mass" or "uniform". Static.
        norm: 1, 2 or "max". Static.
        closed: "left" or "right". Static.
        debias: remove the noise of the rates. Static.
        present_only: average over the classes that occur instead of all k. Static.
        weights: shape (n,), numbers of rows.

    Returns:
        scalar.

    Raises:
        ValueError: as `expected_calibration_error`; `probs` that are no rows.

    Transformations: jit, vmap, grad in `probs` and `weights`.
    Cost: one pass over n k numbers, k sorts more for "mass".

    Source: Kumar, Liang and Ma 2019 (norm 2, "marginal"); Kull et al. 2019 (norm 1).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([0, 1])
        >>> calibration.classwise_calibration_error(probs, labels)
        Array(0.375, dtype=float32)
    """
    check_options(num_bins, binning, closed, weighting, norm, debias)
    p, c, w = check_multiclass(probs, labels, weights)
    return _classwise(
        p,
        c,
        None if weights is None else w,
        num_bins=num_bins,
        binning=binning,
        closed=closed,
        weighting=weighting,
        norm=norm,
        debias=debias,
        present_only=bool(present_only),
    )


@functools.partial(jax.jit, static_argnames=OPTIONS)
def _within_class(
    p: Array,
    c: Array,
    w: Array,
    *,
    num_bins: int,
    binning: str,
    closed: str,
    weighting: str,
    norm: Any,
    debias: bool,
) -> Array:
    """Bins of the confidence within each predicted class, one after another."""
    f, y = top_label_of(p, c)
    predicted = jnp.argmax(p, axis=1).astype(jnp.int32)
    k = p.shape[1]
    if binning == "width":
        index, _ = bin_index(f, None, num_bins=num_bins, binning=binning, closed=closed)
    else:
        # Rows of other classes are rows of weight 0.
        def own(label: Array) -> Array:
            mass = jnp.where(predicted == label, w, 0)
            return bin_index(
                f, mass, num_bins=num_bins, binning=binning, closed=closed
            )[0]

        tables = jax.vmap(own)(jnp.arange(k, dtype=jnp.int32))
        index = jnp.take_along_axis(tables, predicted[None, :], axis=0)[0]
    sums = bin_sums(f, y, w, predicted * num_bins + index, k * num_bins)
    return error_of_sums(sums, weighting, norm, debias)


def top_label_calibration_error(
    probs: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "width",
    weighting: Literal["mass", "uniform"] = "mass",
    norm: Norm = 1,
    closed: Closed = "left",
    debias: bool = False,
    within_class: bool = False,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Calibration error of the largest probability of each row.

    The forecast is max_c P_ic and the outcome whether the label is its class (the
    lowest one of a tie); its `expected_calibration_error` over bins of the forecast.
    `within_class` forms the bins within each predicted class instead: a stronger
    notion, with k num_bins bins.

    Heuristic: no finite-sample guarantee.

    Args:
        probs: shape (n, k), rows that sum to 1.
        labels: shape (n,), classes 0..k-1.
        num_bins: number of bins. Static.
        binning: "width" or "mass". Static.
        weighting: "mass" or "uniform". Static.
        norm: 1, 2 or "max". Static.
        closed: "left" or "right". Static.
        debias: remove the noise of the rates. Static.
        within_class: bins within each predicted class. Static.
        weights: shape (n,), numbers of rows.

    Returns:
        scalar.

    Raises:
        ValueError: as `expected_calibration_error`; `probs` that are no rows.

    Transformations: jit, vmap, grad in `probs` and `weights`.
    Cost: one pass, a sort more for "mass" (k of them within classes).

    Source: Guo et al. 2017; Gupta and Ramdas, "Top-label calibration and
    multiclass-to-binary reductions", ICLR 2022 (within classes).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([0, 0])
        >>> calibration.top_label_calibration_error(probs, labels)
        Array(0.625, dtype=float32)
    """
    check_options(num_bins, binning, closed, weighting, norm, debias)
    p, c, w = check_multiclass(probs, labels, weights)
    options: dict[str, Any] = {
        "num_bins": num_bins,
        "binning": binning,
        "closed": closed,
        "weighting": weighting,
        "norm": norm,
        "debias": debias,
    }
    if within_class:
        return _within_class(p, c, w, **options)
    f, y = top_label_of(p, c)
    return binned_error(f, y, None if weights is None else w, None, **options)

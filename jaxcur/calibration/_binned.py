"""Errors of calibration between bins of forecasts."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice
from jaxcur.calibration._bins import (
    BinSums,
    bin_index,
    bin_sums,
    check_bins,
    check_edges,
)
from jaxcur.calibration._inputs import check_multiclass, check_scored, top_label_of
from jaxcur.calibration._sums import ratio, safe_sqrt

Binning = Literal["width", "mass"]
Closed = Literal["left", "right"]
Norm = Literal[1, 2, "max"]

_BIN_OPTIONS = ("num_bins", "binning", "closed")
_OPTIONS = (*_BIN_OPTIONS, "weighting", "norm", "debias")


def squared_debiased(sums: BinSums) -> Array:
    """Sum of share * (gap^2 - variance of the rate), bins of two rows or more."""
    usable = sums.weight >= 2
    rate = sums.rate
    noise = rate * (1 - rate) / jnp.where(usable, sums.weight - 1, 1)
    share = sums.weight / sums.total
    terms = jnp.where(usable, share * (sums.gap**2 - noise), 0)
    # A bin that does not count still hands on its NaN.
    return jnp.sum(terms) + 0 * jnp.sum(sums.gap + sums.weight)


def _expected_absolute(gap: Array, sd: Array) -> Array:
    """E|N(gap, sd^2)|."""
    present = sd > 0
    scale = jnp.where(present, sd, 1)
    z = gap / scale
    density = jnp.sqrt(2 / jnp.pi).astype(gap.dtype) * jnp.exp(-(z**2) / 2)
    value = scale * density + gap * (1 - 2 * jax.scipy.stats.norm.cdf(-z))
    return jnp.where(present, value, jnp.abs(gap))


def error_of_sums(sums: BinSums, weighting: str, norm: Any, debias: bool) -> Array:
    """One number from the sums of each bin.

    The plain error of norm 1 asks for the residuals only.
    """
    total = sums.total
    present = sums.weight > 0
    if norm == "max":
        # An empty bin has gap 0 and NaN is carried by the maximum.
        return jnp.max(jnp.abs(sums.gap)) + 0 * total
    if weighting == "mass":
        share = sums.weight / total
    else:
        share = present.astype(total.dtype)
        share = share / jnp.sum(share) + 0 * total
    if norm == 2:
        if debias:
            return safe_sqrt(squared_debiased(sums))
        return safe_sqrt(jnp.sum(share * sums.gap**2))
    gap = jnp.abs(sums.gap)
    plain = (
        jnp.sum(jnp.abs(sums.residual)) / total
        if weighting == "mass"
        else jnp.sum(share * gap)
    )
    if not debias:
        return plain
    rate = sums.rate
    sd = safe_sqrt(ratio(rate * (1 - rate), sums.weight))
    return 2 * plain - jnp.sum(share * _expected_absolute(sums.gap, sd))


def _check_options(
    num_bins: int, binning: str, closed: str, weighting: str, norm: Any, debias: bool
) -> None:
    check_bins(num_bins, binning, closed)
    check_choice("weighting", weighting, ("mass", "uniform"))
    if norm not in (1, 2, "max"):
        raise ValueError(f"`norm` must be one of 1, 2, 'max', got {norm!r}")
    if debias and norm == "max":
        raise ValueError(
            "`debias` needs norm=1 or norm=2; the maximum has no such form"
        )
    if debias and norm == 2 and weighting != "mass":
        raise ValueError("`debias` with norm=2 needs weighting='mass'")


def _sums(
    f: Array,
    y: Array,
    w: Array | None,
    edges: Array | None,
    num_bins: int,
    binning: str,
    closed: str,
) -> BinSums:
    index, num_bins = bin_index(
        f, w, num_bins=num_bins, binning=binning, closed=closed, edges=edges
    )
    return bin_sums(f, y, w, index, num_bins)


@functools.partial(jax.jit, static_argnames=_OPTIONS)
def _error(
    f: Array,
    y: Array,
    w: Array | None,
    edges: Array | None,
    *,
    num_bins: int,
    binning: str,
    closed: str,
    weighting: str,
    norm: Any,
    debias: bool,
) -> Array:
    y = y.astype(f.dtype)
    sums = _sums(f, y, w, edges, num_bins, binning, closed)
    return error_of_sums(sums, weighting, norm, debias)


def expected_calibration_error(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "width",
    weighting: Literal["mass", "uniform"] = "mass",
    norm: Norm = 1,
    closed: Closed = "left",
    debias: bool = False,
    edges: Real[ArrayLike, " e"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean distance of forecasts and observed rates over bins of the forecast.

    With  gap_j = (mean forecast - mean outcome)  of bin j and  n_j  its rows,
    ECE_p = ( sum_j (n_j / n) |gap_j|^p )^(1/p)  for norm 1 and 2, and the largest
    |gap_j| of a bin that is not empty for "max".

    The plain forms are too large under calibration, by about the noise of the rates.
    `debias` subtracts it. For norm 2 it takes
    sum_j (n_j / n) (gap_j^2 - rate_j (1 - rate_j) / (n_j - 1)),  over bins of two rows
    or more, which is unbiased where forecasts are constant within bins, and returns the
    root of its positive part (`debiased_squared_error` has the signed value). For
    norm 1 it takes  2 ECE_1 - E ECE_1*,  the rates in the starred one drawn from
    normals about the observed rates; the expectation is in closed form.

    Heuristic: no finite-sample guarantee.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), rows of probabilities
            of k classes, of which the top label is scored: the largest probability as
            forecast and whether it is that of the label as outcome.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        num_bins: number of bins. Static.
        binning: "width" has edges j / num_bins; "mass" cuts the sorted sample into
            groups of (almost) equal size and puts edges between them; equal forecasts
            stay in one bin. Static.
        weighting: "mass" weighs bins by their rows; "uniform" takes the plain mean over
            bins that are not empty. Static.
        norm: 1, 2 or "max". Static.
        closed: the side of a bin that belongs to it; matters only for forecasts exactly
            on an edge. Static.
        debias: remove the noise of the rates. Static.
        edges: shape (num_bins + 1,), from 0 to 1; takes the place of `num_bins` and
            `binning`.
        weights: shape (n,); a row of weight 2 counts as two rows, one of weight 0 is
            absent.

    Returns:
        scalar. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, an unknown
            option, or `debias` with norm "max".

    Transformations: jit, vmap, grad in `probs` and `weights` (rows stay in their bins).
    Cost: one pass for "width", a sort more for "mass".

    Source: Guo et al. 2017; Kumar, Liang and Ma, "Verified Uncertainty Calibration",
    NeurIPS 2019; Nixon et al. 2019 for equal mass.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([0.1, 0.2, 0.8, 0.9])
        >>> labels = jnp.array([0, 1, 1, 1])
        >>> calibration.expected_calibration_error(probs, labels, num_bins=2).round(4)
        Array(0.25, dtype=float32)
    """
    _check_options(num_bins, binning, closed, weighting, norm, debias)
    f, y, w = check_scored(probs, labels, weights, convert=False)
    return _error(
        f,
        y,
        w,
        check_edges(edges, f.dtype),
        num_bins=num_bins,
        binning=binning,
        closed=closed,
        weighting=weighting,
        norm=norm,
        debias=debias,
    )


@functools.partial(jax.jit, static_argnames=_BIN_OPTIONS)
def _squared(
    f: Array,
    y: Array,
    w: Array | None,
    *,
    num_bins: int,
    binning: str,
    closed: str,
) -> Array:
    return squared_debiased(_sums(f, y, w, None, num_bins, binning, closed))


def debiased_squared_error(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "width",
    closed: Closed = "left",
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Squared binned error with the noise of the rates subtracted; may be negative.

    sum_j (n_j / n) (gap_j^2 - rate_j (1 - rate_j) / (n_j - 1)) over bins of two rows or
    more.

    Guarantee: where forecasts are constant within bins and rows are independent, the
    expectation given the forecasts is  sum_j (n_j / n) (f_j - E rate_j)^2  over the
    bins of two rows or more.
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,), or (n, k) for the top label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1.
        num_bins: number of bins. Static.
        binning: "width" or "mass". Static.
        closed: "left" or "right". Static.
        weights: shape (n,), numbers of rows.

    Returns:
        scalar, at most 1.

    Raises:
        ValueError: as `expected_calibration_error`.

    Transformations: jit, vmap, grad in `probs` and `weights`.
    Cost: as `expected_calibration_error`.

    Source: Kumar, Liang and Ma, "Verified Uncertainty Calibration", NeurIPS 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.4, 0.4, 0.4, 0.4]), jnp.array([1, 0, 0, 1])
        >>> calibration.debiased_squared_error(probs, labels).round(4)
        Array(-0.0733, dtype=float32)
    """
    check_bins(num_bins, binning, closed)
    f, y, w = check_scored(probs, labels, weights)
    return _squared(f, y, w, num_bins=num_bins, binning=binning, closed=closed)


class SignedErrors(NamedTuple):
    """Binned error by direction.

    Attributes:
        signed: mean forecast minus mean outcome.
        over: share-weighted sum of positive gaps: forecasts too high.
        under: share-weighted sum of negative gaps, as a positive number: too low.
    """

    signed: Array
    over: Array
    under: Array


@functools.partial(jax.jit, static_argnames=_BIN_OPTIONS)
def _signed(
    f: Array,
    y: Array,
    w: Array | None,
    *,
    num_bins: int,
    binning: str,
    closed: str,
) -> SignedErrors:
    sums = _sums(f, y, w, None, num_bins, binning, closed)
    return SignedErrors(
        jnp.sum(sums.residual) / sums.total,
        jnp.sum(jnp.maximum(sums.residual, 0)) / sums.total,
        jnp.sum(jnp.maximum(-sums.residual, 0)) / sums.total,
    )


def signed_calibration_errors(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 15,
    binning: Binning = "width",
    closed: Closed = "left",
    weights: Real[ArrayLike, " n"] | None = None,
) -> SignedErrors:
    """Binned error split by direction: forecasts too high and forecasts too low.

    signed = over - under  and  ECE_1 = over + under.

    Heuristic: no finite-sample guarantee.

    Args:
        probs: shape (n,), or (n, k) for the top label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1.
        num_bins: number of bins. Static.
        binning: "width" or "mass". Static.
        closed: "left" or "right". Static.
        weights: shape (n,), numbers of rows.

    Returns:
        `SignedErrors` of scalars.

    Raises:
        ValueError: as `expected_calibration_error`.

    Transformations: jit, vmap, grad in `probs` and `weights`.
    Cost: as `expected_calibration_error`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.25, 0.75]), jnp.array([1, 0])
        >>> errors = calibration.signed_calibration_errors(probs, labels)
        >>> errors.over, errors.under
        (Array(0.375, dtype=float32), Array(0.375, dtype=float32))
    """
    check_bins(num_bins, binning, closed)
    f, y, w = check_scored(probs, labels, weights)
    return _signed(f, y, w, num_bins=num_bins, binning=binning, closed=closed)


@functools.partial(jax.jit, static_argnames=(*_OPTIONS, "present_only"))
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
        sums = _sums(column, y, w, None, num_bins, binning, closed)
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
    _check_options(num_bins, binning, closed, weighting, norm, debias)
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


@functools.partial(jax.jit, static_argnames=_OPTIONS)
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
    _check_options(num_bins, binning, closed, weighting, norm, debias)
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
    return _error(f, y, None if weights is None else w, None, **options)

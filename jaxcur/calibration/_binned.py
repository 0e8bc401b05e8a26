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
from jaxcur.calibration._inputs import check_scored
from jaxcur.calibration._sums import ratio, safe_sqrt

Binning = Literal["width", "mass"]
Closed = Literal["left", "right"]
Norm = Literal[1, 2, "max"]

_BIN_OPTIONS = ("num_bins", "binning", "closed")
OPTIONS = (*_BIN_OPTIONS, "weighting", "norm", "debias")


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


def check_options(
    num_bins: int, binning: str, closed: str, weighting: str, norm: Any, debias: bool
) -> None:
    """Raise on options that do not exist or do not go together."""
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


def sums_of(
    f: Array,
    y: Array,
    w: Array | None,
    edges: Array | None,
    num_bins: int,
    binning: str,
    closed: str,
) -> BinSums:
    """Sums of the rows in each bin."""
    index, num_bins = bin_index(
        f, w, num_bins=num_bins, binning=binning, closed=closed, edges=edges
    )
    return bin_sums(f, y, w, index, num_bins)


@functools.partial(jax.jit, static_argnames=OPTIONS)
def binned_error(
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
    """The error, as one program for all inputs of a shape."""
    y = y.astype(f.dtype)
    sums = sums_of(f, y, w, edges, num_bins, binning, closed)
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
    check_options(num_bins, binning, closed, weighting, norm, debias)
    f, y, w = check_scored(probs, labels, weights, convert=False)
    return binned_error(
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
    return squared_debiased(sums_of(f, y, w, None, num_bins, binning, closed))


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
    sums = sums_of(f, y, w, None, num_bins, binning, closed)
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

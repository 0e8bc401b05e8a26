"""Class probabilities, valid ones where boundaries cross, and odds ratios."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice
from jaxcur.ordinal._design import HIGHEST
from jaxcur.ordinal._families import class_probabilities
from jaxcur.ordinal._inputs import check_features
from jaxcur.ordinal._links import log_cdf
from jaxcur.ordinal._result import OrdinalResult

REPAIRS = ("rearrange", "none", "isotonic", "clip")


def predictors(result: OrdinalResult, features: Array) -> Array:
    """alpha_k + x'beta_k, (n, k-1)."""
    if result.intercepts.ndim != 1:
        raise ValueError(
            "`result` holds several fits; take one with `.at(index)`, or map over them "
            "with jax.vmap"
        )
    p = result.coefficients.shape[0]
    if features.shape[1] != p:
        raise ValueError(f"`X` must have {p} columns, got {features.shape[1]}")
    features = features.astype(result.coefficients.dtype)
    product = jnp.matmul(features, result.coefficients, precision=HIGHEST)
    return result.intercepts + product


def _pool(values: Array) -> Array:
    """Nearest nondecreasing rows of (n, m), by the max-min formula."""
    m = values.shape[1]
    sums = jnp.pad(jnp.cumsum(values, axis=1), ((0, 0), (1, 0)))
    first, last = np.meshgrid(np.arange(m), np.arange(m), indexing="ij")
    length = np.where(last >= first, last - first + 1, 1)
    means = (sums[:, last + 1] - sums[:, first]) / jnp.asarray(length, values.dtype)
    means = jnp.where(jnp.asarray(last >= first), means, jnp.inf)
    # Entry (i, k): the smallest mean of i..j over j >= k.
    smallest = jnp.flip(jnp.minimum.accumulate(jnp.flip(means, 2), axis=2), 2)
    smallest = jnp.where(jnp.asarray(first <= last), smallest, -jnp.inf)
    return jnp.max(smallest, axis=1)


def predict_proba(
    result: OrdinalResult,
    X: Real[ArrayLike, "n p"],
    *,
    repair: str = "rearrange",
) -> Float[Array, "n k"]:
    """Probabilities of the classes at the rows of `X`.

    Boundaries of the cumulative family can cross, and then the model gives some class a
    negative value. `rearrange` sorts the cumulative probabilities of such a row (never
    farther from any valid distribution, in mean absolute or squared distance of the
    cumulative curve), `isotonic` takes the nearest nondecreasing curve, `clip` sets
    negative values to zero and rescales, `none` returns the signed values.

    Guarantee: but for `none`, rows are nonnegative and sum to one. Verified by:
    property tests.

    Args:
        result: a fit.
        X: shape (n, p).
        repair: "rearrange", "isotonic", "clip" or "none". Static.

    Raises:
        ValueError: `X` has the wrong number of columns or holds NaN; an unknown repair;
            several fits at once.

    Transformations: jit, vmap, grad.
    Cost: O(n p m).

    Source: Chernozhukov, Fernandez-Val and Galichon, "Improving point and interval
    estimators of monotone functions by rearrangement", Biometrika 2009.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxcur import ordinal
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> result = ordinal.fit(x, y, num_classes=3, regularization=0.05)
        >>> probs = ordinal.predict_proba(result, jnp.array([[3.5]]))
        >>> np.asarray(probs, float).round(2)
        array([[0.27, 0.62, 0.11]])
    """
    check_choice("repair", repair, REPAIRS)
    eta = predictors(result, check_features(X))
    family, link = result.family, result.link
    if family != "cumulative" or repair == "none":
        return class_probabilities(family, link, eta)
    if repair == "rearrange":
        return class_probabilities(family, link, jnp.sort(eta, axis=1))
    signed = class_probabilities(family, link, eta)
    if repair == "clip":
        kept = jnp.maximum(signed, 0)
        return kept / jnp.sum(kept, axis=1, keepdims=True)
    pooled = _pool(jnp.exp(log_cdf(link, eta)))
    repaired = jnp.diff(jnp.pad(pooled, ((0, 0), (1, 0))), append=1.0, axis=1)
    crosses = jnp.any(signed < 0, axis=1, keepdims=True)
    return jnp.where(crosses, jnp.maximum(repaired, 0), signed)


def odds_ratios(
    result: OrdinalResult, *, direction: str = "higher"
) -> Float[Array, "p b"]:
    """Factor by which one unit of a feature multiplies the odds, at every boundary.

    `higher` gives the odds of the classes above a boundary against those below it (for
    `sratio` and `cratio` given that the lower ones were passed, for `acat` between
    neighbours), so that a number above 1 means: more of the higher classes.

    Heuristic: no finite-sample guarantee; a transformation of the estimates.

    Args:
        result: a fit with the logit link.
        direction: "higher" or "lower". Static.

    Raises:
        ValueError: another link, or an unknown direction.

    Transformations: jit, vmap, grad.
    Cost: O(p m).

    Source: McCullagh, "Regression models for ordinal data", JRSS B 1980.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> result = ordinal.fit(x, y, num_classes=3, regularization=0.05)
        >>> ordinal.odds_ratios(result).round(2)
        Array([[2.5, 2.5]], dtype=float32)
    """
    check_choice("direction", direction, ("higher", "lower"))
    if result.link != "logit":
        raise ValueError(
            f"odds ratios are those of the logit link, got link {result.link!r}"
        )
    # The link is applied to the lower side for these two families.
    lower = result.family in ("cumulative", "sratio")
    sign = -1 if lower == (direction == "higher") else 1
    return jnp.exp(sign * result.coefficients)

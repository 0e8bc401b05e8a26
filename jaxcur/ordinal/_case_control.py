"""Samples in which classes were drawn at other rates than they occur."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import as_float, is_concrete
from jaxcur.ordinal._inputs import check_response
from jaxcur.ordinal._result import OrdinalResult


def _check_frequencies(name: str, value: Any, k: int | None) -> Array:
    (array,) = as_float(**{name: value})
    if array.ndim != 1 or array.size < 2 or (k is not None and array.size != k):
        expected = "(k,)" if k is None else f"({k},)"
        raise ValueError(f"`{name}` must have shape {expected}, got {array.shape}")
    if is_concrete(array):
        host = np.asarray(array)
        if not (np.isfinite(host) & (host > 0)).all():
            raise ValueError(f"`{name}` must be positive, got {host.tolist()}")
    return array / jnp.sum(array)


def correct_prevalence(
    result: OrdinalResult,
    sample_frequencies: Real[ArrayLike, " k"],
    population_frequencies: Real[ArrayLike, " k"],
) -> OrdinalResult:
    """Move a fit from a sample stratified by class to the population.

    Rows of class k were drawn at a rate proportional to r_k = sample_k / population_k,
    whatever their features. Then  P_sample(y = k | x)  is proportional to  r_k
    P(y = k | x), so the log odds of neighbouring classes differ by a constant: in the
    family "acat", and for two classes with the logit link, coefficients are right as
    they are and only intercepts are shifted, exactly.

    For three or more classes in the cumulative and sequential families no shift does
    it: P(y <= k) adds classes up before the link is applied, so a model that holds in
    the population does not hold in the sample. Weight the rows instead
    (`prevalence_weights`), with sandwich standard errors.

    Guarantee: exact. Verified by: Bayes' rule in the unit tests.

    Args:
        result: a fit to the sample, of the family "acat", or of two classes with the
            logit link.
        sample_frequencies: shape (k,), shares or counts of the classes in the sample.
        population_frequencies: shape (k,), in the population.

    Returns:
        The result with other `intercepts`; the certificate is that of the sample.

    Raises:
        ValueError: another family or link, frequencies of another shape or not
            positive.

    Transformations: jit, vmap, grad.
    Cost: O(k).

    Source: Prentice and Pyke 1979; King and Zeng 2001.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
        >>> fit = ordinal.fit(x, jnp.array([0, 1, 0, 1]), num_classes=2)
        >>> rare = ordinal.correct_prevalence(fit, [0.5, 0.5], [0.99, 0.01])
        >>> (rare.intercepts - fit.intercepts).round(2)
        Array([4.6], dtype=float32)
    """
    m = result.intercepts.shape[-1]
    if result.family != "acat" and (m > 1 or result.link != "logit"):
        raise ValueError(
            "a shift of intercepts is right for the family 'acat', or for two classes "
            f"with the logit link, got {result.family!r}, {result.link!r} and {m + 1} "
            "classes; fit with weights=prevalence_weights(y, population_frequencies) "
            "and use kind='sandwich'"
        )
    dtype = result.intercepts.dtype
    sample = _check_frequencies("sample_frequencies", sample_frequencies, m + 1)
    target = _check_frequencies("population_frequencies", population_frequencies, m + 1)
    ratio = (jnp.log(target) - jnp.log(sample)).astype(dtype)
    shift = jnp.diff(ratio)
    # With two classes these two apply the link to the lower one.
    if result.family in ("cumulative", "sratio"):
        shift = -shift
    return dataclasses.replace(result, intercepts=result.intercepts + shift)


def prevalence_weights(
    y: Int[ArrayLike, " n"], population_frequencies: Real[ArrayLike, " k"]
) -> Float[Array, " n"]:
    """Weights that restore the class frequencies of the population, with mean 1.

    A row of class k gets population_k / sample_k. For the cumulative and sequential
    families, where `correct_prevalence` has no answer.

    Guarantee: a fit with these weights estimates what a sample of the population would,
    as rows grow; its standard errors are those of `kind="sandwich"`, which takes the
    weights as known. Verified by: the unit tests.

    Args:
        y: shape (n,), classes 0..k-1, each occurring.
        population_frequencies: shape (k,), shares or counts.

    Raises:
        ValueError: a class that does not occur, frequencies that are not positive.

    Transformations: jit, vmap.
    Cost: O(n).

    Source: Manski and Lerman, "The estimation of choice probabilities from choice based
    samples", Econometrica 1977.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> ordinal.prevalence_weights(jnp.array([0, 0, 1, 1]), [0.75, 0.25])
        Array([1.5, 1.5, 0.5, 0.5], dtype=float32)
    """
    target = _check_frequencies("population_frequencies", population_frequencies, None)
    k = target.size
    response = check_response(y, k, jnp.asarray(y).shape[0] if jnp.ndim(y) else 0)
    counts = jnp.zeros(k, target.dtype).at[response].add(1)
    if is_concrete(counts) and (np.asarray(counts) == 0).any():
        missing = int(np.argmin(np.asarray(counts)))
        raise ValueError(f"`y` never takes class {missing}: no weight can restore it")
    return (target * response.shape[0] / counts)[response]

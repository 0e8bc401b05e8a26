"""Evidence from counts: the betting mixture for rates, the Dirichlet one for ranks."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln as jax_gammaln
from jax.typing import ArrayLike
from jaxtyping import Real
from scipy.special import gammaln

from jaxcur._base import check_choice, check_unit_interval, is_concrete
from jaxcur.verify._numerics import CERTAIN, exact_products, log_mean_exp, pair_sum

NUM_BETS = 18
BETS = 0.9 * 0.5 ** np.arange(NUM_BETS)
"""Bet fractions c_j: from enormous effects down to about 1e-5."""


def log_evidence(
    successes: Real[ArrayLike, "..."],
    trials: Real[ArrayLike, "..."],
    bound: float,
    *,
    side: str = "up",
) -> Any:
    """Log evidence against a bound on a rate, from counts alone.

    With S successes in n trials, edge m and bet fractions c_j = 0.9 * 2^-j, j = 0..17:

        up:   log mean_j exp( S log(1 - c_j + c_j / m) + (n - S) log(1 - c_j) )
        down: the same with n - S for S and 1 - m for m

    Guarantee: if the conditional mean never exceeds the bound (up) or never falls below
    it (down), the probability that the exponential ever reaches 1 / delta is at most
    delta, however often one looks (Ville).
    Verified by: tests/guarantees/test_harness.py.

    Args:
        successes: number of ones, any shape.
        trials: number of replications, same shape or scalar.
        bound: the edge m, a number in [0, 1].
        side: "up" gathers evidence that the mean is above the bound, "down" below.

    Returns:
        Natural logarithm of the evidence, in the broadcast shape. Concrete inputs are
        computed in float64 by NumPy whatever the precision of JAX; traced inputs in the
        default float.

    Raises:
        ValueError: more successes than trials, negative counts, bound outside [0, 1],
            or an unknown side.

    Transformations: jit and vmap over the counts; `bound` and `side` are static. Not
        differentiable (counts).
    Cost: O(18) per entry.

    Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
        betting", JRSS-B 2024, with constant bets and a uniform mixture.

    Example:
        >>> from jaxcur import verify
        >>> round(float(verify.log_evidence(150, 1000, 0.10)), 6)
        9.414273
        >>> round(float(verify.log_evidence(1000, 10000, 0.11, side="down")), 6)
        2.660132
    """
    check_choice("side", side, ("up", "down"))
    if not is_concrete(bound):
        raise TypeError("`bound` must be a concrete number; only counts may be traced")
    check_unit_interval("bound", bound)
    if is_concrete(successes, trials):
        xp: ModuleType = np
        ones = np.asarray(successes, np.float64)
        total = np.asarray(trials, np.float64)
        if not np.all((ones >= 0) & (ones <= total)):
            raise ValueError(
                "`successes` must lie between 0 and `trials`, "
                f"got {successes!r} of {trials!r}"
            )
    else:
        xp = jnp
        ones, total = jnp.asarray(successes), jnp.asarray(trials)
    ones, total = xp.broadcast_arrays(ones, total)
    zeros = total - ones
    edge = float(bound)
    if side == "down":
        ones, zeros, edge = zeros, ones, 1.0 - edge
    log_one, log_zero = log_atoms(np.asarray(edge))
    return mixture_of_counts(xp, ones[..., None], zeros[..., None], log_one, log_zero)


def mixture_of_counts(
    xp: ModuleType,
    ones: Any,
    zeros: Any,
    log_one: np.ndarray,
    log_zero: np.ndarray,
    rest: tuple[Any, Any] | None = None,
) -> Any:
    """Log evidence of the uniform mixture over the last axis.

    Args:
        xp: array namespace.
        ones: counts of metrics equal to 1, with a last axis of length 1.
        zeros: counts of metrics equal to 0, likewise.
        log_one: host log factors at 1, bets on the last axis.
        log_zero: host log factors at 0, likewise.
        rest: sums of log factors of all other metrics, as a pair high + low.
    """
    log_one, log_zero = np.minimum(log_one, CERTAIN), np.minimum(log_zero, CERTAIN)
    if xp is np:
        total = ones * log_one + zeros * log_zero
        if rest is not None:
            total = total + (rest[0] + rest[1])
    else:
        shape = (1,) * (ones.ndim - log_one.ndim) + log_one.shape
        terms = [
            exact_products(_counts(counts), constant.reshape(shape))
            for counts, constant in ((ones, log_one), (zeros, log_zero))
        ]
        if rest is not None:
            terms.append(xp.stack(rest))
        high, low = pair_sum(xp, xp.concatenate(terms))
        total = high + low
    value = log_mean_exp(xp, total, axis=-1)
    return xp.where(value > CERTAIN / 10, xp.full_like(value, np.inf), value)


def _counts(values: Any) -> Any:
    """Counts as integers: only whole numbers can be cut into exact pieces."""
    if jnp.issubdtype(values.dtype, jnp.integer):
        return values
    return jnp.round(values).astype(jnp.result_type(int))


def log_atoms(edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log factors at the metrics 1 and 0; shape (*edge.shape, 18), bets last.

    The factor at 1 is infinite at the edge 0: one success contradicts a mean of 0.
    """
    with np.errstate(divide="ignore"):
        log_one = np.log1p(BETS / edge[..., None] - BETS)
    return log_one, np.broadcast_to(np.log1p(-BETS), log_one.shape)


def rank_log_evidence(
    counts: Real[ArrayLike, " k"] | Sequence[int],
    *,
    probabilities: Real[ArrayLike, " k"] | Sequence[float] | None = None,
) -> Any:
    """Log evidence against a known law of ranks, from the counts per cell.

    With counts n_k in K cells, t in all, and cell law pi (uniform by default):

        lgamma(K) - lgamma(K + t) + sum_k lgamma(1 + n_k) - sum_k n_k log pi_k

    the likelihood ratio of a uniform Dirichlet mixture against pi.

    Guarantee: if ranks are independent draws from pi, the probability that the
    exponential ever reaches 1 / delta is at most delta, however often one looks.
    Verified by: tests/guarantees/test_harness.py.

    Args:
        counts: shape (k,), nonnegative counts, k >= 2.
        probabilities: shape (k,), concrete, positive, summing to 1; None is uniform.

    Returns:
        Scalar; float64 NumPy for concrete counts, a JAX scalar for traced ones.

    Raises:
        ValueError: fewer than two cells, negative counts, or probabilities that are
            not a law on the cells.

    Transformations: jit and vmap over `counts`. Not differentiable (counts).
    Cost: O(k).

    Example:
        >>> from jaxcur import verify
        >>> round(float(verify.rank_log_evidence([100] * 10)), 6)
        -21.562158
    """
    if np.ndim(counts) != 1 or np.shape(counts)[0] < 2:
        raise ValueError(
            f"`counts` must have shape (k,) with k >= 2, got {np.shape(counts)}"
        )
    num_cells = np.shape(counts)[0]
    if probabilities is None:
        law = np.full(num_cells, 1.0 / num_cells)
    else:
        law = np.asarray(probabilities, np.float64)
        if law.shape != (num_cells,) or not np.all(law > 0):
            raise ValueError(
                f"`probabilities` must be {num_cells} positive numbers, got {law}"
            )
        if not np.isclose(law.sum(), 1.0, rtol=0, atol=1e-6):
            raise ValueError(f"`probabilities` must sum to 1, got {law.sum()}")
    if not is_concrete(counts):
        return dirichlet_evidence(jnp, jnp.asarray(counts), law)
    host = np.asarray(counts, np.float64)
    if not np.all(host >= 0):
        raise ValueError(f"`counts` must be nonnegative, got {counts!r}")
    return dirichlet_evidence(np, host, law)


def dirichlet_evidence(xp: ModuleType, counts: Any, law: np.ndarray) -> Any:
    """Dirichlet-mixture evidence over the last axis, prior weight 1 per cell.

    In float32 the log-gamma form would subtract numbers near 1e7 to find one near 10.
    Stirling's formula turns it into a relative entropy, computed term by term from
    small numbers, plus corrections of order one.
    """
    num_cells = law.shape[0]
    if xp is np:
        total = counts.sum(axis=-1)
        return (
            gammaln(num_cells)
            - gammaln(num_cells + total)
            + gammaln(1 + counts).sum(axis=-1)
            - (counts * np.log(law)).sum(axis=-1)
        )
    dtype = jnp.result_type(float)
    n = counts.astype(dtype)
    total = n.sum(axis=-1)
    positive = jnp.maximum(total, jnp.ones_like(total))
    expected = positive[..., None] * jnp.asarray(law, dtype).reshape(
        (1,) * (n.ndim - 1) + (num_cells,)
    )
    gap = (n - expected) / expected
    # (1 + g) log(1 + g) - g >= 0, with value 1 at g = -1 (an empty cell).
    inside = jnp.maximum(gap, jnp.full_like(gap, -1 + 1e-7))
    entropy = jnp.where(
        n > 0, (1 + inside) * jnp.log1p(inside) - gap, jnp.ones_like(gap)
    )
    main = (expected * entropy).sum(axis=-1)
    offsets = jnp.arange(1, num_cells, dtype=dtype).reshape(
        (1,) * total.ndim + (num_cells - 1,)
    )
    denominator = jnp.log(total[..., None] + offsets).sum(axis=-1)
    corrections = _stirling_rest(n).sum(axis=-1) - _stirling_rest(total)
    constant = jnp.asarray(gammaln(num_cells), dtype)
    value = constant - denominator + main + corrections
    return jnp.where(total > 0, value, jnp.zeros_like(value))


def _stirling_rest(n: Any) -> Any:
    """lgamma(1 + n) - (n log n - n), which is log(2 pi n) / 2 + 1 / (12 n) - ..."""
    large = jnp.maximum(n, jnp.full_like(n, 8))
    series = 0.5 * jnp.log(2 * np.pi * large) + 1 / (12 * large) - 1 / (360 * large**3)
    small = jnp.clip(n, min=1, max=8)
    direct = jax_gammaln(1 + small) - (small * jnp.log(small) - small)
    return jnp.where(n >= 8, series, jnp.where(n > 0, direct, jnp.zeros_like(n)))

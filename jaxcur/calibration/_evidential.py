"""Evidence for classes as subjective opinions: belief, ignorance, conflict."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import as_float, is_concrete


class EvidentialOpinion(NamedTuple):
    """An opinion about K classes from non-negative evidence.

    Attributes:
        belief: shape (..., K), evidence over the total of evidence plus K.
        uncertainty: shape (...), the mass that no evidence supports; with the beliefs
            it adds to 1.
        probability: shape (..., K), expected probabilities of the Dirichlet law.
        dissonance: shape (...), in [0, 1], evidence that contradicts itself.
    """

    belief: Array
    uncertainty: Array
    probability: Array
    dissonance: Array


class ConfusionAndIgnorance(NamedTuple):
    """Where the doubt about K classes comes from; the parts add to 1.

    Attributes:
        belief: shape (..., K), mass on single classes.
        confusion: shape (...), mass on sets of two and more classes.
        ignorance: shape (...), mass on no class at all.
    """

    belief: Array
    confusion: Array
    ignorance: Array


def _rows(name: str, value: Any, low: float, high: float) -> Array:
    (array,) = as_float(**{name: value})
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(
            f"`{name}` must have shape (..., K) with at least one class, "
            f"got {array.shape}"
        )
    if is_concrete(array):
        host = np.asarray(array)
        if not ((host >= low) & (host <= high) & np.isfinite(host)).all():
            raise ValueError(
                f"`{name}` must be finite and in [{low:g}, {high:g}], got values from "
                f"{host.min()} to {host.max()}"
            )
    legal = (array >= low) & (array <= high) & jnp.isfinite(array)
    return jnp.where(legal, array, jnp.nan)


def evidential_opinion(evidence: Real[ArrayLike, "... K"]) -> EvidentialOpinion:
    """The opinion of a Dirichlet law with parameters evidence + 1.

    With S the sum of the parameters: belief e_k / S, uncertainty K / S, expected
    probability (e_k + 1) / S. Dissonance weighs, for each class, how evenly the other
    beliefs balance it:  sum_k b_k [sum_j b_j Bal(b_j, b_k)] / sum_j b_j  over j != k,
    Bal(x, y) = 1 - |x - y| / (x + y).

    Heuristic: no finite-sample guarantee. The identities hold to rounding.

    Args:
        evidence: shape (..., K), at least 0, for example softplus of logits.

    Returns:
        EvidentialOpinion.

    Raises:
        ValueError: negative or non-finite evidence; NaN under jit.

    Transformations: jit, vmap, grad.
    Cost: O(K^2) time per row for the dissonance, O(K) memory per row.

    Source: Josang, "Subjective logic", 2016; Sensoy et al. 2018 for the Dirichlet form.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> opinion = calibration.evidential_opinion(jnp.array([8.0, 8.0, 0.0]))
        >>> print(f"{opinion.uncertainty:.3f} {opinion.dissonance:.3f}")
        0.158 0.842
    """
    return _opinion(_rows("evidence", evidence, 0.0, np.inf))


@jax.jit
def _opinion(evidence: Array) -> EvidentialOpinion:
    classes = evidence.shape[-1]
    total = jnp.sum(evidence, axis=-1, keepdims=True) + classes
    belief = evidence / total

    def conflict(k: Array) -> Array:
        """Weighted balance of the other beliefs against that of class k."""
        mine = jax.lax.dynamic_index_in_dim(belief, k, -1, keepdims=False)
        pair = belief + mine[..., None]
        smaller = 2 * jnp.minimum(belief, mine[..., None])
        balance = smaller / jnp.where(pair > 0, pair, 1)
        is_other = jnp.arange(classes) != k
        return jnp.sum(jnp.where(is_other, belief * balance, 0), axis=-1)

    others = jnp.moveaxis(jax.lax.map(conflict, jnp.arange(classes)), 0, -1)
    rest = _sums_of_others(belief)
    share = others / jnp.where(rest > 0, rest, 1)
    dissonance = jnp.sum(belief * share, axis=-1)
    return EvidentialOpinion(
        belief,
        classes / total[..., 0],
        (evidence + 1) / total,
        jnp.clip(dissonance, 0, 1),
    )


def _sums_of_others(values: Array) -> Array:
    """For each entry of the last axis the sum of the others, without a subtraction."""
    zero = jnp.zeros_like(values[..., :1])
    before = jnp.concatenate([zero, jnp.cumsum(values, axis=-1)[..., :-1]], axis=-1)
    back = jnp.flip(jnp.cumsum(jnp.flip(values, -1), axis=-1), -1)
    after = jnp.concatenate([back[..., 1:], zero], axis=-1)
    return before + after


def confusion_and_ignorance(
    plausibility: Real[ArrayLike, "... K"],
) -> ConfusionAndIgnorance:
    """Split the doubt of K independent plausibilities into conflict and absence.

    Each class is plausible with pl_k, independently; the mass of a set A of classes is
    prod_{k in A} pl_k prod_{k not in A} (1 - pl_k).  Single classes are the beliefs,
    larger sets the confusion, the empty set the ignorance. The confusion is summed
    from positive terms, so that a small one keeps its digits.

    Heuristic: no finite-sample guarantee. The parts add to 1 to rounding.

    Args:
        plausibility: shape (..., K), in [0, 1].

    Returns:
        ConfusionAndIgnorance.

    Raises:
        ValueError: a plausibility outside [0, 1]; NaN under jit.

    Transformations: jit, vmap, grad.
    Cost: O(K) per row.

    Source: the combination rule of belief functions; the product form is derived here.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> both = calibration.confusion_and_ignorance(jnp.array([0.9, 0.8]))
        >>> print(f"{both.confusion:.2f} {both.ignorance:.2f}")
        0.72 0.02
    """
    return _split(_rows("plausibility", plausibility, 0.0, 1.0))


@jax.jit
def _split(plausibility: Array) -> ConfusionAndIgnorance:
    absent = 1 - plausibility
    one = jnp.ones_like(absent[..., :1])
    before = jnp.concatenate([one, jnp.cumprod(absent, axis=-1)[..., :-1]], axis=-1)
    back = jnp.flip(jnp.cumprod(jnp.flip(absent, -1), axis=-1), -1)
    after = jnp.concatenate([back[..., 1:], one], axis=-1)

    def add(masses: tuple[Array, Array, Array], p: Array) -> tuple[Any, None]:
        none, single, several = masses
        return (none * (1 - p), single * (1 - p) + none * p, several + single * p), None

    start = (one[..., 0], jnp.zeros_like(one[..., 0]), jnp.zeros_like(one[..., 0]))
    (none, _, several), _ = jax.lax.scan(add, start, jnp.moveaxis(plausibility, -1, 0))
    return ConfusionAndIgnorance(plausibility * before * after, several, none)

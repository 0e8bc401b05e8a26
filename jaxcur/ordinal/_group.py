"""The grouped penalty: a feature breaks proportional odds at all boundaries or none."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcur.ordinal._penalties import Blocks, check_nonnegative


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Shrink all differences of a feature together: effect by effect.

    With blocks  psi_1 = beta_1,  psi_k = beta_k - beta_{k-1}  the penalty is

        sum_j c_j ( first |psi_1j| + || (psi_2j, ..., psi_mj) ||_2 ),

    so that the effect of a feature is either the same at all boundaries or different at
    all of them. The norm has no factor for the size of the group, which is the same for
    every feature: with three classes this is `Presto`.

    Heuristic: no finite-sample guarantee on the predictions; the fit is certified by
    the residual and the gap that come with it.

    Args:
        first: multiplier of the penalty of beta_1; 0 leaves the common effect free, and
            large strengths then give the proportional odds model.
        weights: shape (p,), factors c, by feature; 0 leaves it unpenalised. None means
            1.

    Raises:
        ValueError: a negative or infinite factor, weights of the wrong shape.

    Source: Poessnecker and Tutz, "A general framework for the selection of effect type
    in ordinal regression", 2016.

    Example:
        >>> from jaxcur import ordinal
        >>> ordinal.Group(first=0.0).first
        0.0
    """

    first: Any = 1.0
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        check_nonnegative("first", self.first)
        if self.weights is not None:
            check_nonnegative("weights", self.weights)

    def blocks(self, m: int, p: int, dtype: Any) -> Blocks:
        """Lower triangle of ones, with groups where there are differences."""
        weights = jnp.ones(p, dtype)
        if self.weights is not None:
            weights = jnp.asarray(self.weights, dtype)
        if weights.shape != (p,):
            raise ValueError(
                f"`weights` of the penalty must have shape ({p},), got {weights.shape}"
            )
        factors = jnp.broadcast_to(weights, (m, p))
        factors = factors.at[0].multiply(jnp.asarray(self.first, dtype))
        matrix = np.tril(np.ones((m, m)))
        ratio = jnp.ones((), dtype)
        return Blocks(matrix, factors, np.ones((m, p), bool), ratio, grouped=m > 1)

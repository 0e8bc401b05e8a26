"""Beta calibration: logistic regression on log f and log(1 - f)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, register_dataclass
from jaxcur.calibration._calibrator import (
    Fitted,
    clip_probs,
    new_input,
    normalised,
    with_rows,
)
from jaxcur.calibration._inputs import check_binary
from jaxcur.calibration._newton import Minimum
from jaxcur.calibration._platt import logistic_fit, mark_separable

_VARIANTS = ("abm", "am", "ab")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BetaCalibrator(Fitted):
    """q = sigmoid(a log f - b log(1 - f) + c).

    Attributes:
        a: scalar.
        b: scalar.
        c: scalar.
        gradient_norm: scalar, largest entry of the gradient of the mean loss in the
            free parameters; of the fixed ones the gradient points away from the
            admissible region where the fit is optimal.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int, Newton steps of the chosen fit.
    """

    a: Array
    b: Array
    c: Array
    gradient_norm: Array
    status: Array
    num_steps: Array

    def __call__(self, probs: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """Probabilities of class 1 at forecasts (m,)."""
        f = clip_probs(new_input("probs", probs, self.a))
        z = self.a * jnp.log(f) - self.b * jnp.log1p(-f) + self.c
        return jax.nn.sigmoid(z)


def fit_beta(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    variant: Literal["abm", "am", "ab"] = "abm",
    max_steps: int = 100,
) -> BetaCalibrator:
    """Fit q = sigmoid(a log f - b log(1 - f) + c) by maximum likelihood.

    "abm" has a, b >= 0 and c free, so the map does not decrease: the best of the four
    fits in which a, b, both or neither are held at 0 is the constrained optimum. "am"
    has a = b and c free, of any sign: logistic regression on the logit. "ab" has
    c = (a - b) log 2 with a, b of any sign: the map fixes 1/2.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        probs: shape (n,), in [0, 1]; clipped away from 0 and 1 before the logarithm.
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        weights: shape (n,), at least 0; ones when missing.
        variant: which parameters are free (static).
        max_steps: largest number of Newton steps (static).

    Returns:
        A calibrator of probabilities. `converged` is False where the classes separate.

    Raises:
        ValueError: unequal lengths, n = 0, values outside [0, 1], an unknown variant.

    Transformations: jit, vmap. Not differentiable in reverse mode.
    Cost: O(n) for each of usually 5 to 10 steps, four times that for "abm".

    Source: Kull, Silva Filho and Flach, "Beta calibration", AISTATS 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> f = jnp.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
        >>> y = jnp.array([0, 1, 0, 0, 1, 1])
        >>> calibrator = calibration.fit_beta(f, y, variant="am")
        >>> [round(float(p), 2) for p in calibrator(jnp.array([0.1, 0.5, 0.9]))]
        [0.19, 0.5, 0.81]
    """
    check_choice("variant", variant, _VARIANTS)
    f, y, w = check_binary(probs, labels, weights)
    return _fit_beta(f, y, w, variant=variant, max_steps=max_steps)


@jax.jit(static_argnames=("variant", "max_steps"))
def _fit_beta(f, y, w, *, variant, max_steps):
    f, y = with_rows(w, f, y)
    share = normalised(w)
    clipped = clip_probs(f)
    up, down = jnp.log(clipped), -jnp.log1p(-clipped)
    zero = jnp.zeros((), f.dtype)

    def fit(*columns: Array, intercept: bool = True) -> Minimum:
        return logistic_fit(columns, y, share, intercept=intercept, max_steps=max_steps)

    if variant == "am":
        found = fit(up + down)
        found = found._replace(status=mark_separable(found, f, y, w))
        a, c = found.solution
        return _result(found, a, a, c)
    if variant == "ab":
        shift = jnp.log(jnp.asarray(2, f.dtype))
        found = fit(up + shift, down - shift, intercept=False)
        a, b = found.solution
        return _result(found, a, b, (a - b) * shift)
    free, no_a, no_b, flat = fit(up, down), fit(down), fit(up), fit()
    legal = jnp.all(free.solution[:2] >= 0)
    candidates = (
        (free, legal, free.solution),
        (no_a, no_a.solution[0] >= 0, jnp.stack([zero, *no_a.solution])),
        (
            no_b,
            no_b.solution[0] >= 0,
            jnp.stack([no_b.solution[0], zero, no_b.solution[1]]),
        ),
        (flat, jnp.asarray(True), jnp.stack([zero, zero, flat.solution[0]])),
    )
    # The free optimum wins where it is admissible, whatever rounding says.
    values = [jnp.where(ok, one.value, jnp.inf) for one, ok, _ in candidates]
    chosen = jnp.where(legal, 0, jnp.argmin(jnp.stack(values)))
    pick = jax.tree.map(
        lambda *leaves: jnp.stack(leaves)[chosen],
        *[(one._replace(solution=theta)) for one, _, theta in candidates],
    )
    pick = pick._replace(status=jnp.where(jnp.isnan(flat.value), 3, pick.status))
    solution = jnp.where(pick.status == 3, jnp.nan, pick.solution)
    a, b, c = solution
    return _result(pick, a, b, c)


def _result(found: Minimum, a: Array, b: Array, c: Array) -> BetaCalibrator:
    return BetaCalibrator(
        a=a,
        b=b,
        c=c,
        gradient_norm=found.gradient_norm,
        status=found.status,
        num_steps=found.num_steps,
    )

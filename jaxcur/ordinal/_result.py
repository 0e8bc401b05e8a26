"""What a fit returns."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import register_dataclass

STATUS = {
    0: "ok",
    1: "max_steps reached, or rounding forbids a smaller residual",
    2: "diverging: there is no finite maximiser (classes separate); penalise",
    3: "a class has no weight, or the input is not finite",
    4: "the information has no inverse: collinear columns, or too many parameters",
    5: "columns too far from 0 for this precision: subtract a constant, or use float64",
}
OK, MAX_STEPS, DIVERGING, INVALID, SINGULAR, IMPRECISE = range(6)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class OrdinalResult:
    """A fitted ordinal regression,  P(y <= k | x) = F(alpha_k + x'beta_k).

    That is the cumulative family; for the others the same linear predictors drive the
    family's own probabilities. A positive coefficient moves probability to LOWER
    classes, the opposite of R `polr` and `clm` and of statsmodels; in the families
    `cratio` and `acat` it moves probability to HIGHER classes.

    Attributes:
        intercepts: shape (k-1,).
        coefficients: shape (p, k-1), on the original scale; column j belongs to the
            boundary between classes j and j+1.
        loglik: scalar, sum over rows.
        objective: scalar, mean negative log-likelihood plus the penalty, on the
            standardised scale.
        kkt_residual: scalar, largest violation of the optimality conditions.
        gap_bound: scalar, bound on the distance of `objective` from its minimum, with
            the intercepts taken as settled; infinite where there is none.
        num_crossing: scalar int, rows at which some probability is negative.
        status: scalar int, a key of `ordinal.STATUS`.
        num_steps: scalar int, Newton steps.
        regularization: scalar, the strength used.
        max_regularization: scalar, smallest strength at which every penalised entry
            is zero; 0 where nothing is penalised.
        blocks: shape (L, p), the penalised blocks, standardised scale.
        free: shape (L, p) bool, which of them may differ from zero.
        matrix: shape (k-1, L), coefficients of a feature are this times its blocks.
        family: static.
        link: static.
    """

    intercepts: Array
    coefficients: Array
    loglik: Array
    objective: Array
    kkt_residual: Array
    gap_bound: Array
    num_crossing: Array
    status: Array
    num_steps: Array
    regularization: Array
    max_regularization: Array
    blocks: Array
    free: Array
    matrix: Array
    family: str = dataclasses.field(metadata={"static": True})
    link: str = dataclasses.field(metadata={"static": True})

    @property
    def num_nonzero(self) -> Array:
        """Number of intercepts and blocks that are not zero."""
        return self.intercepts.shape[-1] + jnp.sum(self.blocks != 0, axis=(-2, -1))

    @property
    def message(self) -> str:
        """The status in words. Not jittable."""
        return STATUS[int(np.max(np.asarray(self.status)))]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class OrdinalPath(OrdinalResult):
    """Fits at a sequence of strengths: the fields of a result with a leading axis.

    Attributes:
        regularizations: shape (num_regularizations,), the strengths.
    """

    @property
    def regularizations(self) -> Array:
        """The strengths, in the order of the fits."""
        return self.regularization

    def at(self, index: int | Array) -> OrdinalResult:
        """The fit at one position of the path."""
        picked = {
            field.name: getattr(self, field.name)[index]
            for field in dataclasses.fields(self)
            if field.name not in ("family", "link")
        }
        return OrdinalResult(**picked, family=self.family, link=self.link)

"""Fits at one strength and along a path."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import is_concrete
from jaxcur.ordinal._inputs import (
    check_box,
    check_classes_present,
    check_features,
    check_options,
    check_response,
    check_strength,
    check_weights,
    default_rtol,
)
from jaxcur.ordinal._penalties import Blocks, Penalty, Presto, check_nonnegative
from jaxcur.ordinal._result import OrdinalPath, OrdinalResult
from jaxcur.ordinal._solve import Setting, make_setting, solve_path


class Problem(NamedTuple):
    """Checked inputs, ready for the solver."""

    setting: Setting
    features: Array
    y: Array
    weights: Array
    blocks: Blocks
    rtol: Array
    box: tuple[Array, Array] | None = None

    def solve(
        self, regularizations: Array, *, relative: bool, weights: Array | None = None
    ) -> OrdinalPath:
        """Fits at the strengths; shares of the largest where `relative`."""
        return solve_path(
            self.setting,
            self.features,
            self.y,
            self.weights if weights is None else weights,
            self.blocks.weights,
            jnp.asarray(self.blocks.free),
            self.blocks.l1_ratio,
            regularizations,
            jnp.asarray(relative),
            self.rtol,
            self.box,
        )


def prepare(
    X: Any,
    y: Any,
    *,
    num_classes: int,
    penalty: Penalty | None,
    family: str,
    link: str,
    weights: Any,
    standardize: bool,
    crossing: str,
    rtol: Any,
    max_steps: int,
    box: Any = None,
) -> Problem:
    """Check everything once."""
    check_options(family, link, crossing, max_steps)
    features = check_features(X)
    n, p = features.shape
    response = check_response(y, num_classes, n)
    dtype = features.dtype
    mass = check_weights(weights, n, dtype)
    check_classes_present(response, mass, num_classes)
    penalty = Presto() if penalty is None else penalty
    if isinstance(penalty, type) or not hasattr(penalty, "blocks"):
        # A class in place of an object is an easy slip: the brackets show it.
        raise TypeError(
            "`penalty` must be one of Presto(), Parallel(), NonParallel(), "
            f"SemiParallel(), Partial(), Group(), got {penalty!r}"
        )
    blocks = penalty.blocks(num_classes - 1, p, dtype)
    if blocks.grouped and crossing != "own":
        raise ValueError(
            f"crossing={crossing!r} is not available with Group(); use Presto()"
        )
    setting = make_setting(
        blocks.matrix,
        family=family,
        link=link,
        num_classes=int(num_classes),
        standardize=standardize,
        max_steps=max_steps,
        crossing=crossing,
        grouped=blocks.grouped,
        positive=blocks.positive,
    )
    limits = check_box(box, crossing, features, mass)
    rtol = default_rtol(rtol, dtype)
    return Problem(setting, features, response, mass, blocks, rtol, limits)


def strengths(
    problem: Problem, regularizations: Any, num_regularizations: int, ratio: Any
) -> tuple[Array, bool]:
    """The strengths given, or shares of the largest one on a geometric grid."""
    dtype = problem.features.dtype
    if regularizations is not None:
        given = jnp.asarray(regularizations, dtype)
        if given.ndim != 1 or given.size == 0:
            raise ValueError(
                "`regularizations` must have shape (num_regularizations,), "
                f"got {given.shape}"
            )
        check_nonnegative("regularizations", given)
        return given, False
    if not isinstance(num_regularizations, int) or num_regularizations < 1:
        raise ValueError(
            "`num_regularizations` must be a positive integer, "
            f"got {num_regularizations!r}"
        )
    if is_concrete(ratio) and not 0 < float(ratio) <= 1:
        raise ValueError(f"`ratio` must lie in (0, 1], got {ratio}")
    grid = jnp.arange(num_regularizations) / max(num_regularizations - 1, 1)
    return jnp.asarray(ratio, dtype) ** grid.astype(dtype), True


def fit(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    penalty: Penalty | None = None,
    regularization: Real[ArrayLike, ""] = 0.0,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    standardize: bool = True,
    crossing: str = "own",
    box: tuple[Any, Any] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> OrdinalResult:
    r"""Ordinal regression with a certificate, penalised towards proportional odds.

    The model is  P(y <= k | x) = F(alpha_k + x'beta_k),  k = 0..num_classes-2: a
    positive coefficient moves probability to LOWER classes (R `polr` and `clm` and
    statsmodels have the opposite sign). Minimised is

        -(1/W) sum_i w_i log P(y = y_i | x_i)  +  regularization * penalty

    on standardised columns (weighted mean 0, population deviation 1). With several
    coefficient vectors the boundaries can cross, so that a class in the middle gets a
    negative "probability" at some x. The likelihood needs positive probabilities of the
    observed classes only (`crossing="own"`), `num_crossing` counts the rows at which
    another class is negative, and `predict_proba` repairs. With `crossing="train"` or
    `"box"` the optimum is that under constraints, which hold with a margin for
    rounding; where the optimum without them satisfies them it is returned as it is.
    The families `sratio`, `cratio` and `acat` never cross.

    Guarantee: with status 0, `kkt_residual` is at most `rtol` times the largest useful
    strength, and, the intercepts taken as settled, no parameters lower the objective by
    more than `gap_bound`. Assumes a log-concave link (all but cauchit). Verified by:
    reference paths, random problems and perturbations in the tests.

    Args:
        X: shape (n, p), features.
        y: shape (n,), classes 0..num_classes-1, ordered. Each must occur.
        num_classes: number of classes. Static.
        penalty: which blocks of coefficients are shrunk: `Presto()` (when None),
            `Parallel()`, `NonParallel()`, `SemiParallel()`, `Partial()` or `Group()`.
        regularization: strength, at least 0. Traced.
        family: "cumulative", "sratio" (P(y = k | y >= k)), "cratio" (P(y > k | y >= k))
            or "acat" (P(y = k+1 | y in {k, k+1})); with the last two a positive
            coefficient moves probability to HIGHER classes. Static. For the reverse of
            a family relabel  y -> num_classes - 1 - y.
        link: "logit", "probit", "cloglog", "loglog" or "cauchit". Static. With cauchit
            the objective is not convex: the point found is stationary and need not be
            the best one, and convergence is linear (allow 200 steps).
        weights: shape (n,), at least 0; a row of weight 0 is absent.
        standardize: divide columns by their deviation, for the penalty. Static.
        crossing: "own", "train" (boundaries keep their order at every row of positive
            weight) or "box" (in a box of features, for valid probabilities at all of
            its points). The last two are for the cumulative family. Static.
        box: (lower, upper), each shape (p,) or scalar, original scale, with
            `crossing="box"`; None for the ranges of the columns.
        rtol: tolerance of `kkt_residual`, relative to the largest useful strength; None
            for 1e-9 in float64 and 1e-4 in float32.
        max_steps: largest number of Newton steps. Static.

    Returns:
        `OrdinalResult`. Read `status`: 2 means that classes separate and an unpenalised
        fit has no finite solution.

    Raises:
        ValueError: NaN or inf in `X` or `y`, a class that never occurs, labels out of
            range, negative or all zero weights, an unknown option.

    Transformations: jit, vmap (over `weights` too: folds and bootstrap), grad in
    `regularization`, `weights` and `X` by the implicit function theorem, where the set
    of zeros and the constraints that bind do not change.
    Cost: a few steps, each O(n (p + m)^2) per coupled pair of boundaries and
    O((p m)^3), m = num_classes - 1. Under constraints 15 to 40 steps more where they
    bind (intended for p m up to 200).

    Source: Faletto and Bien, "Predicting rare events by shrinking towards proportional
    odds", ICML 2023, whose released code returns other intercepts; proximal Newton with
    an exact inner solver.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxcur import ordinal
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0]])
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> result = ordinal.fit(x, y, num_classes=3, regularization=0.05)
        >>> np.asarray(result.coefficients, float).round(2)
        array([[-0.92, -0.92]])
        >>> np.asarray(ordinal.predict_proba(result, x[:1]), float).round(2)
        array([[0.9 , 0.1 , 0.01]])
    """
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=penalty,
        family=family,
        link=link,
        weights=weights,
        standardize=standardize,
        crossing=crossing,
        box=box,
        rtol=rtol,
        max_steps=max_steps,
    )
    dtype = problem.features.dtype
    strength = check_strength(regularization, dtype, "; for several use `path`")
    return problem.solve(strength[None], relative=False).at(0)


def path(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    penalty: Penalty | None = None,
    num_regularizations: int = 20,
    ratio: Real[ArrayLike, ""] = 0.01,
    regularizations: Real[ArrayLike, " l"] | None = None,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    standardize: bool = True,
    crossing: str = "own",
    box: tuple[Any, Any] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> OrdinalPath:
    """Fits at a sequence of strengths, each started from the one before.

    Guarantee: each fit carries the certificate of `fit`. Verified by: reference paths.

    Args:
        X: shape (n, p).
        y: shape (n,).
        num_classes: number of classes. Static.
        penalty: as in `fit`.
        num_regularizations: number of strengths. Static.
        ratio: last strength over the first.
        regularizations: shape (l,), the strengths themselves, largest first; None for a
            geometric grid from `max_regularization` downwards.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`.
        standardize: as in `fit`.
        crossing: as in `fit`.
        box: as in `fit`.
        rtol: as in `fit`.
        max_steps: as in `fit`, at each strength.

    Returns:
        `OrdinalPath`: the fields of `OrdinalResult` with a leading axis.

    Raises:
        ValueError: as `fit`; a negative strength or no strength at all.

    Transformations: jit, vmap; grad as `fit`, strengths of the grid taken as constants.
    Cost: one scan; a few Newton steps per strength.

    Source: as `fit`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0]])
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> fits = ordinal.path(x, y, num_classes=3, num_regularizations=3)
        >>> fits.num_nonzero
        Array([2, 3, 3], dtype=int32)
    """
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=penalty,
        family=family,
        link=link,
        weights=weights,
        standardize=standardize,
        crossing=crossing,
        box=box,
        rtol=rtol,
        max_steps=max_steps,
    )
    values, relative = strengths(problem, regularizations, num_regularizations, ratio)
    return problem.solve(values, relative=relative)


def max_regularization(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    penalty: Penalty | None = None,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    standardize: bool = True,
    crossing: str = "own",
    box: tuple[Any, Any] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> Float[Array, ""]:
    """Smallest strength at which every penalised entry is zero.

    For a share `l1_ratio` of absolute values below 0.01 that of 0.01 is returned: a
    ridge alone has no such strength.

    Guarantee: at this strength and above the penalised blocks of `fit` are exactly
    zero. Verified by: unit tests on both sides of it.

    Args:
        X: shape (n, p).
        y: shape (n,).
        num_classes: number of classes. Static.
        penalty: as in `fit`.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`.
        standardize: as in `fit`.
        crossing: as in `fit`.
        box: as in `fit`.
        rtol: as in `fit`.
        max_steps: as in `fit`.

    Raises:
        ValueError: as `fit`.

    Transformations: jit, vmap.
    Cost: a fit of the unpenalised terms.

    Source: the optimality conditions at zero.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0]])
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> print(f"{ordinal.max_regularization(x, y, num_classes=3):.3f}")
        0.436
    """
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=penalty,
        family=family,
        link=link,
        weights=weights,
        standardize=standardize,
        crossing=crossing,
        box=box,
        rtol=rtol,
        max_steps=max_steps,
    )
    one = jnp.ones(1, problem.features.dtype)
    return jax.lax.stop_gradient(
        problem.solve(one, relative=True).max_regularization[0]
    )

"""The result every estimator returns."""

import contextlib
import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr, ndtri

from jaxcur._base import check_choice, check_unit_interval, register_dataclass

Alternative = Literal["two-sided", "larger", "smaller"]
ALTERNATIVES = ("two-sided", "larger", "smaller")
Reference = Literal["normal", "t"]

# Diagnostics with one entry per coordinate of the estimate.
_PER_COORDINATE = (
    "gold_std_error",
    "plain_std_error",
    "relative_efficiency",
    "extra_labels",
    "max_influence",
)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """What to look at before believing an estimate.

    Attributes:
        num_rows: rows with positive weight.
        num_labeled: labelled rows among them.
        num_clusters: clusters of the first way; the number of rows without clusters.
        min_prob: least sampling probability of a row.
        max_prob: largest.
        max_share: largest share of one labelled row in the sum of squared weights.
        effective_labels: Kish's effective number of labelled rows.
        expected_labels: sum of the sampling probabilities; far from `num_labeled`
            when the probabilities are mis-stated.
        gold_is_finite: no labelled row has a gold entry that is NaN or infinite.
        labels_z: (num_labeled - expected) in its standard deviation, 0 when the design
            fixes the number.
        bias_z: shape (q,), z statistic of the surrogate bias in each moment.
        bias_p_value: scalar, joint test that the surrogate has no bias.
        gold_std_error: shape (p,), standard error that labelled rows alone would have.
        plain_std_error: shape (p,), that of the estimator without tuning.
        relative_efficiency: shape (p,), variance of labelled rows alone over the
            variance reached.
        extra_labels: shape (p,), number of labels that the predictions are worth.
        max_influence: shape (p,), largest move of the estimate by one labelled row, in
            standard errors.
        condition: scalar, condition number of the equilibrated Jacobian.
        min_eigenvalue: scalar, least eigenvalue of the symmetrised, negated Jacobian
            per row; not positive when predicted covariates and few labels leave the
            equation without a proper solution.
        residual: scalar, largest remaining mean moment.
        overidentification: scalar, J statistic; 0 when the equation is exactly
            identified.
        overidentification_p_value: scalar, chi-square with q - p degrees of freedom.
    """

    num_rows: Array
    num_labeled: Array
    num_clusters: Array
    min_prob: Array
    max_prob: Array
    max_share: Array
    effective_labels: Array
    expected_labels: Array
    gold_is_finite: Array
    labels_z: Array
    bias_z: Array
    bias_p_value: Array
    gold_std_error: Array
    plain_std_error: Array
    relative_efficiency: Array
    extra_labels: Array
    max_influence: Array
    condition: Array
    min_eigenvalue: Array
    residual: Array
    overidentification: Array
    overidentification_p_value: Array


@register_dataclass
@dataclasses.dataclass(frozen=True)
class EstimateResult:
    """An estimate with its uncertainty.

    Attributes:
        estimate: shape (p,).
        covariance: shape (p, p); NaN where the solver did not converge.
        label_covariance: shape (p, p), the part of `covariance` that shrinks as 1 over
            the number of labels.
        converged: scalar bool.
        num_steps: scalar int, Newton steps.
        power_tuning: shape (q, q), the matrix that multiplies the predicted moments; a
            multiple of the identity for the scalar rules.
        degrees_of_freedom: scalar, for intervals with `reference="t"`: clusters - 1, or
            labelled rows - p; at least 1.
        diagnostics: see `Diagnostics`.
        small_sample: the factor applied to the covariance (static).
    """

    estimate: Array
    covariance: Array
    label_covariance: Array
    converged: Array
    num_steps: Array
    power_tuning: Array
    degrees_of_freedom: Array
    diagnostics: Diagnostics
    small_sample: str | None = dataclasses.field(metadata=dict(static=True))

    @property
    def std_error(self) -> Array:
        """Standard errors, shape (p,)."""
        return std_error(self.covariance)

    def take(self, indices: Any) -> "EstimateResult":
        """The result for some of the coordinates, in the order of `indices`."""
        index = jnp.asarray(indices, jnp.int32)
        d = self.diagnostics
        per_coordinate = {n: getattr(d, n)[..., index] for n in _PER_COORDINATE}
        return dataclasses.replace(
            self,
            estimate=self.estimate[..., index],
            covariance=self.covariance[..., index[:, None], index[None, :]],
            label_covariance=self.label_covariance[..., index[:, None], index[None, :]],
            diagnostics=dataclasses.replace(d, **per_coordinate),
        )

    def spread(self, places: Any, width: int) -> "EstimateResult":
        """The result in a longer vector, NaN outside `places`: aliased coefficients."""
        index = jnp.asarray(places, jnp.int32)

        def vector(values: Array) -> Array:
            return jnp.full((width,), jnp.nan, values.dtype).at[index].set(values)

        def matrix(values: Array) -> Array:
            empty = jnp.full((width, width), jnp.nan, values.dtype)
            return empty.at[index[:, None], index[None, :]].set(values)

        d = self.diagnostics
        per_coordinate = {n: vector(getattr(d, n)) for n in _PER_COORDINATE}
        return dataclasses.replace(
            self,
            estimate=vector(self.estimate),
            covariance=matrix(self.covariance),
            label_covariance=matrix(self.label_covariance),
            diagnostics=dataclasses.replace(d, **per_coordinate),
        )

    def conf_int(
        self,
        confidence_level: float | Array = 0.95,
        *,
        alternative: Alternative = "two-sided",
        reference: Reference = "normal",
    ) -> Array:
        """Confidence intervals, shape (p, 2).

        Args:
            confidence_level: scalar in (0, 1).
            alternative: "larger" gives [lower, inf), "smaller" (-inf, upper].
            reference: "normal", or "t" with `degrees_of_freedom`; prefer "t" with
                fewer than 50 clusters or 100 labelled rows.
        """
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        check_choice("alternative", alternative, ALTERNATIVES)
        check_choice("reference", reference, ("normal", "t"))
        with _own_precision(self.estimate):
            return self._conf_int(confidence_level, alternative, reference)

    def _conf_int(
        self, confidence_level: Any, alternative: str, reference: Reference
    ) -> Array:
        tail = 1 - jnp.asarray(confidence_level, self.estimate.dtype)
        if alternative == "two-sided":
            tail = tail / 2
        half = -self._quantile(tail, reference)[..., None] * self.std_error
        inf = jnp.full_like(half, jnp.inf)
        low = -inf if alternative == "smaller" else self.estimate - half
        high = inf if alternative == "larger" else self.estimate + half
        return jnp.stack([low, high], axis=-1)

    def p_value(
        self,
        alternative: Alternative = "two-sided",
        *,
        null: Any = 0.0,
        reference: Reference = "normal",
    ) -> Array:
        """P-values of the hypotheses that a coordinate equals `null`, shape (p,).

        Args:
            alternative: "larger" is evidence for values above `null`.
            null: scalar or (p,).
            reference: as in `conf_int`.
        """
        check_choice("alternative", alternative, ALTERNATIVES)
        check_choice("reference", reference, ("normal", "t"))
        with _own_precision(self.estimate):
            return self._p_value(alternative, null, reference)

    def _p_value(self, alternative: str, null: Any, reference: Reference) -> Array:
        z = (self.estimate - jnp.asarray(null, self.estimate.dtype)) / self.std_error
        if alternative == "two-sided":
            return 2 * self._tail(jnp.abs(z), reference)
        return self._tail(z if alternative == "larger" else -z, reference)

    def _quantile(self, tail: Array, reference: Reference) -> Array:
        if reference == "normal":
            return ndtri(tail)
        from jaxcur.stats import student_t_quantile

        return student_t_quantile(tail, self.degrees_of_freedom)

    def _tail(self, z: Array, reference: Reference) -> Array:
        if reference == "normal":
            return ndtr(-z)
        from jaxcur.stats import student_t_tail

        return student_t_tail(z, self.degrees_of_freedom[..., None])


def std_error(covariance: Array) -> Array:
    """Root of the diagonal; NaN for a negative entry."""
    with _own_precision(covariance):
        return jnp.sqrt(jnp.diagonal(covariance, axis1=-2, axis2=-1))


def _own_precision(array: Array) -> contextlib.AbstractContextManager[Any]:
    """64-bit mode for a result computed in it, wherever it is read."""
    if array.dtype == jnp.float64:
        return jax.enable_x64(True)
    return contextlib.nullcontext()


def predicted_std_error(result: EstimateResult, ratio: float | Array) -> Array:
    """Standard errors to expect with `ratio` times as many labelled rows.

    Splits the variance into the part due to labels, which falls as 1 / ratio, and the
    rest:  V(ratio) = V_labels / ratio + V_rest.  Where that is not positive, as can
    happen because V_rest is a difference, the standard error now over sqrt(ratio) is
    the answer: no more than labelling can do.

    Heuristic: no finite-sample guarantee; assumes that further labels are drawn by the
    same design and the predictions stay as they are.

    Args:
        result: of any estimator of this package.
        ratio: positive scalar, labels planned over labels now.

    Returns:
        shape (p,).

    Raises:
        ValueError: `ratio` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> y = jnp.array([1.0, 0.0, 1.0, 0.0, 1.0, jnp.nan, jnp.nan, jnp.nan] * 4)
        >>> predicted = jnp.array([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0] * 4)
        >>> result = debiased.mean(y, y_predicted=predicted, labeled=~jnp.isnan(y))
        >>> more = debiased.predicted_std_error(result, 4.0)
        >>> bool((more < result.std_error).all())
        True
    """
    from jaxcur._base import is_concrete

    if is_concrete(ratio) and not float(ratio) > 0:
        raise ValueError(f"`ratio` must be positive, got {ratio}")
    now = jnp.diagonal(result.covariance, axis1=-2, axis2=-1)
    label = jnp.diagonal(result.label_covariance, axis1=-2, axis2=-1)
    variance = label / ratio + (now - label)
    return jnp.sqrt(jnp.where(variance > 0, variance, now / ratio))

"""Debiased quantiles, with intervals by inversion."""

from functools import partial
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import check_choice, is_concrete
from jaxcur.debiased._assemble import check_variance
from jaxcur.debiased._blocks import LabeledRows, Rows
from jaxcur.debiased._distribution import Events, curves, make_events
from jaxcur.debiased._models import MEAN
from jaxcur.debiased._options import Options, check_options
from jaxcur.debiased._prepare import prepare, warn
from jaxcur.debiased._quantile_result import QuantileResult, guard_of
from jaxcur.debiased._records import as_records
from jaxcur.debiased._sums import Sizes, Spread, everyone_spread, labeled_spread
from jaxcur.debiased._tuning import TUNINGS, tuning_matrix
from jaxcur.debiased._variance import noise

Rule = Literal["nearest", "crossing"]


def quantile(
    y: Real[ArrayLike, " N"],
    *,
    y_predicted: Real[ArrayLike, " N"],
    labeled: Bool[ArrayLike, " N"],
    q: Real[ArrayLike, "*k"],
    rule: Rule = "nearest",
    **options: Unpack[Options],
) -> QuantileResult:
    """Debiased quantiles of a variable.

    At every value t among predictions and gold labels, F(t) is the debiased mean of
    1{y <= t}, with the standard error that `mean` would give. It need not be monotone.
    The estimate is the value at which |F(t) - q| is least, the smallest such value on
    ties; or, with `rule="crossing"`, the first value at which F reaches q.

    Guarantee: if rows are labelled with the stated known probabilities and the
    predictions do not depend on the rows' own labels, intervals cover the quantile at
    their level as labelled rows grow in number, for any predictor, without smoothness
    assumptions. Verified by: `jaxcur verify debiased/quantile`.

    With few distinct values take `rule="crossing"`: the nearest share may lie on the
    wrong side of a large jump, and its value outside of the interval.

    Args:
        y: shape (N,); entries of unlabeled rows may be NaN and are ignored.
        y_predicted: shape (N,), finite.
        labeled: shape (N,), True where the row has its gold label.
        q: scalar or shape (k,), in (0, 1).
        rule: see above (static).
        **options: design, weights, clusters: see `Options`. Different here:

            * power_tuning: "optimal" (default), "scalar" and "per_coordinate" mean one
              number for each order, the best at the quantile that labelled rows alone
              give; None or a number as elsewhere; no matrix.
            * clusters: any number of ways, but not together with several strata.
            * max_steps: not used, nothing iterates.
            * axis_name: not available, because rows are sorted.

    Returns:
        QuantileResult with k coordinates, one for a scalar.

    Raises:
        ValueError: as `mean`; `q` outside (0, 1). Under jit: NaN and `converged` False.

    Transformations: jit, vmap over the arrays. Not differentiable.
    Cost: one sort, one more for strata and for each way of clusters: O(N log N) time;
    O(N) memory, and O(k N) in the result when tuned.

    Source: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, "Prediction-Powered
    Inference", Science 2023, for inversion; the rest as `mean`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> keys = jax.random.split(jax.random.key(0))
        >>> y = jax.random.normal(keys[0], (2000,))
        >>> machine = y + 0.3 + 0.2 * jax.random.normal(keys[1], (2000,))
        >>> result = debiased.quantile(y, y_predicted=machine, q=jnp.array([0.25, 0.5]),
        ...                            labeled=jnp.arange(2000) < 400)
        >>> low, high = result.conf_int()[1]
        >>> bool(low < 0 < high)
        True
    """
    check_choice("rule", rule, ("nearest", "crossing"))
    return _quantile(y, y_predicted, labeled, q, rule, **options)


def _quantile(
    y: Any,
    y_predicted: Any,
    labeled: Any,
    q: Any,
    rule: Rule,
    *,
    power_tuning: Any = "optimal",
    small_sample: Any = None,
    target: Any = "superpopulation",
    max_steps: int = 0,
    axis_name: Any = None,
    **design: Any,
) -> QuantileResult:
    del max_steps
    check_options({name: None for name in design})
    check_variance(small_sample, target, design.get("clusters") is not None)
    if axis_name is not None:
        raise ValueError("quantiles do not shard rows: `axis_name` must be None")
    observed, predicted = as_records({"y": ("y", y, y_predicted)}, {"y": 1})
    n, dtype = predicted["y"].shape[0], predicted["y"].dtype
    orders = _as_orders(q, dtype)
    number = _as_tuning(power_tuning)
    row = jnp.arange(n, dtype=jnp.int32)
    prepared = prepare(
        {**observed, "row": row},
        {**predicted, "row": row},
        labeled=labeled,
        dtype=dtype,
        **design,
    )
    if prepared.signs and prepared.sizes.strata > 1:
        raise ValueError("quantiles take `clusters` or several `strata`, not both")
    _check_finite(prepared.rows, prepared.labeled)
    factor = jnp.ones((), dtype)
    if small_sample is not None:
        factor = prepared.num_rows / (prepared.num_rows - 1)
    if small_sample == "cr1":
        count = _count_clusters(prepared.rows, prepared.sizes)
        factor = count / (count - 1)
    if is_concrete(prepared.num_labeled) and int(prepared.num_labeled) < 10:
        warn(f"{int(prepared.num_labeled)} labelled rows: intervals are rough")
    values, distribution, errors, tunings, estimate, usable = _solve(
        prepared.rows,
        prepared.labeled,
        orders,
        None if number is None else jnp.asarray(number).astype(dtype),
        factor,
        sizes=prepared.sizes,
        signs=prepared.signs,
        target=target,
        rule=rule,
    )
    usable = usable & prepared.is_usable & jnp.all((orders > 0) & (orders < 1))
    return QuantileResult(
        estimate=jnp.where(usable, estimate, jnp.nan),
        q=orders,
        values=values,
        distribution=distribution,
        distribution_std_error=errors,
        converged=usable,
        power_tuning=tunings,
        num_rows=prepared.num_rows,
        num_labeled=prepared.num_labeled,
    )


def _as_orders(q: Any, dtype: Any) -> Array:
    if np.ndim(q) > 1 or np.size(q) == 0:
        raise ValueError(f"`q` must be a number or have shape (k,), got {np.shape(q)}")
    orders = jnp.asarray(q).astype(dtype).reshape(-1)
    if is_concrete(orders):
        host = np.asarray(orders)
        bad = ~((host > 0) & (host < 1))
        if bad.any():
            raise ValueError(f"`q` must lie in (0, 1), got {host[bad][0]}")
    return orders


def _as_tuning(power_tuning: Any) -> Any:
    """The number lambda, or None to choose it."""
    if power_tuning is None:
        return 1.0
    if isinstance(power_tuning, str):
        check_choice("power_tuning", power_tuning, TUNINGS)
        return None
    if np.ndim(power_tuning) != 0:
        raise ValueError(
            "quantiles take a number: `power_tuning` must be None, a number or one of "
            f"{TUNINGS}, got shape {np.shape(power_tuning)}"
        )
    return power_tuning


def _check_finite(rows: Rows, labeled: LabeledRows) -> None:
    for name, record, weight in (
        ("y_predicted", rows.record["y"], rows.weight),
        ("y", labeled.observed["y"], labeled.weight),
    ):
        if is_concrete(record, weight):
            bad = ~np.isfinite(np.asarray(record)) & (np.asarray(weight) > 0)
            if bad.any():
                where = "every row" if name != "y" else "rows with `labeled` True"
                raise ValueError(
                    f"`{name}` must be finite in {where}, {int(bad.sum())} entries are "
                    "NaN or infinite"
                )


def _count_clusters(rows: Rows, sizes: Sizes) -> Array:
    present = (rows.weight > 0).astype(rows.weight.dtype)
    counts = [
        jnp.sum(jax.ops.segment_max(present, ids, size) > 0)
        for ids, size in zip(rows.clusters, sizes.clusters)
    ]
    return jnp.min(jnp.stack(counts)).astype(rows.weight.dtype)


@partial(jax.jit, static_argnames=("sizes", "signs", "target", "rule"))
def _solve(
    rows: Rows,
    labeled: LabeledRows,
    orders: Array,
    number: Array | None,
    factor: Array,
    *,
    sizes: Sizes,
    signs: tuple[int, ...],
    target: Any,
    rule: Rule,
) -> tuple[Array, ...]:
    dtype = rows.weight.dtype
    events = make_events(rows, labeled)
    if number is None:
        first = curves(events, jnp.zeros((1,), dtype), Sizes(), (), "superpopulation")
        share = first.distribution[0]

        def tune(order: Array) -> Array:
            return _best_tuning(
                order, share, events, rows, labeled, sizes, signs, target
            )

        tunings = jax.lax.map(tune, orders)
    else:
        tunings = number[None]
    distribution, errors = curves(events, tunings, sizes, signs, target)
    errors = errors * jnp.sqrt(factor)

    def point(order: Array, share: Array) -> Array:
        return events.values[_index(share, order, rule)]

    if number is None:
        estimate = jax.lax.map(lambda pair: point(*pair), (orders, distribution))
    else:
        estimate = jax.lax.map(lambda order: point(order, distribution[0]), orders)
    predictions = jnp.where(rows.weight > 0, rows.record["y"], 0)
    labels = jnp.where(labeled.weight > 0, labeled.observed["y"], 0)
    usable = jnp.all(jnp.isfinite(predictions)) & jnp.all(jnp.isfinite(labels))
    usable &= jnp.all(jnp.isfinite(distribution)) & jnp.all(jnp.isfinite(errors))
    tunings = jnp.broadcast_to(tunings, orders.shape)
    return events.values, distribution, errors, tunings, estimate, usable


def _index(share: Array, order: Array, rule: Rule) -> Array:
    guard = guard_of(share.dtype)
    if rule == "crossing":
        return jnp.argmax(share >= order - guard)
    gap = jnp.abs(share - order)
    return jnp.argmax(gap <= jnp.min(gap) + guard)


def _best_tuning(
    order: Array,
    share: Array,
    events: Events,
    rows: Rows,
    labeled: LabeledRows,
    sizes: Sizes,
    signs: tuple[int, ...],
    target: Any,
) -> Array:
    """Least variance of F at the quantile of labelled rows, where F is `share`."""
    index = _index(share, order, "crossing")
    point, level = events.values[index], share[index][None]

    def below(record: dict[str, Array]) -> Array:
        return (record["y"] <= point).astype(share.dtype)[:, None]

    everyone = rows._replace(record=below(rows.record))
    chosen = labeled._replace(
        observed=below(labeled.observed), predicted=below(labeled.predicted)
    )
    spread = Spread(
        **everyone_spread(MEAN, level, everyone, sizes),
        **labeled_spread(MEAN, level, chosen, sizes),
    )
    one = jnp.ones((1, 1), share.dtype)
    parts = noise(spread, one, signs=signs, target=target)
    best = tuning_matrix("scalar", parts, one, -one)[0, 0]
    return jnp.where(jnp.isfinite(best), best, 1)

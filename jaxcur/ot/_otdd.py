"""Optimal transport dataset distance: labels cost what their feature clouds cost."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import check_choice, is_concrete
from jaxcur.ot._costs import HIGHEST, LabelAugmented, attach_labels, find_centre
from jaxcur.ot._divergence import sinkhorn_divergence
from jaxcur.ot._gaussian import matrix_sqrt
from jaxcur.ot._inputs import prepare_points
from jaxcur.ot._sinkhorn import sinkhorn

# The released code drops classes with fewer samples.
_FEWEST = 2


def _labels(name: str, labels: Any, n: int, num_classes: int) -> Array:
    given = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if given.shape != (n,) or not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(
            f"`{name}` must hold {n} integers, got shape {given.shape} and dtype "
            f"{given.dtype}; np.unique(labels, return_inverse=True) numbers others"
        )
    array = jnp.asarray(given)
    if is_concrete(array):
        host = np.asarray(array)
        bad = (host < 0) | (host >= num_classes)
        if bad.any():
            raise ValueError(
                f"`{name}` must lie in 0..{num_classes - 1}, got {host[bad][0]}"
            )
    return array


def _class_moments(points: Array, hot: Array) -> tuple[Array, Array]:
    """Means (k, d) and population covariances (k, d, d) of the classes."""
    counts = jnp.maximum(jnp.sum(hot, axis=0), 1)
    means = jnp.matmul(hot.T, points, precision=HIGHEST) / counts[:, None]

    def covariance(inputs: tuple[Array, Array, Array]) -> Array:
        mean, members, count = inputs
        centred = (points - mean) * members[:, None]
        return jnp.matmul(centred.T, centred, precision=HIGHEST) / count

    return means, jax.lax.map(covariance, (means, hot.T, counts))


def _pairs(num: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(num, 1)


def _symmetric(values: Array, num: int) -> Array:
    """A symmetric matrix with zero diagonal from its upper triangle."""
    rows, columns = _pairs(num)
    upper = jnp.zeros((num, num), values.dtype).at[rows, columns].set(values)
    return upper + upper.T


def _gaussian_table(points: Array, hot: Array) -> Array:
    means, covariances = _class_moments(points, hot)
    num = means.shape[0]
    roots = jax.lax.map(matrix_sqrt, covariances)
    traces = jnp.trace(covariances, axis1=1, axis2=2)
    rows, columns = _pairs(num)

    def cross(pair: tuple[Array, Array]) -> Array:
        i, j = pair
        inner = jnp.matmul(roots[i], covariances[j], precision=HIGHEST)
        return jnp.trace(matrix_sqrt(jnp.matmul(inner, roots[i], precision=HIGHEST)))

    crosses = jax.lax.map(cross, (jnp.asarray(rows), jnp.asarray(columns)))
    gaps = jnp.sum((means[rows] - means[columns]) ** 2, axis=1)
    values = gaps + traces[rows] + traces[columns] - 2 * crosses
    return _symmetric(jnp.maximum(values, 0), num)


def _means_table(points: Array, hot: Array) -> Array:
    counts = jnp.maximum(jnp.sum(hot, axis=0), 1)
    means = jnp.matmul(hot.T, points, precision=HIGHEST) / counts[:, None]
    num = means.shape[0]
    rows, columns = _pairs(num)
    return _symmetric(jnp.sum((means[rows] - means[columns]) ** 2, axis=1), num)


def _exact_table(
    points: Array, labels: Array, hot: Array, epsilon: Array, max_steps: int
) -> Array:
    """Divergences between class clouds, each gathered to one padded size."""
    num, n = hot.shape[1], points.shape[0]
    size = n
    if is_concrete(labels):
        size = max(1, int(np.bincount(np.asarray(labels), minlength=num).max()))
    # Members first: a stable sort of not being one.
    order = jnp.argsort(1 - hot.T, axis=1, stable=True)[:, :size]
    counts = jnp.sum(hot, axis=0)
    weights = jnp.take_along_axis(hot.T, order, axis=1)
    weights = weights / jnp.maximum(counts, 1)[:, None]
    first = jnp.zeros(size, points.dtype).at[0].set(1)
    weights = jnp.where(counts[:, None] > 0, weights, first)
    clouds = points[order]
    rows, columns = _pairs(num)

    def divergence(pair: tuple[Array, Array]) -> Array:
        i, j = pair
        return sinkhorn_divergence(
            clouds[i],
            clouds[j],
            a=weights[i],
            b=weights[j],
            epsilon=epsilon,
            max_steps=max_steps,
        )

    values = jax.lax.map(divergence, (jnp.asarray(rows), jnp.asarray(columns)))
    return _symmetric(values, num)


def label_costs(
    points: Array,
    labels: Array,
    num_labels: int,
    label_cost: str,
    label_epsilon: Any,
    max_steps: int,
) -> tuple[Array, Array]:
    """Costs (k, k) between labels, and how many points each label has."""
    points = jnp.asarray(points)
    hot = (labels[:, None] == jnp.arange(num_labels)).astype(points.dtype)
    if label_cost == "gaussian":
        table = _gaussian_table(points, hot)
    elif label_cost == "means":
        table = _means_table(points, hot)
    else:
        table = _exact_table(points, labels, hot, label_epsilon, max_steps)
    return table, jnp.sum(hot, axis=0)


def otdd(
    x: Real[ArrayLike, "n d"],
    labels_x: Int[ArrayLike, " n"],
    y: Real[ArrayLike, "m d"],
    labels_y: Int[ArrayLike, " m"],
    *,
    num_classes: int,
    epsilon: Real[ArrayLike, ""],
    label_cost: str = "gaussian",
    label_epsilon: Real[ArrayLike, ""] = 0.1,
    feature_weight: Real[ArrayLike, ""] = 1.0,
    label_weight: Real[ArrayLike, ""] = 1.0,
    debiased: bool = True,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 2000,
    tile: int | None = None,
) -> Float[Array, ""]:
    """Distance of two labelled samples whose labels need not mean the same.

    The ground cost is  feature_weight |x - y|^2 / 2 + label_weight W(l, l') / 2,  where
    W is the squared distance between the features under label l of one sample and
    those under l' of the other. Both terms are halved, as in the released code, and
    epsilon is on that scale.

    Heuristic: no finite-sample guarantee; it is the entropic distance between the two
    samples, with convergence checked.

    Args:
        x: shape (n, d).
        labels_x: shape (n,), integers in 0..num_classes-1.
        y: shape (m, d).
        labels_y: shape (m,). Label 0 of y is another label than label 0 of x.
        num_classes: number of classes of either sample. Static.
        epsilon: strength of the entropy; the released code has 0.1.
        label_cost: "gaussian" for the Bures distance between fitted Gaussians,
            "exact" for the Sinkhorn divergence with the squared distance (not halved)
            at `label_epsilon`, "means" for the squared distance of the means (the
            released code forgets the square there). Static.
        label_epsilon: entropy of the label costs, with "exact".
        feature_weight: factor of the feature term.
        label_weight: factor of the label term.
        debiased: Sinkhorn divergence, else the plain entropic value. Static.
        rtol: tolerance of the marginals, as in `sinkhorn`.
        max_steps: largest number of iterations of each solve. Static.
        tile: rows in a tile. Static.

    Returns:
        scalar. Points of classes with fewer than two samples in their own data set are
        left out. NaN where a solve has not converged.

    Raises:
        ValueError: wrong shapes, labels out of range, an unknown `label_cost`.

    Transformations: jit (with "exact" under tracing every class is padded to n + m
    points), reverse mode in x and y.
    Cost: the label term is part of the matrix product; k^2 / 2 label costs, k = 2
    num_classes, each O(d^3) with "gaussian".

    Source: Alvarez-Melis and Fusi, "Geometric dataset distances via optimal transport",
    2020.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x = jnp.array([[0.0], [0.5], [4.0], [4.5]])
        >>> labels = jnp.array([0, 0, 1, 1])
        >>> # Swapped names of the labels are no difference.
        >>> distance = ot.otdd(x, labels, x, 1 - labels, num_classes=2, epsilon=0.1)
        >>> abs(float(distance)) < 1e-3
        True
    """
    check_choice("label_cost", label_cost, ("gaussian", "exact", "means"))
    x, y = prepare_points(x, y)
    n, m, dtype = x.shape[0], y.shape[0], x.dtype
    labels_x = _labels("labels_x", labels_x, n, num_classes)
    labels_y = _labels("labels_y", labels_y, m, num_classes)
    a = jnp.full(n, 1 / n, dtype)
    b = jnp.full(m, 1 / m, dtype)
    centre = find_centre(x, y, a, b)
    x, y = x - centre, y - centre
    both = jnp.concatenate([x, y])
    labels = jnp.concatenate([labels_x, labels_y + num_classes])
    table, counts = label_costs(
        both, labels, 2 * num_classes, label_cost, label_epsilon, max_steps
    )
    kept = (counts >= _FEWEST)[labels].astype(dtype)
    if is_concrete(labels):
        host = np.asarray(kept)
        for name, part in (("x", host[:n]), ("y", host[n:])):
            if not part.any():
                raise ValueError(f"no class of `{name}` has two samples")
    a, b = kept[:n] / jnp.sum(kept[:n]), kept[n:] / jnp.sum(kept[n:])
    cost = LabelAugmented(
        table,
        feature_weight=jnp.asarray(feature_weight, dtype) / 2,
        label_weight=jnp.asarray(label_weight, dtype) / 2,
    )
    # A label out of range under tracing must not be taken for one of the other sample.
    known_x = jnp.where((labels_x >= 0) & (labels_x < num_classes), labels_x, -1)
    known_y = (labels_y >= 0) & (labels_y < num_classes)
    left = attach_labels(x, known_x)
    right = attach_labels(y, jnp.where(known_y, labels_y + num_classes, -1))
    options: dict[str, Any] = {
        "epsilon": epsilon,
        "cost": cost,
        "rtol": rtol,
        "max_steps": max_steps,
        "tile": tile,
    }
    if debiased:
        return sinkhorn_divergence(left, right, a=a, b=b, **options)
    result = sinkhorn(left, right, a=a, b=b, **options)
    return jnp.where(result.converged, result.value, jnp.nan)

"""Ground costs between points, evaluated on blocks.

A cost prepares both clouds once (centring, norms, one-hot labels) and is evaluated on a
tile of rows against all columns. Bilinear costs are C_ij = u_i + v_j - <p_i, q_j>: a
tile of scores is one matrix product, and u and v are absorbed into the potentials.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import as_float, check_rank, is_concrete, register_dataclass

HIGHEST = jax.lax.Precision.HIGHEST


class Side(NamedTuple):
    """One cloud prepared: `offset` (n,), `vectors` (n, r), or points as they came."""

    offset: Array
    vectors: Array


class Cost(Protocol):
    """What a ground cost offers."""

    @property
    def bilinear(self) -> bool:
        """Whether C_ij = u_i + v_j - <p_i, q_j> for the prepared sides."""
        ...

    def prepare(self, x: Array, y: Array, centre: Array) -> tuple[Side, Side]:
        """Both clouds, seen from `centre`."""
        ...

    def panel(self, rows: Side, columns: Side) -> Array:
        """Costs of prepared blocks, (r, c)."""
        ...


def safe_sqrt(values: Array) -> Array:
    """Square root with derivative 0, not infinity, where the argument is not positive.

    An argument below the rounding error of its own computation counts as the distance
    it is, only its derivative is bounded by what the caller multiplies it with.
    """
    positive = values > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1)), 0)


def _bilinear_panel(rows: Side, columns: Side) -> Array:
    product = jnp.matmul(rows.vectors, columns.vectors.T, precision=HIGHEST)
    return rows.offset[:, None] + columns.offset[None, :] - product


def _register(cls: Any) -> Any:
    return register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@_register
class SquaredEuclidean:
    """|x - y|^2, not halved.

    Packages that halve it (geomloss with p = 2) have half our values at half our
    epsilon.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> ot.cost_matrix(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]]))
        Array([[25.]], dtype=float32)
    """

    @property
    def bilinear(self) -> bool:
        """True."""
        return True

    def prepare(self, x: Array, y: Array, centre: Array) -> tuple[Side, Side]:
        """Squared norms and vectors, the rows doubled."""
        x, y = x - centre, y - centre
        return Side(jnp.sum(x * x, -1), 2 * x), Side(jnp.sum(y * y, -1), y)

    def panel(self, rows: Side, columns: Side) -> Array:
        """Costs of prepared blocks; rounding never makes one negative."""
        return jnp.maximum(_bilinear_panel(rows, columns), 0)


@_register
class Euclidean:
    """|x - y|, with derivative 0 where the points coincide.

    Computed from inner products: distances below about 1e-3 (float32) of the spread of
    the points are lost in rounding.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])
        >>> ot.cost_matrix(x, y, cost=ot.Euclidean())
        Array([[5.]], dtype=float32)
    """

    @property
    def bilinear(self) -> bool:
        """False: a root is taken."""
        return False

    def prepare(self, x: Array, y: Array, centre: Array) -> tuple[Side, Side]:
        """As for the squared distance."""
        return SquaredEuclidean().prepare(x, y, centre)

    def panel(self, rows: Side, columns: Side) -> Array:
        """Costs of prepared blocks."""
        squared = _bilinear_panel(rows, columns)
        # What rounding makes of coinciding points is no distance.
        noise = 4 * float(jnp.finfo(squared.dtype).eps)
        floor = noise * (rows.offset[:, None] + columns.offset[None, :])
        return safe_sqrt(jnp.where(squared > floor, squared, 0))


@_register
class Cosine:
    """1 - <x, y> / (|x| |y|); a zero vector has cost 1 to everything.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])
        >>> ot.cost_matrix(x, y, cost=ot.Cosine())
        Array([[1.]], dtype=float32)
    """

    @property
    def bilinear(self) -> bool:
        """True."""
        return True

    def prepare(self, x: Array, y: Array, centre: Array) -> tuple[Side, Side]:
        """Unit vectors; directions are not centred."""
        halves = []
        for points in (x, y):
            length = safe_sqrt(jnp.sum(points * points, -1, keepdims=True))
            unit = points / jnp.where(length > 0, length, 1)
            halves.append(Side(jnp.full(points.shape[:1], 0.5, x.dtype), unit))
        return halves[0], halves[1]

    def panel(self, rows: Side, columns: Side) -> Array:
        """Costs of prepared blocks."""
        return jnp.maximum(_bilinear_panel(rows, columns), 0)


@_register
class LabelAugmented:
    """feature_weight * base(x, y) + label_weight * table[label of x, label of y].

    The last column of the points holds the label, an integer; `ot.attach_labels` puts
    it there. With a bilinear base the label term is part of the matrix product.

    Args:
        table: shape (k, l), costs between the labels of x and those of y.
        base: cost between features.
        feature_weight: factor of the base cost.
        label_weight: factor of the table.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x = ot.attach_labels(jnp.zeros((1, 2)), jnp.array([1]))
        >>> y = ot.attach_labels(jnp.ones((1, 2)), jnp.array([0]))
        >>> cost = ot.LabelAugmented(jnp.array([[0.0, 5.0], [3.0, 0.0]]))
        >>> ot.cost_matrix(x, y, cost=cost)
        Array([[5.]], dtype=float32)
    """

    table: Any
    base: Any = SquaredEuclidean()
    feature_weight: Any = 1.0
    label_weight: Any = 1.0

    @property
    def bilinear(self) -> bool:
        """That of the base."""
        return self.base.bilinear

    def check(self, x: Array, y: Array) -> None:
        """Raise where a concrete label is none."""
        if np.ndim(self.table) != 2:
            raise ValueError(
                f"`table` must have shape (k, l), got {np.shape(self.table)}"
            )
        for name, points, count in zip("xy", (x, y), np.shape(self.table), strict=True):
            if not is_concrete(points):
                continue
            labels = np.asarray(points)[:, -1]
            known = (labels >= 0) & (labels < count) & (labels == np.round(labels))
            if not known.all():
                raise ValueError(
                    f"the last column of `{name}` must hold integer labels in "
                    f"0..{count - 1}, got {labels[~known][0]}; see ot.attach_labels"
                )

    def prepare(self, x: Array, y: Array, centre: Array) -> tuple[Side, Side]:
        """Features of the base beside one-hot labels, the rows' times the table."""
        table = jnp.asarray(self.table, x.dtype)
        rows, columns = self.base.prepare(x[:, :-1], y[:, :-1], centre[:-1])
        one_x = _one_hot(x[:, -1], table.shape[0])
        one_y = _one_hot(y[:, -1], table.shape[1])
        to_labels = jnp.matmul(one_x, table, precision=HIGHEST)
        if self.bilinear:
            features = self._weight(self.feature_weight, x)
            labels = -self._weight(self.label_weight, x) * to_labels
            left = jnp.concatenate([features * rows.vectors, labels], 1)
            right = jnp.concatenate([columns.vectors, one_y], 1)
            return (
                Side(features * rows.offset, left),
                Side(features * columns.offset, right),
            )
        left = jnp.concatenate([rows.vectors, to_labels], 1)
        right = jnp.concatenate([columns.vectors, one_y], 1)
        return Side(rows.offset, left), Side(columns.offset, right)

    def panel(self, rows: Side, columns: Side) -> Array:
        """Costs of prepared blocks."""
        if self.bilinear:
            return _bilinear_panel(rows, columns)
        width = np.shape(self.table)[1]
        base = self.base.panel(
            Side(rows.offset, rows.vectors[:, :-width]),
            Side(columns.offset, columns.vectors[:, :-width]),
        )
        labels = jnp.matmul(
            rows.vectors[:, -width:], columns.vectors[:, -width:].T, precision=HIGHEST
        )
        features = self._weight(self.feature_weight, base)
        return features * base + self._weight(self.label_weight, base) * labels

    def _weight(self, value: Any, like: Array) -> Array:
        return jnp.asarray(value, like.dtype)


def _one_hot(labels: Array, num_labels: int) -> Array:
    labels = jax.lax.stop_gradient(labels)
    hot = (labels[:, None] == jnp.arange(num_labels)).astype(labels.dtype)
    known = jnp.any(hot > 0, axis=1, keepdims=True)
    # Where labels cannot be looked at, an unknown one must not cost nothing.
    return jnp.where(known, hot, jnp.nan)


@_register
class _BlockCost:
    """A callable of two blocks of points."""

    function: Callable[[Array, Array], Array] = dataclasses.field(
        metadata={"static": True}
    )

    @property
    def bilinear(self) -> bool:
        return False

    def prepare(self, x: Array, y: Array, centre: Array) -> tuple[Side, Side]:
        return Side(x[:, :0], x), Side(y[:, :0], y)

    def panel(self, rows: Side, columns: Side) -> Array:
        values = self.function(rows.vectors, columns.vectors)
        expected = (rows.vectors.shape[0], columns.vectors.shape[0])
        if values.shape != expected:
            raise ValueError(
                "`cost` must map blocks of shapes (r, d) and (c, d) to shape (r, c); "
                f"for {rows.vectors.shape} and {columns.vectors.shape} it gave "
                f"{values.shape}"
            )
        return values.astype(rows.vectors.dtype)


@_register
class GivenMatrix:
    """A cost matrix whose rows stand in for the points x.

    Offsets, zero for a matrix that a user gives, are added to its rows and columns.
    """

    @property
    def bilinear(self) -> bool:
        """False."""
        return False

    def prepare(self, x: Array, y: Array, centre: Array) -> tuple[Side, Side]:
        """The matrix as it is."""
        return Side(jnp.zeros_like(x[:, 0]), x), Side(jnp.zeros(len(y), y.dtype), y)

    def panel(self, rows: Side, columns: Side) -> Array:
        """Rows of the matrix."""
        return rows.vectors


def as_cost(cost: Any, x: Array, y: Array) -> Any:
    """A cost object for these points; a plain function of two blocks is wrapped."""
    if isinstance(cost, type):
        raise TypeError(
            f"`cost` must be an object, got a class: write ot.{cost.__name__}()"
        )
    if hasattr(cost, "prepare") and hasattr(cost, "panel"):
        if hasattr(cost, "check"):
            cost.check(x, y)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), cost)
    if callable(cost):
        return _BlockCost(cost)
    if hasattr(cost, "shape"):
        raise TypeError(
            f"`cost` must be a cost or a function, got an array of shape {cost.shape}; "
            "ot.sinkhorn_matrix takes a given matrix"
        )
    raise TypeError(
        "`cost` must be a cost of jaxcur.ot, such as ot.SquaredEuclidean(), or a "
        f"function of two blocks of points, got {cost!r}"
    )


def find_centre(x: Array, y: Array, a: Array, b: Array) -> Array:
    """A point amid the mass, such that subtracting it loses nothing.

    An observed point is subtracted before the mean is taken: in float32 the mean of
    numbers near 1e6 has an error as large as the spread of the points.
    """
    x, y, a, b = jax.lax.stop_gradient((x, y, a, b))
    # Uniform weights are constants, and the compiler would spend seconds folding them.
    a, b = jax.lax.optimization_barrier((a, b))
    observed = x[jnp.argmax(a)]
    total = jnp.sum(a) + jnp.sum(b)
    shift = a @ (x - observed) + b @ (y - observed)
    return observed + shift / jnp.where(total > 0, total, 1)


def attach_labels(
    features: Real[ArrayLike, "n d"], labels: Int[ArrayLike, " n"]
) -> Float[Array, "n d+1"]:
    """Points for `LabelAugmented`: the label as the last column.

    Args:
        features: shape (n, d).
        labels: shape (n,), integers from 0.

    Returns:
        shape (n, d + 1), the float dtype of `features`.

    Raises:
        ValueError: wrong shapes.

    Transformations: jit, vmap, grad in `features`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> ot.attach_labels(jnp.zeros((2, 1)), jnp.array([0, 3]))
        Array([[0., 0.],
               [0., 3.]], dtype=float32)
    """
    (array,) = as_float(features=features)
    check_rank("features", array, 2, "(n, d)")
    column = jnp.asarray(labels)
    if column.shape != array.shape[:1]:
        raise ValueError(
            f"`labels` must have shape {array.shape[:1]}, got {column.shape}"
        )
    return jnp.concatenate([array, column[:, None].astype(array.dtype)], axis=1)


def cost_matrix(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"],
    *,
    cost: Any = SquaredEuclidean(),  # noqa: B008
) -> Float[Array, "n m"]:
    """The whole matrix of ground costs, for small problems.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        cost: a cost of this package or a function of two blocks.

    Returns:
        shape (n, m).

    Raises:
        ValueError: wrong shapes.

    Transformations: jit, vmap, grad.
    Cost: O(n m d) time, O(n m) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> ot.cost_matrix(jnp.zeros((1, 1)), jnp.array([[1.0], [2.0]]))
        Array([[1., 4.]], dtype=float32)
    """
    x, y = as_float(x=x, y=y)
    for name, array in (("x", x), ("y", y)):
        check_rank(name, array, 2, "(n, d)")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"`x` and `y` must have the same columns, got {x.shape} and {y.shape}"
        )
    a, b = (jnp.ones(p.shape[0], x.dtype) for p in (x, y))
    found = as_cost(cost, x, y)
    return found.panel(*found.prepare(x, y, find_centre(x, y, a, b)))

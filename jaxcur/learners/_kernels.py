"""Kernels: small callables `kernel(a, b) -> (rows of a, rows of b)`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, register_dataclass
from jaxcur.learners._protocol import check_nonnegative


def _pair(a: Any, b: Any) -> tuple[Array, Array]:
    a, b = as_float(a=a, b=b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            "a kernel takes `a` of shape (n, d) and `b` of shape (m, d), "
            f"got {a.shape} and {b.shape}"
        )
    return a, b


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b.T, precision="highest")


def squared_distances(a: Array, b: Array) -> Array:
    """Squared Euclidean distances through one matrix product.

    Both sides are moved by the mean of `b` first, which leaves the distances alone and
    keeps the differences of large squares out of them.
    """
    center = jnp.mean(b, axis=0)[None, :]
    a, b = a - center, b - center
    squares = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :]
    return jnp.maximum(squares - 2 * _dot(a, b), 0)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class RBF:
    """Gaussian kernel  exp(-gamma |a - b|^2).

    Args:
        gamma: inverse squared width, at least 0. Traced.

    Transformations: jit, vmap, grad. Cost: O(n m d) time, O(n m) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> learners.RBF(0.5)(jnp.array([[0.0], [2.0]]), jnp.array([[0.0]])).round(4)
        Array([[1.    ],
               [0.1353]], dtype=float32)
    """

    gamma: Any

    def __post_init__(self) -> None:
        check_nonnegative("gamma", self.gamma)

    def __call__(
        self, a: Real[ArrayLike, "n d"], b: Real[ArrayLike, "m d"]
    ) -> Float[Array, "n m"]:
        """The kernel matrix."""
        a, b = _pair(a, b)
        return jnp.exp(-jnp.asarray(self.gamma, a.dtype) * squared_distances(a, b))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Laplacian:
    """Laplace kernel  exp(-gamma |a - b|_1), with the sum of absolute differences.

    Args:
        gamma: inverse width, at least 0. Traced.

    Transformations: jit, vmap, grad. Cost: O(n m d) time, O(n m) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> learners.Laplacian(1.0)(jnp.zeros((1, 2)), jnp.ones((1, 2))).round(4)
        Array([[0.1353]], dtype=float32)
    """

    gamma: Any

    def __post_init__(self) -> None:
        check_nonnegative("gamma", self.gamma)

    def __call__(
        self, a: Real[ArrayLike, "n d"], b: Real[ArrayLike, "m d"]
    ) -> Float[Array, "n m"]:
        """The kernel matrix."""
        a, b = _pair(a, b)

        # One column at a time: no (n, m, d) array.
        def add(total: Array, columns: tuple[Array, Array]) -> tuple[Array, None]:
            left, right = columns
            return total + jnp.abs(left[:, None] - right[None, :]), None

        zero = jnp.zeros((a.shape[0], b.shape[0]), a.dtype)
        total, _ = jax.lax.scan(add, zero, (a.T, b.T))
        return jnp.exp(-jnp.asarray(self.gamma, a.dtype) * total)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Linear:
    """Linear kernel  a'b. Kernel ridge with it is ridge without intercept.

    Transformations: jit, vmap, grad. Cost: O(n m d) time, O(n m) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> learners.Linear()(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]]))
        Array([[11.]], dtype=float32)
    """

    def __call__(
        self, a: Real[ArrayLike, "n d"], b: Real[ArrayLike, "m d"]
    ) -> Float[Array, "n m"]:
        """The kernel matrix."""
        return _dot(*_pair(a, b))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Polynomial:
    """Polynomial kernel  (gamma a'b + offset)^degree.

    Args:
        degree: positive integer. Static.
        gamma: factor of the inner product, at least 0. Traced.
        offset: constant term, at least 0. Traced.

    Transformations: jit, vmap, grad. Cost: O(n m d) time, O(n m) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> learners.Polynomial(2)(jnp.array([[1.0]]), jnp.array([[2.0]]))
        Array([[9.]], dtype=float32)
    """

    degree: int = dataclasses.field(metadata={"static": True})
    gamma: Any = 1.0
    offset: Any = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.degree, int) or self.degree < 1:
            raise ValueError(f"`degree` must be a positive integer, got {self.degree}")
        check_nonnegative("gamma", self.gamma)
        check_nonnegative("offset", self.offset)

    def __call__(
        self, a: Real[ArrayLike, "n d"], b: Real[ArrayLike, "m d"]
    ) -> Float[Array, "n m"]:
        """The kernel matrix."""
        a, b = _pair(a, b)
        gamma = jnp.asarray(self.gamma, a.dtype)
        return (gamma * _dot(a, b) + jnp.asarray(self.offset, a.dtype)) ** self.degree

"""Estimating equations: what each model contributes per row."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import expit

_HIGHEST = jax.lax.Precision.HIGHEST


class Sums(NamedTuple):
    """Sums over records of weight w and moments m.

    Attributes:
        value: (q,), sum of w m.
        jacobian: (q, p), its derivative in theta.
        squares: (q,), sum of (w m)^2.
    """

    value: Array
    jacobian: Array
    squares: Array


class Model(Protocol):
    """An estimating equation over a batch of records with leading axis n.

    `is_affine` says that the moments are affine in theta: one Newton step from
    anywhere is exact.
    """

    @property
    def is_affine(self) -> bool:
        """Whether the moments are affine in theta."""
        ...

    def moments(self, theta: Array, record: Any) -> Array:
        """Moments of every record, shape (n, q)."""
        ...

    def total(self, theta: Array, record: Any, weight: Array) -> Sums:
        """Weighted sums of the moments, of their Jacobians and of their squares."""
        ...


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)


def _squares(moments: Array, weight: Array) -> Array:
    return jnp.sum((moments * weight[:, None]) ** 2, axis=0)


def differentiated(model: Model, theta: Array, record: Any, weight: Array) -> Sums:
    """Sums of a model that gives its moments only."""

    def summed(point: Array) -> tuple[Array, tuple[Array, Array]]:
        moments = model.moments(point, record)
        value = _matmul(weight, moments)
        return value, (value, _squares(moments, weight))

    jacobian, (value, squares) = jax.jacfwd(summed, has_aux=True)(theta)
    return Sums(value, jacobian, squares)


@dataclasses.dataclass(frozen=True)
class UserMoment:
    """A moment function of one record, differentiated automatically."""

    moment: Callable[[Array, Any], Array]
    is_affine: bool = False

    def moments(self, theta: Array, record: Any) -> Array:
        return jax.vmap(lambda one: jnp.atleast_1d(self.moment(theta, one)))(record)

    def total(self, theta: Array, record: Any, weight: Array) -> Sums:
        return differentiated(self, theta, record, weight)


@dataclasses.dataclass(frozen=True)
class Mean:
    """Moment y - theta of records y (n, p)."""

    is_affine: bool = True

    def moments(self, theta: Array, record: Array) -> Array:
        return record - theta

    def total(self, theta: Array, record: Array, weight: Array) -> Sums:
        identity = jnp.eye(theta.shape[0], dtype=theta.dtype)
        moments = record - theta
        jacobian = -jnp.sum(weight) * identity
        return Sums(_matmul(weight, moments), jacobian, _squares(moments, weight))


@dataclasses.dataclass(frozen=True)
class Index:
    """Moments x r(x'theta + offset, y) of a single index.

    Attributes:
        residual: r(eta, y), elementwise; for a canonical link y - mu(eta).
        is_affine: r is affine in eta.
    """

    residual: Callable[[Array, Array], Array]
    is_affine: bool = False

    def _eta(self, theta: Array, record: dict[str, Array]) -> Array:
        eta = _matmul(record["X"], theta)
        return eta + record["offset"] if "offset" in record else eta

    def moments(self, theta: Array, record: dict[str, Array]) -> Array:
        eta = self._eta(theta, record)
        return record["X"] * self.residual(eta, record["y"])[:, None]

    def total(self, theta: Array, record: dict[str, Array], weight: Array) -> Sums:
        x, y = record["X"], record["y"]
        eta = self._eta(theta, record)
        r, slope = jax.jvp(lambda e: self.residual(e, y), (eta,), (jnp.ones_like(eta),))
        scaled = weight * r
        jacobian = _matmul((x * (weight * slope)[:, None]).T, x)
        # A product with the squared columns: no table of moments is formed.
        squares = _matmul(scaled * scaled, x * x)
        return Sums(_matmul(scaled, x), jacobian, squares)


@dataclasses.dataclass(frozen=True)
class Instrumental:
    """Moments z (y - x'theta)."""

    is_affine: bool = True

    def moments(self, theta: Array, record: dict[str, Array]) -> Array:
        return record["Z"] * (record["y"] - _matmul(record["X"], theta))[:, None]

    def total(self, theta: Array, record: dict[str, Array], weight: Array) -> Sums:
        z = record["Z"] * weight[:, None]
        residual = record["y"] - _matmul(record["X"], theta)
        squares = _squares(z, residual)
        return Sums(_matmul(residual, z), -_matmul(z.T, record["X"]), squares)


@dataclasses.dataclass(frozen=True)
class MultiIndex:
    """Moments that depend on theta through several indices per row.

    The indices of a row are xi (s,), the moments  sum_s (d xi_s / d theta) r_s(xi, y).

    Attributes:
        indices: theta, X (n, d) -> xi (n, s); linear in theta.
        residual: xi (n, s), y (n, k) -> r (n, s).
        adjoint: X (n, d), r (n, s) -> (n, p), the transpose of `indices`.
    """

    indices: Callable[[Array, Array], Array]
    residual: Callable[[Array, Array], Array]
    adjoint: Callable[[Array, Array], Array]
    is_affine: bool = False

    def moments(self, theta: Array, record: dict[str, Array]) -> Array:
        x = record["X"]
        return self.adjoint(x, self.residual(self.indices(theta, x), record["y"]))

    def total(self, theta: Array, record: dict[str, Array], weight: Array) -> Sums:
        return differentiated(self, theta, record, weight)


def linear_residual(eta: Array, y: Array) -> Array:
    """Gaussian, identity link."""
    return y - eta


def logistic_residual(eta: Array, y: Array) -> Array:
    """Bernoulli, logit link."""
    return y - expit(eta)


def poisson_residual(eta: Array, y: Array) -> Array:
    """Poisson, log link."""
    return y - jnp.exp(eta)


def _class_major_indices(theta: Array, x: Array) -> Array:
    """One index per class but the last."""
    return _matmul(x, theta.reshape(-1, x.shape[1]).T)


def _class_major_adjoint(x: Array, r: Array) -> Array:
    return (r[:, :, None] * x[:, None, :]).reshape(x.shape[0], -1)


def multinomial_residual(xi: Array, y: Array) -> Array:
    """Class indicators minus probabilities, the last class being the base."""
    padded = jnp.concatenate([xi, jnp.zeros_like(xi[:, :1])], axis=1)
    return (y - jax.nn.softmax(padded, axis=1))[:, :-1]


def _cut_indices(theta: Array, x: Array) -> Array:
    """Cutpoints minus the linear predictor."""
    p = x.shape[1]
    return theta[p:] - _matmul(x, theta[:p])[:, None]


def _cut_adjoint(x: Array, r: Array) -> Array:
    return jnp.concatenate([-x * jnp.sum(r, axis=1, keepdims=True), r], axis=1)


def ordered_logit_residual(xi: Array, y: Array) -> Array:
    """Derivative of  sum_k y_k log(F(xi_k) - F(xi_(k-1)))  in each xi_j.

    With F logistic and a > b,  F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)),  so that
    the ratios below neither overflow nor cancel. Cutpoints out of order give NaN.
    """
    log_f, log_g = jax.nn.log_sigmoid(xi), jax.nn.log_sigmoid(-xi)
    gap = jnp.log(-jnp.expm1(xi[:, :-1] - xi[:, 1:]))
    # Class j ends at cutpoint j, class j + 1 begins there.
    ends = jnp.exp(log_g[:, 1:] - log_g[:, :-1] - gap)
    begins = jnp.exp(log_f[:, :-1] - log_f[:, 1:] - gap)
    first, last = jnp.exp(log_g[:, :1]), jnp.exp(log_f[:, -1:])
    ends = jnp.concatenate([first, ends], axis=1)
    begins = jnp.concatenate([begins, last], axis=1)
    return y[:, :-1] * ends - y[:, 1:] * begins


MULTINOMIAL = MultiIndex(
    _class_major_indices, multinomial_residual, _class_major_adjoint
)
ORDERED_LOGIT = MultiIndex(_cut_indices, ordered_logit_residual, _cut_adjoint)
OLS = Index(linear_residual, is_affine=True)
LOGISTIC = Index(logistic_residual)
POISSON = Index(poisson_residual)
IV = Instrumental()
MEAN = Mean()

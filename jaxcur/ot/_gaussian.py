"""Transport between Gaussians in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, check_rank, is_concrete
from jaxcur.ot._costs import HIGHEST, find_centre
from jaxcur.ot._inputs import balance, prepare_points, prepare_weights


def _matmul(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=HIGHEST)


@jax.custom_vjp
def matrix_sqrt(matrix: Array) -> Array:
    """Root of a symmetric matrix; negative eigenvalues count as 0."""
    return _root_forward(matrix)[0]


def _root_forward(matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    roots = jnp.sqrt(jnp.maximum(values, 0))
    return _matmul(vectors * roots, vectors.T), (roots, vectors)


def _root_backward(residuals: tuple[Array, Array], slope: Array) -> tuple[Array]:
    """Solves the Sylvester equation: no difference of eigenvalues is divided by."""
    roots, vectors = residuals
    sums = roots[:, None] + roots[None, :]
    # Below rounding of the largest, a direction has no root to differentiate.
    floor = float(np.sqrt(jnp.finfo(roots.dtype).eps)) * jnp.max(roots)
    inverse = jnp.where(sums > floor, 1 / jnp.where(sums > floor, sums, 1), 0)
    inner = _matmul(vectors.T, _matmul((slope + slope.T) / 2, vectors)) * inverse
    return (_matmul(vectors, _matmul(inner, vectors.T)),)


matrix_sqrt.defvjp(_root_forward, _root_backward)


def bures_squared(cov_a: Array, cov_b: Array) -> Array:
    """tr(A + B - 2 (A^{1/2} B A^{1/2})^{1/2})."""
    half = matrix_sqrt(cov_a)
    cross = matrix_sqrt(_matmul(half, _matmul(cov_b, half)))
    total = jnp.trace(cov_a) + jnp.trace(cov_b) - 2 * jnp.trace(cross)
    return jnp.maximum(total, 0)


def bures(
    mean_a: Real[ArrayLike, " d"],
    cov_a: Real[ArrayLike, "d d"],
    mean_b: Real[ArrayLike, " d"],
    cov_b: Real[ArrayLike, "d d"],
) -> Float[Array, ""]:
    """Squared 2-Wasserstein distance between two Gaussians.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A^{1/2} B A^{1/2})^{1/2}).

    Guarantee: exact up to rounding, for singular covariances too. Verified by: another
    package and a closed form in tests/reference/test_ot.py.

    Args:
        mean_a: shape (d,).
        cov_a: shape (d, d), symmetric and positive semidefinite, or (d,), its diagonal.
        mean_b: shape (d,).
        cov_b: shape (d, d) or (d,), of the same rank as `cov_a`.

    Returns:
        scalar, the squared distance.

    Raises:
        ValueError: wrong shapes, a concrete covariance that is not symmetric.

    Transformations: jit, vmap, reverse mode (where covariances are singular, in the
    directions that keep their range).
    Cost: O(d^3); O(d) with diagonals.

    Source: Dowson and Landau 1982; Gelbrich 1990.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> ot.bures(jnp.zeros(2), jnp.eye(2), jnp.ones(2), 4 * jnp.eye(2))
        Array(4., dtype=float32)
    """
    mean_a, cov_a, mean_b, cov_b = as_float(
        mean_a=mean_a, cov_a=cov_a, mean_b=mean_b, cov_b=cov_b
    )
    check_rank("mean_a", mean_a, 1, "(d,)")
    d = mean_a.shape[0]
    if mean_b.shape != (d,):
        raise ValueError(f"`mean_b` must have shape ({d},), got {mean_b.shape}")
    for name, cov in (("cov_a", cov_a), ("cov_b", cov_b)):
        if cov.shape not in ((d, d), (d,)):
            raise ValueError(
                f"`{name}` must have shape ({d}, {d}) or ({d},), got {cov.shape}"
            )
        if is_concrete(cov) and cov.ndim == 2:
            host = np.asarray(cov)
            size = np.abs(host).max(initial=0)
            if not np.allclose(host, host.T, rtol=0, atol=1e-4 * size, equal_nan=True):
                raise ValueError(f"`{name}` must be symmetric")
    if cov_a.ndim != cov_b.ndim:
        raise ValueError(
            "`cov_a` and `cov_b` must both be matrices or both be diagonals, "
            f"got {cov_a.shape} and {cov_b.shape}"
        )
    gap = jnp.sum((mean_a - mean_b) ** 2)
    if cov_a.ndim == 1:
        roots = [jnp.sqrt(jnp.maximum(cov, 0)) for cov in (cov_a, cov_b)]
        return gap + jnp.sum((roots[0] - roots[1]) ** 2)
    return gap + bures_squared(cov_a, cov_b)


def moments(points: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted mean and population covariance."""
    mean = weights @ points
    centred = points - mean
    return mean, _matmul((centred * weights[:, None]).T, centred)


def frechet(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"],
    *,
    a: Real[ArrayLike, " n"] | None = None,
    b: Real[ArrayLike, " m"] | None = None,
) -> Float[Array, ""]:
    """Squared 2-Wasserstein distance between the Gaussians fitted to two samples.

    Heuristic: no finite-sample guarantee; as an estimate for populations it is biased
    upwards in small samples.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        a: shape (n,), weights of x; None for uniform.
        b: shape (m,), weights of y.

    Returns:
        scalar, `bures` of means and population covariances (division by n).

    Raises:
        ValueError: wrong shapes.

    Transformations: jit, vmap, reverse mode.
    Cost: O((n + m) d^2 + d^3).

    Source: Heusel et al., "GANs trained by a two time-scale update rule", 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x = jnp.array([[0.0], [2.0]])
        >>> ot.frechet(x, 2 * x)
        Array(2., dtype=float32)
    """
    x, y = prepare_points(x, y)
    weights_a = balance("a", prepare_weights("a", a, x.shape[0], x.dtype))
    weights_b = balance("b", prepare_weights("b", b, y.shape[0], x.dtype))
    centre = find_centre(x, y, weights_a, weights_b)
    mean_x, cov_x = moments(x - centre, weights_a)
    mean_y, cov_y = moments(y - centre, weights_b)
    return jnp.sum((mean_x - mean_y) ** 2) + bures_squared(cov_x, cov_y)

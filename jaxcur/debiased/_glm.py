"""Debiased generalised linear models beyond the three common ones."""

import functools
from typing import Literal, Unpack

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import expit
from jax.scipy.stats import norm
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import check_choice
from jaxcur.debiased._models import Index
from jaxcur.debiased._options import Options
from jaxcur.debiased._regression import regression
from jaxcur.debiased._result import EstimateResult

Family = Literal["gaussian", "binomial", "poisson", "gamma", "negative_binomial"]
Link = Literal["identity", "log", "logit", "probit", "cloglog"]

_MEANS = {
    "identity": lambda eta: eta,
    "log": jnp.exp,
    "logit": expit,
    "probit": norm.cdf,
    "cloglog": lambda eta: -jnp.expm1(-jnp.exp(eta)),
}
_DEFAULT_LINK: dict[str, str] = {
    "gaussian": "identity",
    "binomial": "logit",
    "poisson": "log",
    "gamma": "log",
    "negative_binomial": "log",
}
# Links under which x (y - mu) is the likelihood score already.
_CANONICAL = {("gaussian", "identity"), ("binomial", "logit"), ("poisson", "log")}


def _variance(family: str, dispersion: float, mu: Array) -> Array:
    if family == "binomial":
        return mu * (1 - mu)
    if family == "poisson":
        return mu
    if family == "gamma":
        return mu * mu
    if family == "negative_binomial":
        return mu + dispersion * mu * mu
    return jnp.ones_like(mu)


@functools.lru_cache(maxsize=64)
def glm_model(family: str, link: str, dispersion: float = 1.0) -> Index:
    """The estimating equation  x (y - mu) mu' / V(mu)."""
    mean = _MEANS[link]

    def residual(eta: Array, y: Array) -> Array:
        mu, slope = jax.jvp(mean, (eta,), (jnp.ones_like(eta),))
        if (family, link) in _CANONICAL:
            return y - mu
        return (y - mu) * slope / _variance(family, dispersion, mu)

    return Index(residual, is_affine=(family, link) == ("gaussian", "identity"))


def glm(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, " N"],
    *,
    labeled: Bool[ArrayLike, " N"],
    family: Family,
    link: Link | None = None,
    dispersion: float = 1.0,
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, " N"] | None = None,
    offset: Real[ArrayLike, " N"] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased generalised linear model.

    Moments  x (y - mu(eta)) mu'(eta) / V(mu)  with  eta = x'b + offset.  Only the mean
    model has to be right; the covariance is robust.

    Guarantee: as `ols`, asymptotically. Verified by: `jaxcur verify debiased/gamma`.

    Args:
        X: shape (N, p), with its own column of ones.
        y: shape (N,).
        labeled: shape (N,), True where every predicted variable has its gold label.
        family: "gaussian", "binomial", "poisson", "gamma" or "negative_binomial".
        link: "identity", "log", "logit", "probit" or "cloglog"; None for the usual one
            of the family ("log" for gamma and negative binomial).
        dispersion: alpha in the negative binomial variance mu + alpha mu^2. Static.
        X_predicted: shape (N, p) or None, as in `ols`.
        y_predicted: shape (N,) or None.
        offset: shape (N,), known for all rows; None for 0.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult.

    Raises:
        ValueError: as `ols`; an unknown family or link.

    Transformations: jit, vmap. Rows shard over `axis_name`.
    Cost: O(N p^2) per Newton step.

    Source: as `mean`; McCullagh and Nelder, "Generalized Linear Models", 1989.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> y = jnp.array([1.0, 3.0, 2.0, 2.0] * 10)
        >>> result = debiased.glm(jnp.ones((40, 1)), y, y_predicted=y, family="gamma",
        ...                       labeled=jnp.arange(40) < 12)
        >>> round(float(jnp.exp(result.estimate[0])), 3)
        2.0
    """
    check_choice("family", family, tuple(_DEFAULT_LINK))
    if link is not None:
        check_choice("link", link, tuple(_MEANS))
    model = glm_model(family, link or _DEFAULT_LINK[family], float(dispersion))
    return regression(
        model,
        X,
        y,
        X_predicted=X_predicted,
        y_predicted=y_predicted,
        offset=offset,
        labeled=labeled,
        **options,
    )

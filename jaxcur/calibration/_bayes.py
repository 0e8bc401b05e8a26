"""Reliability curves with posterior bands: monotone, or a Gaussian process."""

import dataclasses
import warnings
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logit, xlog1py, xlogy
from jax.typing import ArrayLike
from jaxtyping import Integer, Real

from jaxcur._base import (
    check_choice,
    check_run_length,
    check_unit_interval,
    register_dataclass,
    trouble,
)
from jaxcur.calibration._inputs import check_binary, check_probabilities
from jaxcur.solvers import nuts, split_r_hat

CurveKind = Literal["monotone", "gp"]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BayesianReliability:
    """Posterior draws of a reliability curve; the first two axes are chains, samples.

    Attributes:
        points: shape (q,), forecasts at which the curve is reported.
        curve: shape (c, s, q), draws of P(Y = 1 | forecast).
        error: shape (c, s), draws of the mean of |P(Y = 1 | forecast) - forecast| over
            the rows.
        r_hat: scalar, largest split potential scale reduction of the curve and the
            error; above 1.05 the chains disagree.
        num_divergences: scalar int.
    """

    points: Array
    curve: Array
    error: Array
    r_hat: Array
    num_divergences: Array

    @property
    def mean(self) -> Array:
        """Posterior mean of the curve, (q,)."""
        return jnp.mean(self.curve, axis=(0, 1))

    def band(self, confidence_level: float | Array = 0.95) -> Array:
        """Equal-tailed credible intervals of the curve at each point, (q, 2)."""
        return _interval(self.curve, confidence_level)

    def error_interval(self, confidence_level: float | Array = 0.95) -> Array:
        """Equal-tailed credible interval of the error, (2,)."""
        return _interval(self.error[..., None], confidence_level)[0]


def _interval(draws: Array, confidence_level: Any) -> Array:
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    tail = (1 - jnp.asarray(confidence_level, draws.dtype)) / 2
    flat = draws.reshape(-1, draws.shape[-1])
    ends = [jnp.quantile(flat, q, axis=0) for q in (tail, 1 - tail)]
    return jnp.stack(ends, axis=-1)


def _hats(f: Array, num_knots: int) -> Array:
    """Weights (n, num_knots) of linear interpolation between equal knots."""
    place = f[:, None] * (num_knots - 1) - jnp.arange(num_knots, dtype=f.dtype)
    return jnp.maximum(1 - jnp.abs(place), 0)


def _safe_logit(f: Array) -> Array:
    epsilon = jnp.finfo(f.dtype).eps
    return logit(jnp.clip(f, epsilon, 1 - epsilon))


def reliability_model(
    f: Array, y: Array, weights: Array, *, kind: CurveKind, num_knots: int
) -> None:
    """The joint model, in numpyro; its sites give the curve through `_curve`."""
    import numpyro
    from numpyro import distributions as dist

    dtype = f.dtype
    if kind == "monotone":
        # Mean increments of an almost straight line: half a step at either end.
        concentration = jnp.ones(num_knots + 1, dtype).at[jnp.array([0, -1])].set(0.5)
        sites = {
            "increments": numpyro.sample("increments", dist.Dirichlet(concentration))
        }
    else:
        one = jnp.ones((), dtype)
        sites = {
            "shift": numpyro.sample("shift", dist.Normal(0 * one, one)),
            "tilt": numpyro.sample("tilt", dist.Normal(0 * one, 0.5 * one)),
            "size": numpyro.sample("size", dist.HalfNormal(0.5 * one)),
            "wave": numpyro.sample(
                "wave", dist.Normal(jnp.zeros(num_knots, dtype), 1).to_event(1)
            ),
        }
    p = _curve(sites, f, kind, num_knots)
    numpyro.factor("rows", jnp.sum(weights * (xlogy(y, p) + xlog1py(1 - y, -p))))


def _curve(sites: dict[str, Any], f: Array, kind: str, num_knots: int) -> Array:
    """The curve at forecasts f, kept off 0 and 1 by one rounding unit."""
    dtype = f.dtype
    epsilon = jnp.finfo(dtype).eps
    hats = _hats(f, num_knots)
    if kind == "monotone":
        values = jnp.cumsum(sites["increments"])[:-1]
        p = jnp.matmul(hats, values, precision="highest")
        return jnp.clip(p, epsilon, 1 - epsilon)
    away = jnp.linspace(0, 1, num_knots, dtype=dtype)
    away = (away[:, None] - away[None, :]) / 0.2
    kernel = jnp.exp(-(away**2) / 2) + 1e-4 * jnp.eye(num_knots, dtype=dtype)
    wave = sites["size"] * jnp.matmul(
        jnp.linalg.cholesky(kernel), sites["wave"], precision="highest"
    )
    eta = sites["shift"] + (1 + sites["tilt"]) * _safe_logit(f)
    eta += jnp.matmul(hats, wave, precision="highest")
    return jnp.clip(jax.nn.sigmoid(eta), epsilon, 1 - epsilon)


def bayesian_reliability(
    probs: Real[ArrayLike, " n"],
    labels: Integer[ArrayLike, " n"],
    *,
    kind: CurveKind = "monotone",
    num_knots: int = 16,
    points: Real[ArrayLike, " q"] | None = None,
    num_warmup: int = 500,
    num_samples: int = 500,
    num_chains: int = 4,
    key: Array,
    weights: Real[ArrayLike, " n"] | None = None,
) -> BayesianReliability:
    """Posterior of the curve  P(Y = 1 | forecast)  and of the calibration error.

    "monotone" joins `num_knots` equally spaced values by lines; their increments have a
    Dirichlet prior around the identity. "gp" adds, on the logit scale, a shift, a tilt
    and a smooth Gaussian process to the forecast, and may fall.

    Guarantee: exact posterior up to the error of the sampler, for independent labels
    given the forecasts and the stated prior. Bands are credible, not confidence bands.
    Verified by: tests/unit/calibration/test_bayes.py (coverage under the prior).

    Args:
        probs: shape (n,), in [0, 1].
        labels: shape (n,), 0 or 1.
        kind: "monotone" or "gp". Static.
        num_knots: at least 2. Static.
        points: shape (q,), where the curve is reported; 101 equal steps when missing.
        num_warmup: steps of adaptation per chain. Static.
        num_samples: draws per chain. Static.
        num_chains: chains. Static.
        key: PRNG key.
        weights: shape (n,), powers of the rows' likelihoods.

    Returns:
        BayesianReliability.

    Raises:
        ValueError: what the metrics raise for the rows; fewer than two knots; a number
            of draws that cannot be.

    Warns:
        UserWarning: divergent transitions, or chains that disagree.

    Transformations: jit and vmap with the sizes fixed.
    Cost: O(n num_knots) per gradient, some ten gradients per draw.

    Source: Bayesian isotonic regression with Dirichlet increments; NumPyro.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.tile(jnp.array([0.1, 0.5, 0.9]), 40)
        >>> labels = jnp.arange(120) % 3 == 2
        >>> found = calibration.bayesian_reliability(
        ...     probs, labels, key=jax.random.key(0),
        ...     num_warmup=100, num_samples=100, num_chains=2)
        >>> found.band().shape, bool(found.error_interval()[0] > 0.05)
        ((101, 2), True)
    """
    check_choice("kind", kind, ("monotone", "gp"))
    check_run_length(num_warmup, num_samples, num_chains)
    if not isinstance(num_knots, (int, np.integer)) or num_knots < 2:
        raise ValueError(
            f"`num_knots` must be an integer of at least 2, got {num_knots!r}"
        )
    f, y, w = check_binary(probs, labels, weights)
    if points is None:
        at = jnp.linspace(0, 1, 101, dtype=f.dtype)
    else:
        at = check_probabilities("points", points, shape="(q,)").astype(f.dtype)
    result = _sample(
        f,
        y,
        w,
        at,
        key,
        kind=kind,
        num_knots=int(num_knots),
        num_warmup=int(num_warmup),
        num_samples=int(num_samples),
        num_chains=int(num_chains),
    )
    num_draws = int(num_chains) * int(num_samples)
    for text in trouble(result.num_divergences, result.r_hat, num_draws):
        warnings.warn(text, UserWarning, stacklevel=2)
    return result


@partial(
    jax.jit,
    static_argnames=("kind", "num_knots", "num_warmup", "num_samples", "num_chains"),
)
def _sample(
    f: Array,
    y: Array,
    w: Array,
    points: Array,
    key: Array,
    *,
    kind: CurveKind,
    num_knots: int,
    num_warmup: int,
    num_samples: int,
    num_chains: int,
) -> BayesianReliability:
    from numpyro.infer.util import constrain_fn, potential_energy

    dtype = f.dtype
    fixed = {"kind": kind, "num_knots": num_knots}
    arguments = (f, y, w)

    def start(own: Array) -> dict[str, Array]:
        near = 1e-2 * jax.random.normal(own, (num_knots,), dtype)
        if kind == "monotone":
            return {"increments": near}
        zero = jnp.zeros((), dtype)
        return {"shift": zero, "tilt": zero, "size": zero - 1, "wave": near}

    draws, num_divergences = nuts(
        lambda sites: potential_energy(reliability_model, arguments, fixed, sites),
        start,
        key=key,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        target_accept=0.9,
    )

    def describe(sites: dict[str, Array]) -> tuple[Array, Array]:
        found = constrain_fn(reliability_model, arguments, fixed, sites)
        gap = jnp.abs(_curve(found, f, kind, num_knots) - f)
        error = jnp.sum(w * gap) / jnp.sum(w)
        return _curve(found, points, kind, num_knots), error

    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    curve, error = jax.lax.map(describe, flat, batch_size=16)
    curve = curve.reshape(num_chains, num_samples, -1)
    error = error.reshape(num_chains, num_samples)
    spread = jnp.std(curve, axis=(0, 1))
    # Where the curve is pinned to the same value in every draw there is nothing to mix.
    r_hat = jnp.where(spread > 1e-6, split_r_hat(curve), 1)
    worst = jnp.maximum(jnp.max(r_hat), jnp.max(split_r_hat(error[..., None])))
    return BayesianReliability(points, curve, error, worst, num_divergences)

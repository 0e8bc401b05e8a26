"""Bayesian ordinal regression that shrinks towards proportional odds."""

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import (
    check_choice,
    check_run_length,
    check_unit_interval,
    is_concrete,
    register_dataclass,
    trouble,
)
from jaxcur.ordinal._design import linear_predictor, standardise
from jaxcur.ordinal._families import class_probabilities, row_terms, start_intercepts
from jaxcur.ordinal._inputs import (
    check_classes_present,
    check_features,
    check_key,
    check_options,
    check_response,
    check_weights,
)
from jaxcur.ordinal._penalties import Presto, check_nonnegative
from jaxcur.solvers import nuts, split_r_hat

PRIORS = ("laplace", "horseshoe")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BayesianOrdinalResult:
    """Posterior draws; the first two axes are chains and samples.

    Attributes:
        intercepts: shape (c, s, k-1), on the original scale.
        coefficients: shape (c, s, p, k-1), on the original scale.
        blocks: shape (c, s, k-1, p), differences of coefficients on the standardised
            scale; those of the second row and below are zero for proportional odds.
        rare_probs: shape (c, s, q), probability of the last class at `points`.
        row_logliks: shape (c, s, n), log-likelihood of every row, for comparing models.
        r_hat: scalar, largest split potential scale reduction of intercepts and blocks;
            above 1.05 the chains disagree.
        num_divergences: scalar int.
        family: static.
        link: static.
    """

    intercepts: Array
    coefficients: Array
    blocks: Array
    rare_probs: Array
    row_logliks: Array
    r_hat: Array
    num_divergences: Array
    family: str = dataclasses.field(metadata={"static": True})
    link: str = dataclasses.field(metadata={"static": True})

    def interval(self, confidence_level: float | Array = 0.95) -> Array:
        """Equal-tailed credible intervals of `rare_probs`, shape (q, 2)."""
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        tail = (1 - jnp.asarray(confidence_level, self.rare_probs.dtype)) / 2
        flat = self.rare_probs.reshape(-1, self.rare_probs.shape[-1])
        ends = [jnp.quantile(flat, q, axis=0) for q in (tail, 1 - tail)]
        return jnp.stack(ends, axis=-1)

    def prob_parallel(self, width: float | Array = 0.1) -> Array:
        """Posterior probability that a feature keeps proportional odds, shape (p,).

        That is, that no coefficient differs from its neighbour's by more than `width`
        per standard deviation of the feature.
        """
        steps = jnp.abs(self.blocks[..., 1:, :])
        return jnp.mean(jnp.all(steps <= width, axis=-2), axis=(0, 1))


class Prior(NamedTuple):
    """Scales of the prior.

    Attributes:
        common: scalar, scale of the coefficients of the first boundary.
        difference: scalar, scale of the differences: of the Laplace law, or of the
            half-Cauchy law of the horseshoe's global scale.
        slab: scalar, what a difference that escapes the horseshoe is drawn from.
    """

    common: Array
    difference: Array
    slab: Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def row_logliks(family: str, link: str, eta: Array, y: Array) -> Array:
    """Log-likelihood of every row, (n,), with the derivative that is safe in tails."""
    return row_terms(family, link, eta, y).log_prob


@row_logliks.defjvp
def _row_logliks_jvp(family, link, primals, tangents):
    eta, y = primals
    terms = row_terms(family, link, eta, y)
    return terms.log_prob, jnp.sum(terms.gradient * tangents[0], axis=1)


def ordinal_model(
    columns: Array,
    y: Array,
    weights: Array,
    prior: Prior,
    *,
    family: str,
    link: str,
    num_classes: int,
    how: str,
) -> None:
    """The joint model, in numpyro.

    Class probabilities at the mean of the features are Dirichlet(1, ..., 1); blocks
    have Laplace or horseshoe priors. Parameters at which some row would have a
    negative probability of some class are outside the support.

    Args:
        columns: (n, p), standardised features.
        y: (n,), classes.
        weights: (n,), 0 for a row that is not there.
        prior: scales.
        family: of `fit`.
        link: of `fit`.
        num_classes: K.
        how: one of `PRIORS`.
    """
    import numpyro
    from numpyro import distributions as dist

    m, p = num_classes - 1, columns.shape[1]
    frequencies = numpyro.sample("frequencies", dist.Dirichlet(jnp.ones(num_classes)))
    common = numpyro.sample("common", dist.Laplace().expand([p]).to_event(1))
    blocks = [jnp.asarray(common)[None] * prior.common]
    if m > 1 and how == "laplace":
        law = dist.Laplace().expand([m - 1, p]).to_event(2)
        step = numpyro.sample("step", law)
        blocks.append(jnp.asarray(step) * prior.difference)
    elif m > 1:
        overall = numpyro.sample("overall", dist.HalfCauchy(1.0))
        law = dist.HalfCauchy(1.0).expand([m - 1, p]).to_event(2)
        local = numpyro.sample("local", law)
        law = dist.Normal().expand([m - 1, p]).to_event(2)
        step = numpyro.sample("step", law)
        scale = prior.difference * jnp.asarray(overall) * jnp.asarray(local)
        scale = scale * prior.slab / jnp.sqrt(prior.slab**2 + scale**2)
        blocks.append(jnp.asarray(step) * scale)
    alpha = start_intercepts(family, link, jnp.asarray(frequencies))
    theta = jnp.concatenate([alpha, jnp.concatenate(blocks).reshape(-1)])
    numpyro.deterministic("theta", theta)
    numpyro.factor("rows", log_likelihood(family, link, columns, y, weights, theta))


def log_likelihood(
    family: str, link: str, columns: Array, y: Array, weights: Array, theta: Array
) -> Array:
    """Weighted sum over rows; -inf where a probability of any class is negative."""
    m = theta.shape[0] // (columns.shape[1] + 1)
    matrix = Presto().blocks(m, columns.shape[1], columns.dtype).matrix
    eta, _ = linear_predictor(columns, theta, matrix)
    rows = row_logliks(family, link, eta, y)
    total = jnp.sum(jnp.where(weights > 0, weights * rows, 0))
    if family != "cumulative" or m == 1:
        return total
    crosses = jnp.any(eta[:, 1:] <= eta[:, :-1], axis=1) & (weights > 0)
    return jnp.where(jnp.any(crosses), -jnp.inf, total)


def bayesian_model(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    prior: str = "horseshoe",
    common_scale: Real[ArrayLike, ""] = 1.0,
    difference_scale: Real[ArrayLike, ""] = 0.1,
    slab_scale: Real[ArrayLike, ""] = 1.0,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    points: Real[ArrayLike, "q p"] | None = None,
    num_warmup: int = 500,
    num_samples: int = 500,
    num_chains: int = 2,
    key: Any = None,
) -> BayesianOrdinalResult:
    """Posterior of an ordinal regression whose boundaries want to be parallel.

    On standardised columns, with  psi_1 = beta_1,  psi_k = beta_k - beta_{k-1}:

        class probabilities at the mean of x  ~  Dirichlet(1, ..., 1),
        psi_1j  ~  Laplace(0, common_scale),
        psi_kj  ~  Laplace(0, difference_scale)                       "laplace"
        psi_kj  ~  Normal(0, s^2), s = (difference_scale t l_kj), at most about
                   slab_scale; t, l_kj ~ half-Cauchy(1)               "horseshoe"

    With "laplace" the log-density of psi is, up to a constant, minus the sum of weights
    times the objective of `fit` at  regularization = 1 / (n difference_scale)  with
    `Presto(first=difference_scale / common_scale)`: the penalised fit is where the
    posterior of psi is highest, given the intercepts. The horseshoe shrinks small
    differences further, and leaves large ones alone.

    Parameters at which a class has a negative probability in some row have posterior
    density zero. In the cumulative family that cuts the support by flat walls; where
    the data press against one, transitions are lost and counted as divergences. The
    families `sratio`, `cratio` and `acat` have no walls.

    Guarantee: if the model and the prior are right, intervals are calibrated on average
    over the prior. No guarantee for one fixed truth. Verified by: simulation-based
    calibration, in tests/unit/ordinal/test_bayes.py.

    Args:
        X: shape (n, p).
        y: shape (n,), classes 0..num_classes-1. Each must occur.
        num_classes: number of classes. Static.
        prior: "horseshoe" or "laplace". Static.
        common_scale: positive.
        difference_scale: positive.
        slab_scale: positive, for the horseshoe.
        family: as in `fit`. Static.
        link: as in `fit`. Static.
        weights: shape (n,), numbers of rows that a row stands for.
        points: shape (q, p), where the probability of the last class is wanted; None
            for the rows of `X`.
        num_warmup: steps of adaptation. Static.
        num_samples: draws kept per chain, at least 4. Static.
        num_chains: run together in one program. Static.
        key: PRNG key.

    Returns:
        `BayesianOrdinalResult`; a warning is issued where chains diverge or disagree.

    Raises:
        ValueError: as `fit`; a scale that is not positive; no key.

    Transformations: jit, vmap.
    Cost: some ten to a hundred gradients per draw, each O(n p k); seconds to compile.

    Source: Faletto and Bien 2023; Piironen and Vehtari, "Sparsity information and
    regularization in the horseshoe and other shrinkage priors", EJS 2017.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jax.random.normal(jax.random.key(0), (90, 2))
        >>> noise = jax.random.logistic(jax.random.key(1), (90,))
        >>> y = jnp.digitize(x[:, 0] + noise, jnp.array([0.0, 2.5]))
        >>> result = ordinal.bayesian_model(
        ...     x, y, num_classes=3, family="acat", points=jnp.array([[1.0, 0.0]]),
        ...     num_warmup=200, num_samples=200, key=jax.random.key(2))
        >>> low, high = result.interval()[0]
        >>> bool(0 < low < high < 1)
        True
    """
    check_choice("prior", prior, PRIORS)
    check_options(family, link, "own", 1)
    check_run_length(num_warmup, num_samples, num_chains)
    features = check_features(X)
    n, p = features.shape
    response = check_response(y, num_classes, n)
    mass = check_weights(weights, n, features.dtype)
    check_classes_present(response, mass, num_classes)
    where = features if points is None else check_features(points)
    if where.shape[1] != p:
        raise ValueError(f"`points` must have {p} columns like `X`, got {where.shape}")
    scales = []
    for name, value in (
        ("common_scale", common_scale),
        ("difference_scale", difference_scale),
        ("slab_scale", slab_scale),
    ):
        check_nonnegative(name, value)
        if is_concrete(value) and not float(value) > 0:  # pyright: ignore
            raise ValueError(f"`{name}` must be positive, got {value}")
        scales.append(jnp.asarray(value, features.dtype))
    if key is None:
        raise ValueError("sampling is randomised: pass `key=jax.random.key(...)`")
    check_key(key)
    result = _sample(
        features,
        response,
        mass,
        where.astype(features.dtype),
        Prior(*scales),
        key,
        family=family,
        link=link,
        num_classes=int(num_classes),
        how=prior,
        num_warmup=int(num_warmup),
        num_samples=int(num_samples),
        num_chains=int(num_chains),
    )
    num_draws = int(num_chains) * int(num_samples)
    for text in trouble(result.num_divergences, result.r_hat, num_draws):
        if family == "cumulative" and num_classes > 2 and "diverge" in text:
            text += (
                "; boundaries that cross end the support, family='acat' has no walls"
            )
        warnings.warn(text, UserWarning, stacklevel=2)
    return result


@jax.jit(
    static_argnames=(
        "family",
        "link",
        "num_classes",
        "how",
        "num_warmup",
        "num_samples",
        "num_chains",
    )
)
def _sample(
    features: Array,
    y: Array,
    weights: Array,
    points: Array,
    prior: Prior,
    key: Array,
    *,
    family: str,
    link: str,
    num_classes: int,
    how: str,
    num_warmup: int,
    num_samples: int,
    num_chains: int,
) -> BayesianOrdinalResult:
    from numpyro.infer.util import constrain_fn, potential_energy

    m, p = num_classes - 1, features.shape[1]
    dtype = features.dtype
    scaled = standardise(features, weights, True)
    arguments = (scaled.columns, y, weights, prior)
    fixed = {"family": family, "link": link, "num_classes": num_classes, "how": how}

    def start(own: Array) -> dict[str, Array]:
        """Small effects around the observed frequencies, where nothing crosses."""
        counts = jnp.zeros(num_classes, dtype).at[y].add(weights)
        frequencies = (counts + 0.5) / (jnp.sum(counts) + 0.5 * num_classes)
        sites = {
            "frequencies": _from_simplex(frequencies),
            "common": 1e-2 * jax.random.normal(own, (p,), dtype),
        }
        if m > 1:
            sites["step"] = jnp.zeros((m - 1, p), dtype)
            if how == "horseshoe":
                sites["overall"] = jnp.zeros((), dtype)
                sites["local"] = jnp.zeros((m - 1, p), dtype)
        return sites

    draws, num_divergences = nuts(
        lambda sites: potential_energy(ordinal_model, arguments, fixed, sites),
        start,
        key=key,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        target_accept=0.9,
    )

    def describe(sites: dict[str, Array]) -> tuple[Array, ...]:
        found = constrain_fn(
            ordinal_model, arguments, fixed, sites, return_deterministic=True
        )
        theta = found["theta"]
        matrix = Presto().blocks(m, p, dtype).matrix
        eta, psi = linear_predictor(scaled.columns, theta, matrix)
        beta = jnp.cumsum(psi, axis=0) / scaled.scale
        intercepts = theta[:m] - beta @ scaled.mean
        rare = class_probabilities(family, link, intercepts + points @ beta.T)[:, -1]
        return intercepts, beta.T, psi, rare, row_logliks(family, link, eta, y)

    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    parts = jax.lax.map(describe, flat, batch_size=16)
    intercepts, coefficients, blocks, rare, rows = (
        part.reshape(num_chains, num_samples, *part.shape[1:]) for part in parts
    )
    r_hat = jnp.maximum(
        jnp.max(split_r_hat(intercepts)),
        # A constant column's draws come from the prior, and mix like any other.
        jnp.max(split_r_hat(blocks)),
    )
    return BayesianOrdinalResult(
        intercepts,
        coefficients,
        blocks,
        rare,
        rows,
        r_hat,
        num_divergences,
        family,
        link,
    )


def _from_simplex(frequencies: Array) -> Array:
    """Unconstrained value at which numpyro's simplex transform gives `frequencies`."""
    from numpyro import distributions as dist

    return dist.biject_to(dist.constraints.simplex)._inverse(frequencies)

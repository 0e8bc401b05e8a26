"""A Bayesian measurement model of gold and machine labels."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import log_sigmoid
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_run_length,
    check_same_length,
    check_unit_interval,
    is_concrete,
    register_dataclass,
    trouble,
)
from jaxcur.debiased._prepare import warn
from jaxcur.solvers import nuts, split_r_hat


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BayesianResult:
    """Posterior draws of regression coefficients.

    Attributes:
        draws: shape (num_chains, num_samples, p), of the coefficients of `X`.
        measurement: shape (num_chains, num_samples, 2, k), coefficients of the logit of
            "the machine says 1" for true class 0 (first) and 1. The first of the k is
            the constant, at the mean of the covariates; with `differential` one per
            standardised column of `X` follows, a mere draw from the prior for a
            constant column.
        r_hat: shape (p,), split potential scale reduction; above 1.05 the chains
            disagree.
        num_divergences: scalar int; any is a warning.
    """

    draws: Array
    measurement: Array
    r_hat: Array
    num_divergences: Array

    @property
    def estimate(self) -> Array:
        """Posterior means, shape (p,)."""
        return jnp.mean(self.draws, axis=(-3, -2))

    @property
    def std_error(self) -> Array:
        """Posterior standard deviations, shape (p,)."""
        return jnp.std(self.draws, axis=(-3, -2), ddof=1)

    def interval(self, confidence_level: float | Array = 0.95) -> Array:
        """Equal-tailed credible intervals, shape (p, 2)."""
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        tail = (1 - jnp.asarray(confidence_level, self.draws.dtype)) / 2
        *batch, chains, samples, p = self.draws.shape
        flat = self.draws.reshape(*batch, chains * samples, p)
        ends = [jnp.quantile(flat, q, axis=-2) for q in (tail, 1 - tail)]
        return jnp.stack(ends, axis=-1)


def bayesian_measurement_model(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, " N"],
    *,
    y_predicted: Real[ArrayLike, " N"],
    labeled: Bool[ArrayLike, " N"],
    model: Literal["logistic"] = "logistic",
    differential: bool = False,
    prior_scale: float = 2.5,
    num_warmup: int = 500,
    num_samples: int = 500,
    num_chains: int = 2,
    key: Any,
) -> BayesianResult:
    """Posterior of a logistic regression from gold labels and a model of the machine.

        y_i | x_i ~ Bernoulli(expit(x_i'b)),
        yhat_i | y_i = c, x_i ~ Bernoulli(expit(z_i'a_c)),  c = 0, 1,

    with z = 1, or z = (1, centred covariates) if `differential`. The unknown label of a
    row without one is summed out, two terms a row. Coefficients of standardised
    covariates, b and a alike, have independent Normal(0, prior_scale^2) priors.

    Where the debiased estimators know how rows came by their labels and nothing of the
    machine, this knows nothing of how, and assumes a model of the machine. When that is
    right its intervals are shorter; when it is not, for instance when the error depends
    on covariates and `differential` is False, they are confidently wrong, however many
    rows there are.

    Guarantee: if both equations are right and whether a row was labelled depends on
    covariates and machine labels only, intervals are calibrated in the usual Bayesian
    sense: on average over the prior, and asymptotically for every truth. No guarantee
    if either is wrong. Verified by: tests/unit/debiased/test_bayes.py: the density, and
    the posterior with all rows labelled.

    Args:
        X: shape (N, p), with its own column of ones; known for all rows.
        y: shape (N,), 0 or 1 where labelled, anything elsewhere.
        y_predicted: shape (N,), classes 0 or 1, not probabilities.
        labeled: shape (N,), True where the row has its gold label.
        model: "logistic".
        differential: whether errors of the machine may depend on the covariates.
        prior_scale: positive standard deviation of the priors.
        num_warmup: steps of adaptation, at least 1.
        num_samples: draws kept per chain, at least 4.
        num_chains: run together in one program.
        key: PRNG key.

    Returns:
        BayesianResult. A warning is issued where chains diverge or disagree.

    Raises:
        ValueError: labels that are not 0 or 1, no labelled rows, covariates that are
            not finite, shapes that disagree.

    Transformations: jit (numbers of draws static), vmap; bad values go unnoticed there.
    Cost: O(N p) per gradient, some ten gradients a draw; several seconds to compile,
    once per shape and number of draws.

    Source: Carroll, Ruppert, Stefanski and Crainiceanu, "Measurement Error in Nonlinear
    Models", 2006, chapters 9 and 15; Hoffman and Gelman, "The No-U-Turn sampler", JMLR
    2014.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> x = jax.random.normal(keys[0], (400,))
        >>> y = jax.random.bernoulli(keys[1], jax.nn.sigmoid(x))
        >>> machine = y ^ jax.random.bernoulli(keys[2], 0.1, (400,))
        >>> result = debiased.bayesian_measurement_model(
        ...     jnp.stack([jnp.ones(400), x], axis=1), y, y_predicted=machine,
        ...     labeled=jnp.arange(400) < 100, key=keys[3],
        ...     num_warmup=200, num_samples=200)
        >>> low, high = result.interval()[1]
        >>> bool(low < 1.0 < high)
        True
    """
    check_choice("model", model, ("logistic",))
    data = _check(X, y, y_predicted, labeled)
    if is_concrete(prior_scale) and not float(prior_scale) > 0:
        raise ValueError(f"`prior_scale` must be positive, got {prior_scale}")
    check_run_length(num_warmup, num_samples, num_chains)
    if key is None:
        raise ValueError("sampling is randomised: pass `key=jax.random.key(...)`")
    result = _sample(
        *data,
        jnp.asarray(prior_scale, data[0].dtype),
        key,
        differential=bool(differential),
        num_warmup=int(num_warmup),
        num_samples=int(num_samples),
        num_chains=int(num_chains),
    )
    _review(result)
    return result


@jax.jit(static_argnames=("differential", "num_warmup", "num_samples", "num_chains"))
def _sample(
    x: Array,
    y: Array,
    guess: Array,
    known: Array,
    prior_scale: Array,
    key: Array,
    *,
    differential: bool,
    num_warmup: int,
    num_samples: int,
    num_chains: int,
) -> BayesianResult:
    """All chains in one program: adaptation and sampling are one loop."""
    from numpyro.infer.util import potential_energy

    back, constant = _standardisation(x)
    scaled = jnp.matmul(x, back, precision="highest")
    z = jnp.ones_like(scaled[:, :1])
    if differential:
        z = jnp.concatenate([z, jnp.where(constant, 0, scaled)], axis=1)
    arguments = (scaled, jnp.where(known, y, 0), guess, known, z, prior_scale)
    draws, num_divergences = nuts(
        lambda sites: potential_energy(measurement_model, arguments, {}, sites),
        lambda own: _start(own, y, guess, known, scaled.shape[1], z.shape[1]),
        key=key,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
    )
    beta = jnp.matmul(draws["beta"], back.T, precision="highest")
    return BayesianResult(
        draws=beta,
        measurement=draws["alpha"],
        r_hat=split_r_hat(beta),
        num_divergences=num_divergences,
    )


def measurement_model(
    x: Array, y: Array, guess: Array, known: Array, z: Array, prior_scale: Array
) -> None:
    """The joint model, in numpyro; `y` is read where `known` only.

    Args:
        x: (N, p), standardised covariates.
        y: (N,), 0 or 1.
        guess: (N,), machine label.
        known: (N,), bool.
        z: (N, k), covariates of the machine's error.
        prior_scale: scalar.
    """
    import numpyro
    from numpyro import distributions

    def normal(*shape: int) -> Any:
        spread = distributions.Normal(0.0, prior_scale)
        return spread.expand(shape).to_event(len(shape))

    beta = numpyro.sample("beta", normal(x.shape[1]))
    alpha = numpyro.sample("alpha", normal(2, z.shape[1]))
    rows = row_log_density(jnp.asarray(beta), jnp.asarray(alpha), x, y, guess, known, z)
    numpyro.factor("rows", jnp.sum(rows))


def row_log_density(
    beta: Array,
    alpha: Array,
    x: Array,
    y: Array,
    guess: Array,
    known: Array,
    z: Array,
) -> Array:
    """Log density of every row's labels, the unknown ones summed out, (N,)."""
    eta = jnp.matmul(x, beta, precision="highest")
    score = jnp.matmul(z, alpha.T, precision="highest")
    sign = (2 * guess - 1)[:, None]
    # Column c: the label is c and the machine says what it said.
    joint = jnp.stack([log_sigmoid(-eta), log_sigmoid(eta)], axis=1)
    joint = joint + log_sigmoid(sign * score)
    own = jnp.where(y > 0.5, joint[:, 1], joint[:, 0])
    return jnp.where(known, own, jax.nn.logsumexp(joint, axis=1))


def _standardisation(x: Array) -> tuple[Array, Array]:
    """M such that columns of x M have unit spread, and which columns are constant.

    Columns are centred if x has a constant one, which becomes 1.
    """
    spread, level = jnp.std(x, axis=0), jnp.max(jnp.abs(x), axis=0)
    constant = spread <= 8 * jnp.finfo(x.dtype).eps * level
    scale = jnp.where(constant, jnp.where(level > 0, x[0], 1), spread)
    place = jnp.argmax(constant)
    centre = jnp.where(constant, 0, jnp.mean(x, axis=0)) / scale
    centre = jnp.where(jnp.any(constant), centre / scale[place], 0)
    return jnp.diag(1 / scale).at[place].add(-centre), constant


def _start(
    key: Array, y: Array, guess: Array, known: Array, p: int, k: int
) -> dict[str, Array]:
    """A starting point near the machine's error rates among labelled rows.

    Far from them the two classes may change places, and a chain may not come back.
    """
    rates = []
    for c in (0, 1):
        own = jnp.where(known & (y == c), 1.0, 0.0).astype(y.dtype)
        said = jnp.sum(own * guess)
        rates.append(jnp.log((said + 0.5) / (jnp.sum(own) - said + 0.5)))
    key_beta, key_alpha = jax.random.split(key)
    alpha = 0.2 * jax.random.normal(key_alpha, (2, k), y.dtype)
    return {
        "beta": 0.2 * jax.random.normal(key_beta, (p,), y.dtype),
        "alpha": alpha.at[:, 0].add(jnp.stack(rates)),
    }


def _check(X: Any, y: Any, y_predicted: Any, labeled: Any) -> tuple[Array, ...]:
    """Arguments as arrays; values are looked at where they are concrete."""
    x, truth, guess = as_float(X=X, y=y, y_predicted=y_predicted)
    check_rank("X", x, 2, "(N, p)")
    for name, array in (("y", truth), ("y_predicted", guess)):
        check_rank(name, array, 1, "(N,)")
        check_same_length(name, array, "X", x)
    if np.shape(labeled) != truth.shape:
        raise ValueError(
            f"`labeled` must have shape {truth.shape} like `y`, got {np.shape(labeled)}"
        )
    if is_concrete(labeled):
        known = np.asarray(labeled)
        if not np.isin(known, (0, 1)).all():
            raise ValueError("`labeled` must be boolean")
        if not known.any():
            raise ValueError("no labelled rows: `labeled` is False everywhere")
        if is_concrete(truth):
            _check_classes("y", np.asarray(truth)[known != 0], " where `labeled`")
    if is_concrete(guess):
        _check_classes("y_predicted", np.asarray(guess), "")
    if is_concrete(x):
        host = np.asarray(x)
        if not np.isfinite(host).all():
            raise ValueError("`X` must be finite in every row")
        if (host == 0).all(axis=0).any():
            raise ValueError("`X` has a column of zeros; remove it")
    return x, truth, guess, jnp.asarray(labeled).astype(bool)


def _check_classes(name: str, values: np.ndarray, where: str) -> None:
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"`{name}` must be 0 or 1{where}")


def _review(result: BayesianResult) -> None:
    num_draws = result.draws[..., 0].size
    for text in trouble(result.num_divergences, result.r_hat, num_draws):
        warn(text)

"""Draws from a density by the No-U-Turn sampler, all chains in one program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int


class NutsResult(NamedTuple):
    """Draws of every chain.

    Attributes:
        draws: pytree, leaves (num_chains, num_samples, ...).
        num_divergences: scalar int, steps on which the energy was lost.
    """

    draws: Any
    num_divergences: Int[Array, ""]


def nuts(
    potential: Callable[[Any], Any],
    start: Callable[[Array], Any],
    *,
    key: Any,
    num_warmup: int,
    num_samples: int,
    num_chains: int,
    target_accept: float = 0.8,
) -> NutsResult:
    """Draw from the density exp(-potential).

    Guarantee: the chain leaves the density unchanged; how near its draws come to it
    after a finite time is not known, `split_r_hat` and the divergences tell of trouble.
    Verified by: simulation-based calibration of the models that use it.

    Args:
        potential: pytree of unconstrained values -> scalar; infinity outside the
            support.
        start: key -> pytree, the first point of a chain, inside the support.
        key: PRNG key.
        num_warmup: steps of adaptation, at least 1. Static.
        num_samples: draws kept per chain. Static.
        num_chains: run side by side. Static.
        target_accept: mean acceptance that the adapted step size aims at. Static.

    Transformations: jit, vmap.
    Cost: some ten gradients per draw; seconds to compile.

    Source: Hoffman and Gelman, "The No-U-Turn sampler", JMLR 2014; NumPyro.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import solvers
        >>> result = solvers.nuts(
        ...     lambda x: x * x / 2, lambda key: jnp.zeros(()), key=jax.random.key(0),
        ...     num_warmup=100, num_samples=100, num_chains=1)
        >>> result.draws.shape
        (1, 100)
    """
    from numpyro.infer.hmc import hmc

    begin, kernel = hmc(potential, algo="NUTS")

    def chain(own: Array) -> tuple[Any, Array]:
        key_start, key_run = jax.random.split(own)
        state = begin(
            start(key_start),
            num_warmup,
            rng_key=key_run,
            target_accept_prob=target_accept,
        )

        def step(state: Any, _: Any) -> tuple[Any, Any]:
            state = kernel(state)
            return state, (state.z, state.diverging)

        # Adaptation and sampling are one loop, compiled once.
        _, kept = jax.lax.scan(step, state, length=num_warmup + num_samples)
        return jax.tree.map(lambda values: values[num_warmup:], kept)

    draws, diverging = jax.vmap(chain)(jax.random.split(key, num_chains))
    return NutsResult(draws, jnp.sum(diverging, dtype=jnp.int32))


def split_r_hat(draws: Float[Array, "chains samples *shape"]) -> Float[Array, "*shape"]:
    """Potential scale reduction of half chains; above 1.05 they disagree.

    Heuristic: no finite-sample guarantee; chains that all miss a mode agree.

    Args:
        draws: shape (num_chains, num_samples, ...), at least 4 samples.

    Transformations: jit, vmap.
    Cost: O(size).

    Source: Gelman et al., "Bayesian Data Analysis", 3rd edition, section 11.4.

    Example:
        >>> import jax
        >>> from jaxcur import solvers
        >>> draws = jax.random.normal(jax.random.key(0), (2, 500))
        >>> bool(solvers.split_r_hat(draws) < 1.02)
        True
    """
    chains, samples = draws.shape[:2]
    half = samples // 2
    parts = draws[:, : 2 * half].reshape(chains * 2, half, *draws.shape[2:])
    within = jnp.mean(jnp.var(parts, axis=1, ddof=1), axis=0)
    between = jnp.var(jnp.mean(parts, axis=1), axis=0, ddof=1)
    return jnp.sqrt((half - 1) / half + between / within)

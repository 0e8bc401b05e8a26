"""Four small worlds in which nothing is fitted: Y is normal, models see it in noise.

Model k predicts Y / sd + N(0, 1), afresh for each of K models; at sd = 1e9 every model
is useless. A unit is interesting when Y exceeds the quantile of order `null_share`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from jaxcur import conformal
from paper_repro.optcs._procedures import PRUNINGS, optcs, rates, scores

RULES = ("naive", "one_model", "optcs_dtm", "optcs_hete", "optcs_homo")


@dataclasses.dataclass(frozen=True)
class World:
    """Sizes, level and difficulty of one world."""

    n: int
    m: int
    num_models: int
    level: float
    sd: float
    null_share: float = 0.7


WORLDS = {
    "useless_100": World(50, 20, 100, 0.3, 1e9),
    "weak_50": World(100, 50, 50, 0.2, 3.0),
    "strong_20": World(200, 100, 20, 0.1, 1.0, 0.5),
    "one_candidate": World(30, 1, 100, 0.2, 1e9),
}


def replicate(world: World, key: jax.Array) -> jax.Array:
    """False discovery proportion and power of every rule, shape (rules, 2)."""
    key_label, key_noise, key_xi = jax.random.split(key, 3)
    n, size = world.n, world.n + world.m
    y = jax.random.normal(key_label, (size,))
    noise = jax.random.normal(key_noise, (world.num_models, size))
    mu = y / world.sd + noise
    good = y > norm.ppf(world.null_share)
    v, t = scores(mu[:, :n], good[:n]), -mu[:, n:]
    level = world.level
    selections = [
        conformal.naive_best_of_k(v, t, level=level),
        conformal.select(v[0], t[0], level=level).selected,
        *optcs(v, t, level, key_xi)[: len(PRUNINGS)],
    ]
    return jnp.stack([rates(selected, good[n:]) for selected in selections])


def simulate(world: World, replications: int, key: jax.Array) -> np.ndarray:
    """All replications in one vmapped program, shape (replications, rules, 2)."""
    program = jax.jit(jax.vmap(lambda key: replicate(world, key)))
    return np.asarray(program(jax.random.split(key, replications)))

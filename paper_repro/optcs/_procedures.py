"""Every selection rule of the comparison, on predictions, for a grid of levels.

One vmapped program takes a batch of replications and returns the false discovery
proportion and the power of each rule at each level, shape (b, rules, levels, 2).
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal

PRUNINGS = ("dtm", "hete", "homo")
BETAS = (1.0, 0.9)
# Deterministic, heterogeneous and homogeneous pruning, then the same with beta = 0.9.
OPTCS = tuple(
    f"optcs_{pruning}" + ("" if beta == 1.0 else f"_{beta}")
    for beta in BETAS
    for pruning in PRUNINGS
)


def rates(selected: Array, good: Array) -> Array:
    """False discovery proportion and power of one selection, shape (2,)."""
    false = jnp.sum(selected & ~good) / jnp.maximum(1, jnp.sum(selected))
    power = jnp.sum(selected & good) / jnp.maximum(1, jnp.sum(good))
    return jnp.stack([false, power])


def scores(predictions: Array, interesting: Array) -> Array:
    """Clipped scores, (K, n), of rows whose label is known."""
    score = conformal.BinaryScore()
    labels = interesting.astype(predictions.dtype)
    return jax.vmap(lambda mu: score.calibration(mu, labels, 0.0))(predictions)


def most_selecting(v: Array, t: Array, level: Array) -> Array:
    """Index of the model that selects most rows of `t`; ties to the lowest."""
    count = jax.vmap(lambda a, b: conformal.select(a, b, level=level).num_selected)
    return jnp.argmax(count(v, t))


def split_calibration(v: Array, mu: Array, t: Array, level: Array) -> Array:
    """Choose a model on half of the calibration rows, calibrate it on the other.

    The half that chooses is halved again: one quarter calibrates, the other quarter
    plays the candidates.
    """
    n = v.shape[1]
    quarter, half = n // 4, n // 2
    chosen = most_selecting(v[:, :quarter], -mu[:, quarter:half], level)
    return conformal.select(v[chosen, half:], t[chosen], level=level).selected


def optcs(v: Array, t: Array, level: Array | float, key: Array) -> Array:
    """OptCS with the three prunings and both betas, shape (6, m).

    The prunings differ in the draw only: ones, one uniform for each candidate, one for
    all. The sizes are computed once, whatever the number of draws.
    """
    m = t.shape[1]
    key_each, key_common = jax.random.split(key)
    each = 1 - jax.random.uniform(key_each, (m,), t.dtype)
    common = 1 - jax.random.uniform(key_common, (), t.dtype)
    draws = jnp.stack([jnp.ones(m, t.dtype), each, jnp.full(m, common)])
    draws = jnp.tile(draws, (len(BETAS), 1))
    betas = jnp.repeat(jnp.asarray(BETAS, t.dtype), len(PRUNINGS))

    def one(beta: Array, xi: Array) -> Array:
        return conformal.optcs_msel(
            v, t, level=level, beta=beta, pruning="heterogeneous", xi=xi
        ).selected

    return jax.vmap(one)(betas, draws)


def among_models(replication: dict[str, Array], level: Array, key: Array):
    """All rules for choosing among K models, by name.

    Args:
        replication: `calibration` (K, n) and `test` (K, m) predictions, `interesting`
            (n,) and `good` (m,); for the split of the training rows also `half_select`
            (K, h), `half_interesting` (h,), `half_calibration`, `half_test`.
        level: scalar.
        key: random key.
    """
    mu, good = replication["calibration"], replication["good"]
    v, t = scores(mu, replication["interesting"]), -replication["test"]
    key_model, key_optcs = jax.random.split(key)
    one = jax.random.randint(key_model, (), 0, v.shape[0])
    out = {
        "random": conformal.select(v[one], t[one], level=level).selected,
        "split": split_calibration(v, mu, t, level),
        "naive": conformal.naive_best_of_k(v, t, level=level),
    }
    if "half_select" in replication:
        pick = replication["half_select"]
        h = pick.shape[1] // 2
        first = scores(pick[:, :h], replication["half_interesting"][:h])
        chosen = most_selecting(first, -pick[:, h:], level)
        half = scores(replication["half_calibration"], replication["interesting"])
        tests = -replication["half_test"]
        out["split_training"] = conformal.select(
            half[chosen], tests[chosen], level=level
        ).selected
    if "fixed" in replication:
        first = replication["fixed"]
        out["fixed"] = conformal.select(v[first], t[first], level=level).selected
    out |= dict(zip(OPTCS, optcs(v, t, level, key_optcs)))
    return {name: rates(selected, good) for name, selected in out.items()}


def without_split(replication: dict[str, Array], level: Array, key: Array):
    """All rules that train and calibrate on the same rows, and splits beside them.

    Args:
        replication: `calibration` (K, n) and `test` (K, m), pooled leave-one-out or
            cross-fitted predictions; `interesting`, `good`; and any number of
            `split_<name>_calibration` (n',), `split_<name>_interesting` (n',),
            `split_<name>_test` (m,) of one model fitted on other rows, or with a first
            axis K and `split_<name>_select`, `split_<name>_select_interesting`.
        level: scalar.
        key: random key.
    """
    good = replication["good"]
    v = scores(replication["calibration"], replication["interesting"])
    t = -replication["test"]
    own = jax.vmap(lambda a, b: conformal.select(a, b, level=level).selected)(v, t)
    out = {f"full_{k}": own[k] for k in range(v.shape[0])}
    if v.shape[0] > 1:
        out["naive"] = conformal.naive_best_of_k(v, t, level=level)
        out |= dict(zip(OPTCS, optcs(v, t, level, key)))
    names = {
        key.removesuffix("_calibration")
        for key in replication
        if key.startswith("split_") and key.endswith("_calibration")
    }
    for name in sorted(names):
        mu = jnp.atleast_2d(replication[f"{name}_calibration"])
        tests = -jnp.atleast_2d(replication[f"{name}_test"])
        calibration = scores(mu, replication[f"{name}_interesting"])
        chosen = 0
        if f"{name}_select" in replication:
            pick = replication[f"{name}_select"]
            h = pick.shape[1] // 2
            labels = replication[f"{name}_select_interesting"][:h]
            chosen = most_selecting(scores(pick[:, :h], labels), -pick[:, h:], level)
        out[name] = conformal.select(
            calibration[chosen], tests[chosen], level=level
        ).selected
    return {name: rates(selected, good) for name, selected in out.items()}


RULES: dict[str, Callable] = {
    "among_models": among_models,
    "without_split": without_split,
}


@functools.cache
def _program(rules: str, levels: tuple[float, ...]) -> Callable:
    grid = jnp.asarray(levels)

    def one(replication: dict[str, Array], key: Array) -> dict[str, Array]:
        # Every level sees the same draws.
        return jax.vmap(lambda level: RULES[rules](replication, level, key))(grid)

    return jax.jit(jax.vmap(one))


def evaluate(
    rules: str,
    replications: Sequence[dict[str, Array]],
    levels: Sequence[float],
    keys: Array,
) -> list[dict[str, Array]]:
    """Rates of every rule in each replication: name -> (levels, 2)."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *replications)
    batch = jax.device_get(_program(rules, tuple(levels))(stacked, keys))
    count = len(replications)
    return [{k: v[i] for k, v in batch.items()} for i in range(count)]

"""The ten simulations: 2500 rows, ten uniform features, four classes, the last rare."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paper_repro.presto import _fits

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 2500, 10, 4
NUM_STRENGTHS, RATIO, NUM_FOLDS = 20, 0.01, 5
# Of the residual, relative to the largest strength, in float64.
RTOL = 1e-6
# Draws of a replication before it is given up.
_MAX_DRAWS = 1000
# Errors are saved in these units.
UNIT = 1e-5


@dataclasses.dataclass(frozen=True)
class World:
    """One setting.

    Attributes:
        name: as in `expected.json`.
        intercepts: of the three boundaries.
        share: probability that an entry is not zero; None for dense differences.
        ridge: whether the ridge version is run beside the other methods.
    """

    name: str
    intercepts: tuple[float, float, float]
    share: float | None = None
    ridge: bool = False


def _worlds() -> tuple[World, ...]:
    found = []
    for label, share in (("1/2", 1 / 2), ("1/3", 1 / 3)):
        for ends in ((0.0, 3.0, 5.0), (0.0, 3.5, 5.5), (0.0, 4.0, 6.0)):
            text = ", ".join(f"{end:g}" for end in ends)
            ridge = ends == (0.0, 3.0, 5.0)
            found.append(World(f"sparse {label} ({text})", ends, share, ridge))
    for ends in ((0.0, 2.5, 4.5), (0.0, 3.0, 5.0), (0.0, 3.5, 5.5), (0.0, 4.0, 6.0)):
        text = ", ".join(f"{end:g}" for end in ends)
        found.append(World(f"dense ({text})", ends))
    return tuple(found)


WORLDS = _worlds()


def draw_coefficients(key: Array, share: Array, dense: Array, dtype: Any) -> Array:
    """Coefficients (p, m): a first vector, and two differences added to it."""
    shape = (NUM_CLASSES - 1, NUM_FEATURES)
    in_key, sign_key, size_key = jax.random.split(key, 3)
    kept = jax.random.uniform(in_key, shape, dtype) < share
    # The first vector is positive; only the differences have signs.
    sign = jax.random.rademacher(sign_key, shape, dtype).at[0].set(1)
    sparse = jnp.where(kept, 0.5 * sign, 0)
    uniform = jax.random.uniform(size_key, shape, dtype, -0.5, 0.5)
    return jnp.cumsum(jnp.where(dense, uniform, sparse), axis=0).T


def boundaries(intercepts: Array, coefficients: Array, x: Array) -> Array:
    """P(y <= k | x) for the three boundaries, (n, m)."""
    return jax.nn.sigmoid(intercepts + x @ coefficients)


def draw(key: Array, intercepts: Array, share: Array, dense: Array) -> tuple:
    """Features (n, p), classes (n,), rare probabilities (n,), number of draws.

    Drawn again, coefficients and all, while a probability is negative at some row or a
    class is empty.
    """
    dtype = intercepts.dtype

    def attempt(number: Array) -> tuple[Array, Array, Array, Array]:
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        coefficients = draw_coefficients(keys[0], share, dense, dtype)
        x = jax.random.uniform(keys[1], (NUM_ROWS, NUM_FEATURES), dtype, -1.0, 1.0)
        below = boundaries(intercepts, coefficients, x)
        uniforms = jax.random.uniform(keys[2], (NUM_ROWS, 1), dtype)
        y = jnp.sum(uniforms > below, axis=1, dtype=jnp.int32)
        counts = jnp.zeros(NUM_CLASSES, jnp.int32).at[y].add(1)
        sound = jnp.all(jnp.diff(below, axis=1) >= 0) & jnp.all(counts > 0)
        return x, y, 1 - below[:, -1], sound

    def again(state: tuple) -> tuple:
        number, _ = state
        return number + 1, attempt(number + 1)

    def unsound(state: tuple) -> Array:
        number, drawn = state
        return ~drawn[-1] & (number < _MAX_DRAWS)

    zero = jnp.zeros((), jnp.int32)
    number, drawn = jax.lax.while_loop(unsound, again, (zero, attempt(zero)))
    x, y, rare, sound = drawn
    # Never a replication that should not be: NaN tells.
    return x, y, jnp.where(sound, rare, jnp.nan), number + 1


def _presto(x: Array, y: Array, rare: Array, order: Array, l1_ratio: float) -> dict:
    """Errors along the path, with both intercepts, and what both tunings select."""
    shares = _fits.grid(NUM_STRENGTHS, RATIO, x.dtype)
    options = {"num_classes": NUM_CLASSES, "rtol": RTOL, "l1_ratio": l1_ratio}
    path = _fits.presto_path(x, y, shares, relative=True, **options)
    scores, status = _fits.fold_scores(
        x, y, order, path.strengths, num_folds=NUM_FOLDS, **options
    )

    def errors(intercepts: Array) -> Array:
        found = _fits.rare_from(intercepts, path.coefficients, x)
        return jnp.mean((found - rare) ** 2, axis=1) / UNIT

    return {
        "path": errors(path.intercepts),
        "path_returned": errors(path.returned),
        "selected": _fits.largest_minimiser(scores),
        "crossing": path.crossing,
        "status": jnp.stack([jnp.max(path.status), status]),
    }


def _one(key: Array, intercepts: Array, share: Array, dense: Array, ridge: bool):
    data_key, fold_key = jax.random.split(key)
    x, y, rare, draws = draw(data_key, intercepts, share, dense)
    order = jax.random.permutation(fold_key, NUM_ROWS)
    options = {"num_classes": NUM_CLASSES, "rtol": RTOL}
    by_logit, logit_status = _fits.logit_rare(x, y, x, **options)
    by_odds, odds_status = _fits.odds_rare(x, y, x, **options)
    found = {
        "logit": jnp.mean((by_logit - rare) ** 2) / UNIT,
        "odds": jnp.mean((by_odds - rare) ** 2) / UNIT,
        "rare_rows": jnp.sum(y == NUM_CLASSES - 1),
        "rare_probability": jnp.mean(rare),
        "draws": draws,
        "other_status": jnp.stack([logit_status, odds_status]),
    }
    found |= _presto(x, y, rare, order, 1.0)
    if ridge:
        other = _presto(x, y, rare, order, 0.0)
        found |= {f"ridge_{name}": value for name, value in other.items()}
    return found


@jax.jit(static_argnames=("ridge",))
def _replications(keys, intercepts, share, dense, *, ridge):
    return jax.lax.map(
        lambda key: _one(key, intercepts, share, dense, ridge),
        keys,
    )


def replications(world: World, indices: Any, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Results of the replications with these numbers, each with leading axis (r,).

    A replication depends on the seed, the setting and its number alone. Errors are
    mean squared errors of the rare probability over the rows, in units of 1e-5.
    """
    with jax.enable_x64(True):
        root = jax.random.fold_in(jax.random.key(seed), WORLDS.index(world))
        numbers = jnp.asarray(indices, jnp.uint32)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(numbers)
        found = _replications(
            keys,
            jnp.asarray(world.intercepts, jnp.float64),
            jnp.asarray(world.share or 0.0, jnp.float64),
            jnp.asarray(world.share is None),
            ridge=world.ridge,
        )
        return {name: np.asarray(value) for name, value in found.items()}

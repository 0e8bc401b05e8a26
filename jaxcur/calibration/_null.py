"""Monte-Carlo p-values under the hypothesis that the forecasts are calibrated.

Given the forecasts, calibrated outcomes are independent draws with the forecast as
probability. The observed outcomes and the drawn ones are then exchangeable, and the
rank of the observed statistic among all of them is a valid p-value for every n.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import check_choice

# Numbers drawn at once.
_CHUNK = 1 << 21
METHODS = ("asymptotic", "monte_carlo")
RANDOMISED = ("monte_carlo", "wild_bootstrap")
SMALL_SAMPLE = 500


class TestResult(NamedTuple):
    """Outcome of a test of calibration.

    Attributes:
        statistic: the statistic, in the scale its test states.
        p_value: in (0, 1] for Monte-Carlo tests, [0, 1] for asymptotic ones.
    """

    # Not a test of pytest, whatever its name says.
    __test__ = False

    statistic: Array
    p_value: Array


def choose_method(
    method: Any, n: int, key: Any, uniforms: Any, methods: tuple[str, ...] = METHODS
) -> str:
    """The method given, or Monte Carlo below 500 rows and where a draw is given."""
    if method is None:
        drawn = n < SMALL_SAMPLE or key is not None or uniforms is not None
        method = "monte_carlo" if drawn else "asymptotic"
        hint = (
            f"the default for fewer than {SMALL_SAMPLE} rows is the exact Monte-Carlo "
            "test, which is randomised: pass `key=jax.random.key(...)`, the draw "
            "itself as `uniforms`, or method='asymptotic'"
        )
    else:
        check_choice("method", method, methods)
        hint = (
            f"method={method!r} is randomised: pass `key=jax.random.key(...)`, or "
            "the draw itself as `uniforms`"
        )
    if method not in RANDOMISED:
        if key is not None or uniforms is not None:
            raise ValueError(
                f"method={method!r} draws nothing: drop `key` and `uniforms`"
            )
    else:
        if key is None and uniforms is None:
            raise ValueError(hint)
        if key is not None and uniforms is not None:
            raise ValueError("pass either `key` or `uniforms`, not both")
    return method


def check_draw(uniforms: Any, num_resamples: Any, n: int, dtype: Any) -> Array | None:
    """Uniforms (num_resamples, n), or None; `num_resamples` is checked too."""
    if not isinstance(num_resamples, (int, np.integer)) or num_resamples < 1:
        raise ValueError(
            f"`num_resamples` must be a positive integer, got {num_resamples!r}"
        )
    if uniforms is None:
        return None
    array = jnp.asarray(uniforms, dtype)
    if array.shape != (num_resamples, n):
        raise ValueError(
            f"`uniforms` must have shape (num_resamples, n) = ({num_resamples}, {n}), "
            f"got {array.shape}"
        )
    return array


def draw_labels(probs: Array, uniforms: Array) -> Array:
    """Outcomes (floats) or classes (int32) that the forecasts imply, (..., n).

    Uniforms lie in [0, 1): a forecast of 0 never happens and one of 1 always does.
    """
    if probs.ndim == 1:
        probs = jnp.broadcast_to(probs, uniforms.shape)
        return (uniforms < probs).astype(probs.dtype)
    # The last class takes what rounding leaves of the sum.
    edges = jnp.cumsum(probs, axis=1)[:, :-1]
    edges = jnp.broadcast_to(edges, (*uniforms.shape[:-1], *edges.shape))
    return jnp.sum(uniforms[..., None] >= edges, axis=-1, dtype=jnp.int32)


@functools.partial(jax.jit, static_argnames=("statistic", "num_resamples"))
def null_statistics(
    statistic: Callable[[Any, Array], Array],
    context: Any,
    probs: Array,
    labels: Array,
    uniforms: Array | None,
    key: Array | None,
    *,
    num_resamples: int,
) -> Array:
    """The statistic of the observed labels and of each draw, (num_resamples + 1, ...).

    The observed labels run through the same program in the same batch as the draws:
    equal labels give bit-equal statistics, and a tie stays a tie.
    """
    n = probs.shape[0]
    rows = num_resamples + 1
    width = probs.size
    chunk = int(min(max(_CHUNK // width, 1), rows))
    num_chunks = -(-rows // chunk)
    if uniforms is not None:
        pad = [(1, num_chunks * chunk - rows), (0, 0)]
        uniforms = jnp.pad(uniforms, pad).reshape(num_chunks, chunk, n)

    def part(i: Array) -> Array:
        if uniforms is None:
            assert key is not None
            u = jax.random.uniform(jax.random.fold_in(key, i), (chunk, n), probs.dtype)
        else:
            u = uniforms[i]
        drawn = draw_labels(probs, u)
        observed = (i == 0) & (jnp.arange(chunk) == 0)
        drawn = jnp.where(observed[:, None], labels[None, :], drawn)
        return jax.vmap(lambda y: statistic(context, y))(drawn)

    values = jax.lax.map(part, jnp.arange(num_chunks, dtype=jnp.int32))
    return values.reshape(-1, *values.shape[2:])[:rows]


def rank_p_value(values: Array) -> Array:
    """(1 + #{drawn >= observed}) / (1 + #drawn), the observed one first.

    Values that differ by rounding only count as ties, which can only raise the result.
    """
    observed = values[0]
    slack = 64 * float(jnp.finfo(values.dtype).eps)
    finite = jnp.isfinite(observed) & jnp.isfinite(values)
    near = jnp.abs(jnp.where(finite, values - observed, jnp.inf)) <= slack * jnp.abs(
        jnp.where(finite, observed, 0)
    )
    count = jnp.sum((values >= observed) | near, dtype=values.dtype)
    p = count / jnp.asarray(values.shape[0], values.dtype)
    return jnp.where(jnp.isnan(observed), jnp.nan, p).astype(values.dtype)

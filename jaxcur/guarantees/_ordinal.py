"""Ordinal regression: intervals for rare probabilities, tests, and tuning."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logit

from jaxcur import ordinal, verify
from jaxcur.guarantees import _ordinal_worlds as worlds
from jaxcur.guarantees._debiased_problem import covers, mean_at_most
from jaxcur.guarantees._ordinal_floors import NOMINAL_POWER, RARE_WIDTHS
from jaxcur.guarantees._ordinal_worlds import Draw, World
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant

_LAW = "rows i.i.d. from a cumulative logit model"
_STRENGTH = 0.04
"""At this one, more than half of the blocks are zero in the worlds of two features."""

Interval = Callable[[World, Draw], tuple[Array, Array]]


def _debiased(world: World, draw: Draw) -> Any:
    return ordinal.debiased_intervals(
        draw.X,
        draw.y,
        num_classes=world.num_classes,
        regularization=_STRENGTH if world.coefficients is not None else 0.005,
        points=worlds.points(world),
    )


def _ends(interval: Array) -> tuple[Array, Array]:
    low, high = jnp.moveaxis(interval, -1, 0)
    return low, high


def _sound(world: World, draw: Draw) -> tuple[Array, Array]:
    return _ends(_debiased(world, draw).rare_interval)


def _undebiased(world: World, draw: Draw) -> tuple[Array, Array]:
    penalised = ordinal.fit(
        draw.X, draw.y, num_classes=world.num_classes, regularization=_STRENGTH
    )
    believed = dataclasses.replace(
        penalised, regularization=jnp.zeros_like(penalised.regularization)
    )
    errors = ordinal.standard_errors(believed, draw.X, draw.y)
    points = worlds.points(world)
    return _ends(ordinal.rare_probability_interval(believed, points, errors).interval)


def _moved(interval: Array, by: Array) -> tuple[Array, Array]:
    return _ends(jax.nn.sigmoid(logit(interval) + by))


def _uncentred(world: World, draw: Draw) -> tuple[Array, Array]:
    """The intercept moved back with the last difference instead of the last slopes."""
    found = _debiased(world, draw)
    mean = jnp.mean(draw.X, axis=0)
    lost = mean @ (found.coefficients - found.differences)[:, -1]
    return _moved(found.rare_interval, -lost)


def _differences(world: World, draw: Draw) -> tuple[Array, Array]:
    """The last difference taken for the last slopes, around the mean of the rows."""
    found = _debiased(world, draw)
    away = worlds.points(world) - jnp.mean(draw.X, axis=0)
    lost = away @ (found.coefficients - found.differences)[:, -1]
    return _moved(found.rare_interval, lost[:, None])


def _coverage(
    world: World, interval: Interval = _sound, widths: Any = None
) -> Replicate:
    points = worlds.points(world)

    def run(key: Array) -> dict[str, Array]:
        draw = world.draw(key)
        low, high = interval(world, draw)
        truth = draw.rare(points)
        # An interval that is not a number misses.
        miss = ~((low <= truth) & (truth <= high))
        metrics = {"miss": miss, "rate": jnp.mean(miss.astype(low.dtype))}
        if widths is not None:
            ratio = (logit(high) - logit(low)) / jnp.asarray(widths, low.dtype)
            metrics["width"] = jnp.mean(ratio)
        return metrics

    return run


def _rare(
    name: str, world: World, bound: float, *, broken: bool, widths: Any = None
) -> Guarantee:
    claim = covers(bound, 3)
    parts = [
        Part("", claim),
        Part("not-wide", verify.at_least("rate", 0.02, kind="asymptotic")),
    ]
    if widths is not None:
        parts.append(floor(mean_at_most("width", 1.0, 0.05), "width"))
    wrong = {
        "undebiased": ("a penalised estimate with its own errors", _undebiased),
        "uncentred": ("intercepts moved back with differences", _uncentred),
        "differences": ("differences taken for coefficients", _differences),
    }
    for suffix, (text, interval) in wrong.items() if broken else ():
        parts.append(mutant(suffix, text, claim, _coverage(world, interval)))
    return Guarantee(
        name,
        "95 % intervals for the probability of the rare last class from "
        f"`debiased_intervals` miss at most {bound:g} of the time, {world.rows} rows",
        _LAW,
        _coverage(world, widths=widths),
        tuple(parts),
        kind="asymptotic",
    )


_RESAMPLES = 200


def _bootstrap(even: bool) -> Replicate:
    world = worlds.BOOTSTRAP
    points = worlds.points(world)

    def run(key: Array) -> dict[str, Array]:
        key_data, key_weights = (jax.random.fold_in(key, i) for i in range(2))
        draw = world.draw(key_data)
        drawn = jax.random.exponential(key_weights, (_RESAMPLES, world.rows))
        if even:
            # Four draws averaged: half of the spread.
            drawn = drawn.reshape(_RESAMPLES, world.rows // 4, 4)
            drawn = jnp.repeat(jnp.mean(drawn, axis=2), 4, axis=1)
            order = jax.random.permutation(key_data, world.rows)
            drawn = drawn[:, order]
        found = ordinal.bootstrap(
            draw.X,
            draw.y,
            num_classes=world.num_classes,
            resample_weights=drawn,
            points=points,
        )
        truth = draw.rare(points)

        def miss(interval: Array) -> Array:
            low, high = _ends(interval)
            return ~((low <= truth) & (truth <= high))

        metrics = {
            "percentile": miss(found.rare_interval),
            "basic": miss(found.rare_basic),
        }
        metrics["rate"] = jnp.mean(metrics["basic"].astype(draw.X.dtype))
        return metrics

    return run

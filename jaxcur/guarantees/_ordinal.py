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
        # The mean of four draws has half the spread.
        shape = (4 if even else 1, _RESAMPLES, world.rows)
        drawn = jnp.mean(jax.random.exponential(key_weights, shape), axis=0)
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


_PERCENTILE = covers(0.09, 3, "percentile")
_BOOTSTRAP = Guarantee(
    "ordinal/bootstrap",
    f"95 % intervals for the probability of the rare last class from `bootstrap`, "
    f"{worlds.BOOTSTRAP.rows} rows and {_RESAMPLES} resamples: percentile ones miss at "
    "most 0.09, basic ones at most 0.08 of the time",
    _LAW,
    _bootstrap(even=False),
    (
        Part("", _PERCENTILE),
        Part("basic", covers(0.08, 3, "basic")),
        Part("not-wide", verify.at_least("rate", 0.02, kind="asymptotic")),
        mutant(
            "even-weights",
            "weights with half the spread",
            _PERCENTILE,
            _bootstrap(even=True),
        ),
    ),
    kind="asymptotic",
)


def _rejects(world: World, method: str, *, degrees: int | None = None) -> Replicate:
    """Does the test of the last feature reject at 5 %; and that of the first?"""

    def run(key: Array) -> dict[str, Array]:
        draw = world.draw(key)
        found = ordinal.nominal_test(
            draw.X, draw.y, num_classes=world.num_classes, method=method
        )
        p_value = found.p_value
        if degrees is not None:
            half = jnp.asarray(degrees / 2, p_value.dtype)
            p_value = jax.scipy.special.gammaincc(half, found.statistic / 2)
        # A test without a p-value does not reject.
        return {"last": p_value[-1] <= 0.05, "first": p_value[0] <= 0.05}

    return run


def _both(world: World, method: str, degrees: int | None = None) -> Replicate:
    """Size in a world of proportional odds, power in one where a feature breaks it."""
    size = _rejects(world, method, degrees=degrees)
    power = _rejects(dataclasses.replace(worlds.BROKEN, rows=world.rows), method)

    def run(key: Array) -> dict[str, Array]:
        broken = power(jax.random.fold_in(key, 1))
        return {**size(jax.random.fold_in(key, 0)), "power": broken["first"]}

    return run


def _size_claim(bound: float) -> verify.Claim:
    return verify.at_most("last", bound, kind="asymptotic")


def _nominal(method: str, world: World, bound: float) -> Guarantee:
    small = world == worlds.PROPORTIONAL
    name = f"ordinal/nominal-{method}" + ("" if small else f"-n{world.rows}")
    parts = [Part("", _size_claim(bound))]
    if small:
        least = 0.8 * NOMINAL_POWER
        parts.append(floor(verify.at_least("power", least, kind="asymptotic")))
        parts.append(
            mutant(
                "one-degree",
                "one degree of freedom for two differences",
                _size_claim(bound),
                _rejects(world, method, degrees=1),
            )
        )
    return Guarantee(
        name,
        f"the test of proportional odds of one feature ({method}) at level 0.05 "
        f"rejects at most {bound:g} of the time, {world.rows} rows",
        _LAW + " with proportional odds",
        _both(world, method) if small else _rejects(world, method),
        tuple(parts),
        kind="asymptotic",
    )


def _one_sided(world: World) -> Replicate:
    """Rejects beyond the 95 % quantile of the normal, squared: a level of 10 %."""

    def run(key: Array) -> dict[str, Array]:
        draw = world.draw(key)
        found = ordinal.nominal_test(
            draw.X, draw.y, num_classes=world.num_classes, method="score"
        )
        return {"last": found.statistic[-1] >= 2.706}

    return run


_SMALL_SCORE = Guarantee(
    "ordinal/nominal-small",
    "the score test of proportional odds of one feature at level 0.05 rejects at most "
    f"0.065 of the time, three classes, {worlds.SMALL.rows} rows",
    _LAW + " with proportional odds",
    _rejects(worlds.SMALL, "score"),
    (
        Part("", _size_claim(0.065)),
        mutant(
            "one-sided",
            "the quantile of a one-sided test for a squared statistic",
            _size_claim(0.065),
            _one_sided(worlds.SMALL),
        ),
    ),
    kind="asymptotic",
)

_FOLDS = 5


def _select(draw: Draw, key: Array, num_classes: int, wrong: bool) -> tuple[Any, Array]:
    """The path and the position chosen on it."""
    found = ordinal.cross_validate(
        draw.X,
        draw.y,
        num_classes=num_classes,
        num_folds=_FOLDS,
        key=key,
        num_regularizations=8,
        ratio=0.02,
    )
    if not wrong:
        return found.path, found.selected

    def fold(index: Array) -> Array:
        held = found.folds == index
        weights = jnp.where(held, 0.0, 1.0)
        path = ordinal.path(
            draw.X,
            draw.y,
            num_classes=num_classes,
            weights=weights,
            regularizations=found.regularizations,
        )
        mean = weights @ draw.X / jnp.sum(weights)

        def score(fit: Any) -> Array:
            blocks = jnp.diff(fit.coefficients, axis=1, prepend=0.0)
            mistaken = dataclasses.replace(
                fit,
                intercepts=fit.intercepts + mean @ (fit.coefficients - blocks),
                coefficients=blocks,
            )
            probs = ordinal.predict_proba(mistaken, draw.X, repair="none")
            gap = probs - jax.nn.one_hot(draw.y, num_classes)
            return jnp.sum(jnp.where(held, jnp.sum(gap * gap, axis=1), 0.0))

        return jax.vmap(score)(path)

    scores = jnp.sum(jax.lax.map(fold, jnp.arange(_FOLDS)), axis=0)
    return found.path, jnp.argmin(scores)


def _tuning(wrong: bool) -> Replicate:
    """Share of the squared error that a better choice on the path would have saved."""
    world = worlds.TUNED

    def run(key: Array) -> dict[str, Array]:
        key_data, key_folds = (jax.random.fold_in(key, i) for i in range(2))
        draw = world.draw(key_data)
        path, selected = _select(draw, key_folds, world.num_classes, wrong)
        truth = draw.rare(draw.X)

        def error(fit: Any) -> Array:
            probs = ordinal.predict_proba(fit, draw.X, repair="none")
            return jnp.mean((probs[:, -1] - truth) ** 2)

        errors = jax.vmap(error)(path)
        return {"lost": 1 - jnp.min(errors) / errors[selected]}

    return run


_LITTLE_LOST = verify.at_most("lost", 0.25, kind="asymptotic")
_TUNING = Guarantee(
    "ordinal/tuning",
    "the strength of `cross_validate` has a squared error of rare probabilities of "
    "which the best strength of the path saves at most a quarter",
    _LAW + f" with proportional odds, {worlds.TUNED.rows} rows",
    _tuning(wrong=False),
    (
        Part("", _LITTLE_LOST),
        mutant(
            "differences",
            "held-out rows scored with differences taken for coefficients",
            _LITTLE_LOST,
            _tuning(wrong=True),
        ),
    ),
    kind="asymptotic",
)

GUARANTEES: tuple[Guarantee, ...] = (
    _rare("ordinal/rare", worlds.RARE, 0.08, broken=True, widths=RARE_WIDTHS),
    _rare("ordinal/rare-n1600", worlds.RARE_LARGE, 0.06, broken=False),
    _BOOTSTRAP,
    _SMALL_SCORE,
    *(
        _nominal(method, worlds.PROPORTIONAL, 0.065)
        for method in ("lr", "score", "wald")
    ),
    _nominal("lr", worlds.PROPORTIONAL_LARGE, 0.058),
    _TUNING,
)

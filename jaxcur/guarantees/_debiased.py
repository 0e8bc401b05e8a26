"""Inference from imperfect labels: intervals cover, and tuning does no harm."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import verify
from jaxcur.guarantees import _debiased_hard as hard
from jaxcur.guarantees import _debiased_worlds as worlds
from jaxcur.guarantees._debiased_floors import SQUARED_ERRORS, WIDTHS
from jaxcur.guarantees._debiased_problem import (
    BOUNDS,
    LARGE,
    SMALL,
    Problem,
    Size,
    World,
    covers,
    mean_at_most,
    misses,
    replicate,
)
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant

_DESIGN = "rows i.i.d., labelled with known probabilities; predictions blind to labels"
_NO_WIDER = 1.25
_GAIN = 0.9
"""A machine that is right nine times in ten saves a tenth of the interval at least."""


def _without(problem: Problem) -> Any:
    return problem.surrogate_only()


def _equal_probability(problem: Problem) -> Any:
    return problem.fit(sampling_prob=jnp.mean(problem.design["sampling_prob"]))


def _memorised(problem: Problem) -> Any:
    y, guess = problem.gold["y"], problem.machine["y"]
    seen = jnp.where(problem.design["labeled"], y, guess)
    return problem._replace(machine={"y": seen}).fit()


_SURROGATE_ONLY = "surrogate-only", "predictions taken for labels", _without
_NO_WEIGHT = "no-weight", "labels not weighted by 1 / probability", _equal_probability
_MEMORISED = "memorised", "predictions that have seen the labels", _memorised


def _cover(
    name: str, world: World, p: int, *broken: Any, sizes: tuple[Size, ...] = ()
) -> tuple[Guarantee, ...]:
    """The claims of one world at each size; floors and mutants at the first."""
    found = []
    for size in sizes or (SMALL, LARGE):
        bound = BOUNDS[size]
        first = not found
        width = WIDTHS.get(name) if first else None
        parts = [Part("", covers(bound, p))]
        if width is not None:
            parts.append(floor(mean_at_most("width", _NO_WIDER, 0.05), "width"))
            parts.append(floor(mean_at_most("versus_gold", _GAIN, 0.02), "gain"))
        for suffix, text, fit in broken if first else ():
            wrong = replicate(world, size, fit=fit)
            parts.append(mutant(suffix, text, covers(bound, p), wrong))
        found.append(
            Guarantee(
                name if size == SMALL else f"{name}-n{size.labels}",
                f"95 % intervals miss each coordinate at most {bound:g} of the time, "
                f"{size.labels} labels in {size.rows} rows",
                _DESIGN,
                replicate(world, size, width=width),
                tuple(parts),
                kind="asymptotic",
            )
        )
    return tuple(found)


def _hostile(world: World, size: Size) -> Replicate:
    def run(key: Array) -> dict[str, Array]:
        problem = world(key, size)

        def one(guess: Array) -> Array:
            fitted = problem._replace(machine={"y": guess}).fit()
            return misses(fitted, problem.truth)

        miss = jax.vmap(one)(problem.machine["y"])
        return dict(zip(hard.ADVERSARIES, miss))

    return run


def _adversarial(name: str, world: World, p: int) -> tuple[Guarantee, ...]:
    return tuple(
        Guarantee(
            f"{name}-adversarial" + ("" if size == SMALL else f"-n{size.labels}"),
            f"95 % intervals miss at most {BOUNDS[size]:g} of the time, whatever the "
            f"predictions, {size.labels} labels in {size.rows} rows",
            _DESIGN,
            _hostile(world, size),
            tuple(
                Part(adversary, covers(BOUNDS[size], p, adversary))
                for adversary in hard.ADVERSARIES
            ),
            kind="asymptotic",
        )
        for size in (SMALL, LARGE)
    )


_HONEST = verify.at_least("miss", 0.02, kind="asymptotic")
_SHIFTED = Guarantee(
    "debiased/mean-shifted",
    "with a fixed number of labels and a biased machine, 95 % intervals miss at most "
    "0.08 of the time and at least 0.02: neither too narrow nor too wide",
    _DESIGN + "; simple random sample",
    replicate(hard.shifted_mean, SMALL),
    (
        Part("", covers(BOUNDS[SMALL], 1)),
        Part("not-wide", _HONEST),
        mutant(
            "as-bernoulli",
            "a fixed number of labels taken for independent draws",
            _HONEST,
            replicate(
                hard.shifted_mean,
                SMALL,
                fit=lambda problem: problem.fit(
                    sampling_prob=SMALL.share, design="bernoulli"
                ),
            ),
        ),
    ),
    kind="asymptotic",
)


def _unbiased(wrong: bool) -> Replicate:
    def run(key: Array) -> dict[str, Array]:
        problem = hard.unbiased_mean(key)
        result = _equal_probability(problem) if wrong else problem.fit()
        return {"estimate": result.estimate[0]}

    return run


_LOW, _HIGH = hard.UNBIASED_RANGE
_IS_TRUTH = verify.equals("estimate", worlds.MEAN, lower=_LOW, upper=_HIGH)
_UNBIASED = Guarantee(
    "debiased/mean-unbiased",
    "without tuning the mean of the estimates is the mean, with 60 rows",
    _DESIGN,
    _unbiased(wrong=False),
    (
        Part("", _IS_TRUTH),
        mutant(*_NO_WEIGHT[:2], _IS_TRUTH, _unbiased(wrong=True)),
    ),
)


def _tuned(size: Size, excess: float, tuning: Any = "optimal") -> Replicate:
    """Squared error with tuning over (1 + excess)^2 times that without, per machine.

    As a difference, in units of the better squared error of the two: negative on
    average when the promise holds.
    """
    units = SQUARED_ERRORS[size.rows]

    def run(key: Array) -> dict[str, Array]:
        problem = hard.tuned(key, size)

        def errors(guess: Array, labeled: Array, prob: Array) -> Array:
            design = {"labeled": labeled, "sampling_prob": prob}
            one = problem._replace(machine={"y": guess}, design=design)
            options = (tuning, 0.0, None)
            estimates = [one.fit(power_tuning=how).estimate for how in options]
            gaps = jnp.stack(estimates) - problem.truth.astype(guess.dtype)
            return jnp.sum(gaps * gaps, axis=1)

        squares = jax.vmap(errors)(
            problem.machine["y"],
            problem.design["labeled"],
            problem.design["sampling_prob"],
        )
        metrics = {}
        for machine, (best, gold, plain), unit in zip(hard.MACHINES, squares, units):
            allowed = (1 + excess) ** 2
            metrics[f"{machine}-gold"] = (best - allowed * gold) / unit
            metrics[f"{machine}-plain"] = (best - allowed * plain) / unit
        return metrics

    return run


def _harmless(name: str, size: Size, excess: float) -> Guarantee:
    claims = {
        f"{machine}-{other}": mean_at_most(f"{machine}-{other}", 0.0, 0.02)
        for machine in hard.MACHINES
        for other in ("gold", "plain")
    }
    return Guarantee(
        name,
        f"tuned, the root mean squared error is at most {1 + excess:g} times that of "
        f"labelled rows alone and of no tuning, about {size.labels} labels",
        _DESIGN,
        _tuned(size, excess),
        (
            *(Part(suffix, claim) for suffix, claim in claims.items()),
            mutant(
                "no-tuning",
                "the whole of a useless prediction",
                claims["useless-gold"],
                _tuned(size, excess, None),
            ),
        ),
        kind="asymptotic",
    )


GUARANTEES: tuple[Guarantee, ...] = (
    *_cover("debiased/mean", worlds.mean, 1, _SURROGATE_ONLY, _MEMORISED),
    *_adversarial("debiased/mean", hard.hostile_mean, 1),
    *_cover("debiased/mean-rare", hard.rare_mean, 1, _NO_WEIGHT),
    _SHIFTED,
    *_cover(
        "debiased/mean-strata",
        hard.strata,
        1,
        ("one-stratum", "strata ignored", lambda p: p.fit(design="srs", strata=None)),
        sizes=(SMALL,),
    ),
    _UNBIASED,
    *_cover("debiased/ols", worlds.ols, 3, _SURROGATE_ONLY),
    *_cover("debiased/ols-covariate", worlds.ols_covariate, 3, _SURROGATE_ONLY),
    *_cover(
        "debiased/ols-clusters",
        hard.clusters,
        3,
        ("rows", "clusters ignored", lambda p: p.fit(clusters=None)),
    ),
    *_cover("debiased/logistic", worlds.logistic, 3, _SURROGATE_ONLY),
    *_adversarial("debiased/logistic", hard.hostile_logistic, 3),
    *_cover("debiased/logistic-rare", hard.rare_logistic, 3),
    *_cover("debiased/poisson", worlds.poisson, 3, _SURROGATE_ONLY),
    *_cover("debiased/gamma", worlds.gamma, 3, _SURROGATE_ONLY),
    *_cover("debiased/multinomial", worlds.multinomial, 4, _SURROGATE_ONLY),
    *_cover("debiased/ordered-logit", worlds.ordered_logit, 3, _SURROGATE_ONLY),
    *_cover("debiased/iv", worlds.iv, 2, _SURROGATE_ONLY),
    *_cover("debiased/shares", worlds.shares, 3, _SURROGATE_ONLY),
    *_cover("debiased/user-moment", worlds.user_moment, 2, _SURROGATE_ONLY),
    *_cover("debiased/quantile", worlds.quantile, 1, _SURROGATE_ONLY),
    *_cover("debiased/fixed-effects", worlds.fixed_effects, 2, _SURROGATE_ONLY),
    _harmless("debiased/tuning", hard.TUNED, 0.06),
    _harmless("debiased/tuning-n2000", hard.TUNED_LARGE, 0.03),
)

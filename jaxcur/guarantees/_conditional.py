"""P-values that hold given the calibration set, but for a share delta of the sets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import conformal, stats, verify
from jaxcur.guarantees._floors import POWER
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant

DELTA = 0.2
WORLDS: dict[str, dict[str, Any]] = {
    "conditional_p_values/dkwm": dict(n=20, method="dkwm"),
    "conditional_p_values/simes": dict(n=20, method="simes"),
    "conditional_p_values/monte-carlo": dict(n=20, method="monte_carlo"),
    "conditional_p_values/asymptotic": dict(n=60, method="asymptotic"),
}
NUM_RESAMPLES = 99
BEST, BAR = 50, 0.3
"""Outliers are the largest of so many null scores; found when p is at most BAR."""

_ASSUMPTIONS = "calibration scores and null test scores i.i.d. and continuous"


def _adjust(p: Any, spec: dict[str, Any], delta: float, key: Array) -> Array:
    return conformal.conditional_p_values(
        p,
        spec["n"],
        method=spec["method"],
        delta=delta,
        key=key if spec["method"] == "monte_carlo" else None,
        num_resamples=NUM_RESAMPLES,
    )


def _outcome(adjusted: Array, calibration: Array, outlier: Array) -> dict[str, Array]:
    """Whether some threshold fails for this calibration set, and one outlier's fate.

    With uniform null scores the law of a null p-value given the calibration set is
    known: P(p <= j / (n + 1)) is one minus the j-th largest calibration score. All
    thresholds hold exactly when none of these exceeds its adjusted value.
    """
    n = calibration.shape[0]
    given = jnp.append(1 - stats.sort(calibration)[::-1], 1.0)
    rank = jnp.sum(calibration >= outlier, dtype=jnp.int32)
    assert adjusted.shape == (n + 1,)
    return {"fails": (given > adjusted).any(), "found": adjusted[rank] <= BAR}


def _replicate(name: str, broken: str = "") -> Replicate:
    spec = WORLDS[name]
    n = spec["n"]
    grid = (np.arange(1, n + 2) / (n + 1)).astype(np.float32)

    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        draws = jax.random.uniform(key_data, (n + 1,))
        if broken == "plain":
            adjusted = jnp.asarray(grid)
        elif broken == "twice-delta":
            adjusted = _adjust(grid, spec, 2 * DELTA, key_run)
        else:
            adjusted = _adjust(grid, spec, DELTA, key_run)
        return _outcome(adjusted, draws[:n], draws[n] ** (1 / BEST))

    return replicate


def _guarantee(name: str, broken: str, text: str, **claim: Any) -> Guarantee:
    kind = claim.pop("kind", "exact")
    attained = claim.pop("attained", False)
    main = (verify.equals if attained else verify.at_most)("fails", DELTA, kind=kind)
    return Guarantee(
        name,
        f"given the calibration set, super-uniform but for {DELTA:g} of the sets"
        + (", attained" if attained else ""),
        _ASSUMPTIONS + (", in the limit of many rows" if kind != "exact" else ""),
        _replicate(name),
        (
            Part("", main),
            floor(verify.at_least("found", 0.8 * POWER[name])),
            mutant(
                broken,
                text,
                verify.at_most("fails", DELTA, kind=kind),
                _replicate(name, broken),
            ),
        ),
        kind=kind,
    )


_PLAIN = "plain", "conformal p-values as they are"
_TWICE = "twice-delta", "the bound of twice delta"
_DKWM, _SIMES, _MONTE_CARLO, _ASYMPTOTIC = WORLDS

GUARANTEES = (
    _guarantee(_DKWM, *_PLAIN),
    _guarantee(_SIMES, *_TWICE, attained=True),
    _guarantee(_MONTE_CARLO, *_TWICE),
    # The share of failing sets tends to delta from below, and slowly: 0.11 at 60 rows,
    # 0.16 at 3000.
    _guarantee(_ASYMPTOTIC, *_PLAIN, kind="asymptotic"),
)

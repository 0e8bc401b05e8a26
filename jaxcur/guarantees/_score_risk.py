"""The expected loss of acting on the predictions that are selected."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, verify
from jaxcur.guarantees._floors import POWER
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant

_EXCHANGEABLE = "calibration rows and candidates exchangeable given the score"
_SHIFT = "candidates differ by a covariate shift with exact density ratio"
_PRUNINGS = ("homogeneous", "heterogeneous", "deterministic")

RISKY = 0.2
"""Share of risky calibration rows."""

# `share` of the candidates are risky; with `certain`, acting loses 1 on every row.
RISK_WORLDS: dict[str, dict[str, Any]] = {
    "score_risk/mdr-certain-loss": dict(n=9, m=4, level=0.1, share=RISKY, certain=True),
    "score_risk/mdr": dict(n=19, m=4, level=0.15, share=RISKY),
    "score_risk/mdr-weighted": dict(n=39, m=4, level=0.2, share=0.8),
    "score_risk/sdr-certain-loss": dict(n=9, m=8, level=0.4, share=RISKY, certain=True),
    "score_risk/sdr": dict(n=39, m=8, level=0.2, share=RISKY),
    "score_risk/sdr-weighted": dict(n=39, m=8, level=0.3, share=0.8),
}
GAMMA_SHARE = 0.9
"""`score_sdr` seeks thresholds at this share of the level."""


def _rows(key: Array, spec: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Scores, losses and density ratios of n + m rows.

    Risky rows lose six times as much at the same score, which the score does not say.
    """
    n, total = spec["n"], spec["n"] + spec["m"]
    x, u, kind = jax.random.uniform(key, (3, total))
    share = jnp.where(jnp.arange(total) < n, RISKY, spec["share"])
    risky = kind < share
    loss = jnp.minimum(jnp.where(risky, 3.0, 0.5) * u * x, 1.0)
    if spec.get("certain"):
        loss = jnp.ones(total)
    ratio = spec["share"] / RISKY, (1 - spec["share"]) / (1 - RISKY)
    # The constant in front must not matter.
    return x, loss, 0.3 * jnp.where(risky, *ratio)


def _weights(w: Array, n: int, spec: dict[str, Any], ignore: bool) -> dict[str, Array]:
    if ignore or spec["share"] == RISKY:
        return {}
    return {"calibration_weights": w[:n], "test_weights": w[n:]}


def _mdr(name: str, broken: str = "") -> Replicate:
    spec = RISK_WORLDS[name]
    n, level = spec["n"], spec["level"]

    def replicate(key: Array) -> dict[str, Array]:
        x, loss, w = _rows(key, spec)
        if broken == "own-loss":
            below = jnp.where(x[:n] <= x[n:, None], loss[:n], 0.0)
            # Half a loss of slack: the sums are whole numbers here.
            selected = jnp.sum(below, axis=1) <= level * (n + 1) + 0.5
        else:
            weights = _weights(w, n, spec, broken == "shift")
            selected = conformal.score_mdr(
                loss[:n], x[:n], x[n:], level=level, **weights
            ).selected
        risk = jnp.where(selected, loss[n:], 0.0)
        return {"risk": jnp.mean(risk), "used": jnp.mean(selected.astype(risk.dtype))}

    return replicate


def _deployed(selected: Array, loss: Array) -> Array:
    """Mean loss among the selected, 0 when none is."""
    count = jnp.sum(selected, dtype=jnp.int32)
    return jnp.sum(jnp.where(selected, loss, 0.0)) / jnp.maximum(count, 1)


def _sdr(name: str, broken: str = "") -> Replicate:
    spec = RISK_WORLDS[name]
    n, m, level = spec["n"], spec["m"], spec["level"]

    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        x, loss, w = _rows(key_data, spec)
        if broken == "own-loss":
            # The largest threshold at which the loss seen so far is in proportion.
            below = jnp.where(x[:n] <= x[n:, None], loss[:n], 0.0)
            count = jnp.sum(x[n:] <= x[n:, None], axis=1, dtype=jnp.int32)
            fine = jnp.sum(below, axis=1) / n <= level * count / m
            selected = x[n:] <= jnp.max(jnp.where(fine, x[n:], -jnp.inf))
            return {"risk": _deployed(selected, loss[n:])}
        weights = _weights(w, n, spec, broken == "shift")
        out = {}
        for pruning in _PRUNINGS if not broken else ("homogeneous",):
            selected = conformal.score_sdr(
                loss[:n],
                x[:n],
                x[n:],
                level=level,
                gamma=GAMMA_SHARE * level,
                pruning=pruning,
                key=None if pruning == "deterministic" else key_run,
                **weights,
            ).selected
            out[f"risk_{pruning}"] = _deployed(selected, loss[n:])
            out[f"used_{pruning}"] = jnp.mean(selected.astype(loss.dtype))
        return {"risk": out["risk_homogeneous"]} if broken else out

    return replicate


def _mdr_guarantee(name: str, *parts: Part, attained: bool = False) -> Guarantee:
    level = RISK_WORLDS[name]["level"]
    claim = verify.equals if attained else verify.at_most
    return Guarantee(
        name,
        f"expected loss of acting on a candidate {'=' if attained else '<='} {level:g}",
        _SHIFT if name.endswith("weighted") else _EXCHANGEABLE,
        _mdr(name),
        (Part("", claim("risk", level)), *parts),
    )


def _sdr_guarantee(name: str, *parts: Part) -> Guarantee:
    level = RISK_WORLDS[name]["level"]
    return Guarantee(
        name,
        f"expected mean loss among the selected <= {level:g}, every pruning",
        _SHIFT if name.endswith("weighted") else _EXCHANGEABLE,
        _sdr(name),
        (
            *(Part(p, verify.at_most(f"risk_{p}", level)) for p in _PRUNINGS),
            *parts,
        ),
    )


def _used(metric: str, name: str) -> Part:
    return floor(verify.at_least(metric, 0.8 * POWER[name]), "use")


def _risk_mutant(suffix: str, text: str, name: str, replicate: Replicate) -> Part:
    claim = verify.at_most("risk", RISK_WORLDS[name]["level"])
    return mutant(suffix, text, claim, replicate)


_MDR, _MDR_CERTAIN, _MDR_SHIFT = (
    f"score_risk/mdr{end}" for end in ("", "-certain-loss", "-weighted")
)
_SDR, _SDR_CERTAIN, _SDR_SHIFT = (
    f"score_risk/sdr{end}" for end in ("", "-certain-loss", "-weighted")
)

GUARANTEES = (
    _mdr_guarantee(
        _MDR_CERTAIN,
        _risk_mutant(
            "own-loss-left-out",
            "the loss of the candidate itself left out",
            _MDR_CERTAIN,
            _mdr(_MDR_CERTAIN, "own-loss"),
        ),
        attained=True,
    ),
    _mdr_guarantee(_MDR, _used("used", _MDR)),
    _mdr_guarantee(
        _MDR_SHIFT,
        _used("used", _MDR_SHIFT),
        _risk_mutant(
            "weights-ignored",
            "the shift ignored",
            _MDR_SHIFT,
            _mdr(_MDR_SHIFT, "shift"),
        ),
    ),
    _sdr_guarantee(
        _SDR_CERTAIN,
        _risk_mutant(
            "own-loss-left-out",
            "the loss of the candidate itself left out",
            _SDR_CERTAIN,
            _sdr(_SDR_CERTAIN, "own-loss"),
        ),
    ),
    _sdr_guarantee(_SDR, _used("used_homogeneous", _SDR)),
    _sdr_guarantee(
        _SDR_SHIFT,
        _used("used_homogeneous", _SDR_SHIFT),
        _risk_mutant(
            "weights-ignored",
            "the shift ignored",
            _SDR_SHIFT,
            _sdr(_SDR_SHIFT, "shift"),
        ),
    ),
)

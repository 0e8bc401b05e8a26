"""Coverage of conformal prediction sets, and conformal risk control."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, stats, verify
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant

_ASSUMPTIONS = "calibration rows and the test row exchangeable given the model"
_MISS = verify.at_most("miss", 0.1)


def _short_quantile(scores: Array, coverage: float) -> Array:
    """The order statistic one place too low."""
    n = scores.shape[0]
    place = math.ceil(coverage * (n + 1)) - 2
    return stats.sort(scores)[place]


def _regression(key: Array, n: int) -> tuple[Array, Array]:
    """Predictions and labels of n + 1 rows with noise that grows with x."""
    key_x, key_noise = jax.random.split(key)
    x = jax.random.uniform(key_x, (n + 1,))
    return x, x + (0.2 + x) * jax.random.normal(key_noise, (n + 1,))


def _split(n: int, grid: float | None = None, short: bool = False) -> Replicate:
    def replicate(key: Array) -> dict[str, Array]:
        x, y = _regression(key, n)
        if grid is not None:
            x, y = jnp.round(x / grid) * grid, jnp.round(y / grid) * grid
        scores = conformal.absolute_residual_scores(x[:n], y[:n])
        if short:
            radius = _short_quantile(scores, 0.9)
            low, high = x[n:] - radius, x[n:] + radius
        else:
            low, high = conformal.split_interval(scores, x[n:], coverage=0.9)
        return {"miss": ~((low[0] <= y[n]) & (y[n] <= high[0]))}

    return replicate


def _cqr(short: bool) -> Replicate:
    n = 19

    def replicate(key: Array) -> dict[str, Array]:
        x, y = _regression(key, n)
        low, high = x - 0.5, x + 0.5
        scores = conformal.cqr_scores(low[:n], high[:n], y[:n])
        if short:
            shift = _short_quantile(scores, 0.9)
            bottom, top = low[n:] - shift, high[n:] + shift
        else:
            bottom, top = conformal.cqr_interval(
                scores, low[n:], high[n:], coverage=0.9
            )
        return {"miss": ~((bottom[0] <= y[n]) & (y[n] <= top[0]))}

    return replicate


def _weighted_split(use_weights: bool) -> Replicate:
    """Test rows come from where the noise is larger."""
    n = 50

    def replicate(key: Array) -> dict[str, Array]:
        key_x, key_noise = jax.random.split(key)
        shift = jnp.where(jnp.arange(n + 1) < n, 0.0, 1.0)
        x = jax.random.normal(key_x, (n + 1,)) + shift
        y = jnp.exp(0.5 * x) * jax.random.normal(key_noise, (n + 1,))
        w = jnp.exp(x)
        zeros = jnp.zeros(n + 1)
        scores = conformal.absolute_residual_scores(zeros[:n], y[:n])
        low, high = conformal.split_interval(
            scores,
            zeros[n:],
            coverage=0.9,
            calibration_weights=w[:n] if use_weights else None,
            test_weights=w[n:] if use_weights else None,
        )
        return {"miss": ~((low[0] <= y[n]) & (y[n] <= high[0]))}

    return replicate


def _classes(key: Array, n: int, k: int) -> tuple[Array, Array]:
    """Over-confident probabilities (n + 1, k) and labels."""
    key_logits, key_labels = jax.random.split(key)
    logits = jax.random.normal(key_logits, (n + 1, k))
    labels = jax.random.categorical(key_labels, logits)
    return jax.nn.softmax(2 * logits), labels


def _label_set(kind: str, n: int, short: bool = False) -> Replicate:
    k = 4

    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_scores, key_set = (jax.random.fold_in(key, i) for i in range(3))
        probs, labels = _classes(key_data, n, k)
        if kind == "lac":
            scores = conformal.lac_scores(probs[:n], labels[:n])
            if short:
                members = 1 - probs[n:] <= _short_quantile(scores, 0.9)
            else:
                members = conformal.lac_set(scores, probs[n:], coverage=0.9)
        else:
            score, make = {
                "aps": (conformal.aps_scores, conformal.aps_set),
                "raps": (conformal.raps_scores, conformal.raps_set),
            }[kind]
            scores = score(probs[:n], labels[:n], key=key_scores)
            members = make(scores, probs[n:], coverage=0.9, key=key_set)
        size = jnp.mean(members[0].astype(jnp.float32))
        return {"miss": ~members[0, labels[n]], "absent": 1 - size}

    return replicate


def _mondrian(by_group: bool) -> Replicate:
    """The test row belongs to the noisy of two groups."""
    n = 60

    def replicate(key: Array) -> dict[str, Array]:
        group = jnp.arange(n + 1) % 2
        group = group.at[n].set(1)
        y = jnp.where(group == 1, 3.0, 1.0) * jax.random.normal(key, (n + 1,))
        zeros = jnp.zeros(n + 1)
        scores = conformal.absolute_residual_scores(zeros[:n], y[:n])
        groups = (group[:n], group[n:]) if by_group else None
        low, high = conformal.split_interval(
            scores, zeros[n:], coverage=0.9, groups=groups
        )
        return {"miss": ~((low[0] <= y[n]) & (y[n] <= high[0]))}

    return replicate


def _class_conditional(by_class: bool) -> Replicate:
    """Coverage of the class that the model likes least."""
    n, k = 80, 2

    def replicate(key: Array) -> dict[str, Array]:
        key_x, _ = jax.random.split(key)
        labels = (jnp.arange(n + 1) % 4 == 0).astype(jnp.int32).at[n].set(1)
        x = jax.random.normal(key_x, (n + 1,)) + labels
        logits = jnp.stack([jnp.zeros(n + 1), 2 * x - 3], axis=1)
        probs = jax.nn.softmax(logits)
        assert probs.shape[1] == k
        scores = conformal.lac_scores(probs[:n], labels[:n])
        members = conformal.lac_set(
            scores,
            probs[n:],
            coverage=0.9,
            calibration_labels=labels[:n] if by_class else None,
        )
        return {"miss": ~members[0, labels[n]]}

    return replicate


def _risk(corrected: bool) -> Replicate:
    """Miss indicators at growing radii; the risk of the radius that is chosen."""
    n, radii = 10, jnp.linspace(0.0, 4.0, 81)

    def replicate(key: Array) -> dict[str, Array]:
        y = jnp.abs(jax.random.normal(key, (n + 1,)))
        losses = (y[:, None] > radii).astype(jnp.float32)
        if corrected:
            result = conformal.risk_control(losses[:n], level=0.1, bound=1.0)
            index = result.index
        else:
            index = jnp.argmax(jnp.mean(losses[:n], axis=0) <= 0.1)
        return {"loss": losses[n, index]}

    return replicate


def _covers(
    name: str,
    replicate: Replicate,
    *parts: Part,
    promise: str = "the set misses the label with probability at most 0.1",
    assumptions: str = _ASSUMPTIONS,
    claim: verify.Claim = _MISS,
) -> Guarantee:
    return Guarantee(name, promise, assumptions, replicate, (Part("", claim), *parts))


def _off_by_one(replicate: Replicate) -> Part:
    text = "conformal quantile one order statistic too low"
    return mutant("quantile-off-by-one", text, _MISS, replicate)


_SMALL = floor(verify.at_least("absent", 0.1), "size")

GUARANTEES = (
    _covers(
        "sets/split-n9",
        _split(9),
        _off_by_one(_split(9, short=True)),
        promise="split interval of nine rows misses with probability 0.1, attained",
        claim=verify.equals("miss", 0.1),
    ),
    _covers("sets/split-n50", _split(50)),
    _covers("sets/split-ties", _split(19, grid=0.5)),
    _covers("sets/cqr", _cqr(short=False), _off_by_one(_cqr(short=True))),
    _covers(
        "sets/weighted",
        _weighted_split(True),
        mutant("weights-ignored", "the shift ignored", _MISS, _weighted_split(False)),
        assumptions="covariate shift with exact density ratio",
    ),
    _covers(
        "sets/lac",
        _label_set("lac", 9),
        floor(verify.at_least("absent", 0.02), "size"),
        _off_by_one(_label_set("lac", 9, short=True)),
    ),
    _covers("sets/aps", _label_set("aps", 19), _SMALL),
    _covers("sets/raps", _label_set("raps", 19), _SMALL),
    _covers(
        "sets/mondrian",
        _mondrian(True),
        mutant("marginal", "one quantile for all groups", _MISS, _mondrian(False)),
        promise="within its group, the interval misses with probability at most 0.1",
        assumptions="rows exchangeable within each group",
    ),
    _covers(
        "sets/class-conditional",
        _class_conditional(True),
        mutant(
            "marginal", "one quantile for all classes", _MISS, _class_conditional(False)
        ),
        promise="given its class, the label is missed with probability at most 0.1",
        assumptions="rows exchangeable within each class",
    ),
    Guarantee(
        "risk_control/n10",
        "expected loss of the chosen setting <= 0.1",
        "rows exchangeable, losses nonincreasing and at most 1",
        _risk(True),
        (
            Part("", verify.at_most("loss", 0.1)),
            mutant(
                "no-correction",
                "empirical risk without the unseen row",
                verify.at_most("loss", 0.1),
                _risk(False),
            ),
        ),
    ),
)

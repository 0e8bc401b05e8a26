"""The false discovery rate of outliers, by a fixed score and by a learned one."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, stats, verify
from jaxcur.guarantees._floors import POWER
from jaxcur.guarantees._p_values import no_plus_one
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant
from jaxcur.guarantees._worlds import outcomes

# Outliers: level * (n + 1) / m is whole, so that the false discovery rate of plain
# Benjamini-Hochberg is the level times the share of inliers, and not only below it.
OUTLIER_WORLD: dict[str, Any] = dict(n=39, m=10, level=0.25, num_outliers=4, shift=2.5)
ADA_WORLD: dict[str, Any] = dict(
    n=28, m=6, level=0.3, num_train=9, num_outliers=2, shift=3.0
)
_INLIERS = "null rows and inliers exchangeable given the outliers, score fixed before"


def _normal_rows(key: Array, spec: dict[str, Any]) -> tuple[Array, Array, Array]:
    n, m, count = spec["n"], spec["m"], spec["num_outliers"]
    values = jax.random.normal(key, (n + m,))
    test = values[n:] + jnp.where(jnp.arange(m) < count, spec["shift"], 0.0)
    return values[:n], test, jnp.arange(m) >= count


def _outliers(*null_shares: Any) -> Replicate:
    def replicate(key: Array) -> dict[str, Array]:
        null, test, is_null = _normal_rows(key, OUTLIER_WORLD)
        out = {}
        for null_share in null_shares:
            selected = conformal.detect_outliers(
                null, test, level=OUTLIER_WORLD["level"], null_share=null_share
            ).selected
            for name, value in outcomes(selected, is_null).items():
                out[f"{name}_{null_share}"] = value
        return out

    return replicate


def _without_plus_one(key: Array) -> dict[str, Array]:
    null, test, is_null = _normal_rows(key, OUTLIER_WORLD)
    p = no_plus_one(-null, -test)
    return outcomes(stats.benjamini_hochberg(p, OUTLIER_WORLD["level"]), is_null)


def _storey_without_plus_one(key: Array) -> dict[str, Array]:
    """The share of inliers estimated by #{p >= 1/2} / (m / 2)."""
    null, test, is_null = _normal_rows(key, OUTLIER_WORLD)
    p = conformal.p_values(-null, -test)
    share = jnp.sum(p >= 0.5, dtype=jnp.int32) / (0.5 * p.shape[0])
    level = jnp.minimum(OUTLIER_WORLD["level"] / jnp.maximum(share, 1e-6), 1.0)
    return outcomes(stats.benjamini_hochberg(p, level), is_null)


def _distance(reuse: bool) -> Replicate:
    """All rows inliers; the score is the distance from the mean of 19 rows.

    The mean of other rows than those that calibrate, unless `reuse`.
    """
    n, m, d = 19, 5, 5

    def replicate(key: Array) -> dict[str, Array]:
        rows = jax.random.normal(key, (2 * n + m, d))
        centre = jnp.mean(rows[:n] if reuse else rows[n : 2 * n], axis=0)
        distance = jnp.sum((rows - centre) ** 2, axis=1)
        result = conformal.detect_outliers(distance[:n], distance[2 * n :], level=0.25)
        return outcomes(result.selected, jnp.ones(m, bool))

    return replicate


class _Means:
    """How much nearer to the mean of class 1 than to that of class 0."""

    def fit(self, features: Any, target: Any, weights: Any = None, *, key: Any = None):
        """Both means."""
        one, zero = target[:, None], 1 - target[:, None]
        mean_zero = jnp.sum(features * zero, axis=0) / jnp.sum(zero)
        return mean_zero, jnp.sum(features * one, axis=0) / jnp.sum(one)

    def predict(self, params: Any, features: Any) -> Any:
        """Scores (m,)."""
        zero, one = params
        near_zero = jnp.sum((features - zero) ** 2, axis=1)
        return near_zero - jnp.sum((features - one) ** 2, axis=1)


class _LastRows:
    """Remembers the last training rows, which is where the candidates are."""

    def fit(self, features: Any, target: Any, weights: Any = None, *, key: Any = None):
        """The last m rows."""
        return features[-ADA_WORLD["m"] :]

    def predict(self, params: Any, features: Any) -> Any:
        """Nearness to a remembered row (m,)."""
        square = jnp.sum((features[:, None] - params[None]) ** 2, axis=-1)
        return -jnp.min(square, axis=1)


def _ada(learner: Any) -> Replicate:
    def replicate(key: Array) -> dict[str, Array]:
        null, test, is_null = _normal_rows(key, ADA_WORLD)
        result = conformal.ada_detect(
            learner,
            null[:, None],
            test[:, None],
            level=ADA_WORLD["level"],
            num_train=ADA_WORLD["num_train"],
        )
        return outcomes(result.selected, is_null)

    return replicate


def _power(metric: str, name: str, suffix: str = "power") -> Part:
    return floor(verify.at_least(metric, 0.8 * POWER[name]), suffix)


GUARANTEES = (
    Guarantee(
        "outliers/one",
        "FDR = 0.25 times the share of inliers, attained",
        _INLIERS,
        _outliers("one"),
        (
            Part("", verify.equals("fdp_one", 0.15)),
            _power("power_one", "outliers/one"),
            mutant(
                "no-plus-one",
                "p-value without the +1",
                verify.at_most("fdp", 0.15),
                _without_plus_one,
            ),
        ),
    ),
    Guarantee(
        "outliers/adaptive",
        "FDR <= 0.25 with an estimated share of inliers",
        _INLIERS,
        _outliers("storey", "quantile"),
        (
            Part("storey", verify.at_most("fdp_storey", 0.25)),
            Part("quantile", verify.at_most("fdp_quantile", 0.25)),
            _power("power_storey", "outliers/storey", "power-storey"),
            _power("power_quantile", "outliers/quantile", "power-quantile"),
            mutant(
                "no-plus-one",
                "share of inliers estimated without the +1",
                verify.at_most("fdp", 0.25),
                _storey_without_plus_one,
            ),
        ),
    ),
    Guarantee(
        "outliers/distance",
        "FDR = 0.25 when all rows are inliers, attained",
        _INLIERS,
        _distance(reuse=False),
        (
            Part("", verify.equals("fdp", 0.25)),
            mutant(
                "score-fitted-on-null",
                "the rows that calibrate also fitted the score",
                verify.at_most("fdp", 0.25),
                _distance(reuse=True),
            ),
        ),
    ),
    Guarantee(
        "outliers/ada",
        "FDR = 0.3 times the share of inliers with a score learned from the candidates",
        "null rows and inliers exchangeable, a fit blind to the order of mixed rows",
        _ada(_Means()),
        (
            Part("", verify.equals("fdp", 0.2)),
            _power("power", "outliers/ada"),
            mutant(
                "order-dependent-fit",
                "a learner that knows which mixed rows are candidates",
                verify.at_most("fdp", 0.2),
                _ada(_LastRows()),
            ),
        ),
    ),
)

"""Calibration: levels of the tests, their power, bands, Venn-Abers, certificates."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr

from jaxcur import calibration, verify
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, mutant

_SIZES = (1, 2, 10, 50, 300)
_RESAMPLES = 19
# With 19 draws p-values are multiples of 1/20. The mutant without the observed
# statistic counts nineteenths: 0.06 lies between 1/19 and 2/20.
_THRESHOLDS = (0.05, 0.06, 0.1, 0.2, 0.5, 0.9)

_TESTS = {
    "spiegelhalter": calibration.spiegelhalter_test,
    "ks": calibration.ks_test,
    "kuiper": calibration.kuiper_test,
    "kernel": calibration.kernel_test,
    "t-cal": calibration.t_cal_test,
    "hosmer-lemeshow": calibration.hosmer_lemeshow_test,
}


def _forecasts(key: Array, n: int) -> Array:
    """Uniform, skewed to 0, or tied tenths with 0 and 1: one of the three by chance."""
    key_kind, key_draw = jax.random.split(key)
    plain = jax.random.uniform(key_draw, (n,))
    # The quantile function of Beta(1/2, 20) to within a factor: rare events.
    skewed = 0.1 * plain**2
    tied = jnp.round(10 * plain) / 10
    kind = jax.random.randint(key_kind, (), 0, 3)
    return jnp.select([kind == 0, kind == 1], [plain, skewed], tied)


def _calibrated(key: Array, n: int) -> tuple[Array, Array]:
    key_f, key_y = jax.random.split(key)
    f = _forecasts(key_f, n)
    return f, (jax.random.uniform(key_y, (n,)) < f).astype(f.dtype)


def _levels(n: int) -> Replicate:
    def run(key: Array) -> dict[str, Array]:
        keys = jax.random.split(key, len(_TESTS) + 1)
        f, y = _calibrated(keys[0], n)
        return {
            name: test(
                f, y, method="monte_carlo", num_resamples=_RESAMPLES, key=key_test
            ).p_value
            for (name, test), key_test in zip(_TESTS.items(), keys[1:])
        }

    return run


def _no_plus_one(n: int) -> Replicate:
    def run(key: Array) -> dict[str, Array]:
        key_data, key_test = jax.random.split(key)
        f, y = _calibrated(key_data, n)
        p = calibration.ks_test(
            f, y, method="monte_carlo", num_resamples=_RESAMPLES, key=key_test
        ).p_value
        return {"ks": ((_RESAMPLES + 1) * p - 1) / _RESAMPLES}

    return run


def _level_claim(name: str) -> verify.Claim:
    return verify.super_uniform(name, _THRESHOLDS)


def _level_world(n: int) -> Guarantee:
    parts = [Part("" if name == "ks" else name, _level_claim(name)) for name in _TESTS]
    parts.sort(key=lambda part: part.suffix)
    if n >= 50:
        parts.append(
            mutant(
                "no-plus-one",
                "the observed statistic left out of its own null",
                _level_claim("ks"),
                _no_plus_one(n),
            )
        )
    return Guarantee(
        f"calibration/levels-n{n}",
        "p-values of the tests of calibration (KS, and by name the others) with 19 "
        f"draws are super-uniform, {n} row{'s' if n > 1 else ''}",
        "labels independent given the forecasts, with these as their probabilities",
        _levels(n),
        tuple(parts),
    )


def _continuous(n: int) -> Replicate:
    def run(key: Array) -> dict[str, Array]:
        key_f, key_y, *keys = jax.random.split(key, len(_TESTS) + 2)
        f = jax.random.uniform(key_f, (n,))
        y = (jax.random.uniform(key_y, (n,)) < f).astype(f.dtype)
        return {
            name: test(
                f, y, method="monte_carlo", num_resamples=_RESAMPLES, key=key_test
            ).p_value
            <= 0.05
            for (name, test), key_test in zip(_TESTS.items(), keys)
        }

    return run


_EXACT = Guarantee(
    "calibration/exact-n50",
    "with 19 draws and statistics without ties the tests of calibration (KS, and by "
    "name the others) reject at level 0.05 exactly that often, 50 rows",
    "labels independent given continuous forecasts, with these as their probabilities",
    _continuous(50),
    tuple(
        sorted(
            (Part("" if n == "ks" else n, verify.equals(n, 0.05)) for n in _TESTS),
            key=lambda part: part.suffix,
        )
    ),
)


def _under_confident(alternative: Literal["two-sided", "greater"]) -> Replicate:
    def run(key: Array) -> dict[str, Array]:
        key_x, key_y = jax.random.split(key)
        score = jax.random.normal(key_x, (300,))
        truth, forecast = jax.nn.sigmoid(2 * score), jax.nn.sigmoid(score)
        y = (jax.random.uniform(key_y, (300,)) < truth).astype(truth.dtype)
        found = calibration.spiegelhalter_test(
            forecast, y, alternative=alternative, method="asymptotic"
        )
        return {"rejects": found.p_value <= 0.05}

    return run


_POWER = verify.at_least("rejects", 0.8)
_UNDER_CONFIDENCE = Guarantee(
    "calibration/under-confidence",
    "the two-sided Spiegelhalter test rejects forecasts with half the slope of the "
    "truth at least 80 % of the time, 300 rows",
    "normal scores",
    _under_confident("two-sided"),
    (
        Part("", _POWER),
        mutant(
            "one-sided",
            "the form that looks for over-confidence alone",
            _POWER,
            _under_confident("greater"),
        ),
    ),
)


def _truth(x: Array) -> Array:
    return 0.1 + 0.8 * x**2


def _band(share: float) -> Replicate:
    """Does a bound of the histogram's band miss the mean of the truth in its bin?"""

    def run(key: Array) -> dict[str, Array]:
        key_x, key_y = jax.random.split(key)
        x = jax.random.uniform(key_x, (1000,))
        y = (jax.random.uniform(key_y, (1000,)) < _truth(x)).astype(x.dtype)
        found = calibration.fit_histogram(x, y, num_bins=10, edges="sample")
        low, high = found.band(0.9)
        middle, half = (low + high) / 2, share * (high - low) / 2
        a = jnp.clip(found.edges[:-1], 0, 1)
        b = jnp.clip(found.edges[1:], 0, 1)
        # The mean of x^2 over (a, b), for uniform x.
        mean = 0.1 + 0.8 * (a * a + a * b + b * b) / 3
        return {"miss": (jnp.abs(mean - middle) > half).any()}

    return run


_BAND_CLAIM = verify.at_most("miss", 0.1)
_BAND = Guarantee(
    "calibration/histogram-band",
    "the band of histogram binning at 90 % misses the truth of any of its ten bins at "
    "most 10 % of the time, 1000 rows",
    "independent rows, continuous forecasts",
    _band(1.0),
    (
        Part("", _BAND_CLAIM),
        mutant(
            "one-bin", "a band half as wide, about one bin's", _BAND_CLAIM, _band(0.5)
        ),
    ),
)


def _venn_abers(other: bool) -> Replicate:
    """Twenty calibration rows and new ones: the forecast of each one's own label."""

    def run(key: Array) -> dict[str, Array]:
        key_x, key_y = jax.random.split(key)
        x = jax.random.uniform(key_x, (100,))
        y = (jax.random.uniform(key_y, (100,)) < _truth(x)).astype(x.dtype)
        low, high = calibration.fit_venn_abers(x[:20], y[:20]).interval(x[20:])
        return {"p": jnp.where((y[20:] > 0) != other, high, low), "y": y[20:]}

    return run


# Two bins: one that is hardly ever used would stay undecided.
_OWN = verify.forecast_calibrated("p", "y", num_bins=2)
_VENN = Guarantee(
    "calibration/venn-abers",
    "of the two Venn-Abers probabilities the one for the label that comes is "
    "calibrated, 20 rows",
    "rows exchangeable with the new one",
    _venn_abers(other=False),
    (
        Part("", _OWN),
        mutant("other-label", "the one for the other label", _OWN, _venn_abers(True)),
    ),
)

Radius = Callable[[Array, Array], Array]


def _attack(radius: Radius) -> Replicate:
    """A half-space in each part, pushed by a change just shorter than the radius."""

    def run(key: Array) -> dict[str, Array]:
        a, b = jax.random.normal(key, (2,)) + 0.6
        length = 0.999 * radius(ndtr(a), ndtr(b)) / jnp.sqrt(2.0)
        promised = length > 0
        return {"flips": promised & (ndtr(a - length) + ndtr(b - length) < 1)}

    return run


def _ours(left: Array, right: Array) -> Array:
    return calibration.dual_certified_radius(left, right, sigma=1.0)


def _released(left: Array, right: Array) -> Array:
    one = calibration.certified_radius(left, sigma=1.0)
    two = calibration.certified_radius(right, sigma=1.0)
    return jnp.where(left + right > 1, jnp.hypot(one, two), 0.0)


_KEPT = verify.at_most("flips", 0.001, margin=0.002)
_DUAL = Guarantee(
    "calibration/dual-radius",
    "no change within the dual radius flips the answer of two smoothed half-spaces",
    "true probabilities of both parts",
    _attack(_ours),
    (
        Part("", _KEPT),
        mutant(
            "released", "the radius of the released code", _KEPT, _attack(_released)
        ),
    ),
)


def _plain_squared_error(probs: Array, labels: Array, weights: Array) -> Array:
    root = calibration.expected_calibration_error(
        probs, labels, norm=2, weights=weights
    )
    return root**2


def _squared_error(metric: Callable[..., Array], n: int) -> Replicate:
    """The analytic interval of a squared error of 15 bins, and the bootstrap's."""
    cells = (jnp.arange(15) + 0.5) / 15
    signs = jnp.where(jnp.arange(15) % 2 > 0, 1.0, -1.0)
    truth = jnp.clip(cells + 0.08 * signs, 0.02, 0.98)
    target = jnp.mean((cells - truth) ** 2)

    def run(key: Array) -> dict[str, Array]:
        key_cell, key_y, key_draw = jax.random.split(key, 3)
        cell = jax.random.randint(key_cell, (n,), 0, 15)
        y = (jax.random.uniform(key_y, (n,)) < truth[cell]).astype(cells.dtype)
        found = {
            "analytic": calibration.confidence_interval(
                metric, cells[cell], y, method="analytic"
            ),
            "bootstrap": calibration.confidence_interval(
                metric, cells[cell], y, num_resamples=200, key=key_draw
            ),
        }
        return {
            name: ~((interval.lower <= target) & (target <= interval.upper))
            for name, interval in found.items()
        }

    return run


_NEAR = verify.at_most("analytic", 0.08, kind="asymptotic")
_NEAR_BOOTSTRAP = verify.at_most("bootstrap", 0.08, kind="asymptotic")
_INTERVAL = Guarantee(
    "calibration/interval",
    "95 % intervals (analytic; bootstrap by name) of the debiased squared "
    "calibration error miss at most 8 % of the time, 2000 rows in 15 bins",
    "independent rows, forecasts constant in each bin and wrong by 0.08",
    _squared_error(calibration.debiased_squared_error, 2000),
    (
        Part("", _NEAR),
        Part("bootstrap", _NEAR_BOOTSTRAP),
        mutant(
            "not-debiased",
            "the plain squared error of the bins",
            _NEAR_BOOTSTRAP,
            _squared_error(_plain_squared_error, 2000),
        ),
    ),
    kind="asymptotic",
)


GUARANTEES: tuple[Guarantee, ...] = (
    *(_level_world(n) for n in _SIZES),
    _EXACT,
    _UNDER_CONFIDENCE,
    _BAND,
    _VENN,
    _DUAL,
    _INTERVAL,
)

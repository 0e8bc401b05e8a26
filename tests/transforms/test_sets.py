"""jit equals eager, vmap equals a loop, float32 is near float64, one compilation."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal import (
    absolute_residual_scores,
    aps_scores,
    aps_set,
    conformal_quantile,
    cqr_interval,
    cqr_scores,
    lac_scores,
    lac_set,
    raps_scores,
    raps_set,
    risk_control,
    split_interval,
)
from jaxcur.stats import clopper_pearson, weighted_quantile
from tests.helpers import assert_close

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(size=(3, 17)).astype(np.float32)
CENTERS = RNG.normal(size=(3, 8)).astype(np.float32)
WEIGHTS = RNG.uniform(0.5, 2, size=(3, 17)).astype(np.float32)
TEST_WEIGHTS = RNG.uniform(0.5, 2, size=(3, 8)).astype(np.float32)
GROUPS = RNG.integers(0, 3, (3, 17)).astype(np.int32)
TEST_GROUPS = RNG.integers(0, 4, (3, 8)).astype(np.int32)
PROBS = RNG.dirichlet(np.ones(5), (3, 8)).astype(np.float32)
LABELS = RNG.integers(0, 5, (3, 8)).astype(np.int32)
CALIBRATION_LABELS = RNG.integers(0, 5, (3, 17)).astype(np.int32)
UNIFORMS = RNG.uniform(size=(3, 8)).astype(np.float32)
LOSSES = np.sort(RNG.uniform(size=(3, 17, 8)), axis=2)[:, :, ::-1].astype(np.float32)


def weights(a, b):
    return {"calibration_weights": a, "test_weights": b}


FUNCTIONS = {
    "conformal_quantile": (lambda s: conformal_quantile(s, coverage=0.8), (SCORES,)),
    "grouped_quantile": (
        lambda s, g, h: conformal_quantile(s, coverage=0.8, groups=(g, h)),
        (SCORES, GROUPS, TEST_GROUPS),
    ),
    "weighted_quantile": (
        lambda s, w: weighted_quantile(s, w, jnp.array([0.1, 0.5])),
        (SCORES, WEIGHTS),
    ),
    "weighted_grouped_quantile": (
        lambda s, g, h, w, v: conformal_quantile(
            s, coverage=0.8, groups=(g, h), **weights(w, v)
        ),
        (SCORES, GROUPS, TEST_GROUPS, WEIGHTS, TEST_WEIGHTS),
    ),
    "clopper_pearson": (
        lambda k: clopper_pearson(k, 5, 0.9),
        (LABELS.astype(np.float32),),
    ),
    "absolute_residual_scores": (absolute_residual_scores, (CENTERS, TEST_WEIGHTS)),
    "split_interval": (
        lambda s, c: split_interval(s, c, coverage=0.8),
        (SCORES, CENTERS),
    ),
    "split_interval_weighted": (
        lambda s, c, w, v: split_interval(s, c, coverage=0.8, **weights(w, v)),
        (SCORES, CENTERS, WEIGHTS, TEST_WEIGHTS),
    ),
    "cqr_scores": (cqr_scores, (CENTERS, CENTERS + 1, TEST_WEIGHTS)),
    "cqr_interval": (
        lambda s, a, b: cqr_interval(s, a, b, coverage=0.8),
        (SCORES, CENTERS, CENTERS + 1),
    ),
    "lac_scores": (lac_scores, (PROBS, LABELS)),
    "lac_set": (lambda s, p: lac_set(s, p, coverage=0.8), (SCORES, PROBS)),
    "lac_set_by_class": (
        lambda s, p, y: lac_set(s, p, coverage=0.5, calibration_labels=y),
        (SCORES, PROBS, CALIBRATION_LABELS),
    ),
    "aps_scores": (
        lambda p, y, u: aps_scores(p, y, uniforms=u),
        (PROBS, LABELS, UNIFORMS),
    ),
    "aps_set": (
        lambda s, p, u: aps_set(s, p, coverage=0.8, uniforms=u),
        (SCORES, PROBS, UNIFORMS),
    ),
    "aps_set_grouped": (
        lambda s, p, g, h: aps_set(s, p, coverage=0.5, groups=(g, h), randomize=False),
        (SCORES, PROBS, GROUPS, TEST_GROUPS),
    ),
    "raps_scores": (
        lambda p, y, u: raps_scores(p, y, penalty=0.1, uniforms=u),
        (PROBS, LABELS, UNIFORMS),
    ),
    "raps_set": (
        lambda s, p, u: raps_set(s, p, coverage=0.8, penalty=0.1, uniforms=u),
        (SCORES, PROBS, UNIFORMS),
    ),
    "risk_control": (lambda x: risk_control(x, level=0.4, bound=1), (LOSSES,)),
}
CASES = pytest.mark.parametrize(
    ("function", "arguments"), FUNCTIONS.values(), ids=FUNCTIONS.keys()
)


def one(arguments, i: int = 0):
    return tuple(a[i] for a in arguments)


@CASES
def test_jit_equals_eager(function, arguments):
    eager = function(*one(arguments))
    # One rounding: a program may fuse a product with a sum.
    assert_close(jax.jit(function)(*one(arguments)), eager, rtol=2.4e-7, atol=1.2e-7)


@CASES
def test_vmap_equals_a_loop(function, arguments):
    mapped = jax.vmap(function)(*arguments)
    loop = [function(*one(arguments, i)) for i in range(3)]
    stacked = jax.tree.map(lambda *rows: np.stack(rows), *loop)
    assert_close(mapped, stacked, rtol=2.4e-7, atol=1.2e-7)


@CASES
def test_float32_agrees_with_float64(function, arguments):
    single = function(*one(arguments))
    with jax.enable_x64(True):
        wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arguments]
        double = function(*one(wide))
    for narrow, broad in zip(jax.tree.leaves(single), jax.tree.leaves(double)):
        assert narrow.dtype == broad.dtype or (
            narrow.dtype == np.float32 and broad.dtype == np.float64
        )
        np.testing.assert_allclose(np.asarray(narrow), np.asarray(broad), rtol=1e-5)


@CASES
def test_strict_rank_promotion_and_leaks(function, arguments):
    with jax.numpy_rank_promotion("raise"), jax.checking_leaks():
        jax.jit(function)(*one(arguments))


@CASES
def test_no_dtype_promotion_by_accident(function, arguments, strict_promotion):
    if function is FUNCTIONS["clopper_pearson"][0]:
        function = functools.partial(
            lambda k: clopper_pearson(k, jnp.float32(5), jnp.float32(0.9))
        )
    jax.jit(function)(*map(jnp.asarray, one(arguments)))


@CASES
def test_same_input_gives_the_same_bits(function, arguments):
    first, second = (jax.tree.leaves(function(*one(arguments))) for _ in range(2))
    for left, right in zip(first, second):
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def test_coverage_and_weights_are_traced_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def quantile(scores, coverage, w, v):
        return conformal_quantile(scores, coverage=coverage, **weights(w, v))

    for c in (0.1, 0.5, 0.9):
        quantile(SCORES[0], c, WEIGHTS[0], TEST_WEIGHTS[0])


def test_eager_sets_compile_once_for_all_coverages():
    compiled = []

    def listen(event: str, duration: float, **_) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    def sets(coverage):
        split_interval(SCORES[0], CENTERS[0], coverage=coverage)
        raps_set(SCORES[0], PROBS[0], coverage=coverage, uniforms=UNIFORMS[0])
        risk_control(LOSSES[0], level=coverage, bound=1)

    sets(0.5)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        sets(0.7)
        sets(np.float64(0.9))
        assert not compiled
        # A new shape does compile: the listener works.
        split_interval(SCORES[0, :5], CENTERS[0], coverage=0.5)
        assert compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_coverage_sweep_under_vmap():
    coverages = jnp.arange(11) / 10
    swept = jax.vmap(lambda c: conformal_quantile(SCORES[0], coverage=c))(coverages)
    loop = [float(conformal_quantile(SCORES[0], coverage=i / 10)) for i in range(11)]
    assert swept.tolist() == loop

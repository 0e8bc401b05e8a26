"""jit equals eager, vmap equals a loop, float32 agrees with float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import conformal, stats

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 17)).astype(np.float32)
TESTS = (RNG.normal(size=(3, 8)) - 1).astype(np.float32)
WEIGHTS = RNG.uniform(0.5, 2, size=(3, 17)).astype(np.float32)
TEST_WEIGHTS = RNG.uniform(0.5, 2, size=(3, 8)).astype(np.float32)
P = RNG.uniform(size=(3, 8)).astype(np.float32) ** 3


def weighted(scores, tests, w, w_test):
    return conformal.select(
        scores,
        tests,
        level=0.4,
        calibration_weights=w,
        test_weights=w_test,
        xi=0.5,
    )


FUNCTIONS = {
    "p_values": (conformal.p_values, (SCORES, TESTS)),
    "p_values_weighted": (
        lambda s, t, w, v: conformal.p_values(
            s, t, calibration_weights=w, test_weights=v
        ),
        (SCORES, TESTS, WEIGHTS, TEST_WEIGHTS),
    ),
    "select": (lambda s, t: conformal.select(s, t, level=0.3), (SCORES, TESTS)),
    "select_randomised": (
        lambda s, t: conformal.select(s, t, level=0.3, uniforms=0.5),
        (SCORES, TESTS),
    ),
    "select_weighted": (weighted, (SCORES, TESTS, WEIGHTS, TEST_WEIGHTS)),
    "auxiliary_sizes": (
        lambda s, t: conformal.auxiliary_sizes(s, t, level=0.3),
        (SCORES, TESTS),
    ),
    "prune": (
        lambda p, r: conformal.prune(p, r, level=0.3, pruning="homogeneous", xi=0.5),
        (P, np.arange(24, dtype=np.int32).reshape(3, 8) % 8 + 1),
    ),
    "histogram": (
        lambda s, t: conformal.RankHistogram.init(s).update(t),
        (SCORES, TESTS),
    ),
    "benjamini_hochberg": (lambda p: stats.benjamini_hochberg(p, 0.3), (P,)),
    "masked_bh": (lambda p: stats.benjamini_hochberg(p, 0.3, mask=p < 0.5), (P,)),
    "adjust_p_values": (stats.adjust_p_values, (P,)),
    "storey_bh": (lambda p: stats.storey_bh(p, 0.3), (P,)),
    "quantile_bh": (lambda p: stats.quantile_bh(p, 0.3), (P,)),
    "e_bh": (lambda p: stats.e_bh(1 / p, 0.3), (P,)),
    "ranks": (stats.ranks, (P,)),
    "argsort": (stats.argsort, (P,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jit_equals_eager_and_vmap_equals_a_loop(name, strict_promotion):
    function, arguments = FUNCTIONS[name]
    arguments = tuple(jnp.asarray(a) for a in arguments)
    rows = [function(*(a[i] for a in arguments)) for i in range(3)]
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    jitted = jax.jit(function)(*(a[0] for a in arguments))
    batched = jax.jit(jax.vmap(function))(*arguments)
    # Fusion may reorder one multiplication: a few ulp for floats, nothing for the rest.
    for left, right in ((jitted, rows[0]), (batched, loop)):
        left, right = jax.tree.leaves(left), jax.tree.leaves(right)
        assert len(left) == len(right)
        for a, b in zip(left, right):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_agrees_with_float64_and_keeps_its_dtype(name):
    function, arguments = FUNCTIONS[name]
    single = function(*(a[0] for a in arguments))
    with jax.enable_x64(True):
        double = function(
            *(
                a[0].astype(np.float64) if a.dtype == np.float32 else a[0]
                for a in arguments
            )
        )
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(double)):
        assert a.dtype != jnp.float64
        if jnp.issubdtype(b.dtype, jnp.floating):
            assert b.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_leaked_tracers_and_no_nan_along_the_way(name):
    function, arguments = FUNCTIONS[name]
    with jax.checking_leaks(), jax.debug_nans(True):
        result = jax.jit(function)(*(a[0] for a in arguments))
    assert jax.tree.leaves(result)


def test_one_program_serves_a_sweep_of_levels():
    levels = jnp.linspace(0.05, 0.95, 19)
    sweep = jax.jit(
        jax.vmap(lambda a: conformal.select(SCORES[0], TESTS[0], level=a).selected)
    )(levels)
    for level, row in zip(np.arange(5, 100, 5) / 100, sweep):
        single = conformal.select(SCORES[0], TESTS[0], level=float(level)).selected
        assert (row == single).all()

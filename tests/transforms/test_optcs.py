"""OptCS under jit and vmap, in both precisions, without compiling again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import conformal, learners
from jaxcur.conformal._optcs import _optcs_msel
from tests.helpers import assert_close

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 4, 17)).astype(np.float32)
TESTS = (RNG.normal(size=(3, 4, 8)) - 1).astype(np.float32)
XI = (RNG.integers(1, 17, (3, 8)) / 16).astype(np.float32)
X = RNG.normal(size=(3, 17, 2)).astype(np.float32)
LABELS = (X[:, :, 0] > 0).astype(np.float32)
NEW = RNG.normal(size=(3, 5, 2)).astype(np.float32)
LEVELS = np.arange(1, 20) / 20


def msel(pruning, beta=1.0):
    return lambda v, t, x: conformal.optcs_msel(
        v, t, level=0.4, pruning=pruning, beta=beta, xi=x
    )


def full(function, learner, **options):
    return lambda x, y, new: function(learner, x, y, new, level=0.4, **options)


RIDGE, KNN = learners.Ridge(0.5), learners.KNN(3)
FUNCTIONS = {
    "deterministic": (msel("deterministic"), (SCORES, TESTS, XI)),
    "heterogeneous": (msel("heterogeneous", 0.75), (SCORES, TESTS, XI)),
    "homogeneous": (msel("homogeneous"), (SCORES, TESTS, XI[:, 0])),
    "keyed": (
        lambda v, t, s: conformal.optcs_msel(v, t, level=0.4, key=jax.random.key(s)),
        (SCORES, TESTS, np.arange(3)),
    ),
    "naive_best_of_k": (
        lambda v, t: conformal.naive_best_of_k(v, t, level=0.4),
        (SCORES, TESTS),
    ),
    "bh_after_optcs": (
        lambda v, t, x: conformal.bh_after_optcs(msel("homogeneous")(v, t, x)),
        (SCORES, TESTS, XI[:, 0]),
    ),
    "pooled": (full(conformal.optcs_full, RIDGE), (X, LABELS, NEW)),
    "per_candidate": (
        full(conformal.optcs_full, RIDGE, variant="per_candidate", xi=0.5),
        (X, LABELS, NEW),
    ),
    "full_msel": (
        full(conformal.optcs_full_msel, [RIDGE, KNN], xi=0.5),
        (X, LABELS, NEW),
    ),
}


def same(left, right, rtol):
    left, right = jax.tree.leaves(left), jax.tree.leaves(right)
    assert len(left) == len(right)
    for a, b in zip(left, right):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jit_equals_eager_and_vmap_equals_a_loop(name, strict_promotion):
    function, arguments = FUNCTIONS[name]
    arguments = tuple(jnp.asarray(a) for a in arguments)
    rows = [function(*(a[i] for a in arguments)) for i in range(3)]
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    # Fusion may reorder one multiplication: a few ulp for floats, nothing for the rest.
    same(jax.jit(function)(*(a[0] for a in arguments)), rows[0], 1e-6)
    same(jax.jit(jax.vmap(function))(*arguments), loop, 1e-6)


# Each of these compiles anew: one of a kind is enough.
SOME = ("homogeneous", "naive_best_of_k", "per_candidate", "full_msel")


@pytest.mark.parametrize("name", SOME)
def test_float32_agrees_with_float64_and_keeps_its_dtype(name):
    function, arguments = FUNCTIONS[name]
    single = function(*(a[0] for a in arguments))
    with jax.enable_x64(True):
        double = function(*(a[0].astype(np.float64) for a in arguments))
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(double)):
        assert a.dtype != jnp.float64 and a.dtype != jnp.int64
        if jnp.issubdtype(b.dtype, jnp.floating):
            assert b.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("name", SOME)
def test_no_leaked_tracers_and_no_nan_along_the_way(name):
    function, arguments = FUNCTIONS[name]
    with jax.checking_leaks(), jax.debug_nans(True):
        result = jax.jit(function)(*(a[0] for a in arguments))
    assert jax.tree.leaves(result)


@pytest.mark.parametrize("pruning", ["deterministic", "homogeneous", "heterogeneous"])
def test_one_program_serves_a_sweep_of_levels(pruning):
    draw = XI[0] if pruning == "heterogeneous" else 0.5
    call = functools.partial(
        conformal.optcs_msel, SCORES[0], TESTS[0], pruning=pruning, xi=draw
    )
    sweep = jax.jit(jax.vmap(lambda a: call(level=a)))(jnp.asarray(LEVELS))
    for i, level in enumerate(LEVELS):
        single = call(level=float(level))
        for name in ("selected", "first_step", "auxiliary_sizes", "chosen_model"):
            row = np.asarray(getattr(sweep, name))[i]
            assert (row == np.asarray(getattr(single, name))).all(), (name, level)
        assert_close(sweep.e_values[i], single.e_values, rtol=1e-5)


def test_the_sorts_of_a_sweep_are_done_once():
    """Under vmap over the level no sort has a leading axis of levels."""
    program = jax.make_jaxpr(
        jax.vmap(
            lambda a: (
                conformal.optcs_msel(SCORES[0], TESTS[0], level=a, xi=0.5).selected
            )
        )
    )(jnp.asarray(LEVELS))
    shapes = set(sort_shapes(program.jaxpr))
    assert shapes
    assert all(len(LEVELS) not in shape for shape in shapes)


def sort_shapes(jaxpr):
    """Shapes of everything sorted in a program, in its subprograms too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "sort":
            yield from (variable.aval.shape for variable in equation.invars)
        for value in equation.params.values():
            for part in value if isinstance(value, (list, tuple)) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from sort_shapes(inner)


def test_a_sweep_of_levels_without_a_split():
    sweep = jax.jit(
        jax.vmap(
            lambda a: (
                conformal.optcs_full(RIDGE, X[0], LABELS[0], NEW[0], level=a).selected
            )
        )
    )(jnp.asarray(LEVELS))
    for level, row in zip(LEVELS, sweep):
        single = conformal.optcs_full(
            RIDGE, X[0], LABELS[0], NEW[0], level=float(level)
        )
        assert (np.asarray(row) == np.asarray(single.selected)).all()


def test_vmap_over_levels_beta_and_draws_together():
    levels = jnp.asarray([0.2, 0.3, 0.5])
    betas = jnp.asarray([1.0, 0.9, 0.5])
    batch = jax.vmap(
        lambda v, t, a, b, x: conformal.optcs_msel(
            v, t, level=a, beta=b, pruning="heterogeneous", xi=x
        )
    )(SCORES, TESTS, levels, betas, XI)
    for i, (level, beta) in enumerate([(0.2, 1.0), (0.3, 0.9), (0.5, 0.5)]):
        single = conformal.optcs_msel(
            SCORES[i],
            TESTS[i],
            level=level,
            beta=beta,
            pruning="heterogeneous",
            xi=XI[i],
        )
        for name in ("selected", "first_step", "auxiliary_sizes"):
            row = np.asarray(getattr(batch, name))[i]
            assert (row == np.asarray(getattr(single, name))).all()


def test_other_levels_betas_draws_and_scores_do_not_recompile():
    call = functools.partial(conformal.optcs_msel, pruning="heterogeneous")
    call(SCORES[0], TESTS[0], level=0.1, beta=0.5, xi=XI[0])
    before = _optcs_msel._cache_size()
    for i, level in enumerate((0.2, np.float32(0.3), jnp.asarray(0.4), 1, 0)):
        for beta in (1, 0.9, np.float32(0.7)):
            call(SCORES[i % 3] + 1, TESTS[i % 3], level=level, beta=beta, xi=XI[i % 3])
    assert _optcs_msel._cache_size() == before
    # A key instead of the draw is the same program too.
    call(SCORES[0], TESTS[0], level=0.1, key=jax.random.key(0))
    assert _optcs_msel._cache_size() == before


def test_a_new_level_does_not_compile_the_fits_again():
    traces = []

    @jax.tree_util.register_static
    class Counted:
        def fit(self, features, target, weights=None, *, key=None):
            traces.append(1)
            return RIDGE.fit(features, target, weights)

        def predict(self, params, features):
            return RIDGE.predict(params, features)

    learner = Counted()
    program = jax.jit(
        lambda x, y, new, level: (
            conformal.optcs_full(learner, x, y, new, level=level).selected
        )
    )
    for i, level in enumerate((0.1, 0.2, 0.5)):
        program(X[i], LABELS[i], NEW[i], level)
    count = len(traces)
    program(X[0], LABELS[0], NEW[0], 0.9)
    assert len(traces) == count

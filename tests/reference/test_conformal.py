"""Values of independent implementations; provenance beside the data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import conformal, stats
from tests.helpers import assert_close, load_reference

# The stored tolerance: 1e-12 relative in float64, 1e-5 in float32.
RTOL = {"float64": 1e-12, "float32": 1e-5}
PRUNINGS = {
    "dtm": "deterministic",
    "hete": "heterogeneous",
    "homo": "homogeneous",
}


def chosen(mask) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def cases(name: str) -> list:
    return load_reference(f"conformal/{name}.json")["cases"]


def arrays(case: dict, names: str, dtype) -> list[jax.Array]:
    return [jnp.asarray(np.asarray(case[name], dtype)) for name in names.split()]


@pytest.mark.parametrize("case", cases("pvalues_bh"), ids=lambda c: c["family"])
def test_p_values_and_bh_sets(case, dtype):
    scores, tests, uniforms = arrays(case, "V t U", dtype)
    rtol = RTOL[dtype.name]
    assert_close(conformal.p_values(scores, tests), case["p_det"], rtol=rtol)
    randomised = jax.jit(conformal.p_values)(scores, tests, uniforms=uniforms)
    assert_close(randomised, case["p_rand"], rtol=rtol)
    for level, sets in case["bh"].items():
        alpha = float(level)
        result = conformal.select(scores, tests, level=alpha)
        assert chosen(result.selected) == sets["det"], level
        drawn = conformal.select(scores, tests, level=alpha, uniforms=uniforms)
        assert chosen(drawn.selected) == sets["rand"], level
        on_p = stats.benjamini_hochberg(jnp.asarray(result.p_values), alpha)
        assert chosen(on_p) == sets["det"], level
    if case["bh"]:
        levels = jnp.asarray([float(level) for level in case["bh"]], dtype)
        sweep = jax.jit(jax.vmap(lambda a: conformal.select(scores, tests, level=a)))
        rows = sweep(levels).selected
        assert [chosen(r) for r in rows] == [s["det"] for s in case["bh"].values()]


@pytest.mark.parametrize(
    "case",
    [c for c in cases("pvalues_bh") if c["family"] != "edge"],
    ids=lambda c: f"{c['family']}-{c['seed']}",
)
def test_score_families(case, x64):
    inputs = {k: jnp.asarray(np.asarray(v, float)) for k, v in case["inputs"].items()}
    y, mu, c, sigma = (inputs[k] for k in ("Y", "mu", "c", "sigma"))
    mut, ct, sigmat = (inputs[k] for k in ("mut", "ct", "sigmat"))
    bound = case["M"]
    family = case["family"]
    if family == "residual":
        score = conformal.ResidualScore()
        pair = score.calibration(mu, y, c), score.test(mut, ct)
    elif family == "clipped":
        score = conformal.ClipScore(bound)
        pair = score.calibration(mu, y, c), score.test(mut, ct)
    elif family == "clipped0":
        score = conformal.BinaryScore(bound)
        pair = score.calibration(mu, y, c), score.test(mut, ct)
    elif family == "clipped_scaled":
        score = conformal.BinaryScore(bound)
        pair = score.calibration(mu / sigma, y, c), score.test(mut / sigmat, ct)
    elif family == "scaled_residual":
        scaled = conformal.ScaledResidualScore()
        pair = scaled.calibration(mu, y, c, sigma), scaled.test(mut, ct, sigmat)
    else:
        assert family == "relevant"
        relevant = conformal.RelevantScore()
        pair = relevant.calibration(mu, y, c), relevant.test(mut, ct)
    assert_close(pair, (np.asarray(case["V"]), np.asarray(case["t"])), rtol=1e-12)


def test_infinite_bound_selects_as_the_finite_one(x64):
    for case in cases("pvalues_bh"):
        if case["family"] != "clipped":
            continue
        mu, y, c = (np.asarray(case["inputs"][k], float) for k in ("mu", "Y", "c"))
        mut, ct = (np.asarray(case["inputs"][k], float) for k in ("mut", "ct"))
        score = conformal.ClipScore()
        result = conformal.p_values(score.calibration(mu, y, c), score.test(mut, ct))
        assert_close(result, case["p_det"], rtol=1e-12)


@pytest.mark.parametrize("case", cases("weighted"), ids=lambda c: str(c["seed"]))
def test_weighted_selection(case, dtype):
    names = "V t w wt U xi"
    scores, tests, w, w_test, uniforms, xi = arrays(case, names, dtype)
    weights = {"calibration_weights": w, "test_weights": w_test}
    rtol = RTOL[dtype.name]
    plain = jax.jit(conformal.p_values)(scores, tests, **weights)
    assert_close(plain, case["p_det"], rtol=rtol)
    drawn = conformal.p_values(scores, tests, **weights, uniforms=uniforms)
    assert_close(drawn, case["p_rand"], rtol=rtol)
    level = case["q"]
    for strict, name in ((False, "R_le"), (True, "R_lt")):
        sizes = conformal.auxiliary_sizes(
            scores, tests, level=level, strict=strict, **weights
        )
        assert np.asarray(sizes).tolist() == case[name]
    # One shape for every draw, so that each form compiles once.
    shared = jnp.full(tests.shape, case["xi_homo"], dtype)
    draws = {"dtm": jnp.ones_like(xi), "hete": xi, "homo": shared}
    for short, draw in draws.items():
        for suffix, u in (("", None), ("_rand", uniforms)):
            result = conformal.select(
                scores, tests, level=level, **weights, uniforms=u, xi=draw
            )
            expected = case["sets"][short + suffix]
            assert chosen(result.selected) == expected["sel"], short + suffix


def test_weighted_selection_by_name_of_pruning_and_in_batches(dtype):
    case = cases("weighted")[1]
    scores, tests, w, w_test, xi = arrays(case, "V t w wt xi", dtype)
    level = case["q"]

    def selected(v, t, pruning, draw):
        result = conformal.select(
            v,
            t,
            level=level,
            calibration_weights=w,
            test_weights=w_test,
            pruning=pruning,
            xi=draw,
        )
        return result.selected

    draws = {"dtm": None, "hete": xi, "homo": case["xi_homo"]}
    for short, pruning in PRUNINGS.items():
        chosen_by = functools.partial(selected, pruning=pruning, draw=draws[short])
        batched = jax.jit(jax.vmap(chosen_by))
        rows = batched(jnp.stack([scores] * 2), jnp.stack([tests] * 2))
        assert [chosen(row) for row in rows] == [case["sets"][short]["sel"]] * 2


@pytest.mark.parametrize("case", cases("ebh"), ids=lambda c: str(c["seed"]))
def test_e_bh(case, dtype):
    e_values, xi = arrays(case, "e xi", dtype)
    e_bh = jax.jit(functools.partial(stats.e_bh, level=case["q"]))
    assert chosen(e_bh(e_values)) == case["ebh"]
    assert chosen(e_bh(e_values / xi)) == case["ebh_hete"]
    assert chosen(e_bh(e_values / xi[0])) == case["ebh_homo"]


@pytest.mark.parametrize("case", cases("empbh_adaptive"), ids=lambda c: str(c["seed"]))
def test_adaptive_bh(case, dtype):
    null, tests = arrays(case, "null test", dtype)
    # Larger statistics are evidence here; our scores go the other way.
    p = conformal.p_values(-null, -tests)
    assert_close(p, case["p"], rtol=RTOL[dtype.name])
    level = case["level"]
    assert chosen(stats.benjamini_hochberg(p, level)) == sorted(case["bh"])
    assert chosen(stats.storey_bh(p, level)) == sorted(case["storey"])
    assert chosen(stats.quantile_bh(p, level)) == sorted(case["quantile"])


def boundary_cases() -> list[dict]:
    return load_reference("conformal/boundary_ties.json")["cases"]


def test_boundary_ties_are_accepted():
    for case in boundary_cases():
        exact = stats.grid_thresholds(case["alpha"], case["n"], case["m"])
        assert int(exact[case["r"] - 1]) >= case["rank"], case
        # And the next rank is not: the threshold is exact, not merely generous.
        assert int(exact[case["r"] - 1]) == case["rank"], case


@pytest.mark.parametrize("case", boundary_cases()[::10], ids=str)
def test_every_route_accepts_a_boundary_tie(case, dtype):
    n, m, k, rank = case["n"], case["m"], case["r"], case["rank"]
    alpha = case["alpha"]
    exact = stats.grid_thresholds(alpha, n, m)
    traced = jnp.asarray(alpha, dtype)
    thresholds = jax.jit(stats.grid_thresholds, static_argnums=(1, 2))
    assert (thresholds(traced, n, m) == exact).all()
    # k candidates exactly at the boundary, the others hopeless.
    scores = jnp.arange(1, n + 1, dtype=dtype)
    tests = jnp.where(jnp.arange(m) < k, rank - 0.5, n + 1.0).astype(dtype)
    expected = list(range(k))
    assert chosen(conformal.select(scores, tests, level=alpha).selected) == expected
    jitted = jax.jit(lambda a, s, t: conformal.select(s, t, level=a).selected)
    assert chosen(jitted(traced, scores, tests)) == expected
    p = conformal.p_values(scores, tests)
    assert chosen(stats.benjamini_hochberg(p, alpha)) == expected
    histogram = conformal.RankHistogram.init(scores).update(tests)
    assert chosen(tests <= histogram.score_cutoff(alpha)) == expected

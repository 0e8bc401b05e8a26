"""OptCS values of independent implementations; provenance beside the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import conformal, learners
from tests.helpers import assert_close, load_reference

RTOL = {"float64": 1e-12, "float32": 1e-5}
PRUNINGS = {"dtm": "deterministic", "hete": "heterogeneous", "homo": "homogeneous"}
RBF_05 = learners.KernelRidge(learners.RBF(0.5), 1.0)
RBF_2 = learners.KernelRidge(learners.RBF(2.0), 0.1)
LEARNERS = {
    "ridge_0.1": learners.Ridge(0.1),
    "ridge_1": learners.Ridge(1.0),
    "ridge_30": learners.Ridge(30.0),
    "krr_rbf_g0.5_a1": RBF_05,
    "krr_rbf_g2_a0.1": RBF_2,
    "ridge_1_noint": learners.Ridge(1.0, intercept=False),
    "knn_5": learners.KNN(5),
}


def chosen(mask) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def cases(name: str) -> list:
    return load_reference(f"conformal/{name}.json")["cases"]


@pytest.mark.parametrize("case", cases("optcs_msel"), ids=lambda c: str(c["seed"]))
def test_optcs_msel(case, dtype):
    scores = jnp.asarray(np.asarray(case["V"], dtype))
    tests = jnp.asarray(np.asarray(case["t"], dtype))
    level = case["q"]
    xi = jnp.asarray(np.asarray(case["xi"], dtype))
    shared = jnp.full(xi.shape, case["xi_homo"], dtype)
    draws = {"dtm": jnp.ones_like(xi), "hete": xi, "homo": shared}
    for name, expected in case["sets"].items():
        short, beta = name.split("_")
        result = conformal.optcs_msel(
            scores, tests, level=level, beta=float(beta), xi=draws[short]
        )
        assert chosen(result.first_step) == expected["first"], name
        assert chosen(result.selected) == expected["sel"], name
    result = conformal.optcs_msel(scores, tests, level=level, xi=xi)
    assert np.asarray(result.auxiliary_sizes).tolist() == case["R"]
    assert np.asarray(result.chosen_model).tolist() == case["theta_lowest_index"]
    assert_close(result.p_values, case["p"], rtol=RTOL[dtype.name])
    assert_close(result.e_values, case["e"], rtol=RTOL[dtype.name])
    per_model = jax.vmap(lambda v, t: conformal.auxiliary_sizes(v, t, level=level))
    assert np.asarray(per_model(scores, tests)).tolist() == case["R_per_model"]


def test_pruning_by_name_and_a_sweep_of_levels():
    case = cases("optcs_msel")[3]
    scores, tests = np.asarray(case["V"]), np.asarray(case["t"])
    draws = {"dtm": None, "hete": np.asarray(case["xi"]), "homo": case["xi_homo"]}
    for short, pruning in PRUNINGS.items():
        sweep = jax.jit(
            jax.vmap(
                lambda a, p=pruning, d=draws[short]: conformal.optcs_msel(
                    scores, tests, level=a, pruning=p, xi=d
                )
            )
        )
        rows = sweep(jnp.asarray([case["q"], 0.5])).selected
        assert chosen(rows[0]) == case["sets"][f"{short}_1.0"]["sel"]


@pytest.mark.parametrize(
    "case", cases("optcs_msel_large"), ids=lambda c: str(c["seed"])
)
def test_optcs_msel_large(case, x64):
    n, m, num_models = case["n"], case["m"], case["K"]
    rng = np.random.default_rng(case["seed"])
    y, y_test = rng.standard_normal(n), rng.standard_normal(m)
    noise, noise_test = rng.standard_normal((n, num_models)), None
    noise_test = rng.standard_normal((m, num_models))
    scale = np.linspace(0.5, 3, num_models)
    mu = (y[:, None] + scale * noise).T
    mu_test = (y_test[:, None] + scale * noise_test).T
    result = conformal.optcs_msel(
        1000 * (y > 0) - mu, -mu_test, level=case["q"], pruning="deterministic"
    )
    sizes = np.asarray(result.auxiliary_sizes)
    summary = [sizes.sum(), sizes.min(), sizes.max()]
    assert summary == [case["R_sum"], case["R_min"], case["R_max"]]
    counts = np.bincount(np.asarray(result.chosen_model), minlength=num_models)
    assert counts.tolist() == case["theta_counts"]
    ranks = np.rint(np.asarray(result.p_values) * (n + 1)).astype(int)
    assert ranks.sum() == case["rank_sum"]
    assert ranks[:10].tolist() == case["rank_first10"]
    assert int(result.first_step.sum()) == case["first_size"]
    assert int(result.num_selected) == case["dtm_size"]


@pytest.mark.parametrize("case", cases("optcs_full"), ids=lambda c: str(c["seed"]))
def test_optcs_full_and_full_msel(case, x64):
    x, x_test = np.asarray(case["X"]), np.asarray(case["Xt"])
    labels = np.asarray(case["Y"]) > 0
    pool = np.concatenate([x, x_test])
    target = np.concatenate([labels, np.zeros(len(x_test))])
    level = case["q"]
    assert case["full"].keys() <= LEARNERS.keys()
    for name, expected in case["full"].items():
        learner = LEARNERS[name]
        predicted = learners.leave_one_out(learner, pool, target)
        assert_close(predicted, case["loo_pred"][name], rtol=1e-8, atol=1e-10)
        result = conformal.optcs_full(learner, x, labels, x_test, level=level)
        assert_close(result.p_values, expected["p"], rtol=1e-12)
        assert np.asarray(result.auxiliary_sizes).tolist() == expected["R"], name
        assert chosen(result.selected) == expected["sel"], name
    together = case["full_msel"]
    members = [LEARNERS[name] for name in together["models"]]
    xi = np.asarray(case["xi"])
    for short, draw in (("dtm", np.ones_like(xi)), ("hete", xi)):
        result = conformal.optcs_full_msel(
            members, x, labels, x_test, level=level, xi=draw
        )
        assert chosen(result.selected) == together[short], short
    assert np.asarray(result.auxiliary_sizes).tolist() == together["R"]
    expected_models = together["theta_lowest_index"]
    assert np.asarray(result.chosen_model).tolist() == expected_models
    assert_close(result.p_values, together["p"], rtol=1e-12)


@pytest.mark.parametrize("case", cases("optcs_full"), ids=lambda c: str(c["seed"]))
def test_optcs_full_per_candidate(case, x64):
    expected = case["per_j_ridge_1"]
    result = conformal.optcs_full(
        learners.Ridge(1.0),
        np.asarray(case["X"]),
        np.asarray(case["Y"]) > 0,
        np.asarray(case["Xt"]),
        level=case["q"],
        variant="per_candidate",
        pruning="deterministic",
    )
    assert_close(result.p_values, expected["p"], rtol=1e-12)
    assert np.asarray(result.auxiliary_sizes).tolist() == expected["R"]
    assert chosen(result.first_step) == expected["first"]
    assert chosen(result.selected) == expected["dtm"]

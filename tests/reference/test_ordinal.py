"""Certified paths, R ordinal, VGAM, ordinalNet and the authors' code.

Strengths are padded to one length by repeating the last, so that the cases of one data
set, family and link share a program.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ordinal
from tests.helpers import assert_close, load_reference

CERTIFIED = load_reference("presto/certified_paths_small.json")
AUTHORS = load_reference("presto/presto_paths_small.json")
ORDINALNET = load_reference("presto/ordinalnet_paths.json")
CLM = load_reference("presto/clm_fits.json")
VGLM = load_reference("presto/vglm_fits.json")

pytestmark = pytest.mark.usefixtures("x64")


@functools.cache
def rows(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
    """Features, classes from 0, weights, number of classes."""
    table = load_reference(f"presto/{name}.csv")
    if name == "wine":
        X = np.column_stack([table["temp"] == "warm", table["contact"] == "yes"])
        return X.astype(float), table["rating"] - 1, None, 5
    if name == "housing":
        columns = [
            table["Infl"] == "Medium",
            table["Infl"] == "High",
            table["Type"] == "Apartment",
            table["Type"] == "Atrium",
            table["Type"] == "Terrace",
            table["Cont"] == "High",
        ]
        order = {"Low": 0, "Medium": 1, "High": 2}
        y = np.array([order[s] for s in table["Sat"]])
        return np.column_stack(columns).astype(float), y, table["Freq"] * 1.0, 3
    names = table.dtype.names
    features = np.column_stack([table[c] for c in names if c.startswith("x")])
    if name == "s4":
        counts = np.column_stack([table[c] for c in names if c.startswith("n")])
        y = np.tile(np.arange(5), len(counts))
        return np.repeat(features, 5, axis=0), y, counts.ravel() * 1.0, 5
    return features, table["y"] - 1, None, int(table["y"].max())


def solve(name: str, strengths, *, reverse: bool = False, **options):
    X, y, weights, k = rows(name)
    length = 20 if name == "s1" else 8
    padded = np.pad(np.asarray(strengths), (0, length - len(strengths)), mode="edge")
    fits = ordinal.path(
        X,
        k - 1 - y if reverse else y,
        num_classes=k,
        weights=weights,
        regularizations=padded,
        **options,
    )
    return jax.tree.map(
        lambda leaf: leaf[: len(strengths)] if leaf.shape[:1] == (length,) else leaf,
        fits,
    )


CERTIFIED_CASES = {
    "s1": ("s1", {}),
    "s1_nostd": ("s1", {"standardize": False}),
    "s1_enet_half": ("s1", {"penalty": ordinal.Presto(l1_ratio=0.5)}),
    "s1_ridge": ("s1", {"penalty": ordinal.Presto(l1_ratio=0.0)}),
    "s1_pf": ("s1", {"penalty": ordinal.Presto(weights=[0.0, 1.0, 2.0, 0.5, 1.0])}),
    "s1_first0": ("s1", {"penalty": ordinal.Presto(first=0.0)}),
    "s1_reverse_labels": ("s1", {"reverse": True}),
    "s1_reverse_labels_first0": (
        "s1",
        {"reverse": True, "penalty": ordinal.Presto(first=0.0)},
    ),
    "s3_n_lt_p": ("s3", {}),
    "s4_counts": ("s4", {}),
    "wine": ("wine", {}),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=pytest.mark.slow if c == "s1_nostd" else ())
        for c in CERTIFIED_CASES
    ],
)
def test_the_certified_path_is_reproduced(case):
    name, options = CERTIFIED_CASES[case]
    stored = CERTIFIED[case]
    fits = solve(name, stored["lambda"], **options)
    assert np.all(np.asarray(fits.status) == 0)
    assert_close(fits.max_regularization[0], stored["lambda_max"], rtol=1e-10)
    assert_close(fits.objective, stored["objective"], rtol=0, atol=1e-12)
    # At a residual of 1e-9 of the largest strength.
    assert_close(fits.intercepts, stored["alpha"], rtol=0, atol=1e-7)
    beta = np.moveaxis(np.asarray(fits.coefficients), 2, 1)
    assert_close(beta, stored["beta"], rtol=0, atol=1e-7)
    assert_close(fits.loglik, stored["loglik"], rtol=0, atol=1e-6)
    assert np.all(np.asarray(fits.gap_bound) < 1e-6)
    # At the largest strength itself an entry may be zero or a rounding error.
    count = np.asarray(fits.num_nonzero)[1:] - fits.intercepts.shape[1]
    np.testing.assert_array_equal(count, stored["nonzero"][1:])
    if case != "s4_counts":
        head = rows(name)[0][: len(stored["probs"][0])]
        probs = jax.vmap(lambda r: ordinal.predict_proba(r, head, repair="none"))(fits)
        assert_close(probs, stored["probs"], rtol=0, atol=1e-7)


def test_two_classes_are_a_lasso_logistic_regression():
    stored = CERTIFIED["wine_K2"]
    X, y, _, _ = rows("wine")
    halves = [(y > cut).astype(int) for cut in range(4)]
    # The stored case does not say where it cut; one of the four must fit it.
    found = []
    for half in halves:
        fits = ordinal.path(X, half, num_classes=2, regularizations=stored["lambda"])
        found.append(np.max(np.abs(np.asarray(fits.objective) - stored["objective"])))
    assert min(found) < 1e-12


def test_the_unpenalised_non_proportional_fit_is_reproduced():
    stored = load_reference("presto/certified_nonproportional.json")
    stored = stored["s1_nonproportional_unpenalised"]
    fit = solve("s1", [0.0]).at(0)
    assert int(fit.status) == 0
    assert int(fit.num_crossing) > 0
    assert_close(fit.intercepts, stored["alpha"], rtol=0, atol=1e-8)
    assert_close(fit.coefficients.T, stored["beta"], rtol=0, atol=1e-8)
    assert_close(fit.loglik, stored["loglik"], rtol=1e-10)


def test_cross_validation_is_reproduced():
    stored = load_reference("presto/certified_cv_s1.json")
    X, y, _, _ = rows("s1")
    folds = np.arange(len(y)) % 5
    kept = {"num_classes": 4, "folds": folds, "regularizations": stored["lambda_path"]}
    brier = ordinal.cross_validate(X, y, **kept)
    assert_close(brier.fold_scores, stored["brier"], rtol=0, atol=1e-7)
    assert_close(brier.mean_scores, stored["mean_brier"], rtol=0, atol=1e-7)
    assert int(brier.selected) == stored["selected_index"]


@pytest.mark.slow
def test_the_log_loss_of_cross_validation_is_reproduced():
    stored = load_reference("presto/certified_cv_s1.json")
    X, y, _, _ = rows("s1")
    folds = np.arange(len(y)) % 5
    kept = {"num_classes": 4, "folds": folds, "regularizations": stored["lambda_path"]}
    scores = ordinal.cross_validate(X, y, criterion="logloss", **kept).fold_scores
    sizes = np.bincount(folds)
    ours, theirs = -np.asarray(scores) * sizes, np.asarray(stored["loglik"], float)
    comparable = np.isfinite(theirs)
    assert comparable.sum() > 50
    np.testing.assert_allclose(ours[comparable], theirs[comparable], rtol=1e-7)
    # A held-out row of negative probability.
    assert np.all(np.isneginf(ours[~comparable]))


SLOW = ["s1_l1_nostd", "s1_probit", "s1_cloglog", "s1_cauchit", "s1_sratio"]
SLOW += ["s1_cratio", "s3_l1", "wine_l1"]


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in AUTHORS],
)
def test_the_authors_path_is_reproduced_where_it_converged(case):
    stored, settings = AUTHORS[case], AUTHORS[case]["settings"]
    fits = solve(
        case.split("_")[0],
        stored["lambda"],
        reverse=settings["reverse"],
        family=settings["family"],
        link=settings["link"],
        # Scoring steps, which the Cauchy link needs, converge linearly.
        max_steps=200 if settings["link"] == "cauchit" else 100,
        standardize=settings["standardize"],
        penalty=ordinal.Presto(
            first=settings["first_block_multiplier"],
            l1_ratio=settings["l1_ratio"],
            weights=settings["penalty_factors"],
        ),
    )
    assert_close(fits.objective, stored["objective"], rtol=0, atol=1e-9)
    assert_close(fits.intercepts, stored["alpha"], rtol=0, atol=1e-5)
    beta = np.moveaxis(np.asarray(fits.coefficients), 2, 1)
    assert_close(beta, stored["beta"], rtol=0, atol=1e-5)
    assert np.all(np.asarray(fits.status) == 0)


PENALTIES = {
    "parallel": ordinal.Parallel(),
    "nonparallel": ordinal.NonParallel(),
    "semiparallel": ordinal.SemiParallel(1.0),
}
FAST = [
    "s1_cumulative_parallel",
    "s1_cumulative_nonparallel",
]


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in ORDINALNET],
)
def test_ordinalnet_is_reproduced(case):
    stored = ORDINALNET[case]
    fits = solve(
        "s1",
        stored["lambda"],
        family=case.split("_")[1],
        link=stored["args"].get("link", "logit"),
        penalty=PENALTIES[case.split("_")[2]],
    )
    names, coefs = stored["coef_names"], np.asarray(stored["coefs"])
    beta = np.zeros((len(coefs), 5, 3))
    for name, column in zip(names, coefs.T, strict=True):
        if name.startswith("(Int"):
            continue
        feature, _, boundary = name.partition(":")
        j = int(feature[1:]) - 1
        if boundary:
            beta[:, j, int(boundary) - 1] += column
        else:
            beta[:, j, :] += column[:, None]
    settled = np.ones(len(coefs), bool)
    if case == "s1_cumulative_nonparallel":
        # R stops where some probability of a training row reaches zero.
        settled = np.asarray(fits.num_crossing) == 0
        assert settled.any()
    # Their coordinate descent ends a little early where blocks compete.
    theirs = np.asarray(stored["loglik"])[settled]
    assert_close(np.asarray(fits.loglik)[settled], theirs, rtol=1e-6)
    assert_close(
        np.asarray(fits.coefficients)[settled], beta[settled], rtol=0, atol=1e-5
    )


def partial(name: str, mask, **options):
    return solve(name, [0.0], penalty=ordinal.Partial(np.array(mask)), **options).at(0)


LINKS = ["logit", "probit", "cloglog", "loglog"]


@pytest.mark.parametrize(
    "link",
    [pytest.param(x, marks=() if x == "logit" else pytest.mark.slow) for x in LINKS],
)
@pytest.mark.parametrize("data", ["wine", "housing"])
def test_clm_is_reproduced(data, link):
    name = "wine_po" if data == "wine" else "housing_po_expanded"
    stored = CLM[f"{name}_{link}"]
    X, y, weights, k = rows(data)
    fit = partial(data, [True] * X.shape[1], link=link)
    assert_close(fit.intercepts, stored["coef"][: k - 1], rtol=0, atol=1e-7)
    beta = -np.asarray(stored["coef"][k - 1 :])
    for boundary in range(k - 1):
        assert_close(fit.coefficients[:, boundary], beta, rtol=0, atol=1e-7)
    assert_close(fit.loglik, stored["loglik"], rtol=1e-8)
    errors = ordinal.standard_errors(fit, X, y, weights=weights)
    assert_close(errors.intercepts, stored["se"][: k - 1], rtol=1e-6)
    assert_close(errors.coefficients[:, 0], stored["se"][k - 1 :], rtol=1e-6)
    if data == "wine":
        probs = np.asarray(ordinal.predict_proba(fit, X))
        own = probs[np.arange(10), y[:10]]
        assert_close(own, stored["fitted_observed_class"], rtol=0, atol=1e-8)


@pytest.mark.slow
def test_clm_cauchit_is_reproduced():
    stored = CLM["wine_po_cauchit"]
    fit = partial("wine", [True, True], link="cauchit")
    # clm replaces the infinite ends by large finite ones.
    assert_close(fit.loglik, stored["loglik"], rtol=1e-3)
    assert_close(fit.intercepts, stored["coef"][:4], rtol=1e-3)


def test_clm_partial_proportional_odds_is_reproduced():
    stored = CLM["wine_ppo_contact_logit"]
    fit = partial("wine", [True, False])
    assert_close(fit.loglik, stored["loglik"], rtol=1e-8)
    assert_close(fit.intercepts, stored["coef"][:4], rtol=0, atol=1e-7)
    # Nominal terms are added to the threshold, so they carry our sign.
    assert_close(fit.coefficients[1], stored["coef"][4:8], rtol=0, atol=1e-7)
    assert_close(fit.coefficients[0, 0], -stored["coef"][8], rtol=0, atol=1e-7)
    X, y, _, _ = rows("wine")
    errors = ordinal.standard_errors(fit, X, y)
    assert_close(errors.coefficients[1], stored["se"][4:8], rtol=1e-6)


def test_a_fit_at_the_edge_is_called_diverging():
    fit = partial("wine", [False, False])
    assert int(fit.status) == 2
    assert np.all(np.isfinite(np.asarray(fit.coefficients)))
    assert_close(fit.loglik, CLM["wine_npo_logit"]["loglik"], rtol=0, atol=1e-5)


def test_clm_nominal_test_is_reproduced():
    stored = CLM["wine_nominal_test"]
    X, y, _, _ = rows("wine")
    found = ordinal.nominal_test(X, y, num_classes=5)
    assert int(found.degrees) == stored["df"][1]
    assert_close(found.statistic, stored["lrt"][1:], rtol=0, atol=1e-6)
    finite = np.asarray(found.status) == 0
    p_value = np.where(finite, stored["p"][1:], np.nan)
    assert_close(found.p_value, p_value, rtol=0, atol=1e-6)


VGLM_FAST = [
    "s1_cumulative_parallel",
    "s1_cumulative_partial_x2",
    "s1_acat_parallel",
    "s1_acat_nonparallel",
]
VGLM_CASES = {
    "s1_cumulative_parallel": {"family": "cumulative"},
    "s1_acat_parallel": {"family": "acat"},
    "s1_sratio_parallel": {"family": "sratio"},
    "s1_cumulative_probit_parallel": {"family": "cumulative", "link": "probit"},
    "s1_cratio_parallel": {"family": "cratio"},
    "s1_cumulative_cloglog_parallel": {"family": "cumulative", "link": "cloglog"},
    "s1_acat_nonparallel": {"family": "acat"},
    "s1_sratio_nonparallel": {"family": "sratio"},
    "s1_cratio_nonparallel": {"family": "cratio"},
    "s1_cumulative_partial_x2": {"family": "cumulative"},
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=() if c in VGLM_FAST else pytest.mark.slow)
        for c in VGLM_CASES
    ],
)
def test_vglm_is_reproduced(case):
    stored = VGLM[case]
    mask = np.full(5, not case.endswith("nonparallel"))
    if case.endswith("x2"):
        mask[1] = False
    fit = partial("s1", mask, **VGLM_CASES[case])
    X, y, _, _ = rows("s1")
    errors = ordinal.standard_errors(fit, X, y, kind="expected")
    assert_close(fit.loglik, stored["loglik"], rtol=1e-9)
    for name, value, error in zip(
        stored["names"], stored["coef"], stored["se"], strict=True
    ):
        feature, _, boundary = name.partition(":")
        k = int(boundary or 1) - 1
        if feature == "(Intercept)":
            ours, our_error = fit.intercepts[k], errors.intercepts[k]
        else:
            j = int(feature[1:]) - 1
            ours, our_error = fit.coefficients[j, k], errors.coefficients[j, k]
        assert_close(float(ours), value, rtol=0, atol=1e-6)
        assert_close(float(our_error), error, rtol=1e-4)
    probs = ordinal.predict_proba(fit, X[:6])
    assert_close(probs, stored["fitted"], rtol=0, atol=1e-6)


def test_float32_is_near_the_certified_path():
    stored = CERTIFIED["s1"]
    X, y, _, _ = rows("s1")
    with jax.enable_x64(False):
        fits = ordinal.path(
            X.astype(np.float32), y, num_classes=4, regularizations=stored["lambda"]
        )
        assert fits.objective.dtype == jnp.float32
        assert np.all(np.asarray(fits.status) == 0)
        assert_close(fits.objective, stored["objective"], rtol=0, atol=1e-4)
        head = X[:6].astype(np.float32)
        probs = jax.vmap(lambda r: ordinal.predict_proba(r, head, repair="none"))(fits)
        assert_close(probs, stored["probs"], rtol=0, atol=1e-3)

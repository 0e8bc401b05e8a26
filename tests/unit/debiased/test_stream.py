"""Chunk by chunk, the estimates are those of the whole table."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxcur import debiased
from jaxcur.debiased import _passes
from tests.helpers import assert_close

# Sums in another order, and float64 throughout.
RTOL = 1e-9
N, CHUNK, GROUPS, STRATA = 3000, 700, 40, 3
BOUNDS = [*range(0, N, CHUNK), N]


def make_data(seed=0):
    """Rows with every role filled; `rows` takes what a design needs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    strata = rng.integers(0, STRATA, N)
    clusters = rng.integers(0, GROUPS, N)
    index = 0.6 * x - 0.3 + 0.3 * rng.normal(size=GROUPS)[clusters]
    binary = (rng.random(N) < 1 / (1 + np.exp(-index))).astype(float)
    wrong = rng.random(N) < 0.12 + 0.1 * (x > 0)
    prob = np.clip(0.1 + 0.15 * np.abs(x), 0.1, 0.5)
    real = index + rng.normal(size=N)
    return {
        "X": np.stack([np.ones(N), x], axis=1),
        "X_predicted": np.stack([np.ones(N), 0.8 * x + 0.1], axis=1),
        "binary": (binary, np.where(wrong, 1 - binary, binary)),
        "real": (real, 0.7 * real + 1 + 0.4 * rng.normal(size=N)),
        "prob": prob,
        "drawn": rng.random(N) < prob,
        "fixed": rng.permutation(N) < 600,
        "strata": strata,
        "within": rng.random(N) < np.array([0.1, 0.2, 0.4])[strata],
        "clusters": clusters,
        "weights": np.where(rng.random(N) < 0.1, 0.0, rng.uniform(0.5, 2, N)),
    }


DATA = make_data()
OUTCOME = {"ols": "real", "logistic": "binary", "mean": "real", "poisson": "binary"}


def rows(model, design, *, clusters=False, weights=False, covariates=False):
    """The arrays of a table, as the functions take them."""
    y, guess = DATA[OUTCOME[model]]
    table = {"y_predicted": guess}
    if model != "mean":
        table["X"] = DATA["X"].copy()
        if covariates:
            table["X_predicted"] = DATA["X_predicted"]
    labeled = {"bernoulli": "drawn", "srs": "fixed", "stratified": "within"}[design]
    table["labeled"] = DATA[labeled]
    table["y"] = np.where(table["labeled"], y, np.nan)
    if covariates:
        table["X"][~table["labeled"], 1] = np.nan
    if design == "bernoulli":
        table["sampling_prob"] = DATA["prob"]
    if design == "stratified":
        table["strata"] = DATA["strata"]
    if clusters:
        table["clusters"] = DATA["clusters"]
    if weights:
        table["weights"] = DATA["weights"]
        # Rows that are not there may hold anything.
        for name in ("y", "y_predicted"):
            table[name] = np.where(DATA["weights"] > 0, table[name], np.nan)
    return table


def cut(table, bounds=BOUNDS):
    """A callable over the chunks of a table."""

    def chunks():
        for start, stop in zip(bounds, bounds[1:]):
            yield {name: value[start:stop] for name, value in table.items()}

    return chunks


def counts(table):
    return {
        "num_strata": STRATA if "strata" in table else None,
        "num_clusters": GROUPS if "clusters" in table else None,
    }


def whole(model, table, **options):
    arrays = dict(table)
    if model == "mean":
        return debiased.mean(arrays.pop("y"), **arrays, **options)
    function = getattr(debiased, model)
    return function(arrays.pop("X"), arrays.pop("y"), **arrays, **options)


def assert_same(found, expected, rtol=RTOL):
    assert found.small_sample == expected.small_sample
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(found),
        jax.tree_util.tree_leaves_with_path(expected),
        strict=True,
    )
    for (path, left), (_, right) in pairs:
        name = jax.tree_util.keystr(path)
        assert left.shape == right.shape and left.dtype == right.dtype, name
        if name.endswith(("residual", "gold_moment")):
            # What is left of sums that cancel; their terms are of order one.
            np.testing.assert_allclose(left, right, atol=N * rtol, err_msg=name)
            continue
        # To spare a pass, chunks take it before the last Newton step, a move that
        # is shorter than 1e-6.
        own = max(rtol, 1e-6) if name.endswith("max_influence") else rtol
        np.testing.assert_allclose(left, right, rtol=own, atol=1e-13, err_msg=name)


# Every model, design and kind of variance once; all combinations on request.
PAIRED = {
    ("ols", "bernoulli", True),
    ("logistic", "srs", False),
    ("logistic", "stratified", True),
    ("mean", "srs", True),
    ("mean", "stratified", False),
}
COMBINATIONS = [
    pytest.param(*case, marks=() if case in PAIRED else pytest.mark.slow)
    for case in itertools.product(
        ("ols", "logistic", "mean"), ("bernoulli", "srs", "stratified"), (False, True)
    )
]


@pytest.mark.parametrize(("model", "design", "clusters"), COMBINATIONS)
def test_chunks_give_the_answer_of_the_whole_table(x64, model, design, clusters):
    table = rows(model, design, clusters=clusters)
    small = "cr1" if clusters else "hc1"
    found = debiased.estimate_chunks(
        cut(table), model=model, small_sample=small, **counts(table)
    )
    assert_same(found, whole(model, table, small_sample=small))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("ols", {"power_tuning": "per_coordinate"}),
        ("ols", {"power_tuning": 0.5, "target": "finite"}),
        pytest.param("logistic", {"power_tuning": None}, marks=pytest.mark.slow),
        pytest.param("poisson", {"power_tuning": "scalar"}, marks=pytest.mark.slow),
    ],
)
def test_tuning_and_target(x64, model, options):
    table = rows(model, "bernoulli")
    found = debiased.estimate_chunks(cut(table), model=model, **options)
    assert_same(found, whole(model, table, **options))


@pytest.mark.parametrize(
    "model", ["ols", pytest.param("logistic", marks=pytest.mark.slow)]
)
def test_predicted_covariates_and_weights(x64, model):
    table = rows(model, "bernoulli", covariates=True, weights=True)
    # Chunks of very different lengths, the last without a row of positive weight.
    table["weights"] = np.where(np.arange(N) < 2990, table["weights"], 0)
    bounds = [0, 1500, 1510, 2400, 2990, N]
    found = debiased.estimate_chunks(cut(table, bounds), model=model)
    assert_same(found, whole(model, table))


@pytest.mark.parametrize(
    ("model", "design"),
    [("logistic", "stratified"), pytest.param("ols", "srs", marks=pytest.mark.slow)],
)
def test_labeled_rows_need_not_fit_in_memory(x64, model, design):
    table = rows(model, design, clusters=True)
    # One chunk has no labelled row at all.
    table["labeled"] = table["labeled"] & (np.arange(N) < BOUNDS[-2])
    found = debiased.estimate_chunks(
        cut(table), model=model, max_labeled_bytes=0, **counts(table)
    )
    assert_same(found, whole(model, table))


@pytest.mark.parametrize(
    "model", ["ols", pytest.param("logistic", marks=pytest.mark.slow)]
)
def test_float32_agrees_to_its_precision(model):
    table = rows(model, "srs")
    found = debiased.estimate_chunks(cut(table), model=model)
    expected = whole(model, table)
    assert found.estimate.dtype == jnp.float32
    # Both are float32 sums over 3000 rows.
    assert_close(found.estimate, expected.estimate, rtol=2e-5)
    assert_close(found.std_error, expected.std_error, rtol=1e-4)


def ratio_moment(theta, record):
    """Overidentified: a mean by two instruments, one of them an integer class."""
    residual = record["y"] - theta[0] - theta[1] * record["x"]
    is_first = jnp.where(record["group"] == 0, 1.0, 0.0)
    return residual * jnp.stack([1.0, record["x"], is_first])


@pytest.mark.parametrize("affine", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_moments_of_a_user(x64, affine):
    table = rows("ols", "bernoulli")
    x, group = DATA["X"][:, 1], DATA["strata"].astype(np.int32)
    observed = {"y": table["y"], "x": x, "group": group}
    predicted = {"y": table["y_predicted"], "x": x, "group": group}
    design = {name: table[name] for name in ("labeled", "sampling_prob")}

    def chunks():
        for start, stop in zip(BOUNDS, BOUNDS[1:]):
            part = {k: v[start:stop] for k, v in design.items()}
            part["predicted"] = {k: v[start:stop] for k, v in predicted.items()}
            part["observed"] = part["predicted"] | {"y": observed["y"][start:stop]}
            yield part

    init = jnp.zeros(2)
    found = debiased.estimate_chunks(
        chunks, model=ratio_moment, init=init, affine=affine
    )
    expected = debiased.estimate(
        ratio_moment, observed, predicted, init=init, affine=affine, **design
    )
    assert float(found.diagnostics.overidentification) > 0
    assert_same(found, expected, rtol=1e-8)  # the metric is the inverse of a variance


class Interrupted:
    """Chunks that press Ctrl-C in the middle of one pass."""

    def __init__(self, table, at):
        self.chunks, self.at, self.calls = cut(table), at, 0

    def __call__(self):
        self.calls += 1
        for i, chunk in enumerate(self.chunks()):
            if self.calls == self.at and i == 2:
                raise KeyboardInterrupt
            yield chunk


@pytest.mark.parametrize("limit", [2**29, 0], ids=["kept", "streamed"])
def test_an_interrupted_run_goes_on_after_the_last_pass(x64, tmp_path, limit):
    table = rows("logistic", "stratified", clusters=True)
    options = {
        "model": "logistic",
        "max_labeled_bytes": limit,
        "state_path": tmp_path / "folder" / "state.npz",
        **counts(table),
    }
    expected = debiased.estimate_chunks(cut(table), **{**options, "state_path": None})
    total = Interrupted(table, at=None)
    debiased.estimate_chunks(total, **{**options, "state_path": None})
    calls = 0
    # The first call looks at the first chunk; then pass 1, 2, ... are interrupted.
    for at in (2, 3, 4, total.calls):
        chunks = Interrupted(table, at=at - calls if at > 2 else at)
        with pytest.raises(KeyboardInterrupt):
            debiased.estimate_chunks(chunks, **options)
        calls = at - 2
    chunks = Interrupted(table, at=None)
    found = debiased.estimate_chunks(chunks, **options)
    # One look at the first chunk, and the pass that was interrupted last.
    assert chunks.calls == 2
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert np.array_equal(left, right)
    # A finished run answers from its file.
    again = Interrupted(table, at=None)
    debiased.estimate_chunks(again, **options)
    assert again.calls == 1
    with pytest.raises(
        ValueError, match="belongs to another run: model was 'logistic'"
    ):
        debiased.estimate_chunks(cut(table), **{**options, "model": "ols"})


@pytest.mark.parametrize("content", ["nothing", "PK\x03\x04 cut off"])
def test_a_state_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "state.npz"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a state of this function; delete it"):
        debiased.estimate_chunks(cut(rows("ols", "srs")), state_path=path)


def test_a_long_run_shows_its_passes(capsys):
    table = rows("ols", "srs")
    debiased.estimate_chunks(cut(table), progress=True)
    shown = capsys.readouterr().err
    assert "pass 1, counting: " in shown
    assert shown.endswith("\n")
    debiased.estimate_chunks(cut(table), progress=False)
    assert capsys.readouterr().err == ""


def test_the_chunks_of_a_run_share_their_programs(x64):
    table = rows("logistic", "srs")
    debiased.estimate_chunks(cut(table), model="logistic")
    size = _passes._sums._cache_size()
    # Longer than half of the longest: filled up to it.
    bounds = [0, 700, 1200, 1800, 2500, N]
    other = dict(table, y_predicted=1 - table["y_predicted"])
    debiased.estimate_chunks(cut(other, bounds), model="logistic")
    assert _passes._sums._cache_size() == size


def write_table(folder, kind):
    frame = pd.DataFrame(
        {
            "score": np.where(DATA["drawn"], DATA["real"][0], np.nan),
            "score_llm": DATA["real"][1],
            "x": np.where(DATA["drawn"], DATA["X"][:, 1], np.nan),
            "x_llm": DATA["X_predicted"][:, 1],
            "pi": DATA["prob"],
            "outlet": [f"outlet {c}" for c in DATA["clusters"]],
            "unused": "text",
        }
    )
    path = folder / f"table.{kind}"
    if kind == "parquet":
        frame.to_parquet(path, row_group_size=1000)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_tables_on_disk(x64, tmp_path, kind):
    chunks = debiased.table_chunks(
        write_table(tmp_path, kind),
        y="score",
        y_predicted="score_llm",
        X=["x"],
        X_predicted={"x": "x_llm"},
        sampling_prob="pi",
        clusters="outlet",
        chunk_rows=700,
    )
    assert chunks.num_clusters == GROUPS
    assert chunks.num_strata is None
    found = debiased.estimate_chunks(chunks, model="ols")
    table = rows("ols", "bernoulli", clusters=True, covariates=True)
    assert_same(found, whole("ols", table))


def test_columns_of_a_table_by_role(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,r,h,w\n1,2,1,u,1\n,3,0,v,2\n")
    chunks = debiased.table_chunks(
        path,
        y="a",
        y_predicted="b",
        X=["w"],
        intercept=False,
        labeled="r",
        strata="h",
        weights="w",
        sampling_prob=0.5,
    )
    assert chunks.num_strata == 2
    (chunk,) = chunks()
    assert chunk["labeled"].tolist() == [1, 0]
    assert chunk["strata"].tolist() == [0, 1]
    assert chunk["X"].tolist() == [[1], [2]]
    assert chunk["sampling_prob"] == 0.5


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,1\n", {"y": "c"}, r"has no column 'c'; its columns are \['a', 'b'\]"),
        ("a,b\n1,1\n", {"y": "a", "chunk_rows": 0}, "`chunk_rows` must be at least 1"),
        ("a,b\n1,x\n", {"y": "a", "y_predicted": "b"}, "column 'b' must hold numbers"),
        (
            "a,b\n1,\n2,u\n",
            {"y": "a", "y_predicted": "a", "clusters": "b"},
            "column 'b' of `clusters` must not have missing values, 1 rows do",
        ),
        (
            "a,b\n1,1\n",
            {"y": "a", "X_predicted": {"b": "a"}},
            "`X_predicted` names 'b', which is not in `X`",
        ),
    ],
)
def test_tables_that_do_not_fit_their_description(tmp_path, text, options, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        debiased.estimate_chunks(debiased.table_chunks(path, **options), model="mean")


def with_(table, **changes):
    return {k: v for k, v in {**table, **changes}.items() if v is not None}


BASE = rows("ols", "srs")
HOLE = np.where(np.arange(N) == 1500, np.nan, 1.0)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (with_(BASE, y=None), {}, "must have the key 'y'"),
        (with_(BASE, labeled=None), {}, "must have the key 'labeled'"),
        (with_(BASE, label=BASE["y"]), {}, "unknown key 'label'"),
        (with_(BASE, y=BASE["X"]), {}, r"`y` must have shape \(n,\), got \(700, 2\)"),
        (with_(BASE, labeled=np.zeros(N, bool)), {}, "no labelled rows"),
        (with_(BASE, labeled=np.arange(N)), {}, "chunk 0: `labeled` must be boolean"),
        (
            with_(BASE, y=DATA["real"][0], labeled=np.arange(N) == 5),
            {},
            "one labelled row",
        ),
        (
            with_(BASE, y_predicted=BASE["y_predicted"] * HOLE),
            {},
            "chunk 2: `y_predicted` must be finite in every row, 1 entries",
        ),
        (with_(BASE, X=BASE["X"] * HOLE[:, None]), {}, "chunk 2: `X` must be finite"),
        (
            with_(BASE, y=np.full(N, np.nan)),
            {},
            "chunk 0: `y` must be finite where `labeled` is True",
        ),
        (
            with_(BASE, sampling_prob=np.where(np.arange(N) == 800, 0, 0.2)),
            {},
            r"chunk 1: `sampling_prob` must lie in \(0, 1\].*1 of 700",
        ),
        (with_(BASE, weights=-np.ones(N)), {}, "`weights` must be finite and nonneg"),
        (with_(BASE, weights=np.zeros(N)), {}, "no rows"),
        (with_(BASE, clusters=DATA["clusters"]), {}, "`num_clusters` and the key"),
        (
            with_(BASE, clusters=DATA["clusters"]),
            {"num_clusters": 10},
            r"chunk 0: `clusters` must lie in 0..9, got 0..39",
        ),
        (
            with_(BASE, clusters=0 * DATA["clusters"]),
            {"num_clusters": 10},
            "single cluster",
        ),
        (with_(BASE, strata=DATA["strata"]), {}, "`num_strata` is needed"),
        (
            with_(BASE, strata=DATA["strata"] / 2),
            {"num_strata": 3},
            "`strata` must be integers 0..2, got dtype float64",
        ),
        (
            with_(BASE, strata=np.minimum(np.arange(N), 2)),
            {"num_strata": 3},
            "strata have no labelled rows",
        ),
        (BASE, {"model": "probit"}, "`model` must be one of"),
        (BASE, {"model": "mean", "init": jnp.zeros(2)}, r"must have shape \(1,\)"),
        (BASE, {"model": ratio_moment}, "`init` is needed with a moment"),
        (BASE, {"affine": True}, "`affine` describes a moment"),
        (BASE, {"small_sample": "cr1"}, "needs `clusters`"),
        (BASE, {"power_tuning": "best"}, "`power_tuning` must be one of"),
        (BASE, {"design": "stratified"}, "`strata` is needed"),
    ],
)
def test_bad_chunks_and_options(table, options, message):
    if options.get("model") == "mean":
        table = with_(table, X=None)
    with pytest.raises(ValueError, match=message):
        debiased.estimate_chunks(cut(table), **{"model": "ols", **options})


def test_chunks_must_be_a_function_of_the_same_rows():
    with pytest.raises(TypeError, match="returns a fresh iterator.*got generator"):
        debiased.estimate_chunks(cut(BASE)())
    with pytest.raises(ValueError, match="returned an empty iterator"):
        debiased.estimate_chunks(lambda: iter(()))
    used = [iter(list(cut(BASE)())), iter(list(cut(BASE)()))]
    with pytest.raises(ValueError, match="a pass found 0 rows after 3000"):
        debiased.estimate_chunks(lambda: used[0] if len(used) == 1 else used.pop())


def test_chunks_must_be_alike():
    def keys():
        yield from cut(BASE, [0, 500])()
        yield from cut(with_(BASE, weights=np.ones(N)), [500, N])()

    with pytest.raises(
        ValueError, match="chunk 1: the keys must be those of the first"
    ):
        debiased.estimate_chunks(keys)

    def shapes():
        yield from cut(BASE, [0, 500])()
        yield from cut(with_(BASE, X=BASE["X"][:, :1]), [500, N])()

    with pytest.raises(ValueError, match=r"chunk 1: `X.*` must have shape \(2500, 2\)"):
        debiased.estimate_chunks(shapes)

    def lengths():
        for chunk in cut(BASE)():
            yield dict(chunk, y=chunk["y"][1:])

    with pytest.raises(ValueError, match=r"chunk 0: `y` must have shape \(700,\)"):
        debiased.estimate_chunks(lengths)


def test_text_is_refused():
    table = with_(BASE, y_predicted=np.array(["a"] * N))
    with pytest.raises(TypeError, match="`y_predicted` must hold real numbers"):
        debiased.estimate_chunks(cut(table))


def test_collinear_columns_are_named(x64):
    table = rows("logistic", "srs")
    table["X"] = DATA["X"][:, [1, 1]] * np.array([1, 2])
    with pytest.raises(ValueError, match=r"columns \[0, 1\] are linearly dependent"):
        debiased.estimate_chunks(cut(table), model="logistic")


def test_separation_warns_and_gives_no_covariance(x64):
    table = rows("logistic", "srs")
    positive = (DATA["X"][:, 1] > 0).astype(float)
    table = with_(table, y=positive, y_predicted=positive)
    with pytest.warns(debiased.InferenceWarning, match="no finite root"):
        found = debiased.estimate_chunks(cut(table), model="logistic")
    assert not bool(found.converged)
    assert np.isnan(found.covariance).all()

"""`jaxcur select` with several models, and with features and no model yet."""

import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from jaxcur.cli import main
from jaxcur.cli._select_features import standardize
from jaxcur.cli._select_several import _choices

N, M, MODELS = 40, 25, ("a", "b", "c")


def make_frame(seed=0):
    """Numbered rows, three features, and three models of growing noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N + M, 3))
    labels = features @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=N + M)
    frame = pd.DataFrame({"id": np.arange(N + M)})
    frame[["x1", "x2", "x3"]] = features * [1.0, 100.0, 0.01] + [0.0, 5.0, 9.0]
    for name, noise in zip(MODELS, (0.6, 0.8, 1.0), strict=True):
        frame[name] = (labels + noise * rng.normal(size=N + M)).round(1)
    frame["y"] = labels
    frame.loc[rng.permutation(N + M)[:M], "y"] = np.nan
    return frame


@pytest.fixture
def run(tmp_path, capsys):
    """Write a frame, select, and return the output table and what was printed."""

    def call(frame, *more, level="0.3", side=("--above", "0")):
        frame.to_csv(tmp_path / "t.csv", index=False)
        out = tmp_path / "out.csv"
        words = ["select", str(tmp_path / "t.csv"), "--label", "y", *side]
        words += ["--level", level, "--out", str(out), *map(str, more)]
        assert main(words) == 0
        return pd.read_csv(out), capsys.readouterr()

    return call


def several(*more):
    return ("--predictions", ",".join(MODELS), *more)


def features(learner, *more):
    return ("--features", "x1,x2,x3", "--learner", learner, *more)


def size_of_bh(p_values, level):
    accepted = [
        rank
        for rank, value in enumerate(sorted(p_values), start=1)
        if value <= level * rank / len(p_values)
    ]
    return max(accepted, default=0)


def optcs_by_hand(frame, level):
    """Ids, p-values and models, candidate by candidate, in exact arithmetic."""
    level = Fraction(level)
    known, candidates = frame[frame.y.notna()], frame[frame.y.isna()]
    nulls = known[known.y <= 0]
    found = {}
    for row in candidates.itertuples():
        sizes, p_values = [], []
        for name in MODELS:
            own, others = getattr(row, name), candidates[candidates.id != row.id][name]
            hypothetical = [
                Fraction(int((nulls[name] >= o).sum()) + int(own >= o), N + 1)
                for o in others
            ]
            sizes.append(size_of_bh([Fraction(0), *hypothetical], level))
            p_values.append(Fraction(1 + int((nulls[name] >= own).sum()), N + 1))
        best = sizes.index(max(sizes))
        found[row.id] = (p_values[best], sizes[best], MODELS[best])
    passed = {k: v for k, v in found.items() if v[0] <= level * v[1] / M}
    kept = max(
        (r for r in range(M + 1) if sum(v[1] <= r for v in passed.values()) >= r),
        default=0,
    )
    return {k: (float(p), model) for k, (p, r, model) in passed.items() if r <= kept}


@pytest.mark.parametrize("level", ["0.1", "0.2", "0.3", "0.5"])
@pytest.mark.parametrize("seed", [0, 1])
def test_several_predictions_follow_the_definition(run, level, seed):
    frame = make_frame(seed)
    table, output = run(frame, *several("--pruning", "deterministic"), level=level)
    expected = optcs_by_hand(frame, level)
    assert list(table.columns) == [*frame.columns, "p_value", "chosen_model"]
    assert table.id.tolist() == [i for i in frame.id if i in expected]
    assert table.chosen_model.tolist() == [expected[i][1] for i in table.id]
    np.testing.assert_allclose(
        table.p_value.astype(float), [expected[i][0] for i in table.id], rtol=1e-15
    )
    assert f"selected             {len(expected)} of {M}" in output.out


def test_the_definition_selects_somebody():
    # Otherwise the test above would compare empty tables.
    assert len(optcs_by_hand(make_frame(0), "0.5")) > 3


def test_the_choices_are_counted_most_often_first(run):
    chosen, selected = np.array([2, 0, 2, 2, 0, 4]), np.array([1, 0, 1, 0, 0, 1], bool)
    assert _choices(list("abcde"), chosen, selected) == [
        ("chosen models", "c for 3 candidates, 2 selected"),
        ("", "a for 2 candidates, 0 selected"),
        ("", "e for 1 candidate, 1 selected"),
        ("never chosen", "b, d"),
    ]
    table, output = run(make_frame(), *several("--seed", "1"))
    counts = re.findall(r"(\w) for (\d+) candidates?, (\d+) selected", output.out)
    assert sum(int(count) for _, count, _ in counts) == M
    won = {name: int(won) for name, _, won in counts if won != "0"}
    assert len(table) and table.chosen_model.value_counts().to_dict() == won


def test_a_seed_repeats_and_random_pruning_keeps_what_deterministic_keeps(run):
    frame = make_frame()
    options = several("--pruning", "heterogeneous", "--seed", "3")
    one, other = run(frame, *options)[0], run(frame, *options)[0]
    pd.testing.assert_frame_equal(one, other)
    fixed = run(frame, *several("--pruning", "deterministic"))[0]
    drawn = run(frame, *several("--seed", "3"))[0]
    assert set(fixed.id) <= set(one.id) and set(fixed.id) <= set(drawn.id)


def test_only_the_order_within_a_column_counts(run):
    frame = make_frame()
    one = run(frame, *several("--seed", "0"))[0]
    other = run(frame.assign(b=np.exp(frame.b), c=frame.c - 7), *several("--seed", 0))
    assert len(one) and one.id.tolist() == other[0].id.tolist()
    assert one.chosen_model.tolist() == other[0].chosen_model.tolist()


def test_below_is_above_with_every_sign_turned(run):
    frame = make_frame()
    turned = frame.assign(**{name: -frame[name] for name in ("y", *MODELS)})
    one = run(frame, *several("--seed", "0"))[0]
    other = run(turned, *several("--seed", "0"), side=("--below", "0"))[0]
    assert len(one) and one.id.tolist() == other.id.tolist()
    one = run(frame, *features("ridge"))[0]
    other = run(turned, *features("ridge"), side=("--below", "0"))[0]
    assert len(one) and one.id.tolist() == other.id.tolist()


def test_one_model_among_several_is_the_plain_selection_without_a_draw(run):
    frame = make_frame()
    one, output = run(frame, "--predictions", "a")
    plain = run(frame, "--prediction", "a")[0]
    assert len(plain) and one.id.tolist() == plain.id.tolist()
    assert "OptCS over 1 model\n" in output.out


def test_an_empty_deterministic_selection_says_what_pruning_dropped(run):
    # Two models that rank the candidates in opposite order: sizes vary with them.
    for seed in range(20):
        options = several("--pruning", "deterministic")
        table, output = run(make_frame(seed), *options, level="0.15")
        before = int(output.out.split("before pruning")[1].split()[0])
        dropped = before > 0 and table.empty
        assert ("--pruning homogeneous" in output.err) == dropped
        if dropped:
            return
    raise AssertionError("no case lost everything to pruning")


def full_by_hand(frame, level, penalty=1.0):
    """Ridge refitted without each row in turn, float64, and exact ranks."""
    pool = pd.concat([frame[frame.y.notna()], frame[frame.y.isna()]])
    x = pool[["x1", "x2", "x3"]].to_numpy()
    x = (x - x.mean(0)) / x.std(0)
    y = (pool.y > 0).to_numpy(float)  # a missing label counts as not interesting
    left_out = np.empty(N + M)
    for row in range(N + M):
        keep = np.arange(N + M) != row
        center, mean = x[keep].mean(0), y[keep].mean()
        z = x[keep] - center
        beta = np.linalg.solve(z.T @ z + penalty * np.eye(3), z.T @ (y[keep] - mean))
        left_out[row] = mean + (x[row] - center) @ beta
    nulls = left_out[:N][y[:N] == 0]
    p = [Fraction(1 + int((nulls >= mu).sum()), N + 1) for mu in left_out[N:]]
    level = Fraction(level)
    size = size_of_bh(p, level)
    ids = pool.id.tolist()[N:]
    return {i: float(v) for i, v in zip(ids, p, strict=True) if v <= level * size / M}


@pytest.mark.parametrize("penalty", ["1", "30"])
def test_ridge_on_features_follows_the_definition(run, penalty):
    frame = make_frame()
    table, output = run(frame, *features("ridge", "--regularization", penalty))
    expected = full_by_hand(frame, "0.3", float(penalty))
    assert len(expected) > 3
    assert list(table.columns) == [*frame.columns, "p_value"]
    assert table.id.tolist() == list(expected)
    np.testing.assert_allclose(table.p_value, list(expected.values()), rtol=1e-15)
    assert "OptCS without a split, ridge on 3 features\n" in output.out


@pytest.mark.parametrize("learner", ["ridge", "kernel-ridge", "knn", "logistic"])
def test_neither_the_order_of_rows_nor_the_unit_of_a_feature_matters(run, learner):
    frame = make_frame()
    one = run(frame, *features(learner))[0]
    mixed = frame.sample(frac=1, random_state=0).assign(x2=lambda f: 2.0**70 * f.x2)
    other = run(mixed, *features(learner))[0]
    assert len(one) > 3
    pd.testing.assert_series_equal(
        one.set_index("id").p_value, other.set_index("id").p_value.loc[one.id]
    )


def test_several_learners_are_chosen_among(run):
    frame = make_frame()
    options = features("ridge,knn", "--neighbours", "5", "--seed", "0")
    table, output = run(frame, *options)
    assert len(table) and set(table.chosen_model) <= {"ridge", "knn"}
    assert "ridge or knn on 3 features, homogeneous pruning" in output.out
    again, _ = run(frame, *features("ridge,knn", "--pruning", "deterministic"))
    assert set(again.columns) == set(table.columns)


def test_a_feature_that_never_varies_is_left_out_and_named(run):
    frame = make_frame().assign(x4=7.0)
    one, _ = run(frame, *features("ridge"))
    other, output = run(frame, "--features", "x1,x2,x3,x4", "--learner", "ridge")
    assert one.id.tolist() == other.id.tolist()
    assert "not used: x4" in output.err


def test_standardizing_survives_any_size_of_number():
    column = np.array([1.0, 2.0, 3.0])
    table = np.stack([column * 1e300, column * 1e-300, 0 * column, column], axis=1)
    values, constant = standardize(table)
    assert constant.tolist() == [False, False, True, False]
    np.testing.assert_allclose(values.std(axis=0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-12)


def gap(frame, name):
    return frame.assign(**{name: [np.nan, *frame[name][1:]]})


def text(frame, name):
    return frame.astype({name: object}).assign(**{name: ["oops", *frame[name][1:]]})


CASES = {
    "no seed": (several(), "--pruning deterministic"),
    "absent column": (("--predictions", "a,z", "--seed", 1), "no column 'z'"),
    "empty name": (("--predictions", "a,,b", "--seed", 1), "names is empty"),
    "listed twice": (("--predictions", "a,b,a", "--seed", 1), "lists 'a' twice"),
    "the label": (("--predictions", "a,y", "--seed", 1), "the label itself"),
    "label as feature": (("--features", "x1,y", "--learner", "knn"), "label itself"),
    "with weights": (several("--weight", "x1"), "--weight does not go with"),
    "with randomize": (several("--randomize"), "--randomize does not go with"),
    "two ways": (several("--prediction", "a"), "exclude each other"),
    "two ways more": (several(*features("knn")), "exclude each other"),
    "stray learner": (("--prediction", "a", "--learner", "knn"), "does not go with"),
    "learner alone": (("--learner", "knn"), "say what to select by"),
    "no learner": (("--features", "x1"), "needs --learner"),
    "unknown learner": (features("forest"), "there are: ridge, kernel-ridge"),
    "learner twice": (features("knn,knn", "--seed", 1), "twice"),
    "no draw": (features("ridge,knn"), "--seed"),
    "useless pruning": (features("knn", "--pruning", "deterministic"), "--pruning"),
    "pruning alone": (("--prediction", "a", "--pruning", "deterministic"), "--weight"),
    "stray neighbours": (features("ridge", "--neighbours", 3), "--neighbours"),
    "no neighbours": (features("knn", "--neighbours", 0), "positive integer"),
    "all neighbours": (features("knn", "--neighbours", N + M), "not fewer than"),
    "stray penalty": (features("knn", "--regularization", 1), "use --neighbours"),
    "zero penalty": (features("ridge", "--regularization", 0), "positive number"),
    "no number": (features("ridge", "--regularization", "nan"), "positive number"),
}


def refused(tmp_path, capsys, frame, options):
    frame.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "out.csv"
    words = ["select", str(tmp_path / "t.csv"), "--label", "y", "--above", "0"]
    words += ["--level", "0.1", "--out", str(out), *map(str, options)]
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == "" and not out.exists()
    assert output.err.count("\n") == 1
    assert output.err.startswith("jaxcur select: error: ")
    return output.err


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_combination_is_one_line_and_exit_code_two(tmp_path, capsys, case):
    options, part = CASES[case]
    assert part in refused(tmp_path, capsys, make_frame(), options)


@pytest.mark.parametrize(
    ("change", "options", "part"),
    [
        (lambda f: gap(f, "b"), several("--seed", 1), "column 'b' is missing in 1"),
        (lambda f: text(f, "b"), several("--seed", 1), "'oops' in row 1"),
        (lambda f: gap(f, "x2"), features("ridge"), "column 'x2' is missing in 1"),
        (lambda f: text(f, "x2"), features("ridge"), "'oops' in row 1"),
        (lambda f: f.drop(columns="x2"), features("ridge"), "no column 'x2'"),
        (lambda f: f.assign(x1=1, x2=2, x3=3), features("ridge"), "no feature varies"),
        (lambda f: f.assign(chosen_model=0), several("--seed", 1), "'chosen_model'"),
    ],
)
def test_a_bad_table_is_one_line_and_exit_code_two(
    tmp_path, capsys, change, options, part
):
    assert part in refused(tmp_path, capsys, change(make_frame()), options)


def test_kernel_ridge_refuses_a_table_that_would_not_fit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxcur.cli._select_features._MOST_KERNEL_ROWS", N)
    error = refused(tmp_path, capsys, make_frame(), features("kernel-ridge"))
    assert f"beyond {N}" in error

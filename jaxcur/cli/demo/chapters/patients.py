"""Which patients have progressed? A selection whose errors stay within a budget."""

import jax
import numpy as np
import pandas as pd

from jaxcur import plots
from jaxcur.cli.demo._chapter import Chapter, Picture, Table
from jaxcur.cli.demo.chapters import _patients_study as study
from jaxcur.cli.demo.chapters._patients_study import LEVEL, Rule
from jaxcur.cli.demo.chapters._rates import Rates, curve, display, row, share

Found = dict[Rule, Rates]
OURS: Rule = ("conformal", LEVEL)
NAIVE: Rule = ("naive", None)
SHIFTED: Rule = ("naive, shifted", None)

_CODE = """\
from jaxcur import conformal

score = conformal.ClipScore()
result = conformal.select(
    score.calibration(predictions_known, labels_known, 140.0),
    score.test(predictions_new, 140.0),
    level=0.1,
)
result.selected      # True where the patient is selected
"""


def run(*, quick: bool, seed: int) -> Chapter:
    """Compare the rules on many random splits of the 442 patients."""
    num_splits = 1_000 if quick else 20_000
    keys = jax.random.split(jax.random.key(seed), num_splits)
    patients = study.load()
    rates = study.study(keys, patients)
    return Chapter(
        name="patients",
        title="Which patients have progressed? Choosing with at most 10% errors",
        question="Among new patients, whom may we call progressed beyond a score of "
        "140, if only one call in ten is allowed to be wrong?",
        setup=_setup(num_splits),
        findings=_findings(rates),
        conclusion=_conclusion(rates),
        items=(
            _one_split(patients, rates, keys),
            _rules_table(rates, num_splits),
            _level_picture(rates, num_splits),
            _level_table(rates, num_splits),
            _spread_picture(rates, num_splits),
            _size_table(rates, num_splits),
        ),
        code=_CODE,
    )


def _setup(num_splits: int) -> tuple[str, ...]:
    return (
        "The data are the 442 diabetes patients that scikit-learn carries: ten "
        "measurements at the start, and a score of disease progression one year later "
        "(25 to 346). Half of the patients, 221, lie above 140. A ridge regression "
        f"fitted on {study.NUM_TRAIN} patients predicts the score of the others.",
        "Of the others, 150 serve as calibration rows, whose score is known, and "
        f"{study.NUM_CANDIDATES} as candidates, whose score the rules do not see. We "
        "do see it, so every call can be checked. The patients are dealt anew "
        f"{num_splits:,} times; numbers are means over these splits, with 95% "
        "intervals for the mean.",
        "The naive cut calls everybody whose prediction exceeds 140. Conformal "
        "selection instead asks, for each candidate, how many calibration patients at "
        "or below 140 have a prediction at least as high, turns the answer into a "
        "p-value, and selects by Benjamini-Hochberg. Its promise: the expected share "
        "of wrong calls among the selected (the false discovery rate, with a share of "
        "0 when nobody is selected) is at most the level, for any model, good or bad, "
        "and any number of patients, as long as candidates and calibration rows are "
        "exchangeable.",
    )


def _findings(rates: Found) -> tuple[str, ...]:
    naive, kept = rates[NAIVE], rates[OURS]
    small = min(study.CALIBRATION_SIZES)
    tuned, few = rates["tuned", small], rates["conformal", small]
    return (
        f"The naive cut is wrong in {share(naive.false_share)} of its calls, and "
        "nothing about it says so beforehand.",
        f"Conformal selection at level 10% is wrong in {share(kept.false_share)}: "
        "within its budget.",
        f"The price is power: it finds {share(kept.found_share)} of the patients "
        f"above 140, the naive cut {share(naive.found_share)}; in "
        f"{(kept.num_selected == 0).mean():.0%} of the splits it selects nobody.",
        f"A model that predicts {study.SHIFT:g} too high ruins the naive cut "
        f"(wrong in {share(rates[SHIFTED].false_share)}) and leaves conformal "
        "selection exactly as it was: only the order of the predictions matters.",
        f"With {small} calibration patients, the cut that looks right on them is wrong "
        f"in {share(tuned.false_share)}; conformal selection in "
        f"{share(few.false_share)}, by selecting only when it can "
        "afford to.",
    )


def _conclusion(rates: Found) -> str:
    kept = rates[OURS]
    over = float((kept.false_share > 2 * LEVEL).mean())
    return (
        "If wrong calls cost something, decide how many you can bear, and let the "
        "level enforce it: the promise needs no trust in the model, only that "
        "candidates resemble the calibration rows. A better model buys more "
        "selections, never more errors than agreed. The promise is about the average: "
        f"a single selection can be unlucky, and {over:.0%} of these had more than "
        "twice the agreed share of errors. And where the data cannot support the "
        "level, the honest answer is an empty selection."
    )


def _one_split(
    patients: study.Patients,
    rates: Found,
    keys: jax.Array,
) -> Picture:
    # The split with the middle number of selections stands for all of them.
    counts = rates[OURS].num_selected
    middle = int(np.argsort(counts, kind="stable")[len(counts) // 2])
    split = jax.jit(study.draw_split)(keys[middle], patients)
    predictions, labels = np.asarray(split.predictions), np.asarray(split.labels)
    selected = np.asarray(study.select(split, LEVEL).selected)
    cut = float(predictions[selected].min()) if selected.any() else float("inf")
    wrong = int((labels[selected] <= study.THRESHOLD).sum())
    naive = predictions > study.THRESHOLD
    naive_wrong = int((labels[naive] <= study.THRESHOLD).sum())
    counted = (
        f"right of the naive cut lie {int(naive.sum())} candidates, {naive_wrong} of "
        f"them at or below 140; right of the conformal cut {int(selected.sum())}, "
        f"{wrong} of them at or below 140"
    )
    drawing, axes = plots.figure()
    plots.prediction_cut(
        axes,
        predictions,
        labels,
        threshold=study.THRESHOLD,
        cuts=(("naive cut", study.THRESHOLD), ("conformal cut, 10%", cut)),
        xlabel="predicted progression score",
        ylabel="true progression score",
    )
    return Picture(
        name="patients-one-split",
        caption=f"One split, the one with the median number of selections: {counted}.",
        alt="Scatter plot of true against predicted progression score of the 150 "
        f"candidates, with two vertical cuts: {counted}.",
        figure=drawing,
    )


def _rules_table(rates: Found, num_splits: int) -> Table:
    names: dict[str, Rule] = {
        "conformal selection, level 10%": OURS,
        "naive cut: prediction above 140": NAIVE,
        f"naive cut, model {study.SHIFT:g} too high": SHIFTED,
        "cut tuned on the calibration rows": ("tuned", study.NUM_CALIBRATION),
        "conformal selection, useless model": ("conformal, useless model", LEVEL),
    }
    frame = pd.DataFrame(
        [{"rule": name, **row(rates[place])} for name, place in names.items()]
    )
    return Table(
        name="patients-rules",
        caption="What each rule does to 150 candidates, about half of whom lie above "
        f"140. Means over {num_splits:,} random splits. The useless model has its "
        "predictions shuffled between patients.",
        frame=frame,
        display=display(frame),
    )


def _level_picture(rates: Found, num_splits: int) -> Picture:
    drawing, axes = plots.figure(6.4, 7.2, rows=2)
    xlabel = "level: share of wrong calls that is agreed to"
    ours = [rates["conformal", level] for level in study.LEVELS]
    naive = [rates[NAIVE]] * len(study.LEVELS)
    plots.rate_curves(
        axes[0],
        study.LEVELS,
        [
            curve("conformal selection", [rate.false_share for rate in ours]),
            curve("naive cut (knows no level)", [rate.false_share for rate in naive]),
        ],
        ylabel="wrong among selected",
        diagonal=True,
        above="more errors than agreed",
        xlabel=xlabel,
    )
    plots.rate_curves(
        axes[1],
        study.LEVELS,
        [
            curve("conformal selection", [rate.found_share for rate in ours]),
            curve("naive cut (knows no level)", [rate.found_share for rate in naive]),
        ],
        ylabel="found, of those above 140",
        xlabel=xlabel,
    )
    return Picture(
        name="patients-levels",
        caption="Errors (top) and finds (bottom) as the level moves. Conformal "
        "selection stays below the dotted line, on which the errors equal the level, "
        f"and close to it. Bars: 95% intervals over {num_splits:,} splits, mostly "
        "narrower than the markers.",
        alt="Two line charts over levels from 5 to 40%. Top: the share of wrong calls "
        "of conformal selection rises just below the diagonal while the naive cut "
        f"stays at {rates[NAIVE].false_share.mean():.0%}. Bottom: the share found "
        f"rises from {ours[0].found_share.mean():.0%} to "
        f"{ours[-1].found_share.mean():.0%}; the naive cut finds "
        f"{rates[NAIVE].found_share.mean():.0%}.",
        figure=drawing,
    )


def _level_table(rates: Found, num_splits: int) -> Table:
    frame = pd.DataFrame(
        [{"level": q, **row(rates["conformal", q])} for q in study.LEVELS]
    )
    return Table(
        name="patients-levels",
        caption=f"Conformal selection at seven levels, over {num_splits:,} splits.",
        frame=frame,
        display=display(frame),
    )


def _spread_picture(rates: Found, num_splits: int) -> Picture:
    kept, naive = rates[OURS], rates[NAIVE]
    drawing, axes = plots.figure(6.4, 3.8)
    plots.histogram_pair(
        axes,
        [
            ("conformal selection, level 10%", kept.false_share),
            ("naive cut", naive.false_share),
        ],
        bins=np.linspace(0, 0.5, 26),
        xlabel="wrong among selected, in one split",
        ylabel="share of splits",
        reference=("level", LEVEL),
    )
    beyond = float((kept.false_share > LEVEL).mean())
    return Picture(
        name="patients-spread",
        caption=f"The same {num_splits:,} splits one by one. The promise is about the "
        f"mean: in {beyond:.0%} of the splits the share of wrong calls exceeded 10%. "
        "The bar at 0 includes the splits in which nobody was selected.",
        alt="Histogram of the share of wrong calls in each split: conformal selection "
        "spreads around and below 10%, the naive cut around "
        f"{naive.false_share.mean():.0%}.",
        figure=drawing,
    )


def _size_table(rates: Found, num_splits: int) -> Table:
    rules = (("conformal selection", "conformal"), ("tuned cut", "tuned"))
    frame = pd.DataFrame(
        [
            {"calibration rows": size, "rule": name, **row(rates[rule, size])}
            for size in study.CALIBRATION_SIZES
            for name, rule in rules
        ]
    )
    return Table(
        name="patients-calibration-size",
        caption="How many calibration rows are needed, at level 10%. The tuned cut is "
        "the lowest one with at most 10% errors on the calibration rows themselves; "
        f"nothing backs it. Means over {num_splits:,} random splits.",
        frame=frame,
        display=display(frame),
    )

"""Twenty models and one labelled set: choosing a model without paying in errors."""

import jax
import pandas as pd

from jaxcur import plots
from jaxcur.cli.demo._chapter import Chapter, Picture, Table
from jaxcur.cli.demo.chapters import _many_models_study as study
from jaxcur.cli.demo.chapters._many_models_study import LEVEL, NUM_MODELS, Place
from jaxcur.cli.demo.chapters._patients_study import load
from jaxcur.cli.demo.chapters._rates import (
    Rates,
    curve,
    display,
    mean_interval,
    row,
    share,
)

Found = dict[Place, Rates]

_RULES = {
    "optcs": "OptCS over 20 models",
    "naive": "whichever selects most",
    "one model": "one model, picked blindly",
    "likeliest model": "one model, best cross-validated",
}
_MORE_RULES = {
    "half": "chosen on 50 patients, calibrated on 50",
    "optcs, deterministic": "OptCS, deterministic pruning",
    "whole": "for comparison: one model of all 142 patients",
}
_CODE = """\
from jaxcur import conformal

# One row of scores for each model; infinite where the label exceeds 140.
result = conformal.optcs_msel(calibration_scores, test_scores, level=0.1, key=key)
result.selected       # True where the patient is selected
result.chosen_model   # the model that spoke for each patient
"""


def run(*, quick: bool, seed: int) -> Chapter:
    """Let several rules choose among twenty small models, on many random splits."""
    # Whole batches: a remainder would be compiled as a program of its own.
    num_splits = 1_000 if quick else 10_000
    keys = jax.random.split(jax.random.key(seed), num_splits)
    rates = study.study(keys, load())
    return Chapter(
        name="many-models",
        title="Twenty models, one labelled set: choosing without paying in errors",
        question="Twenty models are on offer and a hundred labels to judge them by. "
        "May the same hundred labels also say whom to select?",
        setup=_setup(num_splits),
        findings=_findings(rates),
        conclusion=_conclusion(rates),
        items=(
            _level_picture(rates, num_splits),
            _rules_table(rates, num_splits),
            _count_picture(rates, num_splits),
            _level_table(rates, num_splits),
        ),
        code=_CODE,
    )


def _setup(num_splits: int) -> tuple[str, ...]:
    return (
        "The data are the 442 diabetes patients that scikit-learn carries; half of "
        "them progressed beyond a score of 140, and those are looked for. Suppose that "
        f"{NUM_MODELS} small studies each left behind a ridge regression. Each had "
        f"seen {study.NUM_PATIENTS_EACH} patients (drawn from the same "
        f"{study.NUM_TRAIN}, so studies share some) and had measured "
        f"{study.NUM_MEASURED} of the ten quantities, drawn at random. Some "
        "studies happened on body mass and blood values that matter and some did not, "
        "and nobody hands over the patients to fit one better model. This is what a "
        "collection of published risk scores, or of analysts' first tries, looks like.",
        f"Of the other patients, {study.NUM_CALIBRATION} have known scores, and "
        f"{study.NUM_CANDIDATES} are candidates. The usual thing is to run the "
        "conformal selection once for each model, and keep the model that selects "
        "most. Each of the runs is valid. The best of them is not: it is best partly "
        "because the known patients flattered it, and the same patients calibrate it.",
        "OptCS judges the models anew for every candidate, by a count in which the "
        "candidate stands among the known patients as one of them. If the candidate is "
        "in truth at or below 140, that judgement cannot tell it from a known patient, "
        "so the p-value by the chosen model stays valid; a last step, pruning, makes "
        "the decisions on all candidates agree. The promise is the one for a single "
        "model: the expected share of wrong calls is at most the level, however many "
        "models there are and however bad they are.",
        f"Everything is dealt anew {num_splits:,} times: the patients, and who studied "
        "what. Numbers are means over these splits, with 95% intervals for the mean.",
    )


def _gain(better: Rates, worse: Rates) -> str:
    """Difference of the shares found, split by split, in words."""
    gap = mean_interval(better.found_share - worse.found_share)
    return f"{gap.mean:+.1%} ({gap.lower:+.1%} to {gap.upper:+.1%})"


def _findings(rates: Found) -> tuple[str, ...]:
    ours, naive = rates["optcs", LEVEL], rates["naive", LEVEL]
    single, likely = rates["one model", LEVEL], rates["likeliest model", LEVEL]
    half, whole = rates["half", LEVEL], rates["whole", LEVEL]
    empty = {rule: (rates[rule, LEVEL].num_selected == 0).mean() for rule in _RULES}
    return (
        "At level 10%, keeping the model that selects most is wrong in "
        f"{share(naive.false_share)} of its calls: far over the agreed budget.",
        f"OptCS over the same models is wrong in {share(ours.false_share)}.",
        f"OptCS finds {share(ours.found_share)} of the patients above 140; one model "
        f"picked blindly beforehand finds {share(single.found_share)}, a difference "
        f"of {_gain(ours, single)} in the same splits.",
        "Safe choices that are shrewder do not catch up at this level: the model with "
        "the best cross-validation on its own patients finds "
        f"{share(likely.found_share)}; choosing on one half of the known patients and "
        f"calibrating on the other half, {share(half.found_share)}.",
        "Selecting honestly from weak models is hard at this level: OptCS selects "
        f"nobody in {empty['optcs']:.0%} of the splits, the model picked blindly in "
        f"{empty['one model']:.0%}. One model of all 142 patients and ten "
        f"measurements would find {share(whole.found_share)}: choosing well does not "
        "replace a better model.",
    )


def _conclusion(rates: Found) -> str:
    lost = rates["optcs, deterministic", LEVEL].found_share.mean()
    ahead = [
        f"{q:.0%}"
        for q in study.LEVELS
        if mean_interval(
            rates["likeliest model", q].found_share - rates["optcs", q].found_share
        ).lower
        > 0
    ]
    limit = (
        f" It is not always the best choice: at level {' and '.join(ahead)} the best "
        "cross-validated model alone found more."
        if ahead
        else ""
    )
    ours, single = (
        rates[rule, LEVEL].found_share.mean() for rule in ("optcs", "one model")
    )
    return (
        "Trying many models and keeping the best is a selection in itself, and its "
        "errors grow with every model tried. OptCS makes the choice part of the "
        "method: the level holds for any number of models, and at level 10% the choice "
        f"finds {ours / single:.1f} times what a single model finds.{limit} The "
        "pruning draws one random number; without the draw (deterministic pruning) the "
        f"guarantee stands too, but only {lost:.1%} are found."
    )


def _level_picture(rates: Found, num_splits: int) -> Picture:
    drawing, axes = plots.figure(6.4, 7.6, rows=2)
    xlabel = "level: share of wrong calls that is agreed to"
    for place, ylabel, errors in (
        (axes[0], "wrong among selected", True),
        (axes[1], "found, of those above 140", False),
    ):
        chosen = {
            label: [rates[rule, q][0 if errors else 1] for q in study.LEVELS]
            for rule, label in _RULES.items()
        }
        plots.rate_curves(
            place,
            study.LEVELS,
            [curve(label, values) for label, values in chosen.items()],
            ylabel=ylabel,
            xlabel=xlabel,
            diagonal=errors,
            above="more errors than agreed" if errors else None,
        )
    naive, ours = (
        [rates[rule, q].false_share.mean() for q in study.LEVELS]
        for rule in ("naive", "optcs")
    )
    return Picture(
        name="many-models-levels",
        caption="Errors (top) and finds (bottom) as the level moves. On the dotted "
        "line the errors equal the level. Keeping whichever model selects most finds "
        "more because it errs more; the other three keep the level. Bars: 95% "
        f"intervals over {num_splits:,} splits.",
        alt="Two line charts over levels from 5 to 40%. Top: the share of wrong calls "
        "of OptCS follows the diagonal from below, the rule that keeps whichever "
        f"model selects most lies above it, at {naive[1]:.0%} instead of "
        f"{study.LEVELS[1]:.0%} (OptCS {ours[1]:.0%}). Bottom: OptCS finds more than "
        "one model picked blindly at every level.",
        figure=drawing,
    )


def _rules_table(rates: Found, num_splits: int) -> Table:
    frame = pd.DataFrame(
        [
            {"rule": label, **row(rates[rule, LEVEL])}
            for rule, label in (_RULES | _MORE_RULES).items()
        ]
    )
    return Table(
        name="many-models-rules",
        caption=f"What each rule does to {study.NUM_CANDIDATES} candidates at level "
        f"10%, with {study.NUM_CALIBRATION} known patients. Means over "
        f"{num_splits:,} random splits. All but the second have the guarantee.",
        frame=frame,
        display=display(frame),
    )


def _count_picture(rates: Found, num_splits: int) -> Picture:
    drawing, axes = plots.figure(6.4, 7.0, rows=2)
    rules = {rule: _RULES[rule].split(" over")[0] for rule in ("optcs", "naive")}
    for place, ylabel, index in (
        (axes[0], "wrong among selected", 0),
        (axes[1], "found, of those above 140", 1),
    ):
        plots.rate_curves(
            place,
            study.COUNTS,
            [
                curve(label, [rates[rule, k][index] for k in study.COUNTS])
                for rule, label in rules.items()
            ],
            ylabel=ylabel,
            xlabel="models to choose from",
        )
        place.set_xticks(study.COUNTS, [str(k) for k in study.COUNTS])
    with plots.style():
        axes[0].axhline(LEVEL, color=plots.PALETTE["grey"], lw=1.2, ls=(0, (1, 1.5)))
        axes[0].annotate(
            "level",
            (0.995, LEVEL),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            color=plots.PALETTE["grey"],
        )
    first, last = (rates["naive", k].false_share.mean() for k in (1, NUM_MODELS))
    kept = max(rates["optcs", k].false_share.mean() for k in study.COUNTS)
    ends = [rates["optcs", k].found_share.mean() for k in (1, NUM_MODELS)]
    words = (
        f"From one model to {NUM_MODELS}, the errors of keeping whichever selects most "
        f"grow from {first:.1%} to {last:.1%}; those of OptCS are never above "
        f"{kept:.1%} while its finds grow from {ends[0]:.1%} to {ends[1]:.1%}"
    )
    return Picture(
        name="many-models-count",
        caption=f"The same at level 10%, as more models are on offer. {words}. With "
        f"one model the two rules are the same. Bars: 95% intervals over "
        f"{num_splits:,} splits.",
        alt=f"Two line charts over the number of models, 1 to 20. {words}.",
        figure=drawing,
    )


def _level_table(rates: Found, num_splits: int) -> Table:
    frame = pd.DataFrame(
        [
            {"level": q, "rule": label, **row(rates[rule, q])}
            for q in study.LEVELS
            for rule, label in _RULES.items()
        ]
    )
    return Table(
        name="many-models-levels",
        caption=f"The numbers behind the first picture, over {num_splits:,} splits.",
        frame=frame,
        display=display(frame),
    )

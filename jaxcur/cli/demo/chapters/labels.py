"""Machine labels that are mostly right, and a regression that is surely wrong."""

import jax
import numpy as np
import pandas as pd

from jaxcur import plots
from jaxcur.cli.demo._chapter import Chapter, Picture, Table
from jaxcur.cli.demo.chapters import _labels_study as study
from jaxcur.cli.demo.chapters._labels_study import (
    COEFFICIENTS,
    NUM_GOLD,
    NUM_ROWS,
    RULES,
    Found,
    Population,
)
from jaxcur.cli.demo.chapters._rates import mean_interval, share

MACHINE, GOLD, DEBIASED = range(len(RULES))
# The coefficient in the picture: the measurement on which the machine's errors depend.
BODY = COEFFICIENTS.index("body mass")
NUM_DRAWN = 40

_CODE = """\
from jaxcur import debiased

# y is NaN where no expert has looked; `labeled` says where one has.
result = debiased.logistic(X, y, y_predicted=machine_labels, labeled=labeled)
result.estimate, result.conf_int()
"""


def run(*, quick: bool, seed: int) -> Chapter:
    """Repeat a study with machine labels and a few gold ones many times."""
    num_draws = 600 if quick else 4_000
    population = study.load()
    found = study.study(jax.random.split(jax.random.key(seed), num_draws), population)
    return Chapter(
        name="labels",
        title="Labels by a machine: mostly right, and surely wrong together",
        question=f"A machine labels {NUM_ROWS:,} patients and is right about nearly "
        "nine in ten. May a regression be run on its labels?",
        setup=_setup(population, num_draws),
        findings=_findings(found),
        conclusion=_conclusion(found),
        items=(_picture(found), _table(found, num_draws)),
        code=_CODE,
    )


def _setup(population: Population, num_draws: int) -> tuple[str, ...]:
    return (
        "Whose disease progresses? A logistic regression is to say how body mass, "
        "blood pressure and blood fat (in standard deviations) go with progression "
        f"beyond a score of {study.THRESHOLD:g}. Finding out whether the disease of a "
        "patient progressed takes an expert with the patient's file; a machine reads "
        "the files too, at no cost.",
        f"The machine is right about {population.accuracy:.0%} of the patients, but "
        "its mistakes are not drawn by lot: it leans on body mass. It tends to take "
        "heavy patients whose disease stood still for progressed, and light ones "
        "whose disease progressed for not. Nobody who runs the regression knows that.",
        f"A study draws {NUM_ROWS:,} patients from the 442 that scikit-learn carries, "
        "with replacement, so the truth is known: it is the regression over the 442. "
        f"An expert labels {NUM_GOLD} of the {NUM_ROWS:,}, one in ten, chosen at "
        "random. The regression is run three times: on the machine labels alone; on "
        f"the {NUM_GOLD} patients with gold labels alone; and debiased, on the machine "
        "labels of all, corrected by what the gold labels show of their errors.",
        "The correction needs no idea of how the machine errs, only that the expert's "
        f"patients were chosen by lot. The study is repeated {num_draws:,} times, "
        "each time with intervals that claim 95%.",
    )


def _worth(found: Found) -> float:
    """How many times the gold labels would give the same width without a machine."""
    width = found.width[:, :, 1:].mean(axis=0)
    return float(((width[GOLD] / width[DEBIASED]) ** 2).mean())


def _shorter(found: Found) -> float:
    width = found.width[:, :, 1:].mean(axis=0)
    return float((1 - width[DEBIASED] / width[GOLD]).mean())


def _findings(found: Found) -> tuple[str, ...]:
    covered, width = found.covered[:, :, 1:], found.width.mean(axis=0)
    body = found.estimate[:, MACHINE, BODY].mean()
    trusted = covered[:, MACHINE].mean(axis=0)
    # Of the two on which the machine does not lean.
    worst = 1 + int(trusted[1:].argmin())
    return (
        f"On machine labels alone the coefficient of body mass comes out as {body:.2f} "
        f"on average; the truth is {found.truth[BODY]:.2f}. Its 95% interval holds the "
        f"truth in {share(found.covered[:, MACHINE, BODY])} of the studies, that of "
        f"{COEFFICIENTS[1 + worst]} in {trusted[worst]:.1%}.",
        "Nothing gives this away: these are the shortest intervals of the three, for "
        f"body mass {width[MACHINE, BODY]:.2f} wide on average, against "
        f"{width[GOLD, BODY]:.2f} with gold labels alone. More files read by the "
        "machine would make them shorter still, about the same wrong place.",
        "Debiased intervals hold the truth in "
        f"{share(covered[:, DEBIASED].mean(axis=1))} of the cases, averaged over the "
        f"three measurements; gold labels alone in "
        f"{share(covered[:, GOLD].mean(axis=1))}.",
        f"The machine is not useless: with it the intervals are {_shorter(found):.0%} "
        f"shorter than with the {NUM_GOLD} gold labels alone, as if there were "
        f"{_worth(found):.1f} times as many.",
    )


def _conclusion(found: Found) -> str:
    return (
        "High accuracy does not make a regression right: what counts is whether the "
        "mistakes go along with what is asked about, and the labels themselves do not "
        "tell. A few hundred gold labels, for rows chosen by lot, do. They repair the "
        "answer whatever the machine does, and the better the machine, the shorter the "
        "intervals. What they cannot replace is the lot: an expert who picks the "
        "interesting files gives labels that no method can weigh."
    )


def _picture(found: Found) -> Picture:
    first = found.interval[:NUM_DRAWN, :, BODY]
    truth = float(found.truth[BODY])
    hit = found.covered[:NUM_DRAWN, :, BODY]
    edges = np.array([first.min(), first.max()])
    margin = 0.04 * float(edges[1] - edges[0])
    drawing, axes = plots.figure(6.8, 5.2, columns=len(RULES))
    place = np.arange(1, len(first) + 1)
    with plots.style():
        for rule, panel in enumerate(axes):
            panel.axvline(truth, color=plots.PALETTE["black"], lw=1.2)
            for which, colour, marker in (
                (hit[:, rule], "blue", "o"),
                (~hit[:, rule], "vermillion", "s"),
            ):
                middle = first[which, rule].mean(axis=1)
                panel.errorbar(
                    middle,
                    place[which],
                    xerr=first[which, rule, 1] - middle,
                    ls="none",
                    marker=marker,
                    ms=3.5,
                    lw=1.2,
                    color=plots.PALETTE[colour],
                )
            panel.set_title(RULES[rule], fontsize=11)
            panel.set_xlim(edges[0] - margin, edges[1] + margin)
            panel.set_ylim(0, len(first) + 1)
            panel.grid(axis="y", visible=False)
            if rule:
                panel.set_yticklabels([])
        axes[0].set_ylabel("study")
        axes[1].set_xlabel("coefficient of body mass, 95% interval")
    missed = [int((~hit[:, rule]).sum()) for rule in range(len(RULES))]
    words = ", ".join(
        f"{count} of {name}" for count, name in zip(missed, RULES, strict=True)
    )
    return Picture(
        name="labels-intervals",
        caption=f"The first {len(first)} studies. The line is the truth; squares are "
        f"intervals that miss it: {words}.",
        alt=f"Three panels of {len(first)} horizontal intervals each around a vertical "
        "line at the true coefficient of body mass. Intervals from machine labels are "
        "short and to the right of the line, those from gold labels long and around "
        f"it, debiased ones shorter and around it. Misses: {words}.",
        figure=drawing,
    )


def _table(found: Found, num_draws: int) -> Table:
    rows = []
    for rule, name in enumerate(RULES):
        for j in range(1, len(COEFFICIENTS)):
            covered = mean_interval(found.covered[:, rule, j])
            rows.append(
                {
                    "regression on": name,
                    "coefficient": COEFFICIENTS[j],
                    "truth": float(found.truth[j]),
                    "mean estimate": float(found.estimate[:, rule, j].mean()),
                    "holds the truth": covered.mean,
                    "95% from": covered.lower,
                    "95% to": covered.upper,
                    "mean width": float(found.width[:, rule, j].mean()),
                }
            )
    return Table(
        name="labels-rules",
        caption=f"The three regressions over {num_draws:,} studies: how often their "
        "95% intervals hold the truth, and how wide they are.",
        frame=pd.DataFrame(rows),
        display={
            "truth": "{:.2f}",
            "mean estimate": "{:.2f}",
            "holds the truth": "{:.1%}",
            "95% from": "{:.1%}",
            "95% to": "{:.1%}",
            "mean width": "{:.2f}",
        },
    )

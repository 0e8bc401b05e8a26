"""A rare last class: what the common classes know about it."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxcur import ordinal, plots
from jaxcur.cli.demo._chapter import Chapter, Picture, Table
from jaxcur.cli.demo.chapters import _rare_study as study
from jaxcur.cli.demo.chapters._rare_study import (
    LOGISTIC,
    METHODS,
    NUM_CLASSES,
    NUM_ROWS,
    PRESTO,
    PROPORTIONAL,
    Scores,
    Worlds,
)
from jaxcur.cli.demo.chapters._rates import mean_interval

NUM_RESAMPLES = 105
NUM_PEOPLE = 12

_CODE = """\
import jax
from jaxcur import ordinal

# y holds 0, 1, 2, 3; the last one is rare.
chosen = ordinal.cross_validate(X, y, num_classes=4, key=jax.random.key(0))
ordinal.predict_proba(chosen.result, X)[:, -1]   # probability of the rare class
ordinal.odds_ratios(chosen.result)               # above 1: more of the higher classes
ordinal.nominal_test(X, y, num_classes=4)        # which columns break proportional odds

# or, from a table: jaxcur ordinal TABLE --outcome stage --order none,mild,severe
"""


class Found(NamedTuple):
    """What the chapter speaks of.

    Attributes:
        worlds: samples with their truth.
        rare: shape (3, worlds, n), probability of the last class by method.
        error: shape (3, worlds), mean squared error of it.
        intervals: shape (2, 2, people): binary logistic and PRESTO, both ends.
        people: rows of the first world.
        patients: scores on real patients.
    """

    worlds: Worlds
    rare: np.ndarray
    error: np.ndarray
    intervals: np.ndarray
    people: np.ndarray
    patients: Scores


def run(*, quick: bool, seed: int) -> Chapter:
    """Simulate a rare class many times, and look at real patients."""
    num_worlds, num_splits = (30, 20) if quick else (400, 200)
    found = _study(seed, num_worlds, num_splits)
    return Chapter(
        name="rare",
        title="A rare last class: what the common classes know about it",
        question="One person in eighty reaches the last stage. How likely is it for "
        "this person?",
        setup=_setup(found),
        findings=_findings(found),
        conclusion=_conclusion(),
        items=(
            _errors_picture(found),
            _errors_table(found),
            _intervals_picture(found),
            _calibration_picture(found, seed),
            _patients_table(found),
        ),
        code=_CODE,
    )


def _study(seed: int, num_worlds: int, num_splits: int) -> Found:
    worlds = study.draw_worlds(seed, num_worlds)
    fitted = study.fit_all(seed, worlds.X, worlds.y)
    shape = (len(METHODS), *worlds.X.shape)
    rare = fitted.fits.rare(np.broadcast_to(worlds.X, shape))
    X, y, truth = worlds.X[0], worlds.y[0], worlds.rare[0]
    order = np.argsort(truth)
    people = order[(np.linspace(0.02, 0.99, NUM_PEOPLE) * (len(order) - 1)).astype(int)]
    again = study.resample(seed, X, y, float(fitted.strengths[0]), NUM_RESAMPLES)
    probs = again.rare(np.broadcast_to(X[people], (2, NUM_RESAMPLES, NUM_PEOPLE, 6)))
    return Found(
        worlds,
        rare,
        ((rare - worlds.rare) ** 2).mean(axis=-1),
        np.quantile(probs, [0.025, 0.975], axis=1).swapaxes(0, 1),
        people,
        study.on_patients(seed, num_splits),
    )


def _setup(found: Found) -> tuple[str, ...]:
    count = found.worlds.y.shape[0]
    share = (found.worlds.y == NUM_CLASSES - 1).mean()
    return (
        f"Stages 0, 1, 2 and 3 of a disease, {NUM_ROWS:,} people, six measurements; "
        f"stage 3 is reached by {share:.1%}. The chance of stage 3 can be learnt in "
        "three ways. A binary logistic regression of stage 3 against all others uses "
        "every case of it, and there are about eighteen. Proportional odds says that a "
        "measurement shifts every boundary between stages by the same amount, so that "
        "the many people in the lower stages teach it about the highest; if that is "
        "not so, it is wrong for ever. PRESTO gives each boundary its own coefficients "
        "and draws neighbours together: a difference is paid for, and bought where "
        "the data ask for it.",
        f"The data are simulated {count:,} times, so the true chance of each person is "
        "known. In every repetition half of the measurements, drawn anew, shift the "
        "first boundary, and from one boundary to the next half of the coefficients "
        "change, up or down. How strongly PRESTO draws is chosen by five-fold "
        "cross-validation on the sample itself. A method's error is the mean squared "
        "distance of its chance of stage 3 from the true one.",
        "Then real patients: the 442 of scikit-learn, with the score of progression "
        "cut into four classes, the last one (above "
        f"{study.CUTS[-1]:g}) with 28 patients. There the truth is not known, and the "
        f"methods are scored on the {442 - study.NUM_TRAIN} patients of a random split "
        f"that they were not fitted to, {found.patients.brier.shape[1]} times.",
    )


def _ratio(found: Found, other: int) -> np.ndarray:
    return np.log(found.error[PRESTO] / found.error[other])


def _in_words(logs: np.ndarray) -> str:
    """A geometric mean of ratios with its interval."""
    middle, low, high = np.exp(mean_interval(logs))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _findings(found: Found) -> tuple[str, ...]:
    better = [(_ratio(found, other) < 0).mean() for other in (LOGISTIC, PROPORTIONAL)]
    spans = np.median(found.intervals[:, 1] / found.intervals[:, 0], axis=1)
    truth = found.worlds.rare[0, found.people]
    inside = (found.intervals[:, 0] <= truth) & (truth <= found.intervals[:, 1])
    gap = {
        other: mean_interval(
            found.patients.logloss[PRESTO] - found.patients.logloss[other]
        )
        for other in (LOGISTIC, PROPORTIONAL)
    }
    return (
        "PRESTO's error is "
        f"{_in_words(_ratio(found, LOGISTIC))} times that of the binary regression "
        f"(geometric mean, 95% interval), and smaller in {better[0]:.0%} of the "
        "repetitions.",
        f"Of proportional odds it is {_in_words(_ratio(found, PROPORTIONAL))} times "
        f"the error, and smaller in {better[1]:.0%}: here the measurements do not "
        "shift every boundary alike.",
        f"In the first sample, the upper end of a 95% interval is {spans[1]:.0f} times "
        f"the lower end with PRESTO, {spans[0]:.0f} times with the binary regression "
        f"(medians over {NUM_PEOPLE} people). The intervals hold the truth of "
        f"{int(inside[1].sum())} and {int(inside[0].sum())} of them; they rest on one "
        "sample, so they hit and miss together.",
        "On the real patients, whom proportional odds fits well, PRESTO's mean log "
        f"loss less that of the binary regression is {gap[LOGISTIC].mean:+.4f} "
        f"({gap[LOGISTIC].lower:+.4f} to {gap[LOGISTIC].upper:+.4f}), less that of "
        f"proportional odds {gap[PROPORTIONAL].mean:+.4f} "
        f"({gap[PROPORTIONAL].lower:+.4f} to {gap[PROPORTIONAL].upper:+.4f}); below 0 "
        "PRESTO predicts better.",
    )


def _conclusion() -> str:
    return (
        "If the event you care about is the last of several ordered classes, do not "
        "throw the others away. Proportional odds borrows all their strength and is "
        "hard to beat where it holds; where it does not, it errs in a way that more "
        "data do not cure. PRESTO lets the data decide boundary by boundary, at a "
        "small price where they had nothing to say. A penalised estimate is biased, so "
        "an interval should come from the debiased fit or a bootstrap, and with a "
        "score of cases it is wide whatever the method."
    )


def _errors_picture(found: Found) -> Picture:
    drawing, axes = plots.figure(7.2, 3.9, columns=2)
    low, high = found.error.min() * 0.8, found.error.max() * 1.25
    looks = ((LOGISTIC, "vermillion", "s"), (PROPORTIONAL, "green", "^"))
    with plots.style():
        for panel, (other, colour, marker) in zip(axes, looks, strict=True):
            panel.plot([low, high], [low, high], color=plots.PALETTE["grey"], lw=1.2)
            panel.scatter(
                found.error[other],
                found.error[PRESTO],
                color=plots.PALETTE[colour],
                marker=marker,
                s=26,
                alpha=0.75,
                edgecolor="white",
                linewidth=0.5,
            )
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xlim(low, high)
            panel.set_ylim(low, high)
            panel.set_xlabel(f"error of {METHODS[other]}")
            panel.annotate(
                "PRESTO better",
                (0.97, 0.04),
                xycoords="axes fraction",
                ha="right",
                color=plots.PALETTE["grey"],
                fontsize=10,
            )
        axes[0].set_ylabel("error of PRESTO")
    counts = [(_ratio(found, o) < 0).mean() for o in (LOGISTIC, PROPORTIONAL)]
    return Picture(
        name="rare-errors",
        caption="One point for each repetition: mean squared error of the chance of "
        "stage 3, PRESTO against the other two, on logarithmic axes. Below the line "
        "PRESTO is nearer to the truth.",
        alt="Two scatter plots of PRESTO's error against that of binary logistic "
        f"regression and of proportional odds; {counts[0]:.0%} and {counts[1]:.0%} of "
        "the points lie below the diagonal.",
        figure=drawing,
    )


def _errors_table(found: Found) -> Table:
    rows = []
    for method, name in enumerate(METHODS):
        quartiles = 1e5 * np.quantile(found.error[method], [0.25, 0.5, 0.75])
        logs = np.log(found.error[method] / found.error[PRESTO])
        middle, low, high = np.exp(mean_interval(logs))
        if method == PRESTO:
            low = high = np.nan
        rows.append((name, *quartiles, middle, low, high))
    columns = ("method", "lower quartile", "median", "upper quartile")
    frame = pd.DataFrame(
        rows, columns=[*columns, "error over PRESTO's", "95% from", "95% to"]
    )
    return Table(
        name="rare-errors",
        caption="Mean squared error of the chance of stage 3, in units of 0.00001, "
        f"over {found.error.shape[1]:,} repetitions, and its ratio to PRESTO's "
        "(geometric mean).",
        frame=frame,
        display={
            **dict.fromkeys(columns[1:], "{:.1f}"),
            **dict.fromkeys(("error over PRESTO's", "95% from", "95% to"), "{:.2f}"),
        },
    )


def _intervals_picture(found: Found) -> Picture:
    drawing, axes = plots.figure(6.8, 4.6)
    truth = found.worlds.rare[0, found.people]
    place = np.arange(NUM_PEOPLE)
    looks = (
        (0, LOGISTIC, "vermillion", "s", -0.17),
        (1, PRESTO, "blue", "o", 0.17),
    )
    with plots.style():
        for row, method, colour, marker, shift in looks:
            low, high = found.intervals[row]
            middle = found.rare[method, 0, found.people]
            axes.hlines(place + shift, low, high, color=plots.PALETTE[colour], lw=1.6)
            axes.plot(
                middle,
                place + shift,
                ls="none",
                marker=marker,
                ms=5,
                color=plots.PALETTE[colour],
                label=METHODS[method],
            )
        axes.plot(
            truth,
            place,
            ls="none",
            marker="|",
            ms=17,
            mew=2,
            color=plots.PALETTE["black"],
            label="truth",
        )
        axes.set_xscale("log")
        axes.set_xlim(1e-6, 1.0)
        ticks = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
        axes.set_xticks(ticks, [f"{100 * t:g}%" for t in ticks])
        axes.set_yticks([])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("chance of stage 3, with 95% interval (logarithmic)")
        axes.set_ylabel("people, in order of their true chance")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return Picture(
        name="rare-intervals",
        caption=f"{NUM_PEOPLE} people of the first sample, from a small to a large "
        "true chance (tick). Intervals are quantiles over "
        f"{NUM_RESAMPLES} reweightings of the sample (Bayesian bootstrap), PRESTO at "
        "the strength chosen on the sample.",
        alt=f"For {NUM_PEOPLE} people a pair of horizontal intervals for the chance of "
        "stage 3 with a tick at the truth; those of binary logistic regression are "
        "longer, by much at small chances, than those of PRESTO.",
        figure=drawing,
    )


def _calibration_picture(found: Found, seed: int) -> Picture:
    drawing, axes = plots.figure(6.4, 4.8)
    # New outcomes for the same people: those of the sample were fitted to.
    rng = np.random.default_rng([seed, 1])
    truth = found.worlds.rare.reshape(-1)
    events = rng.random(truth.shape) < truth
    plots.rare_calibration(
        axes,
        [
            (METHODS[method], found.rare[method].reshape(-1))
            for method in (PRESTO, LOGISTIC, PROPORTIONAL)
        ],
        events,
        num_bins=8,
    )
    off = [
        1e6
        * float(
            ordinal.binned_squared_calibration_error(
                found.rare[method].reshape(-1), events, num_bins=8, variant="bin_mean"
            )
        )
        for method in range(len(METHODS))
    ]
    words = ", ".join(f"{name} {x:.1f}" for name, x in zip(METHODS, off, strict=True))
    return Picture(
        name="rare-calibration",
        caption="Predicted chances against the rate among new outcomes of the same "
        f"people, {len(truth):,} from all repetitions in eight bins of equal size. On "
        "the dotted line a prediction means what it says. Mean squared distance from "
        f"it, in units of 0.000001: {words}. Axes show the square root.",
        alt="Observed rate of stage 3 against its predicted chance for three methods, "
        "with the diagonal on which they agree. Mean squared distance from it, in "
        f"units of 0.000001: {words}.",
        figure=drawing,
    )


def _patients_table(found: Found) -> Table:
    rows = []
    for method, name in enumerate(METHODS):
        brier, logloss = found.patients.brier[method], found.patients.logloss[method]
        gap = mean_interval(logloss - found.patients.logloss[PRESTO])
        low, high = (np.nan, np.nan) if method == PRESTO else (gap.lower, gap.upper)
        rows.append((name, brier.mean(), logloss.mean(), gap.mean, low, high))
    frame = pd.DataFrame(
        rows,
        columns=[
            "method",
            "Brier score",
            "log loss",
            "log loss less PRESTO's",
            "95% from",
            "95% to",
        ],
    )
    return Table(
        name="rare-patients",
        caption="Real patients: scores of the chance of the last class on patients "
        f"left out, means over {found.patients.brier.shape[1]} random splits. Smaller "
        "is better. Splits overlap, so the intervals are somewhat too short.",
        frame=frame,
        display={name: "{:.4f}" for name in frame.columns[1:]},
    )

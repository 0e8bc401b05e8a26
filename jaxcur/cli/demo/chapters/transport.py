"""How far is this pool from that target, for certain, and which classes move where?"""

import numpy as np
import pandas as pd

from jaxcur import plots
from jaxcur.cli.demo._chapter import Chapter, Picture, Table
from jaxcur.cli.demo.chapters import _transport_study as study
from jaxcur.cli.demo.chapters._transport_study import (
    EPSILONS,
    LARGE,
    NAMES,
    NUM_CLASSES,
    RELABELED,
    SAME,
    TEST_EPSILON,
    UPSIDE,
    Measured,
    Study,
)

_CODE = """\
import jax
from jaxcur import ot

# pool: (n, d), target: (m, d); hot_pool, hot_target: one-hot labels
result = ot.sinkhorn(pool, target, epsilon=0.05)
lower, upper = ot.certified_bounds(result, pool, target)
moved = hot_pool.T @ ot.apply_plan(result, pool, target, hot_target)
ot.two_sample_test(pool, target, epsilon=3.0, key=jax.random.key(0)).p_value
ot.otdd(pool, labels, target, target_labels, num_classes=10, epsilon=1.0,
        label_cost="means")
"""


def run(*, quick: bool, seed: int) -> Chapter:
    """Measure four pools of digits against a target."""
    n, num_resamples = (300, 99) if quick else (500, 499)
    found = study.study(seed, n, num_resamples)
    return Chapter(
        name="transport",
        title="How far is the pool from the target: certified costs, and what moves",
        question="Four pools of images, one target: which pool is near, and what is "
        "the matter with the others?",
        setup=_setup(found),
        findings=_findings(found),
        conclusion=_conclusion(),
        items=(
            _pools_table(found),
            _interval_picture(found),
            _classes_picture(found),
            _classes_table(found),
        ),
        code=_CODE,
    )


def _setup(found: Study) -> tuple[str, ...]:
    n = len(found.target.labels)
    return (
        f"Images of handwritten digits, 64 pixels between 0 and 1. The target is {n} "
        f"of them at random; each pool has {n} others. One pool has the same mix and "
        f"is the control. In one only every {_ordinal(study.THINNED)} of the digits "
        "5 to 9 was kept. In one a third of the images is upside down. The last has "
        "the images of the control with a third of the labels drawn anew.",
        "The cost is the squared distance of two images, averaged over the best way to "
        "pair pool and target. Sinkhorn's iteration approaches it from an entropic "
        "problem, and whatever it found gives a lower and an upper bound of the exact "
        "cost. The Sinkhorn divergence takes off what two samples of one law are apart "
        f"(epsilon {TEST_EPSILON:g}); its permutation test is exact: of pools like the "
        "control it rejects at most one in twenty at 5%. The dataset distance (OTDD) "
        "also asks whether labels go with the same images: to the cost it adds the "
        "squared distance between the mean images of two labels.",
    )


def _ordinal(count: int) -> str:
    return {2: "second", 3: "third", 4: "fourth", 5: "fifth"}[count]


def _interval(measured: Measured) -> str:
    return f"{measured.lower[-1]:.3f} to {measured.upper[-1]:.3f}"


def _in_class(moved: np.ndarray) -> float:
    return float(np.trace(moved[:NUM_CLASSES]))


def _share(moved: np.ndarray, row: int, column: int) -> float:
    """Share of what leaves a class that goes to another."""
    total = moved[row].sum()
    return float(moved[row, column] / total) if total > 0 else 0.0


def _order(found: Study) -> str:
    """What the certified intervals say about which pool is nearest."""
    control = found.measured[SAME]
    farther = [
        NAMES[pool]
        for pool in (LARGE, UPSIDE)
        if found.measured[pool].lower[-1] > control.upper[-1]
    ]
    if len(farther) == 2:
        return "No interval reaches the control's: both are farther, for certain."
    if farther:
        return f"For certain farther than the control: the pool '{farther[0]}'."
    return "The intervals overlap that of the control: which is nearer stays open."


def _largest_moves(moved: np.ndarray, count: int) -> str:
    off = moved - np.diag(np.diag(moved))
    chosen = np.argsort(-off, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(chosen, off.shape)
    return ", ".join(
        f"{i} to {j} ({off[i, j]:.1%})" for i, j in zip(rows, columns, strict=True)
    )


def _findings(found: Study) -> tuple[str, ...]:
    same, large, upside, relabeled = found.measured
    shares = [
        np.bincount(one.labels, minlength=NUM_CLASSES) / len(one.labels)
        for one in (found.pools[LARGE], found.target)
    ]
    possible = float(np.minimum(*shares).sum())
    smallest = 1 / (1 + found.num_resamples)
    chance = " One control in twenty falls below 0.05." if same.p_value <= 0.05 else ""
    return (
        f"From the pool of the same mix to the target transport costs "
        f"{_interval(same)}, an interval that holds the exact cost of these images. "
        f"From few 5s to 9s it costs {_interval(large)}, from a third upside down "
        f"{_interval(upside)}. {_order(found)}",
        "Is the pool a sample of what the target is a sample of? p-values "
        f"{same.p_value:.3g} for the same mix, {large.p_value:.3g} for few 5s to "
        f"9s, {upside.p_value:.3g} for a third upside down; the smallest that "
        f"{found.num_resamples} permutations can give is {smallest:.3g}.{chance}",
        f"In the pool of few 5s to 9s {shares[0][5:].sum():.0%} are 5 to 9, in the "
        f"target {shares[1][5:].sum():.0%}. At most {possible:.0%} of the mass could "
        f"stay in its class, and {_in_class(large.moved):.0%} does. Most of the rest: "
        f"{_largest_moves(large.moved[:NUM_CLASSES], 3)}.",
        f"Of the 6s that are upside down "
        f"{_share(upside.moved, NUM_CLASSES + 6, 9):.0%} go to 9s, and of the 9s "
        f"{_share(upside.moved, NUM_CLASSES + 9, 6):.0%} to 6s; of the upright 6s "
        f"{_share(upside.moved, 6, 6):.0%} go to 6s.",
        "New labels change no cost and no p-value, because images are all that these "
        f"see. The dataset distance rises from {same.labeled:.2f} to "
        f"{relabeled.labeled:.2f}.",
    )


def _conclusion() -> str:
    return (
        "A cost by itself says little, since two samples of one population are a good "
        "way apart: compare with a control. The certified interval is about these "
        "images and leaves no doubt; the p-value is about where they come from. The "
        "plan names what is wrong, class by class, and labels are seen only by a "
        "distance that looks at them."
    )


def _pools_table(found: Study) -> Table:
    columns = ["pool", "cost from", "cost to", "divergence", "p-value", "OTDD"]
    rows = [
        (
            name,
            one.lower[-1],
            one.upper[-1],
            one.divergence,
            one.p_value,
            one.labeled,
        )
        for name, one in zip(NAMES, found.measured, strict=True)
    ]
    settled = all(one.converged.all() for one in found.measured)
    words = (
        "" if settled else " Some solves did not converge; bounds hold all the same."
    )
    return Table(
        name="transport-pools",
        caption="Each pool against the target: certified bounds of the transport cost "
        f"(from epsilon {EPSILONS[-1]:g}), Sinkhorn divergence (epsilon "
        f"{TEST_EPSILON:g}) with the p-value of its test "
        f"({found.num_resamples} permutations), and the distance of the labelled "
        f"sets.{words}",
        frame=pd.DataFrame(rows, columns=columns).astype(
            dict.fromkeys(columns[1:], float)
        ),
        display={
            **dict.fromkeys(("cost from", "cost to", "divergence"), "{:.3f}"),
            "p-value": "{:.3g}",
            "OTDD": "{:.2f}",
        },
    )


def _interval_picture(found: Study) -> Picture:
    drawing, axes = plots.figure(7.2, 4.6)
    shown = range(RELABELED)
    plots.certified_interval(
        axes,
        [
            (
                NAMES[pool],
                EPSILONS,
                found.measured[pool].lower,
                found.measured[pool].upper,
            )
            for pool in shown
        ],
        ylabel="squared distance per image",
    )
    widths = [
        [float((one.upper - one.lower)[place]) for one in found.measured]
        for place in (0, -1)
    ]
    return Picture(
        name="transport-epsilon",
        caption="The exact cost lies in the band at every epsilon. A smaller epsilon "
        "takes more iterations and gives a narrower band: at most "
        f"{max(widths[0]):.2f} wide at {EPSILONS[0]:g} and {max(widths[1]):.3f} at "
        f"{EPSILONS[-1]:g}.",
        alt="Bands of certified bounds of the transport cost of three pools, which "
        f"narrow as epsilon falls from {EPSILONS[0]:g} to {EPSILONS[-1]:g}. At the "
        "end they stand at "
        + ", ".join(
            f"{_interval(found.measured[pool])} ({NAMES[pool]})" for pool in shown
        )
        + ".",
        figure=drawing,
    )


def _classes_picture(found: Study) -> Picture:
    drawing, axes = plots.figure(9.6, 5.0, columns=2)
    turned = found.measured[UPSIDE].moved[NUM_CLASSES:]
    total = turned.sum()
    for panel, moved, words in (
        (axes[0], found.measured[LARGE].moved[:NUM_CLASSES], "few 5s to 9s"),
        (axes[1], turned / (total if total > 0 else 1), "images upside down"),
    ):
        plots.class_transport(
            panel, moved, xlabel="digit in the target", ylabel=f"digit, {words}"
        )
    return Picture(
        name="transport-classes",
        caption="Percent of the mass that goes from a digit of the pool (down) to a "
        "digit of the target (across). Left: 5s to 9s are lacking, and other digits "
        "must stand in for them, to the right of the framed diagonal. Right: only the "
        "images upside down of that pool, as 100 percent.",
        alt="Two tables of ten by ten digits, shaded by mass. Left, the diagonal holds "
        f"{_in_class(found.measured[LARGE].moved):.0%}, and rows 0 to 4 reach over to "
        "columns 5 to 9. Right, mass is scattered, "
        f"{_share(turned, 6, 9):.0%} of row 6 in column 9 and "
        f"{_share(turned, 9, 6):.0%} of row 9 in column 6.",
        figure=drawing,
    )


def _classes_table(found: Study) -> Table:
    moved = found.measured[LARGE].moved[:NUM_CLASSES]
    columns = [f"to {digit}" for digit in range(NUM_CLASSES)]
    frame = pd.DataFrame(moved.astype(float), columns=columns)
    frame.insert(0, "digit", [f"from {digit}" for digit in range(NUM_CLASSES)])
    return Table(
        name="transport-moves",
        caption="The left picture in numbers: share of the mass from each digit of the "
        "pool with few 5s to 9s to each digit of the target. Rows sum to the mix "
        "of the pool, columns to that of the target.",
        frame=frame,
        display=dict.fromkeys(columns, "{:.1%}"),
    )

"""A classifier that is too sure of itself: seen, tested, repaired, tested again."""

from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxcur import calibration, plots, stats
from jaxcur.cli.demo._chapter import Chapter, Picture, Table
from jaxcur.cli.demo.chapters import _confident_study as study
from jaxcur.cli.demo.chapters._confident_study import (
    AS_IS,
    ISOTONIC,
    METHODS,
    NUM_REPAIR,
    NUM_TRAIN,
    TEMPERATURE,
    Splits,
)
from jaxcur.cli.demo.chapters._rates import mean_interval

LEVEL = 0.05
_NUM_BINS = 10

_CODE = """\
import jax
from jaxcur import calibration

# logits: (n,) of rows the classifier has not seen; labels: (n,), 0 or 1
probs = jax.nn.sigmoid(logits)
calibration.spiegelhalter_test(probs, labels, key=jax.random.key(0))
calibrator = calibration.fit_temperature(logits, labels)
calibrator(new_logits)   # repaired probabilities

# or, from a table: jaxcur calibrate TABLE --prob p --label y --out repaired.csv
# or, around an estimator: jaxcur.sklearn.Calibrator(model, method="temperature")
"""


class Shares(NamedTuple):
    """How often a test rejects, over splits, with an exact interval."""

    share: float
    lower: float
    upper: float


def run(*, quick: bool, seed: int) -> Chapter:
    """Split the images many times, and look at one split closely."""
    splits = study.study(seed, 40 if quick else 120)
    return Chapter(
        name="confident",
        title="Too sure of itself: a classifier tested, repaired, tested again",
        question="A classifier says 99 %. How often is it right?",
        setup=_setup(splits),
        findings=_findings(splits),
        conclusion=_conclusion(),
        items=(_diagram_picture(splits, seed), _table(splits)),
        code=_CODE,
    )


def _setup(splits: Splits) -> tuple[str, ...]:
    rows = splits.labels.shape[1]
    return (
        "Images of handwritten digits, 1,797 of them: is the digit odd? A logistic "
        f"regression on 64 pixels has {NUM_TRAIN} images to learn from and next to no "
        "penalty. It separates them, and takes that for certainty. In each of "
        f"{len(splits.labels):,} random splits {NUM_REPAIR} further images teach a "
        f"repair, and {rows} judge.",
        "Two repairs. A temperature divides the log-odds by one number, which changes "
        "no answer. Isotonic regression finds any increasing curve. The test is "
        "Spiegelhalter's, with a p-value that is exact for any number of rows: it is "
        f"at most {LEVEL:g} in at most one of twenty samples of a calibrated forecast. "
        "That is checked beside it, by outcomes drawn from the forecast itself.",
    )


def _rejected(p_values: np.ndarray) -> Shares:
    count, n = int((p_values <= LEVEL).sum()), len(p_values)
    low, high = stats.clopper_pearson(count, n, 0.95)
    return Shares(count / n, float(low), float(high))


def _said(shares: Shares) -> str:
    return f"{shares.share:.0%} ({shares.lower:.0%} to {shares.upper:.0%})"


def _findings(splits: Splits) -> tuple[str, ...]:
    judged = splits.judged
    sure, right = judged.confidence.mean(axis=0), judged.accuracy.mean(axis=0)
    before, after, curve = (
        _rejected(judged.p_value[:, method])
        for method in (AS_IS, TEMPERATURE, ISOTONIC)
    )
    null = _rejected(judged.null_p_value[:, TEMPERATURE])
    gain = mean_interval(judged.log_loss[:, AS_IS] - judged.log_loss[:, TEMPERATURE])
    return (
        f"The classifier is {sure[AS_IS]:.1%} sure on average and right in "
        f"{right[AS_IS]:.1%}. The test rejects its forecasts in {_said(before)} of "
        "the splits (95% interval).",
        f"A temperature of {splits.temperature.mean():.1f} on average makes it "
        f"{sure[TEMPERATURE]:.1%} sure, with the same answers, and the test rejects "
        f"in {_said(after)}. More than {LEVEL:.0%} is to be expected: the repair was "
        f"learnt from {NUM_REPAIR} images, about as many as judge it.",
        f"Where outcomes are drawn from the repaired forecast, the test rejects in "
        f"{_said(null)}: it keeps its level.",
        f"The log loss falls by {gain.mean:.3f} ({gain.lower:.3f} to {gain.upper:.3f})"
        f" to {judged.log_loss[:, TEMPERATURE].mean():.3f}. Isotonic regression "
        f"reaches {judged.log_loss[:, ISOTONIC].mean():.3f}, and its forecasts are "
        f"rejected in {_said(curve)}: a free curve says 0 and 1 where few images are, "
        "and one surprise there is dear.",
    )


def _conclusion() -> str:
    return (
        "Probabilities that come out of a classifier are not chances until somebody "
        "has looked. Look on rows that the classifier has not seen, repair with the "
        "fewest parameters that do it, and judge the repair on rows that it has not "
        "seen either. A test that does not reject is no proof: it says that this many "
        "rows do not show an error."
    )


def _diagram_picture(splits: Splits, seed: int) -> Picture:
    drawing, axes = plots.figure(9.2, 5.4, columns=2)
    keys = jax.random.split(jax.random.key(seed), 2)
    words = []
    for panel, method, key in zip(axes, (AS_IS, TEMPERATURE), keys, strict=True):
        probs, labels = splits.probs[0, method], splits.labels[0]
        diagram = calibration.reliability_diagram(
            probs, labels, kind="binned", num_bins=_NUM_BINS, key=key
        )
        plots.reliability_diagram(
            panel,
            diagram,
            xlabel=f"probability of an odd digit, {METHODS[method]}",
            ylabel="share of odd digits",
        )
        kept = ~np.isnan(np.asarray(diagram.rate))
        outside = (diagram.rate < diagram.lower) | (diagram.rate > diagram.upper)
        words.append(f"{int(outside.sum())} of {int(kept.sum())} bins")
    return Picture(
        name="confident-diagram",
        caption=f"The first split, {splits.labels.shape[1]} images that neither the "
        "classifier nor the repair has seen. Bins of the probability against the "
        "share of odd digits; calibrated forecasts would lie in the "
        f"shaded band, bin by bin in 95% of samples. Outside it lie {words[0]} before "
        f"and {words[1]} after the repair. The columns show where the forecasts lie.",
        alt="Two reliability diagrams with the band of calibrated forecasts. Before "
        f"the repair {words[0]} lie outside it, above the diagonal at small "
        f"probabilities and below it at large ones; after it {words[1]}.",
        figure=drawing,
    )


def _table(splits: Splits) -> Table:
    judged = splits.judged
    rows = []
    for method, name in enumerate(METHODS):
        found = _rejected(judged.p_value[:, method])
        means = (
            getattr(judged, part)[:, method].mean()
            for part in ("confidence", "accuracy", "error", "log_loss")
        )
        rows.append((name, *means, *found))
    columns = ["sure", "right", "calibration error", "log loss"]
    shares = ["test rejects", "95% from", "95% to"]
    return Table(
        name="confident-splits",
        caption=f"Means over {len(splits.labels):,} splits of what the images that "
        "judge say: probability of the likelier answer, share of right answers, "
        f"calibration error ({_NUM_BINS} bins), log loss, and how often the test "
        f"rejects at {LEVEL:.0%}. Splits overlap, so the interval is somewhat too "
        "short.",
        frame=pd.DataFrame(rows, columns=["forecast", *columns, *shares]),
        display={
            **dict.fromkeys(("sure", "right"), "{:.1%}"),
            **dict.fromkeys(columns[2:], "{:.3f}"),
            **dict.fromkeys(shares, "{:.0%}"),
        },
    )

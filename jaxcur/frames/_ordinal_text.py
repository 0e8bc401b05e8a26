"""An ordinal regression in words and aligned columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcur._base import aligned, number, p_value
from jaxcur.frames._ordinal_inference import coefficient_inference, rare_interval

if TYPE_CHECKING:
    from jaxcur.frames._ordinal_result import OrdinalFrameResult

# A p-value below this is pointed at; the number stands beside it.
_SMALL = 0.05
# Coefficients this close are one coefficient that was rounded.
_SAME = 1e-8


def direction(row: np.ndarray, boundaries: Sequence[str], sign: int) -> str:
    """What one unit more does: to which classes probability moves, and where.

    Args:
        row: shape (k-1,), coefficients of one term.
        boundaries: their names.
        sign: 1 where a positive coefficient means lower classes.
    """
    row = sign * np.asarray(row, float)
    if not np.isfinite(row).all():
        return "n/a"
    size = np.max(np.abs(row))
    if size == 0:
        return "no effect"
    lower, higher = row > _SAME * size, row < -_SAME * size
    if lower.all() or higher.all():
        side = "LOWER" if lower.all() else "HIGHER"
        if len(row) == 1:
            return f"to {side} classes"
        if np.ptp(row) <= _SAME * size:
            return f"to {side} classes, alike at every boundary"
        most = boundaries[int(np.argmax(np.abs(row)))]
        return f"to {side} classes, most at {most}"
    parts = []
    for chosen, side in ((higher, "HIGHER"), (lower, "LOWER")):
        if chosen.any():
            names = [b for b, c in zip(boundaries, chosen, strict=True) if c]
            parts.append(f"to {side} classes at {', '.join(names)}")
    if not (lower | higher).all() and len(parts) == 1:
        parts[0] += " only"
    return "; ".join(parts)


def plain(fitted: "OrdinalFrameResult", confidence_level: float) -> str:
    """The summary as text."""
    blocks = [
        _pairs(_head(fitted)),
        _coefficients(fitted),
        _inference(fitted, confidence_level),
        _odds(fitted),
        _proportionality(fitted),
        _rare(fitted, confidence_level),
        _pairs(_tail(fitted)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[str]:
    width = max(20, *(len(name) for name, _ in pairs))
    return [f"{name:<{width}} {value}" for name, value in pairs]


def _head(fitted: "OrdinalFrameResult") -> list[tuple[str, str]]:
    counts = np.bincount(fitted.codes, minlength=len(fitted.fitted_labels))
    classes = " < ".join(map(str, fitted.fitted_labels))
    listed = ", ".join(str(count) for count in counts)
    exact, selection = fitted.exact, fitted.selection
    head = [("rows", f"{len(fitted.X)}")]
    if fitted.num_dropped:
        head.append(("rows dropped", f"{fitted.num_dropped} (a missing entry)"))
    head.append((f"classes of {fitted.outcome.name}", f"{classes} ({listed} rows)"))
    absent = [
        str(c) for c, o in zip(fitted.labels, fitted.occurs, strict=True) if not o
    ]
    if absent:
        head.append(("classes dropped", f"{', '.join(absent)}: no row has them"))
    head.append(("model", f"{exact.family}, {exact.link}: {_MODELS[exact.family]}"))
    strength = number(float(exact.regularization))
    if selection is not None:
        folds = selection.fold_scores.shape[1]
        strength += f", by {folds}-fold cross-validation ({selection.criterion}"
        strength += ", one standard error)" if selection.rule == "one_se" else ")"
    head.append(("penalty", f"{_named(fitted.penalty)}, strength {strength}"))
    return head


_MODELS = {
    "cumulative": "P(y <= class) = F(intercept + sum of coefficient * column)",
    "sratio": "P(y = class, given y >= class) = F(intercept + ...)",
    "cratio": "P(y > class, given y >= class) = F(intercept + ...)",
    "acat": "P(upper class, given one of two neighbours) = F(intercept + ...)",
}


def _named(penalty: Any) -> str:
    name = type(penalty).__name__ if penalty is not None else "Presto"
    first = getattr(penalty, "first", 1.0)
    return name if np.ndim(first) or float(first) == 1 else f"{name}(first={first:g})"


def _coefficients(fitted: "OrdinalFrameResult") -> list[str]:
    words = fitted.directions()
    rows = [["coefficient", *fitted.boundaries]]
    rows.append(["(intercept)", *map(number, fitted.exact.intercepts)])
    for term, row in zip(fitted.terms, fitted.exact.coefficients, strict=True):
        rows.append([term, *(_number_or_zero(value) for value in row)])
    lines = aligned(rows)
    width = max(len(line) for line in lines)
    notes = ["one unit more moves probability", "", *words]
    lines = [
        f"{line:<{width}}  {note}".rstrip()
        for line, note in zip(lines, notes, strict=True)
    ]
    if fitted._sign == 1:
        said = (
            "(a POSITIVE coefficient moves probability to LOWER classes: the opposite "
            "sign of R polr and statsmodels)"
        )
    else:
        said = "(a positive coefficient moves probability to higher classes)"
    return [*lines, said]


def _number_or_zero(value: Any) -> str:
    return "0" if value == 0 else number(value)


_KINDS = {
    "maximum likelihood": "maximum likelihood; standard errors assume the model",
    "debiased": "debiased: the penalty is taken back; standard errors assume the model",
}


def _inference(fitted: "OrdinalFrameResult", confidence_level: float) -> list[str]:
    """Estimates with standard errors; one line where all boundaries share them."""
    table, kind = coefficient_inference(fitted, confidence_level)
    rows = [[kind, "at", "estimate", "std error", "z", "p"]]
    for place, term in enumerate(fitted.terms):
        estimates, errors = table["estimate"][place], table["std_error"][place]
        shared = len(estimates) > 1 and bool(
            np.ptp(estimates) <= _SAME * abs(estimates[0])
            and np.ptp(errors) <= _SAME * errors[0]
        )
        where = ("all",) if shared else fitted.boundaries
        for k, boundary in enumerate(where):
            z, p = table["z"][place, k], table["p_value"][place, k]
            shown = "n/a" if np.isnan(z) else f"{z:.2f}"
            cells = [number(estimates[k]), number(errors[k]), shown, p_value(p)]
            rows.append([term if k == 0 else "", boundary, *cells])
    return [*aligned(rows), f"({_KINDS[kind]})"]


def _odds(fitted: "OrdinalFrameResult") -> list[str]:
    if fitted.exact.link != "logit":
        return []
    rows = [["odds ratio, HIGHER", *fitted.boundaries]]
    for term, row in fitted.odds_ratios().iterrows():
        rows.append([str(term), *map(number, row)])
    return [
        *aligned(rows),
        "(factor on the odds of the classes above the boundary, one unit more)",
    ]


def _proportionality(fitted: "OrdinalFrameResult") -> list[str]:
    if len(fitted.fitted_labels) < 3:
        return []
    odds = fitted.exact.link == "logit"
    heading = "proportional odds" if odds else "same at every boundary"
    rows = [[heading, "statistic", "p"]]
    notes = [""]
    table = fitted.proportionality()
    statistics, p_values = (table[n].to_numpy(float) for n in ("statistic", "p_value"))
    for term, statistic, p in zip(fitted.terms, statistics, p_values, strict=True):
        rows.append([term, number(statistic), p_value(p)])
        notes.append(("breaks it" if odds else "is not") if p < _SMALL else "")
    lines = [
        f"{line}  {note}".rstrip()
        for line, note in zip(aligned(rows), notes, strict=True)
    ]
    said = (
        "(likelihood ratio without a penalty, one term at a time free at every "
        "boundary; not corrected for several tests)"
    )
    if np.isnan(p_values).any():
        said = said[:-1] + "; n/a: a constant column, or classes separate)"
    return [*lines, said]


def _rare(fitted: "OrdinalFrameResult", confidence_level: float) -> list[str]:
    """The last class at the rows of lowest, median and highest probability."""
    probs = fitted.predict_proba().to_numpy()[:, fitted.occurs][:, -1]
    order = np.argsort(probs, kind="stable")
    chosen = order[[0, len(order) // 2, len(order) - 1]]
    found, note = rare_interval(fitted, fitted.X[chosen], confidence_level)
    label = fitted.fitted_labels[-1]
    level = f"{100 * confidence_level:g} % interval"
    rows = [[f"P(y = {label})", "predicted", "debiased", level]]
    for name, row, (debiased, low, high) in zip(
        ("lowest", "median", "highest"), chosen, found, strict=True
    ):
        index = fitted.index[row]
        place = f"{name} (row {index + 1 if fitted.counted else index})"
        span = "n/a" if np.isnan(low) else f"{_percent(low)} to {_percent(high)}"
        rows.append([place, _percent(probs[row]), _percent(debiased), span])
    weights = np.ones(len(fitted.X)) if fitted.weights is None else fitted.weights
    share = np.average(fitted.codes == len(fitted.fitted_labels) - 1, weights=weights)
    mean = np.average(probs, weights=weights)
    return [
        *aligned(rows),
        f"(observed {_percent(share)}, predicted {_percent(mean)} on average; {note})",
    ]


def _tail(fitted: "OrdinalFrameResult") -> list[tuple[str, str]]:
    exact = fitted.exact
    crossing = int(exact.num_crossing)
    rows = f"{crossing} of {len(fitted.X)}"
    if crossing:
        rows += ": a middle class would be negative there; predictions are repaired"
    return [
        ("crossing rows", rows),
        (
            "certificate",
            f"{exact.message}; KKT residual {_bound(exact.kkt_residual)}, objective "
            f"above its minimum by {_bound(exact.gap_bound)}",
        ),
    ]


def _bound(value: Any) -> str:
    """Digits of what is practically zero differ between machines, and mean nothing."""
    value = float(value)
    if not np.isfinite(value):
        return "an unknown amount"
    return "less than 1e-9" if value < 1e-9 else f"at most {value:.1e}"


def _percent(share: Any) -> str:
    return "n/a" if np.isnan(share) else f"{100 * float(share):.3g} %"

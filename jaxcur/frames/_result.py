"""What `frames.estimate` returns: three fits, their terms, and words about them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxcur._base import check_choice, check_unit_interval
from jaxcur.debiased import EstimateResult
from jaxcur.frames import _text

FITS = ("surrogate_only", "gold_only", "debiased")
Reference = Literal["normal", "t"]


@dataclasses.dataclass(frozen=True, repr=False)
class FrameResult:
    """Regression on predictions, on gold labels, and debiased.

    A host-side object: it holds names and NumPy arrays, not for use under jit.

    Attributes:
        formula: as given.
        model: as given.
        terms: names of the p coefficients.
        predicted: gold column -> predicted column.
        labeling: how rows were chosen for gold labels, in words.
        tuning: rule of power tuning, in words.
        num_rows: rows used.
        num_labeled: labelled rows among them.
        num_dropped: rows left out because an entry was missing.
        num_partial: rows with gold labels of only some predicted variables; they count
            as unlabelled.
        warnings: sentences on the debiased fit.
        notes: fit -> why it is not available, for the two fits beside the debiased one.
        exact: the three results with float64 NumPy leaves, in the order of `FITS`.
    """

    formula: str
    model: str
    terms: tuple[str, ...]
    predicted: Mapping[str, str]
    labeling: str
    tuning: str
    num_rows: int
    num_labeled: int
    num_dropped: int
    num_partial: int
    warnings: tuple[str, ...]
    notes: Mapping[str, str]
    exact: tuple[EstimateResult | None, EstimateResult | None, EstimateResult]

    @property
    def surrogate_only(self) -> EstimateResult | None:
        """The fit that takes predictions for truth, in JAX's default precision."""
        return _as_default(self.exact[0])

    @property
    def gold_only(self) -> EstimateResult | None:
        """The fit to labelled rows, in JAX's default precision."""
        return _as_default(self.exact[1])

    @property
    def debiased(self) -> EstimateResult:
        """The debiased fit, in JAX's default precision."""
        result = _as_default(self.exact[2])
        assert result is not None
        return result

    def to_frame(
        self,
        form: Literal["long", "wide"] = "long",
        *,
        confidence_level: float = 0.95,
        reference: Reference = "normal",
    ) -> pd.DataFrame:
        """Coefficients of the three fits.

        Args:
            form: "long" has a row for each fit and term, with columns fit, term,
                estimate, std_error, z, p_value, lower, upper; "wide" a row for each
                term, with these columns for each fit, for example
                `debiased_std_error`.
            confidence_level: of the interval from lower to upper.
            reference: distribution of z, "normal" or "t".

        Returns:
            data frame; NaN where a fit is not available.
        """
        check_choice("form", form, ("long", "wide"))
        tables = [self._table(index, confidence_level, reference) for index in range(3)]
        if form == "long":
            return pd.concat(
                [
                    pd.DataFrame({"fit": fit, "term": self.terms, **table})
                    for fit, table in zip(FITS, tables, strict=True)
                ],
                ignore_index=True,
            )
        wide = {
            f"{fit}_{name}": values
            for fit, table in zip(FITS, tables, strict=True)
            for name, values in table.items()
        }
        return pd.DataFrame({"term": self.terms, **wide})

    def compare(self) -> pd.DataFrame:
        """Estimates and standard errors of the three fits side by side, by term."""
        columns = {}
        for index, fit in enumerate(FITS):
            table = self._table(index, 0.95, "normal")
            columns[fit] = table["estimate"]
            columns[f"{fit}_std_error"] = table["std_error"]
        return pd.DataFrame(columns, index=pd.Index(self.terms))

    def conf_int(
        self, confidence_level: float = 0.95, *, reference: Reference = "normal"
    ) -> pd.DataFrame:
        """Intervals of the debiased fit by term, with columns lower and upper."""
        table = self._table(2, confidence_level, reference)
        return pd.DataFrame(
            {"lower": table["lower"], "upper": table["upper"]},
            index=pd.Index(self.terms),
        )

    def summary(
        self, confidence_level: float = 0.95, *, reference: Reference = "normal"
    ) -> str:
        """A table to print: the fits side by side, inference, diagnostics in words."""
        return _text.plain(self._document(confidence_level, reference))

    def summary_html(
        self, confidence_level: float = 0.95, *, reference: Reference = "normal"
    ) -> str:
        """The summary as HTML."""
        return _text.html(self._document(confidence_level, reference))

    def diagnostics(self) -> dict[str, float]:
        """Diagnostics of the debiased fit that are single numbers, by name."""
        d = self.exact[2].diagnostics
        return {
            field.name: float(getattr(d, field.name))
            for field in dataclasses.fields(d)
            if np.ndim(getattr(d, field.name)) == 0
        }

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return (
            f"FrameResult({self.formula!r}, model={self.model!r}, "
            f"num_rows={self.num_rows}, num_labeled={self.num_labeled}); "
            "print it, or see .summary()"
        )

    def _repr_html_(self) -> str:
        return self.summary_html()

    def _table(
        self, index: int, confidence_level: float, reference: Any
    ) -> dict[str, np.ndarray]:
        """Columns of one fit; NaN where it has no solution."""
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        check_choice("reference", reference, ("normal", "t"))
        result = self.exact[index]
        names = ("estimate", "std_error", "z", "p_value", "lower", "upper")
        if result is None or not bool(result.converged):
            # Where a solver stopped is not an estimate.
            return {name: np.full(len(self.terms), np.nan) for name in names}
        with jax.enable_x64(True):
            exact = jax.tree.map(jnp.asarray, result)
            interval = np.asarray(exact.conf_int(confidence_level, reference=reference))
            error = np.asarray(exact.std_error)
            p_value = np.asarray(exact.p_value(reference=reference))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = result.estimate / error
        values = (result.estimate, error, z, p_value, interval[:, 0], interval[:, 1])
        return {n: np.asarray(v) for n, v in zip(names, values, strict=True)}

    def _document(self, confidence_level: float, reference: Any) -> _text.Document:
        tables = [self._table(index, confidence_level, reference) for index in range(3)]
        share = 100 * self.num_labeled / self.num_rows
        head = [
            ("rows", f"{self.num_rows}"),
            ("labelled rows", f"{self.num_labeled} ({share:.3g} %)"),
            ("labelling", self.labeling),
            ("model", f"{self.model}, {self.formula}"),
            ("predicted", ", ".join(f"{a} by {b}" for a, b in self.predicted.items())),
            ("power tuning", self.tuning),
        ]
        if self.num_dropped:
            head.insert(1, ("rows dropped", f"{self.num_dropped} (a missing entry)"))
        if self.num_partial:
            head.insert(
                3 if self.num_dropped else 2,
                (
                    "partly labelled",
                    f"{self.num_partial} rows, counted as unlabelled",
                ),
            )
        return _text.Document(
            head=tuple(head),
            terms=self.terms,
            tables=tuple(tables),
            confidence_level=confidence_level,
            reference=reference,
            remarks=_text.remarks(self),
        )


def _as_default(result: EstimateResult | None) -> EstimateResult | None:
    return None if result is None else jax.tree.map(jnp.asarray, result)

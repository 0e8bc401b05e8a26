"""What `frames.fit_ordinal` returns: a fit, its labels, and what it says in words."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxcur import ordinal
from jaxcur._base import check_unit_interval
from jaxcur.frames import _ordinal_text
from jaxcur.frames._columns import as_frame
from jaxcur.frames._ordinal_design import Encoder
from jaxcur.frames._ordinal_inference import coefficient_inference, rare_interval
from jaxcur.frames._ordinal_outcome import Outcome


@dataclasses.dataclass(frozen=True, repr=False)
class OrdinalFrameResult:
    """An ordinal regression with names of columns and labels of classes.

    A host-side object: it holds names and NumPy arrays, not for use under jit.

    Attributes:
        outcome: the column of classes, with all declared labels.
        occurs: shape (declared classes,) bool, those that some row holds.
        encoder: turns rows of a table into columns of the fit.
        X: shape (n, p), the columns.
        codes: shape (n,), classes among those that occur.
        weights: shape (n,), or None.
        index: of the rows that were used.
        counted: the table had no names of rows, which are numbers from 0 in `index`
            and from 1 in texts.
        num_dropped: rows left out because an entry was missing.
        penalty: what was shrunk.
        selection: how the strength was chosen, None where it was given.
        exact: the fit with float64 NumPy leaves.
    """

    outcome: Outcome
    occurs: np.ndarray
    encoder: Encoder
    X: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None
    index: pd.Index
    counted: bool
    num_dropped: int
    penalty: Any
    selection: ordinal.CrossValidationResult | None
    exact: ordinal.OrdinalResult

    @property
    def result(self) -> ordinal.OrdinalResult:
        """The fit in JAX's default precision."""
        return jax.tree.map(jnp.asarray, self.exact)

    @property
    def labels(self) -> tuple[Any, ...]:
        """All declared classes, lowest first."""
        return self.outcome.labels

    @property
    def fitted_labels(self) -> tuple[Any, ...]:
        """Classes that some row holds, lowest first; the last one is the rare one."""
        pairs = zip(self.labels, self.occurs, strict=True)
        return tuple(label for label, there in pairs if there)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the columns of the fit."""
        return self.encoder.terms

    @property
    def boundaries(self) -> tuple[str, ...]:
        """Names of the boundaries between classes, such as "mild|severe"."""
        labels = self.fitted_labels
        return tuple(f"{a}|{b}" for a, b in zip(labels[:-1], labels[1:], strict=True))

    def predict_proba(
        self, data_frame: pd.DataFrame | None = None, *, repair: str = "rearrange"
    ) -> pd.DataFrame:
        """Probability of every declared class, a column for each label.

        Args:
            data_frame: new rows, which need no outcome; None for those of the fit.
            repair: what to do where boundaries cross, as in `ordinal.predict_proba`.

        Returns:
            data frame with the rows' index; 0 for a class that no row of the fit held.

        Raises:
            TableError: a column is absent, has a gap, or holds an unknown category.
        """
        X, index = self._rows(data_frame)
        probs = np.zeros((len(X), len(self.labels)))
        with jax.enable_x64(True):
            found = ordinal.predict_proba(self.exact, X, repair=repair)
            probs[:, self.occurs] = np.asarray(found)
        return pd.DataFrame(probs, index=index, columns=pd.Index(self.labels))

    def predict(self, data_frame: pd.DataFrame | None = None) -> pd.Series:
        """The likeliest class of each row, in the labels of the outcome.

        A rare class is seldom the likeliest: for it use `rare_probability`.

        Args:
            data_frame: new rows; None for those of the fit.
        """
        probs = self.predict_proba(data_frame)
        codes = probs.to_numpy().argmax(axis=1)
        return self.outcome.column(codes, probs.index)

    def rare_probability(
        self,
        data_frame: pd.DataFrame | None = None,
        *,
        confidence_level: float = 0.95,
    ) -> pd.DataFrame:
        """Probability of the last class that occurs, with an interval for each row.

        A penalised estimate is biased, and intervals around it would be too. They come
        from the debiased fit, which is shown beside it; where rows are few for the
        number of columns, the estimate can lie outside.

        Args:
            data_frame: new rows; None for those of the fit.
            confidence_level: of the interval from lower to upper.

        Returns:
            data frame with columns estimate (as in `predict_proba`), debiased, lower
            and upper; the last three are NaN where there is no interval, and
            `summary()` says why.
        """
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        X, index = self._rows(data_frame)
        label = self.fitted_labels[-1]
        estimate = self.predict_proba(data_frame)[label].to_numpy()
        found, _ = rare_interval(self, X, confidence_level)
        table = pd.DataFrame(
            found, index=index, columns=pd.Index(["debiased", "lower", "upper"])
        )
        table.insert(0, "estimate", estimate)
        return table

    def coefficients(self) -> pd.DataFrame:
        """Coefficients on the original scale, a row for each term, by boundary.

        A positive coefficient moves probability to LOWER classes (families cumulative
        and sratio; to higher ones with cratio and acat).
        """
        return self._by_boundary(self.exact.coefficients)

    def intercepts(self) -> pd.Series:
        """One intercept for each boundary."""
        return pd.Series(self.exact.intercepts, index=pd.Index(self.boundaries))

    def odds_ratios(self, *, direction: str = "higher") -> pd.DataFrame:
        """Factor by which one unit multiplies the odds of the HIGHER classes.

        Args:
            direction: "higher" or "lower".

        Raises:
            ValueError: the link is not the logit.
        """
        with jax.enable_x64(True):
            ratios = ordinal.odds_ratios(self.exact, direction=direction)
            return self._by_boundary(np.asarray(ratios))

    def inference(self, confidence_level: float = 0.95) -> pd.DataFrame:
        """Standard errors, z, p-values and intervals of the coefficients.

        They are those of maximum likelihood where there is no penalty. Else they belong
        to the debiased fit, as a penalised estimate is biased: `estimate` is then not
        that of `coefficients()`. `.attrs["estimates"]` says which.

        Args:
            confidence_level: of the interval from lower to upper.

        Returns:
            data frame with a row for each term and boundary; NaN for a constant column,
            and everywhere where classes separate or columns are collinear.
        """
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        found, kind = coefficient_inference(self, confidence_level)
        p, m = self.exact.coefficients.shape
        table = pd.DataFrame(
            {
                "term": np.repeat(self.terms, m),
                "boundary": np.tile(self.boundaries, p),
                **{name: values.reshape(-1) for name, values in found.items()},
            }
        )
        table.attrs["estimates"] = kind
        return table

    def directions(self) -> pd.Series:
        """What one unit more of each term does, in words."""
        words = [
            _ordinal_text.direction(row, self.boundaries, self._sign)
            for row in self.exact.coefficients
        ]
        return pd.Series(words, index=pd.Index(self.terms))

    def proportionality(self) -> pd.DataFrame:
        """Which terms break proportional odds: a likelihood-ratio test for each.

        The unpenalised proportional model against the one in which this term alone has
        a coefficient of its own at every boundary. Not corrected for several tests.

        Returns:
            data frame with columns statistic, degrees and p_value; NaN where a test
            has no answer (classes separate, or the column is constant).

        Raises:
            ValueError: there are two classes, hence one boundary.
        """
        return self._proportionality.copy()

    @functools.cached_property
    def _proportionality(self) -> pd.DataFrame:
        with jax.enable_x64(True):
            test = ordinal.nominal_test(
                self.X,
                self.codes,
                num_classes=len(self.fitted_labels),
                family=self.exact.family,
                link=self.exact.link,
                weights=self.weights,
            )
        p_value, statistic = np.asarray(test.p_value), np.asarray(test.statistic)
        degrees = len(self.fitted_labels) - 2
        table = {
            "statistic": np.where(np.isnan(p_value), np.nan, statistic),
            "p_value": p_value,
        }
        frame = pd.DataFrame(table, index=pd.Index(self.terms))
        frame.insert(1, "degrees", degrees)
        return frame

    def to_frame(self) -> pd.DataFrame:
        """A row for each term and boundary: coefficient, and odds ratio for logit."""
        coefficients = self.exact.coefficients
        p, m = coefficients.shape
        table = {
            "term": np.repeat(self.terms, m),
            "boundary": np.tile(self.boundaries, p),
            "coefficient": coefficients.reshape(-1),
        }
        if self.exact.link == "logit":
            table["odds_ratio_higher"] = self.odds_ratios().to_numpy().reshape(-1)
        return pd.DataFrame(table)

    def summary(self, confidence_level: float = 0.95) -> str:
        """A text to print: coefficients, their direction, tests, the certificate."""
        return _ordinal_text.plain(self, confidence_level)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return (
            f"OrdinalFrameResult({self.outcome.name!r}, "
            f"classes={len(self.fitted_labels)}, terms={len(self.terms)}, "
            f"num_rows={len(self.X)}); print it, or see .summary()"
        )

    @property
    def _sign(self) -> int:
        """1 where a positive coefficient moves probability to lower classes."""
        return 1 if self.exact.family in ("cumulative", "sratio") else -1

    def _rows(self, data_frame: pd.DataFrame | None) -> tuple[np.ndarray, pd.Index]:
        if data_frame is None:
            return self.X, self.index
        frame = as_frame(data_frame)
        index = getattr(data_frame, "index", frame.index)
        return self.encoder.new_rows(frame), index

    def _by_boundary(self, values: Any) -> pd.DataFrame:
        return pd.DataFrame(
            np.asarray(values),
            index=pd.Index(self.terms),
            columns=pd.Index(self.boundaries),
        )

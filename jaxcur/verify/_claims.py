"""What can be claimed: every promise as bounded means, one or several at once."""

import dataclasses
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur._base import check_choice
from jaxcur.verify._margins import resolve_margins, sides_of
from jaxcur.verify._numerics import default_float

KINDS = ("exact", "asymptotic")
FAILED = "failed"
"""Reserved metric: true where a replication reports its own failure."""


class Observation(NamedTuple):
    """A batch of metrics on the unit scale, one column per component of the claim.

    The tested quantity is E[numerator] / E[denominator], with
    0 <= numerator <= denominator <= 1; a plain mean has denominator 1.

    Attributes:
        numerator: shape (b, k).
        denominator: shape (b, k).
        failed: shape (b,), bool.
        outside: shape (b,), bool; never true where `failed` is.
        binary: True when shapes and dtypes alone say that all entries are 0 or 1, so
            that counts suffice and no logarithm is taken.
    """

    numerator: Any
    denominator: Any
    failed: Any
    outside: Any
    binary: bool


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement on the mean of metrics; made by `at_most` and its relatives.

    Attributes:
        name: what reports call it; unique within one study.
        metrics: names of the metrics it reads.
        direction: "at_most", "at_least" or "equals".
        bounds: one bound per component, on the metric's own scale.
        margins: one margin per component.
        kind: "exact" for a finite-sample promise, "asymptotic" for one that holds in
            the limit, or that is tested by a limit theorem.
        lower: smallest possible metric.
        upper: largest possible metric.
    """

    name: str
    metrics: tuple[str, ...]
    direction: str
    bounds: tuple[float, ...]
    margins: tuple[float, ...]
    kind: str = "exact"
    lower: float = 0.0
    upper: float = 1.0

    no_worst_value: ClassVar[bool] = False
    """Failures cannot be counted against the promise, so a single one is INVALID."""

    @property
    def bounded(self) -> bool:
        """Whether the metric has a finite range, so that the evidence is exact."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides of the bound that are tested."""
        return sides_of(self.direction, self.bounds, self.lower, self.upper)

    @property
    def labels(self) -> tuple[str, ...]:
        """A name per component; empty strings for a claim with one component."""
        return ("",) * len(self.bounds)

    @property
    def unit_bounds(self) -> np.ndarray:
        """Bounds rescaled to [0, 1]; unchanged for a metric without a finite range."""
        bounds = np.asarray(self.bounds, np.float64)
        return (
            (bounds - self.lower) / (self.upper - self.lower)
            if self.bounded
            else bounds
        )

    @property
    def unit_margins(self) -> np.ndarray:
        """Margins on the same scale as `unit_bounds`."""
        margins = np.asarray(self.margins, np.float64)
        return margins / (self.upper - self.lower) if self.bounded else margins

    def with_margin(
        self,
        margin: float | None = None,
        *,
        share: float = 0.1,
        floor: float = 0.0025,
    ) -> "Claim":
        """The same claim with another margin, or with another default rule."""
        margins = resolve_margins(
            self.direction, self.bounds, margin, self.lower, self.upper, share, floor
        )
        return dataclasses.replace(self, margins=margins)

    def describe(self) -> dict[str, Any]:
        """Everything that identifies the claim, as plain values for a saved state."""
        fields = dataclasses.asdict(self)
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }
        # JSON knows no infinities.
        plain["lower"], plain["upper"] = repr(self.lower), repr(self.upper)
        return {"type": type(self).__name__, **plain}

    def observe(self, xp: ModuleType, metrics: Mapping[str, Any]) -> Observation:
        """Columns on the unit scale from a batch of metrics, shape (b, components)."""
        values = self._read(xp, metrics)
        (raw,) = values
        _check_ranks(self, values, (1,))
        value = raw.astype(default_float(xp))
        outside = _outside(xp, raw, self.lower, self.upper)
        if self.bounded and (self.lower, self.upper) != (0.0, 1.0):
            value = (value - self.lower) / (self.upper - self.lower)
        failed = self._failed(xp, metrics)
        binary = raw.dtype == bool and (self.lower, self.upper) == (0.0, 1.0)
        return _observation(xp, value[:, None], None, failed, outside, binary)

    def _read(self, xp: ModuleType, metrics: Mapping[str, Any]) -> list[Any]:
        missing = [name for name in self.metrics if name not in metrics]
        if missing:
            raise ValueError(
                f"claim {self.name!r} needs the metric {missing[0]!r}; "
                f"got {sorted(metrics)}"
            )
        values = [xp.asarray(metrics[name]) for name in self.metrics]
        for name, value in zip(self.metrics, values, strict=True):
            if value.ndim == 0:
                raise ValueError(
                    f"metric {name!r} must be a batch of shape (b,), got a scalar; "
                    f"add an axis with `{name}[None]`"
                )
        lengths = {value.shape[0] for value in values}
        if len(lengths) > 1:
            raise ValueError(
                f"the metrics of claim {self.name!r} must have the same length, "
                f"got {sorted(lengths)}"
            )
        return values

    def _failed(self, xp: ModuleType, metrics: Mapping[str, Any]) -> Any:
        """Rows with a value that is not finite, or that report their own failure."""
        failed = None
        for name in self.metrics:
            value = xp.asarray(metrics[name])
            bad = ~xp.isfinite(value)
            bad = bad if value.ndim == 1 else bad.any(axis=tuple(range(1, value.ndim)))
            failed = bad if failed is None else failed | bad
        if FAILED in metrics and FAILED not in self.metrics:
            failed = failed | xp.asarray(metrics[FAILED]).astype(bool)
        return failed


@dataclasses.dataclass(frozen=True)
class EachMean(Claim):
    """Several means, each against its own bound; the metric has shape (b, k)."""

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per bound."""
        return tuple(f"[{k}] <= {bound:g}" for k, bound in enumerate(self.bounds))

    def observe(self, xp: ModuleType, metrics: Mapping[str, Any]) -> Observation:
        """Columns of the metric on the unit scale."""
        values = self._read(xp, metrics)
        (raw,) = values
        if raw.ndim != 2 or raw.shape[1] != len(self.bounds):
            raise ValueError(
                f"metric {self.metrics[0]!r} of claim {self.name!r} must have shape "
                f"(b, {len(self.bounds)}), one column per bound, got {raw.shape}"
            )
        value = raw.astype(default_float(xp))
        outside = _outside(xp, raw, self.lower, self.upper).any(axis=1)
        if (self.lower, self.upper) != (0.0, 1.0):
            value = (value - self.lower) / (self.upper - self.lower)
        failed = self._failed(xp, metrics)
        binary = raw.dtype == bool and (self.lower, self.upper) == (0.0, 1.0)
        return _observation(xp, value, None, failed, outside, binary)


@dataclasses.dataclass(frozen=True)
class SuperUniform(Claim):
    """P(p <= u) <= u at several thresholds u, which are the bounds."""

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per threshold."""
        return tuple(f"p <= {bound:g}" for bound in self.bounds)

    def observe(self, xp: ModuleType, metrics: Mapping[str, Any]) -> Observation:
        """Share of the replication's p-values at or below each threshold."""
        values = self._read(xp, metrics)
        (raw,) = values
        _check_ranks(self, values, (1, 2))
        rows = _rows(raw)
        dtype = default_float(xp)
        # A p-value j / (n + 1) that equals the threshold must count: the tie rule of
        # the procedures, in the precision the p-values were computed in.
        slack = 1 + 4 * _resolution(raw.dtype)
        limits = [bound * slack for bound in self.bounds]
        wide = rows.astype(dtype)
        hits = [
            (wide <= limit).astype(dtype).mean(axis=1, dtype=dtype) for limit in limits
        ]
        outside = _outside(xp, rows, 0.0, 1.0).any(axis=1)
        failed = self._failed(xp, metrics)
        single = rows.shape[1] == 1
        return _observation(xp, xp.stack(hits, axis=1), None, failed, outside, single)


@dataclasses.dataclass(frozen=True)
class Ratio(Claim):
    """E[numerator] / E[denominator] against a bound."""

    def observe(self, xp: ModuleType, metrics: Mapping[str, Any]) -> Observation:
        """Numerator and denominator as they are."""
        values = self._read(xp, metrics)
        _check_ranks(self, values, (1,))
        top, bottom = values
        dtype = default_float(xp)
        numerator, denominator = top.astype(dtype), bottom.astype(dtype)
        slack = 4 * max(_resolution(top.dtype), _resolution(bottom.dtype))
        outside = (
            _outside(xp, top, 0.0, 1.0)
            | _outside(xp, bottom, 0.0, 1.0)
            | (numerator > denominator + slack)
        )
        failed = self._failed(xp, metrics)
        binary = top.dtype == bool and bottom.dtype == bool
        columns = numerator[:, None], denominator[:, None]
        return _observation(xp, *columns, failed, outside, binary)


@dataclasses.dataclass(frozen=True)
class RankUniform(Claim):
    """Ranks 0 .. num_ranks - 1 are equally likely; the bounds are the cells' laws."""

    num_ranks: int = 2

    no_worst_value: ClassVar[bool] = True

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per cell."""
        edges = self._edges()
        return tuple(f"ranks {a}-{b - 1}" for a, b in zip(edges[:-1], edges[1:]))

    def _edges(self) -> list[int]:
        k = len(self.bounds)
        return [-(-cell * self.num_ranks // k) for cell in range(k + 1)]

    def observe(self, xp: ModuleType, metrics: Mapping[str, Any]) -> Observation:
        """Indicator of the cell the rank falls into."""
        values = self._read(xp, metrics)
        _check_ranks(self, values, (1,))
        (raw,) = values
        dtype = default_float(xp)
        rank = raw.astype(dtype)
        outside = (rank < 0) | (rank > self.num_ranks - 1) | (rank != xp.floor(rank))
        edges = self._edges()
        cells = [
            ((rank >= a) & (rank < b)).astype(dtype)
            for a, b in zip(edges[:-1], edges[1:])
        ]
        failed = self._failed(xp, metrics)
        outside = outside & ~failed
        return _observation(xp, xp.stack(cells, axis=1), None, failed, outside, True)


@dataclasses.dataclass(frozen=True)
class ForecastCalibrated(Claim):
    """Given the forecast p, the outcome has mean p: checked within bins of p."""

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per bin."""
        k = len(self.bounds)
        return tuple(f"p in [{j / k:g}, {(j + 1) / k:g})" for j in range(k))

    def observe(self, xp: ModuleType, metrics: Mapping[str, Any]) -> Observation:
        """Per bin: how often it was used, and (1 + outcome - forecast) / 2 there."""
        values = self._read(xp, metrics)
        _check_ranks(self, values, (1, 2))
        forecast, outcome = values
        if forecast.shape != outcome.shape:
            raise ValueError(
                f"metrics {self.metrics[0]!r} and {self.metrics[1]!r} must have the "
                f"same shape, got {forecast.shape} and {outcome.shape}"
            )
        dtype = default_float(xp)
        k = len(self.bounds)
        rows = _rows(forecast)
        results = _rows(outcome)
        outside = _outside(xp, rows, 0.0, 1.0) | _outside(xp, results, 0.0, 1.0)
        p, y = rows.astype(dtype), results.astype(dtype)
        half = (1 + y - p) / 2
        index = xp.floor(p * k)
        tops, bottoms = [], []
        for cell in range(k):
            # The last bin is closed: a forecast of exactly 1 belongs to it.
            inside = index >= cell if cell == k - 1 else index == cell
            inside = inside | (index < 0) if cell == 0 else inside
            inside = inside.astype(dtype)
            tops.append((inside * half).mean(axis=1))
            bottoms.append(inside.mean(axis=1))
        failed = self._failed(xp, metrics)
        return _observation(
            xp,
            xp.stack(tops, axis=1),
            xp.stack(bottoms, axis=1),
            failed,
            outside.any(axis=1),
            False,
        )


class Claims(tuple[Claim, ...]):
    """The claims of a study; a pytree without leaves, so that states carry them."""

    __slots__ = ()


jax.tree_util.register_static(Claims)


def as_claims(claims: Any) -> Claims:
    """One claim, or several, as `Claims` with unique names."""
    if isinstance(claims, Claims):
        return claims
    group = Claims((claims,) if isinstance(claims, Claim) else tuple(claims))
    if not group:
        raise ValueError("`claims` must hold at least one claim")
    for claim in group:
        if not isinstance(claim, Claim):
            raise TypeError(
                "`claims` must hold claims made by verify.at_most and its relatives, "
                f"got {type(claim).__name__}"
            )
    names = [claim.name for claim in group]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two claims are called {name!r}; tell them apart with `name=`"
            )
    return group


def check_kind(kind: str, lower: float, upper: float) -> None:
    """Raise for an unknown kind, an empty range, or an exact claim without a range."""
    check_choice("kind", kind, KINDS)
    if not lower < upper:
        raise ValueError(f"`lower` must be below `upper`, got {lower} and {upper}")
    if kind == "exact" and not (math.isfinite(lower) and math.isfinite(upper)):
        raise ValueError(
            "an exact claim needs a finite range, got "
            f"[{lower:g}, {upper:g}]; state one, or use kind='asymptotic'"
        )


def _observation(
    xp: ModuleType,
    numerator: Any,
    denominator: Any,
    failed: Any,
    outside: Any,
    binary: bool,
) -> Observation:
    if denominator is None:
        denominator = xp.ones_like(numerator)
    return Observation(numerator, denominator, failed, outside & ~failed, binary)


def _rows(value: Any) -> Any:
    return value[:, None] if value.ndim == 1 else value


def _resolution(dtype: Any) -> float:
    if jnp.issubdtype(dtype, jnp.floating):
        return float(jnp.finfo(dtype).eps)
    return 0.0


def _outside(xp: ModuleType, raw: Any, lower: float, upper: float) -> Any:
    """Values more than 4 units in the last place beyond the range."""
    scale = max(abs(value) for value in (lower, upper))
    slack = 4 * _resolution(raw.dtype) * scale if math.isfinite(scale) else 0.0
    value = raw.astype(default_float(xp))
    return (value < lower - slack) | (value > upper + slack)


def _check_ranks(claim: Claim, values: list[Any], ranks: tuple[int, ...]) -> None:
    for name, value in zip(claim.metrics, values, strict=True):
        if value.ndim not in ranks:
            shape = "(b,)" if ranks == (1,) else "(b,) or (b, r)"
            raise ValueError(
                f"metric {name!r} of claim {claim.name!r} must have shape {shape}, "
                f"that is, one number per replication, got {value.shape}"
            )

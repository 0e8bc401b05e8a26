"""What a world for debiased estimation hands to its claims."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import verify
from jaxcur.guarantees._registry import Replicate

Fit = Callable[..., Any]


class Size(NamedTuple):
    """Rows, and how many of them get a gold label (on average, if drawn singly)."""

    rows: int
    labels: int

    @property
    def share(self) -> float:
        """Average probability of a label."""
        return self.labels / self.rows


SMALL = Size(2500, 500)
LARGE = Size(8000, 4000)
BOUNDS = {SMALL: 0.08, LARGE: 0.065}
"""Largest miss of a 95 % interval: an asymptotic promise, so the excess shrinks."""


class Problem(NamedTuple):
    """One draw of a world, bound to the estimator under test.

    Attributes:
        estimator: a function of `jaxcur.debiased`.
        gold: its data by name, with gold labels for all rows.
        machine: the variables with predictions, by the same names.
        design: `labeled` and what else says how labels were drawn.
        truth: (p,), known exactly.
    """

    estimator: Fit
    gold: dict[str, Any]
    machine: dict[str, Any]
    design: dict[str, Any]
    truth: Any

    def fit(self, **changes: Any) -> Any:
        """The estimate, with keywords of the design replaced or added."""
        predictions = {f"{name}_predicted": v for name, v in self.machine.items()}
        return self.estimator(**self.gold, **predictions, **(self.design | changes))

    def surrogate_only(self) -> Any:
        """What follows from taking predictions for labels."""
        believed = self._replace(gold=self.gold | self.machine)
        rows = np.shape(self.design["labeled"])
        return believed.fit(
            labeled=np.ones(rows, bool),
            sampling_prob=1.0,
            design="bernoulli",
            power_tuning=None,
        )


World = Callable[[Array, Size], Problem]


def first_rows(size: Size) -> dict[str, Any]:
    """A simple random sample: rows are exchangeable, so the first ones are one."""
    return {"labeled": np.arange(size.rows) < size.labels}


def draw_labels(key: Array, prob: Any, rows: int) -> dict[str, Any]:
    """Independent draws with known probabilities."""
    return {
        "labeled": jax.random.uniform(key, (rows,)) < prob,
        "sampling_prob": prob,
    }


def misses(result: Any, truth: Any) -> Array:
    """Whether 95 % intervals miss, (p,), or a scalar for one coordinate.

    An interval that is not a number misses.
    """
    low, high = jnp.moveaxis(result.conf_int(), -1, 0)
    miss = ~((low <= truth) & (truth <= high))
    return miss[0] if miss.shape == (1,) else miss


def gold_only_std_error(problem: Problem, result: Any) -> Array:
    """Standard errors of labelled rows alone."""
    if hasattr(result, "diagnostics"):
        return result.diagnostics.gold_std_error
    return problem.fit(power_tuning=0.0).std_error


def replicate(
    world: World,
    size: Size,
    *,
    width: Any = None,
    fit: Callable[[Problem], Any] = Problem.fit,
) -> Replicate:
    """One draw of a world, one estimate: does its interval miss?

    With the widths of a reference also the average ratio to them, and that of standard
    errors to those of labelled rows alone.
    """

    def run(key: Array) -> dict[str, Array]:
        problem = world(key, size)
        result = fit(problem)
        metrics = {"miss": misses(result, problem.truth)}
        if width is not None:
            low, high = jnp.moveaxis(result.conf_int(), -1, 0)
            metrics["width"] = jnp.mean((high - low) / np.asarray(width))
            gold = gold_only_std_error(problem, result)
            metrics["versus_gold"] = jnp.mean(result.std_error / gold)
        return metrics

    return run


def covers(bound: float, p: int, metric: str = "miss") -> verify.Claim:
    """Every coordinate's interval misses at most at this rate."""
    if p == 1:
        return verify.at_most(metric, bound, kind="asymptotic")
    return verify.all_at_most(metric, (bound,) * p, kind="asymptotic")


def mean_at_most(metric: str, bound: float, margin: float) -> verify.Claim:
    """A claim on a metric without a range."""
    return verify.at_most(
        metric,
        bound,
        margin=margin,
        kind="asymptotic",
        lower=-math.inf,
        upper=math.inf,
    )

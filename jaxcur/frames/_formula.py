"""Formulas: what they name, and what is wrong with them."""

import ast
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import formulaic
import pandas as pd
from formulaic.errors import FormulaicError
from formulaic.transforms import TRANSFORMS

from jaxcur.data import TableError
from jaxcur.frames._columns import require

MODELS = ("ols", "logit", "poisson", "multinomial", "ordered", "mean")
CATEGORICAL = ("multinomial", "ordered")
_ANSI = re.compile(r"\x1b\[[0-9;]*m|[⧛⧚]")


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A formula, taken apart.

    Attributes:
        text: as written.
        outcome: its left side.
        covariates: its right side.
        outcome_variables: names of columns on the left side.
        covariate_variables: names of columns on the right side.
        categories: variables that the formula takes for categorical.
    """

    text: str
    outcome: Any
    covariates: Any
    outcome_variables: frozenset[str]
    covariate_variables: frozenset[str]
    categories: frozenset[str]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of columns on either side."""
        return tuple(sorted(self.outcome_variables | self.covariate_variables))


def parse(formula: str, model: str, columns: Sequence[str]) -> Parsed:
    """Read a formula and check that its columns exist."""
    if not isinstance(formula, str):
        raise TypeError(f"`formula` must be text such as 'y ~ x', got {formula!r}")
    text = " ".join(formula.split())
    if model == "mean" and "~" not in text:
        text = f"{text} ~ 1"
    where = f"formula '{text}'"
    try:
        parsed: Any = formulaic.Formula(text)  # pyright: ignore[reportAbstractUsage]
    except FormulaicError as error:
        message = _ANSI.sub("", " ".join(str(error).split())).rstrip(".")
        message = message.replace("insuffient", "insufficient")
        if "`.` operator" in message:
            message = "list the covariates by name in place of '.'"
        raise TableError(f"{where} cannot be read: {message}") from error
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError) as error:
        raise TableError(f"{where} cannot be read: {error}") from error
    sides: list[Any] = [getattr(parsed, side, None) for side in ("lhs", "rhs")]
    if not all(isinstance(side, formulaic.SimpleFormula) for side in sides):
        raise TableError(
            f"{where} needs one outcome and one list of covariates, as in 'y ~ x1 + x2'"
        )
    outcome, covariates = sides
    used = [_variables(side, columns) for side in sides]
    variables = sorted(used[0] | used[1])
    require(pd.DataFrame(columns=list(columns)), variables, where)
    factors = [
        str(factor.expr)
        for side in (outcome, covariates)
        for term in side
        for factor in term.factors
    ]
    categories = {
        name
        for name in variables
        if any(re.match(rf"C\(\s*`?{re.escape(name)}`?\s*[,)]", f) for f in factors)
    }
    names = [str(term) for term in outcome]
    if not names:
        raise TableError(f"{where} has no outcome; write it to the left of '~'")
    if model == "mean" and [str(term) for term in covariates] not in (["1"], []):
        raise TableError(
            f"{where}: model 'mean' takes no covariates; write 'y ~ 1', or use 'ols'"
        )
    if model != "mean" and len(names) > 1:
        raise TableError(
            f"{where} has {len(names)} outcomes; model '{model}' takes one"
        )
    if model in CATEGORICAL:
        if names[0] not in variables:
            raise TableError(
                f"{where}: the outcome of model '{model}' must be one column, got "
                f"'{names[0]}'"
            )
        categories.add(names[0])
    return Parsed(
        text,
        outcome,
        covariates,
        frozenset(used[0]),
        frozenset(used[1]),
        frozenset(categories),
    )


def _variables(side: Any, columns: Sequence[str]) -> set[str]:
    """Names of the columns that one side of a formula needs.

    The parser's own list leaves out arguments of transformations with a memory, such as
    center(x), so expressions are read here as well.
    """
    names = {str(name) for name in side.required_variables}
    for term in side:
        for factor in term.factors:
            names |= _free_names(str(factor.expr))
    functions = set(TRANSFORMS) - set(columns)
    return names - functions


def _free_names(expression: str) -> set[str]:
    """Names in a Python expression that are not called; backticks quote a name."""
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        word = f"_quoted_{len(quoted)}_"
        quoted[word] = match.group(1)
        return word

    try:
        tree = ast.parse(re.sub(r"`([^`]+)`", stand_in, expression), mode="eval")
    except SyntaxError:  # the name of a column, or for the evaluation to complain of
        return set()
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {
        quoted.get(node.id, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in called
    }


def refuse_shifts(parsed: Parsed, predicted: Sequence[str]) -> None:
    """Raise where a record would take its prediction from another row."""
    for side in (parsed.outcome, parsed.covariates):
        for term in side:
            for factor in term.factors:
                expression = str(factor.expr)
                if "lag(" in expression and any(n in expression for n in predicted):
                    raise TableError(
                        f"'{expression}' takes a predicted variable from another row, "
                        "whose gold label may be missing; make a column of it and of "
                        "its prediction"
                    )

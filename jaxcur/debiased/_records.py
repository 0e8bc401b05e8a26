"""Variables and their predictions as pairs of records."""

from typing import Any

from jax import Array

from jaxcur._base import as_float, check_rank, check_same_length


def as_records(
    variables: dict[str, tuple[str, Any, Any]], ranks: dict[str, int]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Observed and predicted records of one float dtype.

    Args:
        variables: key in the record -> (argument name, observed, predicted or None). A
            variable without a prediction is known for all rows, and the same array
            stands in both records.
        ranks: number of axes of each key.
    """
    named: dict[str, Any] = {}
    for name, seen, guess in variables.values():
        named[name] = seen
        if guess is not None:
            named[f"{name}_predicted"] = guess
    arrays = dict(zip(named, as_float(**named), strict=True))
    observed, predicted = {}, {}
    first = next(iter(variables.values()))[0]
    for key, (name, _, guess) in variables.items():
        seen = arrays[name]
        check_rank(name, seen, ranks[key], "(N,)" if ranks[key] == 1 else "(N, p)")
        check_same_length(name, seen, first, arrays[first])
        own = arrays[f"{name}_predicted"] if guess is not None else seen
        if ranks[key] == 2 and seen.shape[1] == 0:
            raise ValueError(
                f"`{name}` must have at least one column, got {seen.shape}"
            )
        if own.shape != seen.shape:
            raise ValueError(
                f"`{name}_predicted` must have the shape of `{name}`, {seen.shape}, "
                f"got {own.shape}"
            )
        observed[key], predicted[key] = seen, own
    return observed, predicted

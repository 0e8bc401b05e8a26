"""Collinear columns: find them, name them, or leave them out."""

from typing import Any

import numpy as np

from jaxcur._base import check_choice, is_concrete

# Share of a column's length that the columns before it leave unexplained.
_LEAST = 1e-9


def take_rank(options: dict[str, Any]) -> str:
    """Remove `rank` from the options and check it."""
    rank = options.pop("rank", "error")
    check_choice("rank", rank, ("error", "drop"))
    return rank


def independent_columns(name: str, x: Any) -> np.ndarray:
    """Places of the columns that are no combination of columns before them."""
    if not is_concrete(x):
        raise ValueError(
            f"rank='drop' needs a concrete `{name}`: the number of columns kept is a "
            "shape; drop them before jax.jit"
        )
    host = np.asarray(x, np.float64)
    if host.ndim != 2:
        raise ValueError(f"`{name}` must have shape (N, p), got {host.shape}")
    gram = host.T @ host
    kept: list[int] = []
    for j in range(host.shape[1]):
        own = gram[j, j]
        left = own
        if kept:
            block = gram[np.ix_(kept, kept)]
            left = own - gram[j, kept] @ np.linalg.solve(block, gram[kept, j])
        if own > 0 and left > _LEAST * own:
            kept.append(j)
    return np.array(kept, int)


def check_gram(gram: np.ndarray) -> None:
    """Raise naming columns of `X` that are combinations of others; `gram` is X'X."""
    norms = np.sqrt(np.diagonal(gram))
    if (norms == 0).any():
        raise ValueError(
            f"`X` is rank deficient: column {int(np.flatnonzero(norms == 0)[0])} is "
            "zero everywhere; remove it, or ask for rank='drop'"
        )
    values, vectors = np.linalg.eigh(gram / norms / norms[:, None])
    if values[0] > _LEAST:
        return
    involved = np.flatnonzero(np.abs(vectors[:, 0]) > 1e-4)
    raise ValueError(
        f"`X` is rank deficient: columns {involved.tolist()} are linearly dependent; "
        "remove one of them, or ask for rank='drop'"
    )

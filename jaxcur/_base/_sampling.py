"""Checks of what a sampler is asked for and of what it returned."""

from typing import Any

import numpy as np

from jaxcur._base._checks import is_concrete


def check_run_length(num_warmup: Any, num_samples: Any, num_chains: Any) -> None:
    """Raise on numbers of draws that cannot be."""
    for name, value, least in (
        ("num_warmup", num_warmup, 1),
        ("num_samples", num_samples, 4),
        ("num_chains", num_chains, 1),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}, got {value!r}"
            )


def trouble(num_divergences: Any, r_hat: Any, num_draws: int) -> list[str]:
    """What is wrong with concrete draws, in words; empty where nothing seems to be."""
    if not is_concrete(num_divergences, r_hat):
        return []
    found = []
    if count := int(num_divergences):
        found.append(
            f"{count} of {num_draws} transitions diverged: the posterior may be "
            "incomplete"
        )
    worst = float(np.max(np.asarray(r_hat)))
    if not worst < 1.05:
        found.append(f"the chains disagree (r_hat {worst:.2f}): draw longer")
    return found

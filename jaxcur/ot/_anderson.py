"""Anderson's extrapolation of a fixed-point iteration, with a way back."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.ot._costs import HIGHEST

# Differences remembered, error below which it starts, factor by which the error may
# rise above its least before the memory is dropped.
_MEMORY = 5
_START = 0.5
_RISE = 2.0


class Memory(NamedTuple):
    """Differences of potentials and of their moves, newest last; the best seen."""

    steps: Array
    moves: Array
    psi: Array
    move: Array
    filled: Array
    best: Array
    fallback: Array


def extrapolate(
    b: Array, memory: Memory, psi: Array, to: Array, error: Array
) -> tuple[Array, Memory]:
    """Anderson's combination of the last moves, in the norm of the weights b.

    Each step is one move, to - psi, away; the combination of remembered differences
    that best cancels the move is taken off. An error that rises well above the least
    drops the memory and returns to where it was least.
    """
    dtype = to.dtype
    move = to - psi
    begun = memory.filled >= 0
    steps = jnp.where(
        begun,
        jnp.concatenate([memory.steps[1:], (psi - memory.psi)[None]]),
        memory.steps,
    )
    moves = jnp.where(
        begun,
        jnp.concatenate([memory.moves[1:], (move - memory.move)[None]]),
        memory.moves,
    )
    filled = jnp.minimum(memory.filled + 1, _MEMORY)
    weighted = moves * b
    gram = jnp.matmul(weighted, moves.T, precision=HIGHEST)
    right = jnp.matmul(weighted, move, precision=HIGHEST)
    diagonal = jnp.diagonal(gram)
    # Each difference to unit length: the newest are smaller by orders of magnitude.
    scale = jnp.where(
        diagonal > 0, 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1)), 0
    )
    ridge = 1e-8 if jnp.finfo(dtype).bits == 64 else 1e-5
    system = gram * scale[:, None] * scale + jnp.diag(
        jnp.where(scale > 0, jnp.asarray(ridge, dtype), 1)
    )
    factors = scale * jnp.linalg.solve(system, scale * right)
    combined = to - jnp.matmul(factors, steps + moves, precision=HIGHEST)
    use = (error < _START) & jnp.all(jnp.isfinite(combined))
    rose = error > _RISE * memory.best
    better = error < memory.best
    fallback = jnp.where(better, to, memory.fallback)
    kept = Memory(
        steps=steps,
        moves=moves,
        psi=psi,
        move=move,
        filled=filled,
        best=jnp.where(better, error, memory.best),
        fallback=fallback,
    )
    dropped = jax.tree.map(
        lambda new, old: jnp.where(rose, new, old), forgotten(to), kept
    )._replace(fallback=fallback)
    taken = jnp.where(rose, memory.fallback, jnp.where(use, combined, to))
    return taken, dropped


def forgotten(psi: Array) -> Memory:
    """A memory without content."""
    none = jnp.zeros((_MEMORY, psi.shape[0]), psi.dtype)
    return Memory(
        steps=none,
        moves=none,
        psi=psi,
        move=jnp.zeros_like(psi),
        filled=jnp.asarray(-1, jnp.int32),
        best=jnp.asarray(math.inf, psi.dtype),
        fallback=psi,
    )

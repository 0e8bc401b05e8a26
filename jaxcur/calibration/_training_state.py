"""Where a training run stands: what is best so far, and how to save and go on."""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_LEAST_SCALE = 0.01


class TrainingState(NamedTuple):
    """Everything an interrupted run needs to go on."""

    params: Any
    memory: Any
    best: Any
    best_loss: Any
    best_epoch: Any
    scale: Any
    stale: Any
    plateau_loss: Any
    epoch: Any
    validation: Any
    training: Any


def start_state(
    params: Any, memory: Any, loss: float, num_epochs: int
) -> TrainingState:
    """Nothing done yet: the start itself is the best so far."""
    return TrainingState(
        params=params,
        memory=memory,
        best=params,
        best_loss=jnp.float32(loss),
        best_epoch=jnp.int32(0),
        scale=jnp.float32(1),
        stale=jnp.int32(0),
        plateau_loss=jnp.float32(loss),
        epoch=jnp.int32(0),
        validation=jnp.full(num_epochs + 1, jnp.nan).at[0].set(loss),
        training=jnp.full(num_epochs, jnp.nan),
    )


def fingerprint_of(parts: Any) -> str:
    """Digest of arrays and settings."""
    digest = hashlib.sha256()
    for part in jax.tree.leaves(parts):
        if isinstance(part, (jax.Array, np.ndarray)):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(f"{getattr(part, 'shape', part)}".encode())
    return digest.hexdigest()


def save(path: Path, state: TrainingState, fingerprint: str) -> None:
    """Write the state to a file, whole or not at all."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    named: dict[str, Any] = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez(file, fingerprint=np.array(fingerprint), **named)
    # Written aside and moved: an interruption leaves the checkpoint before.
    os.replace(part, path)


def load(path: Path, state: TrainingState, fingerprint: str) -> TrainingState:
    """The state in the file, or the one given where there is no file."""
    if not path.is_file():
        return state
    try:
        opened = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"`checkpoint` {str(path)!r} is not a checkpoint of this function; name "
            "another file"
        ) from error
    if not isinstance(opened, np.lib.npyio.NpzFile) or "fingerprint" not in opened:
        raise ValueError(
            f"`checkpoint` {str(path)!r} is not a checkpoint of this function; name "
            "another file"
        )
    with opened as stored:
        if str(stored["fingerprint"]) != fingerprint:
            raise ValueError(
                f"`checkpoint` {str(path)!r} belongs to other data or settings; remove "
                "it to start again, or name another file"
            )
        leaves, structure = jax.tree.flatten(state)
        found = [stored[f"leaf_{i}"] for i in range(len(leaves))]
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found])


def after_epoch(
    state: TrainingState, loss: float, factor: float, patience: int
) -> TrainingState:
    """Keep the better parameters; halve the steps where validation stands still."""
    epoch = int(state.epoch) + 1
    if loss < float(state.best_loss):
        state = state._replace(
            best=state.params,
            best_loss=jnp.asarray(loss, state.best_loss.dtype),
            best_epoch=jnp.asarray(epoch, jnp.int32),
        )
    # Like the usual schedule on a plateau: better means better by one part in 10^4.
    if loss < float(state.plateau_loss) * (1 - 1e-4):
        plateau, stale, scale = loss, 0, float(state.scale)
    else:
        plateau, stale = float(state.plateau_loss), int(state.stale) + 1
        scale = float(state.scale)
        if stale > patience:
            scale, stale = max(scale * factor, _LEAST_SCALE), 0
    return state._replace(
        plateau_loss=jnp.asarray(plateau, state.plateau_loss.dtype),
        stale=jnp.asarray(stale, jnp.int32),
        scale=jnp.asarray(scale, state.scale.dtype),
        epoch=jnp.asarray(epoch, jnp.int32),
    )


def is_over(state: TrainingState, stop_patience: int | None) -> bool:
    """Whether the best epoch lies `stop_patience` epochs back."""
    if stop_patience is None:
        return False
    return int(state.epoch) - int(state.best_epoch) >= stop_patience

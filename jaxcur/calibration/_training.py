"""Training a network on calibrated targets, with the best checkpoint kept."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Integer, Real

from jaxcur._base import ProgressBar, is_concrete, register_dataclass
from jaxcur.calibration._cape import KINDS, Kind, cape_targets
from jaxcur.calibration._losses import cross_entropy

Apply = Callable[[Any, Array], Array]
"""`apply(params, features) -> logits`, (n,) for two classes or (n, K)."""

_LEAST_SCALE = 0.01


@register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The best parameters and how training went.

    Attributes:
        params: parameters with the lowest validation log loss, the start included.
        best_epoch: number of epochs before them; 0 is the start.
        validation_loss: shape (num_epochs + 1,), validation log loss of the start and
            after each epoch; NaN after an early stop.
        training_loss: shape (num_epochs,), mean loss of each epoch on its own targets.
        num_epochs: epochs done.
        last_params: parameters after the last epoch.
    """

    params: Any
    best_epoch: Array
    validation_loss: Array
    training_loss: Array
    num_epochs: Array
    last_params: Any


class _State(NamedTuple):
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


@dataclasses.dataclass(frozen=True)
class _Program:
    """What is compiled; equal programs are compiled once."""

    apply: Apply
    optimizer: Any
    loss: Callable[[Array, Array], Array]
    batch_size: int


def _probabilities(logits: Array) -> Array:
    return jax.nn.sigmoid(logits) if logits.ndim == 1 else jax.nn.softmax(logits)


@partial(jax.jit, static_argnames=("program",))
def _epoch(program, params, memory, scale, features, targets, key):
    """One pass over shuffled batches, the last one filled up with rows of weight 0."""
    import optax

    n = features.shape[0]
    size = min(program.batch_size, n)
    count = -(-n // size)
    order = jax.random.permutation(key, n)
    order = jnp.concatenate([order, jnp.zeros(count * size - n, order.dtype)])
    present = (jnp.arange(count * size) < n).astype(features.dtype)

    def loss(params: Any, rows: Array, weight: Array) -> Array:
        logits = program.apply(params, features[rows])
        per_row = program.loss(logits, targets[rows])
        return jnp.sum(weight * per_row) / jnp.sum(weight)

    def step(state: tuple[Any, Any], batch: tuple[Array, Array]) -> Any:
        params, memory = state
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        change, memory = program.optimizer.update(gradient, memory, params)
        change = jax.tree.map(lambda c: scale.astype(c.dtype) * c, change)
        return (optax.apply_updates(params, change), memory), value

    batches = (order.reshape(count, size), present.reshape(count, size))
    (params, memory), losses = jax.lax.scan(step, (params, memory), batches)
    return params, memory, jnp.mean(losses)


@partial(jax.jit, static_argnames=("apply", "batch_size"))
def _outputs(apply: Apply, params: Any, features: Array, batch_size: int) -> Array:
    n = features.shape[0]
    if n <= batch_size:
        return apply(params, features)
    return jax.lax.map(
        lambda row: apply(params, row[None])[0], features, batch_size=batch_size
    )


def _log_loss(apply: Apply, params: Any, data: tuple[Array, Array], size: int) -> float:
    logits = _outputs(apply, params, data[0], size)
    return float(jnp.mean(cross_entropy(logits, data[1])))


def _default_optimizer() -> Any:
    import optax

    return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(1e-4, momentum=0.9))


def _hard_targets(labels: Array, two_classes: bool, like: Array) -> Array:
    if two_classes:
        return labels.astype(like.dtype)
    return jax.nn.one_hot(labels, like.shape[1], dtype=like.dtype)


def _check_rows(name: str, features: Any, labels: Any) -> tuple[Array, Array]:
    x, y = jnp.asarray(features), jnp.asarray(labels)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.result_type(float))
    if x.ndim == 0 or y.ndim != 1 or x.shape[0] != y.shape[0] or x.shape[0] == 0:
        raise ValueError(
            f"{name} must be features (n, ...) and labels (n,) with at least one row, "
            f"got {x.shape} and {y.shape}"
        )
    if is_concrete(x) and not np.isfinite(np.asarray(x)).all():
        raise ValueError(f"features of {name} must be finite")
    return x, y


def _check_labels(name: str, labels: Array, classes: int) -> Array:
    host = np.asarray(labels)
    if not np.isin(host, np.arange(classes)).all():
        raise ValueError(
            f"labels of {name} must be integers from 0 to {classes - 1}, one class for "
            f"each output of `apply`, got values such as {host.ravel()[:5].tolist()}"
        )
    return labels.astype(jnp.int32)


def _fingerprint(parts: tuple[Any, ...]) -> str:
    digest = hashlib.sha256()
    for part in jax.tree.leaves(parts):
        if isinstance(part, (jax.Array, np.ndarray)):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(f"{getattr(part, 'shape', part)}".encode())
    return digest.hexdigest()


def _save(path: Path, state: _State, fingerprint: str) -> None:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    named: dict[str, Any] = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez(file, fingerprint=np.array(fingerprint), **named)
    # Written aside and moved: an interruption leaves the checkpoint before.
    os.replace(part, path)


def _load(path: Path, state: _State, fingerprint: str) -> _State:
    if not path.is_file():
        return state
    with np.load(path, allow_pickle=False) as stored:
        if str(stored["fingerprint"]) != fingerprint:
            raise ValueError(
                f"`checkpoint` {str(path)!r} belongs to other data or settings; remove "
                "it to start again, or name another file"
            )
        leaves, structure = jax.tree.flatten(state)
        found = [stored[f"leaf_{i}"] for i in range(len(leaves))]
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found])


def _after_epoch(state: _State, loss: float, factor: float, patience: int) -> _State:
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


def train_cape(
    apply: Apply,
    params: Any,
    features: Real[ArrayLike, "n ..."],
    labels: Integer[ArrayLike, " n"],
    validation: tuple[Any, Any],
    *,
    kind: Kind | None = "bin",
    period: int = 3,
    num_bins: int = 10,
    window: int = 500,
    bandwidth: float = 0.1,
    num_epochs: int = 100,
    batch_size: int = 256,
    optimizer: Any = None,
    loss: Callable[[Array, Array], Array] = cross_entropy,
    plateau_factor: float = 0.5,
    plateau_patience: int = 5,
    stop_patience: int | None = None,
    key: Array,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> TrainingResult:
    """Continue training on averaged labels (calibrated probability estimation, CaPE).

    Start from a network trained by cross-entropy and stopped at its best validation
    loss. Every `period`-th epoch, the first one included, sees the targets of
    `cape_targets` at the forecasts of that moment; the other epochs see the labels. The
    parameters with the lowest validation log loss are returned, the start included, so
    that the result is never worse there than what it started from.

    `kind=None` trains on the labels in every epoch: the control that tells what the
    targets contribute beyond longer training, or plain training from the beginning, by
    another `loss` such as `focal_loss` if wanted.

    Heuristic: no finite-sample guarantee.

    Args:
        apply: `apply(params, features) -> logits`, (n,) for two classes or (n, K), for
            example `module.apply` of a flax module. Called without randomness.
        params: pytree of parameters to start from.
        features: shape (n, ...), training rows.
        labels: shape (n,), 0/1 or 0..K-1.
        validation: pair of features and labels of other rows.
        kind: "bin", "kernel", "isotonic", or None for the labels alone.
        period: epochs between targets, at least 1.
        num_bins: as in `cape_targets`.
        window: as in `cape_targets`.
        bandwidth: as in `cape_targets`.
        num_epochs: epochs at most.
        batch_size: rows per step.
        optimizer: an optax transformation. Stochastic gradients of rate 1e-4, momentum
            0.9 and weight decay 5e-4 when missing.
        loss: `loss(logits, targets)` per row, or of a batch; targets are probabilities
            of class 1 (n,), or rows (n, K). Validation is always by log loss.
        plateau_factor: factor on the steps where validation loss stands still; they
            never become smaller than a hundredth.
        plateau_patience: epochs without improvement before that.
        stop_patience: epochs without a new best before training ends; None: never.
        key: shuffles the rows; epoch i uses fold_in(key, i).
        checkpoint: file to save the state to after each epoch, and to resume from.
        progress: True shows a bar, False none, None only on long runs in a terminal.

    Returns:
        TrainingResult.

    Raises:
        ValueError: shapes disagree, labels that are no class, features not finite, an
            option out of range, or a checkpoint of another run.

    Transformations: none; it runs compiled epochs from Python.
    Cost: one compiled program per epoch (a scan over batches) and one pass over the
        rows where targets are renewed. A checkpoint holds three copies of the state.

    Source: Liu et al., "Deep probability estimation", 2022. Their released code leaves
    the start out of the search for the best checkpoint.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> x = jax.random.normal(jax.random.key(0), (200, 1))
        >>> y = (jax.random.uniform(jax.random.key(1), (200,)) < 0.3).astype(int)
        >>> linear = lambda params, x: x @ params["slope"] + params["intercept"]
        >>> start = {"slope": jnp.zeros(1), "intercept": jnp.zeros(())}
        >>> found = calibration.train_cape(
        ...     linear, start, x[:150], y[:150], (x[150:], y[150:]),
        ...     num_epochs=4, key=jax.random.key(2),
        ... )
        >>> found.validation_loss.shape, bool(found.best_epoch > 0)
        ((5,), True)
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS} or None, got {kind!r}")
    for name, value in (
        ("period", period),
        ("num_epochs", num_epochs),
        ("batch_size", batch_size),
    ):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}")
    if not 0 < plateau_factor <= 1:
        raise ValueError(f"`plateau_factor` must be in (0, 1], got {plateau_factor}")
    x, y = _check_rows("the training rows", features, labels)
    held_x, held_y = _check_rows("`validation`", *validation)
    if x.shape[1:] != held_x.shape[1:]:
        raise ValueError(
            f"`validation` must have features of shape {x.shape[1:]} like the training "
            f"rows, got {held_x.shape[1:]}"
        )
    shape = jax.eval_shape(apply, params, x).shape
    if shape != x.shape[:1] and (len(shape) != 2 or shape[0] != x.shape[0]):
        raise ValueError(
            f"`apply` must return logits of shape (n,) or (n, K), got {shape} for "
            f"{x.shape[0]} rows"
        )
    two_classes = len(shape) == 1
    classes = 2 if two_classes else shape[1]
    y = _check_labels("the training rows", y, classes)
    held = (held_x, _check_labels("`validation`", held_y, classes))
    transformation = _default_optimizer() if optimizer is None else optimizer
    program = _Program(apply, transformation, loss, int(batch_size))

    start = _log_loss(apply, params, held, batch_size)
    number = partial(jnp.asarray, dtype=jnp.float32)
    state = _State(
        params=params,
        memory=transformation.init(params),
        best=params,
        best_loss=number(start),
        best_epoch=jnp.zeros((), jnp.int32),
        scale=number(1.0),
        stale=jnp.zeros((), jnp.int32),
        plateau_loss=number(start),
        epoch=jnp.zeros((), jnp.int32),
        validation=jnp.full(num_epochs + 1, jnp.nan).at[0].set(start),
        training=jnp.full(num_epochs, jnp.nan),
    )
    path, fingerprint = None, ""
    if checkpoint is not None:
        path = Path(checkpoint)
        settings = (kind, period, num_bins, window, bandwidth, num_epochs, batch_size)
        schedule = (plateau_factor, plateau_patience, jax.random.key_data(key))
        fingerprint = _fingerprint((settings, schedule, params, x, y, held))
        state = _load(path, state, fingerprint)

    averaged = partial(
        cape_targets, num_bins=num_bins, window=window, bandwidth=bandwidth
    )
    bar = ProgressBar("training", num_epochs, "epochs", progress)
    bar.update(int(state.epoch))
    try:
        while int(state.epoch) < num_epochs and not _is_over(state, stop_patience):
            epoch = int(state.epoch)
            logits = jnp.zeros(shape, x.dtype)
            if kind is not None and epoch % period == 0:
                logits = _outputs(apply, state.params, x, batch_size)
                targets = averaged(_probabilities(logits), y, kind=kind)
            else:
                targets = _hard_targets(y, two_classes, logits)
            trained, memory, loss = _epoch(
                program,
                state.params,
                state.memory,
                state.scale,
                x,
                targets,
                jax.random.fold_in(key, epoch),
            )
            value = _log_loss(apply, trained, held, batch_size)
            state = state._replace(
                params=trained,
                memory=memory,
                validation=state.validation.at[epoch + 1].set(value),
                training=state.training.at[epoch].set(loss),
            )
            state = _after_epoch(state, value, plateau_factor, plateau_patience)
            if path is not None:
                _save(path, state, fingerprint)
            bar.update(int(state.epoch), f", log loss {value:.4f}")
    finally:
        bar.close()
    return TrainingResult(
        state.best,
        state.best_epoch,
        state.validation,
        state.training,
        state.epoch,
        state.params,
    )


def _is_over(state: _State, stop_patience: int | None) -> bool:
    if stop_patience is None:
        return False
    return int(state.epoch) - int(state.best_epoch) >= stop_patience

"""Training a network on calibrated targets, with the best checkpoint kept."""

import dataclasses
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
from jaxcur.calibration._training_state import (
    after_epoch,
    fingerprint_of,
    is_over,
    load,
    save,
    start_state,
)

Apply = Callable[[Any, Array], Array]
"""`apply(params, features) -> logits`, (n,) for two classes or (n, K)."""


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


def _hard_targets(labels: Array, num_classes: int | None, dtype: Any) -> Array:
    if num_classes is None:
        return labels.astype(dtype)
    return jax.nn.one_hot(labels, num_classes, dtype=dtype)


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


class _Data(NamedTuple):
    features: Array
    labels: Array
    held: tuple[Array, Array]
    num_classes: int | None
    """None for one logit per row."""


def _prepare(
    apply: Apply, params: Any, features: Any, labels: Any, validation: tuple[Any, Any]
) -> _Data:
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
    num_classes = None if len(shape) == 1 else shape[1]
    y = _check_labels("the training rows", y, num_classes or 2)
    held = (held_x, _check_labels("`validation`", held_y, num_classes or 2))
    return _Data(x, y, held, num_classes)


def _check_options(
    kind: Any, period: Any, num_epochs: Any, batch_size: Any, plateau_factor: float
) -> None:
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
        checkpoint: file to save the state to after each epoch, and to resume from with
            the same data, settings, and functions of the same names.
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
    _check_options(kind, period, num_epochs, batch_size, plateau_factor)
    data = _prepare(apply, params, features, labels, validation)
    transformation = _default_optimizer() if optimizer is None else optimizer
    program = _Program(apply, transformation, loss, int(batch_size))
    start = _log_loss(apply, params, data.held, batch_size)
    state = start_state(params, transformation.init(params), start, num_epochs)
    path, fingerprint = None, ""
    if checkpoint is not None:
        path = Path(checkpoint)
        averaging = (kind, period, num_bins, window, bandwidth)
        schedule = (num_epochs, batch_size, plateau_factor, plateau_patience)
        # Functions have no value to compare: their names must do.
        names = (getattr(loss, "__qualname__", ""), str(jax.tree.structure(state)))
        fingerprint = fingerprint_of(
            (averaging, schedule, names, jax.random.key_data(key), params, data)
        )
        state = load(path, state, fingerprint)

    def targets(epoch: int, params: Any) -> Array:
        if kind is None or epoch % period:
            return _hard_targets(data.labels, data.num_classes, data.features.dtype)
        logits = _outputs(apply, params, data.features, batch_size)
        return cape_targets(
            _probabilities(logits),
            data.labels,
            kind=kind,
            num_bins=num_bins,
            window=window,
            bandwidth=bandwidth,
        )

    bar = ProgressBar("training", num_epochs, "epochs", progress)
    bar.update(int(state.epoch))
    try:
        while int(state.epoch) < num_epochs and not is_over(state, stop_patience):
            epoch = int(state.epoch)
            trained, memory, mean = _epoch(
                program,
                state.params,
                state.memory,
                state.scale,
                data.features,
                targets(epoch, state.params),
                jax.random.fold_in(key, epoch),
            )
            value = _log_loss(apply, trained, data.held, batch_size)
            state = state._replace(
                params=trained,
                memory=memory,
                validation=state.validation.at[epoch + 1].set(value),
                training=state.training.at[epoch].set(mean),
            )
            state = after_epoch(state, value, plateau_factor, plateau_patience)
            if path is not None:
                save(path, state, fingerprint)
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

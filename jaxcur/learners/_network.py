"""Neural networks trained on all rows at once, with one weight per row."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, check_rank, register_dataclass
from jaxcur.learners._protocol import check_nonnegative, prepare, prepare_new

Loss = Literal["squared", "logistic"]
_LOSSES = ("squared", "logistic")
_DATA = ["learning_rate", "regularization"]


class NetworkParams(NamedTuple):
    """A trained network and the scaling of its inputs and output.

    Attributes:
        network: the pytree of trained parameters.
        center: shape (d,), weighted means of the features.
        scale: shape (d,), their weighted standard deviations; 1 for constants.
        target_center: scalar, 0 for the logistic loss.
        target_scale: scalar, 1 for the logistic loss.
    """

    network: Any
    center: Array
    scale: Array
    target_center: Array
    target_scale: Array


class _Trained:
    """What `Network` and `MLP` share: `_functions()` gives their init and apply."""

    learning_rate: Any
    regularization: Any
    max_steps: int
    loss: Loss
    optimizer: Callable[[Any], Any] | None

    def _check_options(self) -> None:
        check_nonnegative("learning_rate", self.learning_rate)
        check_nonnegative("regularization", self.regularization)
        check_choice("loss", self.loss, _LOSSES)
        if not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ValueError(
                f"`max_steps` must be a positive integer, got {self.max_steps!r}"
            )

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        raise NotImplementedError

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> NetworkParams:
        """Train from a start drawn with `key`, which is required.

        Raises:
            ValueError: no key, shapes disagree, or values not finite.
        """
        if key is None:
            raise ValueError(
                "a network starts from random parameters: pass "
                "`key=jax.random.key(...)`"
            )
        features, target, weights = prepare(features, target, weights)
        init, apply = self._functions()
        return _train(
            features,
            target,
            weights,
            key,
            jnp.asarray(self.learning_rate, features.dtype),
            jnp.asarray(self.regularization, features.dtype),
            init=init,
            apply=apply,
            optimizer=self.optimizer,
            max_steps=self.max_steps,
            loss=self.loss,
        )

    def predict(
        self, params: NetworkParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """Predictions at the rows of `features`; probabilities with logistic loss."""
        center = params.center
        features = prepare_new(features, center.shape[0], center.dtype)
        _, apply = self._functions()
        rows = (features - center[None, :]) / params.scale[None, :]
        output = _apply(apply, params.network, rows)
        if self.loss == "logistic":
            return jax.nn.sigmoid(output)
        return params.target_center + params.target_scale * output


@partial(
    register_dataclass,
    data_fields=_DATA,
    meta_fields=["init", "apply", "max_steps", "loss", "optimizer"],
)
@dataclasses.dataclass(frozen=True)
class Network(_Trained):
    """A network given by its functions, trained by full-batch gradient steps.

    Minimises  sum_i w_i loss_i / sum_i w_i + regularization * |parameters|^2  for a
    fixed number of steps. Every step sees all rows, the start depends on the key alone,
    and there is no early stopping: the result does not depend on the order of the rows.
    Features are standardised by their weighted means and deviations first, and the
    target too for the squared loss.

    Heuristic: no finite-sample guarantee on the predictions. A network with dropout or
    batch statistics keyed by row position is not symmetric; `learners.check_symmetric`
    tells.

    Args:
        init: `init(key, features)` gives the parameters, a pytree of float arrays;
            called with float32 zeros of shape (1, d). Static.
        apply: `apply(parameters, features)` gives outputs (m,) or (m, 1). Static.
        max_steps: number of gradient steps. Static.
        learning_rate: given to the optimiser. Traced.
        regularization: squared penalty on all parameters, at least 0. Traced.
        loss: "squared" or "logistic" (targets in [0, 1]; predictions are
            probabilities). Static.
        optimizer: `optimizer(learning_rate)` gives an optax transformation; Adam by
            default. Static.

    Raises:
        ValueError: an option is out of range, or `fit` gets no key.

    Transformations: jit, vmap (over the data, weights and numbers of the learner), and
    grad through the training steps.
    Cost: `max_steps` passes over the data.

    Source: the definition.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> def init(key, features):
        ...     return jnp.zeros(features.shape[1])
        >>> def apply(parameters, features):
        ...     return features @ parameters
        >>> learner = learners.Network(init, apply, max_steps=500)
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> params = learner.fit(x, jnp.array([0.0, 1.0, 2.0]), key=jax.random.key(0))
        >>> learner.predict(params, x).round(2)
        Array([0., 1., 2.], dtype=float32)
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    _: dataclasses.KW_ONLY
    max_steps: int = 200
    learning_rate: Any = 0.03
    regularization: Any = 0.0
    loss: Loss = "squared"
    optimizer: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        self._check_options()

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return self.init, self.apply


@partial(
    register_dataclass,
    data_fields=_DATA,
    meta_fields=["hidden", "activation", "max_steps", "loss", "optimizer"],
)
@dataclasses.dataclass(frozen=True)
class MLP(_Trained):
    """A fully connected network (flax), trained by full-batch gradient steps.

    See `Network` for the training. The defaults are small on purpose: leave-one-out
    trains one network per row, and 500 of them run as one program.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows, up to rounding, which is what conformal selection needs.

    Args:
        hidden: widths of the hidden layers. Static.
        activation: name of a function in `flax.linen`, such as "tanh" or "gelu".
            Static.
        max_steps: number of gradient steps. Static.
        learning_rate: given to the optimiser. Traced.
        regularization: squared penalty on all parameters, at least 0. Traced.
        loss: "squared" or "logistic" (targets in [0, 1]; predictions are
            probabilities). Static.
        optimizer: `optimizer(learning_rate)` gives an optax transformation; Adam by
            default. Static.

    Raises:
        ValueError: an option is out of range, or `fit` gets no key.

    Transformations: jit, vmap (over the data, weights and numbers of the learner), and
    grad through the training steps.
    Cost: O(max_steps n p) for p parameters.

    Source: the definition.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.linspace(-2, 2, 20)[:, None]
        >>> y = x[:, 0] ** 2
        >>> learner = learners.MLP(hidden=(8,))
        >>> out = learners.leave_one_out(learner, x, y, key=jax.random.key(0))
        >>> bool(jnp.corrcoef(out, y)[0, 1] > 0.9)
        True
    """

    hidden: tuple[int, ...] = (16,)
    _: dataclasses.KW_ONLY
    activation: str = "tanh"
    max_steps: int = 100
    learning_rate: Any = 0.03
    regularization: Any = 0.0
    loss: Loss = "squared"
    optimizer: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        self._check_options()
        # A list is what people write; a tuple is what a static field needs.
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not all(isinstance(width, int) and width > 0 for width in self.hidden):
            raise ValueError(f"`hidden` must hold positive widths, got {self.hidden!r}")

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return _dense(self.hidden, self.activation)


@functools.lru_cache(maxsize=64)
def _dense(
    hidden: tuple[int, ...], activation: str
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions of a fully connected network; the same objects on every call."""
    from flax import linen

    function = getattr(linen, activation, None)
    if function is None:
        raise ValueError(
            f"`activation` must name a function of flax.linen, got {activation!r}; "
            'for example "tanh", "relu" or "gelu"'
        )

    def build(dtype: Any) -> Any:
        stack: list[Any] = []
        for width in hidden:
            stack += [linen.Dense(width, param_dtype=dtype, precision="highest")]
            stack += [function]
        stack.append(linen.Dense(1, param_dtype=dtype, precision="highest"))
        return linen.Sequential(stack)

    def init(key: Array, features: Array) -> Any:
        return build(features.dtype).init(key, features)

    def apply(parameters: Any, features: Array) -> Array:
        return build(features.dtype).apply(parameters, features)

    return init, apply


def _apply(apply: Callable[..., Any], parameters: Any, features: Array) -> Array:
    output = jnp.asarray(apply(parameters, features))
    if output.ndim == 2 and output.shape[1] == 1:
        output = output[:, 0]
    check_rank("output of `apply`", output, 1, "(m,) or (m, 1)")
    return output


def _as_dtype(leaf: Any, dtype: Any) -> Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _moments(values: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted means and deviations over rows; deviation 1 where there is none."""
    share = (weights / jnp.sum(weights)).reshape(-1, *([1] * (values.ndim - 1)))
    mean = jnp.sum(share * values, axis=0)
    variance = jnp.sum(share * (values - mean[None]) ** 2, axis=0)
    # A constant column leaves the rounding of its mean behind: no scale to divide by.
    floor = (8 * jnp.finfo(values.dtype).eps * jnp.abs(mean)) ** 2
    varies = variance > floor
    return mean, jnp.sqrt(jnp.where(varies, variance, 1))


@jax.jit(static_argnames=("init", "apply", "optimizer", "max_steps", "loss"))
def _train(
    features,
    target,
    weights,
    key,
    learning_rate,
    regularization,
    *,
    init,
    apply,
    optimizer,
    max_steps,
    loss,
):
    import optax

    center, scale = _moments(features, weights)
    rows = (features - center[None, :]) / scale[None, :]
    if loss == "squared":
        target_center, target_scale = _moments(target, weights)
    else:
        target_center = jnp.zeros((), features.dtype)
        target_scale = jnp.ones((), features.dtype)
    labels = (target - target_center) / target_scale
    share = weights / jnp.sum(weights)

    def objective(parameters: Any) -> Array:
        output = _apply(apply, parameters, rows)
        if loss == "squared":
            terms = (output - labels) ** 2
        else:
            terms = optax.sigmoid_binary_cross_entropy(output, labels)
        leaves = jax.tree.leaves(parameters)
        size = sum(jnp.sum(leaf * leaf) for leaf in leaves)
        return jnp.sum(share * terms) + regularization * size

    update = (optimizer or optax.adam)(learning_rate)
    # Drawn in float32 in either precision: a float64 draw from the same key would be
    # another start, and the two precisions could not be compared.
    parameters = jax.tree.map(
        lambda leaf: _as_dtype(leaf, features.dtype),
        init(key, jnp.zeros((1, features.shape[1]), jnp.float32)),
    )

    def step(state: Any, _: None) -> tuple[Any, None]:
        parameters, memory = state
        gradient = jax.grad(objective)(parameters)
        change, memory = update.update(gradient, memory, parameters)
        return (optax.apply_updates(parameters, change), memory), None

    state = (parameters, update.init(parameters))
    (parameters, _), _ = jax.lax.scan(step, state, length=max_steps)
    return NetworkParams(parameters, center, scale, target_center, target_scale)

"""Every method, from the same draw: probabilities of the test rows."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcur import calibration
from paper_repro.deep_probability._scenarios import Rows

_EPOCHS = 60
_MEMBERS = 5


class Network(nn.Module):
    """Two hidden layers of 128: enough to learn 2000 labels by heart."""

    @nn.compact
    def __call__(self, x):
        """One logit per row."""
        for _ in range(2):
            x = nn.relu(nn.Dense(128)(x))
        return nn.Dense(1)(x)[:, 0]


NETWORK = Network()
_FIRST = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))
# The second stage is the first one's at a thousandth of the rate in the released code;
# at a tenth it moves at all in the number of epochs there are.
_SECOND = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(1e-2, momentum=0.9))


def _with_mmce(logits, targets):
    return calibration.cross_entropy(logits, targets) + 3 * calibration.mmce(
        logits, targets
    )


LOSSES = {
    "focal": calibration.focal_loss,
    "entropy": partial(calibration.entropy_regularized_loss, strength=0.3),
    "label smoothing": calibration.label_smoothing_loss,
    "Brier": calibration.brier_loss,
    "MMCE": _with_mmce,
}
TARGETS = {"CaPE bin": "bin", "CaPE kernel": "kernel", "CaPE isotonic": "isotonic"}


def _train(parts: dict[str, Rows], params, key, optimizer, **options):
    train, held = parts["train"], parts["validation"]
    return calibration.train_cape(
        NETWORK.apply,
        params,
        train.x,
        train.y,
        (held.x, held.y),
        key=key,
        optimizer=optimizer,
        num_epochs=_EPOCHS,
        num_bins=15,
        window=100,
        bandwidth=0.05,
        progress=False,
        **options,
    )


def _initial(key, x):
    return NETWORK.init(key, x[:1])


def predictions(parts: dict[str, Rows], seed: int) -> dict[str, np.ndarray]:
    """Test forecasts (n,) of every method."""
    test, held = parts["test"], parts["validation"]
    keys = jax.random.split(jax.random.key(seed), 4 + _MEMBERS)

    def logits(params, rows: Rows = test):
        return NETWORK.apply(params, rows.x)

    found = {}
    plain = _train(
        parts, _initial(keys[0], test.x), keys[1], _FIRST, kind=None, period=1
    )
    start = plain.params
    found["overfit"] = jax.nn.sigmoid(logits(plain.last_params))
    found["early stop"] = jax.nn.sigmoid(logits(start))

    control = _train(parts, start, keys[2], _SECOND, kind=None, period=1)
    found["continued"] = jax.nn.sigmoid(logits(control.params))
    for name, kind in TARGETS.items():
        period = 4 if kind == "kernel" else 3
        result = _train(parts, start, keys[2], _SECOND, kind=kind, period=period)
        found[name] = jax.nn.sigmoid(logits(result.params))

    z_held, z_test = logits(start, held), logits(start)
    p_held, p_test = jax.nn.sigmoid(z_held), jax.nn.sigmoid(z_test)
    found["Platt"] = calibration.fit_platt(z_held, held.y)(z_test)
    found["temperature"] = calibration.fit_temperature(z_held, held.y)(z_test)
    found["isotonic"] = calibration.fit_isotonic(p_held, held.y)(p_test)
    found["beta"] = calibration.fit_beta(p_held, held.y)(p_test)
    found["histogram"] = calibration.fit_histogram(p_held, held.y, num_bins=15)(p_test)

    for name, loss in LOSSES.items():
        result = _train(
            parts, _initial(keys[0], test.x), keys[1], _FIRST, kind=None, loss=loss
        )
        found[name] = jax.nn.sigmoid(logits(result.params))

    members = [found["early stop"]]
    for key in keys[5 : 4 + _MEMBERS]:
        other = _train(parts, _initial(key, test.x), key, _FIRST, kind=None, period=1)
        members.append(jax.nn.sigmoid(logits(other.params)))
    found["ensemble"] = jnp.mean(jnp.stack(members), axis=0)
    return {name: np.asarray(values, np.float64) for name, values in found.items()}

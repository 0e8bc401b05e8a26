import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcur import calibration
from jaxcur.calibration import train_cape
from tests.helpers import assert_close

RNG = np.random.default_rng(5)
X = RNG.normal(size=(300, 2)).astype(np.float32)
Y = (RNG.uniform(size=300) < 1 / (1 + np.exp(-X[:, 0] - 0.5))).astype(np.int32)
TRAIN, HELD = (X[:200], Y[:200]), (X[200:], Y[200:])
START = {"slope": jnp.array([4.0, 2.0]), "intercept": jnp.array(0.0)}
OPTIMIZER = optax.sgd(0.05, momentum=0.9)


def linear(params, x):
    return x @ params["slope"] + params["intercept"]


def train(**changes):
    options = {"num_epochs": 6, "batch_size": 64, "optimizer": OPTIMIZER}
    options |= {"key": jax.random.key(0)} | changes
    return train_cape(linear, START, *TRAIN, HELD, **options)


def log_loss(params, data):
    return float(calibration.cross_entropy(linear(params, data[0]), data[1]).mean())


@pytest.mark.parametrize("kind", ["bin", "kernel", "isotonic", None])
def test_the_best_epoch_is_returned_and_never_worse_than_the_start(kind):
    found = train(kind=kind, num_bins=5, window=20)
    losses = np.asarray(found.validation_loss)
    assert losses.shape == (7,) and np.isfinite(losses).all()
    assert_close(losses[0], log_loss(START, HELD), rtol=1e-5)
    assert int(found.best_epoch) == losses.argmin() > 0
    assert_close(log_loss(found.params, HELD), losses.min(), rtol=1e-5)
    assert_close(log_loss(found.last_params, HELD), losses[-1], rtol=1e-5)
    assert int(found.num_epochs) == 6


def test_a_start_that_cannot_be_improved_is_kept():
    found = train(optimizer=optax.sgd(1e3), num_epochs=2)
    assert int(found.best_epoch) == 0
    np.testing.assert_array_equal(found.params["slope"], START["slope"])


def test_epochs_see_targets_and_labels_in_turn(monkeypatch):
    from jaxcur.calibration import _training

    seen = []
    plain = _training._epoch

    def spy(program, params, memory, scale, features, targets, key):
        seen.append(np.asarray(targets))
        return plain(program, params, memory, scale, features, targets, key)

    monkeypatch.setattr(_training, "_epoch", spy)
    train(kind="bin", num_bins=5, period=3, num_epochs=5)
    probs = jax.nn.sigmoid(linear(START, TRAIN[0]))
    expected = calibration.cape_targets(probs, TRAIN[1], num_bins=5)
    assert_close(seen[0], expected, rtol=1e-6)
    for i in (1, 2, 4):
        np.testing.assert_array_equal(seen[i], TRAIN[1])
    assert len(np.unique(seen[3])) <= 5


def test_one_step_is_the_optimisers_on_the_whole_batch():
    found = train(kind=None, num_epochs=1, batch_size=200, optimizer=optax.sgd(0.1))

    def loss(params):
        return calibration.cross_entropy(linear(params, TRAIN[0]), TRAIN[1]).mean()

    slope = jax.grad(loss)(START)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, START, slope)
    assert_close(found.last_params, expected, rtol=1e-5, atol=1e-6)


def test_every_row_counts_once_in_an_epoch():
    # Steps too small to matter: the mean loss of the batches, the last one shorter, is
    # that of the rows weighted by the batches.
    tiny = optax.sgd(1e-12)
    losses = [
        train(kind=None, num_epochs=1, batch_size=b, optimizer=tiny).training_loss[0]
        for b in (40, 200)
    ]
    assert_close(losses[0], losses[1], rtol=1e-5)


def test_steps_shrink_on_a_plateau_and_training_stops():
    stuck = optax.sgd(0.0)
    found = train(optimizer=stuck, num_epochs=30, stop_patience=4)
    assert int(found.num_epochs) == 4
    assert np.isnan(found.validation_loss[5:]).all()


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path, monkeypatch):
    from jaxcur.calibration import _training

    whole = train(checkpoint=tmp_path / "whole.npz")
    plain, count = _training._epoch, itertools.count()

    def interrupted(*arguments):
        if next(count) == 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    path = tmp_path / "part.npz"
    monkeypatch.setattr(_training, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=path)
    monkeypatch.setattr(_training, "_epoch", plain)
    resumed = train(checkpoint=path)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    with pytest.raises(ValueError, match="`checkpoint` .* other data or settings"):
        train(checkpoint=path, period=2)
    with pytest.raises(ValueError, match="`checkpoint` .* other data or settings"):
        train(checkpoint=path, loss=calibration.focal_loss)


def test_several_classes():
    labels = np.digitize(X[:, 0], [-0.5, 0.5])
    start = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}

    def apply(params, x):
        return x @ params["w"] + params["b"]

    found = train_cape(
        apply,
        start,
        X[:200],
        labels[:200],
        (X[200:], labels[200:]),
        num_epochs=3,
        optimizer=optax.sgd(0.5, momentum=0.9),
        key=jax.random.key(1),
    )
    assert float(found.validation_loss[0]) == pytest.approx(np.log(3), rel=1e-5)
    assert float(found.validation_loss[3]) < 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "tree"}, "`kind` must be one of"),
        ({"period": 0}, "`period` must be a positive integer"),
        ({"num_epochs": 1.5}, "`num_epochs` must be a positive integer"),
        ({"plateau_factor": 0.0}, "`plateau_factor`"),
    ],
)
def test_option_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        train(**changes)


def test_data_errors():
    key = jax.random.key(0)
    with pytest.raises(
        ValueError, match="labels of the training rows must be integers"
    ):
        train_cape(linear, START, X[:200], Y[:200] + 1, HELD, key=key)
    with pytest.raises(ValueError, match="`validation` must be features"):
        train_cape(linear, START, *TRAIN, (X[200:], Y[:5]), key=key)
    with pytest.raises(ValueError, match="`apply` must return logits"):
        train_cape(lambda p, x: jnp.zeros(()), START, *TRAIN, HELD, key=key)
    bad = X[:200].copy()
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        train_cape(linear, START, bad, Y[:200], HELD, key=key)


def test_another_file_is_no_checkpoint(tmp_path):
    for name, content in (("words", b"words"), ("empty", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}' is not a checkpoint"):
            train(checkpoint=path)
    path = tmp_path / "other.npz"
    np.savez(path, values=np.ones(2))
    with pytest.raises(ValueError, match="is not a checkpoint of this function"):
        train(checkpoint=path)

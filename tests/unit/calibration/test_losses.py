import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats as law

from jaxcur import calibration
from tests.helpers import assert_close

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(12, 4)) * 2
LABELS = RNG.integers(0, 4, size=12)
BINARY = RNG.normal(size=12) * 2
OUTCOMES = RNG.integers(0, 2, size=12)
ROWS = [
    calibration.brier_loss,
    calibration.cross_entropy,
    calibration.entropy_regularized_loss,
    calibration.focal_loss,
    calibration.label_smoothing_loss,
]


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("loss", ROWS)
def test_one_logit_is_two_classes(x64, loss):
    pair = np.stack([np.zeros(12), BINARY], axis=1)
    one, two = loss(BINARY, OUTCOMES), loss(pair, OUTCOMES)
    factor = 2 if loss is calibration.brier_loss else 1
    assert_close(factor * one, two, rtol=1e-12, atol=1e-14)


def test_against_optax(x64):
    hot = np.eye(4)[LABELS]
    assert_close(
        calibration.cross_entropy(LOGITS, LABELS),
        optax.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS),
        rtol=1e-12,
    )
    assert_close(
        calibration.label_smoothing_loss(LOGITS, LABELS, smoothing=0.2),
        optax.softmax_cross_entropy(LOGITS, optax.smooth_labels(hot, 0.2)),
        rtol=1e-12,
    )
    assert_close(
        calibration.focal_loss(BINARY, OUTCOMES, gamma=2.0),
        optax.sigmoid_focal_loss(BINARY, OUTCOMES, gamma=2.0),
        rtol=1e-10,
    )


def test_definitions(x64):
    q, hot = softmax(LOGITS), np.eye(4)[LABELS]
    assert_close(
        calibration.brier_loss(LOGITS, LABELS), ((q - hot) ** 2).sum(axis=1), rtol=1e-12
    )
    entropy = -(q * np.log(q)).sum(axis=1)
    assert_close(
        calibration.entropy_regularized_loss(LOGITS, LABELS, strength=0.5),
        -np.log(q[np.arange(12), LABELS]) - 0.5 * entropy,
        rtol=1e-12,
    )
    top = q.argmax(axis=1)
    confidence, residual = q.max(axis=1), q.max(axis=1) - (top == LABELS)
    kernel = np.exp(-np.abs(confidence[:, None] - confidence[None]) / 0.4)
    assert_close(
        calibration.mmce(LOGITS, LABELS),
        np.sqrt(residual @ kernel @ residual) / 12,
        rtol=1e-12,
    )
    centres = (np.arange(15) + 0.5) / 15
    member = softmax(-((confidence[:, None] - centres) ** 2) / 0.01)
    expected = ((residual @ member) ** 2 / member.sum(axis=0)).sum() / 12
    assert_close(
        calibration.soft_calibration_error(LOGITS, LABELS),
        np.sqrt(expected),
        rtol=1e-12,
    )


def test_evidential_losses_are_expectations():
    evidence = np.array([[3.0, 0.5, 1.0]])
    draws = law.dirichlet(evidence[0] + 1).rvs(400_000, random_state=0)
    hot = np.array([0, 1, 0])
    scores = {"log": -np.log(draws[:, 1]), "brier": ((draws - hot) ** 2).sum(axis=1)}
    for score, values in scores.items():
        found = calibration.evidential_loss(evidence, np.array([1]), score=score)
        error = values.std() / np.sqrt(len(values))
        assert abs(float(found[0]) - values.mean()) < 4 * error


def test_the_divergence_is_an_expectation():
    evidence, alpha = np.array([[3.0, 0.5, 1.0]]), np.array([4.0, 1.0, 2.0])
    draws = law.dirichlet(alpha).rvs(200_000, random_state=1)
    values = law.dirichlet(alpha).logpdf(draws.T) - np.log(2.0)
    weighted, plain = (
        calibration.evidential_loss(evidence, np.array([1]), kl_weight=w)
        for w in (1.0, 0.0)
    )
    error = values.std() / np.sqrt(len(values))
    assert abs(float(weighted[0] - plain[0]) - values.mean()) < 4 * error


@pytest.mark.parametrize("loss", [*ROWS, calibration.mmce])
def test_extreme_logits_stay_finite_and_right(loss):
    big = jnp.array([[90.0, -90.0], [-90.0, 90.0]])
    right, wrong = jnp.array([0, 1]), jnp.array([1, 0])
    assert np.isfinite(loss(big, wrong)).all()
    assert (np.asarray(loss(big, right)) <= np.asarray(loss(big, wrong))).all()
    slope = jax.grad(lambda z: jnp.sum(loss(z, right)))(big)
    assert np.isfinite(slope).all()


def test_training_penalties_vanish_for_a_perfect_batch_with_a_gradient_of_zero():
    for penalty in (calibration.mmce, calibration.soft_calibration_error):
        value, slope = jax.value_and_grad(lambda z, f=penalty: f(z, jnp.array([1, 0])))(
            jnp.zeros(2)
        )
        assert value == 0
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    "loss", [*ROWS, calibration.mmce, calibration.soft_calibration_error]
)
def test_wrong_labels(loss):
    assert np.isnan(loss(jnp.zeros((2, 3)), jnp.array([0, 3]))).any()
    assert np.isnan(loss(jnp.zeros(2), jnp.array([0, 2]))).any()
    with pytest.raises(ValueError, match="`labels` must have shape"):
        loss(jnp.zeros((2, 3)), jnp.array([0]))
    with pytest.raises(ValueError, match="`logits` must have shape"):
        loss(jnp.zeros((2, 3, 1)), jnp.array([0, 1]))


def test_errors_of_evidential_losses():
    with pytest.raises(ValueError, match="`score`"):
        calibration.evidential_loss(jnp.ones((1, 2)), jnp.array([0]), score="mean")
    with pytest.raises(ValueError, match="`evidence` must have shape"):
        calibration.evidential_loss(jnp.ones(2), jnp.array([0]))
    bad = calibration.evidential_loss(jnp.array([[-1.0, 2.0]]), jnp.array([0]))
    assert np.isnan(bad).all()

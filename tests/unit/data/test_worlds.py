"""Synthetic worlds are what their docstrings say; bundled data are what they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import data


def test_noisy_predictions_have_the_stated_moments():
    n, noise = 40_000, jnp.array([0.5, 2.0])
    world = data.noisy_predictions(n, num_models=2, noise=noise, key=jax.random.key(3))
    # Six standard errors of a mean of n, and of a correlation, which is at most that.
    slack = 6 / n**0.5
    assert abs(float(world.labels.mean())) < slack
    assert abs(float(world.labels.var()) - 1) < 2**0.5 * slack
    for model in range(2):
        found = np.corrcoef(world.labels, world.predictions[model])[0, 1]
        assert abs(found - 1 / (1 + float(noise[model]) ** 2) ** 0.5) < slack
    errors = world.predictions - world.labels
    assert abs(np.corrcoef(errors)[0, 1]) < slack


def test_noisy_predictions_work_under_jit_and_vmap():
    keys = jax.random.split(jax.random.key(0), 3)
    draw = jax.jit(jax.vmap(lambda key: data.noisy_predictions(8, key=key)))
    world = draw(keys)
    assert world.labels.shape == (3, 8) and world.predictions.shape == (3, 1, 8)
    one = data.noisy_predictions(8, key=keys[1])
    np.testing.assert_allclose(world.predictions[1], one.predictions, rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"n": -1}, {"n": 3, "num_models": 0}, {"n": 3, "noise": jnp.ones(2)}]
)
def test_noisy_predictions_refuse_impossible_sizes(options):
    with pytest.raises(ValueError, match="must"):
        data.noisy_predictions(key=jax.random.key(0), **options)


def test_diabetes_is_the_published_data():
    patients = data.load_diabetes()
    assert patients.features.shape == (442, 10)
    assert patients.feature_names[0] == "age" and len(patients.feature_names) == 10
    # Mean and range of the response in the paper's own file.
    assert patients.progression.sum() == 67243
    assert (patients.progression.min(), patients.progression.max()) == (25, 346)

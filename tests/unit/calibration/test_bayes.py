import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.calibration import bayesian_reliability
from jaxcur.calibration._bayes import _curve

N = 80
RUN = {"num_warmup": 150, "num_samples": 150, "num_chains": 2, "num_knots": 6}


def data(seed, slope=1.0):
    key_f, key_y = jax.random.split(jax.random.key(seed))
    f = jax.random.uniform(key_f, (N,))
    truth = 0.5 + slope * (f - 0.5)
    return f, (jax.random.uniform(key_y, (N,)) < truth).astype(jnp.float32)


@pytest.mark.parametrize("kind", ["monotone", "gp"])
def test_curves_follow_the_data(kind):
    f, _ = data(0)
    points = jnp.array([0.1, 0.9])
    high = bayesian_reliability(
        f, jnp.ones(N), kind=kind, key=jax.random.key(1), points=points, **RUN
    )
    low = bayesian_reliability(
        f, jnp.zeros(N), kind=kind, key=jax.random.key(1), points=points, **RUN
    )
    assert (np.asarray(high.mean) > np.asarray(low.mean) + 0.2).all()
    assert high.curve.shape == (2, 150, 2)
    assert ((np.asarray(high.curve) >= 0) & (np.asarray(high.curve) <= 1)).all()
    if kind == "monotone":
        assert (np.diff(np.asarray(high.curve), axis=-1) >= 0).all()


def test_the_error_tells_calibrated_from_wrong():
    f, y = data(2)
    right = bayesian_reliability(f, y, key=jax.random.key(3), **RUN)
    wrong = bayesian_reliability(f, 1 - y, key=jax.random.key(3), **RUN)
    assert right.error_interval()[0] < 0.1
    assert wrong.error.mean() > right.error.mean() + 0.05
    band = np.asarray(right.band(0.5))
    assert (band[:, 0] <= np.asarray(right.mean) + 0.05).all()
    assert (band[:, 0] <= band[:, 1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["monotone", "gp"])
def test_bands_cover_curves_drawn_from_the_prior(kind):
    """The level of a credible interval is exact on average over the prior."""
    points = jnp.array([0.2, 0.5, 0.8])
    knots = RUN["num_knots"]

    def one(key):
        keys = jax.random.split(key, 7)
        weights = jnp.ones(knots + 1).at[jnp.array([0, -1])].set(0.5)
        sites = {
            "increments": jax.random.dirichlet(keys[0], weights),
            "shift": jax.random.normal(keys[1]),
            "tilt": 0.5 * jax.random.normal(keys[2]),
            "size": 0.5 * jnp.abs(jax.random.normal(keys[3])),
            "wave": jax.random.normal(keys[4], (knots,)),
        }
        f = jax.random.uniform(keys[5], (N,))
        y = jax.random.uniform(keys[6], (N,)) < _curve(sites, f, kind, knots)
        found = bayesian_reliability(
            f, y.astype(jnp.float32), kind=kind, points=points, key=keys[1], **RUN
        )
        truth = _curve(sites, points, kind, knots)
        band = found.band(0.8)
        return (band[:, 0] <= truth) & (truth <= band[:, 1])

    hits = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=20))(
        jax.random.split(jax.random.key(4), 200)
    )
    rates = np.asarray(hits).mean(axis=0)
    # 200 worlds: one standard error is 0.028; 3.5 of them, for three points.
    assert (np.abs(rates - 0.8) < 0.1).all(), rates


def test_errors():
    f, y = data(5)
    with pytest.raises(ValueError, match="`kind`"):
        bayesian_reliability(f, y, kind="tree", key=jax.random.key(0))
    with pytest.raises(ValueError, match="`num_knots`"):
        bayesian_reliability(f, y, num_knots=1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="`points` must lie in"):
        bayesian_reliability(f, y, points=[1.5], key=jax.random.key(0))
    with pytest.raises(ValueError, match="`num_samples`"):
        bayesian_reliability(f, y, num_samples=0, key=jax.random.key(0))

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from jaxcur.calibration import certified_radius, dual_certified_radius
from tests.helpers import assert_close, load_reference

CERTIFICATES = "calibration/distributions_and_certificates.json"


def test_stored_radii(x64):
    stored = load_reference(CERTIFICATES)
    for case in stored["cohen_certificate"]:
        found = certified_radius(case["p_lower"], sigma=case["sigma"])
        expected = 0.0 if case["p_lower"] <= 0.5 else case["radius"]
        assert_close(found, expected, rtol=1e-12)
    for case in stored["dual_certificate_bonferroni_alpha_over_2"]:
        found = dual_certified_radius(
            case["p_lower_left"], case["p_lower_right"], sigma=case["sigma"]
        )
        total = norm.ppf(case["p_lower_left"]) + norm.ppf(case["p_lower_right"])
        expected = max(case["sigma"] * total / np.sqrt(2), 0)
        assert_close(found, expected, rtol=1e-12)
        if case["radius"]:
            assert_close(found, case["radius"], rtol=1e-10)


def half_spaces(seed, count=4000):
    """Two linear classifiers: distances to their planes over the noise."""
    rng = np.random.default_rng(seed)
    distances = rng.normal(0.6, 1.2, size=(2, count))
    sigmas = rng.uniform(0.2, 2, size=(2, count))
    return distances, sigmas


def smallest_attack(distances, sigmas, directions=20001):
    """Norm of the shortest change that brings the two probabilities' sum down to 1."""
    a, b = distances / sigmas
    angle = np.linspace(0, np.pi / 2, directions)[:, None]
    # A change of norm r moves the halves by r cos and r sin.
    speed = np.cos(angle) / sigmas[0] + np.sin(angle) / sigmas[1]
    return ((a + b) / speed).min(axis=0)


def test_half_spaces_are_broken_exactly_at_the_radius(x64):
    distances, sigmas = half_spaces(0, 300)
    # Beyond five deviations a probability in float64 no longer tells the distance.
    distances = np.clip(distances / sigmas, -5, 5) * sigmas
    probs = norm.cdf(distances / sigmas)
    radius = dual_certified_radius(*probs, sigma=tuple(sigmas))
    attack = np.maximum(smallest_attack(distances, sigmas), 0)
    assert_close(radius, attack, rtol=1e-6, atol=1e-9)


def test_the_released_radius_is_broken_by_half_spaces(x64):
    distances, _ = half_spaces(1)
    p_left, p_right = norm.cdf(distances)
    released = np.sqrt((np.maximum(distances, 0) ** 2).sum(axis=0))
    ours = np.asarray(dual_certified_radius(p_left, p_right, sigma=1.0))
    # Move both halves alike, by a norm just below the printed radius.
    both = norm.cdf(distances - 0.999 * released / np.sqrt(2)).sum(axis=0)
    promised = (released > 0) & (p_left + p_right > 1)
    assert (both[promised] < 1).mean() > 0.95
    kept = norm.cdf(distances - 0.999 * ours / np.sqrt(2)).sum(axis=0)
    assert (kept[ours > 0] > 1).all()
    assert (ours <= released * (1 + 1e-12)).all()


@given(
    st.floats(0.5, 1 - 1e-9), st.floats(0.01, 100), st.floats(-1, 1), st.floats(0, 0.99)
)
def test_no_half_space_flips_within_the_radius(p, sigma, direction, share):
    with jax.enable_x64(True):
        radius = float(certified_radius(p, sigma=sigma))
    moved = norm.ppf(p) - share * radius * direction / sigma
    assert norm.cdf(moved) >= 0.5 - 1e-12


def test_edges(dtype):
    p = jnp.array([1.0, 0.5, 0.0, 0.3], dtype)
    np.testing.assert_array_equal(certified_radius(p, sigma=2.0), [np.inf, 0, 0, 0])
    left, right = (
        jnp.array([1.0, 1.0, 0.0, 0.9], dtype),
        jnp.array([0.2, 0.0, 0.0, 0.1]),
    )
    found = dual_certified_radius(left, right, sigma=1.0)
    assert found.dtype == jnp.result_type(dtype)
    np.testing.assert_allclose(found, [np.inf, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.2, 1.0), "`p_lower` must hold probabilities"),
        ((np.nan, 1.0), "`p_lower` must hold probabilities"),
        ((0.9, 0.0), "`sigma` must be positive"),
        ((0.9, np.inf), "`sigma` must be positive"),
    ],
)
def test_errors(arguments, message):
    p, sigma = arguments
    with pytest.raises(ValueError, match=message):
        certified_radius(p, sigma=sigma)


def test_bad_values_are_nan_under_jit_and_vmap():
    run = jax.jit(jax.vmap(lambda p, s: certified_radius(p, sigma=s)))
    found = run(jnp.array([1.2, jnp.nan, 0.9, 0.9]), jnp.array([1.0, 1.0, -1.0, 1.0]))
    np.testing.assert_array_equal(np.isnan(found), [True, True, True, False])
    found = jax.jit(lambda p: dual_certified_radius(p, 0.9, sigma=1.0))(jnp.nan)
    assert np.isnan(found)
    slope = jax.grad(lambda p: certified_radius(p, sigma=1.0))(0.9)
    assert slope == pytest.approx(1 / norm.pdf(norm.ppf(0.9)), rel=1e-5)


def test_a_lower_bound_is_not_rounded_up_to_certainty():
    near = np.array([1 - 1e-9, 1.0])
    assert np.isfinite(certified_radius(near, sigma=1.0)).tolist() == [True, False]
    assert certified_radius(1 - 1e-9, sigma=1.0) <= norm.ppf(1 - 1e-9)
    assert np.isfinite(dual_certified_radius(1 - 1e-9, 0.5, sigma=1.0))

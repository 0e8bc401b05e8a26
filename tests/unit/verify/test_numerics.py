from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur.verify import _numerics as numerics


def as_fraction(*parts):
    return sum((Fraction(float(part)) for part in parts), Fraction(0))


def test_two_sum_is_exact_under_jit():
    rng = np.random.default_rng(0)
    a = (rng.normal(size=200) * 10.0 ** rng.integers(-8, 8, 200)).astype(np.float32)
    b = (rng.normal(size=200) * 10.0 ** rng.integers(-8, 8, 200)).astype(np.float32)
    total, error = jax.jit(numerics.two_sum)(a, b)
    for i in range(200):
        assert as_fraction(total[i], error[i]) == as_fraction(a[i], b[i])


def test_pair_sum_beats_a_plain_sum():
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(10_001, 2)) * 1e3).astype(np.float32)
    high, low = jax.jit(lambda v: numerics.pair_sum(jnp, v))(values)
    for k in range(2):
        exact = as_fraction(*values[:, k])
        error = abs(float(as_fraction(high[k], low[k]) - exact))
        # The pair carries about 48 bits of a sum of magnitude 1e5.
        assert error < 1e-6
    plain = abs(
        float(as_fraction(values[:, 0].cumsum()[-1]) - as_fraction(*values[:, 0]))
    )
    assert plain > 1e-4


def test_pair_sum_of_nothing_is_zero():
    high, low = numerics.pair_sum(jnp, jnp.zeros((0, 3)))
    assert high.shape == low.shape == (3,)
    assert float(abs(high).sum()) == 0.0


def test_exact_products_in_float32():
    counts = jnp.asarray([0, 1, 4095, 4096, 123_456_789, 2**31 - 1])
    constants = np.array([0.69314718, -1e-6, -2.302585, 11.5, -0.05, 3.3e-5])
    high, low = jax.jit(
        lambda n: numerics.pair_sum(jnp, numerics.exact_products(n, constants))
    )(counts)
    for i, constant in enumerate(constants):
        exact = Fraction(int(counts[i])) * Fraction(constant)
        got = as_fraction(high[i], low[i])
        assert abs(got - exact) <= abs(exact) * Fraction(1, 10**10)


def test_namespace_needs_numpy_on_every_leaf():
    assert numerics.namespace({"a": np.zeros(2)}) is np
    assert numerics.namespace({"a": np.zeros(2), "b": jnp.zeros(2)}) is jnp
    assert numerics.namespace({}) is jnp


def test_log_mean_exp_of_extremes():
    assert numerics.log_mean_exp(np, np.array([-np.inf, -np.inf]), 0) == -np.inf
    assert numerics.log_mean_exp(np, np.array([np.inf, 0.0]), 0) == np.inf
    value = numerics.log_mean_exp(np, np.array([1000.0, 1000.0, 1000.0]), 0)
    assert abs(value - 1000.0) < 1e-12

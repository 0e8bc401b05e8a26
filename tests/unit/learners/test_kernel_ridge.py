import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import pairwise

from jaxcur import learners
from jaxcur.learners import KernelRidge, Ridge, kernel_ridge_path
from tests.helpers import assert_close

RNG = np.random.default_rng(1)
FEATURES = RNG.standard_normal((14, 3))
TARGET = RNG.standard_normal(14)
WEIGHTS = np.array([0.0, 0.5, 1, 2, 0, 1, 1, 3, 1, 1, 0.2, 1, 1, 1])


def plain_function(a, b):
    return jnp.exp(-jnp.abs(a[:, None, :] - b[None, :, :]).sum(axis=-1))


KERNELS = [
    learners.RBF(0.5),
    learners.Laplacian(0.7),
    learners.Linear(),
    learners.Polynomial(3, gamma=0.5, offset=1.0),
    plain_function,
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: getattr(k, "__name__", None))
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_closed_forms_equal_refits(x64, kernel, weights):
    learner = KernelRidge(kernel, 0.3)
    counts = np.ones(14) if weights is None else weights
    rows = []
    for i in range(14):
        kept = counts.copy()
        kept[i] = 0
        params = learner.fit(FEATURES[kept > 0], TARGET[kept > 0], kept[kept > 0])
        rows.append(np.asarray(learner.predict(params, FEATURES)))
    refits = np.stack(rows)
    found = learner.leave_one_out(FEATURES, TARGET, weights)
    assert_close(found, np.diag(refits), rtol=1e-8, atol=1e-10)
    mean = learner.mean_leave_one_out_predict(FEATURES, TARGET, FEATURES, weights)
    assert_close(mean, refits[counts > 0].mean(axis=0), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: getattr(k, "__name__", None))
def test_path_equals_single_fits(x64, kernel):
    penalties = [0.1, 2.0]
    path = kernel_ridge_path(kernel, FEATURES, TARGET, penalties, WEIGHTS)
    for i, value in enumerate(penalties):
        learner = KernelRidge(kernel, value)
        expected = learner.leave_one_out(FEATURES, TARGET, WEIGHTS)
        assert_close(path.leave_one_out[i], expected, rtol=1e-9, atol=1e-11)
        params = learner.fit(FEATURES, TARGET, WEIGHTS)
        assert_close(path.params(i), params, rtol=1e-8, atol=1e-10)


def test_the_linear_kernel_is_ridge_without_intercept(x64):
    kernel = KernelRidge(learners.Linear(), 0.4)
    ridge = Ridge(0.4, intercept=False)
    assert_close(
        kernel.leave_one_out(FEATURES, TARGET, WEIGHTS),
        ridge.leave_one_out(FEATURES, TARGET, WEIGHTS),
        rtol=1e-9,
    )
    new = FEATURES[:5] + 1
    assert_close(
        kernel.mean_leave_one_out_predict(FEATURES, TARGET, new, WEIGHTS),
        ridge.mean_leave_one_out_predict(FEATURES, TARGET, new, WEIGHTS),
        rtol=1e-9,
    )


def test_kernels_equal_scikit_learn(x64):
    a, b = FEATURES, FEATURES[:5] + 0.5
    pairs = [
        (learners.RBF(0.3), pairwise.rbf_kernel(a, b, gamma=0.3)),
        (learners.Laplacian(0.3), pairwise.laplacian_kernel(a, b, gamma=0.3)),
        (learners.Linear(), pairwise.linear_kernel(a, b)),
        (
            learners.Polynomial(2, gamma=0.5, offset=2.0),
            pairwise.polynomial_kernel(a, b, degree=2, gamma=0.5, coef0=2.0),
        ),
    ]
    for kernel, expected in pairs:
        assert_close(kernel(a, b), expected, rtol=1e-10)


def test_distances_survive_a_large_mean_in_float32():
    near = FEATURES.astype(np.float32)
    far = near + np.float32(256)
    # The shifted rows carry an error of 1.5e-5 themselves.
    kernel = learners.RBF(0.5)
    assert_close(kernel(far, far), kernel(near, near), rtol=0, atol=2e-4)


def test_kernel_parameters_are_traced_and_functions_static():
    traces = []

    @jax.jit
    def run(learner):
        traces.append(1)
        return learner.leave_one_out(FEATURES, TARGET)

    run(KernelRidge(learners.RBF(0.5), 1.0))
    run(KernelRidge(learners.RBF(0.9), 2.0))
    assert len(traces) == 1
    run(KernelRidge(plain_function, 1.0))
    run(KernelRidge(plain_function, 3.0))
    assert len(traces) == 2
    leaves, tree = jax.tree.flatten(KernelRidge(plain_function, 3.0))
    assert jax.tree.unflatten(tree, leaves) == KernelRidge(plain_function, 3.0)


def test_interpolation_of_repeated_rows_is_nan():
    rows = np.array([[0.0], [0.0], [1.0]])
    found = KernelRidge(learners.Linear(), 0.0).leave_one_out(rows, [0.0, 1.0, 2.0])
    assert np.isnan(found).any()


def test_what_is_no_kernel_is_refused():
    with pytest.raises(TypeError, match="`kernel` must be a callable"):
        KernelRidge("rbf", 1.0)
    with pytest.raises(ValueError, match="`regularization` must be nonnegative"):
        KernelRidge(learners.RBF(1.0), -1.0)
    with pytest.raises(ValueError, match="`gamma` must be nonnegative"):
        learners.RBF(-1.0)
    with pytest.raises(ValueError, match="`degree` must be a positive integer"):
        learners.Polynomial(0)
    with pytest.raises(ValueError, match="a kernel takes"):
        learners.RBF(1.0)(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(TypeError, match="`kernel` must be a callable"):
        kernel_ridge_path(1.0, FEATURES, TARGET, [1.0])

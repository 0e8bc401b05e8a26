import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxcur.calibration import confusion_and_ignorance, evidential_opinion
from tests.helpers import assert_close

CLASSES = 5


def rows(low, high):
    values = st.floats(low, high, allow_subnormal=False)
    return hnp.arrays(np.float64, (3, CLASSES), elements=values)


def dissonance_by_definition(belief):
    total = 0.0
    for k, mine in enumerate(belief):
        others = [b for j, b in enumerate(belief) if j != k]
        if sum(others) == 0:
            continue
        balance = [
            0 if b + mine == 0 else b * (1 - abs(b - mine) / (b + mine)) for b in others
        ]
        total += mine * sum(balance) / sum(others)
    return total


@given(rows(0, 1e6))
def test_opinions_follow_their_definition(evidence):
    with jax.enable_x64(True):
        opinion = jax.tree.map(np.asarray, evidential_opinion(evidence))
    total = evidence.sum(axis=1) + CLASSES
    # XLA flushes subnormal numbers to zero.
    assert_close(opinion.belief, evidence / total[:, None], rtol=1e-12, atol=1e-300)
    assert_close(opinion.uncertainty, CLASSES / total, rtol=1e-12)
    assert_close(
        opinion.belief.sum(axis=1) + opinion.uncertainty, np.ones(3), rtol=1e-12
    )
    assert_close(opinion.probability.sum(axis=1), np.ones(3), rtol=1e-12)
    expected = [dissonance_by_definition(row) for row in np.asarray(opinion.belief)]
    assert_close(opinion.dissonance, np.array(expected), rtol=1e-9, atol=1e-12)


def masses_by_enumeration(plausibility):
    belief, several, none = np.zeros(CLASSES), 0.0, 0.0
    for code in range(2**CLASSES):
        inside = [bool(code >> k & 1) for k in range(CLASSES)]
        mass = np.prod([p if i else 1 - p for p, i in zip(plausibility, inside)])
        size = sum(inside)
        if size == 0:
            none += mass
        elif size == 1:
            belief[inside.index(True)] += mass
        else:
            several += mass
    return belief, several, none


@given(rows(0, 1))
def test_masses_by_enumeration_of_all_sets(plausibility):
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, confusion_and_ignorance(plausibility))
    for i, row in enumerate(plausibility):
        belief, confusion, ignorance = masses_by_enumeration(row)
        assert_close(found.belief[i], belief, rtol=1e-10, atol=1e-15)
        assert_close(found.confusion[i], confusion, rtol=1e-10, atol=1e-15)
        assert_close(found.ignorance[i], ignorance, rtol=1e-10, atol=1e-15)
    total = found.belief.sum(axis=1) + found.confusion + found.ignorance
    assert_close(total, np.ones(3), rtol=1e-12)


def test_extremes(dtype):
    found = confusion_and_ignorance(
        jnp.array([[1.0, 1, 0], [0, 0, 0], [1, 0, 0]], dtype)
    )
    np.testing.assert_array_equal(found.confusion, [1, 0, 0])
    np.testing.assert_array_equal(found.ignorance, [0, 1, 0])
    np.testing.assert_array_equal(found.belief[2], [1, 0, 0])
    opinion = evidential_opinion(jnp.zeros((1, 3), dtype))
    assert opinion.uncertainty[0] == 1 and opinion.dissonance[0] == 0


def test_a_small_confusion_keeps_its_digits():
    found = confusion_and_ignorance(jnp.array([1e-6, 2e-6, 0.0], jnp.float32))
    assert_close(found.confusion, 2e-12, rtol=1e-5)


def test_the_order_of_classes_does_not_matter(x64):
    values = np.random.default_rng(0).uniform(size=(4, CLASSES))
    order = np.array([3, 1, 4, 0, 2])
    for function in (evidential_opinion, confusion_and_ignorance):
        plain, moved = function(values), function(values[:, order])
        assert_close(moved.belief, plain.belief[:, order], rtol=1e-12)
        for name in set(plain._fields) - {"belief", "probability"}:
            assert_close(getattr(moved, name), getattr(plain, name), rtol=1e-12)


@pytest.mark.parametrize("bad", [[-1.0, 2], [np.nan, 1]])
def test_errors(bad):
    with pytest.raises(ValueError, match="`evidence` must be finite"):
        evidential_opinion(bad)
    with pytest.raises(ValueError, match="`plausibility` must be finite"):
        confusion_and_ignorance(bad)
    with pytest.raises(ValueError, match="at least one class"):
        evidential_opinion(1.0)
    for function in (evidential_opinion, confusion_and_ignorance):
        found = jax.jit(function)(jnp.array(bad))
        assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(found))


def test_gradients_are_finite():
    for function in (evidential_opinion, confusion_and_ignorance):
        slope = jax.grad(lambda v, f=function: f(v)[1].sum() + f(v)[2].sum())(
            jnp.array([0.2, 0.2, 0.0])
        )
        assert np.isfinite(slope).all()

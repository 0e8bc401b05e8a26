"""Drawing labels: inclusion probabilities, fixed sizes, strata, errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxcur import debiased
from tests.helpers import assert_close

PROB = np.array([0.1, 0.9, 0.5, 0.0, 1.0, 0.3, 0.7, 0.5])


def frequencies(scheme, num=4000):
    def one(key):
        return debiased.sample_labels(PROB, scheme=scheme, key=key)

    return np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(1), num)))


@pytest.mark.parametrize("scheme", ["bernoulli", "systematic"])
def test_every_row_has_its_probability(scheme):
    drawn = frequencies(scheme)
    z = (drawn.mean(0) - PROB) / np.sqrt(PROB * (1 - PROB) / len(drawn) + 1e-12)
    # Six free frequencies; 4.5 standard deviations happen once in 25 000 such tests.
    assert np.abs(z).max() < 4.5
    if scheme == "systematic":
        assert (drawn.sum(1) == 4).all()
    else:
        # Independent rows: the variance of the count is the sum of pi (1 - pi).
        assert_close(drawn.sum(1).var(), (PROB * (1 - PROB)).sum(), rtol=0.1)


def test_systematic_probabilities_are_exact_in_a_given_order():
    # Each of ten equally spaced starts stands for a tenth of the unit interval.
    starts = (np.arange(10) + 0.5) / 10
    drawn = [
        debiased.sample_labels(PROB, scheme="systematic", uniforms=u) for u in starts
    ]
    assert_close(np.mean(drawn, axis=0), PROB, rtol=1e-12)


def test_systematic_shuffles_the_rows():
    # In the order given, rows 5 and 6 with 0.3 + 0.7 are never drawn together.
    together = frequencies("systematic")[:, [5, 6]].all(1)
    assert together.mean() > 0.1


def test_a_total_that_is_whole_on_paper_fixes_the_number():
    prob = np.full(1000, 0.1, np.float32)
    for seed in range(20):
        key = jax.random.key(seed)
        drawn = debiased.sample_labels(prob, scheme="systematic", key=key)
        # A float32 tenth is above a tenth: their sum is 100.0000015.
        assert int(drawn.sum()) in (100, 101)
        drawn = debiased.sample_labels(
            prob.astype(float).round(3), scheme="systematic", key=key
        )
        assert int(drawn.sum()) == 100


def test_bernoulli_compares_with_the_draw():
    found = debiased.sample_labels([0.5, 0.5, 0.0, 1.0], uniforms=[0.5, 0.51, 0.0, 1])
    assert found.tolist() == [True, False, False, True]


def test_small_probabilities_are_not_rounded_to_a_grid():
    # Float32 draws on a grid of 2^-23 would give 2^-23, four thirds of this.
    prob = 0.75 * 2.0**-23
    found = debiased.sample_labels([prob, prob], uniforms=[2.0**-23, 2.0**-24])
    assert found.tolist() == [False, True]


def test_every_subset_of_a_stratum_is_equally_likely():
    strata = jnp.array([1, 0, 1, 1, 0, 1])

    def one(key):
        return debiased.sample_strata(strata, jnp.array([1, 2]), key=key)

    drawn = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(2), 6000)))
    assert (drawn[:, [1, 4]].sum(1) == 1).all()
    rows = [0, 2, 3, 5]
    counts = [
        drawn[:, list(pair)].all(1).sum() for pair in itertools.combinations(rows, 2)
    ]
    assert sum(counts) == 6000
    assert scipy.stats.chisquare(counts).pvalue > 1e-4
    assert scipy.stats.binomtest(int(drawn[:, 1].sum()), 6000).pvalue > 1e-4


def test_strata_take_the_smallest_draws():
    found = debiased.sample_strata(
        [0, 1, 0, 1, 0], [2, 0], uniforms=[0.3, 0.1, 0.2, 0.05, 0.9]
    )
    assert found.tolist() == [True, False, True, False, False]
    assert debiased.sample_strata([0, 0], [2], uniforms=[0.5, 0.5]).all()


def test_neyman_by_hand():
    # Shares 500, 900 and 90 of 1490, but the third stratum has 3 rows.
    found = debiased.neyman_allocation([500, 300, 3], [1.0, 3.0, 30.0], budget=143)
    assert found.tolist() == [50, 90, 3] and found.dtype == jnp.int32


@pytest.mark.parametrize(
    ("sizes", "std_devs", "options", "expected"),
    [
        # 10/3 each: the money of the remainders buys one more row, the first.
        ([9, 9, 9], [1, 1, 1], {"budget": 10}, [4, 3, 3]),
        # No variance: the smallest count; the rest goes where it helps.
        ([9, 9, 9], [0, 1, 0], {"budget": 12}, [2, 8, 2]),
        # Nothing known: everything in proportion.
        ([10, 20, 0], [0, 0, 0], {"budget": 12, "min_per_stratum": 0}, [4, 8, 0]),
        # A census of what is smaller than the smallest count.
        ([1, 100, 0], [5, 1, 5], {"budget": 11}, [1, 10, 0]),
        ([100, 100], [1, 1], {"budget": 30, "costs": [1, 4]}, [10, 5]),
        ([3, 4], [1, 1], {"budget": 7}, [3, 4]),
    ],
)
def test_neyman_edges(sizes, std_devs, options, expected):
    found = debiased.neyman_allocation(sizes, std_devs, **options)
    assert found.tolist() == expected


def test_neyman_beats_proportional_allocation():
    sizes, std_devs = np.array([1000, 500, 200]), np.array([1.0, 5.0, 20.0])
    counts = np.asarray(debiased.neyman_allocation(sizes, std_devs, budget=170))
    proportional = sizes / 10
    best = np.sum((sizes * std_devs) ** 2 / counts)
    assert best < np.sum((sizes * std_devs) ** 2 / proportional) / 1.5


def test_transformations():
    sizes, std_devs = jnp.array([50, 30, 3]), jnp.array([1.0, 3.0, 9.0])

    def rule(budget):
        return debiased.neyman_allocation(sizes, std_devs, budget=budget)

    found = jax.jit(jax.vmap(rule))(jnp.array([20.0, 60.0, 5.0]))
    assert found[0].tolist() == rule(20).tolist()
    assert found[1].tolist() == rule(60).tolist()
    assert found[2].tolist() == [-1, -1, -1]
    strata = jnp.array([0, 0, 1, 1, 7])
    drawn = jax.jit(debiased.sample_strata)(
        strata, jnp.array([1, 5]), uniforms=jnp.array([0.2, 0.1, 0.3, 0.4, 0.5])
    )
    assert drawn.tolist() == [False, True, True, True, False]
    prob = jnp.array([jnp.nan, 1.0])
    assert jax.jit(debiased.sample_labels)(prob, uniforms=jnp.zeros(2)).tolist() == [
        False,
        True,
    ]


def test_errors():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="`sampling_prob` must lie in"):
        debiased.sample_labels([0.5, 1.5], key=key)
    with pytest.raises(ValueError, match="`scheme` must be one of"):
        debiased.sample_labels([0.5], scheme="sampford", key=key)
    with pytest.raises(ValueError, match="pass `key="):
        debiased.sample_labels([0.5])
    with pytest.raises(ValueError, match="not both"):
        debiased.sample_labels([0.5], key=key, uniforms=[0.5])
    with pytest.raises(ValueError, match=r"have shape \(3,\)"):
        debiased.sample_labels([0.5, 0.5], scheme="systematic", uniforms=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"`strata` must lie in \[0, 2\)"):
        debiased.sample_strata([0, 2], [1, 1], key=key)
    with pytest.raises(ValueError, match=r"`counts\[1\]` must lie between 0 and the 1"):
        debiased.sample_strata([0, 1], [1, 2], key=key)
    with pytest.raises(ValueError, match="whole numbers"):
        debiased.sample_strata([0.5, 1.0], [1, 1], key=key)
    with pytest.raises(ValueError, match="`budget` must lie between 4"):
        debiased.neyman_allocation([5, 5], [1.0, 1.0], budget=3)
    with pytest.raises(ValueError, match="`budget` must lie between"):
        debiased.neyman_allocation([5, 5], [1.0, 1.0], budget=11)
    with pytest.raises(ValueError, match="`std_devs` is out of range"):
        debiased.neyman_allocation([5, 5], [1.0, -1.0], budget=5)

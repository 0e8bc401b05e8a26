import jax
import numpy as np
import pytest

from jaxcur import conformal


def chosen(mask) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def by_definition(p, sizes, level, beta, xi):
    m = len(p)
    first = [j for j in range(m) if p[j] <= beta * level * sizes[j] / m + 1e-12]
    best = 0
    for r in range(1, m + 1):
        if sum(beta * xi[j] * sizes[j] <= r + 1e-9 for j in first) >= r:
            best = r
    return [j for j in first if beta * xi[j] * sizes[j] <= best + 1e-9]


@pytest.mark.parametrize("beta", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("pruning", ["homogeneous", "heterogeneous", "deterministic"])
def test_pruning_equals_its_definition(pruning, beta):
    rng = np.random.default_rng(0)
    for _ in range(30):
        p = (rng.integers(1, 20, 17) / 20).astype(np.float32)
        sizes = rng.integers(1, 18, 17)
        xi = np.ones(17, np.float32)
        if pruning != "deterministic":
            xi = rng.uniform(size=17).astype(np.float32)
            xi = xi if pruning == "heterogeneous" else np.full_like(xi, xi[0])
        found = conformal.prune(p, sizes, level=0.5, pruning=pruning, beta=beta, xi=xi)
        assert chosen(found) == by_definition(p, sizes, 0.5, beta, xi)


def test_a_full_first_step_can_prune_to_nothing():
    sizes = np.asarray([3, 3])
    found = conformal.prune([0.1, 0.1], sizes, level=0.5, pruning="deterministic")
    assert chosen(found) == []


def test_draws_and_arguments_are_checked():
    p, sizes = [0.1, 0.2], np.asarray([1, 2])
    with pytest.raises(ValueError, match="homogeneous pruning is randomised"):
        conformal.prune(p, sizes, level=0.1, pruning="homogeneous")
    with pytest.raises(ValueError, match="not both"):
        conformal.prune(
            p, sizes, level=0.1, pruning="homogeneous", xi=0.5, key=jax.random.key(0)
        )
    with pytest.raises(ValueError, match="`pruning` must be one of"):
        conformal.prune(p, sizes, level=0.1, pruning="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`beta`"):
        conformal.prune(p, sizes, level=0.1, pruning="deterministic", beta=0.0)
    with pytest.raises(TypeError, match="`auxiliary_sizes` must be integers"):
        conformal.prune(p, [1.0, 2.0], level=0.1, pruning="deterministic")
    with pytest.raises(ValueError, match="same length"):
        conformal.prune(p, sizes[:1], level=0.1, pruning="deterministic")
    with pytest.raises(ValueError, match="at least 1"):
        conformal.prune(p, np.asarray([0, 1]), level=0.1, pruning="deterministic")


def test_level_zero_prunes_everything():
    found = conformal.prune([0.0], np.asarray([1]), level=0.0, pruning="deterministic")
    assert chosen(found) == []

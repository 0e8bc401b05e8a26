"""Ordered outcomes with a rare last class, from a known cumulative logit model."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

CENTER = 1.0
"""Mean of every feature: not zero, so that an intercept depends on slopes."""


class Draw(NamedTuple):
    """Features (n, p), classes (n,), and the parameters on the original scale."""

    X: Array
    y: Array
    intercepts: Array
    coefficients: Array

    def rare(self, points: Array | np.ndarray) -> Array:
        """P(last class | points)."""
        eta = self.intercepts[-1] + points @ self.coefficients[:, -1]
        return jax.nn.sigmoid(-eta)


@dataclasses.dataclass(frozen=True)
class World:
    """X uniform on CENTER -+ 1; P(y <= k | x) = sigmoid(center_k + (x - CENTER)'b_k).

    Attributes:
        rows: number of rows.
        center: (m,), the predictors at the center.
        coefficients: (p, m).
    """

    rows: int
    center: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]

    @property
    def num_classes(self) -> int:
        """One more than the boundaries."""
        return len(self.center) + 1

    @property
    def num_features(self) -> int:
        """Columns of X."""
        return len(self.coefficients)

    def draw(self, key: Array) -> Draw:
        """Rows and the truth behind them."""
        keys = [jax.random.fold_in(key, i) for i in range(2)]
        beta = jnp.asarray(self.coefficients, jnp.result_type(float))
        shape = (self.rows, self.num_features)
        X = jax.random.uniform(keys[0], shape, minval=-1.0, maxval=1.0)
        center = jnp.asarray(self.center, X.dtype)
        below = jax.nn.sigmoid(center + jnp.matmul(X, beta, precision="highest"))
        u = jax.random.uniform(keys[1], (self.rows, 1))
        y = jnp.sum(u > below, axis=1)
        return Draw(X + CENTER, y, center - CENTER * jnp.sum(beta, axis=0), beta)


# Two features whose effect changes at a boundary; at the corners of the support the
# least class probability is 0.018, and the last class has 9 % of the rows.
SLOPES = ((0.5, 0.5, 1.0), (0.0, -0.5, -0.5))
RARE = World(400, (0.0, 1.5, 2.5), SLOPES)
RARE_LARGE = dataclasses.replace(RARE, rows=1600)
BOOTSTRAP = dataclasses.replace(RARE, rows=500)
PROPORTIONAL = World(300, (0.0, 1.0, 2.0), ((0.5,) * 3, (-0.5,) * 3))
PROPORTIONAL_LARGE = dataclasses.replace(PROPORTIONAL, rows=1200)
# The effect of the first feature halves from boundary to boundary.
BROKEN = dataclasses.replace(PROPORTIONAL, coefficients=((1.2, 0.6, 0.3), (-0.5,) * 3))
# Three classes: a score test is cheap.
SMALL = World(200, (0.0, 1.0), ((0.5,) * 2, (-0.5,) * 2))
# Odds are proportional, and features matter: little shrinkage is right for the common
# coefficients, much for the differences.
TUNED = World(300, (0.0, 1.5, 2.5), ((1.0,) * 3, (-1.0,) * 3, (1.0,) * 3, (-1.0,) * 3))


def points(world: World) -> np.ndarray:
    """The center, a corner, and a point between: (3, p)."""
    p = world.num_features
    signs = (-1.0) ** np.arange(p)
    moves = np.stack([np.zeros(p), 0.5 * signs, np.full(p, 0.8)])
    return (CENTER + moves).astype(np.float32)

"""One person in thirty reaches the last stage: who?

Three ordered stages, simulated so that the truth is known. Three estimates of the
chance of the last stage: proportional odds, which lets the common stages speak for the
rare one; a fit with coefficients of its own for every boundary, which does not; and
PRESTO in between. Then the coefficients boundary by boundary, and intervals.

Run: python examples/rare_class.py
"""

import jax.numpy as jnp
import numpy as np

from jaxcur import ordinal

NUM_ROWS, NUM_CLASSES = 1000, 3
INTERCEPTS = np.array([0.0, 4.0])
# A column for each boundary; positive moves probability to LOWER stages. The third
# feature speaks at the last boundary only, the others at both or nowhere.
COEFFICIENTS = np.array(
    [[-0.8, -0.8], [0.8, 0.8], [0.0, -0.8], [-0.4, -0.4], [0.0, 0.0], [0.0, 0.0]]
)
STRENGTHS = 0.04 * 0.5 ** np.arange(6)


def simulate(rng):
    """Features, stages, and the true chance of the last stage."""
    features = rng.uniform(-1.5, 1.5, size=(NUM_ROWS, len(COEFFICIENTS)))
    predictors = INTERCEPTS + features @ COEFFICIENTS
    stages = (rng.logistic(size=(NUM_ROWS, 1)) > predictors).sum(axis=1)
    return features, stages, 1 / (1 + np.exp(predictors[:, -1]))


def choose(features, stages):
    """The strength that predicts every third row best from the others.

    `ordinal.cross_validate` does this with folds and in one program.
    """
    held = np.arange(NUM_ROWS) % 3 == 0
    errors = []
    for strength in STRENGTHS:
        result = ordinal.fit(
            features,
            stages,
            num_classes=NUM_CLASSES,
            regularization=strength,
            weights=(~held).astype(float),
        )
        probs = ordinal.predict_proba(result, features)[held]
        truth = stages[held, None] == np.arange(NUM_CLASSES)
        errors.append(float(jnp.mean(jnp.sum((probs - truth) ** 2, axis=1))))
    return STRENGTHS[int(np.argmin(errors))]


def main():
    features, stages, truth = simulate(np.random.default_rng(3))
    print(f"people in each stage: {np.bincount(stages).tolist()}")
    strength = choose(features, stages)

    def fit(penalty, regularization):
        return ordinal.fit(
            features,
            stages,
            num_classes=NUM_CLASSES,
            penalty=penalty,
            regularization=regularization,
        )

    fits = {
        "each boundary on its own": fit(ordinal.Presto(), 0.0),
        # An enormous price of differences, and of nothing else.
        "proportional odds": fit(ordinal.Presto(first=0.0), 10.0),
        "PRESTO": fit(ordinal.Presto(), strength),
    }
    print("mean squared error of the chance of the last stage, in units of 0.00001")
    for name, result in fits.items():
        chance = ordinal.predict_proba(result, features)[:, -1]
        print(f"  {name}: {1e5 * jnp.mean((chance - truth) ** 2):.1f}")

    print("odds ratios of PRESTO for higher stages, at the two boundaries")
    for low, high in ordinal.odds_ratios(fits["PRESTO"]):
        print(f"  {low:.2f} {high:.2f}")

    people = np.array([[-1, 1, -1, 0, 0, 0], [1, -1, 1, 0, 0, 0]])
    found = ordinal.debiased_intervals(
        features,
        stages,
        num_classes=NUM_CLASSES,
        regularization=strength,
        points=people,
    )
    for person, (low, high) in zip(people, found.rare_interval):
        chance = 1 / (1 + np.exp(INTERCEPTS[-1] + person @ COEFFICIENTS[:, -1]))
        print(f"true chance {chance:.2%}, 95% interval {low:.2%} to {high:.2%}")


if __name__ == "__main__":
    main()

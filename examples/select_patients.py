"""Which new patients have progressed beyond 140, if one call in ten may be wrong?

442 diabetes patients, a ridge regression, conformal selection. The labels of the
candidates are hidden from the selection and used afterwards to count its errors, once
on one split and then on a thousand, because the promise is about the average.

Run: python examples/select_patients.py        (needs the extra `sklearn`)
"""

import jax
import jax.numpy as jnp

from jaxcur import conformal, data, learners

THRESHOLD, LEVEL = 140.0, 0.1
NUM_TRAIN, NUM_CALIBRATION = 142, 150


def split(key, features, progression):
    """Predictions and labels of calibration rows and candidates, after one shuffle."""
    order = jax.random.permutation(key, len(progression))
    train = order[:NUM_TRAIN]
    calibration = order[NUM_TRAIN : NUM_TRAIN + NUM_CALIBRATION]
    candidates = order[NUM_TRAIN + NUM_CALIBRATION :]
    ridge = learners.Ridge(10.0)
    params = ridge.fit(features[train], progression[train])
    predictions = ridge.predict(params, features)
    known = predictions[calibration], progression[calibration]
    unknown = predictions[candidates], progression[candidates]
    return known, unknown


def select(known, predictions):
    """Conformal selection of the candidates with these predictions."""
    score = conformal.ClipScore()
    return conformal.select(
        score.calibration(*known, THRESHOLD),
        score.test(predictions, THRESHOLD),
        level=LEVEL,
    ).selected


def errors(selected, truth):
    """Share of wrong calls, and share of the progressed patients that are found."""
    progressed = truth > THRESHOLD
    wrong = (selected & ~progressed).sum() / jnp.maximum(selected.sum(), 1)
    found = (selected & progressed).sum() / progressed.sum()
    return wrong, found


def main():
    patients = data.load_diabetes()
    features = jnp.asarray(patients.features, jnp.float32)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    progression = jnp.asarray(patients.progression, jnp.float32)

    (known, (predictions, truth)) = split(jax.random.key(0), features, progression)
    chosen, naive = select(known, predictions), predictions > THRESHOLD
    print(f"one split: {len(known[0])} calibration rows, {len(truth)} candidates")
    for name, selected in (("conformal", chosen), ("naive cut", naive)):
        wrong, found = errors(selected, truth)
        print(
            f"  {name}: {int(selected.sum()):3d} selected, "
            f"{wrong:.0%} of them wrong, {found:.0%} of the progressed found"
        )

    @jax.jit
    @jax.vmap
    def repeat(key):
        known, (predictions, truth) = split(key, features, progression)
        return (
            errors(select(known, predictions), truth),
            errors(predictions > THRESHOLD, truth),
        )

    keys = jax.random.split(jax.random.key(0), 1_000)
    print("mean over 1000 splits")
    for name, (wrong, found) in zip(("conformal", "naive cut"), repeat(keys)):
        half = 1.96 * wrong.std() / len(wrong) ** 0.5
        print(
            f"  {name}: {wrong.mean():.1%} +- {half:.1%} wrong, "
            f"{found.mean():.1%} of the progressed found"
        )


if __name__ == "__main__":
    main()

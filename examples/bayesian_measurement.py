"""When does a model of the machine's errors help, and when does it mislead?

Every row has a machine label that is right nine times in ten; one row in seven also has
a gold label, drawn at random. Two analyses of the same logistic regression: a Bayesian
measurement model, which assumes that the machine errs at one rate for each true class,
and the debiased estimator, which assumes nothing about the machine. In the first world
the assumption holds; in the second the machine leans on the covariate.

Run: python examples/bayesian_measurement.py
"""

import jax
import jax.numpy as jnp

from jaxcur import debiased

NUM_ROWS, NUM_REPEATS = 1000, 8
SLOPE, SHARE = 1.0, 0.15


def draw(key, lean):
    """One data set: covariates, labels, machine labels, who has a gold label."""
    keys = jax.random.split(key, 4)
    x = jax.random.normal(keys[0], (NUM_ROWS,))
    y = jax.random.bernoulli(keys[1], jax.nn.sigmoid(-0.5 + SLOPE * x))
    says_one = jax.nn.sigmoid(jnp.where(y, 2.0, -2.0) + lean * x)
    machine = jax.random.bernoulli(keys[2], says_one)
    labeled = jax.random.bernoulli(keys[3], SHARE, (NUM_ROWS,))
    X = jnp.stack([jnp.ones(NUM_ROWS), x], axis=1)
    return X, y.astype(float), machine.astype(float), labeled


def summary(interval):
    """Whether an interval holds the truth, its width and its middle."""
    low, high = interval
    return jnp.stack([(low <= SLOPE) & (SLOPE <= high), high - low, (low + high) / 2])


@jax.jit
def analyse(key, lean):
    """Both intervals for the slope in one data set."""
    key_data, key_chain = jax.random.split(key)
    X, y, machine, labeled = draw(key_data, lean)
    model = debiased.bayesian_measurement_model(
        X,
        y,
        y_predicted=machine,
        labeled=labeled,
        num_warmup=150,
        num_samples=250,
        key=key_chain,
    )
    design = debiased.logistic(
        X, y, y_predicted=machine, labeled=labeled, sampling_prob=SHARE
    )
    return summary(model.interval()[1]), summary(design.conf_int()[1])


def main():
    worlds = {"errors at one rate per class": 0.0, "a machine that leans on x": 1.0}
    for name, lean in worlds.items():
        keys = jax.random.split(jax.random.key(0), NUM_REPEATS)
        repeats = [analyse(key, lean) for key in keys]
        print(f"{name}: 95% intervals for a slope of {SLOPE}, {NUM_REPEATS} data sets")
        for method, rows in zip(("model", "debiased"), zip(*repeats)):
            rows = jnp.stack(rows)
            covered = int(rows[:, 0].sum())
            _, width, middle = rows.mean(axis=0)
            print(
                f"  {method:8}: {covered} cover, mean width {width:.2f}, "
                f"mean centre {middle:.2f}"
            )


if __name__ == "__main__":
    main()

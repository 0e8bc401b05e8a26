"""Can the probabilities of this classifier be taken at their word?

Handwritten digits and a naive Bayes classifier, which takes neighbouring pixels for
independent and is therefore too sure of itself. Its forecasts for images that it has
not seen: the calibration error with an interval, an exact test, a repair, and the test
again on images that neither the classifier nor the repair has seen.

Run: python examples/calibrate_classifier.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB

from jaxcur import calibration


def split(seed):
    """Images that fit, images that repair, images that judge."""
    features, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    return [(features[rows], labels[rows]) for rows in np.split(order, [718, 1257])]


def report(name, probs, labels):
    """What the images say about the forecasts of the class that is answered."""
    key_interval, key_test = jax.random.split(jax.random.key(1))
    sure = probs.max(axis=1)
    right = (probs.argmax(axis=1) == labels).astype(int)
    error = calibration.confidence_interval(
        calibration.expected_calibration_error, sure, right, key=key_interval
    )
    test = calibration.spiegelhalter_test(sure, right, key=key_test)
    print(name)
    print(f"  sure {sure.mean():.1%}, right {right.mean():.1%}")
    print(
        f"  calibration error {error.estimate:.3f}, "
        f"95% interval {error.lower:.3f} to {error.upper:.3f}"
    )
    print(f"  log loss {calibration.log_loss(probs, labels):.3f}")
    print(f"  calibrated? p-value {test.p_value:.3f} (0.001 is the smallest possible)")


def main():
    (train, train_labels), (repair, repair_labels), (judge, labels) = split(2)
    model = GaussianNB(var_smoothing=1e-3).fit(train, train_labels)

    def logits(features):
        return jnp.log(jnp.clip(model.predict_proba(features), 1e-12, 1))

    report("as it is", model.predict_proba(judge), labels)
    scaled = calibration.fit_temperature(logits(repair), repair_labels)
    print(f"temperature learnt from {len(repair)} images: {scaled.temperature:.2f}")
    report("repaired", scaled(logits(judge)), labels)


if __name__ == "__main__":
    main()

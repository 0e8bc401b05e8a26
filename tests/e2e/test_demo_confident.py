"""The chapter on a confident classifier: its repairs, its test, what it concludes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.cli.demo.chapters import _confident_study as study


@pytest.fixture(scope="module")
def splits():
    return study.study(11, 40)


def test_confidence_is_refuted_before_the_repair_and_seldom_after(splits):
    judged = splits.judged
    gap = judged.confidence - judged.accuracy
    assert (gap[:, study.AS_IS] > 0.02).all()
    assert (judged.p_value[:, study.AS_IS] == 0.001).mean() > 0.9
    rejected = judged.p_value[:, study.TEMPERATURE] <= 0.05
    assert rejected.mean() < 0.4
    assert abs(gap[:, study.TEMPERATURE].mean()) < 0.02
    gain = judged.log_loss[:, study.AS_IS] - judged.log_loss[:, study.TEMPERATURE]
    assert (gain > 0.02).all()


def test_a_temperature_changes_no_answer(splits):
    answers = splits.probs > 0.5
    assert (answers[:, study.AS_IS] == answers[:, study.TEMPERATURE]).all()
    assert (splits.temperature > 1).all()
    # An increasing curve changes no order; float32 rounds some forecasts to one.
    raw, _, curve = splits.probs[0]
    assert (np.diff(curve[np.lexsort((curve, raw))]) >= 0).all()


def test_the_test_keeps_its_level_where_outcomes_follow_the_forecast():
    probs = jnp.asarray(np.random.default_rng(0).random(797), jnp.float32)
    labels = jnp.zeros(797, jnp.int32)
    keys = jax.random.split(jax.random.key(1), 200)
    found = [study.judge(probs, labels, key) for key in keys]
    # Four standard errors of 200 samples.
    rejected = np.mean([one.null_p_value <= 0.05 for one in found])
    assert rejected < 0.05 + 4 * 0.0154
    assert all(one.p_value <= 0.05 for one in found)

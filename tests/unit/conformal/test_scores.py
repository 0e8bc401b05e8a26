import numpy as np
import pytest

from jaxcur import conformal


def test_clip_score_with_and_without_a_bound():
    mu, y = np.asarray([0.5, 0.2, 1.0]), np.asarray([2.0, 0.0, 1.0])
    c = np.asarray([1.0, 1.0, 1.0])
    assert np.asarray(conformal.ClipScore().calibration(mu, y, c)).tolist() == [
        np.inf,
        pytest.approx(0.8),
        0.0,
    ]
    finite = conformal.ClipScore(10.0).calibration(mu, y, c)
    np.testing.assert_allclose(finite, [9.5, 0.8, 0.0], rtol=1e-6)
    np.testing.assert_allclose(conformal.ClipScore().test(mu, c), 1 - mu, rtol=1e-6)


def test_a_label_at_the_threshold_is_null():
    assert float(conformal.BinaryScore().calibration([0.3], [1.0], 1.0)[0]) < 0
    assert float(conformal.ClipScore().calibration([0.3], [1.0], 1.0)[0]) < 1
    assert conformal.RelevantScore().calibration([0.3], [1.0], 1.0).shape == (1,)


def test_per_instance_thresholds():
    scores = conformal.ClipScore().test([1.0, 1.0], [2.0, 3.0])
    assert np.asarray(scores).tolist() == [1.0, 2.0]
    mixed = conformal.ClipScore().calibration([0.0, 0.0], [2.5, 2.5], [2.0, 3.0])
    assert np.asarray(mixed).tolist() == [np.inf, 3.0]


@pytest.mark.parametrize("score", [conformal.ClipScore(), conformal.BinaryScore()])
def test_shapes_and_bounds_are_checked(score):
    with pytest.raises(
        ValueError, match=r"`labels` must be a scalar or have the shape"
    ):
        score.calibration(np.zeros(3), np.zeros(2), 0.0)
    with pytest.raises(ValueError, match="`thresholds`"):
        score.test(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="`bound` must be positive"):
        type(score)(0.0)
    with pytest.raises(ValueError, match="`bound` must be positive"):
        type(score)(float("nan"))


def test_scaled_residual():
    score = conformal.ScaledResidualScore()
    found = score.calibration([1.0], [3.0], 0.0, [4.0])
    assert np.asarray(found).tolist() == [0.5]

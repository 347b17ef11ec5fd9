import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from intel_scenes.models.scores import fitted_temperature, scores
from intel_scenes.probabilities import Probabilities, at_temperature


def drawn(num_images: int, num_classes: int) -> tuple[Probabilities, np.ndarray]:
    generator = np.random.default_rng(0)
    found = generator.dirichlet(np.ones(num_classes), num_images)
    return found, generator.integers(num_classes, size=num_images)


@pytest.mark.parametrize("num_classes", [2, 6])
def test_scores_are_scikit_learns(num_classes: int) -> None:
    found, labels = drawn(200, num_classes)
    predicted, result = found.argmax(1), scores(found, labels)
    matrix = confusion_matrix(labels, predicted)
    assert result.accuracy == accuracy_score(labels, predicted)
    assert result.loss == pytest.approx(log_loss(labels, found))
    assert result.confusion == matrix.tolist()
    assert result.accuracy_per_class == pytest.approx(matrix.diagonal() / matrix.sum(1))


def test_93_of_100_have_wilsons_interval() -> None:
    found = np.tile([0.9, 0.1], (100, 1))
    result = scores(found, np.array([0] * 93 + [1] * 7))
    # Wilson 1927: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.959964
    p, n, z2 = 0.93, 100, 3.841459
    middle, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    by_hand = ((middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n))
    assert by_hand == pytest.approx((0.8625, 0.9657), abs=1e-4)
    assert result.interval == pytest.approx(by_hand, abs=1e-6)


def test_the_interval_of_a_perfect_score_ends_at_one_and_begins_below() -> None:
    low, high = scores(np.tile([0.9, 0.1], (20, 1)), np.zeros(20, dtype=np.int64)).interval
    assert high == 1.0
    assert low == pytest.approx(20 / (20 + 3.841459))  # n / (n + z^2)


def test_the_calibration_error_is_the_weighted_gap_of_fifteen_bins() -> None:
    confidence = np.array([0.9, 0.9, 0.68, 0.72, 0.55])
    found = np.stack([confidence, 1 - confidence], 1)
    labels = np.array([0, 1, 0, 1, 1])
    # 0.867..0.933: |0.5 - 0.9| of 2; 0.667..0.733: |0.5 - 0.7| of 2; 0.533..0.6: |0 - 0.55| of 1
    assert scores(found, labels).ece == pytest.approx((2 * 0.4 + 2 * 0.2 + 0.55) / 5)


def test_a_class_without_images_has_no_accuracy_but_its_row_and_column() -> None:
    found = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
    result = scores(found, np.array([0, 1]))
    assert result.accuracy_per_class == [1.0, 0.0, None]
    assert result.confusion == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_the_loss_of_a_certain_error_is_finite() -> None:
    result = scores(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    assert result.loss == pytest.approx(-math.log(np.finfo(float).tiny) / 2)


def test_a_known_temperature_is_recovered_and_changes_no_prediction() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 4))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in true])
    too_sure = true**3 / (true**3).sum(1, keepdims=True)  # logits times three
    found = fitted_temperature(too_sure, labels)
    assert found == pytest.approx(3, rel=0.05)
    calmed = at_temperature(too_sure, found)
    assert np.array_equal(calmed.argmax(1), too_sure.argmax(1))
    assert log_loss(labels, calmed) < log_loss(labels, too_sure)
    assert scores(calmed, labels).ece < 0.02 < scores(too_sure, labels).ece
    np.testing.assert_allclose(at_temperature(too_sure, 3.0), true, rtol=1e-9)


@pytest.mark.parametrize("sure", [0.6, 0.9, 0.9999])
@pytest.mark.parametrize("num_classes", [2, 6])
def test_if_all_of_30_images_are_correct_the_target_is_31_of_32(sure: float, num_classes: int) -> None:
    labels = np.arange(30) % num_classes
    predicted = np.full((30, num_classes), (1 - sure) / (num_classes - 1))
    predicted[np.arange(30), labels] = sure
    found = fitted_temperature(predicted, labels)
    # Platt 1999: (30 + 1) / (30 + 2); the odds against each other class are `before`, and to the power of 1 / T `after`
    before, after = (odds * (num_classes - 1) for odds in (sure / (1 - sure), 31))
    assert found == pytest.approx(math.log(before) / math.log(after), rel=1e-4)


def test_a_perfect_validation_set_makes_no_prediction_overconfident() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(6, size=2_000)
    logits = generator.normal(size=(2_000, 6)) + 5 * np.eye(6)[labels]
    predicted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = predicted.argmax(1) == labels
    val = np.flatnonzero(right)[:30]
    test = np.setdiff1d(np.arange(2_000), val)
    found = fitted_temperature(predicted[val], labels[val])
    assert 0.5 < found < 2
    before, after = (log_loss(labels[test], at_temperature(predicted[test], t)) for t in (1, found))
    assert not right.all()
    assert after < before + 0.05


def test_the_regularization_of_the_temperature_vanishes_with_many_images() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(6, size=3_000)
    logits = 2 * (generator.normal(size=(3_000, 6)) + 2 * np.eye(6)[labels])
    predicted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    plain = minimize_scalar(
        lambda t: log_loss(labels, predicted ** (1 / t) / (predicted ** (1 / t)).sum(1, keepdims=True)),
        bounds=(0.1, 10),
        method="bounded",
    ).x
    assert fitted_temperature(predicted, labels) == pytest.approx(plain, rel=0.005)

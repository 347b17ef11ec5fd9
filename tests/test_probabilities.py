import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, log_loss

from intel_scenes.probabilities import (
    at_temperature,
    balanced_accuracy,
    confusion_of,
    cross_entropies,
    macro_f1,
)


def test_cross_entropies_have_scikit_learns_mean() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    labels = np.arange(50) % 3
    expected = log_loss(labels, probabilities, labels=range(3))
    assert cross_entropies(probabilities, labels).mean() == pytest.approx(expected, rel=1e-12)


def test_a_temperature_divides_the_logits() -> None:
    """By hand: of 4 to 1, half the logits leave 2 to 1."""
    found = at_temperature(np.array([[0.8, 0.2]]), 2.0)
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]], rtol=1e-12)


def test_balanced_accuracy_and_macro_f1_are_scikit_learns() -> None:
    generator = np.random.default_rng(3)
    labels = generator.choice(6, 200, p=[0.5, 0.3, 0.1, 0.05, 0.04, 0.01])
    predicted = np.where(generator.random(200) < 0.6, labels, generator.integers(6, size=200))
    matrix = confusion_of(predicted, labels)
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, predicted))
    assert balanced_accuracy(matrix) == pytest.approx(balanced_accuracy_score(labels, predicted), rel=1e-12)
    assert macro_f1(matrix) == pytest.approx(f1_score(labels, predicted, average="macro"), rel=1e-12)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_a_class_without_images_counts_in_the_f1_alone_where_it_is_predicted() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    matrix = confusion_matrix(labels, predicted, labels=range(4))  # nobody names class 3
    assert balanced_accuracy(matrix) == balanced_accuracy_score(labels, predicted) == 0.75
    assert macro_f1(matrix) == pytest.approx(f1_score(labels, predicted, average="macro"), rel=1e-12)

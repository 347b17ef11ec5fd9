import numpy as np
import pytest
from sklearn.metrics import log_loss

from intel_scenes.probabilities import at_temperature, cross_entropies


def test_cross_entropies_have_scikit_learns_mean() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    labels = np.arange(50) % 3
    expected = log_loss(labels, probabilities, labels=range(3))
    assert cross_entropies(probabilities, labels).mean() == pytest.approx(expected, rel=1e-12)


def test_a_temperature_divides_the_logits() -> None:
    """By hand: of 4 to 1, half the logits leave 2 to 1."""
    found = at_temperature(np.array([[0.8, 0.2]]), 2.0)
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]], rtol=1e-12)

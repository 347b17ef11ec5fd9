import numpy as np
import pytest
from torch import from_numpy
from torchmetrics.functional.classification import multiclass_calibration_error

from intel_scenes.inference.reliability import reliability


def test_bins_give_the_calibration_error() -> None:
    generator = np.random.default_rng(0)
    predicted = generator.dirichlet([0.3] * 4, 500)
    labels = np.array([generator.choice(4, p=row) for row in predicted])
    bins = reliability(predicted, labels)
    assert sum(one.num_images for one in bins) == 500
    gaps = [one.num_images / 500 * abs(one.accuracy - one.confidence) for one in bins if one.num_images]
    expected = multiclass_calibration_error(from_numpy(predicted), from_numpy(labels), 4, n_bins=15)
    assert sum(gaps) == pytest.approx(float(expected), abs=1e-6)  # of float32


def test_an_empty_bin_has_no_scores_and_probability_one_is_in_the_last_bin() -> None:
    bins = reliability(np.array([[1.0, 0.0], [0.4, 0.6]]), np.array([0, 0]))
    assert (bins[-1].num_images, bins[-1].accuracy) == (1, 1)
    assert (bins[9].num_images, bins[9].confidence, bins[9].accuracy) == (1, 0.6, 0)
    assert (bins[0].confidence, bins[0].accuracy, bins[0].interval) == (None, None, None)

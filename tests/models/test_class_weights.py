import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from intel_scenes.models.class_weights import class_weights

LABELS = np.repeat([0, 1, 2], [90, 9, 1])


def test_a_power_of_one_gives_scikit_learns_balanced_weights() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert class_weights(LABELS, 3, 1).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("power", [0.25, 0.5, 1])
def test_weights_go_with_a_power_of_the_inverse_frequency_and_have_a_mean_of_one_over_images(power: float) -> None:
    weights = class_weights(LABELS, 3, power).double().numpy()
    assert weights[1] / weights[0] == pytest.approx(10**power)
    assert weights[LABELS].mean() == pytest.approx(1)


def test_without_a_power_there_are_no_weights() -> None:
    assert class_weights(LABELS, 3, 0.0) is None


def test_a_class_without_images_is_weighted_like_a_class_with_one() -> None:
    weights = class_weights(LABELS, 4, 1)
    assert weights[3] == weights[2]

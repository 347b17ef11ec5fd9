import pytest
from torch import nn

from intel_scenes.runs.evaluation import warn_of_late_statistics


@pytest.mark.parametrize(
    ("network", "training", "evaluating", "warns"),
    [
        (nn.BatchNorm2d(3, momentum=0.01), 0.47, 0.17, True),
        (nn.BatchNorm2d(3, momentum=0.01), 0.47, 0.40, False),
        (nn.BatchNorm2d(3, momentum=0.01), 0.47, 0.60, False),  # as usual: augmented images are harder
        (nn.BatchNorm2d(3), 0.47, 0.17, False),
        (nn.BatchNorm2d(3, momentum=None), 0.47, 0.17, False),
        (nn.LayerNorm(3), 0.47, 0.17, False),
    ],
)
def test_statistics_that_lag_behind_the_weights_are_told(caplog, network, training, evaluating, warns):
    with caplog.at_level("WARNING"):
        warn_of_late_statistics(network, {"train_accuracy": training, "train_eval_accuracy": evaluating})
    said = "47 % of the training images were right while training, but 17 % in evaluation mode"
    assert (said in caplog.text) == warns
    assert bool(caplog.text) == warns

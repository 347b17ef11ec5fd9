import pytest
from torch import nn

from intel_scenes.record import Epoch
from intel_scenes.training.evaluation import warn_of_other_results


def epoch(training: float, evaluating: float) -> Epoch:
    """An epoch with these accuracies on training images, while training and in evaluation mode."""
    return Epoch(
        epoch=0,
        step=1,
        lr=0.1,
        train_loss=1.0,
        train_accuracy=training,
        train_eval_accuracy=evaluating,
        val_loss=1.0,
        val_accuracy=0.5,
        images_per_second=1.0,
    )


@pytest.mark.parametrize(
    ("network", "training", "evaluating", "cause"),
    [
        (nn.BatchNorm2d(3, momentum=0.01), 0.47, 0.17, "BatchNorm momentum is 0.01"),
        (nn.BatchNorm2d(3, momentum=0.01), 0.47, 0.40, None),
        (nn.BatchNorm2d(3, momentum=0.01), 0.47, 0.60, None),  # as usual: augmented images are harder
        (nn.BatchNorm2d(3), 0.47, 0.17, "BatchNorm statistics or the average of the weights"),
        (nn.BatchNorm2d(3, momentum=None), 0.47, 0.17, "BatchNorm statistics or the average of the weights"),
        (nn.LayerNorm(3), 0.47, 0.17, "the average of the weights"),
        (nn.LayerNorm(3), 0.47, 0.28, None),
    ],
)
def test_evaluation_far_below_training_is_told_with_its_cause(caplog, network, training, evaluating, cause):
    with caplog.at_level("WARNING"):
        warn_of_other_results(network, [epoch(training, evaluating)] * 2)
    if cause is None:
        assert caplog.text == ""
    else:
        (said,) = caplog.messages
        assert said.startswith("training accuracy was 47 %, but in evaluation mode it is 17 % on training images")
        assert cause in said


@pytest.mark.parametrize("order", [1, -1])
def test_the_epoch_with_the_widest_difference_is_told(caplog, order):
    guesses = epoch(0.16, 0.17)  # the best epoch, where no later one guesses better
    lags = epoch(0.41, 0.17)
    with caplog.at_level("WARNING"):
        warn_of_other_results(nn.BatchNorm2d(3, momentum=0.01), [guesses, lags][::order])
    assert caplog.text.count("training accuracy was 41 %, but in evaluation mode it is 17 %") == 1

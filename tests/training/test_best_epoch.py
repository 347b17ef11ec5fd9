import pytest
from torch import nn

from intel_scenes.record import Epoch
from intel_scenes.training.best_epoch import warn_of_evaluation_gap


def epoch(training: float, evaluating: float) -> Epoch:
    """Return an epoch with these accuracies on training images, while training and in evaluation mode."""
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
        (nn.BatchNorm2d(3, momentum=0.01), 0.47, 0.60, None),  # usual, because augmented images are harder
        (nn.BatchNorm2d(3), 0.47, 0.17, "BatchNorm statistics or the average of the weights"),
        (nn.BatchNorm2d(3, momentum=None), 0.47, 0.17, "BatchNorm statistics or the average of the weights"),
        (nn.LayerNorm(3), 0.47, 0.17, "the average of the weights"),
        (nn.LayerNorm(3), 0.47, 0.28, None),
    ],
)
def test_a_large_gap_between_training_and_evaluation_mode_is_reported_with_its_cause(
    caplog, network, training, evaluating, cause
):
    with caplog.at_level("WARNING"):
        warn_of_evaluation_gap(network, [epoch(training, evaluating)] * 2)
    if cause is None:
        assert caplog.text == ""
    else:
        (message,) = caplog.messages
        assert message.startswith(
            "accuracy on training images was 47 % while training, but is 17 % in evaluation mode: "
        )
        assert cause in message


@pytest.mark.parametrize("order", [1, -1])
def test_the_epoch_with_the_largest_gap_is_reported(caplog, order):
    guesses = epoch(0.16, 0.17)  # the best epoch if no later one is above chance
    lags = epoch(0.41, 0.17)
    with caplog.at_level("WARNING"):
        warn_of_evaluation_gap(nn.BatchNorm2d(3, momentum=0.01), [guesses, lags][::order])
    assert caplog.text.count("was 41 % while training, but is 17 % in evaluation mode") == 1

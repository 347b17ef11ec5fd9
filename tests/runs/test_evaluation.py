import csv

import pytest
from torch import nn

from intel_scenes import record
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
        warn_of_late_statistics(network, [{"train_accuracy": training, "train_eval_accuracy": evaluating}] * 2)
    said = "47 % of the training images were right while training, but 17 % in evaluation mode"
    assert (said in caplog.text) == warns
    assert bool(caplog.text) == warns


@pytest.mark.parametrize("order", [1, -1])
def test_the_epoch_whose_statistics_lag_most_is_told(caplog, order):
    guesses = {"train_accuracy": 0.16, "train_eval_accuracy": 0.17}  # the best epoch, where no later one guesses better
    lags = {"train_accuracy": 0.41, "train_eval_accuracy": 0.17}
    with caplog.at_level("WARNING"):
        warn_of_late_statistics(nn.BatchNorm2d(3, momentum=0.01), [guesses, lags][::order])
    assert caplog.text.count("41 % of the training images were right while training, but 17 % in") == 1


@pytest.mark.parametrize("views", [1, "flip_crops"])
def test_validation_is_recorded_with_the_test_time_augmentation_of_test(run, tmp_path, views):
    summary = run("model=resnet9_x0_5", "epochs=4", f"recipe.views={views}")
    with (tmp_path / "run" / record.PREDICTIONS).open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    right = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
    assert summary["val_accuracy_tta"] == pytest.approx(right)
    with (tmp_path / "run" / record.HISTORY).open() as file:
        assert summary["val_accuracy"] == max(float(row["val_accuracy"]) for row in csv.DictReader(file))
    if views == 1:
        assert summary["val_accuracy_tta"] == pytest.approx(summary["val_accuracy"])

"""How right and how well calibrated predictions are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from intel_scenes.probabilities import Labels, Probabilities, at_temperature, cross_entropies


def fitted_temperature(predicted: Probabilities, labels: Labels) -> float:
    """The temperature under which (N, C) probabilities have the least cross entropy (Guo et al. 2017), regularized.

    Above 1 they were too sure. To be fitted on images that did not train the network, nor test it.

    Where all N images are right, the plain cross entropy falls with the temperature without end. So the target is
    (N + 1) / (N + 2) for the label instead of 1: the posterior mean of Platt, "Probabilistic Outputs for Support Vector
    Machines", 1999, as if there were one image more on each side. The other classes share the rest as the network would
    have it: in equal parts it would also punish that some classes are told apart well, which is no lack of calibration.
    """
    num_images = len(labels)
    is_label = np.arange(predicted.shape[1]) == labels[:, None]
    others = np.where(is_label, 0, predicted.clip(np.finfo(np.float64).tiny))
    rest = 1 / (num_images + 2)
    targets = np.where(is_label, 1 - rest, rest * others / others.sum(1, keepdims=True))

    def loss(log_temperature: float) -> float:
        calibrated = at_temperature(predicted, math.exp(log_temperature)).clip(np.finfo(np.float64).tiny)
        return -float((targets * np.log(calibrated)).sum(1).mean())

    return math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)


@dataclass(frozen=True)
class Scores:
    """How right predictions are.

    Attributes:
        accuracy: Share of right predictions.
        loss: Mean cross entropy.
        interval: 95 % Wilson interval of the accuracy over images.
        ece: Expected calibration error, 15 bins (Guo et al. 2017).
        accuracy_per_class: Share of right predictions among the images of each class, None for a class without any.
        confusion: (C, C) counts, rows the true and columns the predicted classes.
    """

    accuracy: float
    loss: float
    interval: tuple[float, float]
    ece: float
    accuracy_per_class: list[float | None]
    confusion: list[list[int]]


def scores(predicted: Probabilities, labels: Labels) -> Scores:
    """Scores of (N, C) probabilities against (N,) labels."""
    found, true = torch.from_numpy(predicted), torch.from_numpy(labels)
    num_classes = found.shape[1]
    confusion = multiclass_confusion_matrix(found, true, num_classes)
    num_right = int(confusion.trace())
    interval = binomtest(num_right, len(labels)).proportion_ci(method="wilson")
    per_class = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), strict=True)
    return Scores(
        accuracy=num_right / len(labels),
        loss=float(cross_entropies(predicted, labels).mean()),
        interval=(float(interval.low), float(interval.high)),
        ece=float(multiclass_calibration_error(found, true, num_classes, n_bins=15)),
        accuracy_per_class=[right / total if total else None for right, total in per_class],
        confusion=confusion.tolist(),
    )


@dataclass(frozen=True, kw_only=True)
class TestResults:
    """How right and how well calibrated predictions of the test images are, under the keys of `summary.json`."""

    __test__ = False  # a name like this is no test

    test_accuracy: float
    test_loss: float
    test_accuracy_interval: tuple[float, float]
    test_ece: float
    temperature: float
    test_loss_calibrated: float
    test_ece_calibrated: float


def calibrated_results(predicted: Mapping[str, Probabilities], labels: Mapping[str, Labels]) -> TestResults:
    """Scores of the test images, as predicted and at the temperature that fits the validation images best.

    Args:
        predicted: Probabilities of "val", which choose the temperature, and of "test".
        labels: Of both.
    """
    temperature = fitted_temperature(predicted["val"], labels["val"])
    test = scores(predicted["test"], labels["test"])
    calibrated = scores(at_temperature(predicted["test"], temperature), labels["test"])
    return TestResults(
        test_accuracy=test.accuracy,
        test_loss=test.loss,
        test_accuracy_interval=test.interval,
        test_ece=test.ece,
        temperature=temperature,
        test_loss_calibrated=calibrated.loss,
        test_ece_calibrated=calibrated.ece,
    )

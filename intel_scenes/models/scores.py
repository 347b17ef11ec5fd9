"""Accuracy and calibration of predictions."""

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
    """Return the temperature that minimizes the cross entropy of (N, C) probabilities (Guo et al. 2017), regularized.

    A temperature above 1 means that the network was overconfident. Fit it on images that neither trained nor test the
    network.

    If all N predictions are correct, the plain cross entropy has no minimum: it falls as the temperature approaches 0.
    The target of the label is therefore (N + 1) / (N + 2) instead of 1, the posterior mean of Platt, "Probabilistic
    Outputs for Support Vector Machines", 1999. The rest is spread over the other classes in proportion to their
    predicted probabilities; equal parts would also penalize that the network ranks them, which is no miscalibration.
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
    """Accuracy, loss and calibration of predictions.

    Attributes:
        accuracy: Share of correct predictions.
        loss: Mean cross entropy.
        interval: 95 % Wilson interval of the accuracy over images.
        ece: Expected calibration error, 15 bins (Guo et al. 2017).
        accuracy_per_class: Share of correct predictions among the images of each class; None if it has no images.
        confusion: (C, C) counts, rows the true and columns the predicted classes.
    """

    accuracy: float
    loss: float
    interval: tuple[float, float]
    ece: float
    accuracy_per_class: list[float | None]
    confusion: list[list[int]]


def scores(predicted: Probabilities, labels: Labels) -> Scores:
    """Score (N, C) probabilities against (N,) labels."""
    probabilities, true = torch.from_numpy(predicted), torch.from_numpy(labels)
    num_classes = probabilities.shape[1]
    confusion = multiclass_confusion_matrix(probabilities, true, num_classes)
    num_right = int(confusion.trace())
    interval = binomtest(num_right, len(labels)).proportion_ci(method="wilson")
    per_class = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), strict=True)
    return Scores(
        accuracy=num_right / len(labels),
        loss=float(cross_entropies(predicted, labels).mean()),
        interval=(float(interval.low), float(interval.high)),
        ece=float(multiclass_calibration_error(probabilities, true, num_classes, n_bins=15)),
        accuracy_per_class=[right / total if total else None for right, total in per_class],
        confusion=confusion.tolist(),
    )


@dataclass(frozen=True, kw_only=True)
class TestResults:
    """Accuracy and calibration on the test images, under the keys of `summary.json`."""

    __test__ = False  # pytest would collect a class of this name

    test_accuracy: float
    test_loss: float
    test_accuracy_interval: tuple[float, float]
    test_ece: float
    temperature: float
    test_loss_calibrated: float
    test_ece_calibrated: float


def calibrated_results(predicted: Mapping[str, Probabilities], labels: Mapping[str, Labels]) -> TestResults:
    """Score the test images, as predicted and at the temperature that is fitted to the validation images.

    Args:
        predicted: (N, C) probabilities of "val", which fit the temperature, and of "test".
        labels: (N,) labels of both.
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

"""Metrics and calibration computed from class probabilities with numpy alone."""

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


def confusion_of(predicted: Labels, labels: Labels) -> npt.NDArray[np.int64]:
    """Return (C, C) counts, rows the true and columns the predicted classes; C is the highest class number plus one."""
    num_classes = int(max(predicted.max(), labels.max())) + 1
    pairs = labels.astype(np.int64) * num_classes + predicted
    counts: npt.NDArray[np.int64] = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return counts


def balanced_accuracy(confusion: npt.ArrayLike) -> float:
    """Return the mean recall of the classes that have images (Brodersen et al. 2010), as scikit-learn does.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted classes.
    """
    counts = np.asarray(confusion)
    totals = counts.sum(1)
    return float((counts.diagonal()[totals > 0] / totals[totals > 0]).mean())


def macro_f1(confusion: npt.ArrayLike) -> float:
    """Return the mean F1 of the classes that have images or predictions: scikit-learn's `f1_score(average="macro")`.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted classes.
    """
    counts = np.asarray(confusion)
    totals = counts.sum(0) + counts.sum(1)
    return float((2 * counts.diagonal()[totals > 0] / totals[totals > 0]).mean())


def cross_entropies(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.float64]:
    """Return (N,) negative logarithms of the probability of the true class."""
    of_label = probabilities[np.arange(len(labels)), labels]
    result: npt.NDArray[np.float64] = -np.log(of_label.clip(np.finfo(np.float64).tiny))
    return result


def at_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Return (N, C) probabilities with the logits divided by a temperature; the most likely class stays the same."""
    largest = probabilities.max(1, keepdims=True)
    powers = (probabilities.clip(np.finfo(np.float64).tiny) / largest) ** (1 / temperature)
    result: Probabilities = powers / powers.sum(1, keepdims=True)
    return result

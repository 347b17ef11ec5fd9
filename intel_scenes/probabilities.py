"""What is worked out from class probabilities alone."""

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


def balanced_accuracy(confusion: npt.ArrayLike) -> float:
    """Mean over the classes that have images of the share of right ones (Brodersen et al. 2010), as scikit-learn's.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted classes.
    """
    counts = np.asarray(confusion)
    totals = counts.sum(1)
    return float((counts.diagonal()[totals > 0] / totals[totals > 0]).mean())


def macro_f1(confusion: npt.ArrayLike) -> float:
    """Mean F1 over the classes that have images or predictions, as scikit-learn's `f1_score(average="macro")`.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted classes.
    """
    counts = np.asarray(confusion)
    totals = counts.sum(0) + counts.sum(1)
    return float((2 * counts.diagonal()[totals > 0] / totals[totals > 0]).mean())


def cross_entropies(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.float64]:
    """(N,) negative logarithms of the true class's probability."""
    own = probabilities[np.arange(len(labels)), labels]
    result: npt.NDArray[np.float64] = -np.log(own.clip(np.finfo(np.float64).tiny))
    return result


def at_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """(N, C) probabilities whose logits are divided by a temperature; which class is most likely does not change."""
    largest = probabilities.max(1, keepdims=True)
    powers = (probabilities.clip(np.finfo(np.float64).tiny) / largest) ** (1 / temperature)
    result: Probabilities = powers / powers.sum(1, keepdims=True)
    return result

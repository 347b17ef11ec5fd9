"""What is worked out from class probabilities alone."""

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


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

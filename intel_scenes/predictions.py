"""The probabilities in `predictions.csv`, and what is worked out from probabilities alone."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intel_scenes import record
from intel_scenes.errors import UserError

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What a run says of the images of a split.

    Attributes:
        paths: `<class>/<file>` of N images.
        labels: (N,), their classes.
        probabilities: (N, C), rows sum to 1.
    """

    paths: list[str]
    labels: Labels
    probabilities: Probabilities


def read(folder: Path, split: str) -> Predictions:
    """A split of the `predictions.csv` of a run folder.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    path = folder / record.PREDICTIONS
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row[0] == split]
        labels = np.array([int(row[2]) for row in rows], dtype=np.int64)
        found = np.array([[float(text) for text in row[4:]] for row in rows])
        if found.ndim != 2 or not (labels < found.shape[1]).all():
            raise ValueError(f"no {split} images with their probabilities")
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path} cannot be read ({error}): run it again") from error
    return Predictions([row[1] for row in rows], labels, found)


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

"""Correctness and loss of every image of a split, for runs with the same images in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intel_scenes.errors import UserError
from intel_scenes.probabilities import Labels, at_temperature, cross_entropies
from intel_scenes.record import Predictions
from intel_scenes.studies.load import Run
from intel_scenes.studies.statistics.estimates import Table

Paths = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Correctness and loss of every image of a split, of one run.

    Attributes:
        paths: `<class>/<file>` of N images.
        correct: (N,) float32, 1 where an image is classified correctly.
        losses: (N,) float32 cross entropies at the recorded temperature.
    """

    paths: Paths
    correct: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float32]


class Reader:
    """Reader of predictions that reads the file of each run once."""

    def __init__(self) -> None:
        """Start without any file read."""
        self._scores: dict[str, dict[str, ImageScores]] = {}
        self._paths: dict[Paths, Paths] = {}  # hundreds of runs have the same thousands of paths: keep them once
        self._labels: dict[Paths, Labels] = {}

    def tables(self, runs: Sequence[Run], split: str, paths: Paths = ()) -> tuple[Paths, Table, Table]:
        """Return the correctness and the losses of runs on a split.

        Args:
            runs: At least one run.
            split: "test" or "val".
            paths: Paths of the images in the order of the tables; empty takes those of the first run.

        Returns:
            Paths of the N images, (runs, N) 1 where correct, and (runs, N) losses.

        Raises:
            UserError: The predictions of a run cannot be read, are of other images, or have no recorded temperature.
        """
        rows = []
        for run in runs:
            scores = self._scores_of(run).get(split)
            if scores is None:
                raise UserError(f"{run.name} has no {split} predictions")
            paths = paths or scores.paths
            if scores.paths == paths:
                rows.append((scores.correct, scores.losses))
                continue
            if sorted(scores.paths) != sorted(paths):
                raise UserError(f"the {split} images of {run.name} differ from those of the other runs")
            indices = {path: index for index, path in enumerate(scores.paths)}
            order = [indices[path] for path in paths]
            rows.append((scores.correct[order], scores.losses[order]))
        return paths, np.stack([correct for correct, _ in rows]), np.stack([losses for _, losses in rows])

    def labels(self, paths: Paths) -> Labels:
        """Return the (N,) classes of images whose paths `tables` returned."""
        return self._labels[paths]

    def _scores_of(self, run: Run) -> dict[str, ImageScores]:
        temperature = run.summary.temperature
        if temperature is None:
            raise UserError(f"the record of {run.name} has no temperature")
        if run.name not in self._scores:
            self._scores[run.name] = {
                split: self._scored(predictions, temperature)
                for split, predictions in Predictions.read_splits(run.folder, "test", "val").items()
            }
        return self._scores[run.name]

    def _scored(self, predictions: Predictions, temperature: float) -> ImageScores:
        paths = tuple(predictions.paths)
        self._labels.setdefault(paths, predictions.labels)
        correct = predictions.probabilities.argmax(1) == predictions.labels
        losses = cross_entropies(at_temperature(predictions.probabilities, temperature), predictions.labels)
        return ImageScores(self._paths.setdefault(paths, paths), correct.astype(np.float32), losses.astype(np.float32))

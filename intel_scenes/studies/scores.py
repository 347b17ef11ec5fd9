"""What runs have right on a split, and their losses: of all the same images in the same order."""

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
class Scores:
    """What a run has right on a split, and its losses.

    Attributes:
        paths: `<class>/<file>` of N images.
        right: (N,) float32, 1 where an image is right.
        losses: (N,) float32 cross entropies at the temperature of the record.
    """

    paths: Paths
    right: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float32]


class Reader:
    """Reads the predictions of each run once, for whatever asks for them."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._scores: dict[str, dict[str, Scores]] = {}
        self._paths: dict[Paths, Paths] = {}  # hundreds of runs have the same thousands, which are kept once
        self._labels: dict[Paths, Labels] = {}

    def tables(self, runs: Sequence[Run], split: str, paths: Paths = ()) -> tuple[Paths, Table, Table]:
        """What runs have right on a split, and their losses.

        Args:
            runs: At least one.
            split: "test" or "val".
            paths: Of its images, in the order of the tables; those of the first run where empty.

        Returns:
            Paths of the N images, and two tables (runs, N) of them.

        Raises:
            UserError: The predictions of a run cannot be read, are of other images, or lack a temperature.
        """
        rows = []
        for run in runs:
            one = self._read(run).get(split)
            if one is None:
                raise UserError(f"{run.name} has no {split} predictions")
            paths = paths or one.paths
            if one.paths == paths:
                rows.append((one.right, one.losses))
                continue
            if sorted(one.paths) != sorted(paths):
                raise UserError(f"{run.name} has other {split} images")
            places = {path: place for place, path in enumerate(one.paths)}
            order = [places[path] for path in paths]
            rows.append((one.right[order], one.losses[order]))
        return paths, np.stack([right for right, _ in rows]), np.stack([losses for _, losses in rows])

    def labels(self, paths: Paths) -> Labels:
        """(N,) classes of images, by paths that `tables` gave."""
        return self._labels[paths]

    def _read(self, run: Run) -> dict[str, Scores]:
        temperature = run.summary.temperature
        if temperature is None:
            raise UserError(f"the record of {run.name} has no temperature")
        if run.name not in self._scores:
            self._scores[run.name] = {
                split: self._scored(read, temperature)
                for split, read in Predictions.read_splits(run.folder, "test", "val").items()
            }
        return self._scores[run.name]

    def _scored(self, read: Predictions, temperature: float) -> Scores:
        paths = tuple(read.paths)
        self._labels.setdefault(paths, read.labels)
        right = read.probabilities.argmax(1) == read.labels
        losses = cross_entropies(at_temperature(read.probabilities, temperature), read.labels)
        return Scores(self._paths.setdefault(paths, paths), right.astype(np.float32), losses.astype(np.float32))

"""What arms are against a baseline on the validation split: a choice may look at that, and not at the test split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from intel_scenes.errors import UserError
from intel_scenes.probabilities import at_temperature, cross_entropies
from intel_scenes.record import Predictions
from intel_scenes.studies.arms import Arm
from intel_scenes.studies.collect import Run
from intel_scenes.studies.pairs import paired_rows
from intel_scenes.studies.statistics.estimates import (
    Estimate,
    Table,
    paired_difference,
    unpaired_difference,
)
from intel_scenes.studies.statistics.families import moderated, unsteady


@dataclass(frozen=True)
class OnValidation:
    """An arm against the baseline.

    Attributes:
        label: Of the arm.
        is_unequal: The arm or the baseline was not tuned as the others were.
        num_seeds: Of the arm and of the baseline.
        is_paired: The seeds are pairs.
        accuracy: Validation accuracy of the arm less that of the baseline, a fraction.
        loss: The same of the mean cross entropy, each run at the temperature of its record: smoothing and mixing make a
            network less sure of itself, which says nothing of what it knows.
    """

    label: str
    is_unequal: bool
    num_seeds: tuple[int, int]
    is_paired: bool
    accuracy: Estimate
    loss: Estimate


def on_validation(arms: Sequence[Arm], baseline: Arm, problems: list[str]) -> list[OnValidation]:
    """Each other arm that has two seeds and more against a baseline that has, too.

    What was tuned was chosen on these very images: the intervals do not count that.

    Args:
        arms: Best on validation first.
        baseline: One of them, named before the results were seen: a leader owes some of its lead to being chosen.
        problems: Gets a sentence for each arm whose predictions cannot be read.
    """
    tables: dict[str, tuple[Table, Table]] = {}
    paths: list[str] = []
    for arm in (baseline, *(one for one in arms if one is not baseline)):
        try:
            rows = [_read(run) for run in arm.runs]
            if len(rows) < 2:
                raise UserError("it needs two seeds")
            paths = paths or rows[0][0]
            if any(found != paths for found, _, _ in rows):
                raise UserError("they are of other validation images than those of the baseline")
        except UserError as error:
            problems.append(f"{arm.label} is not compared on validation: {error}")
            if arm is baseline:
                return []
            continue
        tables[arm.label] = np.stack([right for _, right, _ in rows]), np.stack([loss for _, _, loss in rows])
    found = [_against(arm, baseline, tables) for arm in arms if arm is not baseline and arm.label in tables]
    right, losses = ({label: pair[place] for label, pair in tables.items()} for place in (0, 1))
    accuracies = _leaning({one.label: one.accuracy for one in found}, right, baseline.label)
    leaning = _leaning({one.label: one.loss for one in found}, losses, baseline.label)
    return [replace(one, accuracy=accuracies[one.label], loss=leaning[one.label]) for one in found]


def _leaning(estimates: dict[str, Estimate], tables: dict[str, Table], baseline: str) -> dict[str, Estimate]:
    """As on the test images: the spread over seeds of each arm leans on that of the others, but for unsteady ones."""
    by_run = [table.mean(axis=1, dtype=np.float64) for table in tables.values()]
    wild = dict(zip(tables, unsteady(by_run), strict=True))
    calm = [label for label in estimates if not wild[label] and not wild[baseline]]
    leaning = moderated([estimates[label] for label in calm], len(tables) - sum(wild.values()))
    return estimates | dict(zip(calm, leaning, strict=True))


def _against(arm: Arm, baseline: Arm, tables: dict[str, tuple[Table, Table]]) -> OnValidation:
    ours, theirs = tables[arm.label], tables[baseline.label]
    rows = paired_rows(arm.runs, baseline.runs)
    is_paired = len(rows) == len(arm.runs) == len(baseline.runs)
    order = [row for _, row in rows] if is_paired else slice(None)
    difference = paired_difference if is_paired else unpaired_difference
    accuracy, loss = (difference(one, other[order]) for one, other in zip(ours, theirs, strict=True))
    num_seeds = len(arm.runs), len(baseline.runs)
    is_unequal = bool(arm.unequal or baseline.unequal)
    return OnValidation(arm.label, is_unequal, num_seeds, is_paired, accuracy, replace(loss, largest=math.inf))


def _read(run: Run) -> tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Paths of the validation images, (N,) 1 where one is right, and (N,) losses at the temperature of the record.

    Raises:
        UserError: They cannot be read.
    """
    temperature = run.summary.temperature
    if temperature is None:
        raise UserError(f"the record of {run.name} has no temperature")
    found = Predictions.read(run.folder, "val")
    losses = cross_entropies(at_temperature(found.probabilities, temperature), found.labels)
    right = found.probabilities.argmax(1) == found.labels
    return found.paths, right.astype(np.float32), losses.astype(np.float32)

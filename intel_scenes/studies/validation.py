"""What arms are against a baseline on the validation split: a choice may look at that, and not at the test split."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from intel_scenes.errors import UserError
from intel_scenes.probabilities import Labels
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.pairs import difference_of
from intel_scenes.studies.scores import Paths, Reader
from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.estimates import Estimate, Table
from intel_scenes.studies.statistics.families import moderated


@dataclass(frozen=True)
class OnValidation:
    """An arm against the baseline.

    Attributes:
        label: Of the arm.
        is_unequal: The arm or the baseline was not tuned as the others were.
        accuracy: Primary metric on validation of the arm less that of the baseline, a fraction.
        loss: The same of the mean cross entropy, each run at the temperature of its record: smoothing and mixing make a
            network less sure of itself, which says nothing of what it knows.
    """

    label: str
    is_unequal: bool
    accuracy: Estimate
    loss: Estimate


@dataclass(frozen=True)
class Validated:
    """The arms of a study against its baseline on validation.

    Attributes:
        arms: Those that could be compared.
        notices: A notice for each of the others.
    """

    arms: tuple[OnValidation, ...] = ()
    notices: tuple[Notice, ...] = ()


def on_validation(arms: Sequence[Arm], baseline: Arm, reader: Reader) -> Validated:
    """Each other arm that has two seeds and more against a baseline that has, too.

    What was tuned was chosen on these very images: the intervals do not count that.

    Args:
        arms: Best on validation first.
        baseline: One of them, named before the results were seen: a leader owes some of its lead to being chosen.
        reader: Of the predictions.
    """
    of_arms: dict[str, tuple[Table, Table]] = {}
    paths: Paths = ()
    notices = []
    for arm in (baseline, *(one for one in comparable(arms) if one is not baseline)):
        try:
            if len(arm.tested.evaluated) < 2:
                raise UserError("it needs two seeds")
            paths, right, losses = reader.tables(arm.tested.evaluated, "val", paths)
        except UserError as error:
            notices.append(Notice(Kind.NOT_ON_VALIDATION, (), {"arm": arm.label, "reason": str(error)}))
            if arm is baseline:
                return Validated((), tuple(notices))
            continue
        of_arms[arm.label] = right, losses
    others = [arm for arm in arms if arm is not baseline and arm.label in of_arms]
    if not others:
        return Validated((), tuple(notices))
    compared = [baseline, *others]
    strata = reader.labels(paths) if baseline.tested.images.is_balanced else None
    accuracies = _differences(compared, [of_arms[arm.label][0] for arm in compared], 1.0, strata)
    of_losses = _differences(compared, [of_arms[arm.label][1] for arm in compared], math.inf)
    found = tuple(
        OnValidation(arm.label, arm.is_unequal or baseline.is_unequal, accuracy, loss)
        for arm, accuracy, loss in zip(others, accuracies, of_losses, strict=True)
    )
    return Validated(found, tuple(notices))


def _differences(
    arms: Sequence[Arm], tables: Sequence[Table], largest: float, strata: Labels | None = None
) -> list[Estimate]:
    """Of each arm but the first less the first; all pairs lend to the variance over seeds, as on the test images."""
    runs, rows = Runs.stacked(tables, strata=strata, largest=largest)
    pairs = [(later, earlier) for earlier, later in itertools.combinations(range(len(arms)), 2)]
    differences = []
    for one, other in pairs:
        difference = difference_of(runs, arms[one].tested, arms[other].tested, rows[one], rows[other])
        assert difference is not None, "each arm has two seeds"
        differences.append(difference)
    return moderated(differences, pairs)[: len(arms) - 1]

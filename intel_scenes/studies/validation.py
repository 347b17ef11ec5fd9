"""Comparison of arms with a baseline on the validation set, which a choice may use; it must not use the test set."""

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
    """Comparison of an arm with the baseline on validation.

    Attributes:
        label: Label of the arm.
        is_unequal: The tuning of the arm or the baseline is not comparable to that of the others.
        accuracy: Difference in the primary metric, arm minus baseline, a fraction.
        loss: Difference in mean cross entropy, with each run's probabilities at its recorded temperature: label
            smoothing and mixing make a network less confident, not less accurate.
    """

    label: str
    is_unequal: bool
    accuracy: Estimate
    loss: Estimate


@dataclass(frozen=True)
class Validated:
    """Comparison of the arms of a study with its baseline on validation.

    Attributes:
        arms: Arms that could be compared.
        notices: A notice for each other arm.
    """

    arms: tuple[OnValidation, ...] = ()
    notices: tuple[Notice, ...] = ()


def on_validation(arms: Sequence[Arm], baseline: Arm, reader: Reader) -> Validated:
    """Compare each other arm with a baseline; both need at least two seeds.

    Tuned factors were chosen on the same images: the intervals do not include that optimism.

    Args:
        arms: In order of validation accuracy.
        baseline: One of the arms, named before the results were known: a leader is optimistic because it was chosen.
        reader: Reader of the predictions.
    """
    tables: dict[str, tuple[Table, Table]] = {}
    paths: Paths = ()
    notices = []
    for arm in (baseline, *(other for other in comparable(arms) if other is not baseline)):
        try:
            if len(arm.tested.evaluated) < 2:
                raise UserError("it has fewer than two seeds with predictions")
            paths, correct, losses = reader.tables(arm.tested.evaluated, "val", paths)
        except UserError as error:
            notices.append(Notice(Kind.NOT_ON_VALIDATION, (), {"arm": arm.label, "reason": str(error)}))
            if arm is baseline:
                return Validated((), tuple(notices))
            continue
        tables[arm.label] = correct, losses
    others = [arm for arm in arms if arm is not baseline and arm.label in tables]
    if not others:
        return Validated((), tuple(notices))
    compared = [baseline, *others]
    strata = reader.labels(paths) if baseline.tested.images.is_balanced else None
    accuracy_differences = _differences(compared, [tables[arm.label][0] for arm in compared], 1.0, strata)
    loss_differences = _differences(compared, [tables[arm.label][1] for arm in compared], math.inf)
    against_baseline = tuple(
        OnValidation(arm.label, arm.is_unequal or baseline.is_unequal, accuracy, loss)
        for arm, accuracy, loss in zip(others, accuracy_differences, loss_differences, strict=True)
    )
    return Validated(against_baseline, tuple(notices))


def _differences(
    arms: Sequence[Arm], tables: Sequence[Table], largest: float, strata: Labels | None = None
) -> list[Estimate]:
    """Return the difference of each other arm from the first; seed variances are moderated over all pairs."""
    runs, rows = Runs.stacked(tables, strata=strata, largest=largest)
    pairs = [(later, earlier) for earlier, later in itertools.combinations(range(len(arms)), 2)]
    differences = []
    for later, earlier in pairs:
        difference = difference_of(runs, arms[later].tested, arms[earlier].tested, rows[later], rows[earlier])
        assert difference is not None, "each arm has two seeds"
        differences.append(difference)
    return moderated(differences, pairs)[: len(arms) - 1]

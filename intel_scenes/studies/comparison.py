"""What the runs of a study show: records, predictions, arms, choice, tests."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.record import StudyPlan
from intel_scenes.studies.align import TestImages, align
from intel_scenes.studies.arms import Configuration, group
from intel_scenes.studies.checks import check
from intel_scenes.studies.choose import Arm, choose, comparable
from intel_scenes.studies.effects import effects_of
from intel_scenes.studies.learning_curves import Series, series_of
from intel_scenes.studies.load import Run, Study, load
from intel_scenes.studies.naming import is_named
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.pairs import OneSeed, Pair, compare_arms, single_runs
from intel_scenes.studies.scores import Reader
from intel_scenes.studies.statistics.effects import Effects
from intel_scenes.studies.statistics.verdicts import Design
from intel_scenes.studies.validation import OnValidation, Validated, on_validation


@dataclass(frozen=True)
class Comparison:
    """All that a report says.

    Attributes:
        study: The runs.
        baseline: Label of the arm that all others are compared with; None where each is with each.
        rope: The largest difference of the primary metric that makes no practical difference, a fraction.
        compared: Factors that make an arm.
        tuned: Factors chosen on validation within an arm.
        arms: Best validation accuracy of the chosen configuration first.
        pairs: Of arms, the better on validation first.
        images: The test images.
        on_validation: Each arm against the baseline there, where one was named.
        corrected: Validation accuracy of the leader, read on seeds that did not choose it; None where seeds lack or
            differ, or nothing was chosen.
        design: What the study can show of a pair; None where nothing can be tested.
        single_runs: Each other arm of a single run against the best of these on validation.
        effects: Of the factors, by metric, `primary` first; empty where the study is not factorial.
        notices: What is odd.
        curves: Accuracy by the number of training images, where that is a factor.
    """

    study: Study
    baseline: str | None
    rope: float
    compared: tuple[str, ...]
    tuned: tuple[str, ...]
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    images: TestImages
    on_validation: tuple[OnValidation, ...]
    corrected: float | None
    design: Design | None
    single_runs: tuple[OneSeed, ...]
    effects: Mapping[str, Effects]
    notices: tuple[Notice, ...]
    curves: tuple[Series, ...] = ()

    @property
    def metric(self) -> str:
        """The primary one: `accuracy` or `balanced_accuracy`."""
        return record.BALANCED if self.images.is_balanced else record.ACCURACY

    @property
    def primary(self) -> str:
        """The primary metric on test, as files name it."""
        return f"test_{self.metric}"

    @property
    def on_test(self) -> str:
        """The primary metric on test, in words."""
        return f"{'balanced ' * self.images.is_balanced}test accuracy"

    @property
    def on_val(self) -> str:
        """The primary metric on validation, in words."""
        return f"{'balanced ' * self.images.is_balanced}validation accuracy"

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.study.folder

    @property
    def plan(self) -> StudyPlan:
        """Of the study."""
        return self.study.plan

    @property
    def runs(self) -> tuple[Run, ...]:
        """Completed runs that are compared."""
        return self.study.runs

    @property
    def factors(self) -> tuple[str, ...]:
        """All that varies but the seed."""
        return (*self.compared, *self.tuned)

    @property
    def configurations(self) -> list[Configuration]:
        """Of all arms, best validation accuracy first."""
        return sorted(itertools.chain(*(arm.configurations for arm in self.arms)), key=lambda one: -one.val_accuracy)

    @property
    def reference(self) -> str:
        """Label of the arm that a table compares with: the baseline, else the best that can be compared."""
        best = next(iter(comparable(self.arms)), None) or next(iter(self.arms), None)
        return self.baseline or (best.label if best else "")

    @property
    def is_to_leader(self) -> bool:
        """Whether that arm is the one that leads on validation."""
        return bool(self.arms) and self.reference == self.arms[0].label

    def to_reference(self) -> list[Pair]:
        """The pairs with the reference, each as what the other arm is against it."""
        reference = self.reference
        pairs = [pair if pair.b == reference else pair.turned() for pair in self.pairs if reference in (pair.a, pair.b)]
        rank = {arm.label: place for place, arm in enumerate(self.arms)}
        return sorted(pairs, key=lambda pair: rank[pair.a])


def compare(
    folder: Path,
    *,
    baseline: str | None = None,
    rope: float = 0.005,
    audit: Path | None = None,
    bounds: Mapping[str, Sequence[float]] | None = None,
) -> Comparison:
    """Reads a study folder and says what its runs show.

    Args:
        folder: Holds a folder for each run.
        baseline: Label of the arm that all others are compared with; None compares each with each.
        rope: The largest difference of the primary metric that makes no practical difference, a fraction.
        audit: `audit.csv` of the same images, whose groups of nearly equal test images count once.
        bounds: Natural bounds of keys, at which a best value is at no edge.

    Raises:
        UserError: There is nothing to compare, or no such arm.
    """
    study = load(folder)
    aligned = align(study.runs, audit)
    grouped = group(study, aligned)
    choice = choose(grouped.candidates, grouped.tuned, study.plan.searched, bounds or {})
    arms = choice.arms
    against = _named(arms, baseline)
    reader = Reader()
    validated = on_validation(arms, against, reader) if against else Validated()
    tested = compare_arms(arms, against, rope)
    factors = [key for key in grouped.compared if key not in grouped.bundled]
    factorial = effects_of(arms, factors, rope, reader, aligned.images)
    return Comparison(
        study=study,
        baseline=against.label if against else None,
        rope=rope,
        compared=grouped.compared,
        tuned=grouped.tuned,
        arms=arms,
        pairs=tested.pairs,
        images=aligned.images,
        on_validation=validated.arms,
        corrected=choice.corrected,
        design=tested.design,
        single_runs=single_runs(arms),
        effects=factorial.by_metric,
        notices=(
            *(*study.notices, *aligned.notices, *grouped.notices, *choice.notices, *validated.notices),
            *_not_compared(arms, against),
            *check(study, grouped, arms),
            *tested.notices,
            *factorial.notices,
            *_of_baseline(study, against),
            *([Notice(Kind.NEARLY_EQUAL_IMAGES)] if audit is None and tested.pairs else []),
        ),
        curves=series_of(arms, factors),
    )


def _not_compared(arms: Sequence[Arm], baseline: Arm | None) -> list[Notice]:
    """A notice where the arm that others would be compared with has no predictions, or was not confirmed."""
    there = comparable(arms)
    arm = baseline or next(iter(arms), None)
    if arm is None or arm in there or not there:
        return []
    is_unconfirmed = any(one.confirmed for one in arms) and not arm.confirmed
    return [Notice(Kind.NOT_COMPARED, (), {"arm": arm.label, "is_unconfirmed": is_unconfirmed})]


def _of_baseline(study: Study, baseline: Arm | None) -> list[Notice]:
    """A notice where the baseline was named after there were results that verdicts rest on."""
    plan = study.plan
    typed = [text.partition("=")[2] for text in (plan.command or "").split() if text.startswith("compare.baseline=")]
    if baseline is None or any(is_named(baseline.label, value) for value in typed):
        return []
    confirming = set(plan.confirming_runs)
    named = next((one for one in plan.baselines if is_named(baseline.label, one.label)), None)
    if named is None:
        num_there = sum(run.name in confirming or not confirming for run in study.runs)
    else:
        num_there = named.num_confirming if confirming else named.num_completed
    values = {"baseline": baseline.label, "date": named and named.date, "num_completed": num_there}
    return [Notice(Kind.BASELINE_NAMED_LATE, (), values)] if num_there else []


def _named(arms: Sequence[Arm], label: str | None) -> Arm | None:
    """The arm that a label or its values alone name.

    Raises:
        UserError: There is none.
    """
    if label is None:
        return None
    for arm in arms:
        if is_named(arm.label, str(label)):
            return arm
    raise UserError(f"compare.baseline={label} is none of the arms: {'; '.join(arm.label for arm in arms)}")

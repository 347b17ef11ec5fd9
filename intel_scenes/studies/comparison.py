"""Comparison of a study: records, predictions, arms, choice on validation, tests."""

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
from intel_scenes.studies.load import Run, StudyRecords, load
from intel_scenes.studies.naming import is_named, with_file_names
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.pairs import OneSeed, Pair, compare_arms, single_runs
from intel_scenes.studies.scores import Reader
from intel_scenes.studies.statistics.effects import Effects
from intel_scenes.studies.statistics.verdicts import Design
from intel_scenes.studies.validation import OnValidation, Validated, on_validation


@dataclass(frozen=True)
class Comparison:
    """All results that a report shows.

    Attributes:
        study: Records of the runs.
        baseline: Label of the arm that all others are compared with; None where all pairs are compared.
        rope: Region of practical equivalence: the largest difference in the primary metric without practical meaning,
            a fraction.
        compared: Factors that define an arm.
        tuned: Factors chosen on validation within an arm.
        arms: In order of the validation accuracy of the chosen configuration.
        pairs: Pairs of arms, the better on validation first.
        images: The test images.
        on_validation: Comparison of each arm with the baseline on validation, where a baseline was named.
        corrected: Validation accuracy of the leader, cross-validated over seeds; None with one seed, with unequal seeds
            of the configurations, or where nothing was chosen.
        design: Design whose power for a pair can be computed; None where nothing can be tested.
        single_runs: Comparison of each other arm of a single run with the best of these on validation.
        effects: Effects of the factors by metric, `primary` first; empty where the study is not factorial.
        notices: Notices for the reader.
        curves: Learning curves, where the number of training images is a factor.
    """

    study: StudyRecords
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
        """Primary metric: `accuracy` or `balanced_accuracy`."""
        return record.BALANCED if self.images.is_balanced else record.ACCURACY

    @property
    def primary(self) -> str:
        """Primary metric on test, as it is named in files."""
        return f"test_{self.metric}"

    @property
    def on_test(self) -> str:
        """Primary metric on test, in words."""
        return f"{'balanced ' * self.images.is_balanced}test accuracy"

    @property
    def on_val(self) -> str:
        """Primary metric on validation, in words."""
        return f"{'balanced ' * self.images.is_balanced}validation accuracy"

    @property
    def folder(self) -> Path:
        """Study folder."""
        return self.study.folder

    @property
    def plan(self) -> StudyPlan:
        """Plan of the study."""
        return self.study.plan

    @property
    def runs(self) -> tuple[Run, ...]:
        """Completed runs that are compared."""
        return self.study.runs

    @property
    def factors(self) -> tuple[str, ...]:
        """All factors that vary, without the seed."""
        return (*self.compared, *self.tuned)

    @property
    def configurations(self) -> list[Configuration]:
        """Configurations of all arms, in order of validation accuracy."""
        return sorted(
            itertools.chain(*(arm.configurations for arm in self.arms)),
            key=lambda configuration: -configuration.val_accuracy,
        )

    @property
    def reference(self) -> str:
        """Label of the arm that tables compare with: the baseline, else the best comparable one on validation."""
        best = next(iter(comparable(self.arms)), None) or next(iter(self.arms), None)
        return self.baseline or (best.label if best else "")

    @property
    def is_to_leader(self) -> bool:
        """Whether the reference is the leader on validation."""
        return bool(self.arms) and self.reference == self.arms[0].label

    def to_reference(self) -> list[Pair]:
        """Return the pairs with the reference, each as a comparison of the other arm with it."""
        reference = self.reference
        pairs = [pair if pair.b == reference else pair.turned() for pair in self.pairs if reference in (pair.a, pair.b)]
        rank = {arm.label: index for index, arm in enumerate(self.arms)}
        return sorted(pairs, key=lambda pair: rank[pair.a])


def compare(
    folder: Path,
    *,
    baseline: str | None = None,
    rope: float = 0.005,
    audit: Path | None = None,
    bounds: Mapping[str, Sequence[float]] | None = None,
) -> Comparison:
    """Read a study folder and compare its runs.

    Args:
        folder: Study folder, which holds a folder for each run.
        baseline: Label of the arm that all others are compared with; None compares all pairs.
        rope: Region of practical equivalence: the largest difference in the primary metric without practical meaning,
            a fraction.
        audit: `audit.csv` of the same images, whose clusters of near-duplicate test images count once.
        bounds: Natural bounds of keys; a best value at such a bound is not at an edge.

    Raises:
        UserError: There are no runs to compare, or no such arm.
    """
    study = load(folder)
    aligned = align(study.runs, audit)
    grouped = group(study, aligned)
    choice = choose(grouped.candidates, grouped.tuned, study.plan.searched, bounds or {}, study.plan.cut)
    arms = choice.arms
    baseline_arm = _arm_named(arms, baseline, grouped.file_names)
    reader = Reader()
    validated = on_validation(arms, baseline_arm, reader) if baseline_arm else Validated()
    tested = compare_arms(arms, baseline_arm, rope)
    factors = [key for key in grouped.compared if key not in grouped.bundled]
    factorial = effects_of(arms, factors, rope, reader, aligned.images)
    return Comparison(
        study=study,
        baseline=baseline_arm.label if baseline_arm else None,
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
            *_not_compared(arms, baseline_arm),
            *check(study, grouped, arms),
            *tested.notices,
            *factorial.notices,
            *_baseline_named_late(study, baseline_arm, grouped.file_names),
            *([Notice(Kind.NEARLY_EQUAL_IMAGES)] if audit is None and tested.pairs else []),
        ),
        curves=series_of(arms, factors),
    )


def _not_compared(arms: Sequence[Arm], baseline: Arm | None) -> list[Notice]:
    """Return a notice where the arm that others would be compared with has no predictions, or was not confirmed."""
    candidates = comparable(arms)
    arm = baseline or next(iter(arms), None)
    if arm is None or arm in candidates or not candidates:
        return []
    is_unconfirmed = any(other.confirmed for other in arms) and not arm.confirmed
    return [Notice(Kind.NOT_COMPARED, (), {"arm": arm.label, "is_unconfirmed": is_unconfirmed})]


def _baseline_named_late(study: StudyRecords, baseline: Arm | None, file_names: Mapping[str, str]) -> list[Notice]:
    """Return a notice where the baseline was named after results existed on which verdicts are based."""
    plan = study.plan
    typed = [text.partition("=")[2] for text in (plan.command or "").split() if text.startswith("compare.baseline=")]
    if baseline is None or any(is_named(baseline.label, with_file_names(value, file_names)) for value in typed):
        return []
    confirming = set(plan.confirming_runs)
    by_label = [(with_file_names(entry.label, file_names), entry) for entry in plan.baselines]
    named = next((entry for label, entry in by_label if is_named(baseline.label, label)), None)
    if named is None:
        num_results = sum(run.name in confirming or not confirming for run in study.runs)
    else:
        num_results = named.num_confirming if confirming else named.num_completed
    values = {"baseline": baseline.label, "date": named and named.date, "num_completed": num_results}
    return [Notice(Kind.BASELINE_NAMED_LATE, (), values)] if num_results else []


def _arm_named(arms: Sequence[Arm], label: str | None, file_names: Mapping[str, str]) -> Arm | None:
    """Return the arm that a label names, with paths or the file names that labels have for them; see `is_named`.

    Raises:
        UserError: There is no such arm.
    """
    if label is None:
        return None
    for arm in arms:
        if is_named(arm.label, with_file_names(str(label), file_names)):
            return arm
    raise UserError(f"compare.baseline={label} is not an arm: choose one of {'; '.join(arm.label for arm in arms)}")

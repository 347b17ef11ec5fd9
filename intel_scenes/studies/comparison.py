"""What the runs of a study show."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.record import Status, StudyPlan
from intel_scenes.studies import caveats
from intel_scenes.studies.arms import Arm, Configuration, arms_of, read_images
from intel_scenes.studies.collect import Run, TestImages, collect
from intel_scenes.studies.naming import factors_of, few, is_named, told_once, with_recipe
from intel_scenes.studies.pairs import Pair, compare_arms
from intel_scenes.studies.statistics.selection import choice_paid_for
from intel_scenes.studies.validation import OnValidation, on_validation

MAX_ARMS = 100  # that are compared each with each: 4,950 pairs


@dataclass(frozen=True)
class Comparison:
    """All that a report says.

    Attributes:
        folder: Of the study.
        plan: Of the study; an empty one where none was written.
        baseline: Label of the arm that all others are compared with; None where each is with each.
        compared: Factors that make an arm.
        tuned: Factors chosen on validation within an arm.
        arms: Best validation accuracy of the chosen configuration first.
        pairs: Of arms, the better on validation first.
        runs: Completed runs that are compared.
        elsewhere: Completed runs that are left out, because they are of other images.
        failed: Runs that failed.
        unfinished: Runs that were cut off or are still going on.
        problems: A sentence for whatever was left out or needs a look.
        gaps: Those of them that belong to the answer: what is missing, and what learned nothing.
        notes: A sentence for whatever else is to be known.
        images: The test images.
        on_validation: Each arm against the baseline there, where one was named.
        corrected: Validation accuracy of the leader, read on seeds that did not choose it; None where seeds lack or
            differ, or nothing was chosen.
    """

    folder: Path
    plan: StudyPlan
    baseline: str | None
    compared: list[str]
    tuned: list[str]
    arms: list[Arm]
    pairs: list[Pair]
    runs: list[Run]
    elsewhere: list[Run]
    failed: list[Run]
    unfinished: list[Run]
    problems: list[str]
    gaps: list[str]
    notes: list[str]
    images: TestImages
    on_validation: list[OnValidation]
    corrected: float | None

    @property
    def factors(self) -> list[str]:
        """All that varies but the seed."""
        return [*self.compared, *self.tuned]

    @property
    def configurations(self) -> list[Configuration]:
        """Of all arms, best validation accuracy first."""
        return sorted(itertools.chain(*(arm.configurations for arm in self.arms)), key=lambda one: -one.val_accuracy)

    @property
    def reference(self) -> str:
        """Label of the arm that a table compares with: the baseline, else the leader; empty without arms."""
        return self.baseline or (self.arms[0].label if self.arms else "")

    @property
    def is_to_leader(self) -> bool:
        """Whether that arm is the one that leads on validation."""
        return bool(self.arms) and self.reference == self.arms[0].label

    def to_reference(self) -> list[Pair]:
        """The pairs with the reference, each as what the other arm is against it."""
        pairs = [
            pair if pair.b == self.reference else pair.turned()
            for pair in self.pairs
            if self.reference in (pair.a, pair.b)
        ]
        rank = {arm.label: place for place, arm in enumerate(self.arms)}
        return sorted(pairs, key=lambda pair: rank[pair.a])


def compare(folder: Path, *, baseline: str | None = None, rope: float = 0.005) -> Comparison:
    """Reads a study folder and says what its runs show.

    Args:
        folder: Holds a folder for each run.
        baseline: Label of the arm that all others are compared with; None compares each with each.
        rope: The largest difference of the test accuracy that makes no practical difference, a fraction.

    Raises:
        UserError: There is nothing to compare, or no such arm.
    """
    runs, problems, plan = _collected(folder)
    completed, elsewhere = _of_one_data_set([run for run in runs if run.is_completed], problems)
    completed = _with_tta(completed, problems)
    failed = [run for run in runs if run.summary.status is Status.FAILED]
    unfinished = [run for run in runs if run.summary.status is Status.INTERRUPTED]
    compared, tuned = factors_of(plan, completed, failed)
    bundled = with_recipe([*completed, *failed], compared, plan.compared)
    named = [key for key in compared if key not in bundled]
    gaps: list[str] = []
    arms = arms_of(completed, failed, [*compared, *tuned], named, problems, gaps)
    images = read_images(arms, problems)
    tuning = caveats.judge_tuning(arms, tuned, plan.searched)
    reference, notes = _arm(arms, baseline), []
    validated = on_validation(arms, reference, problems) if reference else []
    all_pairs = len(arms) <= MAX_ARMS
    if reference is None and not all_pairs:
        reference = next((arm for arm in arms if arm.predicted is not None), None)
        notes.append(f"of more than {MAX_ARMS} arms each is compared with {reference.label if reference else 'none'}")
    pairs = compare_arms(arms, reference, rope, all_pairs=all_pairs)
    twins = caveats.twins_of(plan, runs)
    gaps += caveats.missing(plan.all_planned, {run.name for run in runs} | twins.keys()) + caveats.guessing(arms)
    problems = gaps + problems + caveats.failures(arms) + tuning + caveats.not_finished(unfinished)
    problems += caveats.several_versions(completed)
    notes += told_once(completed, bundled) + caveats.same_runs(twins) + caveats.suspects(arms, compared, tuned)
    notes += caveats.unpaired(pairs) + caveats.crossings(arms) + [pair.note for pair in pairs if pair.note]
    return Comparison(
        folder=folder,
        plan=plan,
        baseline=reference.label if reference else None,
        compared=compared,
        tuned=tuned,
        arms=arms,
        pairs=pairs,
        runs=completed,
        elsewhere=elsewhere,
        failed=failed,
        unfinished=unfinished,
        problems=problems,
        gaps=gaps,
        notes=notes,
        images=images,
        on_validation=validated,
        corrected=_corrected(arms),
    )


def _collected(folder: Path) -> tuple[list[Run], list[str], StudyPlan]:
    """The runs of a study, a sentence for each that cannot be read, and its plan, an empty one where none was written.

    Raises:
        UserError: There is no run, or the plan is none.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: folder=FOLDER is that of a sweep, such as multirun/models")
    runs, problems = collect(folder)
    plan = record.read_study(folder) or StudyPlan()
    if not runs and any(folder.glob(f"*/{record.STUDY}")):
        raise UserError(f"{folder} holds sweeps: folder={folder}/NAME compares the runs of one")
    if not runs:
        reason = f" that can be read ({few(problems, 1)})" if problems else ""
        raise UserError(f"{folder} holds no runs{reason}: folder=FOLDER is that of a sweep, such as multirun/models")
    return runs, problems, plan


def _of_one_data_set(runs: list[Run], problems: list[str]) -> tuple[list[Run], list[Run]]:
    """The largest group with one data fingerprint, and the others, which are named."""
    counts = Counter(run.summary.data_fingerprint for run in runs)
    if len(counts) < 2:
        return runs, []
    largest = max(counts, key=lambda fingerprint: (counts[fingerprint], str(fingerprint)))
    same = [run for run in runs if run.summary.data_fingerprint == largest]
    others = [run for run in runs if run.summary.data_fingerprint != largest]
    named = few([run.name for run in others])
    problems.append(
        f"of other images than most, or of unknown ones, and left out: {len(others)} of {len(runs)}, {named}"
    )
    return same, others


def _with_tta(runs: list[Run], problems: list[str]) -> list[Run]:
    """The runs with the validation accuracy that test-time augmentation gives, where that is known of all.

    Records of earlier versions lack it: what they hold is the same with one view, and not to be ranked among the others
    with more.
    """
    without = [run.name for run in runs if run.summary.val_accuracy_tta is None and run.views != 1]
    if not without:
        return [replace(run, has_tta=run.summary.val_accuracy_tta is not None) for run in runs]
    if len(without) < len(runs):
        problems.append(
            f"ranked by validation accuracy without test-time augmentation, because the records of {few(without)} lack "
            "val_accuracy_tta: remove these folders and start the sweep again to rank by it"
        )
    return runs


def _corrected(arms: Sequence[Arm]) -> float | None:
    """The leader's validation accuracy read on seeds that did not choose it; None where that cannot be had."""
    configurations = [one for arm in arms for one in arm.configurations]
    by_seed = [{run.summary.seed: run.val_accuracy for run in one.runs} for one in configurations]
    if len(configurations) < 2 or any(one.keys() != by_seed[0].keys() for one in by_seed):
        return None
    return choice_paid_for(np.array([[one[seed] for seed in sorted(one, key=str)] for one in by_seed]))


def _arm(arms: Sequence[Arm], label: str | None) -> Arm | None:
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

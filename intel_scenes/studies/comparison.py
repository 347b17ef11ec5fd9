"""What the runs of a study show."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.studies.arms import Arm, Configuration, TestImages, arms_of, few, read_images
from intel_scenes.studies.collect import Run, as_written, collect, read_study
from intel_scenes.studies.naming import factors_of, told_once, with_recipe
from intel_scenes.studies.pairs import Pair, compare_arms
from intel_scenes.studies.statistics.selection import at_edge, choice_paid_for, crossing
from intel_scenes.studies.validation import OnValidation, on_validation

MAX_ARMS = 100  # that are compared each with each: 4,950 pairs


@dataclass(frozen=True)
class Comparison:
    """All that a report says.

    Attributes:
        folder: Of the study.
        study: Its plan; empty without one.
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
    study: dict[str, Any]
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
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: folder=FOLDER is that of a sweep, such as multirun/models")
    runs, problems = collect(folder)
    study = read_study(folder)
    if not runs and any(folder.glob(f"*/{record.STUDY}")):
        raise UserError(f"{folder} holds sweeps: folder={folder}/NAME compares the runs of one")
    if not runs:
        reason = f" that can be read ({few(problems, 1)})" if problems else ""
        raise UserError(f"{folder} holds no runs{reason}: folder=FOLDER is that of a sweep, such as multirun/models")
    completed, elsewhere = _of_one_data_set([run for run in runs if run.is_completed], problems)
    failed = [run for run in runs if run.summary["status"] == "failed"]
    unfinished = [run for run in runs if run.summary["status"] == "interrupted"]
    compared, tuned = factors_of(study, completed, failed)
    bundled = with_recipe([*completed, *failed], compared, study)
    named = [key for key in compared if key not in bundled]
    gaps: list[str] = []
    arms = arms_of(completed, failed, [*compared, *tuned], named, problems, gaps)
    images, digests = TestImages(), dict[str, str]()
    for arm in arms:
        read_images(arm, images, digests, problems)
    tuning = _judge_tuning(arms, tuned, study)
    reference, notes = _arm(arms, baseline), []
    validated = on_validation(arms, reference, problems) if reference else []
    all_pairs = len(arms) <= MAX_ARMS
    if reference is None and not all_pairs:
        reference = next((arm for arm in arms if arm.predicted is not None), None)
        notes.append(f"of more than {MAX_ARMS} arms each is compared with {reference.label if reference else 'none'}")
    pairs = compare_arms(arms, reference, rope, all_pairs=all_pairs)
    twins = _twins(study, runs)
    gaps += _missing(study, {run.name for run in runs} | twins.keys()) + _guessing(arms)
    problems = gaps + problems + _failures(arms) + tuning
    if unfinished:
        problems.append(f"not finished: {few([run.name for run in unfinished])}")
    if versions := several_versions(completed):
        problems.append(f"the runs are of several versions: {versions}")
    notes += (
        told_once(completed, bundled)
        + _told(twins)
        + _suspects(arms, compared, tuned)
        + _unpaired(pairs)
        + _crossings(arms)
    )
    notes += [pair.note for pair in pairs if pair.note]
    return Comparison(
        folder=folder,
        study=study,
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


def _of_one_data_set(runs: list[Run], problems: list[str]) -> tuple[list[Run], list[Run]]:
    """The largest group with one data fingerprint, and the others, which are named."""
    counts = Counter(run.summary["data_fingerprint"] for run in runs)
    if len(counts) < 2:
        return runs, []
    largest = max(counts, key=lambda fingerprint: (counts[fingerprint], str(fingerprint)))
    same = [run for run in runs if run.summary["data_fingerprint"] == largest]
    others = [run for run in runs if run.summary["data_fingerprint"] != largest]
    named = few([run.name for run in others])
    problems.append(
        f"of other images than most, or of unknown ones, and left out: {len(others)} of {len(runs)}, {named}"
    )
    return same, others


def _judge_tuning(arms: Sequence[Arm], tuned: Sequence[str], study: Mapping[str, Any]) -> list[str]:
    """Notes for each arm, in it and in sentences, why its tuning is not equal to that of the others."""
    searched = study.get("searched")
    bounds = searched if isinstance(searched, dict) else {}
    most = max((_budget(arm) for arm in arms), default=(0, 0))
    for arm in arms if tuned else ():
        for key in tuned:
            tried = [one.values[key] for one in arm.tried]
            if at_edge(arm.chosen.values[key], tried, bounds.get(key)):
                arm.unequal.append(f"its best {key}={arm.chosen.values[key]} lies at the edge of what was tried")
        if _budget(arm) < most:
            arm.unequal.append("it had {} trials in {} runs, others {} in {}".format(*_budget(arm), *most))
    return [f"{arm.label} is not tuned: {reason}" for arm in arms for reason in arm.unequal]


def _budget(arm: Arm) -> tuple[int, int]:
    """Number of trials, and of the runs that were spent on them."""
    return len(arm.tried), sum(len(one.runs) + one.num_failed for one in arm.tried)


def _corrected(arms: Sequence[Arm]) -> float | None:
    """The leader's validation accuracy read on seeds that did not choose it; None where that cannot be had."""
    configurations = [one for arm in arms for one in arm.configurations]
    by_seed = [{run.summary["seed"]: run.summary["val_accuracy"] for run in one.runs} for one in configurations]
    if len(configurations) < 2 or any(one.keys() != by_seed[0].keys() for one in by_seed):
        return None
    return choice_paid_for(np.array([[one[seed] for seed in sorted(one, key=str)] for one in by_seed]))


def _missing(study: Mapping[str, Any], there: Set[str]) -> list[str]:
    """What was planned and is not there, by name."""
    planned = [
        *(study.get("planned") or []),
        *(name for one in study.get("added") or [] for name in one.get("runs") or []),
    ]
    missing = [str(name) for name in planned if name not in there]
    return [f"planned and not there: {len(missing)} of {len(planned)}, {few(missing)}"] if missing else []


def _twins(study: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, str]:
    """Runs that came to the same as others, by name; a run that has a record of its own by now is none of them."""
    there = {run.name for run in runs}
    return {name: other for name, other in (study.get("twins") or {}).items() if name not in there and other in there}


def _told(twins: Mapping[str, str]) -> list[str]:
    """That what was typed changes nothing in runs that came to the same as others."""
    if not twins:
        return []
    same = few([f"{name} is {other}" for name, other in twins.items()])
    return [f"planned runs that are the same as others, because what was typed changes nothing: {same}"]


def _failures(arms: Sequence[Arm]) -> list[str]:
    counts = [(arm.label, sum(one.num_failed for one in arm.tried), _budget(arm)[1]) for arm in arms]
    return [f"{label}: failed {failed} of {all_runs}" for label, failed, all_runs in counts if failed]


def _guessing(arms: Sequence[Arm]) -> list[str]:
    """Arms that learned nothing: a verdict on them says nothing of what they were meant to show."""
    guessing = []
    for arm in arms:
        if arm.predicted is None:
            continue
        is_one_class = bool((arm.predicted == arm.predicted[:, :1]).all())
        if is_one_class or arm.chosen.val_accuracy <= arm.share_of_guess:
            guessing.append(arm.label)
    return [f"no better than guessing, or one class for all images: {few(guessing)}"] if guessing else []


def _unpaired(pairs: Sequence[Pair]) -> list[str]:
    """That the seeds of pairs are no pairs, which widens their intervals."""
    named = [f"{pair.a} and {pair.b}" for pair in pairs if pair.estimate and not pair.is_paired]
    if not named:
        return []
    return [f"seeds are not paired (other seeds, split, order or start), so each side counts its own: {few(named)}"]


def _crossings(arms: Sequence[Arm]) -> list[str]:
    """At which number of trials the order of two arms turns."""
    sentences = []
    for one, other in itertools.combinations(arms[:6], 2):
        first, second = one.best_of, other.best_of
        if size := crossing(first, second):
            ahead, behind = (one, other) if first[0] > second[0] else (other, one)
            sentences.append(
                f"by the expected best validation accuracy {ahead.label} is ahead of {behind.label} at one trial, and "
                f"{behind.label} at {size}"
            )
    return sentences


def _suspects(arms: Sequence[Arm], compared: Sequence[str], tuned: Sequence[str]) -> list[str]:
    """General methods below their own special case at equal grids, which a search space that suits them would not give.

    Momentum below none, any schedule below a constant rate (Choi et al., "On Empirical Comparisons of Optimizers for
    Deep Learning", 2019).
    """
    below = []
    for key, special in (("scheduler", "constant"), ("optim.momentum", "0")):
        for one, other in itertools.permutations(arms, 2) if key in compared and tuned else ():
            mine, theirs = one.chosen.values, other.chosen.values
            alike = all(mine[name] == theirs[name] for name in compared if name != key)
            grids = [sorted(tuple(tried.values[name] for name in tuned) for tried in arm.tried) for arm in (one, other)]
            is_below = one.chosen.val_accuracy < other.chosen.val_accuracy
            if alike and grids[0] == grids[1] and theirs[key] == special != mine[key] and is_below:
                below.append(f"{one.label} below {other.label}")
    if not below:
        return []
    return [f"search space suspect: a method is below its own special case on validation ({few(below)})"]


def _arm(arms: Sequence[Arm], label: str | None) -> Arm | None:
    """The arm of a label, a number written in any way.

    Raises:
        UserError: There is none.
    """
    if label is None:
        return None
    wanted = as_written(str(label))
    for arm in arms:
        if arm.label == wanted:
            return arm
    raise UserError(f"compare.baseline={label} is none of the arms: {'; '.join(arm.label for arm in arms)}")


def several_versions(runs: Sequence[Run]) -> str:
    """What the runs were made with, where that differs: it may explain a difference between them."""
    made_with = [{"commit": run.summary["git_commit"], **(run.summary["versions"] or {})} for run in runs]
    found = {
        key: sorted({str(one.get(key)) for one in made_with}) for key in dict.fromkeys(k for o in made_with for k in o)
    }
    return "; ".join(f"{key} {', '.join(values)}" for key, values in found.items() if len(values) > 1)

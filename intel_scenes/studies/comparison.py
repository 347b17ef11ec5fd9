"""What the runs of a study show."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from intel_scenes.errors import UserError
from intel_scenes.studies.arms import Arm, Configuration, TestImages, arms_of, few, read_images
from intel_scenes.studies.collect import Run, collect, read_study, varying
from intel_scenes.studies.pairs import Pair, compare_arms
from intel_scenes.studies.statistics.selection import at_edge, choice_paid_for, crossing

MAX_ARMS = 100  # that are compared each with each: 4,950 pairs


@dataclass
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
        open: Runs that are not finished.
        problems: A sentence for whatever was left out or needs a look.
        notes: A sentence for whatever else is to be known.
        images: The test images.
        corrected: Validation accuracy of the leader without the advantage of having been chosen; None where seeds lack.
    """

    folder: Path
    study: dict[str, Any]
    baseline: str | None
    compared: list[str]
    tuned: list[str]
    arms: list[Arm] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    elsewhere: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    open: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    images: TestImages = field(default_factory=TestImages)
    corrected: float | None = None

    @property
    def factors(self) -> list[str]:
        """All that varies but the seed."""
        return [*self.compared, *self.tuned]

    @property
    def configurations(self) -> list[Configuration]:
        """Of all arms, best validation accuracy first."""
        return sorted(itertools.chain(*(arm.configurations for arm in self.arms)), key=lambda one: -one.val_accuracy)


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
    if not runs:
        raise UserError(f"{folder} holds no runs: folder=FOLDER is that of a sweep, such as multirun/models")
    completed = _of_one_data_set([run for run in runs if run.is_completed], problems)
    factors = [key for key in varying([run for run in runs if run.is_completed or run.overrides]) if key != "seed"]
    tuned = [key for key in study.get("tuned") or [] if key in factors]
    compared = [key for key in study.get("compared") or [] if key in factors]
    compared += [key for key in factors if key not in (*tuned, *compared)]
    found = Comparison(folder, study, baseline, compared, tuned, runs=completed, problems=problems)
    found.elsewhere = [run for run in runs if run.is_completed and run not in completed]
    found.failed = [run for run in runs if run.summary["status"] == "failed"]
    found.open = [run for run in runs if run.summary["status"] == "interrupted"]
    found.arms = arms_of(completed, found.failed, compared, tuned, problems)
    for arm in found.arms:
        read_images(arm, found.images, problems)
    _judge_tuning(found)
    found.corrected = _corrected(found)
    if baseline is None and len(found.arms) > MAX_ARMS:
        baseline = found.baseline = found.arms[0].label
        found.notes.append(f"of more than {MAX_ARMS} arms each is compared with the leader alone")
    found.pairs = compare_arms(found.arms, _index(found.arms, baseline), rope, len(found.images.classes))
    found.notes += [pair.note for pair in found.pairs if pair.note]
    found.notes += _crossings(found.arms) + _suspects(found)
    if versions := several_versions(completed):
        found.problems.append(f"the runs are of several versions: {versions}")
    return found


def _of_one_data_set(runs: list[Run], problems: list[str]) -> list[Run]:
    """The largest group with one data fingerprint; the others are named."""
    counts = Counter(run.summary["data_fingerprint"] for run in runs)
    if len(counts) < 2:
        return runs
    largest = max(counts, key=lambda fingerprint: (counts[fingerprint], str(fingerprint)))
    others = [run for run in runs if run.summary["data_fingerprint"] != largest]
    problems.append(
        f"{len(others)} runs are of other images than the {counts[largest]} that are compared, and left out: "
        + few([run.name for run in others])
    )
    return [run for run in runs if run.summary["data_fingerprint"] == largest]


def _judge_tuning(found: Comparison) -> None:
    """Notes for each arm why its tuning is not equal to that of the others."""
    if not found.tuned:
        return
    budgets = {arm.label: len(arm.configurations) for arm in found.arms}
    for arm in found.arms:
        for key in found.tuned:
            tried = [one.values[key] for one in arm.configurations]
            if at_edge(arm.chosen.values[key], tried, (found.study.get("searched") or {}).get(key)):
                arm.unequal.append(f"its best {key}={arm.chosen.values[key]} lies at the edge of what was tried")
        if budgets[arm.label] < max(budgets.values()):
            arm.unequal.append(f"it had {budgets[arm.label]} trials, others {max(budgets.values())}")
        found.notes += [f"{arm.label}: {reason}" for reason in arm.unequal]


def _corrected(found: Comparison) -> float | None:
    """The leader's validation accuracy by leaving out one seed, over the configurations that have all of its seeds."""
    if not found.arms:
        return None
    seeds = {run.summary["seed"] for run in found.arms[0].chosen.runs}
    by_seed = [{run.summary["seed"]: run.summary["val_accuracy"] for run in one.runs} for one in found.configurations]
    rows = [[one[seed] for seed in sorted(seeds, key=str)] for one in by_seed if seeds <= one.keys()]
    return choice_paid_for(np.array(rows))


def _crossings(arms: Sequence[Arm]) -> list[str]:
    """At which number of trials the order of two arms turns."""
    sentences = []
    for one, other in itertools.combinations(arms[:6], 2):
        if size := crossing(one.best_of, other.best_of):
            sentences.append(
                f"with fewer than {size} trials {other.label} would be expected ahead of {one.label} on validation"
            )
    return sentences


def _suspects(found: Comparison) -> list[str]:
    """General methods below their own special case, which a search space that suits them would not give.

    Momentum below none, any schedule below a constant rate (Choi et al., "On Empirical Comparisons of Optimizers for
    Deep Learning", 2019).
    """
    below = []
    for key, special in (("scheduler", "constant"), ("optim.momentum", "0"), ("optim.momentum", "0.0")):
        for one, other in itertools.permutations(found.arms, 2) if key in found.compared else ():
            mine, theirs = one.chosen.values, other.chosen.values
            alike = all(mine[name] == theirs[name] for name in found.compared if name != key)
            is_below = one.chosen.val_accuracy < other.chosen.val_accuracy
            if alike and theirs[key] == special != mine[key] and is_below:
                below.append(f"{one.label} below {other.label}")
    if not below:
        return []
    return [f"search space suspect: a method is below its own special case on validation ({few(below)})"]


def _index(arms: Sequence[Arm], baseline: str | None) -> int | None:
    if baseline is None:
        return None
    labels = [arm.label for arm in arms]
    if baseline not in labels:
        raise UserError(f"compare.baseline={baseline} is none of the arms: {'; '.join(labels)}")
    return labels.index(baseline)


def several_versions(runs: Sequence[Run]) -> str:
    """What the runs were made with, where that differs: it may explain a difference between them."""
    made_with = [{"commit": run.summary["git_commit"], **(run.summary["versions"] or {})} for run in runs]
    found = {
        key: sorted({str(one.get(key)) for one in made_with}) for key in dict.fromkeys(k for o in made_with for k in o)
    }
    return "; ".join(f"{key} {', '.join(values)}" for key, values in found.items() if len(values) > 1)

"""Runs of a study as arms and configurations, and what they show."""

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.studies.collect import Run, collect, predictions, read_study, value_of, varying
from intel_scenes.studies.pairs import Pair, compare_arms
from intel_scenes.studies.statistics.estimates import Estimate, Ledger, Table, ledger, mean_accuracy, wilson
from intel_scenes.studies.statistics.selection import at_edge, best_of, choice_paid_for, crossing

MAX_ARMS = 100  # that are compared each with each: 4,950 pairs


@dataclass
class Configuration:
    """Runs that differ in their seed alone.

    Attributes:
        values: Of the factors that vary, by key.
        runs: Completed, by seed.
        num_failed: Further runs, that failed.
        estimate: Of the test accuracy, from two seeds on.
        interval: Of the test accuracy, 95 %: over seeds and images, with one seed over images alone; None without
            predictions.
        per_class: Mean test accuracy of each class, NaN where the test split has none of it.
        ledger: Of the spread over seeds, from two seeds on.
        is_chosen: Validation chose it for its arm.
    """

    values: dict[str, str]
    runs: list[Run]
    num_failed: int = 0
    estimate: Estimate | None = None
    interval: tuple[float, float] | None = None
    per_class: npt.NDArray[np.float64] | None = None
    ledger: Ledger | None = None
    is_chosen: bool = False

    def mean(self, key: str) -> float | None:
        """Of a key of `summary.json` over the runs that have it."""
        values = [run.summary[key] for run in self.runs if run.summary[key] is not None]
        return statistics.fmean(values) if values else None

    @property
    def val_accuracy(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(run.summary["val_accuracy"] for run in self.runs)

    @property
    def test_accuracy(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(run.summary["test_accuracy"] for run in self.runs)

    @property
    def gap(self) -> float:
        """Train accuracy (evaluation mode) less valid accuracy at the best epoch, mean over seeds."""
        return statistics.fmean(run.summary["train_accuracy"] - run.summary["val_accuracy"] for run in self.runs)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean over the classes that the test split has."""
        return None if self.per_class is None else float(np.nanmean(self.per_class))

    @property
    def label(self) -> str:
        """Its values of the factors, such as `optim=sgd, lr_scale=3`."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "all runs"


@dataclass
class Arm:
    """What a study compares, at the values of its tuned factors that validation chose.

    Attributes:
        label: Its values of the compared factors.
        configurations: Best validation accuracy first; the first is chosen.
        table: Test images right (1) or wrong of the chosen runs, (seeds, images), float32; None without predictions.
        predicted: (seeds, images) int16 of the same runs.
        runs: The runs of those rows: chosen ones, those with equal predictions once.
        unequal: Why its tuning is not that of the others; empty where it is.
    """

    label: str
    configurations: list[Configuration]
    table: Table | None = None
    predicted: npt.NDArray[np.int16] | None = None
    runs: list[Run] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> Configuration:
        """The configuration that validation chose."""
        return self.configurations[0]

    @property
    def num_failed(self) -> int:
        """Runs of the chosen configuration that failed."""
        return self.chosen.num_failed

    @property
    def best_of(self) -> list[float]:
        """Expected best validation accuracy of 1, 2, ... of its trials."""
        return best_of([configuration.val_accuracy for configuration in self.configurations])


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
        classes: Their names.
        paths: Of the test images.
        labels: (N,) of the test images.
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
    classes: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    labels: npt.NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
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
    found.arms = _arms(found)
    for arm in found.arms:
        _read_images(found, arm)
    _judge_tuning(found)
    found.corrected = _corrected(found)
    if baseline is None and len(found.arms) > MAX_ARMS:
        baseline = found.baseline = found.arms[0].label
        found.notes.append(f"of more than {MAX_ARMS} arms each is compared with the leader alone")
    found.pairs = compare_arms(found.arms, _index(found.arms, baseline), rope, len(found.classes))
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


def _arms(found: Comparison) -> list[Arm]:
    """Arms with their configurations, ordered by validation; labels settle a tie."""
    groups: dict[tuple[str, ...], Configuration] = {}
    for run in [*found.runs, *found.failed]:
        values = {key: value_of(run, key) for key in found.factors}
        group = groups.setdefault(tuple(values.values()), Configuration(values, []))
        if run.is_completed:
            group.runs.append(run)
        else:
            group.num_failed += 1
    arms: dict[str, Arm] = {}
    for configuration in groups.values():
        if not configuration.runs:
            found.problems.append(f"no run of {configuration.label} is completed, {configuration.num_failed} failed")
            continue
        _keep_one_configuration(configuration, found.problems)
        configuration.runs.sort(key=lambda run: (str(run.summary["seed"]).zfill(20), run.name))
        label = _label(configuration.values, found.compared)
        arms.setdefault(label, Arm(label, [])).configurations.append(configuration)
    for arm in arms.values():
        arm.configurations.sort(key=lambda one: (-one.val_accuracy, one.label))
        arm.chosen.is_chosen = True
    return sorted(arms.values(), key=lambda arm: (-arm.chosen.val_accuracy, arm.label))


def _keep_one_configuration(configuration: Configuration, problems: list[str]) -> None:
    """Leaves out runs that differ from most in more than the factors and the seed."""
    counts = Counter(str(run.summary["configuration_digest"]) for run in configuration.runs)
    largest = max(sorted(counts), key=lambda digest: counts[digest])
    others = [run.name for run in configuration.runs if str(run.summary["configuration_digest"]) != largest]
    if others:
        problems.append(
            f"{few(others)} are left out: they differ from the other runs of {configuration.label} in more than "
            "what was typed (a weights file, threads, precision or a configuration file)"
        )
        configuration.runs = [run for run in configuration.runs if run.name not in others]


def _label(values: dict[str, str], keys: Sequence[str]) -> str:
    """The files of groups and otherwise keys with their values, such as `resnet18/sgd/momentum=0.9`."""
    parts = [
        values[key] if key in record.GROUP_KEYS or len(keys) == 1 else f"{key.rpartition('.')[2]}={values[key]}"
        for key in keys
    ]
    return "/".join(parts) or "all runs"


def _read_images(found: Comparison, arm: Arm) -> None:
    """Fills in what the predictions of an arm's runs say; those of the chosen configuration are kept."""
    for configuration in arm.configurations:
        rows, runs, digests = [], [], dict[str, str]()
        for run in configuration.runs:
            try:
                aligned = _aligned(found, run)
            except UserError as error:
                found.problems.append(f"the predictions of {run.name} are left out: {error}")
                continue
            predicted, digest = aligned
            if digest in digests:
                found.problems.append(f"{run.name} predicts what {digests[digest]} does, and is counted once")
                continue
            digests[digest] = run.name
            rows.append(predicted)
            runs.append(run)
        if not rows:
            continue
        predicted = np.stack(rows)
        table = (predicted == found.labels).astype(np.float32)
        configuration.per_class = _per_class(table, found.labels, len(found.classes))
        if len(table) > 1:
            configuration.estimate, configuration.ledger = mean_accuracy(table), ledger(table)
            low, high = configuration.estimate.interval()
            configuration.interval = max(0.0, low), min(1.0, high)
        else:
            configuration.interval = wilson(int(table.sum()), table.shape[1])
        if configuration.is_chosen:
            arm.table, arm.predicted, arm.runs = table, predicted, runs


def _aligned(found: Comparison, run: Run) -> tuple[npt.NDArray[np.int16], str]:
    """Predicted classes in the order of the first run's images, and a digest of the file."""
    read = predictions(run.folder)
    if not found.paths:
        found.paths, found.labels = read.paths, read.labels
        found.classes = list(run.summary["classes"] or map(str, range(int(read.labels.max()) + 1)))
    if read.paths == found.paths:
        order = slice(None)
    else:
        place = {path: index for index, path in enumerate(read.paths)}
        if place.keys() != set(found.paths) or len(place) != len(read.paths):
            raise UserError("they are of other images than those of the first run")
        order = [place[path] for path in found.paths]  # type: ignore[assignment]
    if not np.array_equal(read.labels[order], found.labels):
        raise UserError("their labels are not those of the first run")
    return read.predicted[order], read.digest


def _per_class(table: Table, labels: npt.NDArray[np.int16], num_classes: int) -> npt.NDArray[np.float64]:
    right = np.bincount(labels, weights=table.mean(axis=0, dtype=np.float64), minlength=num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    accuracies: npt.NDArray[np.float64] = np.full(len(counts), np.nan)
    return np.divide(right, counts, out=accuracies, where=counts > 0)


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


def few(texts: Sequence[str], num: int = 4) -> str:
    """The first of several texts, and how many more there are."""
    return ", ".join(texts[:num]) + (f" and {len(texts) - num} others" if len(texts) > num else "")


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

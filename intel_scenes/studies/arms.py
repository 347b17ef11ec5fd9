"""Runs as configurations and arms, with what their predictions say."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from intel_scenes.errors import UserError
from intel_scenes.studies.collect import Run, TestImages, value_of
from intel_scenes.studies.naming import few, label_of
from intel_scenes.studies.statistics.estimates import Estimate, Ledger, Table, ledger, mean_accuracy, wilson
from intel_scenes.studies.statistics.selection import best_of


@dataclass
class Configuration:
    """Runs that differ in their seed alone.

    Attributes:
        values: Of the factors that vary, by key.
        runs: Completed, by seed; those with equal predictions once.
        num_failed: Further runs, that failed.
        estimate: Of the test accuracy, from two seeds on.
        interval: Of the test accuracy, 95 %: over seeds and images, with one seed over images alone; None without
            predictions.
        per_class: Mean test accuracy of each class, NaN where the test split has none of it.
        ledger: Of the spread over seeds, from two seeds on.
    """

    values: dict[str, str]
    runs: list[Run]
    num_failed: int = 0
    estimate: Estimate | None = None
    interval: tuple[float, float] | None = None
    per_class: npt.NDArray[np.float64] | None = None
    ledger: Ledger | None = None

    def mean(self, key: str) -> float | None:
        """Of a key of `summary.json` over the runs that have it."""
        values = [getattr(run.summary, key) for run in self.runs]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None

    @property
    def val_accuracy(self) -> float:
        """Mean over seeds of the validation accuracy that chooses."""
        return statistics.fmean(run.val_accuracy for run in self.runs)

    @property
    def test_accuracy(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(run.test_accuracy for run in self.runs)

    @property
    def gaps(self) -> list[float]:
        """Train accuracy (evaluation mode) less valid accuracy at the best epoch, of each run that knows it."""
        known = [(run.summary.train_accuracy, run.summary.val_accuracy) for run in self.runs]
        return [train - val for train, val in known if train is not None and val is not None]

    @property
    def gap(self) -> float | None:
        """Mean of `gaps`."""
        return statistics.fmean(self.gaps) if self.gaps else None

    @property
    def devices(self) -> list[str]:
        """Of its runs: times of more than one are not to be averaged."""
        return sorted({str(run.summary.device) for run in self.runs})

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
        configurations: Best validation accuracy first, of those with most seeds; the first is chosen.
        lost: Configurations without a completed run.
        labels: (N,) int16 of the test images.
        predicted: (seeds, N) int16, of the chosen configuration; None without predictions.
        runs: The runs of those rows.
        unequal: Why its tuning is not that of the others; empty where it is.
    """

    label: str
    configurations: list[Configuration]
    lost: list[Configuration] = field(default_factory=list)
    labels: npt.NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    predicted: npt.NDArray[np.int16] | None = None
    runs: list[Run] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> Configuration:
        """The configuration that validation chose."""
        return self.configurations[0]

    @property
    def tried(self) -> list[Configuration]:
        """All configurations, those that failed too."""
        return [*self.configurations, *self.lost]

    @property
    def table(self) -> Table | None:
        """(seeds, N) float32, 1 where a test image is right."""
        return None if self.predicted is None else (self.predicted == self.labels).astype(np.float32)

    @property
    def num_failed(self) -> int:
        """Runs of the chosen configuration that failed."""
        return self.chosen.num_failed

    @property
    def share_of_guess(self) -> float:
        """What guessing would have right, with as many images of each class."""
        return 1 / max(len(np.unique(self.labels)), 1)

    @property
    def best_of(self) -> list[float]:
        """Expected best validation accuracy of 1, 2, ... of its trials."""
        return best_of([configuration.val_accuracy for configuration in self.configurations])


def arms_of(
    runs: Sequence[Run],
    failed: Sequence[Run],
    factors: Sequence[str],
    named: Sequence[str],
    problems: list[str],
    gaps: list[str],
) -> list[Arm]:
    """Arms with their configurations, ordered by validation; labels settle a tie.

    Args:
        runs: Completed.
        failed: They count for the configuration that has their factors.
        factors: All that vary.
        named: Those whose values make an arm and its label.
        problems: Gets a sentence for what is left out.
        gaps: Gets one for each configuration without a completed run.
    """
    arms: dict[str, Arm] = {}
    for configuration in _configurations(runs, failed, factors):
        arm = arms.setdefault(label_of(configuration.values, named), Arm("", []))
        if not configuration.runs:
            gaps.append(f"no run of {configuration.label} is completed, {configuration.num_failed} failed")
            arm.lost.append(configuration)
            continue
        _keep_one_configuration(configuration, problems)
        configuration.runs.sort(key=lambda run: (str(run.summary.seed).zfill(20), run.name))
        arm.configurations.append(configuration)
    for label, arm in arms.items():
        arm.label = label
        most = max((len(one.runs) for one in arm.configurations), default=0)
        arm.configurations.sort(key=lambda one: (len(one.runs) < most, -one.val_accuracy, one.label))
        if any(one.val_accuracy > arm.chosen.val_accuracy for one in arm.configurations):
            problems.append(f"{label}: a configuration with fewer than {most} completed runs was not chosen")
    there = [arm for arm in arms.values() if arm.configurations]
    return sorted(there, key=lambda arm: (-arm.chosen.val_accuracy, arm.label))


def _configurations(runs: Sequence[Run], failed: Sequence[Run], factors: Sequence[str]) -> list[Configuration]:
    """Runs grouped by their factors; runs of one digest are one configuration whatever was typed."""
    groups: dict[tuple[str, ...], Configuration] = {}
    by_digest: dict[str, Configuration] = {}
    for run in sorted([*runs, *failed], key=lambda run: (not run.is_completed, -len(run.overrides), run.name)):
        values = {key: value_of(run, key) for key in factors}
        digest = run.summary.configuration_digest
        group = by_digest.get(digest) if digest else None
        group = group or groups.setdefault(tuple(values.values()), Configuration(values, []))
        if digest:
            by_digest.setdefault(digest, group)
        if run.is_completed:
            group.runs.append(run)
        else:
            group.num_failed += 1
    return list(groups.values())


def _keep_one_configuration(configuration: Configuration, problems: list[str]) -> None:
    """Leaves out runs that differ from most in more than the factors and the seed."""
    counts = Counter(str(run.summary.configuration_digest) for run in configuration.runs)
    largest = max(sorted(counts), key=lambda digest: counts[digest])
    others = [run.name for run in configuration.runs if str(run.summary.configuration_digest) != largest]
    if others:
        problems.append(
            f"{few(others)} are left out: they differ from the other runs of {configuration.label} in more than "
            "what was typed (a weights file, threads, precision or a configuration file)"
        )
        configuration.runs = [run for run in configuration.runs if run.name not in others]


def read_images(arms: Sequence[Arm], problems: list[str]) -> TestImages:
    """The test images; fills in what the predictions of all runs say of the arms, as `_read_arm` does."""
    images, digests = TestImages(), dict[str, str]()
    for arm in arms:
        _read_arm(arm, images, digests, problems)
    return images


def _read_arm(arm: Arm, images: TestImages, digests: dict[str, str], problems: list[str]) -> None:
    """Fills in what the predictions of an arm's runs say; those of the chosen configuration are kept.

    Args:
        arm: Of a comparison.
        images: Of all arms.
        digests: Names of the runs that were read before, by digest of their predictions.
        problems: Gets a sentence for what is left out, and for runs that predict what others do.
    """
    for configuration in arm.configurations:
        rows, runs, own = [], [], dict[str, str]()
        for run in list(configuration.runs):
            try:
                predicted, digest = images.aligned(run)
            except UserError as error:
                problems.append(f"the predictions of {run.name} are left out: {error}")
                continue
            if digest in own:
                problems.append(f"{run.name} predicts what {own[digest]} does, and is counted once")
                configuration.runs.remove(run)
                continue
            if digest in digests:
                problems.append(f"{run.name} predicts what {digests[digest]} does: what tells them apart has no effect")
            own[digest] = run.name
            digests.setdefault(digest, run.name)
            rows.append(predicted)
            runs.append(run)
        if not rows:
            continue
        stacked = np.stack(rows)
        table = (stacked == images.labels).astype(np.float32)
        configuration.per_class = _per_class(table, images.labels, len(images.classes))
        if len(table) > 1:
            configuration.estimate, configuration.ledger = mean_accuracy(table), ledger(table)
            low, high = configuration.estimate.interval()
            configuration.interval = max(0.0, low), high
        else:
            configuration.interval = wilson(int(table.sum()), table.shape[1])
        if configuration is arm.chosen:
            arm.labels, arm.predicted, arm.runs = images.labels, stacked, runs


def _per_class(table: Table, labels: npt.NDArray[np.int16], num_classes: int) -> npt.NDArray[np.float64]:
    right = np.bincount(labels, weights=table.mean(axis=0, dtype=np.float64), minlength=num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    accuracies: npt.NDArray[np.float64] = np.full(len(counts), np.nan)
    return np.divide(right, counts, out=accuracies, where=counts > 0)

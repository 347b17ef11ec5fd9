"""Runs grouped into configurations, and configurations grouped into candidates of arms."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from intel_scenes.studies.align import Aligned, Classes, TestImages
from intel_scenes.studies.load import Run, StudyRecords
from intel_scenes.studies.naming import (
    factors_of,
    label_of,
    value_of,
    with_recipe,
    without_folders,
    without_implied,
)
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.statistics.crossed import Runs, balancing
from intel_scenes.studies.statistics.estimates import Estimate, SeedSpread, Table, balanced_wilson, seed_spread, wilson


@dataclass(frozen=True, eq=False)
class Configuration:
    """Runs that differ in their seed alone.

    Attributes:
        values: Values of the factors that vary, by key.
        runs: Completed runs by seed; runs with equal predictions once.
        num_failed: Number of failed runs.
        evaluated: Completed runs that have predictions.
        predicted: (evaluated, N) int16 predicted classes of the test images.
        images: The test images.
    """

    values: Mapping[str, str]
    runs: tuple[Run, ...]
    num_failed: int
    evaluated: tuple[Run, ...]
    predicted: Classes
    images: TestImages

    def mean(self, key: str) -> float | None:
        """Return the mean of a key of `summary.json` over the runs that have it."""
        values = [value for run in self.runs if (value := getattr(run.summary, key)) is not None]
        return statistics.fmean(values) if values else None

    @cached_property
    def val_accuracy(self) -> float:
        """Mean over seeds of the primary metric on validation, by which configurations are chosen."""
        return statistics.fmean(run.val_accuracy for run in self.runs)

    @cached_property
    def test_accuracy(self) -> float:
        """Mean over seeds of the primary metric on test, over the same runs as the interval."""
        return statistics.fmean(run.test_accuracy for run in self.evaluated or self.runs)

    @property
    def gaps(self) -> list[float]:
        """Training accuracy (evaluation mode) minus validation accuracy at the best epoch, where both are recorded."""
        accuracies = [(run.summary.train_accuracy, run.summary.val_accuracy) for run in self.runs]
        return [train - val for train, val in accuracies if train is not None and val is not None]

    @property
    def gap(self) -> float | None:
        """Mean of `gaps`."""
        return statistics.fmean(self.gaps) if self.gaps else None

    @property
    def devices(self) -> list[str]:
        """Devices of the runs; times on different devices must not be averaged."""
        return sorted({str(run.summary.device) for run in self.runs})

    @property
    def label(self) -> str:
        """Values of the factors, such as `optim=sgd, lr_scale=3`."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "all runs"

    @property
    def table(self) -> Table:
        """(evaluated, N) float32, 1 where a test image is classified correctly."""
        correct: Table = (self.predicted == self.images.labels).astype(np.float32)
        return correct

    @property
    def chance_level(self) -> float:
        """Accuracy of guessing, with equally many images of each class."""
        return 1 / max(len(np.unique(self.images.labels)), 1)

    @cached_property
    def estimate(self) -> Estimate | None:
        """Estimate of the primary metric on test; None below two seeds."""
        if len(self.evaluated) < 2:
            return None
        runs = Runs.of(self.table, groups=self.images.groups, strata=self.images.strata)
        return runs.mean(range(len(self.evaluated)))

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `test_accuracy` over seeds and images (one seed: images); None without predictions."""
        if self.estimate is not None:
            low, high = self.estimate.interval()
            return max(0.0, low), high
        if self.evaluated and self.images.strata is not None:
            return balanced_wilson(self.table[0], self.images.strata)
        return wilson(int(self.table.sum()), self.predicted.shape[1]) if self.evaluated else None

    @property
    def seed_spread(self) -> SeedSpread | None:
        """Standard deviations over seeds; None below two seeds."""
        if len(self.evaluated) < 2:
            return None
        weights = 1 if self.images.strata is None else balancing(self.images.strata).astype(np.float32)
        return seed_spread(self.table * weights)

    @cached_property
    def per_class(self) -> npt.NDArray[np.float64] | None:
        """Mean test accuracy of each class, NaN for a class without test images; None without predictions."""
        if not self.evaluated:
            return None
        labels, num_classes = self.images.labels, len(self.images.classes)
        correct = np.bincount(labels, weights=self.table.mean(axis=0, dtype=np.float64), minlength=num_classes)
        counts = np.bincount(labels, minlength=num_classes)
        accuracies: npt.NDArray[np.float64] = np.full(len(counts), np.nan)
        return np.divide(correct, counts, out=accuracies, where=counts > 0)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of `per_class` over the classes that have test images."""
        return None if self.per_class is None else float(np.nanmean(self.per_class))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Configurations of an arm, of which one is chosen on validation.

    Attributes:
        label: Label of the arm: its values of the compared factors.
        configurations: Configurations with at least one completed run.
        lost: Configurations without a completed run.
        confirmed: An earlier choice run again on fresh seeds, which take no part in the choice; None without one.
    """

    label: str
    configurations: tuple[Configuration, ...]
    lost: tuple[Configuration, ...]
    confirmed: Configuration | None


@dataclass(frozen=True)
class Grouped:
    """Runs of a study, grouped into candidates of its arms.

    Attributes:
        compared: Factors that define an arm.
        tuned: Factors chosen on validation within an arm.
        bundled: Compared factors whose values are determined by the recipe, after which arms are named alone.
        candidates: Candidates of each arm that has a completed run.
        notices: Notices for the reader.
        file_names: File name that labels show for each path.
    """

    compared: tuple[str, ...]
    tuned: tuple[str, ...]
    bundled: tuple[str, ...]
    candidates: tuple[Candidates, ...]
    notices: tuple[Notice, ...]
    file_names: Mapping[str, str]


def group(study: StudyRecords, aligned: Aligned) -> Grouped:
    """Group the completed runs of a study by the factors that vary; failed runs are counted for their configuration.

    Runs that confirm an earlier choice are kept separate.
    """
    confirming = set(study.plan.confirming_runs)
    usable = [run for run in study.runs if run.name not in aligned.contradictory]
    completed, failed = ([run for run in runs if run.name not in confirming] for runs in (usable, study.failed))
    compared, tuned = factors_of(study.plan, completed, failed)
    bundled = with_recipe([*completed, *failed], compared, study.plan.compared)
    named = [key for key in compared if key not in bundled]
    named = without_implied([*usable, *study.failed], named, study.plan.compared)
    log = _Log()
    by_label: dict[str, list[Configuration]] = {}
    confirmed: dict[str, Configuration] = {}
    for values, runs in _by_factors([*usable, *study.failed], [*compared, *tuned]):
        label = label_of(values, named)
        if tuning := [run for run in runs if run.name not in confirming]:
            by_label.setdefault(label, []).append(_configuration(values, tuning, aligned, log))
        if again := [run for run in runs if run.name in confirming]:
            configuration = _configuration(values, again, aligned, log)
            if lost_runs := tuple(run.name for run in again if not run.is_completed):
                log.notices.append(Notice(Kind.FAILED_CONFIRMING, lost_runs, {"arm": label, "num_all": len(again)}))
            if configuration.runs:
                confirmed.setdefault(label, configuration)
    lost = [configuration for of_arm in by_label.values() for configuration in of_arm if not configuration.runs]
    log.notices += [
        Notice(Kind.LOST, (), {"configuration": configuration.label, "num_failed": configuration.num_failed})
        for configuration in lost
    ]
    candidates = [
        Candidates(
            label,
            tuple(configuration for configuration in all_ if configuration.runs),
            tuple(configuration for configuration in all_ if not configuration.runs),
            confirmed.get(label),
        )
        for label, all_ in by_label.items()
    ]
    with_runs = tuple(candidate for candidate in candidates if candidate.configurations)
    written = [without_folders(value_of(run, key) for run in [*usable, *study.failed]) for key in named]
    file_names = {path: name for names in written for path, name in names.items() if name != path}
    return Grouped(tuple(compared), tuple(tuned), tuple(bundled), with_runs, log.all_notices(), file_names)


def _by_factors(runs: Sequence[Run], factors: Sequence[str]) -> list[tuple[dict[str, str], list[Run]]]:
    """Return the values of the factors with their runs, failed ones too; runs with equal digests stay together."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    by_digest: dict[str, tuple[str, ...]] = {}
    written = {key: without_folders(value_of(run, key) for run in runs) for key in factors}
    for run in sorted(runs, key=lambda run: (not run.is_completed, -len(run.overrides), run.name)):
        values = tuple(written[key][value_of(run, key)] for key in factors)
        if digest := run.summary.configuration_digest:
            values = by_digest.setdefault(digest, values)
        groups.setdefault(values, []).append(run)
    return [(dict(zip(factors, values, strict=True)), of_group) for values, of_group in groups.items()]


class _Log:
    """Notices and predictions met while runs are grouped."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.names: dict[str, str] = {}  # digest of predictions to the first run that has it
        self.equal: dict[Kind, list[tuple[str, str]]] = {Kind.EQUAL_PREDICTIONS: [], Kind.NO_EFFECT: []}

    def all_notices(self) -> tuple[Notice, ...]:
        """Return the notices, with one for all runs whose predictions equal those of others."""
        equal = [
            Notice(kind, tuple(run for run, _ in pairs), {"pairs": tuple(pairs)})
            for kind, pairs in self.equal.items()
            if pairs
        ]
        return (*self.notices, *equal)


def _configuration(values: dict[str, str], runs: Sequence[Run], aligned: Aligned, log: _Log) -> Configuration:
    """Return the configuration of the distinct completed runs; `log` gets a notice for the others."""
    num_failed = sum(not run.is_completed for run in runs)
    completed = [run for run in runs if run.is_completed]
    empty = Configuration(values, (), num_failed, (), np.empty((0, 0), np.int16), aligned.images)
    if not completed:
        return empty
    own: dict[str, Run] = {}
    distinct: list[Run] = []
    for run in sorted(
        _of_one_digest(completed, empty.label, log), key=lambda run: (str(run.summary.seed).zfill(20), run.name)
    ):
        digest, seed = aligned.digests.get(run.name), run.summary.seed
        if distinct and seed is not None and seed == distinct[-1].summary.seed:
            log.notices.append(Notice(Kind.REPEATED_SEED, (run.name,), {"seed": seed, "other": distinct[-1].name}))
            continue
        if digest in own:
            log.equal[Kind.EQUAL_PREDICTIONS].append((run.name, own[digest].name))
            continue
        distinct.append(run)
        if digest is None:
            continue
        if digest in log.names:
            log.equal[Kind.NO_EFFECT].append((run.name, log.names[digest]))
        own[digest] = run
        log.names.setdefault(digest, run.name)
    evaluated = tuple(run for run in distinct if run.name in aligned.predicted)
    predicted = np.stack([aligned.predicted[run.name] for run in evaluated]) if evaluated else empty.predicted
    return replace(empty, runs=tuple(distinct), evaluated=evaluated, predicted=predicted)


def _of_one_digest(runs: Sequence[Run], label: str, log: _Log) -> list[Run]:
    """Leave out runs that differ from most of their configuration in more than the factors and the seed."""
    counts = Counter(str(run.summary.configuration_digest) for run in runs)
    most_common = max(sorted(counts), key=lambda digest: counts[digest])
    same = [run for run in runs if str(run.summary.configuration_digest) == most_common]
    if others := tuple(run.name for run in runs if run not in same):
        log.notices.append(Notice(Kind.OTHER_SETTINGS, others, {"configuration": label}))
    return same

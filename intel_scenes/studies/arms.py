"""Runs as configurations, and configurations as the candidates of arms."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from intel_scenes.studies.align import Aligned, Classes, TestImages
from intel_scenes.studies.load import Run, Study
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
from intel_scenes.studies.statistics.estimates import Estimate, Ledger, Table, balanced_wilson, ledger, wilson


@dataclass(frozen=True, eq=False)
class Configuration:
    """Runs that differ in their seed alone.

    Attributes:
        values: Of the factors that vary, by key.
        runs: Completed, by seed; those with equal predictions once.
        num_failed: Further runs, that failed.
        evaluated: Those of the runs that have predictions.
        predicted: (evaluated, N) int16, the predicted classes of the test images.
        images: The test images.
    """

    values: Mapping[str, str]
    runs: tuple[Run, ...]
    num_failed: int
    evaluated: tuple[Run, ...]
    predicted: Classes
    images: TestImages

    def mean(self, key: str) -> float | None:
        """Of a key of `summary.json` over the runs that have it."""
        values = [getattr(run.summary, key) for run in self.runs]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None

    @cached_property
    def val_accuracy(self) -> float:
        """Mean over seeds of what chooses: the primary metric on validation."""
        return statistics.fmean(run.val_accuracy for run in self.runs)

    @cached_property
    def test_accuracy(self) -> float:
        """Mean over seeds of the primary metric, of the runs that have predictions where some do, as the interval."""
        return statistics.fmean(run.test_accuracy for run in self.evaluated or self.runs)

    @property
    def gaps(self) -> list[float]:
        """Train accuracy (evaluation mode) less validation accuracy at the best epoch, of each run that knows it."""
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
    def label(self) -> str:
        """Its values of the factors, such as `optim=sgd, lr_scale=3`."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "all runs"

    @property
    def table(self) -> Table:
        """(evaluated, N) float32, 1 where a test image is right."""
        right: Table = (self.predicted == self.images.labels).astype(np.float32)
        return right

    @property
    def share_of_guess(self) -> float:
        """What guessing would have right, with as many images of each class."""
        return 1 / max(len(np.unique(self.images.labels)), 1)

    @cached_property
    def estimate(self) -> Estimate | None:
        """Of the primary metric on the test images; None below two seeds."""
        if len(self.evaluated) < 2:
            return None
        runs = Runs.of(self.table, groups=self.images.groups, strata=self.images.strata)
        return runs.mean(range(len(self.evaluated)))

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Of `test_accuracy`, 95 %: over seeds and images, with one seed over images; None without predictions."""
        if self.estimate is not None:
            low, high = self.estimate.interval()
            return max(0.0, low), high
        if self.evaluated and self.images.strata is not None:
            return balanced_wilson(self.table[0], self.images.strata)
        return wilson(int(self.table.sum()), self.predicted.shape[1]) if self.evaluated else None

    @property
    def ledger(self) -> Ledger | None:
        """Of the spread over seeds; None below two."""
        if len(self.evaluated) < 2:
            return None
        weights = 1 if self.images.strata is None else balancing(self.images.strata).astype(np.float32)
        return ledger(self.table * weights)

    @cached_property
    def per_class(self) -> npt.NDArray[np.float64] | None:
        """Mean test accuracy of each class, NaN where the test split has none of it; None without predictions."""
        if not self.evaluated:
            return None
        labels, num_classes = self.images.labels, len(self.images.classes)
        right = np.bincount(labels, weights=self.table.mean(axis=0, dtype=np.float64), minlength=num_classes)
        counts = np.bincount(labels, minlength=num_classes)
        accuracies: npt.NDArray[np.float64] = np.full(len(counts), np.nan)
        return np.divide(right, counts, out=accuracies, where=counts > 0)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean over the classes that the test split has."""
        return None if self.per_class is None else float(np.nanmean(self.per_class))


@dataclass(frozen=True, eq=False)
class Candidates:
    """The configurations of an arm, of which validation chooses one.

    Attributes:
        label: Of the arm: its values of the compared factors.
        configurations: With at least one completed run.
        lost: Without one.
        confirmed: What was chosen earlier and run again on fresh seeds, which take no part in the choice; None where
            nothing was.
    """

    label: str
    configurations: tuple[Configuration, ...]
    lost: tuple[Configuration, ...]
    confirmed: Configuration | None


@dataclass(frozen=True)
class Grouped:
    """The runs of a study as candidates for its arms.

    Attributes:
        compared: Factors that make an arm.
        tuned: Factors chosen on validation within an arm.
        bundled: Those of the compared ones whose values go with the recipe, which alone names an arm.
        candidates: For each arm that has a completed run.
        notices: What is odd.
    """

    compared: tuple[str, ...]
    tuned: tuple[str, ...]
    bundled: tuple[str, ...]
    candidates: tuple[Candidates, ...]
    notices: tuple[Notice, ...]


def group(study: Study, aligned: Aligned) -> Grouped:
    """Groups the completed runs of a study by the factors that vary; failed runs count for their configuration.

    Runs that confirm an earlier choice are kept apart.
    """
    confirming = set(study.plan.confirming_runs)
    usable = [run for run in study.runs if run.name not in aligned.contradictory]
    chosen_by = [[run for run in all_ if run.name not in confirming] for all_ in (usable, study.failed)]
    compared, tuned = factors_of(study.plan, *chosen_by)
    bundled = with_recipe([*chosen_by[0], *chosen_by[1]], compared, study.plan.compared)
    named = [key for key in compared if key not in bundled]
    named = without_implied([*usable, *study.failed], named, study.plan.compared)
    seen = _Seen()
    by_label: dict[str, list[Configuration]] = {}
    confirmed: dict[str, Configuration] = {}
    for values, runs in _by_factors([*usable, *study.failed], [*compared, *tuned]):
        label = label_of(values, named)
        if tuning := [run for run in runs if run.name not in confirming]:
            by_label.setdefault(label, []).append(_configuration(values, tuning, aligned, seen))
        if again := [run for run in runs if run.name in confirming]:
            configuration = _configuration(values, again, aligned, seen)
            if failed := tuple(run.name for run in again if not run.is_completed):
                seen.notices.append(Notice(Kind.FAILED_CONFIRMING, failed, {"arm": label, "num_all": len(again)}))
            if configuration.runs:
                confirmed.setdefault(label, configuration)
    lost = [one for of_arm in by_label.values() for one in of_arm if not one.runs]
    seen.notices += [Notice(Kind.LOST, (), {"configuration": one.label, "num_failed": one.num_failed}) for one in lost]
    candidates = [
        Candidates(
            label,
            tuple(one for one in all_ if one.runs),
            tuple(one for one in all_ if not one.runs),
            confirmed.get(label),
        )
        for label, all_ in by_label.items()
    ]
    there = tuple(one for one in candidates if one.configurations)
    return Grouped(tuple(compared), tuple(tuned), tuple(bundled), there, seen.told())


def _by_factors(runs: Sequence[Run], factors: Sequence[str]) -> list[tuple[dict[str, str], list[Run]]]:
    """Values of the factors and runs, failed ones too; runs of one digest are together whatever was typed."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    by_digest: dict[str, tuple[str, ...]] = {}
    written = {key: without_folders(value_of(run, key) for run in runs) for key in factors}
    for run in sorted(runs, key=lambda run: (not run.is_completed, -len(run.overrides), run.name)):
        values = tuple(written[key][value_of(run, key)] for key in factors)
        if digest := run.summary.configuration_digest:
            values = by_digest.setdefault(digest, values)
        groups.setdefault(values, []).append(run)
    return [(dict(zip(factors, values, strict=True)), of_group) for values, of_group in groups.items()]


class _Seen:
    """What was met while the runs were grouped."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.names: dict[str, str] = {}  # of the run that first predicted what a digest stands for
        self.alike: dict[Kind, list[tuple[str, str]]] = {Kind.EQUAL_PREDICTIONS: [], Kind.NO_EFFECT: []}

    def told(self) -> tuple[Notice, ...]:
        """The notices, one for all runs that predict what others do."""
        alike = [
            Notice(kind, tuple(run for run, _ in pairs), {"pairs": tuple(pairs)})
            for kind, pairs in self.alike.items()
            if pairs
        ]
        return (*self.notices, *alike)


def _configuration(values: dict[str, str], runs: Sequence[Run], aligned: Aligned, seen: _Seen) -> Configuration:
    """A configuration of the completed runs that can be told apart; `seen` gets a notice for the others."""
    num_failed = sum(not run.is_completed for run in runs)
    completed = [run for run in runs if run.is_completed]
    empty = Configuration(values, (), num_failed, (), np.empty((0, 0), np.int16), aligned.images)
    if not completed:
        return empty
    own: dict[str, Run] = {}
    distinct: list[Run] = []
    for run in sorted(
        _of_one_digest(completed, empty.label, seen), key=lambda run: (str(run.summary.seed).zfill(20), run.name)
    ):
        digest, seed = aligned.digests.get(run.name), run.summary.seed
        if distinct and seed is not None and seed == distinct[-1].summary.seed:
            seen.notices.append(Notice(Kind.REPEATED_SEED, (run.name,), {"seed": seed, "other": distinct[-1].name}))
            continue
        if digest in own:
            seen.alike[Kind.EQUAL_PREDICTIONS].append((run.name, own[digest].name))
            continue
        distinct.append(run)
        if digest is None:
            continue
        if digest in seen.names:
            seen.alike[Kind.NO_EFFECT].append((run.name, seen.names[digest]))
        own[digest] = run
        seen.names.setdefault(digest, run.name)
    evaluated = tuple(run for run in distinct if run.name in aligned.predicted)
    predicted = np.stack([aligned.predicted[run.name] for run in evaluated]) if evaluated else empty.predicted
    return replace(empty, runs=tuple(distinct), evaluated=evaluated, predicted=predicted)


def _of_one_digest(runs: Sequence[Run], label: str, seen: _Seen) -> list[Run]:
    """Leaves out runs that differ from most in more than the factors and the seed."""
    counts = Counter(str(run.summary.configuration_digest) for run in runs)
    largest = max(sorted(counts), key=lambda digest: counts[digest])
    same = [run for run in runs if str(run.summary.configuration_digest) == largest]
    if others := tuple(run.name for run in runs if run not in same):
        seen.notices.append(Notice(Kind.OTHER_SETTINGS, others, {"configuration": label}))
    return same

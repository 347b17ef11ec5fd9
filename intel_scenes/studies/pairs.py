"""Comparison of each pair of arms."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.load import Run
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.estimates import Estimate, mcnemar, probability_of_better
from intel_scenes.studies.statistics.families import moderated
from intel_scenes.studies.statistics.verdicts import (
    BETTER,
    NOT_TUNED,
    UNTESTABLE,
    WORSE,
    Design,
    Verdict,
    judge,
)

MAX_ARMS = 100  # of which all pairs are compared: 4,950


@dataclass(frozen=True)
class Pair:
    """Comparison of two arms.

    Attributes:
        a: Label of the first arm.
        b: Label of the second arm.
        difference: Primary metric on test, a minus b; over the common seeds where the arms are partly paired.
        is_paired: The runs are paired by seed.
        num_seeds: Numbers of seeds of a and of b that are used.
        estimate: Estimate of the difference with moderated seed variance; None with fewer than two seeds on a side.
        verdict: Verdict within the family; None where the pair is not in it.
        text: Text of the verdict, or why there is none; empty where the pair is not in the family.
        p_better: P(a > b), as a share of pairs of runs.
    """

    a: str
    b: str
    difference: float
    is_paired: bool
    num_seeds: tuple[int, int]
    estimate: Estimate | None
    verdict: Verdict | None
    text: str
    p_better: float

    def holm_interval(self) -> tuple[float, float] | None:
        """Return the Holm-adjusted interval of the verdict, which is not simultaneous; None without a verdict."""
        return self._interval(self.verdict.level_holm) if self.verdict else None

    def verdict_interval(self) -> tuple[float, float] | None:
        """Return `holm_interval`, or that of the two one-sided tests where the verdict is `practically equal`."""
        return self._interval(1 - self.verdict.confidence) if self.verdict else None

    def bonferroni_interval(self) -> tuple[float, float] | None:
        """Return the Bonferroni interval, simultaneous over all pairs of the family; None without a verdict."""
        return self._interval(self.verdict.level_bonferroni) if self.verdict else None

    def _interval(self, level: float) -> tuple[float, float] | None:
        return self.estimate.interval(1 - level) if self.estimate else None

    def turned(self) -> "Pair":
        """Return the comparison of the second arm with the first."""
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            num_seeds=self.num_seeds[::-1],
            estimate=self.estimate and replace(self.estimate, value=-self.estimate.value),
            text={BETTER: WORSE, WORSE: BETTER}.get(self.text, self.text),
            p_better=1 - self.p_better,
        )


@dataclass(frozen=True)
class TestedPairs:
    """Comparisons of the pairs of a study's arms.

    Attributes:
        pairs: With the better arm on validation first, or the baseline first where not all pairs are compared.
        design: Design whose power for a pair of the family can be computed; None where nothing can be tested.
        notices: Notices for the reader.
    """

    pairs: tuple[Pair, ...]
    design: Design | None
    notices: tuple[Notice, ...]


def compare_arms(arms: Sequence[Arm], baseline: Arm | None, rope: float) -> TestedPairs:
    """Compare pairs of arms; the family of tests is all pairs, or those with the baseline.

    With more than `MAX_ARMS` arms and no baseline, each is compared only with the best on validation.

    Args:
        arms: In order of validation accuracy.
        baseline: Arm that all others are compared with; None compares all pairs.
        rope: Region of practical equivalence: the largest difference without practical meaning, a fraction.
    """
    compared = comparable(arms)
    if len(compared) < 2:
        return TestedPairs((), None, ())
    all_pairs = len(compared) <= MAX_ARMS
    only_leader = baseline is None and not all_pairs
    baseline = compared[0] if only_leader else baseline
    pairs, design = _pairs(compared, baseline, rope, all_pairs=all_pairs)
    notices = [Notice(Kind.ONLY_LEADER, (), {"most": MAX_ARMS, "leader": compared[0].label})] if only_leader else []
    if partly := tuple(
        (pair.a, pair.b, pair.num_seeds[0])
        for pair, (arm, other) in zip(pairs, _couples(compared, baseline, all_pairs=all_pairs), strict=True)
        if pair.is_paired and max(len(arm.tested.evaluated), len(other.tested.evaluated)) > pair.num_seeds[0]
    ):
        notices.append(Notice(Kind.PARTLY_PAIRED, (), {"pairs": partly}))
    if unpaired := tuple((pair.a, pair.b) for pair in pairs if pair.estimate and not pair.is_paired):
        notices.append(Notice(Kind.UNPAIRED, (), {"pairs": unpaired}))
    if any(arm.tested.num_failed for arm in compared):
        worst, _ = _pairs(compared, baseline, rope, all_pairs=all_pairs, failed_at_chance=True)
        notices += [
            Notice(Kind.IF_FAILED_GUESSED, (), {"a": pair.a, "b": pair.b, "worst": other.text, "verdict": pair.text})
            for pair, other in zip(pairs, worst, strict=True)
            if pair.text != other.text and pair.num_seeds != (1, 1)
        ]
    return TestedPairs(tuple(pairs), design, tuple(notices))


def _couples(arms: Sequence[Arm], baseline: Arm | None, *, all_pairs: bool) -> list[tuple[Arm, Arm]]:
    if all_pairs or baseline is None:
        return list(itertools.combinations(arms, 2))
    return [(baseline, arm) for arm in arms if arm is not baseline] if baseline in arms else []


def _pairs(
    arms: Sequence[Arm],
    baseline: Arm | None,
    rope: float,
    *,
    all_pairs: bool,
    failed_at_chance: bool = False,
) -> tuple[list[Pair], Design | None]:
    """Return the pairs and the design of their family, with failed runs left out or counted at chance level."""
    tables = [_table(arm, failed_at_chance=failed_at_chance) for arm in arms]
    images = arms[0].tested.images
    runs, of_tables = Runs.stacked(tables, groups=images.groups, strata=images.strata)
    rows = {arm.label: own for arm, own in zip(arms, of_tables, strict=True)}
    indices = {arm.label: index for index, arm in enumerate(arms)}
    couples = _couples(arms, baseline, all_pairs=all_pairs)
    num_shown = len(couples)
    if not all_pairs:  # pairs with the leader alone do not determine the variance of every arm
        couples = couples + list(itertools.pairwise([arm for arm in arms if arm is not baseline]))
    differences = [
        difference_of(runs, arm.tested, other.tested, rows[arm.label], rows[other.label]) for arm, other in couples
    ]
    tested = [index for index, difference in enumerate(differences) if difference is not None]
    raw = [difference for difference in differences if difference is not None]
    of_arms = [(indices[couples[index][0].label], indices[couples[index][1].label]) for index in tested]
    estimates = dict(zip(tested, moderated(raw, of_arms), strict=True)) if raw else {}
    family = [index for index in tested if index < num_shown and (baseline is None or baseline in couples[index])]
    judged = dict(zip(family, judge([estimates[index] for index in family], rope), strict=True))
    varies = any(difference.components.rest > 0 for difference in raw)  # else all seeds have equal predictions
    design = None
    if family and varies and not failed_at_chance:
        accuracy = float(runs.means.mean())
        design = Design.of(raw, of_arms, has_baseline=baseline is not None, accuracy=accuracy)
    pairs = [
        _pair(arm, other, runs, rows, differences[index], estimates.get(index), judged.get(index))
        for index, (arm, other) in enumerate(couples[:num_shown])
    ]
    return pairs, design


def _table(arm: Arm, *, failed_at_chance: bool) -> npt.NDArray[np.float32]:
    """Return (runs, N) 1 where a test image is correct; failed runs are added at chance level where asked."""
    table = arm.tested.table
    if not failed_at_chance or not arm.tested.num_failed:
        return table
    failed = np.full((arm.tested.num_failed, table.shape[1]), arm.tested.chance_level, np.float32)
    return np.concatenate([table, failed])


def difference_of(
    runs: Runs, first: Configuration, second: Configuration, rows_a: Sequence[int], rows_b: Sequence[int]
) -> Estimate | None:
    """Estimate the difference of two configurations, paired by seed; rows beyond their runs have no partner."""
    return runs.difference(rows_a, rows_b, _common(first, second, rows_a, rows_b))


def _common(
    first: Configuration, second: Configuration, rows_a: Sequence[int], rows_b: Sequence[int]
) -> list[tuple[int, int]]:
    """Return pairs of rows whose runs share a seed; none where failed runs are counted at chance level."""
    if len(rows_a) > len(first.evaluated) or len(rows_b) > len(second.evaluated):
        return []
    return [(rows_a[row], rows_b[match]) for row, match in paired_rows(first.evaluated, second.evaluated)]


def _pair(
    arm: Arm,
    other: Arm,
    runs: Runs,
    rows: dict[str, list[int]],
    difference: Estimate | None,
    estimate: Estimate | None,
    verdict: Verdict | None,
) -> Pair:
    first, second = rows[arm.label], rows[other.label]
    common = _common(arm.tested, other.tested, first, second)
    num_seeds = difference.num_seeds if difference else (len(first), len(second))
    is_paired = difference.is_paired if difference else (len(first), len(second), len(common)) == (1, 1, 1)
    has_partners = difference is not None and is_paired
    by_run = runs.means[first], runs.means[second]
    if has_partners:
        by_run = runs.means[[row for row, _ in common]], runs.means[[match for _, match in common]]
    text = "" if difference else UNTESTABLE
    if verdict:
        text = NOT_TUNED if arm.is_unequal or other.is_unequal else verdict.text
    return Pair(
        a=arm.label,
        b=other.label,
        difference=difference.value if difference else float(by_run[0].mean() - by_run[1].mean()),
        is_paired=is_paired,
        num_seeds=num_seeds,
        estimate=estimate,
        verdict=verdict,
        text=text,
        p_better=probability_of_better(*by_run, is_paired=has_partners),
    )


@dataclass(frozen=True)
class OneSeed:
    """Comparison of two runs of arms with one seed each, which says nothing about other seeds.

    Attributes:
        a: Label of the arm of the first run.
        b: Label of the arm of the second run.
        only_a: Number of test images that only the first run classifies correctly.
        only_b: Number of test images that only the second run classifies correctly.
        p_value: p-value of McNemar's exact test.
    """

    a: str
    b: str
    only_a: int
    only_b: int
    p_value: float


def single_runs(arms: Sequence[Arm]) -> tuple[OneSeed, ...]:
    """Compare each arm with a single run with the best of these on validation."""
    single = [arm for arm in comparable(arms) if len(arm.tested.evaluated) == 1]
    return tuple(
        OneSeed(arm.label, single[0].label, *mcnemar(arm.tested.table[0] > 0, single[0].tested.table[0] > 0))
        for arm in single[1:]
    )


def paired_rows(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[int, int]]:
    """Return pairs of rows with equal seed, split and image order, and equal initial weights within an architecture.

    Of two fractions of the training images drawn with one seed, the smaller is part of the larger: such runs are paired
    although the orders of their images differ.
    """
    by_seed = {run.summary.seed: (row, run.summary) for row, run in enumerate(second)}
    if None in by_seed or len(by_seed) < len(second):
        return []
    rows = []
    for row, run in enumerate(first):
        match, mine = by_seed.get(run.summary.seed), run.summary
        if match is None:
            continue
        theirs = match[1]
        pairs: list[tuple[object, object]] = [(mine.split_digest, theirs.split_digest)]
        if (mine.train_fraction or 1) == (theirs.train_fraction or 1):
            pairs.append((mine.order_digest, theirs.order_digest))
        else:
            pairs.append((mine.subset_seed, theirs.subset_seed))
        if mine.architecture == theirs.architecture:
            pairs.append((mine.init_digest, theirs.init_digest))
        if all(digest is not None and digest == other_digest for digest, other_digest in pairs):
            rows.append((row, match[0]))
    return rows

"""What each pair of arms shows."""

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

MAX_ARMS = 100  # that are compared each with each: 4,950 pairs


@dataclass(frozen=True)
class Pair:
    """What the first of two arms is against the second.

    Attributes:
        a: Label of the first.
        b: Label of the second.
        difference: Primary metric on test of a less that of b; of partly paired arms over the seeds that both have.
        is_paired: The seeds are pairs.
        num_seeds: Of a and of b, that the difference is over.
        estimate: From two seeds on each side; its variance over seeds borrows from that of the other arms.
        verdict: In the family; None where the pair is not in it.
        text: Of the verdict, or why there is none; empty where the pair is not in the family.
        p_better: P(a > b), the share of pairs of runs.
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
        """The interval that goes with the verdict: Holm-adjusted, not simultaneous; None where there is none."""
        return self._interval(self.verdict.level_holm) if self.verdict else None

    def verdict_interval(self) -> tuple[float, float] | None:
        """As `holm_interval`, but that of both one-sided tests where the verdict is `practically equal`."""
        return self._interval(1 - self.verdict.confidence) if self.verdict else None

    def bonferroni_interval(self) -> tuple[float, float] | None:
        """One of the simultaneous intervals of all pairs of the family; None where it is not in it."""
        return self._interval(self.verdict.level_bonferroni) if self.verdict else None

    def _interval(self, level: float) -> tuple[float, float] | None:
        return self.estimate.interval(1 - level) if self.estimate else None

    def turned(self) -> "Pair":
        """What the second is against the first."""
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
class Tested:
    """The pairs of a study's arms.

    Attributes:
        pairs: The better on validation first; a baseline first where it is the only one that others are compared with.
        design: What the study can show of a pair of its family; None where nothing can be tested.
        notices: What is odd.
    """

    pairs: tuple[Pair, ...]
    design: Design | None
    notices: tuple[Notice, ...]


def compare_arms(arms: Sequence[Arm], baseline: Arm | None, rope: float) -> Tested:
    """Pairs of the arms that can be compared; the family of the tests is all of them, or those with the baseline.

    Of more than `MAX_ARMS` each is compared with the best on validation alone.

    Args:
        arms: Best on validation first.
        baseline: What the others are compared with; None compares each with each.
        rope: The largest difference that makes no practical difference, a fraction.
    """
    told = comparable(arms)
    if len(told) < 2:
        return Tested((), None, ())
    all_pairs = len(told) <= MAX_ARMS
    only_leader = baseline is None and not all_pairs
    baseline = told[0] if only_leader else baseline
    pairs, design = _pairs(told, baseline, rope, all_pairs=all_pairs)
    notices = [Notice(Kind.ONLY_LEADER, (), {"most": MAX_ARMS, "leader": told[0].label})] if only_leader else []
    if partly := tuple(
        (pair.a, pair.b, pair.num_seeds[0])
        for pair, (one, other) in zip(pairs, _couples(told, baseline, all_pairs=all_pairs), strict=True)
        if pair.is_paired and max(len(one.tested.evaluated), len(other.tested.evaluated)) > pair.num_seeds[0]
    ):
        notices.append(Notice(Kind.PARTLY_PAIRED, (), {"pairs": partly}))
    if unpaired := tuple((pair.a, pair.b) for pair in pairs if pair.estimate and not pair.is_paired):
        notices.append(Notice(Kind.UNPAIRED, (), {"pairs": unpaired}))
    if any(arm.tested.num_failed for arm in told):
        worst, _ = _pairs(told, baseline, rope, all_pairs=all_pairs, guesses=True)
        notices += [
            Notice(Kind.IF_FAILED_GUESSED, (), {"a": pair.a, "b": pair.b, "worst": other.text, "verdict": pair.text})
            for pair, other in zip(pairs, worst, strict=True)
            if pair.text != other.text and pair.num_seeds != (1, 1)
        ]
    return Tested(tuple(pairs), design, tuple(notices))


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
    guesses: bool = False,
) -> tuple[list[Pair], Design | None]:
    """The pairs, with failed runs left out or taken to have guessed, and what their family can show."""
    tables = [_table(arm, guesses=guesses) for arm in arms]
    images = arms[0].tested.images
    runs, of_tables = Runs.stacked(tables, groups=images.groups, strata=images.strata)
    rows = {arm.label: own for arm, own in zip(arms, of_tables, strict=True)}
    places = {arm.label: place for place, arm in enumerate(arms)}
    couples = _couples(arms, baseline, all_pairs=all_pairs)
    num_shown = len(couples)
    if not all_pairs:  # so that the variance of each arm is determined: those with the leader alone leave one open
        couples = couples + list(itertools.pairwise([arm for arm in arms if arm is not baseline]))
    differences = [
        difference_of(runs, one.tested, other.tested, rows[one.label], rows[other.label]) for one, other in couples
    ]
    tested = [place for place, difference in enumerate(differences) if difference is not None]
    raw = [difference for difference in differences if difference is not None]
    of_arms = [(places[couples[place][0].label], places[couples[place][1].label]) for place in tested]
    lent = dict(zip(tested, moderated(raw, of_arms), strict=True)) if raw else {}
    family = [place for place in tested if place < num_shown and (baseline is None or baseline in couples[place])]
    judged = dict(zip(family, judge([lent[place] for place in family], rope), strict=True))
    varies = any(difference.components.rest > 0 for difference in raw)  # else seeds predict alike, and tell nothing
    design = None
    if family and varies and not guesses:
        accuracy = float(runs.means.mean())
        design = Design.of(raw, of_arms, has_baseline=baseline is not None, accuracy=accuracy)
    pairs = [
        _pair(one, other, runs, rows, differences[place], lent.get(place), judged.get(place))
        for place, (one, other) in enumerate(couples[:num_shown])
    ]
    return pairs, design


def _table(arm: Arm, *, guesses: bool) -> npt.NDArray[np.float32]:
    """(runs, N) 1 where a test image is right; failed runs that are taken to have guessed are right by chance."""
    table = arm.tested.table
    if not guesses or not arm.tested.num_failed:
        return table
    guessed = np.full((arm.tested.num_failed, table.shape[1]), arm.tested.share_of_guess, np.float32)
    return np.concatenate([table, guessed])


def difference_of(
    runs: Runs, one: Configuration, other: Configuration, rows_a: Sequence[int], rows_b: Sequence[int]
) -> Estimate | None:
    """The mean of one configuration less that of another, paired by seeds; rows beyond their runs have no partner."""
    return runs.difference(rows_a, rows_b, _common(one, other, rows_a, rows_b))


def _common(
    one: Configuration, other: Configuration, rows_a: Sequence[int], rows_b: Sequence[int]
) -> list[tuple[int, int]]:
    """Pairs of rows whose runs share a seed; none where a failed run that is taken to have guessed is among them."""
    if len(rows_a) > len(one.evaluated) or len(rows_b) > len(other.evaluated):
        return []
    return [(rows_a[row], rows_b[match]) for row, match in paired_rows(one.evaluated, other.evaluated)]


def _pair(
    one: Arm,
    other: Arm,
    runs: Runs,
    rows: dict[str, list[int]],
    difference: Estimate | None,
    lent: Estimate | None,
    verdict: Verdict | None,
) -> Pair:
    first, second = rows[one.label], rows[other.label]
    common = _common(one.tested, other.tested, first, second)
    num_seeds = difference.num_seeds if difference else (len(first), len(second))
    is_paired = difference.is_paired if difference else len(common) == 1
    has_partners = difference is not None and is_paired
    by_run = runs.means[first], runs.means[second]
    if has_partners:
        by_run = runs.means[[row for row, _ in common]], runs.means[[match for _, match in common]]
    text = "" if difference else UNTESTABLE
    if verdict:
        text = NOT_TUNED if one.is_unequal or other.is_unequal else verdict.text
    return Pair(
        a=one.label,
        b=other.label,
        difference=difference.value if difference else float(by_run[0].mean() - by_run[1].mean()),
        is_paired=is_paired,
        num_seeds=num_seeds,
        estimate=lent,
        verdict=verdict,
        text=text,
        p_better=probability_of_better(*by_run, is_paired=has_partners),
    )


@dataclass(frozen=True)
class OneSeed:
    """Two runs of one seed each: what can be said of them alone.

    Attributes:
        a: Label of the arm of the first.
        b: Label of the arm of the second.
        only_a: Test images that only the first has right.
        only_b: Test images that only the second has right.
        p_value: Of McNemar's exact test.
    """

    a: str
    b: str
    only_a: int
    only_b: int
    p_value: float


def single_runs(arms: Sequence[Arm]) -> tuple[OneSeed, ...]:
    """Each other arm of a single run against the best one on validation that has a single run, too."""
    single = [arm for arm in comparable(arms) if len(arm.tested.evaluated) == 1]
    found = []
    for arm in single[1:]:
        counts = mcnemar(arm.tested.table[0] > 0, single[0].tested.table[0] > 0)
        found.append(OneSeed(arm.label, single[0].label, *counts))
    return tuple(found)


def paired_rows(one: Sequence[Run], other: Sequence[Run]) -> list[tuple[int, int]]:
    """Rows whose runs had one seed, split and order; within an architecture one start too.

    Of two shares of the training images the smaller is part of the larger where one seed drew both: these are pairs,
    though the order of more images cannot be that of fewer.
    """
    there = {run.summary.seed: (row, run.summary) for row, run in enumerate(other)}
    if None in there or len(there) < len(other):
        return []
    rows = []
    for row, run in enumerate(one):
        match, mine = there.get(run.summary.seed), run.summary
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

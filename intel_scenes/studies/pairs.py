"""What each pair of arms shows."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from intel_scenes.studies.arms import Arm
from intel_scenes.studies.collect import Run
from intel_scenes.studies.statistics.estimates import (
    Components,
    Estimate,
    Table,
    mcnemar,
    paired_difference,
    probability_of_better,
    unpaired_difference,
)
from intel_scenes.studies.statistics.families import moderated, unsteady
from intel_scenes.studies.statistics.verdicts import (
    BETTER,
    NOT_TUNED,
    UNTESTABLE,
    WORSE,
    Design,
    Verdict,
    judge,
)

SMALLER = (0.005, 0.01, 0.02)  # differences that a study may want to show, as fractions
# Of two configurations at about 90 %, in the simulations of the tests.
ASSUMED = {"seed": 2 * 0.003**2, "image": 0.0064, "rest": 0.12}
ASSUMED_IN_WORDS = "0.3 points from seed to seed, and two runs that differ on 13 % of the images"


@dataclass(frozen=True)
class Pair:
    """What the first of two arms is against the second.

    Attributes:
        a: Label of the first.
        b: Label of the second.
        difference: Test accuracy of a less that of b.
        is_paired: The seeds are pairs.
        num_seeds: Of a and of b.
        estimate: From two seeds on each side; its spread leans on that of the family.
        verdict: In the family; None where the pair is not in it.
        text: Of the verdict, or why there is none; empty where the pair is not in the family.
        num_arms: In the family.
        p_better: P(a > b) with its interval.
        note: A sentence on what else is to be known of the pair; may be empty.
    """

    a: str
    b: str
    difference: float
    is_paired: bool
    num_seeds: tuple[int, int]
    estimate: Estimate | None
    verdict: Verdict | None
    text: str
    num_arms: int
    p_better: tuple[float, float, float]
    note: str = ""

    def adjusted_interval(self) -> tuple[float, float] | None:
        """The interval that goes with the verdict; None where there is none."""
        if self.estimate is None or self.verdict is None:
            return None
        return self.estimate.interval(1 - self.verdict.level_holm)

    def turned(self) -> "Pair":
        """What the second is against the first."""
        share, low, high = self.p_better
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            num_seeds=self.num_seeds[::-1],
            estimate=self.estimate and replace(self.estimate, value=-self.estimate.value),
            text={BETTER: WORSE, WORSE: BETTER}.get(self.text, self.text),
            p_better=(1 - share, 1 - high, 1 - low),
        )


@dataclass(frozen=True)
class _Sample:
    """The runs of an arm's chosen configuration, and failed ones that are taken to have guessed."""

    arm: Arm
    num_guesses: int = 0
    share: float = 0.0  # of images that a guess has right

    @property
    def table(self) -> Table:
        table = self.arm.table
        assert table is not None
        guesses = np.full((self.num_guesses, table.shape[1]), self.share, np.float32)
        return np.concatenate([table, guesses]) if self.num_guesses else table


def compare_arms(arms: Sequence[Arm], baseline: Arm | None, rope: float, *, all_pairs: bool = True) -> list[Pair]:
    """Pairs of the arms that have predictions; the family of the tests is all of them, or those with the baseline.

    Args:
        arms: Best on validation first.
        baseline: What the others are compared with; None compares each with each.
        rope: The largest difference that makes no practical difference, a fraction.
        all_pairs: Also those that a baseline leaves out of the family; without a verdict.
    """
    told = [arm for arm in arms if arm.predicted is not None]
    samples = [_Sample(arm) for arm in told]
    pairs = _pairs(samples, baseline, rope, all_pairs=all_pairs)
    if not any(arm.num_failed for arm in told):
        return pairs
    guesses = [_Sample(arm, arm.num_failed, arm.share_of_guess) for arm in told]
    return [
        replace(pair, note=pair.note or _if_failed_had_guessed(pair, worst))
        for pair, worst in zip(pairs, _pairs(guesses, baseline, rope, all_pairs=all_pairs), strict=True)
    ]


def _pairs(samples: Sequence[_Sample], baseline: Arm | None, rope: float, *, all_pairs: bool) -> list[Pair]:
    if all_pairs or baseline is None:
        couples = list(itertools.combinations(samples, 2))
    else:
        first = next((sample for sample in samples if sample.arm is baseline), None)
        couples = [(first, sample) for sample in samples if first is not None and sample is not first]
    pairs = [_pair(one, other) for one, other in couples]
    family = [
        place
        for place, ((one, other), pair) in enumerate(zip(couples, pairs, strict=True))
        if pair.estimate is not None and (baseline is None or one.arm is baseline or other.arm is baseline)
    ]
    members = {id(sample.arm): sample for place in family for sample in couples[place]}
    wild = dict(zip(members, unsteady([_by_run(sample) for sample in members.values()]), strict=True))
    calm = [place for place in family if not any(wild[id(sample.arm)] for sample in couples[place])]
    estimates = {place: estimate for place in family if (estimate := pairs[place].estimate)}
    leaning = moderated([estimates[place] for place in calm], len(members) - sum(wild.values()))
    estimates |= dict(zip(calm, leaning, strict=True))
    verdicts = judge(list(estimates.values()), rope)
    judged = dict(zip(estimates, verdicts, strict=True))
    result = []
    for place, ((one, other), pair) in enumerate(zip(couples, pairs, strict=True)):
        if (verdict := judged.get(place)) is not None:
            text = NOT_TUNED if one.arm.unequal or other.arm.unequal else verdict.text
            result.append(replace(pair, estimate=estimates[place], verdict=verdict, text=text, num_arms=len(members)))
        else:
            result.append(replace(pair, text="" if pair.estimate is not None else pair.text))
    return result


def _by_run(sample: _Sample) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    accuracies: np.ndarray[tuple[int], np.dtype[np.float64]] = sample.table.mean(axis=1, dtype=np.float64)
    return accuracies


def _pair(one: _Sample, other: _Sample) -> Pair:
    """Two arms by themselves."""
    first, second = one.table, other.table
    rows = paired_rows(one.arm.runs, other.arm.runs)
    is_paired = len(rows) == len(first) == len(second)
    if is_paired:
        second = second[[row for _, row in rows]]
    by_run = first.mean(axis=1, dtype=np.float64), second.mean(axis=1, dtype=np.float64)
    num_seeds, estimate, note = (len(first), len(second)), None, ""
    if min(num_seeds) >= 2:
        estimate = (paired_difference if is_paired else unpaired_difference)(first, second)
    elif num_seeds == (1, 1):
        only_a, only_b, p_value = mcnemar(first[0] > 0, second[0] > 0)
        note = (
            f"of these two runs, that of {one.arm.label} alone is right on {only_a} test images and that of "
            f"{other.arm.label} alone on {only_b} (McNemar's exact p {p_value:.2g}): it says nothing of other seeds"
        )
    return Pair(
        a=one.arm.label,
        b=other.arm.label,
        difference=float(by_run[0].mean() - by_run[1].mean()),
        is_paired=is_paired,
        num_seeds=num_seeds,
        estimate=estimate,
        verdict=None,
        text=UNTESTABLE,
        num_arms=2,
        p_better=probability_of_better(*by_run, is_paired=is_paired),
        note=note,
    )


def paired_rows(one: Sequence[Run], other: Sequence[Run]) -> list[tuple[int, int]]:
    """Rows whose runs had one seed, split and order; within an architecture one start too."""
    there = {run.summary.seed: (row, run.summary) for row, run in enumerate(other)}
    if None in there or len(there) < len(other):
        return []
    rows = []
    for row, run in enumerate(one):
        match, mine = there.get(run.summary.seed), run.summary
        if match is None:
            continue
        theirs = match[1]
        pairs = [(mine.split_digest, theirs.split_digest), (mine.order_digest, theirs.order_digest)]
        if mine.model_name == theirs.model_name:
            pairs.append((mine.init_digest, theirs.init_digest))
        if all(digest is not None and digest == other_digest for digest, other_digest in pairs):
            rows.append((row, match[0]))
    return rows


def _if_failed_had_guessed(pair: Pair, worst: Pair) -> str:
    """How the verdict would change; empty where it would stay."""
    if pair.text == worst.text:
        return ""
    return f"had the failed runs guessed, {pair.a} against {pair.b} would be: {worst.text}, and not: {pair.text}"


def would_show(
    pairs: Sequence[Pair], num_arms: int, num_seeds: int, *, num_images: int, has_baseline: bool
) -> list[str]:
    """What a study of so many arms and seeds would show, by the spread that pairs have, or one that is assumed.

    Args:
        pairs: Of earlier runs; those that can be tested count, and none may be there.
        num_arms: Two or more.
        num_seeds: Of each arm.
        num_images: Of the test split.
        has_baseline: All are compared with one of them alone.
    """
    if num_seeds < 2:
        return ["one seed an arm: no difference between arms can be tested, seed=1,2,3 asks for three"]
    known = [pair.estimate.components for pair in pairs if pair.estimate]
    parts, source = (
        Components(**ASSUMED, num_images=num_images),
        f"assuming {num_images:,} test images, {ASSUMED_IN_WORDS}",
    )
    if known:
        seed, image, rest = (fmean(getattr(one, name) for one in known) for name in ("seed", "image", "rest"))
        parts, source = Components(seed, image, rest, known[0].num_images), "by the spread of the runs that are there"
    design = Design(parts, num_arms, has_baseline)
    shown = f"{num_arms} arms with {num_seeds} seeds would show {100 * design.smallest_shown(num_seeds):.1f} points"
    chances = [f"{100 * size:g} points {design.power_of_leader(size, num_seeds):.0%}" for size in SMALLER]
    return [
        f"{shown} of test accuracy, in four studies of five ({source})",
        f"an arm that is better than all others would be shown to be in so many of its pairs: {', '.join(chances)}",
        f"seeds needed for {_needs(design)}",
    ]


def could_have_shown(pair: Pair, *, has_baseline: bool) -> str:
    """The smallest difference that the seeds of a pair would show in its family, and the seeds that others need."""
    if pair.estimate is None or pair.estimate.components.variance(2) == 0:
        return ""
    design = Design(pair.estimate.components, pair.num_arms, has_baseline, pair.is_paired)
    shown = f"{100 * design.smallest_shown(min(pair.num_seeds)):.1f} points"
    return f"could have been shown: {shown}; seeds needed for {_needs(design)}"


def _needs(design: Design) -> str:
    needed = {size: design.seeds_needed(size) for size in SMALLER}
    texts = [
        f"{100 * size:g} points: {num if num <= 100 else 'more than 100'}"
        for size, num in needed.items()
        if num is not None
    ]
    if limited := [f"{100 * size:g}" for size, num in needed.items() if num is None]:
        texts.append(f"{' or '.join(limited)} points: no number of seeds, the test images are the limit")
    return ", ".join(texts)

"""What each pair of arms shows."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

import numpy as np

from intel_scenes.studies.collect import Run
from intel_scenes.studies.statistics.estimates import (
    Components,
    Estimate,
    Table,
    mcnemar,
    moderated,
    paired_difference,
    probability_of_better,
    unpaired_difference,
)
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
ASSUMED = Components(seed=2 * 0.003**2, image=0.0064, rest=0.12, num_images=3000)
ASSUMED_IN_WORDS = (
    "assuming 3,000 test images, 0.3 points from seed to seed, and two runs that differ on 13 % of the images"
)


class Chosen(Protocol):
    """What a comparison of two arms looks at."""

    label: str
    runs: list[Run]
    unequal: list[str]

    @property
    def table(self) -> Table | None:
        """(seeds, images), right or wrong."""

    @property
    def num_failed(self) -> int:
        """Runs beside `runs` that failed."""


@dataclass
class Pair:
    """What the first of two arms is against the second.

    Attributes:
        a: Label of the first.
        b: Label of the second.
        difference: Test accuracy of a less that of b.
        is_paired: The seeds are pairs.
        num_seeds: Of a and of b.
        estimate: From two seeds on each side.
        verdict: In the family; None where the pair is not in it.
        text: Of the verdict, or why there is none.
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
    p_better: tuple[float, float, float]
    note: str = ""


def compare_arms(arms: Sequence[Chosen], baseline: int | None, rope: float, num_classes: int) -> list[Pair]:
    """Pairs of all arms that have predictions; the family of the tests is all of them, or those with the baseline.

    Args:
        arms: Best on validation first.
        baseline: Position of the arm that the others are compared with; None compares each with each.
        rope: The largest difference that makes no practical difference, a fraction.
        num_classes: Of the data set: a failed run counts in the worst case as guessing.
    """
    told = [(place, arm) for place, arm in enumerate(arms) if arm.table is not None]
    pairs = list(itertools.combinations(told, 2))
    found = [_pair(one, other) for (_, one), (_, other) in pairs]
    family = [
        index
        for index, ((one, _), (other, _)) in enumerate(pairs)
        if found[index].estimate is not None and (baseline is None or baseline in (one, other))
    ]
    estimates = [estimate for index in family if (estimate := found[index].estimate)]
    estimates = moderated(estimates)
    for index, estimate, verdict in zip(family, estimates, judge(estimates, rope), strict=True):
        pair, ((_, one), (_, other)) = found[index], pairs[index]
        pair.estimate, pair.verdict, pair.text = estimate, verdict, verdict.text
        if one.unequal or other.unequal:
            pair.text = NOT_TUNED
        pair.note = _worst_case(pair, one, other, rope, num_classes)
    for index, pair in enumerate(found):
        if pair.estimate is not None and index not in set(family):
            pair.text = ""
    return found


def _pair(one: Chosen, other: Chosen) -> Pair:
    first, second = one.table, other.table
    assert first is not None
    assert second is not None
    rows = _paired_rows(one.runs, other.runs)
    is_paired = len(rows) >= 2 and len(rows) == min(len(one.runs), len(other.runs))
    if is_paired:
        first, second = first[[row for row, _ in rows]], second[[row for _, row in rows]]
    by_run = first.mean(axis=1, dtype=np.float64), second.mean(axis=1, dtype=np.float64)
    difference = float(by_run[0].mean() - by_run[1].mean())
    p_better = probability_of_better(*by_run, is_paired=is_paired)
    pair = Pair(
        one.label, other.label, difference, is_paired, (len(first), len(second)), None, None, UNTESTABLE, p_better
    )
    if min(pair.num_seeds) >= 2:
        pair.estimate = (paired_difference if is_paired else unpaired_difference)(first, second)
    elif pair.num_seeds == (1, 1):
        only_a, only_b, p_value = mcnemar(first[0] > 0, second[0] > 0)
        pair.note = (
            f"of these two runs, that of {one.label} alone is right on {only_a} test images and that of {other.label} "
            f"alone on {only_b} (McNemar's exact p {p_value:.2g}): one run a side says nothing of other seeds"
        )
    return pair


def _paired_rows(one: Sequence[Run], other: Sequence[Run]) -> list[tuple[int, int]]:
    """Rows whose runs had one seed, split and order; within an architecture one start too."""
    there = {run.summary["seed"]: (row, run.summary) for row, run in enumerate(other)}
    rows = []
    for row, run in enumerate(one):
        match, mine = there.get(run.summary["seed"]), run.summary
        if match is None:
            continue
        keys = ["split_digest", "order_digest"]
        if mine["model_name"] == match[1]["model_name"]:
            keys.append("init_digest")
        if all(mine[key] is not None and mine[key] == match[1][key] for key in keys):
            rows.append((row, match[0]))
    return rows


def _worst_case(pair: Pair, one: Chosen, other: Chosen, rope: float, num_classes: int) -> str:
    """What the verdict would be if every failed run had guessed; empty where it would stay or nothing failed."""
    if not (one.num_failed or other.num_failed) or pair.verdict is None:
        return ""
    guess = np.float32(1 / max(num_classes, 1))
    filled = []
    for arm in (one, other):
        assert arm.table is not None
        filled.append(np.concatenate([arm.table, np.full((arm.num_failed, arm.table.shape[1]), guess, np.float32)]))
    (verdict,) = judge([unpaired_difference(*filled)], rope)
    failed = f"{one.num_failed} runs of {one.label} and {other.num_failed} of {other.label} failed"
    return f"{failed}: had they guessed, the verdict on {pair.a} against {pair.b} alone would be: {verdict.text}"


def would_show(pairs: Sequence[Pair], num_arms: int, num_seeds: int, *, has_baseline: bool) -> str:
    """What a study of so many arms and seeds would show, by the spread that pairs have, or one that is assumed.

    Args:
        pairs: Of earlier runs; those that can be tested count, and none may be there.
        num_arms: Two or more.
        num_seeds: Of each arm.
        has_baseline: All are compared with one of them alone.
    """
    if num_seeds < 2:
        return "one seed an arm: no difference between arms can be tested, seed=1,2,3 asks for three"
    known = [pair.estimate.components for pair in pairs if pair.estimate]
    parts, source = ASSUMED, ASSUMED_IN_WORDS
    if known:
        seed, image, rest = (fmean(getattr(one, name) for one in known) for name in ("seed", "image", "rest"))
        parts, source = Components(seed, image, rest, known[0].num_images), "by the spread of the runs that are there"
    design = Design(parts, num_arms, has_baseline)
    shown = f"{num_arms} arms with {num_seeds} seeds would show {100 * design.smallest_shown(num_seeds):.1f} points"
    return f"{shown} of test accuracy, in four studies of five; seeds needed for {_needs(design)}; {source}"


def could_have_shown(pair: Pair, num_arms: int, *, has_baseline: bool) -> str:
    """The smallest difference that the seeds of a pair would show, and the seeds that smaller ones need."""
    if pair.estimate is None:
        return ""
    design = Design(pair.estimate.components, num_arms, has_baseline, pair.is_paired)
    shown = f"{100 * design.smallest_shown(min(pair.num_seeds)):.1f} points"
    return f"this study could have shown {shown}; seeds needed for {_needs(design)}"


def _needs(design: Design) -> str:
    texts = []
    for size in SMALLER:
        num = design.seeds_needed(size)
        limit = "no number of seeds is enough, the test images are the limit"
        texts.append(f"{100 * size:g} points: {limit if num is None else num}")
    return ", ".join(texts)


def against(pairs: Sequence[Pair], leader: str) -> dict[str, str]:
    """By arm, what it is against the leader."""
    turned = {BETTER: WORSE, WORSE: BETTER}
    found = {pair.b: turned.get(pair.text, pair.text) for pair in pairs if pair.a == leader}
    return found | {pair.a: pair.text for pair in pairs if pair.b == leader}

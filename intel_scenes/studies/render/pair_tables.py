"""Tables of pairs of arms: the matrix of all pairs, pairs by factor, single runs, differences by class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.pairs import Pair, difference_of
from intel_scenes.studies.render.plot import MAX_POINTS
from intel_scenes.studies.render.tables import Rows, p_value, points
from intel_scenes.studies.statistics.crossed import Runs

MAX_MATRIX = 8  # arms
MAX_PAIRS = 1000  # rows in the page; `pairwise.csv` has all


@dataclass(frozen=True)
class PairGroup:
    """Pairs of arms that differ in the same factors.

    Attributes:
        title: Number of pairs, and the factors in which they differ.
        verdicts: Number of pairs with each verdict.
        rows: A header row, then a row per pair; empty if `MAX_PAIRS` is used up.
    """

    title: str
    verdicts: str
    rows: Rows


def matrix(comparison: Comparison) -> Rows:
    """Return the matrix of up to `MAX_MATRIX` arms: difference and verdict of the row against the column."""
    labels = [arm.label for arm in comparison.arms]
    both_directions = [*comparison.pairs, *(pair.turned() for pair in comparison.pairs)]
    cells = {(pair.a, pair.b): f"{points(pair.difference)} {pair.text}" for pair in both_directions}
    if not 2 <= len(labels) <= MAX_MATRIX or not any(pair.estimate for pair in comparison.pairs):
        return []
    return [["", *labels], *([row, *(cells.get((row, column), "") for column in labels)] for row in labels)]


def pairs_by_factor(comparison: Comparison) -> list[PairGroup]:
    """Return the pairs of more than `MAX_MATRIX` arms: by factor those that differ in it alone, then the others."""
    tested = [pair for pair in comparison.pairs if pair.estimate]
    if len(comparison.arms) <= MAX_MATRIX or not tested:
        return []
    values = {arm.label: arm.tested.values for arm in comparison.arms}
    groups: dict[str, list[Pair]] = {factor: [] for factor in comparison.compared}
    groups[""] = []
    for pair in tested:
        differing = [key for key in comparison.compared if values[pair.a][key] != values[pair.b][key]]
        groups[differing[0] if len(differing) == 1 else ""].append(pair)
    pair_groups, left = [], MAX_PAIRS
    for factor, pairs in groups.items():
        if not pairs:
            continue
        in_factors = f"{factor} alone" if factor else "more than one factor"
        title = f"{len(pairs):,} pairs of arms that differ in {in_factors}"
        shown = pairs[: max(left, 0)]
        left -= len(shown)
        pair_groups.append(PairGroup(title, _counted(pairs), _pair_rows(shown) if shown else []))
    return pair_groups


def _pair_rows(pairs: Sequence[Pair]) -> Rows:
    rows = [["arm", "against", "difference (points)", "Holm-adjusted CI", "verdict"]]
    for pair in pairs:
        assert pair.estimate is not None
        low, high = pair.holm_interval() or pair.estimate.interval()
        rows.append([pair.a, pair.b, points(pair.difference), f"{points(low)} to {points(high)}", pair.text])
    return rows


def _counted(pairs: Sequence[Pair]) -> str:
    counts = Counter(pair.text or "not tested" for pair in pairs)
    return ", ".join(f"{count:,} {text}" for text, count in sorted(counts.items(), key=lambda item: -item[1]))


def single_rows(comparison: Comparison) -> Rows:
    """Return each arm with a single run against the arm with a single run that is best on validation."""
    if not comparison.single_runs:
        return []
    best = comparison.single_runs[0].b
    rows = [["arm", "only this arm correct", f"only {best} correct", "p (McNemar)"]]
    return [
        *rows,
        *([pair.a, str(pair.only_a), str(pair.only_b), p_value(pair.p_value)] for pair in comparison.single_runs),
    ]


def class_differences(comparison: Comparison) -> Rows:
    """Return, by class, the differences in test accuracy from the reference with unadjusted 95 % intervals.

    The runner-up on validation comes first. The intervals are over seeds and the images of the class, and seeds are
    paired as they are in the comparison of the two arms.
    """
    arms = [arm for arm in comparable(comparison.arms) if len(arm.tested.evaluated) > 1]
    reference = next((arm for arm in arms if arm.label == comparison.reference), None)
    others = [arm for arm in arms if arm is not reference][:MAX_POINTS]
    if reference is None or not others:
        return []
    columns = [np.flatnonzero(comparison.images.labels == label) for label in range(len(comparison.images.classes))]
    groups = np.arange(len(comparison.images.labels)) if comparison.images.groups is None else comparison.images.groups
    rows = [["arm", *comparison.images.classes]]
    return rows + [
        [arm.label, *(_difference(arm, reference, of_class, groups) for of_class in columns)] for arm in others
    ]


def _difference(arm: Arm, reference: Arm, columns: npt.NDArray[np.intp], groups: npt.NDArray[np.intp]) -> str:
    """Return the difference on the images of these columns; a dash if there are fewer than two groups of them."""
    if len(np.unique(groups[columns])) < 2:
        return "-"
    tables = [side.tested.table[:, columns] for side in (arm, reference)]
    runs, rows = Runs.stacked(tables, groups=groups[columns])
    difference = difference_of(runs, arm.tested, reference.tested, *rows)
    assert difference is not None, "each arm has two seeds"
    low, high = difference.interval()
    return f"{points(difference.value)} ({points(low)} to {points(high)})"

"""Tables of pairs of arms: all pairs by factor, single runs, differences by class."""

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

MAX_MATRIX = 8
MAX_PAIRS = 1000  # in the page; `pairwise.csv` has all


@dataclass(frozen=True)
class Group:
    """Pairs of arms that differ in the same factors.

    Attributes:
        title: What they have in common, and how many there are.
        verdicts: How many pairs have each verdict.
        rows: A row for each pair under a row of names.
    """

    title: str
    verdicts: str
    rows: Rows


def matrix(found: Comparison) -> Rows:
    """Each of a few arms against each: difference and verdict of the row against the column."""
    labels = [arm.label for arm in found.arms]
    both = [*found.pairs, *(pair.turned() for pair in found.pairs)]
    cells = {(pair.a, pair.b): f"{points(pair.difference)} {pair.text}" for pair in both}
    if not 2 <= len(labels) <= MAX_MATRIX or not any(pair.estimate for pair in found.pairs):
        return []
    return [["", *labels], *([row, *(cells.get((row, column), "") for column in labels)] for row in labels)]


def pairs_by_factor(found: Comparison) -> list[Group]:
    """The pairs of many arms: for each factor those that differ in it alone, then the others."""
    tested = [pair for pair in found.pairs if pair.estimate]
    if len(found.arms) <= MAX_MATRIX or not tested:
        return []
    values = {arm.label: arm.tested.values for arm in found.arms}
    groups: dict[str, list[Pair]] = {factor: [] for factor in found.compared}
    groups[""] = []
    for pair in tested:
        differing = [key for key in found.compared if values[pair.a][key] != values[pair.b][key]]
        groups[differing[0] if len(differing) == 1 else ""].append(pair)
    made, left = [], MAX_PAIRS
    for factor, pairs in groups.items():
        if not pairs:
            continue
        what = f"differ in {factor} alone" if factor else "differ in more than one factor"
        title = f"{len(pairs):,} pairs of arms that {what}"
        shown = pairs[: max(left, 0)]
        left -= len(shown)
        made.append(Group(title, _counted(pairs), _pair_rows(shown) if shown else []))
    return made


def _pair_rows(pairs: Sequence[Pair]) -> Rows:
    rows = [["arm", "against", "difference (points)", "Holm-adjusted interval", "verdict"]]
    for pair in pairs:
        assert pair.estimate is not None
        low, high = pair.holm_interval() or pair.estimate.interval()
        rows.append([pair.a, pair.b, points(pair.difference), f"{points(low)} to {points(high)}", pair.text])
    return rows


def _counted(pairs: Sequence[Pair]) -> str:
    counts = Counter(pair.text or "not in the family" for pair in pairs)
    return ", ".join(f"{count:,} {text}" for text, count in sorted(counts.items(), key=lambda one: -one[1]))


def single_rows(found: Comparison) -> Rows:
    """Each arm of a single run against the best one on validation that has a single run, too."""
    if not found.single_runs:
        return []
    best = found.single_runs[0].b
    rows = [["arm", "only this arm correct", f"only {best} correct", "p (McNemar)"]]
    return [*rows, *([one.a, str(one.only_a), str(one.only_b), p_value(one.p_value)] for one in found.single_runs)]


def class_differences(found: Comparison) -> Rows:
    """By class, the test accuracy of other arms less that of the reference, with 95 % intervals, each by itself.

    The runner-up on validation comes first. Intervals are over seeds and the images of a class, paired as the pair is.
    """
    told = [arm for arm in comparable(found.arms) if len(arm.tested.evaluated) > 1]
    reference = next((arm for arm in told if arm.label == found.reference), None)
    others = [arm for arm in told if arm is not reference][:MAX_POINTS]
    if reference is None or not others:
        return []
    columns = [np.flatnonzero(found.images.labels == label) for label in range(len(found.images.classes))]
    groups = np.arange(len(found.images.labels)) if found.images.groups is None else found.images.groups
    rows = [["arm", *found.images.classes]]
    return rows + [[arm.label, *(_difference(arm, reference, one, groups) for one in columns)] for arm in others]


def _difference(arm: Arm, reference: Arm, columns: npt.NDArray[np.intp], groups: npt.NDArray[np.intp]) -> str:
    """On these images; a dash where there are fewer than two groups of them."""
    if len(np.unique(groups[columns])) < 2:
        return "-"
    tables = [one.tested.table[:, columns] for one in (arm, reference)]
    runs, rows = Runs.stacked(tables, groups=groups[columns])
    difference = difference_of(runs, arm.tested, reference.tested, *rows)
    assert difference is not None, "each arm has two seeds"
    low, high = difference.interval()
    return f"{points(difference.value)} ({points(low)} to {points(high)})"

"""What each factor of a factorial study does: its levels compared over matched cells, on validation and on test."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.probabilities import Labels
from intel_scenes.studies.align import Classes, TestImages
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.naming import level_order
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.pairs import MAX_ARMS
from intel_scenes.studies.scores import Paths, Reader
from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.effects import Cell, Design, Effects, LevelDifference, analyse
from intel_scenes.studies.statistics.estimates import Table
from intel_scenes.studies.statistics.verdicts import NOT_TUNED


@dataclass(frozen=True)
class FactorEffects:
    """The effects of the factors of a study.

    Attributes:
        by_metric: The primary one on test, such as `test_accuracy`, first; empty where the study is not factorial.
        notices: What is odd.
    """

    by_metric: Mapping[str, Effects]
    notices: tuple[Notice, ...] = ()


def effects_of(
    arms: Sequence[Arm],
    factors: Sequence[str],
    rope: float,
    reader: Reader,
    images: TestImages,
) -> FactorEffects:
    """The effects of the factors that make the arms, where two of them are crossed at least in part.

    Args:
        arms: Of a study; those without two runs that have predictions are left out, and where some were confirmed,
            those that were not.
        factors: Whose values make an arm.
        rope: The largest difference of an accuracy that makes no practical difference, a fraction.
        reader: Of the predictions.
        images: The test images, in the order of the arms' tables.
    """
    told, varying = _crossed(arms, factors)
    if len(varying) < 2 or len({tuple(arm.tested.values[key] for key in varying) for arm in told}) < len(told):
        return FactorEffects({})
    if len(told) > MAX_ARMS:  # of so many cells each two levels of each factor take minutes
        return FactorEffects({}, (Notice(Kind.NO_EFFECTS, (), {"most": MAX_ARMS}),))
    _, cells = cells_of(arms, factors)
    design = Design.of([cell.levels for cell in cells], [cell.seeds for cell in cells])
    if not design.interactions:  # no two levels of one factor are crossed with two of another
        return FactorEffects({})
    found: dict[str, Effects] = {}

    def analysed(metric: str, tables: Sequence[Table], strata: Labels | Classes | None = None) -> None:
        groups = images.groups if metric.startswith("test") else None
        runs = Runs.of(np.concatenate(tables), groups=groups, strata=strata)
        is_loss = metric.endswith("loss_calibrated")
        found[metric] = analyse(design, runs, None if is_loss else rope, lower_is_better=is_loss)

    notices = []
    primary = record.BALANCED if images.is_balanced else record.ACCURACY
    metrics = f"test_{primary}", "test_loss_calibrated", f"val_{primary}", "val_loss_calibrated"
    analysed(metrics[0], [cell.runs for cell in cells], images.strata)
    try:
        _, _, losses = _tables(told, "test", images.paths, reader)
        analysed(metrics[1], losses)
        paths, right, losses = _tables(told, "val", (), reader)
        analysed(metrics[2], right, reader.labels(paths) if images.is_balanced else None)
        analysed(metrics[3], losses)
    except UserError as error:
        left_out = tuple(metric for metric in metrics if metric not in found)
        notices.append(Notice(Kind.EFFECTS_OF_TEST_ALONE, (), {"metrics": left_out, "reason": str(error)}))
    return FactorEffects(_without_unequal(found, told), tuple(notices))


def cells_of(arms: Sequence[Arm], factors: Sequence[str]) -> tuple[list[Arm], list[Cell]]:
    """The arms that effects are about, in the order of the cells' indices, and their cells of the test images.

    Args:
        arms: Of a study.
        factors: Whose values make an arm.
    """
    told, varying = _crossed(arms, factors)
    return told, [
        Cell({key: arm.tested.values[key] for key in varying}, arm.tested.table, _labels(arm)) for arm in told
    ]


def _crossed(arms: Sequence[Arm], factors: Sequence[str]) -> tuple[list[Arm], list[str]]:
    """The arms that effects are about, in the order of their levels, and the factors that vary among them."""
    told = [arm for arm in comparable(arms) if len(arm.tested.evaluated) > 1]
    told.sort(key=lambda arm: [level_order(arm.tested.values[key]) for key in factors])
    return told, [key for key in factors if len({arm.tested.values[key] for arm in told}) > 1]


def _labels(arm: Arm) -> list[Hashable]:
    """The seed of each run, whatever else runs of a seed share: start, split and order of the images, or nothing.

    One label cannot say of three runs that two start alike, and that both are pairs with the third, of another
    architecture. To pair independent runs leaves tests valid, at the price of degrees of freedom; to take for
    independent what shares the effects of its seed does not (`tests.studies.effects_grid`, "taken for unpaired").
    """
    return [run.name if run.summary.seed is None else run.summary.seed for run in arm.tested.evaluated]


def _tables(arms: Sequence[Arm], split: str, paths: Paths, reader: Reader) -> tuple[Paths, list[Table], list[Table]]:
    """Paths of N images, (runs, N) 1 where one is right and the losses, for each arm; all in the same order.

    Raises:
        UserError: They cannot be had of all runs.
    """
    right, losses = [], []
    for arm in arms:
        paths, *tables = reader.tables(arm.tested.evaluated, split, paths)
        right.append(tables[0])
        losses.append(tables[1])
    return paths, right, losses


def _without_unequal(found: Mapping[str, Effects], arms: Sequence[Arm]) -> dict[str, Effects]:
    """Without verdicts where an arm of the matched cells was not tuned as the others were."""
    unequal = {place for place, arm in enumerate(arms) if arm.is_unequal}

    def judged(one: LevelDifference) -> LevelDifference:
        is_fair = not any(place in unequal for pair in one.matched for place in pair)
        return one if is_fair else replace(one, verdict=NOT_TUNED)

    return {
        metric: replace(one, main=[judged(row) for row in one.main], simple=[judged(row) for row in one.simple])
        for metric, one in found.items()
    }

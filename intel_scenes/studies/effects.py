"""Effects of the factors of a factorial study, on the validation and the test set."""

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
from intel_scenes.studies.statistics.effects import Cell, Effects, FactorialDesign, LevelDifference, analyse
from intel_scenes.studies.statistics.estimates import Table
from intel_scenes.studies.statistics.verdicts import NOT_TUNED


@dataclass(frozen=True)
class FactorEffects:
    """Effects of the factors of a study.

    Attributes:
        by_metric: Effects by metric, the primary metric on test first; empty where the study is not factorial.
        notices: Notices for the reader.
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
    """Estimate the effects of the factors that define the arms, where two of them are crossed at least in part.

    Args:
        arms: Arms of a study. Arms without two runs that have predictions are left out, and so are unconfirmed ones
            where some were confirmed.
        factors: Factors that define an arm.
        rope: Region of practical equivalence of an accuracy, a fraction.
        reader: Reader of the predictions.
        images: The test images, in the order of the arms' tables.
    """
    analysed, varying = _crossed(arms, factors)
    if len(varying) < 2 or len({tuple(arm.tested.values[key] for key in varying) for arm in analysed}) < len(analysed):
        return FactorEffects({})
    if len(analysed) > MAX_ARMS:  # with so many cells, all pairs of levels take minutes
        return FactorEffects({}, (Notice(Kind.NO_EFFECTS, (), {"most": MAX_ARMS}),))
    _, cells = cells_of(arms, factors)
    design = FactorialDesign.of([cell.levels for cell in cells], [cell.seeds for cell in cells])
    if not design.interactions:  # no two levels of one factor are crossed with two of another
        return FactorEffects({})
    by_metric: dict[str, Effects] = {}

    def add(metric: str, tables: Sequence[Table], strata: Labels | Classes | None = None) -> None:
        groups = images.groups if metric.startswith("test") else None
        runs = Runs.of(np.concatenate(tables), groups=groups, strata=strata)
        is_loss = metric.endswith("loss_calibrated")
        by_metric[metric] = analyse(design, runs, None if is_loss else rope, lower_is_better=is_loss)

    notices = []
    primary = record.BALANCED if images.is_balanced else record.ACCURACY
    metrics = f"test_{primary}", "test_loss_calibrated", f"val_{primary}", "val_loss_calibrated"
    add(metrics[0], [cell.runs for cell in cells], images.strata)
    try:
        _, _, losses = _tables(analysed, "test", images.paths, reader)
        add(metrics[1], losses)
        paths, correct, losses = _tables(analysed, "val", (), reader)
        add(metrics[2], correct, reader.labels(paths) if images.is_balanced else None)
        add(metrics[3], losses)
    except UserError as error:
        left_out = tuple(metric for metric in metrics if metric not in by_metric)
        notices.append(Notice(Kind.EFFECTS_OF_TEST_ALONE, (), {"metrics": left_out, "reason": str(error)}))
    return FactorEffects(_without_unequal(by_metric, analysed), tuple(notices))


def cells_of(arms: Sequence[Arm], factors: Sequence[str]) -> tuple[list[Arm], list[Cell]]:
    """Return the arms whose effects are estimated, in the order of the cells' indices, and their cells on test.

    Args:
        arms: Arms of a study.
        factors: Factors that define an arm.
    """
    analysed, varying = _crossed(arms, factors)
    return analysed, [
        Cell({key: arm.tested.values[key] for key in varying}, arm.tested.table, _seed_labels(arm)) for arm in analysed
    ]


def _crossed(arms: Sequence[Arm], factors: Sequence[str]) -> tuple[list[Arm], list[str]]:
    """Return the arms whose effects are estimated, in the order of their levels, and the factors that vary."""
    analysed = [arm for arm in comparable(arms) if len(arm.tested.evaluated) > 1]
    analysed.sort(key=lambda arm: [level_order(arm.tested.values[key]) for key in factors])
    return analysed, [key for key in factors if len({arm.tested.values[key] for arm in analysed}) > 1]


def _seed_labels(arm: Arm) -> list[Hashable]:
    """Return the seed of each run, whether or not runs of equal seeds share initial weights, split and image order.

    One label cannot express that two of three runs have equal initial weights and that both are paired with the third,
    of another architecture. Pairing independent runs keeps tests valid and costs degrees of freedom; treating runs that
    share seed effects as independent does not (`tests.studies.effects_grid`, "taken for unpaired").
    """
    return [run.name if run.summary.seed is None else run.summary.seed for run in arm.tested.evaluated]


def _tables(arms: Sequence[Arm], split: str, paths: Paths, reader: Reader) -> tuple[Paths, list[Table], list[Table]]:
    """Return the paths of N images, and for each arm (runs, N) 1 where correct and the losses, in that order.

    Raises:
        UserError: A run has no such predictions.
    """
    correct, losses = [], []
    for arm in arms:
        paths, *tables = reader.tables(arm.tested.evaluated, split, paths)
        correct.append(tables[0])
        losses.append(tables[1])
    return paths, correct, losses


def _without_unequal(by_metric: Mapping[str, Effects], arms: Sequence[Arm]) -> dict[str, Effects]:
    """Replace the verdicts on matched cells with an arm whose tuning is not comparable."""
    unequal = {index for index, arm in enumerate(arms) if arm.is_unequal}

    def judged(difference: LevelDifference) -> LevelDifference:
        is_comparable = not any(index in unequal for pair in difference.matched for index in pair)
        return difference if is_comparable else replace(difference, verdict=NOT_TUNED)

    return {
        metric: replace(
            effects, main=[judged(row) for row in effects.main], simple=[judged(row) for row in effects.simple]
        )
        for metric, effects in by_metric.items()
    }

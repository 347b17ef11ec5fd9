"""Tables of what each factor of a factorial study does."""

from dataclasses import dataclass

from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.effects import cells_of
from intel_scenes.studies.naming import few
from intel_scenes.studies.render.factor_figures import by_level
from intel_scenes.studies.render.tables import Rows, degrees, p_value
from intel_scenes.studies.statistics.effects import Effects, LevelDifference

MAX_SIMPLE = 300  # in the page; `effects.csv` has all
NAMES = {
    "test_accuracy": "test accuracy (points)",
    "test_balanced_accuracy": "balanced test accuracy (points)",
    "test_loss_calibrated": "calibrated test loss (less is better)",
    "val_accuracy": "validation accuracy (points)",
    "val_balanced_accuracy": "balanced validation accuracy (points)",
    "val_loss_calibrated": "calibrated validation loss (less is better)",
}


@dataclass(frozen=True)
class OfMetric:
    """The tables of a metric, each under a row of names; empty where there is nothing to show.

    Attributes:
        name: Of the metric, with its unit.
        means: Marginal means.
        main: Level differences.
        simple: Those within a level of a factor that it interacts with; all of them where no interaction is shown; of
            very many the first.
        interactions: Their tests.
        is_interacting: An interaction is shown.
    """

    name: str
    means: Rows
    main: Rows
    simple: Rows
    interactions: Rows
    is_interacting: bool


def factor_tables(found: Comparison) -> list[OfMetric]:
    """Of each metric, the primary one first."""
    return [_of_metric(metric, one) for metric, one in found.effects.items()]


def _of_metric(metric: str, found: Effects) -> OfMetric:
    is_loss = "loss" in metric
    shown = [frozenset(one.factors) for one in found.interactions if one.is_shown]
    partners: dict[str, list[str]] = {}
    for one in found.interactions:
        if one.is_shown:
            for factor, other in (one.factors, one.factors[::-1]):
                partners.setdefault(factor, []).append(other)
    names = ["contrast", "difference", "verdict", "95 % interval", "p (Holm)"]
    main = [
        [
            *_row(one, is_loss=is_loss),
            f"depends on {' and '.join(partners[one.factor])}" if one.factor in partners else "",
        ]
        for one in found.main
    ]
    depending = [
        one for one in found.simple if not shown or frozenset((one.factor, one.within.partition("=")[0])) in shown
    ]
    simple = [
        [f"{name} within {one.within}", *row]
        for one in depending[:MAX_SIMPLE]
        for name, *row in [_row(one, is_loss=is_loss)]
    ]
    means = [
        [
            *(
                one.factor,
                one.level,
                *(f"{one:.4f}" if is_loss else f"{100 * one:.2f}" for one in (one.mean, one.low, one.high)),
            ),
            str(len(one.cells)),
        ]
        for factor in dict.fromkeys(one.factor for one in found.means)
        for one in by_level([one for one in found.means if one.factor == factor])
    ]
    interactions = [
        [
            " \N{MULTIPLICATION SIGN} ".join(one.factors),
            "interaction" if one.is_shown else "no interaction shown",
            p_value(one.p_holm),
            f"{one.statistic:.2f}",
            degrees(one),
        ]
        for one in found.interactions
    ]
    return OfMetric(
        name=NAMES[metric],
        means=_under(["factor", "level", "mean", "low", "high", "arms"], means),
        main=_under([*names, ""] if shown else names, main if shown else [row[:-1] for row in main]),
        simple=_under(names, simple),
        interactions=_under(["factors", "result", "p (Holm)", "F", "degrees of freedom"], interactions),
        is_interacting=bool(shown),
    )


def _row(one: LevelDifference, *, is_loss: bool) -> list[str]:
    form, factor = ("+.4f", 1) if is_loss else ("+.2f", 100)
    value, low, high = (format(factor * number, form) for number in (one.difference, one.low, one.high))
    contrast = f"{one.factor}: {one.level} \N{MINUS SIGN} {one.against}"
    return [contrast, value, one.verdict, f"{low} to {high}", p_value(one.p_holm)]


def _under(names: list[str], rows: Rows) -> Rows:
    return [names, *rows] if rows else []


def matched_notes(found: Comparison) -> list[str]:
    """For each factor whose levels do not occur in all arms alike: over which cells its levels are averaged."""
    if found.primary not in found.effects:
        return []
    means, notes = found.effects[found.primary].means, []
    arms, cells = cells_of(found.arms, list(dict.fromkeys(one.factor for one in means)))
    for factor in dict.fromkeys(one.factor for one in means):
        of_factor = [one for one in means if one.factor == factor]
        if sum(len(one.cells) for one in of_factor) == len(arms) - len(found.effects[found.primary].left_out):
            continue
        if not of_factor[0].is_matched:
            notes.append(
                f"{factor}: no combination of the other factors has all levels, so each mean is over all arms of its "
                "level and the means do not compare; the differences are over the cells that both levels have."
            )
            continue
        combinations = [
            "/".join(level for key, level in cells[index].levels.items() if key != factor)
            for index in of_factor[0].cells
        ]
        notes.append(
            f"{factor}: means over the {len(combinations)} matched cells that have all of its levels: "
            f"{few(combinations, 12)}."
        )
    return notes


def shares(found: Comparison) -> list[tuple[str, float, str]]:
    """Source, share and percent of the variance of the arms' test accuracies, the largest first."""
    known = found.effects[found.primary].shares if found.primary in found.effects else []
    ordered = sorted(known, key=lambda one: -one.fraction)
    return [(one.source, one.fraction, f"{100 * one.fraction:.0f}") for one in ordered]

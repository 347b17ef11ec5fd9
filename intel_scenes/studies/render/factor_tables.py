"""Tables of the effects of the factors of a factorial study."""

from dataclasses import dataclass

from intel_scenes.errors import few
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.effects import cells_of
from intel_scenes.studies.naming import label_of
from intel_scenes.studies.render.factor_figures import by_level
from intel_scenes.studies.render.tables import Rows, degrees, p_value
from intel_scenes.studies.statistics.effects import Effects, LevelDifference

MAX_SIMPLE = 300  # rows in the page; `effects.csv` has all
NAMES = {
    "test_accuracy": "test accuracy (points)",
    "test_balanced_accuracy": "balanced test accuracy (points)",
    "test_loss_calibrated": "calibrated test loss (lower is better)",
    "val_accuracy": "validation accuracy (points)",
    "val_balanced_accuracy": "balanced validation accuracy (points)",
    "val_loss_calibrated": "calibrated validation loss (lower is better)",
}


@dataclass(frozen=True)
class MetricTables:
    """Tables of the effects on one metric, each with a header row; an empty table has no rows at all.

    Attributes:
        name: Name of the metric, with its unit.
        means: Marginal means.
        main: Main effects: differences between levels.
        simple: Simple effects: differences within one level of a factor that interacts with theirs, or within any level
            if there is no significant interaction; at most `MAX_SIMPLE`.
        interactions: Tests of the interactions.
        has_interaction: Whether an interaction is significant.
    """

    name: str
    means: Rows
    main: Rows
    simple: Rows
    interactions: Rows
    has_interaction: bool


def factor_tables(comparison: Comparison) -> list[MetricTables]:
    """Return the tables of each metric, the primary one first."""
    return [_metric_tables(metric, of_metric) for metric, of_metric in comparison.effects.items()]


def _metric_tables(metric: str, effects: Effects) -> MetricTables:
    is_loss = "loss" in metric
    shown = [frozenset(interaction.factors) for interaction in effects.interactions if interaction.is_shown]
    partners: dict[str, list[str]] = {}
    for interaction in effects.interactions:
        if interaction.is_shown:
            for factor, other in (interaction.factors, interaction.factors[::-1]):
                partners.setdefault(factor, []).append(other)
    names = ["contrast", "difference", "verdict", "95 % CI", "p (Holm)"]
    main = [
        [
            *_row(effect, is_loss=is_loss),
            f"depends on {' and '.join(partners[effect.factor])}" if effect.factor in partners else "",
        ]
        for effect in effects.main
    ]
    depending = [
        effect
        for effect in effects.simple
        if not shown or frozenset((effect.factor, effect.within.partition("=")[0])) in shown
    ]
    simple = [
        [f"{name} within {effect.within}", *row]
        for effect in depending[:MAX_SIMPLE]
        for name, *row in [_row(effect, is_loss=is_loss)]
    ]
    means = [
        [
            *(
                mean.factor,
                mean.level,
                *(f"{value:.4f}" if is_loss else f"{100 * value:.2f}" for value in (mean.mean, mean.low, mean.high)),
            ),
            str(len(mean.cells)),
        ]
        for factor in dict.fromkeys(mean.factor for mean in effects.means)
        for mean in by_level([mean for mean in effects.means if mean.factor == factor])
    ]
    interactions = [
        [
            " \N{MULTIPLICATION SIGN} ".join(interaction.factors),
            "interaction" if interaction.is_shown else "no interaction shown",
            p_value(interaction.p_holm),
            f"{interaction.statistic:.2f}",
            degrees(interaction),
        ]
        for interaction in effects.interactions
    ]
    return MetricTables(
        name=NAMES[metric],
        means=_under(["factor", "level", "mean", "low", "high", "arms"], means),
        main=_under([*names, "interaction"] if shown else names, main if shown else [row[:-1] for row in main]),
        simple=_under(names, simple),
        interactions=_under(["factors", "result", "p (Holm)", "F", "degrees of freedom"], interactions),
        has_interaction=bool(shown),
    )


def _row(effect: LevelDifference, *, is_loss: bool) -> list[str]:
    form, factor = ("+.4f", 1) if is_loss else ("+.2f", 100)
    value, low, high = (format(factor * number, form) for number in (effect.difference, effect.low, effect.high))
    contrast = f"{effect.factor}: {effect.level} \N{MINUS SIGN} {effect.against}"
    return [contrast, value, effect.verdict, f"{low} to {high}", p_value(effect.p_holm)]


def _under(names: list[str], rows: Rows) -> Rows:
    return [names, *rows] if rows else []


def matched_notes(comparison: Comparison) -> list[str]:
    """Return, for each factor whose levels do not occur in all combinations, which cells its means are taken over."""
    if comparison.primary not in comparison.effects:
        return []
    means, notes = comparison.effects[comparison.primary].means, []
    arms, cells = cells_of(comparison.arms, list(dict.fromkeys(mean.factor for mean in means)))
    for factor in dict.fromkeys(mean.factor for mean in means):
        of_factor = [mean for mean in means if mean.factor == factor]
        if sum(len(one.cells) for one in of_factor) == len(arms) - len(comparison.effects[comparison.primary].left_out):
            continue
        if not of_factor[0].is_matched:
            notes.append(
                f"{factor}: no combination of the other factors was run at all of its levels, so each mean is over all "
                "arms of its level and the means cannot be compared; each difference is over the cells that both "
                "levels have."
            )
            continue
        combinations = [
            label_of(cells[index].levels, [key for key in cells[index].levels if key != factor])
            for index in of_factor[0].cells
        ]
        cells_that_have = (
            "1 matched cell that has" if len(combinations) == 1 else f"{len(combinations)} matched cells that have"
        )
        notes.append(f"{factor}: means over the {cells_that_have} all of its levels: {few(combinations, 12)}.")
    return notes


def shares(comparison: Comparison) -> list[tuple[str, float, str]]:
    """Return source, share and percent of the variance of the arms' test accuracies, the largest share first."""
    sources = comparison.effects[comparison.primary].shares if comparison.primary in comparison.effects else []
    ordered = sorted(sources, key=lambda share: -share.fraction)
    return [(share.source, share.fraction, f"{100 * share.fraction:.0f}") for share in ordered]

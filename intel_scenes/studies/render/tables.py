"""Tables of a comparison: a header row, then rows of text."""

import statistics
from collections.abc import Callable, Sequence

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import Arm
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.load import Run
from intel_scenes.studies.statistics.effects import Interaction, LevelDifference

Rows = list[list[str]]


def leaderboard(comparison: Comparison) -> Rows:
    """Return the leaderboard: a row per configuration, best validation accuracy first."""
    verdicts = {pair.a: pair.text for pair in comparison.to_reference()}
    arm_of = {id(arm.chosen): arm for arm in comparison.arms}
    has_devices = len({device for configuration in comparison.configurations for device in configuration.devices}) > 1
    has_tta = any(run.has_tta and run.views != 1 for run in comparison.runs)
    balanced = "balanced " * comparison.images.is_balanced
    names = [
        *comparison.factors,
        f"{balanced}val %{' (TTA)' * has_tta}",
        *(f"{balanced}test %", "95 % CI", f"against {reference(comparison)}" if comparison.arms else "", "seeds"),
        *(["trials"] if comparison.tuned else []),
        *("gap", "minutes", "images/s", *(["device"] if has_devices else []), "parameters"),
    ]
    rows = [names]
    for configuration in comparison.configurations:
        arm = arm_of.get(id(configuration))
        tested = arm.tested if arm else configuration
        is_timed = len(tested.devices) == 1
        rows.append(
            [
                *configuration.values.values(),
                _over_seeds(configuration, lambda run: run.val_accuracy, 100),
                f"{100 * tested.test_accuracy:.1f}",
                "" if tested.interval is None else f"{100 * tested.interval[0]:.1f} to {100 * tested.interval[1]:.1f}",
                _verdict(comparison, arm, verdicts.get(arm.label, "") if arm else ""),
                _seeds(configuration, arm),
                *([str(len(arm.tried)) if arm else ""] if comparison.tuned else []),
                number(tested.gap, "+.1f", 100),
                _over_seeds(tested, lambda run: run.summary.fit_seconds, 1 / 60) if is_timed else "",
                number(tested.mean("images_per_second") if is_timed else None, ".0f"),
                *([" / ".join(tested.devices)] if has_devices else []),
                number(tested.mean("parameters"), ",.0f"),
            ]
        )
    return rows


def _verdict(comparison: Comparison, arm: Arm | None, text: str) -> str:
    if arm is None:
        return "-"  # not the chosen configuration of its arm
    if arm.label == comparison.reference:
        return reference(comparison)
    return text or ("not confirmed" if any(other.confirmed for other in comparison.arms) and not arm.confirmed else "")


def _seeds(configuration: Configuration, arm: Arm | None) -> str:
    num_evaluated = len(configuration.evaluated)
    texts = [
        f"{len(configuration.runs)}"
        + (f" ({num_evaluated} with predictions)" if num_evaluated < len(configuration.runs) else "")
    ]
    if configuration.num_failed:
        texts.append(f"({configuration.num_failed} failed)")
    if arm and arm.confirmed:
        texts.append(f"+ {len(arm.confirmed.runs)} fresh")
        if arm.confirmed.num_failed:
            texts.append(f"({arm.confirmed.num_failed} failed)")
    return " ".join(texts)


def reference(comparison: Comparison) -> str:
    """Return what the arms are compared with: the baseline, the leader or another arm."""
    if comparison.baseline:
        return f"baseline {comparison.baseline}"
    return "the leader" if comparison.is_to_leader else comparison.reference


def validation_rows(comparison: Comparison) -> Rows:
    """Return the differences of each arm from the baseline on validation; empty if no baseline was named."""
    if not comparison.on_validation:
        return []
    rows = [
        [
            f"against {comparison.baseline} on validation",
            f"points of {'balanced ' * comparison.images.is_balanced}accuracy",
            "calibrated loss (lower is better)",
        ]
    ]
    for arm in comparison.on_validation:
        (low, high), (least, most) = arm.accuracy.interval(), arm.loss.interval()
        accuracy = f"{points(arm.accuracy.value)} ({points(low)} to {points(high)})"
        label = f"{arm.label} (not tuned equally)" if arm.is_unequal else arm.label
        rows.append([label, accuracy, f"{arm.loss.value:+.3f} ({least:+.3f} to {most:+.3f})"])
    return rows


def effect_rows(comparison: Comparison, metric: str | None = None) -> Rows:
    """Return the main effects as level differences, then the simple effects of each significant interaction."""
    metric = metric or comparison.primary
    effects = comparison.effects.get(metric)
    if effects is None:
        return []
    shown = {
        (a, b)
        for interaction in effects.interactions
        if interaction.is_shown
        for a in interaction.factors
        for b in interaction.factors
    }
    simple = [effect for effect in effects.simple if (effect.factor, effect.within.partition("=")[0]) in shown]
    unit = "points" if "accuracy" in metric else "loss"
    rows = [["factor", "level", "against", "within", f"difference ({unit})", "95 % CI", "p (Holm)", "verdict", "cells"]]
    return rows + [_effect_row(effect, is_loss="loss" in metric) for effect in [*effects.main, *simple]]


def _effect_row(effect: LevelDifference, *, is_loss: bool) -> list[str]:
    low, high = effect.interval()
    shown = [f"{value:+.3f}" if is_loss else points(value, 2) for value in (effect.difference, low, high)]
    interval = f"{shown[1]} to {shown[2]}"
    return [
        *(
            effect.factor,
            effect.level,
            effect.against,
            effect.within,
            shown[0],
            interval,
            p_value(effect.p_holm),
            effect.verdict,
        ),
        str(effect.num_cells),
    ]


def interaction_rows(comparison: Comparison, metric: str | None = None) -> Rows:
    """Return the tests of the two-factor interactions."""
    metric = metric or comparison.primary
    effects = comparison.effects.get(metric)
    if effects is None or not effects.interactions:
        return []
    rows = [["interaction", "F", "df", "p (Holm)", "cells"]]
    return rows + [
        [
            " x ".join(interaction.factors),
            f"{interaction.statistic:.2f}",
            degrees(interaction),
            p_value(interaction.p_holm),
            str(len(interaction.cells)),
        ]
        for interaction in effects.interactions
    ]


def degrees(interaction: Interaction) -> str:
    """Return the degrees of freedom of an F statistic, those of the numerator first."""
    return f"{interaction.df:.1f}, {interaction.df_denominator:.0f}"


def p_value(value: float, name: str = "") -> str:
    """Format a p-value as papers do: `0.012` or `<0.001`, with its name `p = 0.012`."""
    text = "<0.001" if value < 0.001 else f"{value:.3f}"
    return f"{name} = {text}".replace("= <", "< ") if name else text


def points(difference: float, digits: int = 1) -> str:
    """Format a difference in percentage points; what rounds to zero is `+0.0`, never `-0.0`."""
    return f"{round(100 * difference, digits) + 0.0:+.{digits}f}"


def aligned(rows: Rows) -> list[str]:
    """Format rows as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def first(lines: Sequence[str], most: int) -> list[str]:
    """Return the first lines, then how many are left."""
    left = len(lines) - most
    return [*lines[:most], *([f"({left} more: see the report)"] if left > 0 else [])]


def _over_seeds(configuration: Configuration, value: Callable[[Run], float | None], factor: float) -> str:
    values = [factor * measured for run in configuration.runs if (measured := value(run)) is not None]
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def number(value: float | None, form: str, factor: float = 1) -> str:
    """Format a number; empty if it is unknown."""
    return "" if value is None else format(factor * value, form)

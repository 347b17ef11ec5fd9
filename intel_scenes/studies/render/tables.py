"""The tables of a comparison, as rows of text under a row of names."""

import statistics
from collections.abc import Callable, Sequence

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import Arm
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.load import Run
from intel_scenes.studies.statistics.effects import Interaction, LevelDifference

Rows = list[list[str]]


def leaderboard(found: Comparison) -> Rows:
    """A row for each configuration, best validation accuracy first."""
    verdicts = {pair.a: pair.text for pair in found.to_reference()}
    arm_of = {id(arm.chosen): arm for arm in found.arms}
    has_devices = len({device for one in found.configurations for device in one.devices}) > 1
    has_tta = any(run.has_tta and run.views != 1 for run in found.runs)
    balanced = "balanced " * found.images.is_balanced
    names = [
        *found.factors,
        f"{balanced}validation %{' (TTA)' * has_tta}",
        *(f"{balanced}test %", "95 % CI", f"against {reference(found)}" if found.arms else "", "seeds"),
        *(["trials"] if found.tuned else []),
        *("gap", "minutes", "images/s", *(["device"] if has_devices else []), "parameters"),
    ]
    rows = [names]
    for one in found.configurations:
        arm = arm_of.get(id(one))
        tested = arm.tested if arm else one
        is_timed = len(tested.devices) == 1
        rows.append(
            [
                *one.values.values(),
                _over_seeds(one, lambda run: run.val_accuracy, 100),
                f"{100 * tested.test_accuracy:.1f}",
                "" if tested.interval is None else f"{100 * tested.interval[0]:.1f} to {100 * tested.interval[1]:.1f}",
                _verdict(found, arm, verdicts.get(arm.label, "") if arm else ""),
                _seeds(one, arm),
                *([str(len(arm.tried)) if arm else ""] if found.tuned else []),
                number(tested.gap, "+.1f", 100),
                _over_seeds(tested, lambda run: run.summary.fit_seconds, 1 / 60) if is_timed else "",
                number(tested.mean("images_per_second") if is_timed else None, ".0f"),
                *([" / ".join(tested.devices)] if has_devices else []),
                number(tested.mean("parameters"), ",.0f"),
            ]
        )
    return rows


def _verdict(found: Comparison, arm: Arm | None, text: str) -> str:
    if arm is None:
        return "-"  # validation did not choose it
    if arm.label == found.reference:
        return reference(found)
    return text or ("not confirmed" if any(one.confirmed for one in found.arms) and not arm.confirmed else "")


def _seeds(one: Configuration, arm: Arm | None) -> str:
    told = len(one.evaluated)
    texts = [f"{len(one.runs)}" + (f" ({told} with predictions)" if told < len(one.runs) else "")]
    if one.num_failed:
        texts.append(f"({one.num_failed} failed)")
    if arm and arm.confirmed:
        texts.append(f"+ {len(arm.confirmed.runs)} fresh")
        if arm.confirmed.num_failed:
            texts.append(f"({arm.confirmed.num_failed} failed)")
    return " ".join(texts)


def reference(found: Comparison) -> str:
    """What the arms are compared with."""
    if found.baseline:
        return f"baseline {found.baseline}"
    return "the leader" if found.is_to_leader else found.reference


def validation_rows(found: Comparison) -> Rows:
    """What each arm is against the baseline on validation; empty where no baseline was named."""
    if not found.on_validation:
        return []
    rows = [
        [
            f"against {found.baseline} on validation",
            f"points of {'balanced ' * found.images.is_balanced}accuracy",
            "loss, calibrated",
        ]
    ]
    for one in found.on_validation:
        (low, high), (least, most) = one.accuracy.interval(), one.loss.interval()
        accuracy = f"{points(one.accuracy.value)} ({points(low)} to {points(high)})"
        label = f"{one.label} (not tuned alike)" if one.is_unequal else one.label
        rows.append([label, accuracy, f"{one.loss.value:+.3f} ({least:+.3f} to {most:+.3f})"])
    return rows


def effect_rows(found: Comparison, metric: str | None = None) -> Rows:
    """The level differences of the main effects, then the simple effects of each interaction that was found."""
    metric = metric or found.primary
    effects = found.effects.get(metric)
    if effects is None:
        return []
    shown = {(a, b) for one in effects.interactions if one.is_shown for a in one.factors for b in one.factors}
    simple = [one for one in effects.simple if (one.factor, one.within.partition("=")[0]) in shown]
    unit = "points" if "accuracy" in metric else "loss"
    rows = [["factor", "level", "against", "within", f"difference ({unit})", "95 % CI", "p (Holm)", "verdict", "cells"]]
    return rows + [_effect_row(one, is_loss="loss" in metric) for one in [*effects.main, *simple]]


def _effect_row(one: LevelDifference, *, is_loss: bool) -> list[str]:
    low, high = one.interval()
    shown = [f"{value:+.3f}" if is_loss else points(value, 2) for value in (one.difference, low, high)]
    interval = f"{shown[1]} to {shown[2]}"
    return [
        *(one.factor, one.level, one.against, one.within, shown[0], interval, p_value(one.p_holm), one.verdict),
        str(one.num_cells),
    ]


def interaction_rows(found: Comparison, metric: str | None = None) -> Rows:
    """The tests of the two-factor interactions."""
    metric = metric or found.primary
    effects = found.effects.get(metric)
    if effects is None or not effects.interactions:
        return []
    rows = [["interaction", "F", "df", "p (Holm)", "cells"]]
    return rows + [
        [" x ".join(one.factors), f"{one.statistic:.2f}", degrees(one), p_value(one.p_holm), str(len(one.cells))]
        for one in effects.interactions
    ]


def degrees(one: Interaction) -> str:
    """Degrees of freedom of an F statistic."""
    return f"{one.df:.1f}, {one.df_denominator:.0f}"


def p_value(value: float, name: str = "") -> str:
    """A p-value as papers have it, such as `0.012`, or with its name `p = 0.012`."""
    text = "<0.001" if value < 0.001 else f"{value:.3f}"
    return f"{name} = {text}".replace("= <", "< ") if name else text


def points(difference: float, digits: int = 1) -> str:
    """A difference in points, `+0.0` for what rounds to nothing."""
    return f"{round(100 * difference, digits) + 0.0:+.{digits}f}"


def aligned(rows: Rows) -> list[str]:
    """Rows as lines with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def first(lines: Sequence[str], most: int) -> list[str]:
    """The first lines, and how many more there are."""
    left = len(lines) - most
    return [*lines[:most], *([f"({left} more such lines: see the report)"] if left > 0 else [])]


def _over_seeds(one: Configuration, value: Callable[[Run], float | None], factor: float) -> str:
    values = [factor * known for run in one.runs if (known := value(run)) is not None]
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def number(value: float | None, form: str, factor: float = 1) -> str:
    """A number in a format; empty where it is unknown."""
    return "" if value is None else format(factor * value, form)

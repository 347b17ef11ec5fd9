"""Figures of the effects of factors, of a tuned number, and of the number of trials."""

import html
import math
import statistics
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.effects import cells_of
from intel_scenes.studies.render.plot import (
    COLOURS,
    SYMBOLS,
    Figure,
    are_numbers,
    error_bars,
    finish,
    in_order,
    percent,
    rounded,
    spec,
)
from intel_scenes.studies.render.tables import number
from intel_scenes.studies.statistics.effects import Cell, Interaction, MarginalMean, effects


def marginal_figures(comparison: Comparison) -> list[Figure]:
    """Return a figure for each factor: the marginal mean of each level with its interval, all on one scale."""
    means = comparison.effects[comparison.primary].means if comparison.primary in comparison.effects else []
    scale = _scale(means)
    drawn = []
    for place, factor in enumerate(dict.fromkeys(mean.factor for mean in means)):
        of_factor = by_level([mean for mean in means if mean.factor == factor])
        levels = [mean.level for mean in of_factor]
        figure = go.Figure()
        _add_means(figure, of_factor, levels, 0, None)
        finish(figure, 260, html.escape(factor), f"{comparison.on_test} (%)", xaxis_type="category", yaxis_range=scale)
        description = ", ".join(f"{mean.level} {percent(mean.mean, 1)}" for mean in of_factor)
        head = [factor, "test %", "low", "high", "arms"]
        rows = [
            [mean.level, *map(percent, (mean.mean, mean.low, mean.high)), str(len(mean.cells))] for mean in of_factor
        ]
        title = f"{factor}: marginal mean of {comparison.on_test} (%), 95 % interval"
        drawn.append(Figure(f"mean-{place}", title, f"{title}: {description}", spec(figure), [head, *rows]))
    return drawn


def by_level(means: Sequence[MarginalMean]) -> list[MarginalMean]:
    """Return the means of a factor in order: numeric levels by size, named levels by their mean, highest first."""
    ordered = sorted(means, key=lambda mean: -mean.mean)
    levels = in_order(mean.level for mean in ordered)
    return sorted(ordered, key=lambda mean: levels.index(mean.level))


def _scale(means: Sequence[MarginalMean]) -> list[float | None]:
    low, high = min((mean.low for mean in means), default=0.0), max((mean.high for mean in means), default=1.0)
    pad = max(0.05 * (high - low), 0.001)
    return rounded([100 * (low - pad), 100 * (high + pad)])


def _add_means(
    figure: go.Figure, means: Sequence[MarginalMean], levels: Sequence[str], place: int, name: str | None
) -> None:
    """Add means with error bars; points are joined if all levels of their factor are numbers."""
    values = [100 * mean.mean for mean in means]
    ends = [(100 * mean.low, 100 * mean.high) for mean in means]
    figure.add_scatter(
        x=[html.escape(mean.level) for mean in means],
        y=rounded(values),
        error_y=error_bars(values, ends, COLOURS[place]),
        mode="lines+markers" if are_numbers(levels) else "markers",
        line={"color": COLOURS[place]},
        marker={"color": COLOURS[place], "symbol": SYMBOLS[place], "size": 9},
        name=None if name is None else html.escape(name),
        showlegend=name is not None,
        customdata=[f"{low:.2f} to {high:.2f}" for low, high in ends],
        hovertemplate="%{x}: %{y:.2f} % (%{customdata})"
        + (f"<extra>{html.escape(name)}</extra>" if name else "<extra></extra>"),
    )


def interaction_figures(comparison: Comparison) -> list[Figure]:
    """Return a figure for each two factors with the means of their combinations, the smallest p-value first.

    Parallel lines mean no interaction.
    """
    if comparison.primary not in comparison.effects:
        return []
    means = comparison.effects[comparison.primary].means
    factors = list(dict.fromkeys(mean.factor for mean in means))
    order = {
        factor: [mean.level for mean in by_level([mean for mean in means if mean.factor == factor])]
        for factor in factors
    }
    _, cells = cells_of(comparison.arms, factors)
    tests = sorted(comparison.effects[comparison.primary].interactions, key=lambda test: test.p)
    return [_interaction(place, test, cells, order, comparison) for place, test in enumerate(tests)]


def _interaction(
    place: int,
    test: Interaction,
    cells: Sequence[Cell],
    order: Mapping[str, Sequence[str]],
    comparison: Comparison,
) -> Figure:
    """Return the figure of two factors; the one with fewer levels is shown by colour, with at most six levels."""
    levels = dict(zip(test.factors, test.levels, strict=True))
    first, second = sorted(levels, key=lambda factor: -len(levels[factor]))
    ordered = [level for level in order[first] if level in levels[first]]
    all_groups = [level for level in order[second] if level in levels[second]]
    groups = all_groups[: len(COLOURS)]
    figure, numbers = go.Figure(), [[second, first, "test %", "low", "high"]]
    image_groups, strata = comparison.images.groups, comparison.images.strata
    for colour, group in enumerate(groups):
        within = [cells[index] for index in test.cells if cells[index].levels[second] == group]
        means = {
            mean.level: mean
            for mean in effects(within, None, groups=image_groups, strata=strata).means
            if mean.factor == first
        }
        line = [means[level] for level in ordered]
        numbers += [[group, mean.level, *map(percent, (mean.mean, mean.low, mean.high))] for mean in line]
        _add_means(figure, line, ordered, colour, f"{second}={group}")
    _spread(figure, ordered)
    finish(figure, 340, html.escape(first), f"{comparison.on_test} (%)")
    statistic = (
        f"F({test.df:.1f}, {test.df_denominator:.1f}) = {test.statistic:.2f}, Holm-adjusted p = {test.p_holm:.3g}"
    )
    result = "interaction" if test.is_shown else "no interaction shown"
    selection = f" (the best {len(groups)} of {len(all_groups)})" if len(all_groups) > len(groups) else ""
    title = f"{first} by {second}{selection}: mean {comparison.on_test} (%), 95 % interval; {result}"
    return Figure(f"interaction-{place}", title, f"{title}: {statistic}", spec(figure), numbers)


def _spread(figure: go.Figure, levels: Sequence[str]) -> None:
    """Move the groups of one level side by side, so that their error bars do not overlap."""
    num = len(figure.data)
    for place, trace in enumerate(figure.data):
        trace.x = rounded((position + 0.11 * (place - (num - 1) / 2) for position in range(len(levels))), 3)
        trace.hovertemplate = trace.hovertemplate.replace("%{x}: ", "")
    figure.update_xaxes(
        tickvals=list(range(len(levels))),
        ticktext=[html.escape(level) for level in levels],
        range=[-0.5, len(levels) - 0.5],
        zeroline=False,
    )


def response_figures(comparison: Comparison) -> list[Figure]:
    """Return the figure of mean validation accuracy against the single numeric factor; a line per arm if it is tuned.

    The standard errors are over the seeds of each configuration.
    """
    is_tuned = bool(comparison.tuned)
    varying = comparison.tuned if is_tuned else comparison.compared
    if (
        comparison.effects
        or len(varying) != 1
        or not are_numbers(configuration.values[varying[0]] for configuration in comparison.configurations)
    ):
        return []
    factor = varying[0]
    lines = {arm.label: arm.configurations for arm in comparison.arms} if is_tuned else {"": comparison.configurations}
    lines = {
        label: sorted(all_, key=lambda configuration: float(configuration.values[factor]))
        for label, all_ in lines.items()
    }
    if max(map(len, lines.values()), default=0) < 2:
        return []
    figure, numbers = go.Figure(), [["arm", factor, "val %", "standard error", "seeds"]]
    for place, (label, line) in enumerate(list(lines.items())[: len(COLOURS)]):
        errors = [_standard_error(configuration) for configuration in line]
        figure.add_scatter(
            x=[float(configuration.values[factor]) for configuration in line],
            y=rounded(100 * configuration.val_accuracy for configuration in line),
            error_y={"type": "data", "array": rounded((error or 0.0 for error in errors), 3), "color": COLOURS[place]},
            mode="lines+markers",
            line={"color": COLOURS[place]},
            marker={"symbol": SYMBOLS[place], "size": 8},
            name=html.escape(label),
            showlegend=len(lines) > 1,
            hovertemplate=f"{html.escape(label)} %{{x}}: %{{y:.2f}} %<extra></extra>",
        )
        numbers += [
            [
                label,
                configuration.values[factor],
                percent(configuration.val_accuracy),
                number(error, ".2f"),
                str(len(configuration.runs)),
            ]
            for configuration, error in zip(line, errors, strict=True)
        ]
    finish(figure, 320, html.escape(factor), f"{comparison.on_val} (%)")
    _number_axis(
        figure, sorted({float(configuration.values[factor]) for line in lines.values() for configuration in line})
    )
    best = comparison.configurations[0]
    more = f", the first {len(COLOURS)} arms" if len(lines) > len(COLOURS) else ""
    return [
        Figure(
            "response",
            f"Mean {comparison.on_val} (%) by {factor}, ± standard error over seeds{more}",
            f"Highest mean {comparison.on_val}: {percent(best.val_accuracy, 1)} % at {factor}={best.values[factor]}",
            spec(figure),
            numbers,
        )
    ]


def _standard_error(configuration: Configuration) -> float | None:
    """Return the standard error over seeds of the mean validation accuracy, in points; None with one seed."""
    values = [100 * run.val_accuracy for run in configuration.runs]
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _number_axis(figure: go.Figure, values: Sequence[float]) -> None:
    """Use a logarithmic axis for values that span a decade or more; up to eight values are its ticks."""
    is_log = values[0] > 0 and values[-1] >= 10 * values[0]
    if is_log:
        figure.update_xaxes(type="log")
    if len(values) <= 8:
        figure.update_xaxes(tickvals=list(values), ticktext=[f"{value:g}" for value in values])


def trials_figure(comparison: Comparison) -> Figure:
    """Return the figure of the expected best validation accuracy against the number of trials."""
    figure, numbers = go.Figure(), [["arm", "trials", "expected best val %"]]
    for place, arm in enumerate(comparison.arms[: len(COLOURS)]):
        curve = [100 * value for value in arm.best_of]
        figure.add_scatter(
            x=list(range(1, len(curve) + 1)),
            y=rounded(curve),
            mode="lines+markers",
            line={"color": COLOURS[place]},
            marker={"symbol": SYMBOLS[place]},
            name=html.escape(arm.label),
        )
        numbers += [[arm.label, str(size), f"{value:.2f}"] for size, value in enumerate(curve, start=1)]
    most = max(len(arm.best_of) for arm in comparison.arms)
    finish(figure, 340, "number of trials", f"{comparison.on_val} (%)", hovermode="x unified")
    figure.update_xaxes(dtick=max(1, most // 6))
    return Figure(
        "trials",
        f"Expected best {comparison.on_val} (%) by number of trials",
        f"With all trials, {comparison.arms[0].label} has the highest {comparison.on_val}",
        spec(figure),
        numbers,
    )
